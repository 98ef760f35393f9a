"""A ROC curve free of covariates: each patient compared with controls of the same age, sex or scanner."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mrmyo.stats.columns import (
    StatsError,
    categories_or_numbers,
    numbers,
    require_columns,
    require_count,
    require_one_row_per_subject,
    require_share,
    values_in_words,
)
from mrmyo.stats.diagnostic import _samples

__all__ = ["adjusted_roc", "adjusted_roc_points"]

ENOUGH = 10  # negatives for each term of the model


def adjusted_roc(table, *, score="t2_ms", group="group", positive="IIM", covariates, n_resamples=500, seed=0,
                 level=0.95) -> pd.DataFrame:
    """Area under the covariate-adjusted ROC curve: how well a score tells positives from negatives like them.

    Where the score depends on a covariate in which the groups differ, the plain curve shows the covariate too.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows that lack the score, the group or a covariate are left out and counted.
    score, group : str
        The columns of the numbers and of the two groups.
    positive
        The value of `group` that the score should detect by being high.
    covariates : str or list of str
        Columns of numbers, which enter the model linearly, and of texts, categories or truth values, which enter as
        categories.
    n_resamples, seed : int
        Of the bootstrap: positives and negatives apart, the model fitted anew each time. A resample whose negatives
        cannot support the model is drawn again.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: n_positive, n_negative, n_missing, covariates, auc (unadjusted, of the same subjects), adjusted_auc,
        adjusted_auc_low, adjusted_auc_high (percentiles), difference (adjusted minus unadjusted), method, and ``note``:
        fewer than ten negatives for each term, positives beyond the negatives' range of a covariate (there the model
        extrapolates), categories with fewer than two negatives, resamples drawn again, or why there is no interval.

    Raises
    ------
    StatsError
        As `mrmyo.stats.roc`, and when the model cannot be estimated from the negatives: more terms than negatives
        less two, a covariate constant among them or told by others, a category of a positive that no negative has, or
        no spread left in the score.

    Notes
    -----
    Janes and Pepe, Biometrika 2009; 96:371, with a linear model of the score in the negatives: the placement value of a
    positive is the share of the negatives' standardised residuals above its own (ties half), the curve at t the share
    of positives with a placement value of at most t, and its area 1 less the mean placement value. The model takes the
    spread about the line for the same everywhere and the effect of the covariates on the score for linear; the curve
    is one for all covariate values. In samples simulated from that model with one covariate and 20 to 100 negatives the
    95 % interval held the true area in 93 to 94 of 100, a little less often than it promises.
    """
    require_count("n_resamples", n_resamples, 20)
    require_share("level", level)
    names, pos, neg, n_missing, notes = _parts(table, covariates, score, group, positive)
    placed = _placed(pos, neg)
    adjusted, plain = float(1 - placed.mean()), float(1 - _above(pos[0], neg[0]).mean())
    low, high = _limits(pos, neg, n_resamples, seed, level, notes)
    return pd.DataFrame([{
        "n_positive": len(pos[0]), "n_negative": len(neg[0]), "n_missing": n_missing, "covariates": ", ".join(names),
        "auc": plain, "adjusted_auc": adjusted, "adjusted_auc_low": low, "adjusted_auc_high": high,
        "difference": adjusted - plain,
        "method": f"Janes–Pepe, linear model in the negatives; bootstrap by group, percentiles of {n_resamples} "
                  f"resamples, {level:.0%}",
        "note": " ".join(notes),
    }])


def adjusted_roc_points(table, *, score="t2_ms", group="group", positive="IIM", covariates) -> pd.DataFrame:
    """The corners of the covariate-adjusted ROC curve, a staircase: parameters and errors as of :func:`adjusted_roc`.

    Returns
    -------
    pandas.DataFrame
        fpr and tpr from (0, 0) to (1, 1), two rows for each placement value: below its step and on it. Straight lines
        from row to row draw the curve, and the area beneath them is the adjusted area.
    """
    _, pos, neg, _, _ = _parts(table, covariates, score, group, positive)
    steps, counts = np.unique(_placed(pos, neg), return_counts=True)
    reached = np.cumsum(counts) / counts.sum()
    fpr = np.concatenate([[0.0], np.repeat(steps, 2), [1.0]])
    tpr = np.concatenate([[0.0, 0.0], np.repeat(reached, 2)])
    return pd.DataFrame({"fpr": fpr, "tpr": tpr}).drop_duplicates(ignore_index=True)


def _parts(table, covariates, score, group, positive):
    """The covariates' names, score and design matrix of positives and of negatives, the rows left out, and warnings."""
    names = [covariates] if isinstance(covariates, str) else list(covariates)
    if not names:
        raise StatsError("Found no covariate; expected one at least. Without any, use `roc`.")
    require_columns(table, score, group, *names)
    require_one_row_per_subject(table)
    _, _, negative, _ = _samples(table, score, group, positive)
    values = numbers(table, score)
    columns = [categories_or_numbers(table, name) for name in names]
    kept = ~np.isnan(values) & table[group].notna().to_numpy()
    for column in columns:
        kept &= ~pd.isna(column)
    sick = ~table[group].isin([negative]).to_numpy()
    is_pos, is_neg = kept & sick, kept & ~sick
    n, m = int(is_neg.sum()), int(is_pos.sum())
    if not (m and n):
        raise StatsError(f"Found {m} rows of {positive!r} and {n} of the others with a score and {', '.join(names)}; "
                         "expected some of each.")
    blocks, notes = [np.ones((len(table), 1))], []
    for name, column in zip(names, columns, strict=True):
        terms = _categories if column.dtype == object else _linear
        blocks.append(terms(table[name], column, is_pos, is_neg, notes))
    design = np.column_stack(blocks)
    k = design.shape[1] - 1
    if k > n - 2:
        raise StatsError(f"Found {n} complete negatives for {k} terms of {', '.join(names)}; expected {k + 2} at least."
                         " Leave covariates out or merge categories.")
    if np.linalg.matrix_rank(design[is_neg], tol=1e-8) <= k:
        raise StatsError(f"Among the negatives some of the covariates {names} tell the others; leave one out.")
    if n < ENOUGH * k:
        notes.insert(0, f"{n} negatives for {k} terms: fewer than ten for each, the model is uncertain.")
    order = np.lexsort((*design.T, values))  # a seed gives the same numbers whatever the order of rows
    pos, neg = ((values[rows], design[rows]) for rows in (order[is_pos[order]], order[is_neg[order]]))
    if _placed(pos, neg) is None:
        raise StatsError(f"The covariates {names} leave no spread in {score!r} among the negatives; expected some.")
    return names, pos, neg, int((~kept).sum()), notes


def _linear(given, column, is_pos, is_neg, notes):
    """One centred and scaled column."""
    name, seen = given.name, column[is_neg]
    if not seen.size or np.ptp(seen) == 0:
        raise StatsError(f"Covariate {name!r} is the same in all {seen.size} complete negatives; leave it out.")
    low, high = seen.min(), seen.max()
    beyond = int(((column[is_pos] < low) | (column[is_pos] > high)).sum())
    if beyond:
        notes.append(f"{name}: {beyond} of {int(is_pos.sum())} positives lie outside the negatives' {low:g} to "
                     f"{high:g}, where the model extrapolates.")
    return ((column - seen.mean()) / seen.std())[:, None]


def _categories(given, column, is_pos, is_neg, notes):
    """A column of zeros and ones for each category of the negatives but the first."""
    name = given.name
    found = sorted(set(column[is_neg]), key=str)
    if len(found) < 2:
        raise StatsError(f"Covariate {name!r} is the same in all {int(is_neg.sum())} complete negatives; leave it out.")
    only = sorted(set(column[is_pos]) - set(found), key=str)
    if only:
        raise StatsError(f"Column {name!r} holds {values_in_words(given, only)} among the positives but in no complete "
                         "negative; expected every category among the negatives. Merge categories or leave those "
                         "positives out.")
    for value in sorted(set(column[is_pos]), key=str):
        if (column[is_neg] == value).sum() < 2:
            notes.append(f"{name}: a single negative stands for {value!r}.")
    return np.column_stack([column == value for value in found[1:]]).astype(float)


def _placed(pos, neg):
    """Placement values of the positives; None where the negatives cannot support the model or are fitted exactly."""
    (y_pos, x_pos), (y_neg, x_neg) = pos, neg
    coefficients, _, rank, _ = np.linalg.lstsq(x_neg, y_neg, rcond=1e-9)
    if rank < x_neg.shape[1]:
        return None
    rest = y_neg - x_neg @ coefficients
    spread = np.sqrt(rest @ rest / max(len(y_neg) - rank, 1))
    if spread <= 1e-10 * np.abs(y_neg).max():
        return None
    own = y_pos - x_pos @ coefficients
    return _above(*(np.round(part / spread, 8) for part in (own, rest)))  # ties that arithmetic tore are ties again


def _above(own, others):
    """For each value the share of the others above it, ties half."""
    others = np.sort(others)
    return 1 - (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / (2 * others.size)


def _limits(pos, neg, n_resamples, seed, level, notes):
    """Percentiles of the adjusted area over resamples of both groups."""
    m, n = len(pos[0]), len(neg[0])
    if m < 2:
        notes.append(f"{m} positive: the bootstrap needs two.")
        return np.nan, np.nan
    rng, areas, again = np.random.default_rng(seed), [], 0
    while len(areas) < n_resamples:
        rows, others = rng.integers(m, size=m), rng.integers(n, size=n)
        placed = _placed([part[rows] for part in pos], [part[others] for part in neg])
        if placed is not None:
            areas.append(1 - placed.mean())
            continue
        again += 1
        if again > 20 * n_resamples:
            notes.append(f"{again} resamples of {again + len(areas)} could not support the model: no interval.")
            return np.nan, np.nan
    if again:
        notes.append(f"{again} resamples whose negatives could not support the model were drawn again.")
    if np.ptp(areas) < 1e-12:
        notes.append("All resamples give the same area: no interval.")
        return np.nan, np.nan
    low, high = np.percentile(areas, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
