"""How far the labels of a slice may be trusted, for :mod:`mrmyo.segmentation`: told without knowing the truth."""

from __future__ import annotations

import numpy as np

from mrmyo.labels import MUSCLES, RIGHT_OFFSET

__all__ = ["KEY", "MOST_ENTROPY", "SCOPE", "describe", "entropy_of", "slice_quality"]

KEY = "slice_quality"  # where `Volume.meta` of a label map holds the rows
SCOPE = 0.98  # slices below this share of the likeliest are left empty; those through thighs lie above 0.999
MOST_ENTROPY = 0.12
LEAST_CM2 = 8.0  # less muscle than this in a slice through a thigh is hardly all of it
EDGE_MM = 3.0


def entropy_of(probability) -> float:
    """Mean entropy (0 to 1) of probabilities (classes, x, y) where muscle is likelier than not; NaN without muscle."""
    import torch

    muscle = probability[1:len(MUSCLES) + 1].sum(0) > 0.5
    if not muscle.any():
        return float("nan")
    p = probability[:, muscle].clamp_min(1e-6)
    return float(-(p * p.log()).sum(0).mean() / torch.tensor(float(len(p))).log())


def describe(labels, spacing, scope, entropy, side_from) -> list[dict]:
    """One row per slice and thigh.

    Parameters
    ----------
    labels : numpy.ndarray
        (slices, x, y), final.
    spacing : array
        In the plane, in mm.
    scope : array
        Per slice, how likely it goes through thighs.
    entropy : dict
        {(slice, side): mean entropy}.
    side_from : str
        How left and right are known: ``two thighs``, ``laterality`` or ``position``.
    """
    edge = np.maximum(np.rint(EDGE_MM / np.asarray(spacing)).astype(int), 1)
    rows = []
    for (k, side), value in sorted(entropy.items()):
        low = RIGHT_OFFSET if side == "right" else 0
        mask = (labels[k] > low) & (labels[k] <= low + len(MUSCLES))
        inner = mask[edge[0]:-edge[0], edge[1]:-edge[1]].sum()
        rows.append({"slice": k, "side": side, "scope": round(float(scope[k]), 4), "entropy": round(value, 4),
                     "empty": bool(scope[k] < SCOPE * np.max(scope)),
                     "muscle_cm2": round(float(mask.sum() * np.prod(spacing)) / 100, 2),
                     "cut_off": bool(mask.sum() > inner), "side_from": side_from})
    return rows


def _flag(row):
    if row["empty"]:
        return "no thigh: left empty"
    reasons = [text for text, found in (
        ("cut off by the edge of the image", row["cut_off"]),
        ("uncertain", row["scope"] < SCOPE or not row["entropy"] <= MOST_ENTROPY),
        ("hardly any muscle", row["muscle_cm2"] < LEAST_CM2),
        ("left or right by position alone", row["side_from"] == "position"),
    ) if found]
    return "; ".join(reasons)


def slice_quality(labels):
    """What is known of every slice of a label map without knowing the truth: look at the flagged ones first.

    Parameters
    ----------
    labels : Volume
        As `mrmyo.segment` returned it (its `meta` holds the rows; files do not).

    Returns
    -------
    pandas.DataFrame
        One row per slice and side: ``slice`` (index along the slice axis of the array), ``side``, ``scope`` (how
        likely this is a slice through thighs), ``entropy`` (0 to 1, mean over the muscle), ``empty`` (no thigh),
        ``muscle_cm2``, ``cut_off``, ``side_from`` (``two thighs``, ``laterality`` or ``position``) and ``flag``, empty
        where nothing was noticed.

    Raises
    ------
    ValueError
        When the volume does not come from `mrmyo.segment`.
    """
    import pandas as pd

    if KEY not in labels.meta:
        raise ValueError("Found no quality in this label map; expected one that mrmyo.segment just returned "
                         "(files do not keep it). Segment the image again.")
    return pd.DataFrame([{**row, "flag": _flag(row)} for row in labels.meta[KEY]])
