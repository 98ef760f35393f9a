"""Writing a Volume as classic single-frame MR images, the way a scanner stores a series."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mrmyo.dicom_geometry import POSITION_TOLERANCE_MM, DicomError
from mrmyo.volume import Volume

__all__ = ["DIXON_IMAGE_TYPES", "write_dicom_series"]

# what the Dixon images of a synthetic scanner are called; `read_dicom` knows them by the last word
DIXON_IMAGE_TYPES = {
    "in_phase": ("ORIGINAL", "PRIMARY", "DIXON", "IN_PHASE"),
    "opposed_phase": ("ORIGINAL", "PRIMARY", "DIXON", "OPP_PHASE"),
    "water": ("DERIVED", "PRIMARY", "DIXON", "WATER"),
    "fat": ("DERIVED", "PRIMARY", "DIXON", "FAT"),
}
_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# the standard wants these present, empty where unknown (type 2), or demands a value (type 1)
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "Laterality", "Manufacturer", "PatientPosition",
    "PositionReferenceIndicator", "SliceThickness", "RepetitionTime", "EchoTime", "EchoTrainLength", "ScanOptions",
)
_DEFAULTS = {"ScanningSequence": "RM", "SequenceVariant": "NONE", "MRAcquisitionType": "2D", "SeriesNumber": 1}


def write_dicom_series(
    volume: Volume,
    folder,
    *,
    study: Mapping,
    series: Mapping,
    image_type: Sequence[str],
    instance_start: int = 1,
    stem: str = "IM",
    slope: float | None = None,
) -> list[Path]:
    """Write one series of MR Image Storage files (Explicit VR Little Endian, uint16), one per slice and echo.

    Array axis 0 becomes the columns, axis 1 the rows, axis 2 the slices. Instances are numbered slice by slice with
    the echoes of a slice together. All files appear at once: they are written beside the folder and renamed.

    Parameters
    ----------
    volume : Volume
        Shaped (column, row, slice) or, with echo times, (column, row, slice, echo); values from 0 to 65535, rounded on
        storing (bring several Dixon images to one scale before). `echo_times_ms` becomes EchoTime and EchoNumbers.
    folder : path
        Must not exist, or be empty.
    study, series : mapping
        DICOM keywords and values; `series` and then the volume's position win over `study`. StudyInstanceUID,
        FrameOfReferenceUID and SeriesInstanceUID are made from the other values, the same each time, where absent.
    image_type : sequence of str
        Three values at least; for Dixon images one of `DIXON_IMAGE_TYPES`.
    slope : float, optional
        When given, value / slope is stored and RescaleSlope says so.

    Returns
    -------
    list of pathlib.Path
        In order of instance number.

    Raises
    ------
    DicomError
        When the folder holds something, the voxels do not fit, a keyword is unknown, or the slices are not
        perpendicular to their step.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DicomError("The folder to write to is not empty; give a new folder for each series.")
    if volume.array.ndim == 4 and volume.echo_times_ms is None:
        raise DicomError(f"Found {volume.array.shape[3]} echoes without echo times; give the volume its echo_times_ms.")
    if len(image_type) < 3:
        raise DicomError(f"Found image type {list(image_type)}; MR images need at least three values.")
    stored = _stored(volume.array, slope)
    template = _template(volume, study, series, image_type, slope)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        partial = Path(partial) / folder.name
        partial.mkdir()
        names = _write_files(partial, template, stored, volume, instance_start, stem)
        os.rename(partial, folder)
    return [folder / name for name in names]


def _write_files(folder, template, stored, volume, instance_start, stem):
    """One file per slice and echo: the template with that image's place, time, number and pixels."""
    *_, first, step = _directions(volume.affine)
    n_slices, n_echoes = stored.shape[2:]
    times = volume.echo_times_ms or (None,) * n_echoes
    names = []
    for k in range(n_slices):
        template.ImagePositionPatient = _decimals(first + k * step)
        template.SliceLocation = _decimals([first @ _unit(step) + k * np.linalg.norm(step)])[0]
        for e in range(n_echoes):
            instance = instance_start + k * n_echoes + e
            template.InstanceNumber = instance
            template.SOPInstanceUID = _uid(template.SeriesInstanceUID, instance)
            template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
            if times[e] is not None:
                template.EchoTime, template.EchoNumbers = _decimals([times[e]])[0], e + 1
            template.PixelData = stored[:, :, k, e].T.tobytes()
            names.append(f"{stem}{instance:05d}.dcm")
            pydicom.dcmwrite(folder / names[-1], template, enforce_file_format=True)
    return names


def _directions(affine):
    """Column step, row step, first position and slice step in LPS mm; refuses what `read_dicom` would."""
    matrix = (_RAS_TO_LPS @ affine)[:3]
    across, down, step, first = matrix.T
    normal = np.cross(_unit(across), _unit(down))
    aside = np.linalg.norm(step - (step @ normal) * normal)
    if abs(_unit(across) @ _unit(down)) > 1e-4 or aside > POSITION_TOLERANCE_MM:
        raise DicomError(
            f"The volume's axes are not perpendicular (slices step {aside:.2f} mm off their normal); readers refuse "
            "DICOM images stacked so. Resample the volume on a straight grid first."
        )
    return across, down, first, step


def _stored(array, slope):
    """uint16 shaped (column, row, slice, echo)."""
    array = np.asarray(array)
    array = array if array.ndim == 4 else array[..., None]
    values = np.rint(array / slope if slope else array)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise DicomError(
            f"Voxels span {array.min()} to {array.max()}; expected finite values that store as 0 to 65535. "
            "Scale or shift them first, or give a slope."
        )
    return values.astype("<u2")


def _template(volume, study, series, image_type, slope):
    """Everything the files of the series share."""
    across, down, *_ = _directions(volume.affine)
    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, None)
    for keyword, value in {**_DEFAULTS, **study, **series}.items():
        if tag_for_keyword(keyword) is None:
            raise DicomError(f"{keyword!r} is no DICOM keyword; expected names such as 'RepetitionTime'.")
        setattr(dataset, keyword, value)
    if "ImageLaterality" in dataset:  # the standard wants one of the two
        del dataset.Laterality
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.Modality = _MR_IMAGE_STORAGE, "MR"
    dataset.ImageType = list(image_type)
    if "StudyInstanceUID" not in dataset:
        dataset.StudyInstanceUID = _uid("study", sorted(study.items(), key=str))
    if "FrameOfReferenceUID" not in dataset:
        dataset.FrameOfReferenceUID = _uid("frame of reference", dataset.StudyInstanceUID)
    if "SeriesInstanceUID" not in dataset:
        items = sorted(series.items(), key=str)
        dataset.SeriesInstanceUID = _uid("series", dataset.StudyInstanceUID, items, list(image_type))
    if volume.echo_times_ms and "EchoTrainLength" not in series:
        dataset.EchoTrainLength = len(volume.echo_times_ms)
    dataset.Columns, dataset.Rows = volume.shape[:2]
    dataset.PixelSpacing = _decimals([np.linalg.norm(down), np.linalg.norm(across)])
    dataset.ImageOrientationPatient = _decimals([*_unit(across), *_unit(down)])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    low, high = np.percentile(volume.array[::4, ::4], [1, 99])
    dataset.WindowCenter, dataset.WindowWidth = _decimals([(low + high) / 2, max(high - low, 1.0)])
    if slope:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, _decimals([slope])[0], "US"
    dataset.add_new("PixelData", "OW", b"")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = _MR_IMAGE_STORAGE
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _decimals(values):
    """Numbers as DICOM decimal strings: at most 16 characters, so about ten digits."""
    return [f"{float(value) + 0.0:.10g}" for value in values]


def _uid(*parts):
    return generate_uid(entropy_srcs=[str(part) for part in parts])
