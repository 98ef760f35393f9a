"""Label maps as DICOM Segmentations that other viewers open, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrmyo.dicom_codes import code_of, concept, label_of
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_objects import RESEARCH, about, code_item, composing, save, source_images, volume_of
from mrmyo.labels import RIGHT_OFFSET, UNNAMED, is_muscle, label_table
from mrmyo.volume import Volume, in_axis_order_of

__all__ = ["read_dicom_seg", "write_dicom_seg"]


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
    with composing():
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

    from mrmyo import __version__

    kind, single, side = code_of(value)
    table = label_table().set_index("value")
    family = codes.DCM.ArtificialIntelligence
    description = highdicom.seg.SegmentDescription(
        segment_number=number, segment_label=f"{side} {table.name[value]}",
        segmented_property_category=concept("structure"), segmented_property_type=concept(kind),
        algorithm_type="SEMIAUTOMATIC" if reviewer else "AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="mrmyo", version=__version__, family=family),
        tracking_uid=highdicom.UID(), tracking_id=f"{side} {table.name[value]}", display_color=_colour(value),
        anatomic_regions=[concept("thigh")], primary_anatomic_structures=None if single is None else [single],
    )
    description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(concept(side))]
    return description


def _colour(value):
    """The same for a muscle of either side, and as far as may be from those of its neighbours in the table."""
    import colorsys

    import highdicom

    n = value % RIGHT_OFFSET
    red, green, blue = colorsys.hsv_to_rgb(0.618 * n % 1, 0.65, 0.95) if value < UNNAMED["left"] else (0.8,) * 3
    return highdicom.color.CIELabColor.from_rgb(*(round(255 * part) for part in (red, green, blue)))


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
    return volume_of(lookup[found.array], found.affine)
