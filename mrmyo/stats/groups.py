"""Comparisons between groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import (
    StatsError,
    in_order,
    is_number,
    numbers,
    rare_groups,
    require_columns,
    require_one_row_per_subject,
    require_share,
    values_in_words,
)

__all__ = ["adjust_p", "equivalence", "hodges_lehmann", "mann_whitney", "rank_sum_test"]

METHOD = "Mann–Whitney, normal approximation, ties corrected"
MOST_EXACT = 200  # subjects


def mann_whitney(table, *, value="t2_ms", group="group", continuity=False, exact=False) -> pd.DataFrame:
    """Mann–Whitney U test of two independent groups, by the normal approximation with tie correction, or exact.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without a value or a group are left out and counted.
    value, group : str
        The columns of the numbers and of the two groups.
    continuity : bool
        Whether to correct z for continuity. The default, not to, is what SPSS prints; R and SciPy correct.
    exact : bool
        Whether p is the share of all ways to part these values, ties among them, in which U is as far from its mean:
        for small groups. Of up to 200 subjects.

    Returns
    -------
    pandas.DataFrame
        One row: group_1, group_2 (numbers by size, categories in the order that the column has them, all else by text),
        n_1, n_2, n_missing, median_1, median_2, u (pairs in which group 1 is the larger, ties half), z (negative: group
        1 is lower), p (two-sided), rank_biserial (−1 to 1, the share of such pairs less that of the opposite ones),
        method, note: why there is no p.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, there are not exactly two groups, or too many subjects for `exact`.
    """
    names, (first, second), n_missing = _two_groups(table, value, group)
    u, z, p = rank_sum_test(first, second, continuity=continuity)
    if exact and first.size + second.size > MOST_EXACT:
        raise StatsError(f"Found {first.size + second.size} subjects; all ways to part them are counted of "
                         f"{MOST_EXACT} at most. Leave exact out: the approximation is good for so many.")
    p = _exact_p(first, second) if exact and not np.isnan(p) else p
    method = METHOD + (", continuity correction" if continuity else ", no continuity correction")
    return pd.DataFrame([{
        "group_1": names[0], "group_2": names[1], "n_1": first.size, "n_2": second.size,
        "n_missing": n_missing, "median_1": np.median(first), "median_2": np.median(second),
        "u": u, "z": z, "p": p, "rank_biserial": 2 * u / (first.size * second.size) - 1,
        "method": "Mann–Whitney, exact" if exact else method,
        "note": "all values are equal: no test" if np.isnan(p) else "",
    }])


def hodges_lehmann(table, *, value="t2_ms", group="group", level=0.95) -> pd.DataFrame:
    """How far two groups lie apart: the median of all differences between them, with the interval that goes with U.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without a value or a group are left out and counted.
    value, group : str
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: group_1, group_2 (in the order of `mann_whitney`), n_1, n_2, n_missing, shift (group 1 minus group 2),
        shift_low, shift_high, method, note. Of fewer than fifty in each group without ties the interval is exact;
        otherwise it holds the shifts that `mann_whitney` would not tell from none (Hollander, Wolfe and Chicken,
        Nonparametric Statistical Methods, 4.2–4.3). Where groups are so small, or so tied, that no shift could be told
        from none, the interval has no ends: they are NaN, with a note.

    Raises
    ------
    StatsError
        As `mann_whitney`, and when the level is not above 0 and below 1.
    """
    require_share("level", level)
    names, (first, second), n_missing = _two_groups(table, value, group)
    differences = np.sort(np.subtract.outer(first, second).ravel())
    n_1, n_2 = first.size, second.size
    tied = np.unique(np.concatenate([first, second])).size < n_1 + n_2
    exact, low, high, note = not tied and max(n_1, n_2) < 50, np.nan, np.nan, ""
    if exact:
        at_most = np.cumsum(_u_counts(n_1, n_2))
        at_most = at_most / at_most[-1]
        k = max(int(np.searchsorted(at_most, (1 - level) / 2, side="left")), 1)
        most = 1 - 2 * at_most[0]  # by the range of all differences
        if most < level - 1e-12:
            note = f"too few for a {level:.0%} interval: the range of all differences is one of {most:.1%}"
        else:
            low, high = differences[k - 1], differences[-k]
    else:
        limits = stats.norm.ppf([0.5 + level / 2, 0.5 - level / 2])
        _, apart, _ = rank_sum_test(first - first.min() + 1, second - second.max())  # every value above every other
        if apart < limits[0]:
            note = f"too few or too many ties for a {level:.0%} interval: no shift can be told from none"
        else:
            low, high = (_crossing(first, second, np.unique(differences), limit) for limit in limits)
    return pd.DataFrame([{
        "group_1": names[0], "group_2": names[1], "n_1": n_1, "n_2": n_2, "n_missing": n_missing,
        "shift": float(np.median(differences)), "shift_low": low, "shift_high": high,
        "method": f"Hodges–Lehmann, {'exact' if exact else 'normal approximation'}, {level:.0%}", "note": note,
    }])


def equivalence(table, *, margin, value="t2_ms", group="group", alpha=0.05) -> pd.DataFrame:
    """Whether two groups differ by less than a margin: two one-sided Welch tests.

    A large p of a difference says nothing of "no difference"; this does.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    margin : float
        The difference of means that would matter, in the unit of the value.
    value, group : str
    alpha : float
        Of each of the two tests, below 0.5; the interval is the one of 1 − 2 alpha that belongs to them.

    Returns
    -------
    pandas.DataFrame
        One row: group_1, group_2 (in the order of `mann_whitney`), n_1, n_2, n_missing, difference (of means, group 1
        minus group 2), low, high, margin, p (the larger of the two), equivalent, method.

    Raises
    ------
    StatsError
        As `mann_whitney`, and when the margin is not above 0, alpha is out of range or a group has fewer than two
        values.
    """
    require_share("alpha", alpha)
    if alpha >= 0.5:
        raise StatsError(f"Found alpha={alpha!r}; expected below 0.5, such as 0.05.")
    if not (is_number(margin) and margin > 0):
        raise StatsError(f"Found margin={margin!r}; expected the difference that would matter, above 0.")
    names, (first, second), n_missing = _two_groups(table, value, group)
    if min(first.size, second.size) < 2:
        raise StatsError(f"Found {first.size} and {second.size} values; expected two of each group at least.")
    parts = [part.var(ddof=1) / part.size for part in (first, second)]
    se = float(np.sqrt(sum(parts)))
    difference = float(first.mean() - second.mean())
    row = {"group_1": names[0], "group_2": names[1], "n_1": first.size, "n_2": second.size, "n_missing": n_missing,
           "difference": difference, "low": difference, "high": difference, "margin": float(margin)}
    if se == 0:
        return pd.DataFrame([{**row, "p": float(abs(difference) >= margin), "equivalent": abs(difference) < margin,
                              "method": "no spread in either group"}])
    df = se**4 / sum(part**2 / (values.size - 1) for part, values in zip(parts, (first, second), strict=True))
    p = float(max(stats.t.sf((difference + margin) / se, df), stats.t.cdf((difference - margin) / se, df)))
    half = stats.t.ppf(1 - alpha, df) * se
    return pd.DataFrame([{**row, "low": difference - half, "high": difference + half, "p": p, "equivalent": p < alpha,
                          "method": f"two one-sided Welch tests, {df:.1f} df, {1 - 2 * alpha:.0%} interval"}])


def adjust_p(table, *, p="p", method="holm") -> pd.DataFrame:
    """The p values of a family of tests, adjusted for their number.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per test of the family; rows without p are not counted.
    p : str
    method : {"holm", "bh", "bonferroni"}
        "holm" and "bonferroni" keep the chance of any false finding below the level, "bh" (Benjamini and Hochberg) the
        share of false findings among those found.

    Returns
    -------
    pandas.DataFrame
        The table with ``p_adjusted`` and ``adjustment`` ("Holm, 4 tests").

    Raises
    ------
    StatsError
        When the column is missing, holds no numbers or some outside 0 to 1, or the method is unknown.
    """
    require_columns(table, p)
    known = {"holm": "Holm", "bh": "Benjamini–Hochberg", "bonferroni": "Bonferroni"}
    if method not in known:
        raise StatsError(f"Found method={method!r}; expected one of {', '.join(known)}.")
    values = numbers(table, p)
    kept = ~np.isnan(values)
    if ((values[kept] < 0) | (values[kept] > 1)).any():
        raise StatsError(f"Column {p!r} holds values outside 0 to 1; expected p values.")
    m, adjusted = int(kept.sum()), np.full(len(table), np.nan)
    order = np.argsort(values[kept], kind="stable")
    ranked = values[kept][order]
    if method == "bh":
        stepped = np.minimum.accumulate((ranked * m / np.arange(1, m + 1))[::-1])[::-1]
    else:
        stepped = np.maximum.accumulate(ranked * (m if method == "bonferroni" else np.arange(m, 0, -1)))
    back = np.empty(m)
    back[order] = np.minimum(stepped, 1)
    adjusted[kept] = back
    return table.assign(p_adjusted=adjusted, adjustment=f"{known[method]}, {m} tests")


def _two_groups(table, value, group):
    """Names and values of two groups, and how many rows were left out."""
    require_columns(table, value, group)
    require_one_row_per_subject(table)
    values = numbers(table, value)
    kept = ~np.isnan(values) & table[group].notna().to_numpy()
    names = in_order(table[group][kept])
    if len(names) != 2:
        raise StatsError(f"Column {group!r} holds {values_in_words(table[group], names)} in rows with a value; "
                         f"expected exactly two groups{rare_groups(table[group])}.")
    return names, [values[kept & table[group].isin([name]).to_numpy()] for name in names], int((~kept).sum())


def _crossing(first, second, steps, limit):
    """The shift at which z of the first group, taken back by it, falls below a limit: one of the differences."""
    low, high = 0, len(steps) - 1
    while low < high:  # z falls from step to step
        middle = (low + high) // 2
        beyond = (steps[middle] + steps[middle + 1]) / 2
        _, z, _ = rank_sum_test(first - beyond, second)
        low, high = (low, middle) if z < limit else (middle + 1, high)
    return float(steps[low])


def _u_counts(n_1, n_2):
    """In how many of all orders of n_1 and n_2 untied values U is 0, 1, 2, … (Mann and Whitney 1947)."""
    counts = np.zeros((n_1 + 1, n_1 * n_2 + 1))
    counts[0, 0] = 1
    for j in range(1, n_1 + n_2 + 1):  # the product formula of the Gaussian binomial, one factor at a time
        for i in range(min(j, n_1), 0, -1):
            counts[i, j - i:] += counts[i - 1, : counts.shape[1] - (j - i)] if j - i >= 0 else 0
    return counts[n_1]


def _exact_p(first, second) -> float:
    """The share of all ways to choose the first group in which its sum of midranks is as far from the mean."""
    ranks = np.rint(2 * stats.rankdata(np.concatenate([first, second]))).astype(int)  # midranks are halves
    n, total = len(first), int(ranks.sum())
    ways = np.zeros((n + 1, total + 1))  # of choices of k of the values so far, the share with each sum
    ways[0, 0] = 1
    for j, rank in enumerate(ranks, start=1):
        last = np.minimum(np.arange(1, n + 1)[:, None] / j, 1)  # the chance that a choice of k of j holds the last one
        moved = ways[:-1, : total + 1 - rank] * last
        ways[1:] *= 1 - last
        ways[1:, rank:] += moved
    mean = n * (len(ranks) + 1)  # of the doubled sum
    off = np.abs(np.arange(total + 1) - mean)
    return float(ways[n][off >= abs(int(ranks[:n].sum()) - mean)].sum())


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
