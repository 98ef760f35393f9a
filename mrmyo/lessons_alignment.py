"""What a mask that lies beside the muscle does to T2: for notebooks and lectures."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.alignment import border_pair
from mrmyo.labels import carry, is_muscle
from mrmyo.volume import Volume

__all__ = ["nudged", "t2_by_shift"]

DIRECTIONS = ("to the right", "forwards", "upwards")


def _moved(labels, like, shift_mm, transform):
    """The labels on another grid, moved there by a shift in RAS mm; never from voxels to voxels of one size, which a
    small shift would not move at all."""
    back = np.eye(4)
    back[:3, 3] = -np.asarray(shift_mm, float)
    return carry(labels, like, transform=(np.eye(4) if transform is None else transform) @ back)


def _mean(t2_ms, labels):
    return float(np.nanmean(t2_ms[is_muscle(labels.array)], dtype=float))


def nudged(image: Volume, t2: Volume, labels: Volume, *, transform=None, right_mm=3.0, anterior_mm=0.0,
           superior_mm=0.0, slice_index=None, ax=None, synthetic=False):
    """The border of all muscle where it belongs and where it comes to lie when the mask is moved, with the mean T2.

    Parameters
    ----------
    image, t2 : Volume
        On one grid: what to show, and T2 in ms.
    labels : Volume
        The mask on the image that it was drawn on.
    transform : array, (4, 4), optional
        Of their alignment, from positions in `image` to positions in `labels`.
    right_mm, anterior_mm, superior_mm : float
        How far to move the mask.
    slice_index, ax, synthetic
        As for `mrmyo.figures.overlay`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    here, there = (_moved(labels, t2, shift, transform) for shift in ((0, 0, 0), (right_mm, anterior_mm, superior_mm)))
    here_ms, there_ms = _mean(t2.array, here), _mean(t2.array, there)
    title = f"T2 {here_ms:.1f} ms, moved {there_ms:.1f} ms"
    index = t2.shape[t2.slice_axis] // 2 if slice_index is None else slice_index
    return border_pair(image, there, here, slice_index=index, ax=ax, title=title, synthetic=synthetic,
                       names=("moved", "in place"))


def t2_by_shift(t2: Volume, labels: Volume, *, transform=None, reach_mm=(-8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8)):
    """Mean T2 of all muscle when the mask is moved along each of the patient's axes.

    Parameters
    ----------
    t2 : Volume
        T2 in ms.
    labels, transform
        As for `nudged`.
    reach_mm : sequence of float

    Returns
    -------
    pandas.DataFrame
        Columns direction, shift_mm, t2_ms and change_ms.
    """
    import pandas as pd

    here = _mean(t2.array, _moved(labels, t2, (0, 0, 0), transform))
    rows = []
    for axis, direction in enumerate(DIRECTIONS):
        for reach in reach_mm:
            t2_ms = _mean(t2.array, _moved(labels, t2, reach * np.eye(3)[axis], transform))
            rows.append({"direction": direction, "shift_mm": reach, "t2_ms": t2_ms, "change_ms": t2_ms - here})
    return pd.DataFrame(rows)
