"""What small regions drawn by hand make of a T2 that differs from place to place: for notebooks and lectures."""

from __future__ import annotations

import heapq

import numpy as np
from scipy import ndimage

from mrmyo.labels import is_muscle, label_table
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["region_of_mean", "small_regions"]

WELL_INSIDE = 0.9  # of what is within reach of a place is muscle: at its edge, fat and vessels make T2 long


def small_regions(t2: Volume, labels: Volume, *, area_mm2=(20.0, 100.0), n_regions=3, n_readers=200, seed=0):
    """The T2 that readers find who draw a few small regions somewhere in muscle and take the mean of them.

    Each region is round, of an area drawn evenly from the range, and lies wholly within one muscle of one slice: the
    voxels whose centres are no further than its radius from the voxel in its middle. Every place where it fits is
    equally likely, so that large muscles get more of them. These readers look at nothing: one who seeks the brightest
    place, or avoids it, is biased besides.

    Parameters
    ----------
    t2 : Volume
        T2 in ms; voxels that are NaN belong to no region.
    labels : Volume
        Values of `mrmyo.label_table`, on the same grid.
    area_mm2 : (float, float)
        The smallest and the largest area of a region. The paper writes of regions below 100 mm².
    n_regions, n_readers : int
        Regions of a reader, and readers.
    seed : int
        The same seed draws the same regions.

    Returns
    -------
    pandas.DataFrame
        One row a reader: ``reader``, ``n_regions``, ``t2_ms`` (the mean of the regions' means), ``n_voxels`` and
        ``area_mm2`` (of all its regions), ``whole_ms`` (the mean over all muscle, the same in each row).

    Raises
    ------
    GridError
        When map and labels do not share a grid.
    ValueError
        When there is nothing to draw, or no muscle has room for a region of the largest area.
    """
    import pandas as pd

    small, large = (float(area) for area in area_mm2)
    if not 0 < small <= large or n_regions < 1 or n_readers < 1:
        raise ValueError(f"Found areas of {small:g} to {large:g} mm², {n_regions} regions and {n_readers} readers; "
                         "expected positive areas in ascending order, and at least one of both.")
    values, names, spacing = _slices(t2, labels)
    room = _room_mm(names, spacing)
    places = np.flatnonzero(names)
    places = places[np.argsort(-room.ravel()[places], kind="stable")]
    shrinking = -room.ravel()[places]
    widest = -shrinking[0] if places.size else 0.0
    if widest <= np.sqrt(large / np.pi):
        raise ValueError(f"No muscle has room for a round region of {large:g} mm²: the widest one takes a radius below "
                         f"{widest:.1f} mm. Ask for smaller regions.")
    rng = np.random.default_rng(seed)
    whole = float(values[names > 0].mean(dtype=float))
    rows = []
    for reader in range(n_readers):
        found = []
        for radius in np.sqrt(rng.uniform(small, large, n_regions) / np.pi):
            fit = np.searchsorted(shrinking, -radius)  # of the places, roomiest first, these have room enough
            found.append(_disc(values, np.unravel_index(places[rng.integers(fit)], values.shape), radius, spacing))
        n = sum(part.size for part in found)
        rows.append({"reader": reader + 1, "n_regions": n_regions, "t2_ms": float(np.mean([p.mean() for p in found])),
                     "n_voxels": n, "area_mm2": n * float(np.prod(spacing)), "whole_ms": whole})
    return pd.DataFrame(rows)


def _slices(t2, labels):
    """T2, muscle labels of voxels that were fitted (0 elsewhere), slices first; and the spacing in their plane."""
    muscle = _fitted_muscle(t2, labels)
    axis = labels.slice_axis
    names = np.where(muscle, labels.array, 0)
    return (np.moveaxis(t2.array, axis, 0).astype(float), np.ascontiguousarray(np.moveaxis(names, axis, 0)),
            np.delete(labels.spacing_mm, axis))


def _fitted_muscle(t2, labels):
    if not same_grid(t2, labels):
        raise GridError(f"The T2 map has shape {t2.shape}, the labels {labels.shape}, or they lie apart; expected one "
                        "grid. Carry the labels over with mrmyo.align first.")
    muscle = is_muscle(labels.array) & np.isfinite(t2.array)
    if not muscle.any():
        raise ValueError("Found no muscle with a T2; expected labels of mrmyo.label_table over the map.")
    return muscle


def _room_mm(names, spacing):
    """How far every voxel is from the next one of its slice that is not of its muscle, or lies beyond the image."""
    room = np.zeros(names.shape)
    for value in np.unique(names[names > 0]):
        for k in np.flatnonzero((names == value).any((1, 2))):
            inside = np.pad(names[k] == value, 1)
            distance = ndimage.distance_transform_edt(inside, sampling=spacing)[1:-1, 1:-1]
            room[k] = np.where(names[k] == value, distance, room[k])
    return room


def _disc(values, place, radius, spacing):
    """The values of a slice within a radius of one of its voxels."""
    k, *centre = place
    reach = [int(radius / step) for step in spacing]
    grid = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    inside = sum((part * step) ** 2 for part, step in zip(grid, spacing, strict=True)) <= radius**2
    window = tuple(slice(c - n, c + n + 1) for c, n in zip(centre, reach, strict=True))
    return values[k][window][inside]


def region_of_mean(t2: Volume, labels: Volume, *, mean_ms: float, min_ml: float = 1.0, smooth_mm: float = 6.0,
                   one_muscle: bool = False):
    """A lesion by rule: the hottest place of muscle, grown until its mean T2 has fallen to a given value.

    Growth begins well inside muscle where T2, smoothed within it, is longest, and takes in the neighbour (of six) whose
    smoothed T2 is longest, again and again. The mean is that of the map itself. Nobody draws anything, so that the same
    map gives the same region; but it is a region of a wanted mean, and says nothing of where a radiologist would see
    one.

    Parameters
    ----------
    t2 : Volume
        T2 in ms; voxels that are NaN belong to no region.
    labels : Volume
        Values of `mrmyo.label_table`, on the same grid.
    mean_ms : float
        The mean T2 that the region shall have.
    min_ml : float
        Its least volume, so that it is no spot of noise.
    smooth_mm : float
        Radius within which a place's T2 is smoothed, as the median of muscle; 0 for none.
    one_muscle : bool
        Whether growth ends at the border of the muscle that it begins in.

    Returns
    -------
    region : Volume of bool
        On the grid of the labels.
    facts : dict
        ``t2_ms`` (its mean), ``n_voxels``, ``volume_ml``, ``share`` of all muscle that was fitted, and ``muscle``,
        ``side`` and ``share_in_muscle`` of the muscle that holds most of it.

    Raises
    ------
    GridError
        When map and labels do not share a grid.
    ValueError
        When no muscle was fitted; when the hottest region of the least volume is not as long in T2 as that; when all
        muscle that hangs together with it is longer.
    """
    muscle = _fitted_muscle(t2, labels)
    order, start = _smoothed(t2.array, muscle, smooth_mm, labels.spacing_mm)
    voxel_ml = float(abs(np.linalg.det(labels.affine[:3, :3]))) / 1000
    least = max(1, int(np.ceil(min_ml / voxel_ml - 1e-9)))
    within = muscle & (labels.array == labels.array[start]) if one_muscle else muscle
    grown = _grow(order, within, start)
    means = np.cumsum(t2.array.ravel()[grown].astype(float)) / np.arange(1, grown.size + 1)
    if grown.size < least:
        raise ValueError(f"The muscle around the longest T2 has {grown.size * voxel_ml:.2f} ml; expected at least "
                         f"{min_ml:g} ml. Ask for a smaller region (min_ml).")
    if means[least - 1] < mean_ms:
        raise ValueError(f"The {least * voxel_ml:.2f} ml of muscle around the longest T2 have a mean of "
                         f"{means[least - 1]:.1f} ms; expected at least the {mean_ms:g} ms of the region. Ask for a "
                         "shorter T2 or a smaller region (min_ml).")
    fallen = np.flatnonzero(means[least - 1:] <= mean_ms)
    if not fallen.size:
        raise ValueError(f"All muscle that hangs together with the longest T2 has a mean of {means[-1]:.1f} ms; "
                         f"expected less than the {mean_ms:g} ms of the region.")
    n = least + int(fallen[0])
    region = np.zeros(labels.shape, bool)
    region.ravel()[grown[:n]] = True
    held, counts = np.unique(labels.array[region], return_counts=True)
    most = label_table().set_index("value").loc[int(held[counts.argmax()])]
    facts = {"t2_ms": float(means[n - 1]), "n_voxels": n, "volume_ml": n * voxel_ml, "share": n / int(muscle.sum()),
             "muscle": most["name"], "side": most["side"], "share_in_muscle": float(counts.max() / n)}
    return labels.with_array(region), facts


def _smoothed(array, inside, reach_mm, spacing):
    """The median of the voxels inside that lie within reach of each; and its highest place well inside.

    A median, for a vessel of a few voxels would draw a mean towards itself.
    """
    steps = [int(reach_mm / step) for step in spacing]
    ball = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in steps], indexing="ij"), -1).reshape(-1, 3)
    ball = ball[((ball * spacing) ** 2).sum(1) <= reach_mm**2]
    padded = np.pad(np.where(inside, array, np.nan).astype(float), [(n, n) for n in steps], constant_values=np.nan)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    places = np.argwhere(inside)
    values = padded.ravel()[((places + steps) @ strides)[:, None] + ball @ strides]
    n = np.isfinite(values).sum(1)
    values.sort(1)  # what is no number comes last
    row = np.arange(len(n))
    smooth = np.full(array.shape, -np.inf)
    smooth[inside] = (values[row, (n - 1) // 2] + values[row, n // 2]) / 2
    deep = n >= min(WELL_INSIDE * len(ball), n.max())
    return smooth, tuple(places[np.where(deep, smooth[inside], -np.inf).argmax()])


def _grow(order, inside, start):
    """Flat indices of the voxels inside that hang together with the start, as growth from there takes them in."""
    wide = np.pad(inside, 1).ravel()  # a border of what is not inside: no neighbour lies beyond the array
    height = np.pad(order, 1, constant_values=-np.inf).ravel()
    _, n_j, n_k = (n + 2 for n in inside.shape)
    steps = (n_j * n_k, -n_j * n_k, n_k, -n_k, 1, -1)
    start = int(np.ravel_multi_index([i + 1 for i in start], [n + 2 for n in inside.shape]))
    wide[start] = False  # no longer to be taken in
    ahead, taken = [(-height[start], start)], []
    while ahead:
        _, here = heapq.heappop(ahead)
        taken.append(here)
        for step in steps:
            if wide[here + step]:
                wide[here + step] = False
                heapq.heappush(ahead, (-height[here + step], here + step))
    index = np.unravel_index(taken, [n + 2 for n in inside.shape])
    return np.ravel_multi_index([i - 1 for i in index], inside.shape)
