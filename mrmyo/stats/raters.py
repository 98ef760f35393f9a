"""Readers and repeats: intraclass correlations, weighted kappa, and the smallest change that is more than chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mrmyo.stats.columns import StatsError, is_number, numbers, require_columns, require_share, values_in_words

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
        The columns. Subjects that lack a rating by any rater are left out and counted, and so are rows without a
        subject or a rater.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row for each of ICC1, ICC2, ICC3 (Shrout and Fleiss, Psychol Bull 1979; 86:420) and their likes for mean
        ratings: type, icc, icc_low, icc_high (McGraw and Wong, Psychol Methods 1996; 1:30), f, df1, df2, p (of no
        correlation), n_subjects, n_raters, n_missing, method, note: why something is NaN. Without differences between
        subjects, or without error, some correlations and all such intervals are not defined.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, somebody rated a subject twice, fewer than two subjects or raters
        are left, or the level is out of range.
    """
    require_share("level", level)
    ratings, n_missing = _matrix(table, subject, rater, score)
    n, k = ratings.shape
    rows, columns = ratings.mean(axis=1, keepdims=True), ratings.mean(axis=0, keepdims=True)
    grand = ratings.mean()
    between = k * ((rows - grand) ** 2).sum() / (n - 1)
    within = ((ratings - rows) ** 2).sum() / (n * (k - 1))
    raters = n * ((columns - grand) ** 2).sum() / (k - 1)
    error = ((ratings - rows - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    floor = (1e-12 * np.abs(ratings).max()) ** 2  # below it the arithmetic left something of nothing
    between, within, raters, error = (0.0 if square <= floor else square for square in (between, within, raters, error))
    told = {"n_subjects": n, "n_raters": k, "n_missing": n_missing}
    if between + within == 0:
        none = dict.fromkeys(("icc", "icc_low", "icc_high", "f", "df1", "df2", "p"), np.nan)
        note = "all ratings are the same: no correlation is defined"
        return pd.DataFrame([{"type": kind, **none, **told, "method": meaning, "note": note}
                             for kind, meaning in ICC_KINDS.items()])
    between, within, raters, error = map(np.float64, (between, within, raters, error))  # 0 divides
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
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
        value, low, high, note = _told({**single, **mean}[kind], *limits[kind], f, kind.endswith("k"))
        found.append({"type": kind, "icc": value, "icc_low": low, "icc_high": high, "f": f, "df1": n - 1, "df2": df2,
                      "p": float(stats.f.sf(f, n - 1, df2)), **told, "method": meaning, "note": note})
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
        The scale in its order. When None, that of pandas categories, which both columns then share; else what occurs,
        sorted.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row: n, n_missing, agreement (the share of equal ratings), kappa, kappa_low, kappa_high (normal, with the
        standard error of Fleiss, Cohen and Everitt, Psychol Bull 1969; 72:323), se, method, note.

    Raises
    ------
    StatsError
        When a column is missing or the same, an option is unknown or out of range, the scale has no order or a rating
        is not on it, or no pair is left.
    """
    require_share("level", level)
    require_columns(table, first, second)
    if first == second:
        raise StatsError(f"Found first and second both {first!r}; expected the columns of two readers.")
    if weights not in ("quadratic", "linear", "none"):
        raise StatsError(f"Found weights={weights!r}; expected 'quadratic', 'linear' or 'none'.")
    kept = table[first].notna() & table[second].notna()
    pairs = table.loc[kept, [first, second]].astype(object)
    if pairs.empty:
        raise StatsError(f"Found no row with both {first!r} and {second!r}; expected one at least.")
    scale = _scale(table, pairs) if categories is None else list(categories)
    for name in (first, second):
        off = sorted(map(str, set(pairs[name]) - set(scale)))
        if off:
            raise StatsError(f"Column {name!r} holds {values_in_words(table[name], off)}, not on the scale "
                             f"{scale[:20]}.")
    place = {value: position for position, value in enumerate(scale)}
    n, m = len(pairs), len(scale)
    shares = np.zeros((m, m))
    np.add.at(shares, (pairs[first].map(place), pairs[second].map(place)), 1 / n)
    row = {"n": n, "n_missing": int((~kept).sum()), "agreement": float(np.trace(shares)), "kappa": np.nan,
           "kappa_low": np.nan, "kappa_high": np.nan, "se": np.nan, "note": "",
           "method": f"Cohen's kappa, weights: {weights}"}
    away = np.abs(np.subtract.outer(np.arange(m), np.arange(m))) / max(m - 1, 1)
    loss = {"quadratic": away**2, "linear": away, "none": (away > 0).astype(float)}[weights]  # 1 less the weight
    by_first, by_second = shares.sum(axis=1), shares.sum(axis=0)
    chance = np.outer(by_first, by_second)
    seen, expected = (loss * shares).sum(), (loss * chance).sum()
    if expected == 0:
        return pd.DataFrame([{**row, "note": "both readers gave one and the same rating: no kappa is defined"}])
    kappa = 1 - seen / expected
    mean_loss = (loss @ by_second)[:, None] + (by_first @ loss)[None, :]
    parts = loss - mean_loss * seen / expected  # in losses, which a long scale makes small, not in weights, near 1
    spread = (shares * (parts + seen) ** 2).sum()  # the mean of the parts is less what was seen
    se = float(np.sqrt(spread / n) / expected)
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
        When a column is missing or not numeric, no subject was measured twice, or the level is out of range.
    """
    require_share("level", level)
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
    """Ratings of complete subjects, (n_subjects, n_raters), and how many subjects and nameless rows were left out."""
    require_columns(table, subject, rater, score)
    values = numbers(table, score)
    frame = pd.DataFrame({"s": table[subject].to_numpy(object), "r": table[rater].to_numpy(object), "v": values})
    named = frame.dropna(subset=["s", "r"])
    twice = int(named.duplicated(["s", "r"]).sum())
    if twice:
        raise StatsError(f"Found {twice} second ratings of a subject by one rater; expected one row per subject and "
                         "rater.")
    wide = named.pivot(index="s", columns="r", values="v")
    complete = wide.dropna()
    if complete.shape[0] < 2 or complete.shape[1] < 2:
        raise StatsError(f"Found {complete.shape[0]} subjects rated by all of {complete.shape[1]} raters; expected two "
                         "of each at least.")
    return complete.to_numpy(float), len(wide) - len(complete) + len(frame) - len(named)


def _told(value, low, high, f, of_means):
    """An intraclass correlation and its limits, NaN where there is none, and why."""
    if not np.isfinite(value) or value > 1 or (value < -1 and not of_means):
        return np.nan, np.nan, np.nan, "the means of the subjects do not differ enough: no such correlation is defined"
    if f == 0 or np.isnan(f):
        return value, np.nan, np.nan, "the means of the subjects do not differ: no interval is defined"
    if value == 1 or not np.isfinite([low, high]).all():
        return value, np.nan, np.nan, "no error is left: no interval is defined"
    return value, low, high, ""


def _scale(table, pairs):
    """The ratings of two columns in the order of their categories, or sorted."""
    orders = [table[name].cat for name in pairs if isinstance(table[name].dtype, pd.CategoricalDtype)]
    scales = [order.categories.tolist() for order in orders]
    seen = set(pairs.to_numpy().ravel())
    if scales and all(scale == scales[0] for scale in scales) and seen <= set(scales[0]):
        return scales[0]
    if any(order.ordered for order in orders):
        raise StatsError(f"The columns {list(pairs)} do not share one ordered scale; give it in categories=.")
    if not (all(isinstance(value, str) for value in seen)
            or all(is_number(value) or isinstance(value, (bool, np.bool_)) for value in seen)):
        raise StatsError(f"The columns {list(pairs)} hold ratings of several kinds, such as numbers and texts; make "
                         "them alike, or give the scale in categories=.")
    return sorted(seen)


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
