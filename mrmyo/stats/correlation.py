"""Rank correlations: with intervals, by several ways to p, free of covariates, and how many subjects they need."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import (
    StatsError,
    is_number,
    numbers,
    require_columns,
    require_count,
    require_independent,
    require_one_row_per_subject,
    require_share,
)

__all__ = ["correlation_power", "p_of_correlation", "partial_spearman", "spearman"]

METHODS = ("t", "exact", "permutation")
EXACT_MOST = 9  # 362,880 orders
LEAST = 4
IN_ORDER = "every pair in order: no interval is defined"
P_OF_ORDER = "p by Student's t is 0 without meaning"


def spearman(table, *, x, y, method="t", interval="bonett-wright", level=0.95, n_resamples=10_000,
             seed=0) -> pd.DataFrame:
    """Spearman's rank correlation of two columns.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without either number are left out and counted.
    x, y : str
        The columns.
    method : {"t", "exact", "permutation"}
        p by Student's t with n − 2 degrees of freedom (what SPSS prints), by all orders of up to nine subjects, or by
        `n_resamples` random ones. Ties are kept as they are in both.
    interval : {"bonett-wright", "bootstrap"}
        By Fisher's z with the variance (1 + r² / 2) / (n − 3) (Bonett and Wright, Psychometrika 2000; 65:23), or the
        percentiles of resampled subjects.
    level : float
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        One row: x, y, n, n_missing, r, r_low, r_high, p (two-sided), method, interval, note. r and p are NaN where a
        column is constant, with a note; the interval needs four subjects, and is NaN where r is 1 or −1, for which
        Student's t is no test.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, subjects repeat, there are fewer than four pairs, or an option is
        unknown or out of range.
    """
    if method not in METHODS or interval not in ("bonett-wright", "bootstrap"):
        raise StatsError(f"Found method={method!r}, interval={interval!r}; expected one of {', '.join(METHODS)}, and "
                         "'bonett-wright' or 'bootstrap'.")
    require_share("level", level)
    require_count("n_resamples", n_resamples)
    a, b, n_missing = _pairs(table, x, y)
    order = np.lexsort((b, a))  # a seed gives the same numbers whatever the order of rows
    a, b, n = a[order], b[order], len(a)
    row = {"x": x, "y": y, "n": n, "n_missing": n_missing, "r": np.nan, "r_low": np.nan, "r_high": np.nan, "p": np.nan,
           "method": "", "interval": "", "note": ""}
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return pd.DataFrame([{**row, "note": _constant(x if np.ptp(a) == 0 else y)}])
    ranks = stats.rankdata(a), stats.rankdata(b)
    r = _pearson(*ranks)
    rng = np.random.default_rng(seed)
    p, how = _p(r, ranks, method, n_resamples, rng)
    notes = [IN_ORDER] * (abs(r) == 1)
    notes += [f"{P_OF_ORDER}, take method='{'exact' if n <= EXACT_MOST else 'permutation'}'"] * (
        abs(r) == 1 and method == "t")
    if interval == "bootstrap":
        low, high, none = _bootstrap(a, b, level, n_resamples, rng) if abs(r) < 1 else (np.nan, np.nan, 0)
        notes += [f"{none} of {n_resamples} resamples are constant, without a correlation, and left out"] * (none > 0)
        told = f"percentiles of {n_resamples} resamples"
    else:
        low, high = _fisher(r, np.sqrt((1 + r**2 / 2) / (n - 3)), level)
        told = "Bonett–Wright"
    return pd.DataFrame([{**row, "r": r, "r_low": low, "r_high": high, "p": p, "method": f"Spearman, {how}",
                          "interval": f"{told}, {level:.0%}", "note": "; ".join(notes)}])


def partial_spearman(table, *, x, y, covariates, level=0.95) -> pd.DataFrame:
    """Spearman's correlation of two columns, free of what both share with covariates.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows that lack any of the numbers are left out and counted.
    x, y : str
    covariates : list of str
        Columns of numbers.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row as of `spearman`, with ``covariates``: the Pearson correlation of what is left of the ranks of x and y
        after linear regression on the ranks of the covariates, p by Student's t with n − 2 − k degrees of freedom, the
        interval by Fisher's z with n − k in place of n.

    Raises
    ------
    StatsError
        As `spearman`, and when a covariate is constant or its ranks are fixed by those of the others, or the covariates
        leave nothing of x or y.
    """
    require_share("level", level)
    covariates = [covariates] if isinstance(covariates, str) else list(covariates)
    require_columns(table, x, y, *covariates)
    require_one_row_per_subject(table)
    columns = [numbers(table, name) for name in (x, y, *covariates)]
    kept = ~np.isnan(np.array(columns)).any(axis=0)
    n, k = int(kept.sum()), len(covariates)
    if n < LEAST + k:
        raise StatsError(f"Found {n} complete rows for {k} covariates; expected {LEAST + k} at least.")
    ranks = np.array([stats.rankdata(column[kept]) for column in columns])
    row = {"x": x, "y": y, "covariates": ", ".join(covariates), "n": n, "n_missing": len(table) - n, "r": np.nan,
           "r_low": np.nan, "r_high": np.nan, "p": np.nan, "method": "", "interval": "", "note": ""}
    flat = [name for name, rank in zip((x, y), ranks, strict=False) if np.ptp(rank) == 0]
    if flat:
        return pd.DataFrame([{**row, "note": _constant(flat[0])}])
    design = np.column_stack([np.ones(n), *((rank - rank.mean()) / (rank.std() or 1.0) for rank in ranks[2:])])
    require_independent(design, [None, *covariates], 1, "the ranks of the others")
    rest = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    if min(np.linalg.norm(part) for part in rest) < 1e-8 * n:
        raise StatsError(f"The covariates {covariates} explain the ranks of {x!r} or {y!r} altogether; leave one out.")
    r = _pearson(*rest)
    low, high = _fisher(r, np.sqrt((1 + r**2 / 2) / (n - k - 3)), level) if n - k > 3 else (np.nan, np.nan)
    return pd.DataFrame([{
        **row, "r": r, "r_low": low, "r_high": high, "p": p_of_correlation(r, n - k),
        "method": f"partial Spearman, Student's t, {n - 2 - k} df", "interval": f"Bonett–Wright, {level:.0%}",
        "note": f"{IN_ORDER}; {P_OF_ORDER}" if abs(r) == 1 else "",
    }])


def p_of_correlation(r, n) -> float:
    """The two-sided p of a correlation of n pairs by Student's t with n − 2 degrees of freedom; NaN below n = 3."""
    r, n = float(r), float(n)
    if n < 3 or not -1 <= r <= 1:
        return float("nan")
    return 0.0 if abs(r) == 1 else float(2 * stats.t.sf(abs(r) * np.sqrt((n - 2) / (1 - r**2)), n - 2))


def correlation_power(*, r, n=None, power=None, alpha=0.05) -> float:
    """The power to find a correlation with n subjects, or the n that a power asks for, by Fisher's z.

    Parameters
    ----------
    r : float
        The true correlation, not 0.
    n : int, optional
        Four at least.
    power : float, optional
        Above alpha. Give one of the two; the other is returned (n rounded up).
    alpha : float
        Two-sided.

    Raises
    ------
    StatsError
        When r is 0 or beyond ±1, not exactly one of n and power is given, or one is out of range.
    """
    require_share("alpha", alpha)
    if not (is_number(r) and 0 < abs(r) < 1) or (n is None) == (power is None):
        raise StatsError(f"Found r={r!r}, n={n!r}, power={power!r}; expected a correlation between −1 and 1, not 0, "
                         "and one of n and power.")
    if n is not None and not (is_number(n) and LEAST <= n < np.inf):
        raise StatsError(f"Found n={n!r}; expected {LEAST} subjects at least.")
    if power is not None:
        require_share("power", power)
        if power <= alpha:
            raise StatsError(f"Found power={power!r} at alpha={alpha!r}; expected a power above alpha.")
    z, quantile = abs(math.atanh(r)), stats.norm.ppf(1 - alpha / 2)
    if power is not None:
        return float(math.ceil(((quantile + stats.norm.ppf(power)) / z) ** 2 + 3))
    shift = z * math.sqrt(n - 3)
    return float(stats.norm.sf(quantile - shift) + stats.norm.cdf(-quantile - shift))


def _pairs(table, x, y):
    require_columns(table, x, y)
    require_one_row_per_subject(table)
    a, b = numbers(table, x), numbers(table, y)
    kept = ~(np.isnan(a) | np.isnan(b))
    if kept.sum() < LEAST:
        raise StatsError(f"Found {int(kept.sum())} rows with both {x!r} and {y!r}; expected {LEAST} at least.")
    return a[kept], b[kept], int((~kept).sum())


def _pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    r = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return math.copysign(1.0, r) if abs(r) > 1 - 1e-14 else r  # what arithmetic leaves of a perfect order


def _constant(name):
    return f"{name} is constant: no correlation is defined"


def _p(r, ranks, method, n_resamples, rng):
    """p of a correlation of ranks, and how it was found."""
    n = len(ranks[0])
    if method == "t":
        return p_of_correlation(r, n), f"Student's t, {n - 2} df"
    a, b = (rank - rank.mean() for rank in ranks)
    least = abs(a @ b) - 1e-9 * n**3
    if method == "exact":
        if n > EXACT_MOST:
            raise StatsError(f"Found {n} pairs; all orders are gone through of {EXACT_MOST} at most. Take "
                             "method='permutation'.")
        orders = np.array(list(itertools.permutations(range(n))))
        return float((np.abs(b[orders] @ a) >= least).mean()), f"exact, {len(orders)} orders"
    beyond = sum(int((np.abs(rng.permuted(np.tile(b, (size, 1)), axis=1) @ a) >= least).sum())
                 for size in _batches(n_resamples))
    return (beyond + 1) / (n_resamples + 1), f"{n_resamples} random orders"


def _batches(n, size=2000):
    return [size] * (n // size) + ([n % size] if n % size else [])


def _fisher(r, se, level):
    if abs(r) == 1:
        return np.nan, np.nan
    half = stats.norm.ppf(0.5 + level / 2) * se
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _bootstrap(a, b, level, n_resamples, rng):
    """Percentiles of r over resamples, and how many had none."""
    found = []
    for size in _batches(n_resamples):
        chosen = rng.integers(0, len(a), (size, len(a)))
        ranks = [stats.rankdata(part[chosen], axis=1) for part in (a, b)]
        ranks = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
        with np.errstate(invalid="ignore"):  # a resample of one value has no correlation
            spread = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
            found.append((ranks[0] * ranks[1]).sum(axis=1) / spread)
    found = np.concatenate(found)
    known = found[~np.isnan(found)]
    if not known.size:
        return np.nan, np.nan, len(found)
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high), len(found) - known.size
