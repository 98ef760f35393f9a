"""Readers and repeats: intraclass correlations, weighted kappa, and the smallest change that is more than chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, numbers, require_columns

__all__ = ["icc", "repeatability", "weighted_kappa"]

ICC_KINDS = {
    "ICC1": "one rating, raters differ by subject", "ICC2": "one rating, raters a sample, absolute agreement",
    "ICC3": "one rating, these raters, consistency", "ICC1k": "mean rating, raters differ by subject",
    "ICC2k": "mean rating, raters a sample, absolute agreement", "ICC3k": "mean rating, these raters, consistency",
}


def icc(table, *, subject="subject", rater="rater", score="score", level=0.95) -> pd.DataFrame:
    """The six intraclass correlations of a complete table of ratings.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject and rater.
    subject, rater, score : str
        The columns. Subjects that lack a rating by any rater are left out and counted.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row for each of ICC1, ICC2, ICC3 (Shrout and Fleiss, Psychol Bull 1979; 86:420) and their likes for mean
        ratings: type, icc, icc_low, icc_high (McGraw and Wong, Psychol Methods 1996; 1:30), f, df1, df2, p (of no
        correlation), n_subjects, n_raters, n_missing, method, note.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, somebody rated a subject twice, or fewer than two subjects or raters
        are left.
    """
    ratings, n_missing = _matrix(table, subject, rater, score)
    n, k = ratings.shape
    rows, columns = ratings.mean(axis=1, keepdims=True), ratings.mean(axis=0, keepdims=True)
    grand = ratings.mean()
    between = k * ((rows - grand) ** 2).sum() / (n - 1)
    within = ((ratings - rows) ** 2).sum() / (n * (k - 1))
    raters = n * ((columns - grand) ** 2).sum() / (k - 1)
    error = ((ratings - rows - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    told = {"n_subjects": n, "n_raters": k, "n_missing": n_missing}
    if between + within == 0:
        none = dict.fromkeys(("icc", "icc_low", "icc_high", "f", "df1", "df2", "p"), np.nan)
        note = "all ratings are the same: no correlation is defined"
        return pd.DataFrame([{"type": kind, **none, **told, "method": meaning, "note": note}
                             for kind, meaning in ICC_KINDS.items()])
    with np.errstate(divide="ignore", invalid="ignore"):
        f_one, f_two = between / within, between / error
        single = {"ICC1": (between - within) / (between + (k - 1) * within),
                  "ICC2": (between - error) / (between + (k - 1) * error + k * (raters - error) / n),
                  "ICC3": (between - error) / (between + (k - 1) * error)}
        mean = {"ICC1k": (between - within) / between, "ICC2k": (between - error) / (between + (raters - error) / n),
                "ICC3k": (between - error) / between}
        one, two = (_f_limits(f, n - 1, df2, level) for f, df2 in ((f_one, n * (k - 1)), (f_two, (n - 1) * (k - 1))))
        absolute = _absolute_limits(single["ICC2"], between, raters, error, n, k, level)
        limits = {
            "ICC1": [(f - 1) / (f + k - 1) for f in one], "ICC2": absolute,
            "ICC3": [(f - 1) / (f + k - 1) for f in two], "ICC1k": [1 - 1 / f for f in one],
            "ICC2k": [k * v / (1 + (k - 1) * v) for v in absolute], "ICC3k": [1 - 1 / f for f in two],
        }
    found = []
    for kind, meaning in ICC_KINDS.items():
        f, df2 = (f_one, n * (k - 1)) if kind.startswith("ICC1") else (f_two, (n - 1) * (k - 1))
        low, high = limits[kind]
        found.append({"type": kind, "icc": {**single, **mean}[kind], "icc_low": low, "icc_high": high, "f": f,
                      "df1": n - 1, "df2": df2, "p": float(stats.f.sf(f, n - 1, df2)), **told, "method": meaning,
                      "note": ""})
    return pd.DataFrame(found)


def weighted_kappa(table, *, first, second, weights="quadratic", categories=None, level=0.95) -> pd.DataFrame:
    """Cohen's kappa of two readers on one scale, near misses counted in part.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    first, second : str
        The columns of both readers.
    weights : {"quadratic", "linear", "none"}
    categories : list, optional
        The scale in its order; what occurs, sorted, when None.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: n, n_missing, agreement (the share of equal ratings), kappa, kappa_low, kappa_high (normal, with the
        standard error of Fleiss, Cohen and Everitt, Psychol Bull 1969; 72:323), se, method, note.

    Raises
    ------
    StatsError
        When a column is missing, the weights are unknown, a rating is not on the scale, or no pair is left.
    """
    require_columns(table, first, second)
    if weights not in ("quadratic", "linear", "none"):
        raise StatsError(f"Found weights={weights!r}; expected 'quadratic', 'linear' or 'none'.")
    kept = table[first].notna() & table[second].notna()
    pairs = table.loc[kept, [first, second]]
    if pairs.empty:
        raise StatsError(f"Found no row with both {first!r} and {second!r}; expected one at least.")
    scale = sorted(set(pairs[first]) | set(pairs[second])) if categories is None else list(categories)
    off = sorted(map(str, (set(pairs[first]) | set(pairs[second])) - set(scale)))
    if off:
        raise StatsError(f"Found the ratings {off[:8]}, which are not on the scale {scale}.")
    place = {value: position for position, value in enumerate(scale)}
    n, m = len(pairs), len(scale)
    shares = np.zeros((m, m))
    np.add.at(shares, (pairs[first].map(place), pairs[second].map(place)), 1 / n)
    row = {"n": n, "n_missing": int((~kept).sum()), "agreement": float(np.trace(shares)), "kappa": np.nan,
           "kappa_low": np.nan, "kappa_high": np.nan, "se": np.nan, "note": "",
           "method": f"Cohen's kappa, weights: {weights}"}
    away = np.abs(np.subtract.outer(np.arange(m), np.arange(m))) / max(m - 1, 1)
    weight = {"quadratic": 1 - away**2, "linear": 1 - away, "none": (away == 0).astype(float)}[weights]
    by_first, by_second = shares.sum(axis=1), shares.sum(axis=0)
    chance = np.outer(by_first, by_second)
    seen, expected = (weight * shares).sum(), (weight * chance).sum()
    if np.isclose(expected, 1):
        return pd.DataFrame([{**row, "note": "both readers gave one and the same rating: no kappa is defined"}])
    kappa = (seen - expected) / (1 - expected)
    mean_weight = (weight @ by_second)[:, None] + (by_first @ weight)[None, :]
    spread = (shares * (weight * (1 - expected) - mean_weight * (1 - seen)) ** 2).sum() \
        - (seen * expected - 2 * expected + seen) ** 2
    se = float(np.sqrt(max(spread, 0) / n) / (1 - expected) ** 2)
    half = stats.norm.ppf(0.5 + level / 2) * se
    low, high = kappa - half, min(kappa + half, 1.0)
    return pd.DataFrame([{**row, "kappa": kappa, "kappa_low": low, "kappa_high": high, "se": se}])


def repeatability(table, *, subject="subject", score="t2_ms", level=0.95) -> pd.DataFrame:
    """How far two measurements of one subject may lie apart by chance.

    Parameters
    ----------
    table : pandas.DataFrame
        Repeated measurements: one row each, two or more of every subject, in any number.
    subject, score : str
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: n_subjects, n_measurements, n_single (subjects with one measurement, left out), within_sd,
        within_sd_low, within_sd_high (chi-square), coefficient (1.96 √2 within_sd: two measurements differ by less in
        95 of 100 pairs; Bland and Altman, BMJ 1996; 312:1654), with its limits; and so the smallest change of one
        subject that is more than chance.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, or no subject was measured twice.
    """
    require_columns(table, subject, score)
    if "muscle" in table.columns and table["muscle"].nunique() > 1:
        raise StatsError(f"Found {table['muscle'].nunique()} muscles; repeats are of one. Choose a muscle first.")
    values = numbers(table, score)
    kept = ~np.isnan(values) & table[subject].notna().to_numpy()
    groups = pd.Series(values[kept]).groupby(table[subject].to_numpy()[kept])
    sizes = groups.size()
    repeated = sizes[sizes > 1].index
    if repeated.empty:
        raise StatsError(f"Found no {subject!r} with two values of {score!r}; expected repeated measurements.")
    df = int((sizes[repeated] - 1).sum())
    squares = float(sum(((part - part.mean()) ** 2).sum() for name, part in groups if name in repeated))
    sd = np.sqrt(squares / df)
    low, high = (np.sqrt(squares / stats.chi2.ppf(q, df)) for q in (0.5 + level / 2, 0.5 - level / 2))
    factor = stats.norm.ppf(0.975) * np.sqrt(2)
    return pd.DataFrame([{
        "n_subjects": len(repeated), "n_measurements": int(sizes[repeated].sum()), "n_single": int((sizes == 1).sum()),
        "within_sd": sd, "within_sd_low": low, "within_sd_high": high, "coefficient": factor * sd,
        "coefficient_low": factor * low, "coefficient_high": factor * high,
        "method": f"within-subject SD, {df} df, {level:.0%}", "note": "",
    }])


def _matrix(table, subject, rater, score):
    """Ratings of complete subjects, (n_subjects, n_raters), and how many subjects were left out."""
    require_columns(table, subject, rater, score)
    values = numbers(table, score)
    frame = pd.DataFrame({"s": table[subject].to_numpy(), "r": table[rater].to_numpy(), "v": values})
    twice = int(frame.dropna(subset=["s", "r"]).duplicated(["s", "r"]).sum())
    if twice:
        raise StatsError(f"Found {twice} second ratings of a subject by one rater; expected one row per subject and "
                         "rater.")
    wide = frame.pivot(index="s", columns="r", values="v")
    complete = wide.dropna()
    if complete.shape[0] < 2 or complete.shape[1] < 2:
        raise StatsError(f"Found {complete.shape[0]} subjects rated by all of {complete.shape[1]} raters; expected two "
                         "of each at least.")
    return complete.to_numpy(float), len(wide) - len(complete)


def _f_limits(f, df1, df2, level):
    quantile = 0.5 + level / 2
    return f / stats.f.ppf(quantile, df1, df2), f * stats.f.ppf(quantile, df2, df1)


def _absolute_limits(value, between, raters, error, n, k, level):
    """The interval of ICC2, which has no exact one (McGraw and Wong, table 7)."""
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * raters + b * error) ** 2 / ((a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    quantile = 0.5 + level / 2
    low, high = stats.f.ppf(quantile, n - 1, v), stats.f.ppf(quantile, v, n - 1)
    rest = k * raters + (k * n - k - n) * error
    return [n * (between - low * error) / (low * rest + n * between),
            n * (high * between - error) / (rest + n * high * between)]
