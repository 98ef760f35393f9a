"""The one table of labels. Left is the patient's left."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from mrmyo.volume import GridError, Volume, by_slice

__all__ = ["FEMUR", "MUSCLES", "carry", "is_muscle", "label_table", "mirror"]

# name, abbreviation, compartment; the order gives the values: left 1–13, right 21–33
MUSCLES = (
    ("vastus lateralis", "VL", "anterior"),
    ("vastus medialis", "VM", "anterior"),
    ("vastus intermedius", "VI", "anterior"),
    ("rectus femoris", "RF", "anterior"),
    ("sartorius", "SAR", "anterior"),
    ("gracilis", "GRA", "medial"),
    ("adductor magnus", "AM", "medial"),
    ("adductor longus", "AL", "medial"),
    ("semimembranosus", "SM", "posterior"),
    ("semitendinosus", "ST", "posterior"),
    ("biceps femoris long head", "BFL", "posterior"),
    ("biceps femoris short head", "BFS", "posterior"),
    ("other muscle", "OTH", "other"),
)
RIGHT_OFFSET = 20
TIE = 1e-3  # a sampled point this near (in voxels) to the border of two voxels belongs to both by halves
UNNAMED = {"left": 40, "right": 41}  # whole-muscle masks that name no muscle
FEMUR = {"left": 51, "right": 52}


@lru_cache(maxsize=1)
def _rows():
    rows = []
    for side, offset in (("left", 0), ("right", RIGHT_OFFSET)):
        rows += [(offset + i, name, short, side, part, True) for i, (name, short, part) in enumerate(MUSCLES, start=1)]
    rows += [(value, "unnamed muscle", "MUS", side, "whole", True) for side, value in UNNAMED.items()]
    rows += [(value, "femur", "FEM", side, "bone", False) for side, value in FEMUR.items()]
    return tuple(rows)


def label_table():
    """All labels: one row each with value, name, abbreviation, side, compartment, is_muscle.

    Returns
    -------
    pandas.DataFrame
    """
    import pandas as pd

    return pd.DataFrame(_rows(), columns=["value", "name", "abbreviation", "side", "compartment", "is_muscle"])


@lru_cache(maxsize=1)
def _muscle_lookup():
    lookup = np.zeros(256, dtype=bool)
    lookup[[row[0] for row in _rows() if row[5]]] = True
    return lookup


def is_muscle(labels) -> np.ndarray:
    """Which voxels of a label array are muscle: never ``labels > 0``, for the femur has a label too.

    Raises
    ------
    ValueError
        When the array holds a value that the table does not.
    """
    labels = np.asarray(labels)
    known = {0, *(row[0] for row in _rows())}
    unknown = sorted(set(np.unique(labels).tolist()) - known)
    if unknown:
        raise ValueError(
            f"Found label values {unknown[:8]} that mrmyo.label_table() does not list; "
            "expected 0 for background and the listed values. Relabel the mask first."
        )
    return _muscle_lookup()[labels.astype(np.uint8)]


def mirror(labels) -> np.ndarray:
    """The same labels with left and right names exchanged (the voxels stay where they are)."""
    is_muscle(labels)  # refuses values that the table does not know
    table = np.arange(256, dtype=np.uint8)
    left = np.arange(1, len(MUSCLES) + 1)
    for a, b in [*zip(left, left + RIGHT_OFFSET, strict=True), tuple(UNNAMED.values()), tuple(FEMUR.values())]:
        table[a], table[b] = b, a
    return table[np.asarray(labels, dtype=np.uint8)]


def carry(labels: Volume, like: Volume, *, transform=None, samples=(3, 3, 3)) -> Volume:
    """Labels on another grid, by position: the one rule for truth, training targets and measurement.

    Each voxel of `like` is sampled at several points within its extent (along the slice axis within the slice
    thickness, not the gap). It is muscle when at least half of it is; it then bears the name of its commonest muscle,
    otherwise of its commonest other label.

    Parameters
    ----------
    labels : Volume
        Values of `label_table`, 3-D.
    like : Volume
        The grid to carry the labels to.
    transform : array, (4, 4) or (n_slices, 4, 4), optional
        From RAS positions in mm in `like` to positions in `labels`, of every slice of `like` where there are several;
        the identity when None.
    samples : tuple of int
        Points per voxel along i, j and k.

    Returns
    -------
    Volume
        uint8 on the grid of `like`; 0 outside the field of view of `labels`.

    Raises
    ------
    GridError
        When the labels are not 3-D.
    ValueError
        When they hold a value that the table does not.
    """
    if labels.array.ndim != 3:
        raise GridError(f"Labels have 3 axes; found shape {labels.array.shape}. Pass the label map, not the image.")
    if np.ndim(transform) == 3:
        return by_slice(lambda grid, one: carry(labels, grid, transform=one, samples=samples), like, transform)
    values = np.union1d(labels.array, [0])
    position = np.searchsorted(values, labels.array).astype(np.uint8)
    muscle = is_muscle(values)
    to_index = np.linalg.inv(labels.affine) @ (np.eye(4) if transform is None else transform) @ like.affine
    grid = np.indices(like.shape, sparse=True, dtype=np.float32)
    extent = np.ones(3)
    thickness = like.meta.get("SliceThickness")
    if thickness:
        extent[like.slice_axis] = min(1.0, float(thickness) / like.spacing_mm[like.slice_axis])
    axes = [((np.arange(n) + 0.5) / n - 0.5) * e for n, e in zip(samples, extent, strict=True)]
    points = list(itertools.product(itertools.product(*axes), _nudges(to_index, axes, like.shape)))
    counts = np.zeros((values.size, *like.shape), np.min_scalar_type(len(points)))
    for offset, nudge in points:
        shift = to_index[:3, :3] @ offset + to_index[:3, 3] + nudge
        found = _nearest(position, [sum(to_index[a, b] * grid[b] for b in range(3)) + shift[a] for a in range(3)])
        for index in range(1, values.size):
            counts[index] += found == index
    counts[0] = len(points) - counts.sum(0)  # background, and whatever lies outside
    is_mostly_muscle = 2 * counts[muscle].sum(0, dtype=int) >= len(points)
    best_muscle = values[muscle][counts[muscle].argmax(0)] if muscle.any() else 0
    best_other = values[~muscle][counts[~muscle].argmax(0)]
    carried = np.where(is_mostly_muscle, best_muscle, best_other)
    return Volume(carried.astype(np.uint8), like.affine, meta=dict(like.meta))


def _nudges(to_index, axes, shape):
    """Steps (in voxels of the labels) to both sides along every axis on which sampled points meet borders of voxels.

    When one grid is a multiple of the other, a point in three lies between two voxels. Rounding would always give it to
    the same side, and move every mask that way.
    """
    steps = []
    for row in to_index[:3]:
        (leading,) = np.nonzero(np.abs(row[:3]) * shape > TIE)
        steps.append((0.0,))
        if leading.size == 1:
            b = leading[0]
            place = row[b] * np.add.outer(np.arange(shape[b]), axes[b]) + row[3]
            if np.mean(np.abs(place - np.floor(place) - 0.5) < TIE) > 0.05:  # not by chance, here and there
                steps[-1] = (-TIE, TIE)
    return list(itertools.product(*steps))


def _nearest(array, coordinates):
    """Values at the nearest voxels; 255 outside."""
    index = [np.rint(c).astype(np.int32) for c in coordinates]
    inside = np.ones(1, bool)
    for i, n in zip(index, array.shape, strict=True):
        inside = inside & (i >= 0) & (i < n)
    index = [np.clip(i, 0, n - 1) for i, n in zip(index, array.shape, strict=True)]
    return np.where(inside, array[tuple(index)], np.uint8(255))
