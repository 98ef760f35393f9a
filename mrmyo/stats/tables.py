"""Table 1 of a paper: who was studied, group by group, as a journal prints it and as numbers."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from mrmyo.stats.baseline import count_levels, p_of_groups
from mrmyo.stats.columns import (
    StatsError,
    in_order,
    numbers,
    require_columns,
    require_one_row_per_subject,
    values_in_words,
)

__all__ = ["table_one", "table_one_values"]

MEAN, MEDIAN, COUNT = "mean ± SD (range)", "median (Q1–Q3)", "n (% of those with a value)"
ALL = "All"
DASH = "–"
MOST_LEVELS = 20  # more are names or remarks, which belong in no table
NUMBER = re.compile(r"\s*[-+−]?\d+([.,]\d+)?([eE][-+]?\d+)?\s*")
SUMMARY = ("mean", "sd", "median", "q1", "q3", "min", "max", "count", "percent")


def table_one(table, *, by="group", columns=None, order=None, median=(), names=None, overall=True,
              tests=False) -> pd.DataFrame:
    """Table 1 of a paper: one row for each number and for each level of a category, one column for each group.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject.
    by : str
        The column of the groups; every row needs one.
    columns : list of str, optional
        What to describe, in this order; all columns but `by` and ``subject`` when None. Numbers are summarised; text,
        true and false, and pandas categories are counted. Codes that are numbers (0 and 1) are numbers, unless made
        categories first (``astype("category")``).
    order : list, optional
        All groups in the order of their columns; sorted, or as the category has them, when None.
    median : list of str
        Columns of numbers to be given as median and quartiles in place of mean and SD.
    names : dict, optional
        What to print for a column: ``{"t2_ms": "T2, ms"}``.
    overall : bool
        Whether a last column holds all subjects.
    tests : bool
        Whether to give p. Not by default: p of a baseline table answers no question of the study (Altman, Statistician
        1985; 34:125), and STROBE advises against it.

    Returns
    -------
    pandas.DataFrame
        Text. variable; level (of a category, else empty); statistic (what the cells hold: "mean ± SD (range)",
        "median (Q1–Q3)" or "n (% of those with a value)": percentages leave missing values out); a column for each
        group with its size in the header ("IIM (n = 64)"); missing ("2 / 0": values that lack, in the order of the
        groups, once for each variable); with `tests` also p and test, the test's name in words, once for each variable.
        A dash stands where there is no value. Numbers have one decimal, more where the largest SD is below 1, none
        where it is 100 or above.

    Raises
    ------
    StatsError
        As `table_one_values`.
    """
    values = table_one_values(table, by=by, columns=columns, order=order, median=median, names=names, overall=overall,
                              tests=tests)
    rows, told = [], set()
    for (variable, level), part in values.groupby(["variable", "level"], sort=False):
        decimals = _decimals(part)
        row = {"variable": variable, "level": level, "statistic": part["statistic"].iloc[0]}
        row |= {f"{cell.group} (n = {cell.n + cell.n_missing})": _text(cell, decimals) for cell in part.itertuples()}
        groups = part.iloc[:-1] if overall else part
        extra = {"missing": " / ".join(map(str, groups["n_missing"]))}
        if tests:
            extra |= {"p": _p_text(part["p"].iloc[0]), "test": part["test"].iloc[0]}
        rows.append(row | (dict.fromkeys(extra, "") if variable in told else extra))
        told.add(variable)
    return pd.DataFrame(rows)


def table_one_values(table, *, by="group", columns=None, order=None, median=(), names=None, overall=True,
                     tests=False) -> pd.DataFrame:
    """The numbers beneath `table_one`.

    Parameters
    ----------
    table, by, columns, order, median, names, overall, tests
        As for `table_one`.

    Returns
    -------
    pandas.DataFrame
        One row for each variable, level and group ("All" last): variable, level, group, n (with a value), n_missing,
        statistic, mean, sd, median, q1, q3 (as R's type 7), min, max, count, percent (of n), smd, note. smd is the
        standardised difference of two groups, the first less the second, the same in all rows of a variable: of numbers
        by the root of the mean variance (Austin, Commun Stat Simul Comput 2009; 38:1228), of categories, without a
        sign, by the covariances of the shares (Yang and Dalton, SAS Global Forum 2012; 335). With `tests` also p and
        test: Mann–Whitney for two groups and Kruskal–Wallis for more; of categories Fisher's exact test for two by two
        and wherever chi-squared would be doubtful (a fifth of the expected counts below 5, or one below 1; Cochran,
        Biometrics 1954; 10:417), else Pearson's chi-squared.

    Raises
    ------
    StatsError
        When a column is missing or named that should not be, a row has no group, a subject comes twice, `order` is not
        the groups, a column holds numbers with a few texts among them ("<5"), numbers written as text, dates, or
        more than 20 different texts, or `median` names what is no number.
    """
    columns, groups, members = _asked(table, by, columns, order, overall)
    median = [median] if isinstance(median, str) else list(median)
    names = dict(names or {})
    unknown = sorted(set(map(str, [*median, *names])) - set(map(str, columns)))
    if unknown:
        raise StatsError(f"median= or names= speaks of {unknown}; expected some of the columns {columns[:20]}.")
    printed = [str(names.get(name, name)) for name in columns]
    if len(set(printed)) < len(printed):
        raise StatsError("Two columns have the same name in print; give each its own in names=.")
    rows = []
    for name, variable in zip(columns, printed, strict=True):
        values, levels = _read(table, name)
        if name in median and levels:
            raise StatsError(f"Column {name!r} holds categories; median= expects columns of numbers.")
        kept = pd.notna(values)
        parts = [values[member & kept] for member in members]
        shared, notes = {"smd": np.nan}, []
        if kept.any() and len(groups) == 2:
            shared["smd"] = _smd_of_counts(count_levels(parts, levels)) if levels else _smd_of_numbers(*parts)
            if np.isnan(shared["smd"]):
                notes.append("too few values or too little spread for a standardised difference")
        if tests:
            shared["p"], shared["test"], note = p_of_groups(parts, levels) if kept.any() else (np.nan, "", "")
            notes += [note] if note else []
        cells = list(zip(map(str, groups), members, parts, strict=True))
        if overall:
            cells.append((ALL, np.ones(len(table), bool), values[kept]))
        statistic = COUNT if levels else MEDIAN if name in median else MEAN
        for level in levels or [""]:
            for group, member, part in cells:
                found, note = _summary(part, level) if levels else _spread(part)
                rows.append({"variable": variable, "level": level, "group": group, "n": part.size,
                             "n_missing": int(member.sum()) - part.size, "statistic": statistic if kept.any() else "",
                             **dict.fromkeys(SUMMARY, np.nan), **found, **shared,
                             "note": "; ".join([*([note] if note else []), *notes])})
    return pd.DataFrame(rows)


def _asked(table, by, columns, order, overall):
    """The columns to describe, the groups in order, and who belongs to each."""
    require_columns(table, by)
    if not table.columns.is_unique:
        raise StatsError("Two columns of the table have the same name; expected each name once.")
    if columns is None:
        columns = [name for name in table.columns if name not in (by, "subject")]
    columns = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    require_columns(table, *columns)
    if not columns or {by, "subject"} & set(columns):
        raise StatsError(f"Found the columns {columns[:20]}; expected at least one, and neither {by!r} nor 'subject'.")
    if table.empty:
        raise StatsError("Found no rows; expected one row per subject.")
    require_one_row_per_subject(table)
    none = np.flatnonzero(table[by].isna()) + 1
    if none.size:
        raise StatsError(f"Found {none.size} rows without {by!r} (rows {_some(none)}); expected a group in every row. "
                         "Give them one or leave them out first.")
    found = table[by].unique().tolist()
    if len(found) > MOST_LEVELS:
        raise StatsError(f"Column {by!r} holds {len(found)} different values; expected {MOST_LEVELS} groups at most.")
    if order is not None:
        order = list(dict.fromkeys(order))
        if set(order) != set(found):
            raise StatsError(f"Found the groups {values_in_words(table[by])} and order={order}; expected the same "
                             "groups in both. Leave out of order= what has no rows, of the table what is not wanted.")
    else:
        order = in_order(table[by])
    if overall and ALL in map(str, order):
        raise StatsError(f"A group is called {ALL!r}, as the column of all subjects is; set overall=False.")
    return columns, order, [table[by].isin([name]).to_numpy() for name in order]


def _read(table, name):
    """A column's values, floats or texts (None where missing), and the levels of a category in their order."""
    column = table[name]
    present = column[column.notna()]
    if present.empty:
        return np.full(len(column), np.nan), []
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [str(level) for level in column.cat.categories if (present == level).any()]
        return _levels(name, column, levels)
    if present.map(lambda value: isinstance(value, (bool, np.bool_))).all():
        return _levels(name, column.map({True: "yes", False: "no"}), [
            text for text, value in (("yes", True), ("no", False)) if (present == value).any()])
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise StatsError(f"Column {name!r} holds dates or times; expected numbers or categories. Compute an age or a "
                         "duration in years or days first.")
    if not pd.api.types.is_numeric_dtype(column):
        good = present.map(lambda value: bool(NUMBER.fullmatch(value)) if isinstance(value, str)
                           else isinstance(value, (int, float, np.number)))
        if good.mean() <= 0.5:
            return _levels(name, column, sorted(set(present.map(str))))
        if not good.all():
            bad = np.flatnonzero(column.notna())[~good.to_numpy()] + 1
            texts = [text for text in sorted(set(present[~good].map(str))) if re.search(r"[\d<>]", text)][:8]
            texts = f"the texts {texts}" if texts else "texts"  # one without digits may be a name
            raise StatsError(f"Column {name!r} holds numbers, but also {texts} (rows {_some(bad)}); expected numbers. "
                             "Turn each into a number or a missing value.")
        if present.map(lambda value: isinstance(value, str)).any():
            raise StatsError(f"Column {name!r} holds numbers written as text; expected numbers or categories. Turn "
                             "them into numbers (pandas.to_numeric), or codes into categories (astype('category')).")
    return numbers(table, name), []


def _levels(name, column, levels):
    if len(levels) > MOST_LEVELS:
        raise StatsError(f"Column {name!r} holds {len(levels)} different texts; expected {MOST_LEVELS} categories at "
                         "most. Group them, or leave it out with columns=.")
    return np.array([str(value) if known else None for value, known in zip(column, column.notna(), strict=True)],
                    dtype=object), levels


def _some(rows):
    return ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")


def _spread(values):
    """What is told of numbers, and a note."""
    values = values.astype(float)
    if not values.size:
        return {}, "no value"
    q1, middle, q3 = np.percentile(values, [25, 50, 75])
    sd = np.nan if values.size == 1 else values.std(ddof=1) if np.ptp(values) else 0.0  # of equal values not 1e-17
    return {"mean": values.mean(), "sd": sd, "median": middle, "q1": q1, "q3": q3, "min": values.min(),
            "max": values.max()}, "" if values.size > 1 else "one value: no SD"


def _summary(texts, level):
    """What is told of one level of a category, and a note."""
    if not texts.size:
        return {"count": 0}, "no value"
    count = int((texts == level).sum())
    return {"count": count, "percent": 100 * count / texts.size}, ""


def _smd_of_numbers(first, second):
    if min(first.size, second.size) < 2:
        return np.nan
    pooled = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    difference = first.mean() - second.mean()
    return float(difference / pooled) if pooled > 1e-12 * max(abs(first.mean()), abs(second.mean()), 1e-300) else np.nan


def _smd_of_counts(counts):
    if (counts.sum(axis=0) == 0).any() or len(counts) < 2:
        return np.nan
    shares = (counts / counts.sum(axis=0))[1:].T
    covariance = sum(np.diag(share) - np.outer(share, share) for share in shares) / 2
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance):
        return np.nan
    difference = shares[0] - shares[1]
    return float(np.sqrt(difference @ np.linalg.solve(covariance, difference)))


def _decimals(part):
    """How many decimals show the largest SD of a variable to about two digits."""
    size = np.nanmax([*part["sd"], 0]) or np.nanmax([*part["mean"].abs(), 0])
    if size == 0:
        return 1
    return 0 if size >= 100 else int(np.clip(1 - np.floor(np.log10(size)), 1, 9))


def _text(cell, decimals):
    if not cell.n:
        return DASH
    if cell.statistic == COUNT:
        return f"{cell.count:.0f} ({cell.percent:.1f} %)"
    middle, sd, q1, q3, low, high = (_number(value, decimals) for value in (
        cell.median if cell.statistic == MEDIAN else cell.mean, cell.sd, cell.q1, cell.q3, cell.min, cell.max))
    if cell.n == 1:
        return middle
    return f"{middle} ({_to(q1, q3)})" if cell.statistic == MEDIAN else f"{middle} ± {sd} ({_to(low, high)})"


def _number(value, decimals):
    return f"{value:z.{decimals}f}".replace("-", "−")


def _to(low, high):
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def _p_text(p):
    return DASH if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
