"""How far the labels of a slice may be trusted, for :mod:`mrmyo.segmentation`: told without knowing the truth."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from mrmyo.labels import FEMUR, MUSCLES, RIGHT_OFFSET

__all__ = ["FORMULA_PATH", "KEY", "PREDICTORS", "SCOPE", "describe", "expected_dice", "features_of", "flag_lines",
           "left_empty", "predictors", "read_formula", "scope_of_slices", "slice_quality"]

KEY = "slice_quality"  # where `Volume.meta` of a label map holds the rows
SCOPE = 0.98  # slices below this share of the likeliest are left empty; those through thighs lie above 0.999
BEYOND_DOUBT = 0.9995
SURE = 0.9
FORMULA_PATH = Path(__file__).parent / "models" / "thigh_vnet_quality.json"
MOST_ENTROPY = 0.13
LEAST_DICE = 0.85  # slices that are expected below this are to be looked at
POOR = f"a Dice below {LEAST_DICE} is to be expected"
MOST_LIKE_FAT, UNSURE = 0.35, 0.1  # both: half of all random contrasts show muscle and fat alike, and clearly
PREDICTORS = ("one", "logit_sureness", "entropy", "log_muscle_cm2", "like_fat", "logit_scope")
LEAST_CM2 = 8.0  # less muscle than this in a slice through a thigh is hardly all of it
LEAST_FEMUR_CM2 = 2.0
NAMED_CM2 = 4.0  # less of a muscle may well end in one thigh before it does in the other
EDGE_MM = 3.0


def features_of(probability, images, air=None) -> dict:
    """What a batch of crops tells of itself, without knowing the truth.

    Parameters
    ----------
    probability : torch.Tensor
        (n, classes, x, y) of background, muscles and bone.
    images : numpy.ndarray
        (n, x, y), normalised.
    air : torch.Tensor, optional
        (n, x, y) probability of air.

    Returns
    -------
    dict of numpy.ndarray, shaped (n,)
        ``entropy``: mean over the muscle, 0 to 1. ``sureness``: the Dice of the mask with what the probabilities
        expect, 2 Σ(p in the mask) / (Σ p + mask). ``muscle_pixels``. ``like_fat``: 1 where muscle and fat are equally
        bright, 0 where no pixel of one is as bright as one of the other (1 − |2 AUC − 1|). NaN where there is no
        muscle, or no fat to compare with.
    """
    import torch

    with torch.inference_mode():
        whole = probability[:, 1:len(MUSCLES) + 1].sum(1)
        mask = probability[:, 1:len(MUSCLES) + 1].amax(1) > torch.maximum(probability[:, 0], probability[:, -1])
        inside = whole > 0.5
        p = probability.clamp_min(1e-6)
        spread = -(p * p.log()).sum(1) / np.log(p.shape[1])
        n_inside, n_mask = inside.sum((1, 2)), mask.sum((1, 2))
        entropy = torch.where(n_inside > 0, (spread * inside).sum((1, 2)) / n_inside, torch.nan)
        sure = torch.where(n_mask > 0, 2 * (whole * mask).sum((1, 2)) / (whole.sum((1, 2)) + n_mask), torch.nan)
        fat = torch.zeros_like(mask) if air is None else probability[:, 0] - air > 0.5
        like = [_alike(image[m], image[f]) for image, m, f in zip(images, mask.numpy(), fat.numpy(), strict=True)]
    return {"entropy": entropy.numpy(), "sureness": sure.numpy(), "muscle_pixels": n_mask.numpy().astype(float),
            "like_fat": np.array(like)}


def _alike(a, b):
    """1 − |2 AUC − 1| of two sets of intensities between 0 and 2; NaN where either is nearly empty."""
    if min(a.size, b.size) < 50:
        return float("nan")
    counts = [np.histogram(part, 128, (0, 2))[0] / part.size for part in (a, b)]
    auc = (counts[0] * (np.cumsum(counts[1]) - 0.5 * counts[1])).sum()
    return float(1 - abs(2 * auc - 1))


def predictors(known, usual) -> np.ndarray:
    """The columns `PREDICTORS` (n, 6) of features (each (n,)); what is NaN counts as usual."""
    def logit(p):
        p = np.clip(p, 1e-3, 1 - 1e-3)
        return np.log(p / (1 - p))

    known = {name: np.atleast_1d(np.asarray(values, float)) for name, values in known.items()}
    known |= {name: np.where(np.isnan(known[name]), value, known[name]) for name, value in usual.items()}
    return np.stack([np.ones_like(known["sureness"]), logit(known["sureness"]), known["entropy"],
                     np.log1p(known["muscle_cm2"]), known["like_fat"], logit(known["scope"])], 1)


def expected_dice(known, formula) -> np.ndarray:
    """The Dice of the whole muscle (n,) that a formula (`read_formula`) expects of features (each (n,))."""
    weights = [formula["coefficients"][name] for name in PREDICTORS]
    return 1 / (1 + np.exp(-predictors(known, formula["usual"]) @ weights))


def read_formula(path=None, model_hash=None) -> dict | None:
    """The formula of expected Dice beside a model (``NAME_quality.json``); None where there is none of this model.

    ``scripts/fit_quality.py`` makes it, from images of random contrast whose truth is known. Without a path: the
    shipped one, whatever the model.
    """
    path = FORMULA_PATH if path is None else Path(path)
    if not path.is_file():
        return None
    formula = _read_formula(path, path.stat().st_mtime_ns)
    return formula if model_hash in (None, formula.get("model")) else None


@lru_cache(maxsize=4)
def _read_formula(path, _changed):
    return json.loads(path.read_text())


def scope_of_slices(scope) -> np.ndarray:
    """How likely each slice goes through thighs, of {side: how likely it goes through that one}: the mean of the
    sides, or that of one side which is sure of itself."""
    rows = np.stack(list(scope.values()))
    return np.maximum(rows.mean(0), np.where(rows.max(0) >= SURE, rows.max(0), 0))


def left_empty(scope) -> dict:
    """{side: which slices show no thigh} of {side: how likely each goes through that thigh}.

    Where both thighs together are doubtful, as near the hip, a thigh counts only when it is beyond doubt itself.
    """
    likeliest = scope_of_slices(scope).max()
    both = np.mean(list(scope.values()), axis=0)
    return {side: row < np.where(both < SCOPE * likeliest, BEYOND_DOUBT, SCOPE) * likeliest
            for side, row in scope.items()}


def describe(labels, spacing, scope, features, side_from, *, formula, notes=()) -> list[dict]:
    """One row per slice and thigh.

    Parameters
    ----------
    labels : numpy.ndarray
        (slices, x, y), final.
    spacing : array
        In the plane, in mm.
    scope : dict
        {side: per slice, how likely it goes through that thigh}.
    features : dict
        {(slice, side): {name: value}} of `features_of`.
    side_from : str
        How left and right are known: ``two thighs``, ``laterality`` or ``position``.
    formula : dict or None
        From `read_formula`; without one no Dice is expected.
    notes : sequence of str
        What holds for every slice of the stack.
    """
    edge = np.maximum(np.rint(EDGE_MM / np.asarray(spacing)).astype(int), 1)
    empty = left_empty(scope)
    area = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in labels]) * np.prod(spacing) / 100
    rows = []
    for (k, side), known in sorted(features.items()):
        low = RIGHT_OFFSET if side == "right" else 0
        mask = (labels[k] > low) & (labels[k] <= low + len(MUSCLES))
        inner = mask[edge[0]:-edge[0], edge[1]:-edge[1]].sum()
        known = {**known, "scope": float(scope[side][k]), "muscle_cm2": float(mask.sum() * np.prod(spacing)) / 100}
        expected = float(expected_dice(known, formula)[0]) if mask.any() and formula else float("nan")
        sided = [area[k, 1 + offset:1 + offset + len(MUSCLES)] for offset in (low, RIGHT_OFFSET - low)]
        lonely = [row[1] for row, own, other in zip(MUSCLES, *sided, strict=True)
                  if row[1] != "OTH" and min(sided[0].sum(), sided[1].sum()) > LEAST_CM2 and max(own, other) > NAMED_CM2
                  and min(own, other) < 0.25 * max(own, other)]
        row = {name: round(known[name], 4) for name in ("scope", "entropy", "sureness", "like_fat", "muscle_cm2")}
        rows.append({"slice": k, "side": side, "expected_dice": round(expected, 3), **row,
                     "femur_cm2": round(float(area[k, FEMUR[side]]), 2), "one_sided": " ".join(lonely),
                     "empty": bool(empty[side][k]), "cut_off": bool(mask.sum() > inner),
                     "side_from": side_from, "stack": ", ".join(notes)})
    return rows


def _reasons(row):
    """What calls for a look at a slice, in words."""
    if row["empty"]:
        return ["no thigh: left empty"]
    return [text for text, found in (
        ("cut off by the edge of the image", row["cut_off"]),
        ("unlike the slices that the network knows", row["scope"] < SCOPE or row["entropy"] > MOST_ENTROPY),
        ("hardly any muscle", row["muscle_cm2"] < LEAST_CM2),
        ("hardly any femur", row["femur_cm2"] < LEAST_FEMUR_CM2),
        ("muscle that is named in one thigh alone", row["one_sided"]),
        ("muscle as bright as fat: hardly told apart", row["like_fat"] > MOST_LIKE_FAT and row["entropy"] > UNSURE),
        (POOR, row["expected_dice"] < LEAST_DICE),
        ("left or right by position alone", row["side_from"] == "position"),
        (row["stack"], row["stack"]),
    ) if found]


def flag_lines(quality) -> list[str]:
    """The flags of a table of `slice_quality`, one line for each reason and side: which slices to look at."""
    where = {}
    for row in quality.itertuples():
        for reason in filter(None, str(row.flag).split("; ")):
            where.setdefault(reason, {}).setdefault(row.side, []).append(int(row.slice))
    lines = []
    for reason, sides in where.items():
        same = len(sides) == 2 and sides["left"] == sides["right"]
        for side, slices in [("both thighs", sides["left"])] if same else sides.items():
            side = side if same else f"{side} thigh"
            lines.append(f"{side}, {'slice' if len(slices) == 1 else 'slices'} {_ranges(slices)}: {reason}")
    return lines


def _ranges(numbers):
    """3, 4, 5, 8 as 3–5, 8."""
    runs = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in runs)


def slice_quality(labels):
    """What is known of every slice of a label map without knowing the truth: look at the flagged ones first.

    Parameters
    ----------
    labels : Volume
        As `mrmyo.segment` returned it (its `meta` holds the rows; files do not).

    Returns
    -------
    pandas.DataFrame
        One row per slice and side: ``slice`` (index along the slice axis of the array), ``side``, ``expected_dice``
        (of the whole muscle with a true mask, by a formula fitted on images of random contrast; NaN without muscle),
        ``scope`` (how likely this is a slice through thighs), ``entropy`` (0 to 1, mean over the muscle),
        ``sureness`` and ``like_fat`` (see `features_of`), ``muscle_cm2``, ``femur_cm2``, ``one_sided`` (muscles of
        which one thigh has four times as much as the other), ``empty`` (no thigh), ``cut_off``,
        ``side_from`` (``two thighs``, ``laterality`` or ``position``), ``stack`` (what was noticed of the whole stack)
        and ``flag``, empty where nothing was noticed.

    Raises
    ------
    ValueError
        When the volume does not come from `mrmyo.segment`.
    """
    import pandas as pd

    if KEY not in labels.meta:
        raise ValueError("Found no quality in this label map; expected one that mrmyo.segment just returned "
                         "(files do not keep it). Segment the image again.")
    return pd.DataFrame([{**row, "flag": "; ".join(_reasons(row))} for row in labels.meta[KEY]])
