"""What every statistic asks of its table, asked in one place."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["StatsError", "name_rows", "numbers", "rare_groups", "require_columns", "require_one_row_per_subject"]

MOST_ROWS = 5  # named in a message


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
    """Raise :class:`StatsError` unless ``table`` is a DataFrame with these columns."""
    if not isinstance(table, pd.DataFrame):
        raise StatsError(f"Found a {type(table).__name__}; expected a pandas DataFrame with one row per subject.")
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise StatsError(
            f"Found no column {missing}; the table has {list(table.columns)[:20]}. Name the column that holds it."
        )


def require_one_row_per_subject(table) -> None:
    """Raise :class:`StatsError` when a ``subject`` column repeats: rows of one person are not independent.

    The message names rows, counted from 1, and never a subject.
    """
    if "subject" in table.columns:
        repeated = table["subject"].duplicated(keep=False) & table["subject"].notna()
        if repeated.any():
            raise StatsError(
                f"Found {len(table)} rows for {table['subject'].nunique()} subjects ({name_rows(repeated)}); expected "
                "one row per subject. Choose one session and one muscle, or average them, first."
            )


def numbers(table, name) -> np.ndarray:
    """A column as floats, missing values as NaN; refuses text, infinities, nothing at all, and seconds for ms.

    Raises
    ------
    StatsError
        When the column does not hold what its name promises.
    """
    column = table[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        converted = pd.to_numeric(column, errors="coerce")
        bad = converted.isna() & column.notna()
        if bad.any() or not pd.api.types.is_object_dtype(column):
            where = f" ({name_rows(bad)}, counted from 1)" if bad.any() else ""
            raise StatsError(
                f"Column {name!r} holds {column.dtype} with {int(bad.sum())} entries that are no numbers{where}; "
                "expected numbers. Turn entries such as '<5' into a number or a missing value first."
            )
        column = converted
    values = column.to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(values).all():
        raise StatsError(f"Column {name!r} holds no value in {len(values)} rows; expected at least one.")
    if np.isinf(values).any():
        raise StatsError(f"Column {name!r} holds infinite values in {name_rows(np.isinf(values))}; make them missing.")
    if str(name).endswith("_ms") and "t2" in str(name).lower() and np.nanmax(values) < 1:
        raise StatsError(
            f"Column {name!r} is at most {np.nanmax(values):.3g}, which looks like seconds; expected milliseconds. "
            "Multiply by 1000."
        )
    return values
