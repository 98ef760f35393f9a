"""How far a synthetic study's measurement is from its truth, and which stage put it there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mrmyo.evaluation import evaluate
from mrmyo.labels import carry, is_muscle
from mrmyo.measure import WHOLE_MUSCLE, dice_by_muscle
from mrmyo.nifti import read_nifti, read_t2map

__all__ = ["error_by_stage", "mask_effect", "mask_tolerances", "tolerances"]

GOAL_WHOLE_MS, GOAL_MUSCLE_MS = 0.35, 0.7  # mean absolute effect of the automatic mask on T2
STAGES = ("error_fit_ms", "error_headers_ms", "error_alignment_ms", "error_mask_ms", "error_ms", "error_water_ms")
GOAL_MEAN_MS, GOAL_SD_MS = 0.3, 0.4


def error_by_stage(out_dir, truth_dir) -> dict:
    """Split the error of one processed synthetic study into the parts that fit, alignment and mask contribute.

    Each part is the change in mean T2 when one stage's truth is replaced by what the pipeline made of it, in this
    order, so that the parts add up to the whole error:

    - fit: the noisy fit against the noise-free one, both under the true mask on the T2 grid;
    - alignment: the true mask of the structural image carried over as the study's was, against the true mask on the T2
      grid (the patient moved in between, and the grids differ); ``error_headers_ms`` is the same by the headers alone,
      and no part of the sum;
    - mask: the mask that was used against the true one, both carried over.

    Parameters
    ----------
    out_dir : path
        A folder that `mrmyo.process_study` filled.
    truth_dir : path
        The folder that `mrmyo.simulate_study` filled.

    Returns
    -------
    dict
        Among others ``t2_measured_ms``, ``t2_apparent_ms``, the parts in ms, ``dice_whole`` and ``dice_muscles`` (mean)
        on the structural grid; ``error_water_ms``, of the water T2 against that of the tissue, NaN where the study has
        none.
    """
    out, truth_dir = Path(out_dir), Path(truth_dir)
    truth = json.loads((truth_dir / "truth.json").read_text())
    t2_ms, carried = read_t2map(out / "T2map.nii.gz"), read_nifti(out / "labels_t2.nii.gz")
    mask, true_mask = read_nifti(out / "mask.nii.gz"), read_nifti(truth_dir / "labels_in_phase.nii.gz")
    transform = np.array(json.loads((out / "alignment.json").read_text(encoding="utf-8"))["transform"])
    regions = (read_nifti(truth_dir / "labels_t2.nii.gz"), carry(true_mask, carried, transform=transform), carried)
    means = [_mean(t2_ms, labels) for labels in regions]
    overlap = dice_by_muscle(mask, true_mask)
    water_map = out / "water_T2map.nii.gz"
    water_ms = _mean(read_t2map(water_map), carried) if water_map.exists() else np.nan
    whole = overlap.muscle == WHOLE_MUSCLE
    return {
        "subject": truth["subject"], "group": truth["group"], "t2_apparent_ms": truth["t2_apparent_ms"],
        "t2_water_ms": truth["t2_water_ms"], "t2_measured_ms": means[2],
        "error_fit_ms": means[0] - truth["t2_apparent_ms"], "error_alignment_ms": means[1] - means[0],
        "error_headers_ms": _mean(t2_ms, carry(true_mask, carried)) - means[0],
        "error_mask_ms": means[2] - means[1], "error_ms": means[2] - truth["t2_apparent_ms"],
        "water_measured_ms": water_ms, "error_water_ms": water_ms - truth["t2_water_ms"],
        "dice_whole": float(overlap.dice[whole].iloc[0]), "dice_muscles": float(overlap.dice[~whole].mean()),
        "shift_mm": float(np.linalg.norm(np.array(truth["motion"])[:3, 3])),
    }


def mask_effect(out_dir, truth_dir):
    """What the automatic mask does to T2: the same map under the automatic and under the true mask.

    Both masks are those of the structural image, carried to the T2 grid by one transform, so that neither fit nor
    alignment has a part in the difference.

    Parameters
    ----------
    out_dir, truth_dir : path
        As for `error_by_stage`.

    Returns
    -------
    pandas.DataFrame
        Rows of `mrmyo.evaluate` on the T2 grid, with ``subject`` and ``group``.
    """
    out, truth_dir = Path(out_dir), Path(truth_dir)
    truth = json.loads((truth_dir / "truth.json").read_text())
    carried, true_mask = read_nifti(out / "labels_t2.nii.gz"), read_nifti(truth_dir / "labels_in_phase.nii.gz")
    transform = np.array(json.loads((out / "alignment.json").read_text(encoding="utf-8"))["transform"])
    rows = evaluate(carried, carry(true_mask, carried, transform=transform), t2=read_t2map(out / "T2map.nii.gz"))
    return rows.assign(subject=truth["subject"], group=truth["group"])[["subject", "group", *rows.columns]]


def mask_tolerances(rows):
    """The effect of the automatic mask on T2 over subjects, beside the goals of the project.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `mask_effect`, of many subjects.

    Returns
    -------
    pandas.DataFrame
        One row per muscle (its sides apart, as they are measured) and for the whole muscle of both thighs:
        ``n_subjects``, ``n`` differences, their ``mean_ms``, ``mean_absolute_ms``, ``largest_ms`` (absolute), the mean
        ``dice``, ``goal_ms`` for the mean absolute difference (0.35 whole, 0.7 per muscle), ``within_goal``; and
        ``n_missing`` differences that there are not, because the automatic mask has nothing.
    """
    import pandas as pd

    rows = rows[(rows.level == "all") & ((rows.muscle != WHOLE_MUSCLE) | (rows.side == "both"))]
    found = []
    for (muscle, short), part in rows.groupby(["muscle", "abbreviation"], sort=False):
        delta = part.delta_t2_ms.abs()
        goal = GOAL_WHOLE_MS if muscle == WHOLE_MUSCLE else GOAL_MUSCLE_MS
        found.append({"muscle": muscle, "abbreviation": short, "n_subjects": part.subject.nunique(),
                      "n": int(delta.notna().sum()), "n_missing": int(delta.isna().sum()),
                      "mean_ms": part.delta_t2_ms.mean(), "mean_absolute_ms": delta.mean(), "largest_ms": delta.max(),
                      "dice": part.dice.mean(), "goal_ms": goal, "within_goal": bool(delta.mean() <= goal)})
    return pd.DataFrame(found)


def _mean(t2_ms, labels):
    return float(np.nanmean(t2_ms.array[is_muscle(labels.array)], dtype=float))


def tolerances(errors):
    """Mean and SD of every part of the error by group, beside the goals of the project.

    Parameters
    ----------
    errors : pandas.DataFrame
        One row of `error_by_stage` per subject.

    Returns
    -------
    pandas.DataFrame
        One row per group (and 'all', and 'IIM minus HC') with ``n``, ``<part>_mean`` and ``<part>_sd`` in ms, the
        Dice coefficients, and ``within_goal``: |mean| ≤ 0.3 ms and SD ≤ 0.4 ms; None where too few.
        ``water_within_goal`` holds water T2 (against the tissue's) to the same; its error is no part of the others.
    """
    import pandas as pd

    rows = []
    for name, part in [*errors.groupby("group"), ("all", errors)]:
        row = {"group": name, "n": len(part)}
        for stage in STAGES:
            row[f"{stage[:-3]}_mean_ms"] = part[stage].mean()
            row[f"{stage[:-3]}_sd_ms"] = part[stage].std() if len(part) > 1 else np.nan
        row |= {"dice_whole": part.dice_whole.mean(), "dice_muscles": part.dice_muscles.mean()}
        for word in ("", "water_"):
            good = (abs(row[f"error_{word}mean_ms"]) <= GOAL_MEAN_MS and row[f"error_{word}sd_ms"] <= GOAL_SD_MS)
            row[f"{word}within_goal"] = None if len(part) < 2 or np.isnan(row[f"error_{word}sd_ms"]) else bool(good)
        rows.append(row)
    by_group = {row["group"]: row for row in rows}
    if {"IIM", "HC"} <= set(by_group):
        enough = min(by_group[name]["n"] for name in ("IIM", "HC")) > 1
        row = {"group": "IIM minus HC", "n": len(errors)}
        for word in ("", "water_"):
            gap = by_group["IIM"][f"error_{word}mean_ms"] - by_group["HC"][f"error_{word}mean_ms"]
            told = enough and not np.isnan(gap)
            row |= {f"error_{word}mean_ms": gap, f"{word}within_goal": bool(abs(gap) <= GOAL_MEAN_MS) if told else None}
        rows.append(row)
    return pd.DataFrame(rows)
