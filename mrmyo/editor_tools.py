"""What the mask editor does to a mask: every tool takes the mask on the screen and gives the slices that it changes.

The mask is shaped (n_slices, n_rows, n_columns), see `mrmyo.journal_screen`; no tool changes it. What a tool gives maps
the number of a slice to its new labels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrmyo.editor_targets import ANY, EditError, Target, name_voxels
from mrmyo.labels import mirror

__all__ = ["copy_slice", "draw", "erase", "fill_holes", "grow", "interpolate", "relabel", "shrink", "swap_sides"]

CROSS = ndimage.generate_binary_structure(2, 1)


def draw(screen, index: int, where, chosen: Target, *, only_empty: bool = False) -> dict:
    """Give voxels of one slice to a target; those that have one of its labels keep it."""
    here = screen[index]
    added = where & ~chosen.within(here)
    if only_empty:
        added &= here == 0
    return _added(screen, index, here, added, chosen)


def erase(screen, index: int, where, chosen: Target) -> dict:
    """Take voxels of one slice from a target."""
    here = screen[index]
    return {index: np.where(where & chosen.within(here), 0, here).astype(np.uint8)}


def grow(screen, index: int, chosen: Target) -> dict:
    """Add the empty voxels that share a side with the target in one slice."""
    here = screen[index]
    wider = ndimage.binary_dilation(chosen.within(here), CROSS)
    return _added(screen, index, here, wider & (here == 0), chosen)


def shrink(screen, index: int, chosen: Target) -> dict:
    """Take away the target's voxels that share a side with any other in one slice."""
    here = screen[index]
    inside = chosen.within(here)
    rim = inside & ~ndimage.binary_erosion(inside, CROSS, border_value=1)
    return {index: np.where(rim, 0, here).astype(np.uint8)}


def fill_holes(screen, index: int, chosen: Target) -> dict:
    """Add the empty voxels that the target encloses in one slice; other labels in there stay."""
    here = screen[index]
    holes = ndimage.binary_fill_holes(chosen.within(here)) & (here == 0)
    return _added(screen, index, here, holes, chosen)


def copy_slice(screen, source: int, index: int, chosen: Target, *, only_empty: bool = False) -> dict:
    """Put the target's voxels of one slice into another, in place of those it had there."""
    there, here = screen[source], screen[index]
    return {index: _replaced(here, np.where(chosen.within(there), there, 0), chosen, only_empty)}


def interpolate(screen, first: int, last: int, chosen: Target, *, only_empty: bool = False) -> dict:
    """Between two slices, the target's shapes that lead from the one to the other, in place of what it had there.

    Each label's signed distance from its border goes over linearly (Herman, Zheng and Bucholtz, IEEE Comput Graph Appl
    1992); where several overlap, the one whose border is furthest away counts.

    Raises
    ------
    EditError
        When there is no slice between them, or the target is in neither.
    """
    first, last = sorted((first, last))
    if last - first < 2:
        raise EditError(f"There is no slice between {first} and {last} to interpolate.")
    ends = [screen[first], screen[last]]
    values = [value for value in chosen.values if any((end == value).any() for end in ends)]
    if not values:
        raise EditError(f"Found no {chosen.name} in slices {first} and {last}; draw it there first.")
    depth = np.array([[_depth(end == value) for value in values] for end in ends])
    changed = {}
    for index in range(first + 1, last):
        share = (index - first) / (last - first)
        between = (1 - share) * depth[0] + share * depth[1]
        shapes = np.where(between.max(axis=0) > 0, np.array(values)[between.argmax(axis=0)], 0)
        changed[index] = _replaced(screen[index], shapes, chosen, only_empty)
    return changed


def relabel(screen, slices, chosen: Target, into: Target, *, around=None) -> dict:
    """Give the voxels of one target another label.

    Parameters
    ----------
    screen : numpy.ndarray
    slices : iterable of int
    chosen, into : Target
        `into` a single label.
    around : (int, int), optional
        Row and column: only the connected part of the target that holds this voxel.
    """
    if into.is_group:
        raise EditError("Choose a single label to change into.")
    changed = {}
    for index in slices:
        here = screen[index]
        inside = chosen.within(here)
        if around is not None:
            parts, _ = ndimage.label(inside, CROSS)
            inside &= parts == parts[tuple(around)]
            inside &= parts[tuple(around)] > 0
        changed[index] = np.where(inside, into.values[0], here).astype(np.uint8)
    return changed


def swap_sides(screen, slices) -> dict:
    """Exchange the names of left and right; the voxels stay where they are."""
    return {index: mirror(screen[index]) for index in slices}


def _added(screen, index, here, added, chosen):
    if chosen.key == ANY:
        raise EditError("Choose a label to add: 'any label' can only be taken away.")
    changed = here.copy()
    if added.any():
        changed[added] = name_voxels(screen, index, added, chosen)
    return {index: changed}


def _replaced(here, shapes, chosen, only_empty):
    """One slice in which the target has other shapes; where `only_empty`, not at the cost of other labels."""
    rest = np.where(chosen.within(here), 0, here)
    counts = shapes > 0
    if only_empty:
        counts &= rest == 0
    return np.where(counts, shapes, rest).astype(np.uint8)


def _depth(mask):
    """Signed distance from the border, in voxels, positive inside; far outside where there is nothing."""
    if not mask.any():
        return np.full(mask.shape, -1e3)
    padded = np.pad(mask, 1)  # beyond the image is outside
    inside, outside = ndimage.distance_transform_edt(padded)[1:-1, 1:-1], ndimage.distance_transform_edt(~mask)
    return np.where(mask, inside - 0.5, 0.5 - outside)  # the border lies between two voxels
