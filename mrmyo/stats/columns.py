"""What every statistic asks of its table and its options, asked in one place."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd

__all__ = [
    "StatsError", "categories_or_numbers", "in_order", "is_number", "may_be_told", "name_rows", "numbers",
    "rare_groups", "require_columns", "require_count", "require_independent", "require_one_row_per_subject",
    "require_share", "values_in_words",
]

MOST_ROWS = 5  # named in a message
MOST_TEXTS = 10  # different ones in a column; where there are more they may be names
NO_T2 = ("sd", "std", "noise", "change", "error", "delta", "difference", "shift")  # these may lie below 1 ms
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64, pd.Period)
NO_NUMBERS = "entries that are no numbers"
REMEDIES = {
    "categories": "Turn codes into numbers first (astype(float)) where their distances mean something.",
    "true and false": "Turn them into 1 and 0 first (astype(float)) where that is meant.",
    "dates or times": "Compute an age or a duration in years or days first.",
    "numbers written as text": "Turn them into numbers first (pandas.to_numeric), or codes into categories "
                               "(astype('category')).",
}


class StatsError(ValueError):
    """A table does not hold what a statistic needs."""


def name_rows(chosen) -> str:
    """The rows where a mask is true in words, counted from 1: "rows 3, 7 and 9", never by what stands in them."""
    rows = (np.flatnonzero(np.asarray(chosen, dtype=bool)) + 1).tolist()
    if len(rows) == 1:
        return f"row {rows[0]}"
    if len(rows) > MOST_ROWS:
        return f"rows {', '.join(map(str, rows[:MOST_ROWS]))} and {len(rows) - MOST_ROWS} more"
    return f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]}"


def rare_groups(column) -> str:
    """Where more than two groups are found, where those of a few rows stand: they may be misspelt."""
    counts = column.value_counts()
    few = counts.index[(counts <= 2) & (counts < counts.max())] if len(counts) > 2 else []
    return f" ({name_rows(column.isin(few))} may be misspelt)" if len(few) else ""


def require_columns(table, *names) -> None:
    """Raise :class:`StatsError` unless ``table`` is a DataFrame with each of these columns once, of single values."""
    if not isinstance(table, pd.DataFrame):
        raise StatsError(f"Found a {type(table).__name__}; expected a pandas DataFrame with one row per subject.")
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise StatsError(
            f"Found no column {missing}; the table has {list(table.columns)[:20]}. Name the column that holds it."
        )
    repeated = set(table.columns[table.columns.duplicated()])
    for name in names:
        if name in repeated:
            raise StatsError(f"Found more than one column {name!r}; expected each name once. Rename the others.")
        if isinstance(table[name].dtype, pd.SparseDtype):
            raise StatsError(f"Column {name!r} is sparse; expected it dense: table[{name!r}].sparse.to_dense().")
        if pd.api.types.is_object_dtype(table[name]):
            lists = table[name].map(lambda value: isinstance(value, (list, dict, set, np.ndarray))).astype(bool)
            if lists.any():
                raise StatsError(f"Column {name!r} holds lists or the like in {name_rows(lists)}; expected one value "
                                 "in each row.")


def require_one_row_per_subject(table) -> None:
    """Raise :class:`StatsError` when a ``subject`` column repeats: rows of one person are not independent.

    The message names rows, counted from 1, and never a subject.
    """
    if "subject" in table.columns:
        require_columns(table, "subject")
        repeated = table["subject"].duplicated(keep=False) & table["subject"].notna()
        if repeated.any():
            raise StatsError(
                f"Found {len(table)} rows for {table['subject'].nunique()} subjects ({name_rows(repeated)}); expected "
                "one row per subject. Choose one session and one muscle, or average them, first."
            )


def is_number(value) -> bool:
    """Whether an option is a number, which true and false are not."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def require_share(name, value) -> None:
    """Raise :class:`StatsError` unless an option such as a level lies above 0 and below 1."""
    if not (is_number(value) and 0 < value < 1):
        raise StatsError(f"Found {name}={value!r}; expected a number above 0 and below 1.")


def require_count(name, value, least=1) -> None:
    """Raise :class:`StatsError` unless an option such as a number of resamples is whole and no less than ``least``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise StatsError(f"Found {name}={value!r}; expected a whole number of at least {least}.")


def in_order(column) -> list:
    """The different values of a column: numbers by size, categories as the column has them, all else by text."""
    found = column.dropna().unique().tolist()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [value for value in column.cat.categories.tolist() if value in found]
    return sorted(found, key=None if all(is_number(value) or isinstance(value, bool) for value in found) else str)


def may_be_told(column) -> bool:
    """Whether a message may print values of a column: not of ``subject``, nor of one of many texts, often names."""
    texts = {value for value in column.dropna().unique().tolist() if isinstance(value, str)}
    return column.name != "subject" and len(texts) <= MOST_TEXTS


def values_in_words(column, chosen=None) -> str:
    """The different values of a column (or some of them) as a list, or only how many where they may be names."""
    values = column.dropna().unique().tolist() if chosen is None else list(chosen)
    return str(values[:MOST_TEXTS]) if may_be_told(column) else f"{len(values)} different values"


def require_independent(design, terms, first, others) -> None:
    """Raise :class:`StatsError` for a column of a design, from ``first`` on, that the ones before it fix."""
    for j in range(first, design.shape[1]):
        if np.linalg.matrix_rank(design[:, :j + 1], tol=1e-7 * np.sqrt(len(design))) <= j:
            raise StatsError(f"Covariate {terms[j]!r} is constant or fixed by {others}; leave it out.")


def categories_or_numbers(table, name) -> np.ndarray:
    """A covariate as objects where it holds texts, categories or truth values, None where missing; else as floats."""
    column = table[name]
    present = column.dropna().astype(object)
    kinds = set(present.map(_kind))
    texts = kinds == {NO_NUMBERS} and present.map(lambda value: isinstance(value, str)).all()
    if isinstance(column.dtype, pd.CategoricalDtype) or texts or kinds == {"true and false"}:
        return column.astype(object).where(column.notna(), None).to_numpy()
    return numbers(table, name)


def numbers(table, name) -> np.ndarray:
    """A column as floats, missing values as NaN; refuses all else, infinities, nothing at all, and seconds for ms.

    What looks like seconds is a T2 of which all values lie between 0 and 1; spreads, errors and changes of T2, told by
    their name, may be that small.

    Raises
    ------
    StatsError
        When the column does not hold what its name promises; the message says what it holds instead.
    """
    column = table[name]
    if column.isna().all():
        raise StatsError(f"Column {name!r} holds no value in {len(column)} rows; expected at least one.")
    _require_numbers(column)
    values = column.to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(values).all():
        raise StatsError(f"Column {name!r} holds no value in {len(values)} rows; expected at least one.")
    if np.isinf(values).any():
        raise StatsError(f"Column {name!r} holds infinite values in {name_rows(np.isinf(values))}; make them missing.")
    word = str(name).lower()
    of_t2 = word.endswith("_ms") and "t2" in word and not any(other in word for other in NO_T2)
    if of_t2 and np.nanmin(values) > 0 and np.nanmax(values) < 1:
        raise StatsError(
            f"Column {name!r} is at most {np.nanmax(values):.3g}, which looks like seconds; expected milliseconds. "
            "Multiply by 1000."
        )
    return values


def _require_numbers(column):
    """Refuse a column that holds anything else than numbers, and say what and where."""
    types, name = pd.api.types, column.name
    if isinstance(column.dtype, pd.CategoricalDtype):
        raise StatsError(f"Column {name!r} holds categories; expected numbers. {REMEDIES['categories']}")
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column) and not types.is_complex_dtype(column):
        return
    kinds = column.astype(object).where(column.notna(), 0).map(_kind)
    if (kinds == NO_NUMBERS).any():
        bad = kinds == NO_NUMBERS
        raise StatsError(
            f"Column {name!r} holds {column.dtype} with {int(bad.sum())} {NO_NUMBERS} ({name_rows(bad)}, counted from "
            "1); expected numbers. Turn entries such as '<5' into a number or a missing value first."
        )
    for kind in kinds[kinds != ""][:1]:
        bad = kinds == kind
        where = "" if bad[column.notna().to_numpy()].all() else f" in {name_rows(bad)}"
        raise StatsError(f"Column {name!r} holds {kind}{where}; expected numbers. {REMEDIES[kind]}")


def _kind(value):
    """What an entry is, in words; "" for a number."""
    if isinstance(value, (bool, np.bool_)):
        return "true and false"
    if is_number(value) or isinstance(value, decimal.Decimal):
        return ""
    if isinstance(value, TIMES):
        return "dates or times"
    return "numbers written as text" if isinstance(value, str) and pd.notna(pd.to_numeric(value, errors="coerce")) \
        else NO_NUMBERS
