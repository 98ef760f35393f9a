"""Masks and maps as DICOM objects that other systems open: Segmentation (SEG) and Parametric Map, by highdicom.

They name the patient and the study as their source images do, for that is how an archive files them. Nothing else that
mrmyo writes does.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ParametricMapStorage

from mrmyo.dicom import read_dicom
from mrmyo.dicom_codes import code_of, concept, label_of
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_sources import open_binary
from mrmyo.files import replacing
from mrmyo.labels import RIGHT_OFFSET, UNNAMED, is_muscle, label_table
from mrmyo.volume import Volume, in_axis_order_of, same_grid

__all__ = [
    "PADDING", "about", "read_dicom_map", "read_dicom_seg", "save", "source_images", "write_dicom_map",
    "write_dicom_seg",
]

PADDING = -1.0  # of voxels that have no value; a viewer that does not know of padding shows them black
QUANTITIES = {"t2": ("ms", "T2", "T2 in ms, one exponential", (0.0, 100.0)),
              "water_t2": ("ms", "T2 of water", "T2 of water in ms, corrected for stimulated echoes and fat",
                           (0.0, 100.0)),
              "fat_fraction": ("share", "Fat fraction", "Share of fat in the magnetisation", (0.0, 1.0))}
RESEARCH = "research use only"
_COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
           "AccessionNumber", "ReferringPhysicianName")
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS


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
        for keyword in _COPIED:  # highdicom copies these; scanners and anonymisers leave them out
            if keyword not in dataset:
                setattr(dataset, keyword, "")
        if "SpacingBetweenSlices" in dataset:  # by the positions: what the headers say is not always true
            dataset.SpacingBetweenSlices = step_mm
    return found


def write_dicom_seg(labels: Volume, source_folder, path, *, series=None, reviewer: bool = False) -> Path:
    """Write a label map as a DICOM Segmentation with one coded segment per label.

    Parameters
    ----------
    labels : Volume
        Values of `mrmyo.label_table`, on the grid of a series of the study.
    source_folder : path
        The DICOM study that the labels belong to.
    path : path
        Of the file to write.
    series : int, optional
        As for `source_images`.
    reviewer : bool
        Whether a person corrected the mask: its segments are then said to be semi-automatic.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DicomError
        When no series lies where the labels do, or they hold none.
    """
    import highdicom

    images, grid = source_images(source_folder, labels, series=series)
    labels = in_axis_order_of(labels, grid)
    is_muscle(labels.array)  # refuses values that the table does not know
    values = [int(value) for value in np.unique(labels.array) if value]
    if not values:
        raise DicomError("The label map is empty; a segmentation needs a label at least.")
    numbers = np.zeros(256, np.uint8)
    numbers[values] = np.arange(1, len(values) + 1)
    frames = numbers[labels.array.astype(np.uint8)].transpose(2, 1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, which quote values of the headers
        seg = highdicom.seg.Segmentation(
            source_images=images, pixel_array=np.ascontiguousarray(frames),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(number, value, reviewer) for number, value in enumerate(values, start=1)],
            omit_empty_frames=False,  # so that the whole grid comes back
            content_label="THIGH_MUSCLES", content_description=f"Thigh muscles, {RESEARCH}",
            **about(900, "SEG"),
        )
        save(seg, path)
    return Path(path)


def _segment(number, value, reviewer):
    """The description of one segment: its label, codes, and in which thigh it lies."""
    import highdicom
    from pydicom.sr.codedict import codes

    import mrmyo

    kind, single, side = code_of(value)
    table = label_table().set_index("value")
    family = codes.DCM.ArtificialIntelligence
    description = highdicom.seg.SegmentDescription(
        segment_number=number, segment_label=f"{side} {table.name[value]}",
        segmented_property_category=concept("structure"), segmented_property_type=concept(kind),
        algorithm_type="SEMIAUTOMATIC" if reviewer else "AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="mrmyo", version=mrmyo.__version__, family=family),
        tracking_uid=highdicom.UID(), tracking_id=f"{side} {table.name[value]}", display_color=_colour(value),
        anatomic_regions=[concept("thigh")], primary_anatomic_structures=None if single is None else [single],
    )
    description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_plain(concept(side))]
    return description


def _colour(value):
    """The same for a muscle of either side, and as far as may be from those of its neighbours in the table."""
    import colorsys

    import highdicom

    n = value % RIGHT_OFFSET
    red, green, blue = colorsys.hsv_to_rgb(0.618 * n % 1, 0.65, 0.95) if value < UNNAMED["left"] else (0.8,) * 3
    return highdicom.color.CIELabColor.from_rgb(*(round(255 * part) for part in (red, green, blue)))


def _both_thighs():
    """Where the frames of a map lie; without it some readers end, and the standard wants a side."""
    anatomy = pydicom.Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [_plain(concept("thigh"))]
    return anatomy


def _plain(code):
    """A code as an item of a sequence that highdicom does not build."""
    item = pydicom.Dataset()
    for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"):
        setattr(item, keyword, getattr(code, keyword))
    return item


def about(number: int, kind: str) -> dict:
    """What every object of ours says of itself; series and instance are new each time, as DICOM wants them."""
    import highdicom

    import mrmyo

    return {"series_instance_uid": highdicom.UID(), "series_number": number, "sop_instance_uid": highdicom.UID(),
            "instance_number": 1, "manufacturer": "mrmyo", "manufacturer_model_name": f"mrmyo {kind}, {RESEARCH}",
            "software_versions": mrmyo.__version__, "device_serial_number": "none"}


def save(dataset, path) -> None:
    """Write a DICOM object under another name, then rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)


def read_dicom_seg(path) -> Volume:
    """Read a DICOM Segmentation that `write_dicom_seg` wrote (its segments bear the names of our labels).

    Returns
    -------
    Volume
        uint8 label values; slices that the file leaves out between others are empty.

    Raises
    ------
    DicomError
        When the file is no segmentation, or has a segment that the table of labels does not.
    """
    import highdicom

    try:
        seg = highdicom.seg.segread(path)
    except Exception as error:
        raise DicomError(f"{Path(path).name} is no DICOM Segmentation that can be read.") from error
    lookup = np.zeros(len(seg.SegmentSequence) + 1, np.uint8)
    for item in seg.SegmentSequence:
        try:
            lookup[item.SegmentNumber] = label_of(item.SegmentLabel)
        except KeyError:
            raise DicomError(f"Segment {item.SegmentNumber} has a name that is no label of mrmyo; expected one of "
                             "mrmyo.label_table(), such as 'left vastus lateralis'.") from None
    found = seg.get_volume(combine_segments=True)
    return _volume(lookup[found.array], found.affine)


def _volume(array, affine):
    """An array (slice, row, column) with highdicom's LPS affine as a Volume (column, row, slice) in RAS.

    Slices in the order of `mrmyo.read_dicom`: along the normal, columns × rows in LPS.
    """
    affine = np.asarray(affine)[:, [2, 1, 0, 3]]
    array = array.transpose(2, 1, 0)
    if np.linalg.det(affine[:3, :3]) < 0:
        array, affine = array[:, :, ::-1], affine @ _turned(array.shape[2])
    return Volume(np.ascontiguousarray(array), _FLIP @ affine)


def _turned(n):
    """From indices of reversed slices to indices of the slices as they were."""
    turned = np.diag([1.0, 1.0, -1.0, 1.0])
    turned[2, 3] = n - 1
    return turned


def write_dicom_map(volume: Volume, source_folder, path, *, quantity: str = "t2", series=None) -> Path:
    """Write a map as a DICOM Parametric Map in 32-bit floating point.

    Parameters
    ----------
    volume : Volume
        On the grid of a series of the study; NaN where there is no value.
    source_folder, path, series
        As for `write_dicom_seg`.
    quantity : {"t2", "water_t2", "fat_fraction"}
        T2 in ms, or a share.

    Returns
    -------
    pathlib.Path
    """
    import highdicom

    if quantity not in QUANTITIES:
        raise DicomError(f"Found quantity={quantity!r}; expected one of {', '.join(QUANTITIES)}.")
    unit, label, told, window = QUANTITIES[quantity]
    images, grid = source_images(source_folder, volume, series=series)
    array = in_axis_order_of(volume, grid).array.astype(np.float32)
    finite = np.isfinite(array)
    low, high = (float(array[finite].min()), float(array[finite].max())) if finite.any() else (0.0, 1.0)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label=label[:16], lut_explanation=told[:64], unit=concept(unit), value_range=(low, high), slope=1.0,
        intercept=0.0, quantity_definition=concept(quantity))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = highdicom.pm.ParametricMap(
            source_images=images, pixel_array=np.where(finite, array, np.float32(PADDING)).transpose(2, 1, 0).copy(),
            contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
            window_center=(window[0] + window[1]) / 2, window_width=window[1] - window[0],
            content_label="T2_MAP" if quantity != "fat_fraction" else "FAT_FRACTION",
            content_description=f"{label}, {RESEARCH}", **about(901, "map"),
        )
        _in_order(found, grid)
        found.FloatPixelPaddingValue = found.FloatPixelPaddingRangeLimit = PADDING
        found.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_both_thighs()]
        save(found, path)
    return Path(path)


def _in_order(found, grid):
    """Put the frames of a map in the order of the grid's slices; some readers go by the order and not by the places."""
    frames = list(found.PerFrameFunctionalGroupsSequence)
    places = [np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float) for frame in frames]
    order = np.argsort([place @ (_FLIP @ grid.affine)[:3, 2] for place in places])
    pixels = np.frombuffer(found.FloatPixelData, "<f4").reshape(len(frames), -1)[order]
    found.FloatPixelData = np.ascontiguousarray(pixels).tobytes()
    found.PerFrameFunctionalGroupsSequence = [frames[place] for place in order]
    for number, frame in enumerate(found.PerFrameFunctionalGroupsSequence, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = [number]


def read_dicom_map(path) -> Volume:
    """Read a DICOM Parametric Map of one quantity; NaN where it is padded.

    Raises
    ------
    DicomError
        When the file is no parametric map of one volume.
    """
    import highdicom

    try:
        found = highdicom.imread(path)
        if found.SOPClassUID != ParametricMapStorage:
            raise ValueError("another kind of object")
        volume = found.get_volume(apply_real_world_transform=False, dtype=np.float32)
    except Exception as error:
        raise DicomError(f"{Path(path).name} is no DICOM Parametric Map of one volume that can be read.") from error
    array = volume.array.astype(np.float32)
    padding = found.get("FloatPixelPaddingValue")
    return _volume(array if padding is None else np.where(array == np.float32(padding), np.nan, array), volume.affine)
