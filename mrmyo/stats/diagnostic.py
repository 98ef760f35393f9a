"""How well a number tells patients from controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special, stats

from mrmyo.stats.columns import (
    StatsError,
    numbers,
    rare_groups,
    require_columns,
    require_count,
    require_one_row_per_subject,
    values_in_words,
)
from mrmyo.stats.cutoffs import _candidates, _check_cutoff, _cutoff, _rates
from mrmyo.stats.groups import METHOD, rank_sum_test

__all__ = ["roc", "roc_points"]

THRESHOLDS = ("midpoint", "observed")
INTERVALS = ("delong", "logit", "bootstrap")


def roc(table, *, score="t2_ms", group="group", positive="IIM", cutoff="youden", threshold="midpoint", cost_ratio=None,
        prevalence=None, min_specificity=None, interval="delong", n_resamples=2000, seed=0) -> pd.DataFrame:
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
    cutoff : {"youden", "closest", "cost", "specificity"} or float
        The cutoff that maximises sensitivity + specificity − 1, that is closest to the corner (0, 1) of the curve, that
        costs least, or that has the highest sensitivity of those that are specific enough (of several, the highest); or
        a given one, in the unit of the score.
    threshold : "midpoint" or "observed"
        Whether candidate cutoffs lie midway between neighbouring scores (as in SPSS and pROC) or on the scores.
    cost_ratio, prevalence : float, optional
        For "cost" alone, which needs both: the cost of a false positive over that of a false negative (below 1 where
        a missed patient is worse), and the share of patients among those who are to be tested.
    min_specificity : float, optional
        For "specificity" alone, which needs it: above 0 and at most 1.
    interval : {"delong", "logit", "bootstrap"}
        Of the area: DeLong's, the same variance carried to the logit scale (for areas near 1, where DeLong's leaves
        0–1 and is clipped), or percentiles of resamples, patients and controls apart.
    n_resamples, seed : int
        Of the bootstrap.

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
        two groups, a subject comes twice, or T2 in milliseconds looks like seconds; and when an option is unknown, out
        of range, missing for the cutoff asked for, or without use for it.

    Notes
    -----
    AUC and its variance: DeLong et al. 1988 (Biometrics 44:837) by the midranks of Sun and Xu 2014 (IEEE Signal Process
    Lett 21:1389), clipped to 0–1; on the logit scale as in Pepe 2003 (The Statistical Evaluation of Medical Tests,
    chapter 5). Proportions: Clopper and Pearson 1934 (Biometrika 26:404). The p value is the Mann–Whitney test of
    AUC = 0.5.

    The least cost is the highest sensitivity − r (1 − specificity) with r = (1 − prevalence) / prevalence × cost_ratio
    (Perkins and Schisterman 2006, Am J Epidemiol 163:670). pROC's ``best.weights = c(1 / cost_ratio, prevalence)`` is
    the same: it asks for the cost of a false negative over that of a false positive.
    """
    if threshold not in THRESHOLDS:
        raise StatsError(f"Found threshold={threshold!r}; expected one of {THRESHOLDS}.")
    if interval not in INTERVALS:
        raise StatsError(f"Found interval={interval!r}; expected one of {INTERVALS}.")
    require_count("n_resamples", n_resamples, 20)
    options = {"cost_ratio": cost_ratio, "prevalence": prevalence, "min_specificity": min_specificity}
    _check_cutoff(cutoff, options)
    pos, neg, negative, n_missing = _samples(table, score, group, positive)
    notes = []
    auc, low, high = _area(pos, neg, interval, n_resamples, seed, notes)
    _, _, p = rank_sum_test(pos, neg)
    if np.isnan(p):
        notes.append("All scores are equal: no test and no cutoff.")
    cut, method = _cutoff(pos, neg, cutoff, threshold, options, notes)
    auc_method = {"delong": "DeLong", "logit": "DeLong, logit scale",
                  "bootstrap": f"bootstrap by group, percentiles of {n_resamples} resamples"}[interval]
    row = {
        "score": score, "positive": positive, "negative": negative,
        "n_positive": pos.size, "n_negative": neg.size, "n_missing": n_missing,
        "auc": auc, "auc_low": low, "auc_high": high, "auc_method": auc_method,
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
    found, words = table[group].dropna().unique().tolist(), values_in_words(table[group])
    if positive not in found:
        raise StatsError(f"Found no {positive!r} in column {group!r}; it holds {words}. Set positive= to one.")
    if len(found) != 2:
        raise StatsError(f"Column {group!r} holds {words}; expected exactly two groups. Select two first"
                         f"{rare_groups(table[group])}.")
    positive, negative = sorted(found, key=lambda name: name != positive)  # in its words: True may be 1
    kept = ~np.isnan(values) & table[group].notna().to_numpy()
    pos, neg = (values[kept & table[group].isin([name]).to_numpy()] for name in (positive, negative))
    if not (pos.size and neg.size):
        raise StatsError(
            f"Found {pos.size} scores of {positive!r} and {neg.size} of {negative!r}; expected at least one of each."
        )
    return pos, neg, negative, int((~kept).sum())


def _area(pos, neg, interval, n_resamples, seed, notes):
    m, n = pos.size, neg.size
    ranks = stats.rankdata(np.concatenate([pos, neg]))
    v10 = (ranks[:m] - stats.rankdata(pos)) / n
    v01 = 1 - (ranks[m:] - stats.rankdata(neg)) / m
    auc = float(v10.mean())
    name = "the bootstrap" if interval == "bootstrap" else "DeLong's interval"
    if auc < 0.5:
        notes.append("AUC below 0.5: the score is lower in the positive group.")
    if m < 2 or n < 2:
        notes.append(f"{m} positive and {n} negative: {name} needs two of each.")
        return auc, np.nan, np.nan
    if interval == "bootstrap":
        return auc, *_resampled(pos, neg, n_resamples, seed, notes)
    if interval == "logit" and min(auc, 1 - auc) < 1e-12:
        notes.append(f"AUC of exactly {auc:.0f}: no interval on the logit scale.")
        return auc, np.nan, np.nan
    se = np.sqrt(v10.var(ddof=1) / m + v01.var(ddof=1) / n)
    if se < 1e-12:
        notes.append("DeLong's variance is zero: no interval for the AUC.")
        return auc, np.nan, np.nan
    z = stats.norm.ppf([0.025, 0.975])
    if interval == "logit":
        low, high = special.expit(special.logit(auc) + z * se / (auc * (1 - auc)))
    else:
        low, high = np.clip(auc + z * se, 0, 1)
    return auc, float(low), float(high)


def _resampled(pos, neg, n_resamples, seed, notes):
    """Percentiles of the area over resamples, drawn in each group; NaN where all of them give the same."""
    pos, neg = np.sort(pos), np.sort(neg)  # a seed gives the same numbers whatever the order of rows
    rng, m, n = np.random.default_rng(seed), pos.size, neg.size
    areas = np.empty(n_resamples)
    for k in range(n_resamples):
        ranks = stats.rankdata(np.concatenate([rng.choice(pos, m), rng.choice(neg, n)]))
        areas[k] = (ranks[:m].sum() - m * (m + 1) / 2) / (m * n)
    if np.ptp(areas) < 1e-12:
        notes.append("All resamples give the same AUC: no interval for the AUC.")
        return np.nan, np.nan
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def _proportion(name, count, right):
    k, n = int(right.sum()), right.size
    low = stats.beta.ppf(0.025, k, n - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return {name: k / n, f"{name}_low": float(low), f"{name}_high": float(high), count: k}
