"""Comparisons between groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, numbers, require_columns, require_one_row_per_subject

__all__ = ["mann_whitney", "rank_sum_test"]

METHOD = "Mann–Whitney, normal approximation, ties corrected"


def mann_whitney(table, *, value="t2_ms", group="group", continuity=False) -> pd.DataFrame:
    """Mann–Whitney U test of two independent groups, by the normal approximation with tie correction.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without a value or a group are left out and counted.
    value, group : str
        The columns of the numbers and of the two groups.
    continuity : bool
        Whether to correct z for continuity. The default, not to, is what SPSS prints; R and SciPy correct.

    Returns
    -------
    pandas.DataFrame
        One row: group_1, group_2 (in sorted order), n_1, n_2, n_missing, median_1, median_2, u (pairs in which group 1
        is the larger, ties half), z (negative: group 1 is lower), p (two-sided), rank_biserial (−1 to 1, the share of
        such pairs less that of the opposite ones), method.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, or there are not exactly two groups.
    """
    require_columns(table, value, group)
    require_one_row_per_subject(table)
    values = numbers(table, value)
    kept = ~np.isnan(values) & table[group].notna().to_numpy()
    names = sorted(table[group][kept].unique().tolist(), key=str)
    if len(names) != 2:
        raise StatsError(f"Column {group!r} holds the groups {names} with a value; expected exactly two.")
    first, second = (values[kept & table[group].isin([name]).to_numpy()] for name in names)
    u, z, p = rank_sum_test(first, second, continuity=continuity)
    return pd.DataFrame([{
        "group_1": names[0], "group_2": names[1], "n_1": first.size, "n_2": second.size,
        "n_missing": int((~kept).sum()), "median_1": np.median(first), "median_2": np.median(second),
        "u": u, "z": z, "p": p, "rank_biserial": 2 * u / (first.size * second.size) - 1,
        "method": METHOD + (", continuity correction" if continuity else ", no continuity correction"),
    }])


def rank_sum_test(first, second, *, continuity=False) -> tuple[float, float, float]:
    """U of the first sample, its z and the two-sided p; z and p are NaN where all values are tied."""
    n_1, n_2 = len(first), len(second)
    ranks = stats.rankdata(np.concatenate([first, second]))
    u = float(ranks[:n_1].sum() - n_1 * (n_1 + 1) / 2)
    n = n_1 + n_2
    _, ties = np.unique(ranks, return_counts=True)
    variance = n_1 * n_2 / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1)))
    if variance <= 0:
        return u, np.nan, np.nan
    shift = u - n_1 * n_2 / 2
    if continuity:
        shift = np.sign(shift) * max(abs(shift) - 0.5, 0.0)
    z = float(shift / np.sqrt(variance))
    return u, z, float(2 * stats.norm.sf(abs(z)))
