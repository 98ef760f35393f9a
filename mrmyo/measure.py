"""What a mask and a map say together: T2 by muscle, the overlap of two masks, and flags that call for a look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from mrmyo.labels import is_muscle, label_table
from mrmyo.t2 import FITTED, T2Maps
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["dice", "dice_by_muscle", "quality_flags", "restrict", "t2_by_muscle", "trim_fat", "water_by_muscle"]

WHOLE_MUSCLE = "whole muscle"
MOST_FAT = 0.5  # as a share of that of fat: above it fat has replaced the muscle itself
TRIM_FROM = 0.6  # of the way from muscle to fat


def t2_by_muscle(maps: T2Maps, labels: Volume):
    """T2 of every muscle, of the whole muscle of each side, and of both.

    Parameters
    ----------
    maps : T2Maps
        From `mrmyo.fit_t2` of a Volume.
    labels : Volume
        Values of `mrmyo.label_table`, on the same grid.

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle that is present, and rows named 'whole muscle' with the sides 'left', 'right' and
        'both'. ``t2_ms`` is the mean over the ``n_voxels`` that were fitted; ``n_failed`` more could not be.
        ``t2_noise_ms`` is the median of the voxels' own standard deviations: noise, not spread; ``t2_mean_sd_ms`` is
        the standard deviation that noise gives the mean, neighbours that share noise considered
        (`T2Maps.noise_volume`; NaN where that is not known). It says nothing of what the model takes for known, nor
        of the mask.

    Raises
    ------
    GridError
        When maps and labels do not share a grid, or one of them is a bare array.
    """
    import pandas as pd

    if not isinstance(labels, Volume):
        raise GridError("The labels are a bare array and have no place; pass them as a Volume with their affine.")
    if maps.affine is None:
        raise GridError("These T2 maps come from a bare array and have no place; fit a Volume to measure with labels.")
    place = Volume(maps.t2_ms, maps.affine)
    if not same_grid(place, labels):
        raise GridError(
            f"The T2 map has shape {place.shape}, the labels {labels.shape}, or they lie apart; expected one grid. "
            "Carry the labels over with mrmyo.align first."
        )
    table = label_table()
    muscle = is_muscle(labels.array)
    voxel_ml = float(abs(np.linalg.det(labels.affine[:3, :3]))) / 1000
    rows = []
    for entry in table[table.is_muscle].itertuples():
        chosen = labels.array == entry.value
        if chosen.any():
            rows.append({"side": entry.side, "muscle": entry.name, "abbreviation": entry.abbreviation,
                         "compartment": entry.compartment, **_summary(maps, chosen, voxel_ml)})
    for side in ("left", "right", "both"):
        values = table.loc[table.is_muscle & ((table.side == side) | (side == "both")), "value"]
        chosen = muscle & np.isin(labels.array, values)
        rows.append({"side": side, "muscle": WHOLE_MUSCLE, "abbreviation": "ALL", "compartment": "whole",
                     **_summary(maps, chosen, voxel_ml)})
    return pd.DataFrame(rows)


def water_by_muscle(rows, water: T2Maps, labels: Volume):
    """The rows of `t2_by_muscle` with what a fit of water T2 adds.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of the same labels.
    water : T2Maps
        With its ``fat_fraction``.
    labels : Volume

    Returns
    -------
    pandas.DataFrame
        With ``water_t2_ms``, ``water_t2_sd_ms``, ``water_t2_median_ms``, ``water_t2_noise_ms``,
        ``water_t2_mean_sd_ms``, ``n_water_failed`` (as their likes without "water") and ``fat_fraction``, the mean
        share of fat in the magnetisation of the voxels that were fitted.
    """
    found = t2_by_muscle(water, labels)
    fat = t2_by_muscle(replace(water, t2_ms=water.fat_fraction), labels)
    names = ("t2_ms", "t2_sd_ms", "t2_median_ms", "t2_noise_ms", "t2_mean_sd_ms")
    return rows.assign(**{f"water_{name}": found[name] for name in names}, n_water_failed=found.n_failed,
                       fat_fraction=fat.t2_ms)


def _summary(maps, chosen, voxel_ml):
    fitted = chosen & (maps.status == FITTED)
    t2_ms = maps.t2_ms[fitted].astype(float)
    n = int(t2_ms.size)
    low, median, high = np.percentile(t2_ms, [5, 50, 95]) if n else (np.nan,) * 3
    return {"t2_ms": t2_ms.mean() if n else np.nan, "t2_sd_ms": t2_ms.std(ddof=1) if n > 1 else np.nan,
            "t2_median_ms": median, "t2_p05_ms": low, "t2_p95_ms": high,
            "t2_noise_ms": float(np.median(maps.t2_std_ms[fitted])) if n else np.nan,
            "t2_mean_sd_ms": _sd_of_mean(maps.t2_std_ms[fitted], maps.noise_volume),
            "n_voxels": n, "n_failed": int(chosen.sum()) - n, "volume_ml": float(chosen.sum()) * voxel_ml}


def _sd_of_mean(stds, shared):
    """The SD of the mean of n voxels, each noise shared among `shared` of them; all of a small region share one."""
    n = len(stds)
    return float(np.sqrt(np.mean(stds.astype(float) ** 2) * min(shared, n) / n)) if n else np.nan


def restrict(labels: Volume, *, erode_mm: float = 0.0, fat_fraction=None, max_fat_fraction: float | None = None):
    """The labels without muscle near other tissue, or without fatty muscle: narrower regions for T2.

    Parameters
    ----------
    labels : Volume
    erode_mm : float
        Muscle voxels go whose centre lies within this distance, in the plane of the slice, of the centre of one that is
        no muscle. Borders between muscles stay.
    fat_fraction : array, optional
        On the grid of `labels`.
    max_fat_fraction : float, optional
        Muscle voxels with more fat go, and those whose fat fraction is not known.

    Returns
    -------
    Volume

    Raises
    ------
    ValueError
        When the limit has no fat fraction, or one of another shape, to go by.
    """
    muscle = is_muscle(labels.array)
    keep = muscle.copy()
    if erode_mm > 0:
        axis = labels.slice_axis
        spacing = np.delete(labels.spacing_mm, axis)
        for kept in np.moveaxis(keep, axis, 0):
            if not kept.all():
                kept[:] = ndimage.distance_transform_edt(kept, sampling=spacing) > erode_mm
    if max_fat_fraction is not None:
        if fat_fraction is None or np.shape(fat_fraction) != labels.shape:
            found = "none" if fat_fraction is None else f"one of shape {np.shape(fat_fraction)}"
            raise ValueError(f"A limit on the fat fraction needs a map of it, shaped {labels.shape}; found {found}.")
        with np.errstate(invalid="ignore"):
            keep &= np.asarray(fat_fraction) <= max_fat_fraction
    return labels.with_array(np.where(muscle & ~keep, 0, labels.array).astype(labels.array.dtype))


def trim_fat(labels: Volume, fat_fraction) -> Volume:
    """The labels without the fat at the borders of muscle.

    In the plane of the slice, and connected with what is no muscle, voxels go whose fat fraction lies beyond three
    fifths of the way from the upper quartile of their muscle to fat: never more than a quarter of a muscle. Where fat
    has replaced a muscle (its upper quartile, or in this slice its median, is mostly fat), it keeps its voxels. Whether
    fat at a border lies beside the muscle or in it cannot be told: what has infiltrated from there goes too.

    Parameters
    ----------
    labels : Volume
    fat_fraction : array
        On the grid of `labels`, NaN where there is no signal; also in another unit, for that of fat is taken from the
        ninetieth percentile outside muscle and femur.

    Returns
    -------
    Volume

    Raises
    ------
    ValueError
        When the fat fraction has another shape.
    """
    if np.shape(fat_fraction) != labels.shape:
        raise ValueError(f"Trimming fat needs a map of it, shaped {labels.shape}; found {np.shape(fat_fraction)}.")
    axis = labels.slice_axis
    values, share = (np.moveaxis(np.asarray(array), axis, 0) for array in (labels.array, fat_fraction))
    muscle, known = is_muscle(values), np.isfinite(share)
    around = share[known & (values == 0)]
    fat = np.quantile(around, 0.9) if around.size else 0.0
    if fat <= 0:
        return labels
    fatty = np.zeros_like(muscle)
    for value in np.unique(values[muscle & known]):
        chosen = known & (values == value)
        own = np.quantile(share[chosen], 0.75, method="higher")
        if own > MOST_FAT * fat:
            continue
        for k in np.flatnonzero(chosen.any((1, 2))):
            if np.median(share[k][chosen[k]]) <= MOST_FAT * fat:
                fatty[k] |= chosen[k] & (share[k] > own + TRIM_FROM * (fat - own))
    in_plane = ndimage.generate_binary_structure(2, 1)[None]
    outside = ndimage.binary_propagation(~muscle, in_plane, mask=fatty | ~muscle)
    trimmed = np.where(muscle & outside, 0, values).astype(values.dtype)
    return labels.with_array(np.ascontiguousarray(np.moveaxis(trimmed, 0, axis)))


def dice(a, b) -> float:
    """The Dice coefficient of two boolean arrays, 2 |a ∩ b| / (|a| + |b|); NaN when both are empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def dice_by_muscle(labels: Volume, reference: Volume):
    """Dice of every muscle that either mask names, and of the whole muscle.

    Parameters
    ----------
    labels, reference : Volume
        On one grid.

    Returns
    -------
    pandas.DataFrame
        Columns side, muscle, abbreviation, dice.
    """
    import pandas as pd

    if not same_grid(labels, reference):
        raise GridError(
            f"Found masks of shape {labels.shape} and {reference.shape}, or at other places; expected one grid."
        )
    table = label_table()
    rows = [
        {
            "side": e.side,
            "muscle": e.name,
            "abbreviation": e.abbreviation,
            "dice": dice(labels.array == e.value, reference.array == e.value),
        }
        for e in table[table.is_muscle].itertuples()
    ]
    rows.append({"side": "both", "muscle": WHOLE_MUSCLE, "abbreviation": "ALL",
                 "dice": dice(is_muscle(labels.array), is_muscle(reference.array))})
    return pd.DataFrame(rows).dropna(subset="dice").reset_index(drop=True)


def quality_flags(rows, *, coverage: float, n_bare_slices: int = 0) -> list[str]:
    """What in a study's rows calls for a look, in words; an empty list when nothing does.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `t2_by_muscle`.
    coverage : float
        Share of the T2 slices that the structural image covers.
    n_bare_slices : int
        T2 slices without any muscle in the mask.
    """
    flags = []
    whole = rows[rows.muscle == WHOLE_MUSCLE].set_index("side")
    both = whole.loc["both"]
    if both.n_voxels + both.n_failed == 0:
        return ["no muscle was found"]
    if coverage < 0.999:
        flags.append(f"the structural image covers only {coverage:.0%} of the T2 slices")
    if n_bare_slices:
        flags.append(f"{n_bare_slices} of the T2 slices hold no muscle of the mask")
    failed = both.n_failed / (both.n_voxels + both.n_failed)
    if failed > 0.01:
        flags.append(f"{failed:.1%} of the muscle voxels could not be fitted")
    small, large = sorted(whole.loc[["left", "right"], "volume_ml"])
    if small == 0:
        flags.append("muscle was found on one side only")
    elif large / small > 1.3:
        flags.append(f"one thigh has {large / small:.1f} times the muscle of the other")
    if not 20 <= both.t2_ms <= 120:
        flags.append(f"the mean T2 of {both.t2_ms:.1f} ms is not that of muscle")
    return flags
