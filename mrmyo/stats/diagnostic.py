"""How well a number tells patients from controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, numbers, require_columns, require_one_row_per_subject
from mrmyo.stats.groups import METHOD, rank_sum_test

__all__ = ["roc", "roc_points"]

THRESHOLDS = ("midpoint", "observed")


def roc(table, *, score="t2_ms", group="group", positive="IIM", cutoff="youden", threshold="midpoint") -> pd.DataFrame:
    """Area under the ROC curve, cutoff, sensitivity and specificity, each with its 95 % confidence interval.

    A subject is called positive when the score is at or above the cutoff.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without a score or a group are left out and counted.
    score, group : str
        The columns of the numbers and of the two groups.
    positive
        The value of ``group`` that the score should detect by being high.
    cutoff : "youden" or float
        The cutoff that maximises sensitivity + specificity − 1 (of several, the lowest), or a given one, in the unit of
        the score.
    threshold : "midpoint" or "observed"
        Whether candidate cutoffs lie midway between neighbouring scores (as in SPSS and pROC) or on the scores.

    Returns
    -------
    pandas.DataFrame
        One row: score, positive, negative, n_positive, n_negative, n_missing, auc, auc_low, auc_high, auc_method, p,
        p_method, cutoff, cutoff_method, sensitivity, sensitivity_low, sensitivity_high, true_positive, specificity,
        specificity_low, specificity_high, true_negative, and ``note``: in words, why a number is NaN.

    Raises
    ------
    StatsError
        When the table cannot answer: a column is missing or no number, the positive value is absent, there are not
        two groups, a subject comes twice, or T2 in milliseconds looks like seconds.

    Notes
    -----
    AUC and its variance: DeLong et al. 1988 (Biometrics 44:837) by the midranks of Sun and Xu 2014 (IEEE Signal Process
    Lett 21:1389), clipped to 0–1. Proportions: Clopper and Pearson 1934 (Biometrika 26:404). The p value is the
    Mann–Whitney test of AUC = 0.5.
    """
    if threshold not in THRESHOLDS:
        raise StatsError(f"Found threshold={threshold!r}; expected one of {THRESHOLDS}.")
    pos, neg, negative, n_missing = _samples(table, score, group, positive)
    notes = []
    auc, low, high = _delong(pos, neg, notes)
    _, _, p = rank_sum_test(pos, neg)
    if np.isnan(p):
        notes.append("All scores are equal: no test and no cutoff.")
    cut, method = _cutoff(pos, neg, cutoff, threshold, notes)
    row = {
        "score": score, "positive": positive, "negative": negative,
        "n_positive": pos.size, "n_negative": neg.size, "n_missing": n_missing,
        "auc": auc, "auc_low": low, "auc_high": high, "auc_method": "DeLong",
        "p": p, "p_method": f"{METHOD}, no continuity correction",
        "cutoff": cut, "cutoff_method": method,
    }
    rates = _proportion("sensitivity", "true_positive", pos >= cut)
    rates |= _proportion("specificity", "true_negative", neg < cut)
    row |= rates if np.isfinite(cut) else dict.fromkeys(rates, np.nan)
    return pd.DataFrame([{**row, "note": " ".join(notes)}])


def roc_points(table, *, score="t2_ms", group="group", positive="IIM", threshold="midpoint") -> pd.DataFrame:
    """The ROC curve's corners: threshold, fpr and tpr from (0, 0) to (1, 1); parameters as in :func:`roc`.

    The first threshold is infinite (nobody is called positive), the last minus infinity (everybody is).
    """
    if threshold not in THRESHOLDS:
        raise StatsError(f"Found threshold={threshold!r}; expected one of {THRESHOLDS}.")
    pos, neg, _, _ = _samples(table, score, group, positive)
    cuts = np.concatenate([[np.inf], _candidates(pos, neg, threshold)[::-1], [-np.inf]])
    sensitivity, specificity = _rates(pos, neg, cuts)
    return pd.DataFrame({"threshold": cuts, "fpr": 1 - specificity, "tpr": sensitivity})


def _samples(table, score, group, positive):
    """The scores of positives and of negatives, the other group's name, and how many rows lacked something."""
    require_columns(table, score, group)
    require_one_row_per_subject(table)
    values = numbers(table, score)
    found = table[group].dropna().unique().tolist()
    if positive not in found:
        raise StatsError(f"Found no {positive!r} in column {group!r}; it holds {found[:10]}. Set positive= to one.")
    if len(found) != 2:
        raise StatsError(f"Column {group!r} holds {found[:10]}; expected exactly two groups. Select two first.")
    negative = next(name for name in found if name != positive)
    kept = ~np.isnan(values) & table[group].notna().to_numpy()
    pos, neg = (values[kept & table[group].isin([name]).to_numpy()] for name in (positive, negative))
    if not (pos.size and neg.size):
        raise StatsError(
            f"Found {pos.size} scores of {positive!r} and {neg.size} of {negative!r}; expected at least one of each."
        )
    return pos, neg, negative, int((~kept).sum())


def _delong(pos, neg, notes):
    m, n = pos.size, neg.size
    ranks = stats.rankdata(np.concatenate([pos, neg]))
    v10 = (ranks[:m] - stats.rankdata(pos)) / n
    v01 = 1 - (ranks[m:] - stats.rankdata(neg)) / m
    auc = float(v10.mean())
    if auc < 0.5:
        notes.append("AUC below 0.5: the score is lower in the positive group.")
    if m < 2 or n < 2:
        notes.append(f"{m} positive and {n} negative: DeLong's interval needs two of each.")
        return auc, np.nan, np.nan
    se = np.sqrt(v10.var(ddof=1) / m + v01.var(ddof=1) / n)
    if se < 1e-12:
        notes.append("DeLong's variance is zero: no interval for the AUC.")
        return auc, np.nan, np.nan
    low, high = np.clip(auc + stats.norm.ppf([0.025, 0.975]) * se, 0, 1)
    return auc, float(low), float(high)


def _candidates(pos, neg, threshold):
    """Cutoffs in ascending order that split the sample in all possible ways, but for calling all or none positive."""
    observed = np.unique(np.concatenate([pos, neg]))
    return (observed[:-1] + observed[1:]) / 2 if threshold == "midpoint" else observed[1:]


def _rates(pos, neg, cuts):
    sensitivity = 1 - np.searchsorted(np.sort(pos), cuts, side="left") / pos.size
    specificity = np.searchsorted(np.sort(neg), cuts, side="left") / neg.size
    return sensitivity, specificity


def _cutoff(pos, neg, cutoff, threshold, notes):
    if isinstance(cutoff, (int, float, np.number)) and not isinstance(cutoff, bool):
        if not np.isfinite(cutoff):
            raise StatsError(f"Found cutoff={cutoff}; expected a finite number in the unit of the score, or 'youden'.")
        return float(cutoff), "given"
    if cutoff != "youden":
        raise StatsError(f"Found cutoff={cutoff!r}; expected 'youden' or a number in the unit of the score.")
    cuts = _candidates(pos, neg, threshold)
    method = f"Youden, {threshold}"
    if cuts.size == 0:
        return np.nan, method
    youden = sum(_rates(pos, neg, cuts)) - 1
    best = np.flatnonzero(youden > youden.max() - 1e-12)
    if youden.max() <= 1e-12:
        notes.append("No cutoff does better than chance.")
        return np.nan, method
    if best.size > 1:
        notes.append(f"{best.size} cutoffs share the highest Youden index; the lowest is given.")
    return float(cuts[best[0]]), method


def _proportion(name, count, right):
    k, n = int(right.sum()), right.size
    low = stats.beta.ppf(0.025, k, n - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return {name: k / n, f"{name}_low": float(low), f"{name}_high": float(high), count: k}
