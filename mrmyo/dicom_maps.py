"""T2 and fat fraction as DICOM Parametric Maps in 32-bit floating point, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ParametricMapStorage

from mrmyo.dicom_codes import concept
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_objects import FLIP, RESEARCH, about, code_item, composing, save, source_images, volume_of
from mrmyo.volume import Volume, in_axis_order_of

__all__ = ["PADDING", "read_dicom_map", "write_dicom_map"]

PADDING = -1.0  # of voxels that have no value; a viewer that does not know of padding shows them black
QUANTITIES = {"t2": ("ms", "T2", "T2 in ms, one exponential", (0.0, 100.0)),
              "water_t2": ("ms", "T2 of water", "T2 of water in ms, corrected for stimulated echoes and fat",
                           (0.0, 100.0)),
              "fat_fraction": ("share", "Fat fraction", "Share of fat in the magnetisation", (0.0, 1.0))}


def write_dicom_map(volume: Volume, source_folder, path, *, quantity: str = "t2", series=None) -> Path:
    """Write a map as a DICOM Parametric Map in 32-bit floating point.

    Parameters
    ----------
    volume : Volume
        On the grid of a series of the study; NaN where there is no value.
    source_folder, path, series
        As for `mrmyo.write_dicom_seg`.
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
    with composing():
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


def _both_thighs():
    """Where the frames of a map lie; without it some readers end, and the standard wants a side."""
    anatomy = pydicom.Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [code_item(concept("thigh"))]
    return anatomy


def _in_order(found, grid):
    """Put the frames of a map in the order of the grid's slices; some readers go by the order and not by the places."""
    frames = list(found.PerFrameFunctionalGroupsSequence)
    places = [np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float) for frame in frames]
    order = np.argsort([place @ (FLIP @ grid.affine)[:3, 2] for place in places])
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
    return volume_of(array if padding is None else np.where(array == np.float32(padding), np.nan, array), volume.affine)
