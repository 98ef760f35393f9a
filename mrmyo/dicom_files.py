"""One DICOM file: the facts of its images in plain Python types, and whether they are MR images that can be decoded."""

from __future__ import annotations

import itertools
import math
import struct
from collections import Counter

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from mrmyo.dicom_codecs import LOSSY
from mrmyo.dicom_frames import enhanced_images, mosaic_images, private_value, real_world_facts
from mrmyo.dicom_patients import patient_marks
from mrmyo.dicom_pixels import has_decoder, inflated, pixel_layout
from mrmyo.dicom_roles import DERIVED_FACTS, ROLE_KEYWORDS, TEXT_KEYWORDS
from mrmyo.dicom_sources import open_binary

__all__ = ["FACT_KEYWORDS", "META_KEYWORDS", "object_problems", "object_warnings", "read_headers"]

_CLASSIC_MR, _ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
_LEGACY_MR, _SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.4.4", "1.2.840.10008.5.1.4.1.1.7"
_READ_KINDS = {_CLASSIC_MR, _ENHANCED_MR, _LEGACY_MR}
_DICOMDIR, _NO_IMAGES = "1.2.840.10008.1.3.10", ("1.2.840.10008.5.1.4.1.1.88", "1.2.840.10008.5.1.4.1.1.11")
# facts of a series that carry no identity and travel with its Volume
META_KEYWORDS = tuple(dict.fromkeys((
    "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "ImagingFrequency", "MRAcquisitionType",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "ImageType", "RepetitionTime", "InversionTime", "FlipAngle",
    "EchoTrainLength", "PixelBandwidth", "SliceThickness", "SpacingBetweenSlices", "PatientPosition",
    "InPlanePhaseEncodingDirection", "FrameOfReferenceUID", "SeriesNumber", "Laterality", "ImageLaterality",
    *(key for key in (*ROLE_KEYWORDS, *DERIVED_FACTS) if key not in TEXT_KEYWORDS),
)))
# what the roles may be told from; the texts among them never leave the room
FACT_KEYWORDS = tuple(dict.fromkeys((*META_KEYWORDS, *TEXT_KEYWORDS)))
_PIXELS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
)
_HEADER = tuple(dict.fromkeys((
    *FACT_KEYWORDS, *_PIXELS, "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "InstanceNumber", "AcquisitionNumber", "StackID", "EchoTime", "EchoNumbers", "ImagesInAcquisition",
    "MultipleSpinEcho", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "PhotometricInterpretation",
    "LossyImageCompression", "BurnedInAnnotation", "ConcatenationUID", "InConcatenationNumber",
    "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber",
)))
_NUMBER_VRS = {"DS", "IS", "US", "SS", "FD", "FL", "UL", "SL", "US or SS"}
_TUPLES = {"ImageType", "ScanningSequence", "SequenceVariant", "ScanOptions"}
_VECTORS = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
_NUMBERS = {key for key in _HEADER if tag_for_keyword(key) and dictionary_VR(key) in _NUMBER_VRS}
_CRITICAL = {*_PIXELS, "EchoTime"}
_WANTED = [(int(tag), key, dictionary_VR(key)) for key in _HEADER if (tag := tag_for_keyword(key))]
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "US or SS": "H"}
_REAL_WORLD, _SEALED = 0x00409096, 0x04000500  # RealWorldValueMappingSequence, EncryptedAttributesSequence
_PIXEL_TAGS, _MAX_ELEMENTS = {0x7FE00008, 0x7FE00009, 0x7FE00010}, 20_000
_CMS_OID = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"  # PKCS #7, as in DICOM's secure files (PS3.15, B.1)


def read_headers(path) -> list[dict]:
    """The images of one file, without their pixels; none when it holds no DICOM image.

    Each image is a dict by DICOM keyword of plain Python values (absent where unknown), with its ``path``, ``frame``,
    ``tile``, ``layout`` of pixels, ``slope`` and ``intercept``, a ``problem`` when the file is damaged, and a
    ``warning``. A classic file holds one image, an enhanced one as many as frames, a mosaic as many as slices.

    Raises
    ------
    OSError
        When the file cannot be opened.
    """
    file, size = open_binary(path)
    with file:
        start = file.read(132)
        preamble = start[128:] == b"DICM"
        if start[:1] == b"\x30" and _CMS_OID in start[:64]:
            sealed = "an encrypted file (CMS); decrypt it before reading"
            return [{"path": path, "frame": 0, "tile": None, "problem": sealed}]
        if not preamble and start[:4] not in _BARE_STARTS and not _bare_start(start):
            return []
        try:
            file.seek(0)
            dataset, file, size = _parsed(file, size, preamble)
            images = _images(dataset, file, size)
        except Exception:  # a damaged header can raise almost anything inside the parser
            images = [{"problem": "a file is damaged in its header"}] if preamble else []
    return [{"frame": 0, "tile": None, **image, "path": path} for image in images]


_BARE_STARTS = {b"\x08\x00\x00\x00", b"\x02\x00\x00\x00", b"\x00\x08\x00\x00", b"\x00\x02\x00\x00"}


def _bare_start(start):
    """Whether a file without preamble may begin a dataset: a small element of group 8 or 2, in either byte order."""
    return (start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00") or start[:3] == b"\x00\x08\x00"


def _parsed(file, size, preamble):
    """The elements, unconverted, and the file standing at its pixels."""
    file.seek(0)
    deflated = preamble and DeflatedExplicitVRLittleEndian.encode() in file.read(1024)  # the meta group comes first
    file.seek(0)
    if deflated:
        file = inflated(file)
        size = file.getbuffer().nbytes
        dataset = read_partial(file, stop_when=_until_pixels())
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    else:
        dataset = read_partial(file, stop_when=_until_pixels(), force=not preamble)
    return dataset, file, size


def _until_pixels():
    """A function that tells pydicom where to stop; it refuses what is no header (zeros would parse for minutes)."""
    count = itertools.count()

    def stop(tag, vr, length):
        if tag < 0x00040000 or next(count) > _MAX_ELEMENTS:
            raise ValueError("no header")
        return tag in _PIXEL_TAGS

    return stop


def _images(dataset, file, size):
    elements = dict(dataset.items())
    facts, unreadable = _facts(dataset, elements)
    if _REAL_WORLD in elements:
        facts |= real_world_facts(dataset, plain)
    sealed = _SEALED in elements
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        syntax = ImplicitVRLittleEndian if dataset.original_encoding[1] else ExplicitVRBigEndian
    kind = facts.get("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    facts |= {"kind": kind, "syntax": str(syntax), "patient": patient_marks(dataset)}
    if "Rows" not in facts:
        if kind not in _READ_KINDS:  # reports, presentation states, a DICOMDIR
            return []
        found = "an encrypted file; decrypt it before reading" if sealed else "a file is cut short in its header"
        return [{**facts, "problem": found}]
    layout, problem = pixel_layout(file, size, facts, UID(syntax))
    facts["layout"] = layout
    if unreadable or facts.get("EchoTime", 0) < 0:
        problem = f"a file is damaged in its header: {', '.join(unreadable) or 'EchoTime'} makes no sense"
    if problem:
        facts["problem"] = problem
    if "philips" in facts.get("Manufacturer", "").lower():
        scale = private_value(dataset, "Philips MR Imaging DD 001", 0x2005, 0x0E)
        facts |= {"scale": scale} if isinstance(scale, float) else {}
    if sealed:
        facts["sealed"] = True
    if problem:
        images = [facts]
    elif kind in (_ENHANCED_MR, _LEGACY_MR):
        images = enhanced_images(dataset, facts, plain)
    else:
        images = mosaic_images(dataset, facts) if "MOSAIC" in facts.get("ImageType", ()) else [facts]
    return [_rescaled(image) for image in images]


def _facts(dataset, elements):
    """The wanted values of a header, and the keywords among them that must be numbers and are none.

    pydicom converts an element in some 20 µs, of which a study has 40,000; the plain ones are converted here.
    """
    facts, unreadable = {}, []
    for tag, key, kind in _WANTED:
        element = elements.get(tag)
        if element is None:
            continue
        raw, kind = element.value, element.VR if element.VR not in (None, "UN") else kind
        try:
            if isinstance(raw, bytes) and kind in _BINARY:
                order = "<" if element.is_little_endian else ">"
                value = [number for number, in struct.iter_unpack(order + _BINARY[kind], raw)]
            elif isinstance(raw, bytes):
                value = [part.strip(" \0") for part in raw.decode("ascii").split("\\")]
                value = value if value != [""] else None
            else:
                value = raw
        except (UnicodeDecodeError, struct.error):
            value = dataset.get(key)  # other alphabets
        found = plain(key, value)
        if found is not None:
            facts[key] = found
        if value not in (None, []) and key in _CRITICAL and (found is None or len(value) > 1):
            unreadable.append(key)
    return facts, unreadable


def _rescaled(image):
    """Slope and intercept to the displayed value (PS3.3 C.11.1), under names that the Philips scale may change."""
    slope, intercept = image.get("RescaleSlope", 1), image.get("RescaleIntercept", 0)
    if not 1e-30 < abs(slope) < 1e25 or abs(intercept) > 1e30:  # else values leave the range of float32
        found = f"rescale slope {slope:g} and intercept {intercept:g}; expected a slope not 0 and usual numbers"
        image.setdefault("problem", found)
    return {**image, "slope": slope, "intercept": intercept}


def plain(key, value):
    """A value as Python number, text, or tuple; None where it is absent or makes no sense."""
    many = isinstance(value, MultiValue | list | tuple)
    if value is None or value == "" or (many and len(value) == 0):
        return None
    try:
        if key in _TUPLES:
            return tuple(str(part) for part in (value if many else [value]))
        if key in _VECTORS:
            return tuple(float(part) for part in value) if len(value) == _VECTORS[key] else None
        if key in _NUMBERS or key in ("RealWorldValueSlope", "RealWorldValueIntercept"):
            number = float(value[0] if many else value)
            return None if not math.isfinite(number) else number if number % 1 else int(number)
    except (TypeError, ValueError, OverflowError):
        return None
    return "\\".join(str(part) for part in value) if many else str(value)


def object_problems(images):
    """What keeps the files from being MR images that can be decoded, before any geometry."""
    problems = sorted({image["problem"] for image in images if "problem" in image})
    images = [image for image in images if "Rows" in image]
    modality = Counter(image.get("Modality", "no modality") for image in images)
    if set(modality) - {"MR"}:
        problems.append(f"modality is {', '.join(sorted(modality))}; expected MR")
    kinds = {image["kind"] for image in images}
    captures = [kind for kind in kinds if kind.startswith(_SECONDARY_CAPTURE)]
    if captures:
        problems.append("secondary captures (pictures of images, without geometry); expected the scanner's own images")
    elif "MR" in modality and kinds - _READ_KINDS:
        names = ", ".join(sorted(UID(kind).name if kind else "unknown" for kind in kinds - _READ_KINDS))
        problems.append(f"objects of kind {names}; expected MR Image Storage or Enhanced MR Image Storage")
    frames = max((i.get("NumberOfFrames", 1) for i in images if i["kind"] not in (_ENHANCED_MR, _LEGACY_MR)), default=1)
    if frames > 1 and not captures:
        problems.append(f"multi-frame images ({frames} frames a file) of no enhanced kind; their geometry is unknown")
    colours = {image.get("PhotometricInterpretation", "") for image in images}
    if any(image.get("SamplesPerPixel", 1) != 1 for image in images) or "PALETTE COLOR" in colours:
        problems.append("colour images; expected one grey value a pixel")
    for syntax, bits in sorted({(image["syntax"], image["layout"]["stored"]) for image in images}):
        if not has_decoder(syntax, bits):
            problems.append(f"no decoder for {UID(syntax).name}; export uncompressed or losslessly compressed")
    return problems


def object_warnings(images):
    """What a reader of the images should know of the files they came from."""
    told = sorted({image["warning"] for image in images if "warning" in image})
    types = {token for image in images for token in image.get("ImageType", ())}
    if any(image.get("BurnedInAnnotation", "NO").upper() != "NO" for image in images) or "SCREEN SAVE" in types:
        told.append("text may be burned into the pixels, a patient's name among it")
    if any(image.get("LossyImageCompression") == "01" or image.get("syntax") in LOSSY for image in images):
        told.append("lossy compression has changed the pixel values; T2 from them is not exact")
    if any(image.get("PhotometricInterpretation") == "MONOCHROME1" for image in images):
        told.append("dark pixels hold the high values (MONOCHROME1); values are given as stored")
    return told
