"""What errors of measurement do to a verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, numbers, require_columns, require_count, require_share
from mrmyo.stats.correlation import _pairs, p_of_correlation

__all__ = ["verdict_flips"]


def verdict_flips(table, *, x, y="t2_ms", sd=None, errors=None, alpha=0.05, n_draws=2000, seed=0) -> pd.DataFrame:
    """How often a rank correlation would cross the level of significance, had y been measured with other errors.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without either number are left out and counted.
    x, y : str
        The columns; y is the one that was measured with error.
    sd : str, optional
        A column with the SD of the error of y: normal errors are drawn.
    errors : array, optional
        In its place errors that were seen, in the unit of y: each subject gets one of them at random.
    alpha : float
    n_draws, seed : int

    Returns
    -------
    pandas.DataFrame
        One row: x, y, n, n_missing, r, p (Student's t), r_low, r_high (between which r lies in 95 of 100 draws),
        share_significant (of the draws), flips (share of the draws whose verdict is not that of the table), n_draws,
        method, note: in how many draws all y are equal, so that there is no r; they count as not significant.

    Raises
    ------
    StatsError
        As `mrmyo.stats.spearman`, and when not exactly one of `sd` and `errors` is given, one is negative, missing or
        not finite, or an option is out of range.
    """
    if (sd is None) == (errors is None):
        raise StatsError("Give either sd=, a column with the SD of every error, or errors=, some that were seen.")
    require_share("alpha", alpha)
    require_count("n_draws", n_draws)
    a, b, n_missing = _pairs(table, x, y)
    n = len(a)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise StatsError(f"Column {x if np.ptp(a) == 0 else y!r} is constant; there is no correlation that could flip.")
    rng = np.random.default_rng(seed)
    if sd is not None:
        require_columns(table, sd)
        spread = numbers(table, sd)[~(np.isnan(numbers(table, x)) | np.isnan(numbers(table, y)))]
        if np.isnan(spread).any() or (spread < 0).any():
            raise StatsError(f"Column {sd!r} lacks {int(np.isnan(spread).sum())} values and has "
                             f"{int((spread < 0).sum())} below 0; expected the SD of the error of every subject.")
        drawn, how = rng.standard_normal((n_draws, n)) * spread, f"normal errors of the SD in {sd}"
    else:
        try:
            seen = np.asarray(errors, dtype=float)
        except (TypeError, ValueError):
            seen = np.empty(0)
        if seen.ndim != 1 or not seen.size or not np.isfinite(seen).all():
            raise StatsError("Found errors that are no list of finite numbers; leave missing ones out.")
        drawn, how = rng.choice(seen, (n_draws, n)), f"{seen.size} errors that were seen, at random"
    ranks = stats.rankdata(a)
    moved = stats.rankdata(b + drawn, axis=1)
    ranks, moved = ranks - ranks.mean(), moved - moved.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a draw of equal values has no correlation
        r = np.clip(moved @ ranks / np.sqrt((ranks @ ranks) * (moved**2).sum(axis=1)), -1, 1)
    of_table = float(stats.spearmanr(a, b).statistic)
    p = p_of_correlation(of_table, n)
    significant = np.array([p_of_correlation(one, n) < alpha for one in r])
    known = r[~np.isnan(r)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    note = f"in {n_draws - known.size} draws all values of {y} are equal: no correlation, counted as not significant"
    return pd.DataFrame([{
        "x": x, "y": y, "n": n, "n_missing": n_missing, "r": of_table, "p": p, "r_low": float(low),
        "r_high": float(high), "share_significant": float(significant.mean()),
        "flips": float((significant != (p < alpha)).mean()), "n_draws": n_draws, "method": f"Spearman, {how}",
        "note": note if known.size < n_draws else "",
    }])
