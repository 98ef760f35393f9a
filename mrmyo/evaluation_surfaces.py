"""Distances between the surfaces of two masks, in mm, for :mod:`mrmyo.evaluation`.

The surface of a mask is its voxels that touch, by a face (in the plane: by an edge), a voxel outside it; distances run
between their centres. The border of the field of view is no surface, for the muscle goes on behind it. Two masks that
are equal are 0 mm apart, and two parallel faces as far as they lie apart; it is the curvature of a coarse mask, not its
place, that costs part of a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

__all__ = ["SurfaceDistances", "surface", "surface_distances"]


@dataclass(frozen=True)
class SurfaceDistances:
    """From every surface voxel of either mask to the nearest of the other, and the slices that they lie in.

    `mm` are the distances, both ways one after the other; `slices` the index along the last axis of the voxel that
    each starts from.
    """

    mm: np.ndarray
    slices: np.ndarray

    def within(self, chosen) -> np.ndarray:
        """The distances that start in the chosen slices (a boolean for each slice)."""
        return self.mm[np.asarray(chosen, bool)[self.slices]]


def surface(mask) -> np.ndarray:
    """The voxels of a boolean array (2-D or 3-D) that touch one outside the mask by a face.

    What lies beyond the array counts as mask.
    """
    mask = np.asarray(mask, bool)
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def surface_distances(a, b, affine, *, in_plane: bool = False) -> SurfaceDistances:
    """Distances between the surfaces of two masks on one grid.

    Parameters
    ----------
    a, b : array of bool
        3-D; slices along the last axis.
    affine : array, (4, 4)
        Voxel index to mm. It may be oblique, and need not be orthogonal: positions are compared in mm.
    in_plane : bool
        Each slice for itself: outlines within the slice, compared within the slice. Slices that one of the masks lacks
        are left out.

    Returns
    -------
    SurfaceDistances
        Empty where one of the masks has no surface.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    lengths = np.asarray(affine, float)[:3, :3]
    if not in_plane:
        return _both_ways(surface(a), surface(b), lengths)
    found = [SurfaceDistances(np.empty(0), np.empty(0, int))]
    for k in np.flatnonzero(a.any((0, 1)) & b.any((0, 1))):
        one = _both_ways(surface(a[..., k]), surface(b[..., k]), lengths[:, :2])
        found.append(SurfaceDistances(one.mm, np.full(one.mm.size, k)))
    return SurfaceDistances(*(np.concatenate([getattr(part, name) for part in found]) for name in ("mm", "slices")))


def _both_ways(a, b, lengths):
    """`a` and `b` are surfaces; `lengths` turns indices into mm."""
    at = [np.argwhere(edge) for edge in (a, b)]
    if not (at[0].size and at[1].size):
        return SurfaceDistances(np.empty(0), np.empty(0, int))
    places = [index @ lengths.T for index in at]
    trees = [cKDTree(place) for place in places]
    mm = np.concatenate([trees[1].query(places[0])[0], trees[0].query(places[1])[0]])
    return SurfaceDistances(mm, np.concatenate([index[:, -1] for index in at]))
