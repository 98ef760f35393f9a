"""How well two measurements of the same thing agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, in_order, numbers, require_columns

__all__ = ["bland_altman"]

NUMBERS = ("n", "n_missing", "bias", "bias_low", "bias_high", "sd", "loa_low", "loa_high",
           "loa_low_low", "loa_low_high", "loa_high_low", "loa_high_high")


def bland_altman(table, *, measured, reference, by=None) -> pd.DataFrame:
    """Bias and 95 % limits of agreement of measured minus reference.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per pair; rows that lack either number are left out and counted.
    measured, reference : str
        The two columns, in the same unit. (One row per subject makes the intervals valid; several rows of one
        subject, such as muscles, leave bias and limits meaningful but their intervals too narrow.)
    by : str, optional
        A column of groups: one row for each comes before the row "all". Numbers come by size, categories in the order
        that the column has them, all else by text.

    Returns
    -------
    pandas.DataFrame
        A first column of group names (called as ``by``, or "group"), then n, n_missing, bias, bias_low, bias_high, sd,
        loa_low, loa_high, loa_low_low, loa_low_high, loa_high_low, loa_high_high, method, note. With fewer than three
        pairs only the bias is given, the rest is NaN.

    Raises
    ------
    StatsError
        When a column is missing or holds no numbers, `by` is called like a column of the result, or a group "all".

    Notes
    -----
    Bland and Altman 1986 (Lancet 327:307); intervals of the limits by their 1999 formula (Stat Methods Med Res 8:135,
    section 2), with Student's t.
    """
    require_columns(table, measured, reference, *([] if by is None else [by]))
    if by in (*NUMBERS, "method", "note"):
        raise StatsError(f"Found by={by!r}, which is the name of a column of the result; rename it first.")
    difference = numbers(table, measured) - numbers(table, reference)
    if np.isnan(difference).all():
        raise StatsError(f"No row holds both {measured!r} and {reference!r}; expected pairs.")
    name = "group" if by is None else by
    rows = []
    if by is not None:
        groups = in_order(table[by])
        if "all" in groups:
            raise StatsError(f"Column {by!r} holds a group 'all', as the row of all pairs is called; rename it first.")
        for group in groups:
            rows.append({name: group, **_limits(difference[table[by].isin([group]).to_numpy()])})
    rows.append({name: "all", **_limits(difference)})
    return pd.DataFrame(rows)


def _limits(difference):
    kept = difference[~np.isnan(difference)]
    n = kept.size
    row = dict.fromkeys(NUMBERS, np.nan) | {
        "n": n, "n_missing": difference.size - n, "method": "Bland–Altman, 95 %", "note": "",
    }
    if n:
        row["bias"] = kept.mean()
    if n < 3:
        return row | {"note": f"{n} pairs: limits of agreement need at least three."}
    sd, z, t = kept.std(ddof=1), stats.norm.ppf(0.975), stats.t.ppf(0.975, n - 1)
    row["sd"] = sd
    row["bias_low"], row["bias_high"] = row["bias"] + np.array([-1, 1]) * t * sd / np.sqrt(n)
    half = t * sd * np.sqrt(1 / n + z**2 / (2 * (n - 1)))
    for limit, centre in (("loa_low", row["bias"] - z * sd), ("loa_high", row["bias"] + z * sd)):
        row |= {limit: centre, f"{limit}_low": centre - half, f"{limit}_high": centre + half}
    return row
