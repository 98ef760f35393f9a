"""What every statistic asks of its table, asked in one place."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["StatsError", "numbers", "require_columns", "require_one_row_per_subject"]


class StatsError(ValueError):
    """A table does not hold what a statistic needs."""


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

    The message counts and never names a subject.
    """
    if "subject" in table.columns:
        repeated = int(table["subject"].dropna().duplicated().sum())
        if repeated:
            raise StatsError(
                f"Found {len(table)} rows for {table['subject'].nunique()} subjects; expected one row per subject. "
                "Choose one session and one muscle, or average them, first."
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
        bad = int((converted.isna() & column.notna()).sum())
        if bad or not pd.api.types.is_object_dtype(column):
            raise StatsError(
                f"Column {name!r} holds {column.dtype} with {bad} entries that are no numbers; expected numbers. "
                "Turn entries such as '<5' into a number or a missing value first."
            )
        column = converted
    values = column.to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(values).all():
        raise StatsError(f"Column {name!r} holds no value in {len(values)} rows; expected at least one.")
    if np.isinf(values).any():
        raise StatsError(f"Column {name!r} holds {int(np.isinf(values).sum())} infinite values; make them missing.")
    if str(name).endswith("_ms") and "t2" in str(name).lower() and np.nanmax(values) < 1:
        raise StatsError(
            f"Column {name!r} is at most {np.nanmax(values):.3g}, which looks like seconds; expected milliseconds. "
            "Multiply by 1000."
        )
    return values
