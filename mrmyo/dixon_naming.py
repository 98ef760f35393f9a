"""Which Dixon image is which, told from their voxels where nothing names them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from scipy import ndimage

__all__ = ["DixonError", "tell_dixon"]

GRID_MM = 2.0  # fine enough for the rim, coarse enough to be quick
RIM_MM = (2.0, 8.0)  # below the skin, where subcutaneous fat lies
CORE_MM = 15.0  # and below it, where muscle lies
MISFIT = 0.15  # of the signal: six fat peaks, noise and T2* leave a few per cent, a wrong name tens
CLEAR = 0.15  # see `_water_or_fat`


class DixonError(ValueError):
    """Images that cannot be told apart as in-phase, opposed-phase, water and fat with certainty."""


def tell_dixon(images, *, spacing_mm=(1.0, 1.0, 1.0)) -> tuple[tuple[str, ...], float]:
    """Name the images of one Dixon acquisition by what they show.

    In every voxel the in-phase image is water plus fat and the opposed-phase image their difference; of the two that
    are left, the one that is bright in the rim below the skin is fat, for there lies subcutaneous fat, in muscles
    however fatty.

    Parameters
    ----------
    images : sequence of array_like
        Two to four magnitudes of one 3-D grid, in any order, with air around the body. Two can only be told when they
        are water and fat, or in-phase and opposed-phase.
    spacing_mm : sequence of float
        Of the voxels.

    Returns
    -------
    roles : tuple of str
        For each image ``in_phase``, ``opposed_phase``, ``water`` or ``fat``.
    confidence : float
        From 0 to 1: how much worse the next best naming fits, and how clearly fat shows in the rim, whichever is less.

    Raises
    ------
    DixonError
        When the images do not fit any naming, fit two about equally well, or show no clear rim of fat.
    """
    images = [np.asarray(image, dtype=np.float32) for image in images]
    if not 2 <= len(images) <= 4 or {image.shape for image in images} != {images[0].shape} or images[0].ndim != 3:
        raise DixonError(f"Found {len(images)} images of shapes {sorted({image.shape for image in images})}; expected "
                         "two to four on one 3-D grid.")
    coarser = tuple(slice(None, None, max(1, int(GRID_MM / step))) for step in spacing_mm)
    stack = np.stack([image[coarser] for image in images])
    steps = [step * part.step for step, part in zip(spacing_mm, coarser, strict=True)]
    tissue, rim, core = _tissue(stack, steps)
    voxels = stack[:, tissue]
    kinds, margin = _two_kinds(voxels, rim[tissue]) if len(images) == 2 else _kinds(voxels)
    if not {"one", "other"} & set(kinds):
        return kinds, margin
    names, clarity = _water_or_fat(kinds, stack[:, rim], stack[:, core])
    return names, min(margin, clarity)


def _tissue(stack, steps):
    """Where there is signal, the part of it just below the surface of the body, and the part deep within."""
    bright = stack.max(axis=0)
    if not np.isfinite(stack).all() or bright.max() <= 0:
        raise DixonError("Found images that are empty or not finite; expected magnitudes.")
    smooth = ndimage.gaussian_filter(bright, [min(1.5, 2.0 / step) for step in steps])
    dark, n = ndimage.label(smooth < 0.15 * np.percentile(smooth, 98))
    sizes = np.bincount(dark.ravel(), minlength=n + 1)
    sizes[0] = 0
    air = sizes >= max(0.05 * bright.size, 1)  # the air around; not bone or vessels
    outside = air[dark]
    if not outside.any():
        raise DixonError("Found no air around the body; expected some, to know where the rim below the skin is.")
    depth = ndimage.distance_transform_edt(~outside, sampling=steps)
    tissue = ~outside & (bright > 0.15 * np.percentile(smooth, 98))
    rim = tissue & (depth > RIM_MM[0]) & (depth <= RIM_MM[1])
    core = tissue & (depth > CORE_MM)
    n = min(int(rim.sum()), int(core.sum()))
    if n < 100:
        raise DixonError(f"Found {n} voxels below the skin or deep within; expected at least 100 to tell fat by.")
    return tissue, rim, core


def _kinds(voxels):
    """The naming of three or four images that fits best, water and fat as 'one' and 'other'; how much better it is."""
    scale = float(voxels.max(axis=0).mean())
    fits = []
    names = ("in_phase", "opposed_phase", "one", "other")
    for kinds in permutations(names, len(voxels)):
        lone = {"one", "other"} & set(kinds)
        if ("other" in lone and "one" not in lone) or (len(lone) == 2 and kinds.index("one") > kinds.index("other")):
            continue  # the same naming, told twice
        fits.append((_misfit(dict(zip(kinds, voxels, strict=True))) / scale, kinds))
    (best, kinds), (second, _) = sorted(fits)[:2]
    if best > MISFIT or second < 2 * best:
        raise DixonError(
            f"The best naming misses the signal by {best:.0%}, the next by {second:.0%}; expected at most "
            f"{MISFIT:.0%}, and half of the next. These may be no Dixon images of one acquisition."
        )
    return kinds, 1 - best / second


def _misfit(named):
    """Mean distance from in-phase = one + other and opposed-phase = |one - other|; infinite for what cannot be."""
    in_phase, opposed, one, other = (named.get(k) for k in ("in_phase", "opposed_phase", "one", "other"))
    if one is not None and other is not None:
        share = float((one > other).mean())
        if not 0.03 < share < 0.97:  # fat outweighs water in fat, water fat in muscle
            return np.inf
        pairs = [(seen, made) for seen, made in ((in_phase, one + other), (opposed, np.abs(one - other)))
                 if seen is not None]
        scale = sum(float((s * m).sum(dtype=float)) for s, m in pairs) / sum(float((m * m).sum(dtype=float))
                                                                            for _, m in pairs)
        if not 0.4 < scale < 2.5:
            return np.inf
        return max(float(np.abs(seen - scale * made).mean()) for seen, made in pairs)
    larger, smaller = (in_phase + opposed) / 2, np.abs(in_phase - opposed) / 2
    is_larger = np.abs(one - larger) < np.abs(one - smaller)
    if not 0.03 < is_larger.mean() < 0.97 or (opposed > 1.1 * in_phase).mean() > 0.1:
        return np.inf
    return float(np.minimum(np.abs(one - larger), np.abs(one - smaller)).mean())


def _two_kinds(voxels, in_rim):
    """Two images: water and fat exclude each other; in-phase is never below opposed-phase, and they meet nearly all."""
    ratio = voxels.min(axis=0) / np.maximum(voxels.max(axis=0), 1e-6)
    share = float((voxels[0] > voxels[1]).mean())
    middle = np.median(ratio[in_rim]), np.median(ratio[~in_rim])
    if np.median(ratio) < 0.35 and max(middle) < 0.6 and 0.1 < share < 0.9:
        return ("one", "other"), float(1 - np.median(ratio) / 0.5)
    first = share > 0.5  # which is the larger
    above = share if first else 1 - share
    cancelled = float((ratio < 0.5).mean())
    if above > 0.9 and min(middle) > 0.7 and 0.01 < cancelled < 0.4:
        return ("in_phase", "opposed_phase") if first else ("opposed_phase", "in_phase"), float(above)
    raise DixonError(
        f"One of the two images is the brighter in {above:.0%} of the voxels, and the other has {np.median(ratio):.0%} "
        "of its signal: neither water and fat nor in-phase and opposed-phase. Give three or four images."
    )


def _water_or_fat(kinds, rim, core):
    """Water and fat for 'one' and 'other', and how clearly the rim shows which is which.

    Fat has most of the rim's signal, and a larger share of it than of the core's. Either may fail: the first in the
    lean, the second where muscle has turned into fat. The sum of both leads is what counts; for water it is the
    negative of that.
    """
    shares = []
    for part in (rim, core):
        named = dict(zip(kinds, part.mean(axis=1, dtype=float), strict=True))
        shares.append(named["one"] / (named["one"] + named["other"] if "other" in named else named["in_phase"]))
    lead = float(shares[0] - 0.5 + shares[0] - shares[1])
    if abs(lead) < CLEAR:
        raise DixonError(
            f"Found {shares[0]:.0%} of the rim's and {shares[1]:.0%} of the core's signal in one image and the rest in "
            "the other: water and fat cannot be told. Name the series in a settings file."
        )
    names = {"one": "fat", "other": "water"} if lead > 0 else {"one": "water", "other": "fat"}
    return tuple(names.get(kind, kind) for kind in kinds), min(1.0, abs(lead))
