"""DICOM objects of ours, by highdicom: the images they are made from, what they say of themselves, where they lie.

They name the patient and the study as their source images do, for that is how an archive files them. Nothing else that
mrmyo writes does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from mrmyo.dicom import read_dicom
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_identity import quietly
from mrmyo.dicom_sources import open_binary
from mrmyo.files import replacing
from mrmyo.volume import Volume, in_axis_order_of, same_grid

__all__ = ["FLIP", "RESEARCH", "about", "code_item", "composing", "save", "source_images", "volume_of"]

RESEARCH = "research use only"
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS and back
_COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
           "AccessionNumber", "ReferringPhysicianName")


def source_images(folder, like: Volume, *, series=None) -> tuple[list, Volume]:
    """The images of a study that lie where a volume lies, without their pixels, and their grid.

    Parameters
    ----------
    folder : path
        Of the study, as for `mrmyo.read_dicom`.
    like : Volume
        Its axes may be ordered otherwise.
    series : int, optional
        The number of the series, where several lie there; otherwise the first of the study (Dixon images share a grid).

    Returns
    -------
    list of pydicom.Dataset
        One a slice in the order of the grid (of the first echo), or the one multi-frame object.
    Volume
        The empty grid.

    Raises
    ------
    DicomError
        When no readable series, or no longer the named one, lies there.
    """
    table = read_dicom(folder)
    keys = list(table[table.readable & (table.series == series if series is not None else True)].key)
    for key in keys:
        grid = table.grid(key)
        if same_grid(in_axis_order_of(Volume(np.broadcast_to(0, like.shape), like.affine), grid), grid):
            return _datasets(table, key, float(f"{grid.spacing_mm[2]:.10g}")), grid
    named = "; ".join(f"series {row.series} ({row.role}), {' × '.join(map(str, row.shape))}"
                      for row in table[table.key.isin(keys)].itertuples())
    raise DicomError(f"No series of the study lies where the volume of {' × '.join(map(str, like.shape))} voxels does; "
                     f"found {named}. Give the folder of the study that it was made from.")


def _datasets(table, key, step_mm):
    stack = table._source(table._row(key)).stack
    paths = [echoes[0]["path"] for echoes in stack]
    if any(echoes[0].get("tile") is not None for echoes in stack):
        raise DicomError("The images are tiles of a mosaic, which other objects cannot refer to slice by slice.")
    found = []
    for path in dict.fromkeys(paths):
        file, _ = open_binary(path)
        with file:
            found.append(pydicom.dcmread(file, stop_before_pixels=True))
    for dataset in found:
        _mend(dataset, step_mm)
    return found


def _mend(dataset, step_mm):
    """What highdicom asks of a header and scanners or anonymisers left out, or got wrong; the file stays as it is."""
    for keyword in _COPIED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not re.fullmatch(r"\d{3}[DWMY]", str(dataset.get("PatientAge", "000Y"))):
        del dataset.PatientAge  # "0Y" and the like, which the standard does not know
    if "SpacingBetweenSlices" in dataset:  # by the positions: what the headers say is not always true
        dataset.SpacingBetweenSlices = step_mm
    if "PerFrameFunctionalGroupsSequence" not in dataset and not dataset.get("SliceThickness"):
        dataset.SliceThickness = step_mm
    if not dataset.get("FrameOfReferenceUID"):  # the same for all that we make of this series
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(dataset.SeriesInstanceUID), "frame of reference"])
    with quietly():
        dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"  # whatever it was, of one set or several


@contextmanager
def composing() -> Iterator[None]:
    """While highdicom composes an object: no warnings, which quote values of the headers, and errors of ours.

    Raises
    ------
    DicomError
        When the headers lack what highdicom needs.
    """
    try:
        with quietly():
            yield
    except DicomError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        lacking = getattr(error, "name", None)
        told = f"they have no {lacking}" if lacking else "they are not as the standard has them"
        raise DicomError(f"No DICOM object can be made from these images' headers: {told}. Use files as the scanner "
                         "wrote them; anonymisers may take away too much.") from error


def about(number: int, kind: str) -> dict:
    """What every object of ours says of itself; series and instance are new each time, as DICOM wants them."""
    import highdicom

    from mrmyo import __version__

    return {"series_instance_uid": highdicom.UID(), "series_number": number, "sop_instance_uid": highdicom.UID(),
            "instance_number": 1, "manufacturer": "mrmyo", "manufacturer_model_name": f"mrmyo {kind}, {RESEARCH}",
            "software_versions": __version__, "device_serial_number": "none"}


def save(dataset, path) -> None:
    """Write a DICOM object under another name, then rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)


def code_item(code) -> pydicom.Dataset:
    """A ``CodedConcept`` as an item of a sequence that highdicom does not build."""
    item = pydicom.Dataset()
    for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"):
        setattr(item, keyword, getattr(code, keyword))
    return item


def volume_of(array, affine) -> Volume:
    """An array (slice, row, column) with highdicom's LPS affine as a Volume (column, row, slice) in RAS.

    Slices in the order of `mrmyo.read_dicom`: along the normal, columns × rows in LPS.
    """
    affine = np.asarray(affine)[:, [2, 1, 0, 3]]
    array = array.transpose(2, 1, 0)
    if np.linalg.det(affine[:3, :3]) < 0:
        array, affine = array[:, :, ::-1], affine @ _turned(array.shape[2])
    return Volume(np.ascontiguousarray(array), FLIP @ affine)


def _turned(n):
    """From indices of reversed slices to indices of the slices as they were."""
    turned = np.diag([1.0, 1.0, -1.0, 1.0])
    turned[2, 3] = n - 1
    return turned
