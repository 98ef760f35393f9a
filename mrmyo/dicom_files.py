"""One DICOM file: the facts of its images in plain Python types, whether they can be decoded, and their pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mrmyo.dicom_geometry import DicomError

__all__ = ["META_KEYWORDS", "object_problems", "read_headers", "read_pixels"]

_CLASSIC_MR, _ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
_PLAIN_PIXELS = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
# facts of a series that carry no identity and travel with its Volume
META_KEYWORDS = (
    "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "ImagingFrequency", "MRAcquisitionType",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "ImageType", "RepetitionTime", "InversionTime", "FlipAngle",
    "EchoTrainLength", "PixelBandwidth", "SliceThickness", "SpacingBetweenSlices", "PatientPosition",
    "InPlanePhaseEncodingDirection", "FrameOfReferenceUID", "SeriesNumber",
    "Laterality", "ImageLaterality",
)
_HEADER = (
    *META_KEYWORDS, "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription",
    "Modality", "InstanceNumber", "EchoTime", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
)
_NUMBERS = {
    "MagneticFieldStrength", "ImagingFrequency", "RepetitionTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "PixelBandwidth", "SliceThickness", "SpacingBetweenSlices", "EchoTime", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "BitsAllocated", "SeriesNumber", "InstanceNumber",
}
_TUPLES = {"ImageType", "ScanningSequence", "SequenceVariant", "ScanOptions"}
_VECTORS = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}


def read_headers(path) -> list[dict]:
    """The images of one file, without their pixels; none when it holds no DICOM image.

    Each image is a dict by DICOM keyword of plain Python values (absent where unknown), with its ``path`` and transfer
    ``syntax``, and a ``problem`` when the file is damaged. A classic file holds one image.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(132)
        preamble = start[128:] == b"DICM"
        if not preamble and not (start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00"):
            return []
        file.seek(0)
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER), force=not preamble)
            image = {key: value for key in _HEADER if (value := _plain(key, dataset.get(key))) is not None}
        except Exception:  # a damaged header can raise almost anything inside the parser
            return [{"path": path, "problem": "a file is damaged in its header"}] if preamble else []
        left = size - file.tell()
    syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if "Rows" not in image:
        kind = dataset.file_meta.get("MediaStorageSOPClassUID", image.get("SOPClassUID"))
        if kind not in (_CLASSIC_MR, _ENHANCED_MR):  # reports, presentation states, a DICOMDIR
            return []
        image["problem"] = "a file is cut short in its header"
    elif syntax in _PLAIN_PIXELS:
        sizes = [image.get(key, 1) for key in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
        if left < np.prod(sizes) * image.get("BitsAllocated", 16) / 8:
            image["problem"] = "a file is cut short: it holds fewer pixels than its header announces"
    return [{**image, "path": path, "syntax": str(syntax)}]


def _plain(key, value):
    if value is None or value == "" or (isinstance(value, MultiValue) and len(value) == 0):
        return None
    if key in _TUPLES:
        return tuple(str(part) for part in ([value] if isinstance(value, str) else value))
    if key in _VECTORS:
        return tuple(float(part) for part in value) if len(value) == _VECTORS[key] else None
    if key in _NUMBERS:
        value = value[0] if isinstance(value, MultiValue) else value
        return float(value) if float(value) % 1 else int(value)
    return str(value)


def object_problems(images):
    """What keeps the files from being classic MR images that can be decoded, before any geometry."""
    problems = sorted({image["problem"] for image in images if "problem" in image})
    modality = Counter(image.get("Modality", "no modality") for image in images if "Rows" in image)
    if set(modality) - {"MR"}:
        problems.append(f"modality is {', '.join(sorted(modality))}; expected MR")
    kinds = {image.get("SOPClassUID", "") for image in images if "Rows" in image} - {_CLASSIC_MR}
    frames = max(image.get("NumberOfFrames", 1) for image in images)
    if kinds == {_ENHANCED_MR} or frames > 1:
        problems.append(
            f"enhanced multi-frame images ({frames} frames a file); expected one image a file. Export as classic MR"
        )
    elif "MR" in modality and kinds:
        names = ", ".join(sorted(UID(kind).name for kind in kinds))
        problems.append(f"objects of kind {names or 'unknown'}; expected MR Image Storage")
    if any(image.get("SamplesPerPixel", 1) != 1 for image in images):
        problems.append("colour images; expected one grey value a pixel")
    if any("MOSAIC" in image.get("ImageType", ()) for image in images):
        problems.append("mosaic images (all slices in one picture); expected one slice an image. Export without mosaic")
    for syntax in sorted({image["syntax"] for image in images if "syntax" in image}):
        if not _can_decode(syntax):
            problems.append(
                f"no decoder for {UID(syntax).name}; install pylibjpeg with its plugins or python-gdcm, "
                "or export uncompressed"
            )
    return problems


def _can_decode(syntax):
    try:
        return get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        return False


def read_pixels(path, shape, where) -> np.ndarray:
    """One image with axes (column, row), rescale applied; `where` names it in an error."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        stored = dataset.pixel_array
    except Exception as error:  # decoders raise whatever they like
        kind = type(error).__name__
        raise DicomError(f"The pixels of {where} cannot be decoded ({kind}); export the series again.") from None
    if stored.shape != shape[::-1]:
        raise DicomError(f"The pixels of {where} are shaped {stored.shape}; expected {shape[::-1]} (rows, columns).")
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
    return stored.T if (slope, intercept) == (1, 0) else stored.T * slope + intercept
