"""What the border of a mask does to T2: fat and fascia lie just outside muscle."""

from __future__ import annotations

import numpy as np

from mrmyo.labels import is_muscle
from mrmyo.t2 import FITTED, T2Maps
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["t2_by_border"]


def t2_by_border(maps: T2Maps, labels: Volume, *, borders_mm=(-4, -3, -2, -1, 0, 1, 2, 3, 4)):
    """T2 of the whole muscle when the outer border of the mask is moved, in the plane of every slice.

    Parameters
    ----------
    maps : T2Maps
        From `mrmyo.fit_t2` of a Volume.
    labels : Volume
        Values of `mrmyo.label_table`, on the same grid.
    borders_mm : sequence of float
        How far outwards; negative is inwards. Distances are between the centres of voxels, which are a few millimetres
        wide, so that a small step may move the border nowhere.

    Returns
    -------
    pandas.DataFrame
        One row each: ``border_mm``, ``t2_ms`` (mean over the fitted voxels), ``n_voxels``.

    Raises
    ------
    GridError
        When maps and labels do not share a grid.
    """
    import pandas as pd
    from scipy import ndimage

    if maps.affine is None or not same_grid(Volume(maps.t2_ms, maps.affine), labels):
        raise GridError(f"Found labels of shape {labels.shape} and a T2 map of shape {maps.t2_ms.shape}, or at other "
                        "places; expected one grid. Carry the labels over with mrmyo.align first.")
    axis = labels.slice_axis
    in_plane = np.delete(labels.spacing_mm, axis)
    signed = []
    for mask in np.moveaxis(is_muscle(labels.array), axis, 0):
        # an empty slice has no border; one that is all muscle has none either
        outwards = ndimage.distance_transform_edt(~mask, sampling=in_plane) if mask.any() else np.inf * ~mask
        inwards = ndimage.distance_transform_edt(mask, sampling=in_plane) if not mask.all() else np.inf * mask
        signed.append(np.where(mask, -inwards, outwards))
    signed = np.moveaxis(np.stack(signed), 0, axis)
    rows = []
    for border in borders_mm:
        chosen = signed <= border if border > 0 else signed < border
        fitted = chosen & (maps.status == FITTED)
        n = int(fitted.sum())
        rows.append({"border_mm": float(border), "t2_ms": float(maps.t2_ms[fitted].mean(dtype=float)) if n else np.nan,
                     "n_voxels": n})
    return pd.DataFrame(rows)
