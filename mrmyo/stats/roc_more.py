"""More of a ROC curve: two curves compared, a part of the area, what a cutoff is worth, and how much of it is luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import (
    StatsError,
    in_order,
    is_number,
    numbers,
    require_columns,
    require_count,
    require_share,
    values_in_words,
)
from mrmyo.stats.diagnostic import _candidates, _rates, _samples

__all__ = ["compare_roc", "partial_auc", "predictive_values", "roc_stability"]


def compare_roc(table, *, scores=None, by=None, score="t2_ms", group="group", positive="IIM") -> pd.DataFrame:
    """Whether two areas under ROC curves differ, by DeLong's test.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    scores : (str, str), optional
        Two columns of the same subjects: the areas are compared as pairs, over subjects that have both.
    by : str, optional
        In their place a column that parts the subjects in two: the areas of `score` in both parts, unpaired; numbers
        come by size, categories in the order that the column has them, all else by text.
    score, group : str
    positive
        As for `mrmyo.stats.roc`.

    Returns
    -------
    pandas.DataFrame
        One row: first, second, auc_1, auc_2, difference (first minus second), low, high (95 %), statistic, df (infinite
        for pairs), p, n, n_missing, method, note.

    Raises
    ------
    StatsError
        As `mrmyo.stats.roc`, and when not exactly one of `scores` and `by` is given or `by` has not two values.

    Notes
    -----
    DeLong et al., Biometrics 1988; 44:837; unpaired with Welch's degrees of freedom, as pROC does.
    """
    if (scores is None) == (by is None):
        raise StatsError("Give either scores=(first, second), of the same subjects, or by=, a column that parts them "
                         "in two.")
    if scores is not None:
        if isinstance(scores, str) or len(scores) != 2 or scores[0] == scores[1]:
            raise StatsError(f"Found scores={scores!r}; expected two different columns: scores=(first, second).")
        names = first, second = tuple(scores)
        require_columns(table, first, second, group)
        for name in names:  # the whole table, so that a message names the table's rows
            _samples(table, name, group, positive)
        kept = ~(np.isnan(numbers(table, first)) | np.isnan(numbers(table, second))) & table[group].notna().to_numpy()
        parts = _parts(table, [(name, kept) for name in names], group, positive)
        n_missing = int((~kept).sum())
    else:
        require_columns(table, by, score, group)
        _samples(table, score, group, positive)
        values = in_order(table[by])
        if len(values) != 2:
            raise StatsError(f"Column {by!r} holds {values_in_words(table[by])}; expected exactly two values.")
        parts = _parts(table, [(score, table[by].isin([value]).to_numpy()) for value in values], group, positive)
        names = tuple(f"{by} {value}" for value in values)
        n_missing = len(table) - sum(pos.size + neg.size for pos, neg in parts)
    placed = [_placements(pos, neg) for pos, neg in parts]
    aucs = [float(v10.mean()) for v10, _ in placed]
    difference = aucs[0] - aucs[1]
    row = {"first": names[0], "second": names[1], "auc_1": aucs[0], "auc_2": aucs[1], "difference": difference,
           "low": np.nan, "high": np.nan, "statistic": np.nan, "df": np.inf, "p": np.nan, "n_missing": n_missing,
           "n": sum(part.size for part in (parts[0] if scores is not None else [*parts[0], *parts[1]])),
           "method": f"DeLong, {'paired' if scores is not None else 'unpaired'}", "note": ""}
    if scores is not None:
        variance = sum((one - other).var(ddof=1) / one.size for one, other in zip(*placed, strict=True))
    else:
        of_each = [sum(v.var(ddof=1) / v.size for v in pair) for pair in placed]
        variance = sum(of_each)
        sizes = [sum(part.size for part in pair) for pair in parts]
        if variance > 0:
            row["df"] = variance**2 / sum(v**2 / (size - 1) for v, size in zip(of_each, sizes, strict=True))
    if variance < 1e-24:
        return pd.DataFrame([{**row, "note": "no variance: the two rank the subjects alike, or without any error"}])
    se = float(np.sqrt(variance))
    spread = stats.norm if np.isinf(row["df"]) else stats.t(row["df"])
    half = spread.ppf(0.975) * se
    return pd.DataFrame([{**row, "low": difference - half, "high": difference + half, "statistic": difference / se,
                          "p": float(2 * spread.sf(abs(difference / se)))}])


def partial_auc(table, *, min_specificity=0.9, score="t2_ms", group="group", positive="IIM") -> pd.DataFrame:
    """The part of the area under a ROC curve where the specificity is high.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    min_specificity : float
        From 0 (the whole area) to below 1.
    score, group : str
    positive
        As for `mrmyo.stats.roc`.

    Returns
    -------
    pandas.DataFrame
        One row: n_positive, n_negative, n_missing, min_specificity, partial_auc (the area itself, at most 1 −
        min_specificity), standardised (0.5 for chance, 1 at best; McClish, Med Decis Making 1989; 9:190), method. Below
        chance the standardised area is no share: it may fall beneath 0 and is only good to tell that it is below 0.5.

    Raises
    ------
    StatsError
        As `mrmyo.stats.roc`, and for a specificity outside 0 to 1.
    """
    if not (is_number(min_specificity) and 0 <= min_specificity < 1):
        raise StatsError(f"Found min_specificity={min_specificity!r}; expected 0 to below 1.")
    pos, neg, _, n_missing = _samples(table, score, group, positive)
    cuts = np.concatenate([[np.inf], np.unique(np.concatenate([pos, neg]))[::-1], [-np.inf]])
    tpr, specificity = _rates(pos, neg, cuts)
    fpr, most = 1 - specificity, 1 - min_specificity
    inside = fpr <= most
    end = np.interp(most, fpr, tpr)  # where several share an fpr, the last and highest
    x, y = np.append(fpr[inside], most), np.append(tpr[inside], end)
    area = float(np.trapezoid(y, x))
    least = most**2 / 2
    return pd.DataFrame([{"n_positive": pos.size, "n_negative": neg.size, "n_missing": n_missing,
                          "min_specificity": min_specificity, "partial_auc": area,
                          "standardised": 0.5 * (1 + (area - least) / (most - least)),
                          "method": f"trapezoids, specificity {min_specificity:g} to 1"}])


def predictive_values(table, *, cutoff, prevalence, score="t2_ms", group="group", positive="IIM") -> pd.DataFrame:
    """What a result at a cutoff says of a patient, where the disease has a given prevalence.

    The groups of a study say nothing of the prevalence: it has to be stated.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    cutoff : float
        At or above it the result is positive.
    prevalence : float
        Above 0 and below 1, among those who are tested.
    score, group : str
    positive
        As for `mrmyo.stats.roc`.

    Returns
    -------
    pandas.DataFrame
        One row: cutoff, prevalence, sensitivity, specificity, lr_positive, lr_negative, ppv, npv, each of the last four
        with ``_low`` and ``_high`` (95 %), n_missing, method, note. Where a cell is empty half a subject is added to
        each cell for the intervals, and the note says so; where nobody is positive, or nobody negative, what such a
        result would say is NaN, with a note.

    Raises
    ------
    StatsError
        As `mrmyo.stats.roc`, and when cutoff or prevalence is none.

    Notes
    -----
    Likelihood ratios by logarithms (Simel et al., J Clin Epidemiol 1991; 44:763), predictive values by logits at a
    known prevalence (Mercaldo et al., Stat Med 2007; 26:2170).
    """
    if not (is_number(cutoff) and np.isfinite(cutoff)):
        raise StatsError(f"Found cutoff={cutoff!r}; expected a number in the unit of the score.")
    require_share("prevalence", prevalence)
    pos, neg, _, n_missing = _samples(table, score, group, positive)
    hits, rejections = int((pos >= cutoff).sum()), int((neg < cutoff).sum())
    sensitivity, specificity = hits / pos.size, rejections / neg.size
    empty = min(hits, pos.size - hits, rejections, neg.size - rejections) == 0
    add = 0.5 if empty else 0.0
    a, n_1, d, n_0 = hits + add, pos.size + 2 * add, rejections + add, neg.size + 2 * add
    se, sp = a / n_1, d / n_0
    z = stats.norm.ppf(0.975)
    row = {"cutoff": float(cutoff), "prevalence": prevalence, "sensitivity": sensitivity, "specificity": specificity}
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = {"lr_positive": np.divide(sensitivity, 1 - specificity),
               "lr_negative": np.divide(1 - sensitivity, specificity)}
    for name, ratio, parts in (("lr_positive", se / (1 - sp), (1 / a - 1 / n_1, 1 / (n_0 - d) - 1 / n_0)),
                               ("lr_negative", (1 - se) / sp, (1 / (n_1 - a) - 1 / n_1, 1 / d - 1 / n_0))):
        half = z * np.sqrt(sum(parts))
        low, high, value = ratio * np.exp(-half), ratio * np.exp(half), float(raw[name])
        row |= _with_limits(name, value, low, high)  # to 0 or without end
    odds = prevalence / (1 - prevalence)
    ppv = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    npv = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    spread_p = np.sqrt((1 - se) / se / n_1 + sp / (1 - sp) / n_0)
    spread_n = np.sqrt(se / (1 - se) / n_1 + (1 - sp) / sp / n_0)
    for name, (true, false), logit, spread in (("ppv", ppv, np.log(odds * se / (1 - sp)), spread_p),
                                               ("npv", npv, np.log(sp / (1 - se) / odds), spread_n)):
        value = true / (true + false) if true + false > 0 else np.nan
        low, high = (float(1 / (1 + np.exp(-(logit + way * z * spread)))) for way in (-1, 1))
        row |= _with_limits(name, value, low, high)
    called = hits + neg.size - rejections
    notes = ["half a subject added to every cell for the intervals"] * empty
    notes += ["nobody is at or above the cutoff: no lr_positive and no ppv"] * (called == 0)
    notes += ["everybody is at or above the cutoff: no lr_negative and no npv"] * (called == pos.size + neg.size)
    return pd.DataFrame([{**row, "n_missing": n_missing, "method": "log and logit intervals, 95 %",
                          "note": "; ".join(notes)}])


def roc_stability(table, *, n_resamples=2000, seed=0, score="t2_ms", group="group", positive="IIM",
                  level=0.95) -> pd.DataFrame:
    """How far Youden's cutoff wanders, and how much better it looks in its own sample than in another.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    n_resamples, seed : int
        Of the bootstrap, patients and controls apart.
    score, group : str
    positive
        As for `mrmyo.stats.roc`.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: auc, auc_low, auc_high (percentiles), cutoff, cutoff_low, cutoff_high (percentiles), sensitivity,
        specificity (apparent), youden, optimism (how much Youden's index of a resample's own cutoff exceeds what that
        cutoff gives in the sample; Efron 1983; in fifteen and fifteen subjects about six tenths of what another sample
        takes away), youden_corrected, loo_sensitivity, loo_specificity (each subject called by the cutoff that all
        others choose: nested, for none has a part in its own), n_resamples, n_missing, method.

    Raises
    ------
    StatsError
        As `mrmyo.stats.roc`, and when a group has fewer than three subjects, no cutoff does better than chance, or an
        option is out of range.
    """
    require_count("n_resamples", n_resamples)
    require_share("level", level)
    pos, neg, _, n_missing = _samples(table, score, group, positive)
    pos, neg = np.sort(pos), np.sort(neg)  # a seed gives the same numbers whatever the order of rows
    if min(pos.size, neg.size) < 3:
        raise StatsError(f"Found {pos.size} and {neg.size} subjects; expected three of each at least to resample.")
    cut, apparent = _best(pos, neg)
    if apparent <= 1e-12:
        raise StatsError("No cutoff does better than chance; there is nothing whose stability could be told.")
    rng = np.random.default_rng(seed)
    cuts, aucs, excess = np.empty(n_resamples), np.empty(n_resamples), np.empty(n_resamples)
    for k in range(n_resamples):
        p, n = rng.choice(pos, pos.size), rng.choice(neg, neg.size)
        cuts[k], own = _best(p, n)
        aucs[k] = _placements(p, n)[0].mean()
        excess[k] = own - (sum(_rates(pos, neg, np.array([cuts[k]])))[0] - 1 if np.isfinite(cuts[k]) else 0)
    tails = [50 * (1 - level), 50 * (1 + level)]
    auc_low, auc_high = np.percentile(aucs, tails)
    known = cuts[np.isfinite(cuts)]
    cutoff_low, cutoff_high = np.percentile(known, tails) if known.size else (np.nan, np.nan)
    sensitivity, specificity = (float(rate[0]) for rate in _rates(pos, neg, np.array([cut])))
    called = [np.mean([value >= _best(np.delete(pos, i), neg)[0] for i, value in enumerate(pos)]),
              np.mean([value < _best(pos, np.delete(neg, i))[0] for i, value in enumerate(neg)])]
    return pd.DataFrame([{
        "auc": float(_placements(pos, neg)[0].mean()), "auc_low": auc_low, "auc_high": auc_high, "cutoff": cut,
        "cutoff_low": cutoff_low, "cutoff_high": cutoff_high, "sensitivity": sensitivity, "specificity": specificity,
        "youden": apparent, "optimism": excess.mean(), "youden_corrected": apparent - excess.mean(),
        "loo_sensitivity": float(called[0]), "loo_specificity": float(called[1]), "n_resamples": n_resamples,
        "n_missing": n_missing, "method": f"bootstrap by group, percentiles, {level:.0%}; leave one out",
    }])


def _parts(table, chosen, group, positive):
    """Scores of positives and negatives for each column and mask of rows; the rest counts as missing."""
    masked = [(name, table.assign(**{name: np.where(rows, numbers(table, name), np.nan)})) for name, rows in chosen]
    if any((table[name].notna() & table[group].isin([value])).sum() < 2 for name, table in masked
           for value in table[group].dropna().unique().tolist()):
        raise StatsError("Found fewer than two subjects of a group; DeLong's test needs two of each.")
    return [_samples(table, name, group, positive)[:2] for name, table in masked]


def _with_limits(name, value, low, high):
    none = np.isnan(value)
    return {name: value, f"{name}_low": np.nan if none else min(low, value),
            f"{name}_high": np.nan if none else max(high, value)}


def _placements(pos, neg):
    """For every positive the share of negatives below it, for every negative that of positives above (ties by half)."""
    ranks = stats.rankdata(np.concatenate([pos, neg]))
    m, n = pos.size, neg.size
    return (ranks[:m] - stats.rankdata(pos)) / n, 1 - (ranks[m:] - stats.rankdata(neg)) / m


def _best(pos, neg):
    """Youden's cutoff, midway between two scores (of several the lowest), and its index; NaN where all are tied."""
    cuts = _candidates(pos, neg, "midpoint")
    if not cuts.size:
        return np.nan, 0.0
    youden = sum(_rates(pos, neg, cuts)) - 1
    best = int(np.flatnonzero(youden > youden.max() - 1e-12)[0])
    return float(cuts[best]), float(youden[best])
