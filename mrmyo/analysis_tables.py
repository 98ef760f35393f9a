"""Tables as researchers have them: CSV in its dialects, keys that do not repeat, measurements joined with findings."""

from __future__ import annotations

import csv
import difflib
import io
import re
from pathlib import Path

__all__ = [
    "AnalysisError", "as_categories", "given_table", "join_clinical", "nearest", "numbers_of", "require_each_once",
    "require_no_names", "require_no_stray_text", "row_words",
]

BLANK = {"", "na", "n/a", "nan", "#n/a", "#nv"}  # the word "none" is an answer
WHOLE = r"[-+]?\d+"
POINT = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
COMMA = r"[-+]?\d+,\d+([eE][-+]?\d+)?"
SAVE_AS = "In Excel: Save as, 'CSV UTF-8'."
MOST_LEVELS = 20  # more are names or remarks, as in mrmyo.stats.table_one


class AnalysisError(ValueError):
    """A table that cannot be analysed, or joined, as it is."""


def given_table(table, *, key="subject"):
    """A table, or the CSV at a path, with rows numbered from 1 as its index; the key stays text.

    Comma, semicolon or tab may divide the columns; with the latter two, decimals may be written with a comma. A byte
    order mark and a first line ``sep=;`` are passed over. Rows without any value are left out, and keep their number.

    Raises
    ------
    AnalysisError
        When the file cannot be read or is no CSV in UTF-8, rows are longer or shorter than the header, two columns
        have one name, one has none, or decimals are written with commas and with points.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        found = table.copy()
        found.index = pd.RangeIndex(1, len(found) + 1)
        found.columns = [str(name).strip() for name in found.columns]
        _check_names(list(found.columns), "The table")
    else:
        found = _read(Path(table), key)
    if key in found.columns:
        found[key] = as_categories(found[key])
    return found


def _read(path, key):
    import pandas as pd

    header, rows, divider = _fields(_decoded(path), path.name)
    kept = {i: row for i, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)}
    n = len(header)
    while n and not header[n - 1] and not any(len(row) >= n and row[n - 1].strip() for row in kept.values()):
        n -= 1  # Excel's empty columns at the right
    _check_names(header[:n], f"The table {path.name}")
    odd = [i for i, row in kept.items() if len(row) < n or any(cell.strip() for cell in row[n:])]
    if odd:
        hint = " Decimal commas need semicolons between the columns, or quotes." if divider == "," else ""
        raise AnalysisError(f"The table {path.name} has {n} columns, but {row_words(odd)} "
                            f"{'has' if len(odd) == 1 else 'have'} more or fewer fields; expected as many.{hint}")
    cells = {name: [row[j].strip() for row in kept.values()] for j, name in enumerate(header[:n])}
    comma = divider != "," and any(re.fullmatch(COMMA, cell) for column in cells.values() for cell in column)
    for name, column in cells.items():  # beside decimal commas a point may mark thousands: 1.961 may be near two
        points = [i for i, cell in zip(kept, column, strict=True) if "." in cell and re.fullmatch(POINT, cell)]
        if comma and points and name != key:
            raise AnalysisError(f"The table {path.name} writes decimals with a comma, but column {name!r} holds "
                                f"numbers with a point ({row_words(points)}); expected one way. A point for thousands "
                                "must go.")
    columns = {name: column if name == key else _converted(column, comma) for name, column in cells.items()}
    found = pd.DataFrame(columns, index=pd.Index(list(kept), dtype=int))
    if key in found.columns:
        found[key] = found[key].map(lambda cell: None if cell.casefold() in BLANK else cell)
    return found


def _decoded(path):
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise AnalysisError(f"The table {path.name} cannot be read: {error.strerror or 'no file'}.") from None
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise AnalysisError(f"The table {path.name} is an Excel workbook; expected CSV. {SAVE_AS}")
    try:
        return raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        raise AnalysisError(f"The table {path.name} is not in UTF-8; expected CSV in UTF-8. {SAVE_AS}") from None


def _fields(text, name):
    """Header, rows and what divides the columns."""
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.\s*", first):
        text, first = rest, rest.partition("\n")[0]
    divider = max(",;\t", key=first.count)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=divider)
    except (csv.Error, ValueError):
        raise AnalysisError(f"The table {name} holds nothing that can be read as CSV; expected a line of column names "
                            "and a row for each subject.") from None
    if divider not in first:
        raise AnalysisError(f"Found one column in the table {name}; expected several, divided by commas, semicolons or "
                            "tabs.")
    return [cell.strip() for cell in header], rows, divider


def _check_names(names, where):
    if "" in names:
        raise AnalysisError(f"{where} has a column without a name, number {names.index('') + 1}; give it one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AnalysisError(f"{where} has several columns of the name {twice}; expected each name once.")


def _converted(cells, comma):
    """Numbers where all cells are numbers, else text; None where blank."""
    cells = [None if cell.casefold() in BLANK else cell for cell in cells]
    present = [cell.replace("−", "-") for cell in cells if cell is not None]
    if any(re.fullmatch(r"0\d+", cell) for cell in present):  # a key or a session, not a number
        return cells
    form = rf"{WHOLE}|{COMMA}" if comma else POINT
    if not all(re.fullmatch(form, cell) for cell in present):
        return cells
    make = int if len(present) == len(cells) and all(re.fullmatch(WHOLE, cell) for cell in present) else float
    return [float("nan") if cell is None else make(cell.replace("−", "-").replace(",", ".")) for cell in cells]


def as_categories(column):
    """A column as text: ``1.0`` becomes "1", true and false "yes" and "no"; None where there is nothing."""
    import numpy as np
    import pandas as pd

    def say(value):
        if pd.isna(value) or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, float | np.floating) and value == int(value):
            return str(int(value))
        return str(value).strip()

    return pd.Series([say(value) for value in column], index=column.index, dtype=object)


def row_words(rows) -> str:
    """ "row 3" or "rows 3, 7, …": the first eight."""
    rows = list(rows)
    return ("row " if len(rows) == 1 else "rows ") + ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")


def nearest(word, known) -> str:
    """A hint at the known word that is written most like another; empty where there is none."""
    lower = {str(name).casefold(): str(name) for name in known}
    close = difflib.get_close_matches(str(word).casefold().strip(), list(lower), n=1, cutoff=0.5)
    return f" The nearest is {lower[close[0]]!r}." if close else ""


def require_each_once(table, key, where) -> None:
    """Refuses keys that are blank or come twice; tells row numbers, never the keys."""
    blank = table.index[table[key].isna()]
    if len(blank):
        raise AnalysisError(f"{where} has no {key!r} in {row_words(blank)}; expected one in every row.")
    twice = table.index[table[key].duplicated(keep=False)]
    if len(twice):
        raise AnalysisError(f"{where} has {table[key].nunique()} subjects in {len(table)} rows: {row_words(twice)} "
                            f"share their {key!r} with another. Expected one row per subject: choose one visit, or "
                            "average.")


def _stray(table, name):
    """Numbers of the rows whose entry is no number, and the column as floats."""
    import pandas as pd

    column = table[name]
    values = pd.to_numeric(column.astype(object), errors="coerce").astype(float)
    truth = column.map(lambda value: isinstance(value, bool)).astype(bool)
    return table.index[(values.isna() & column.notna()) | truth], values


def numbers_of(table, name):
    """A column as floats, NaN where blank.

    Raises
    ------
    AnalysisError
        When entries are no finite numbers; tells their rows.
    """
    import numpy as np

    stray, values = _stray(table, name)
    if len(stray):
        raise AnalysisError(
            f"Column {name!r} holds {len(stray)} entries that are no numbers ({row_words(stray)}); expected numbers or "
            "blanks. Turn entries such as '<5' into a number or a blank; decimals may have a comma only where "
            "semicolons divide the columns.")
    endless = table.index[np.isinf(values)]
    if len(endless):
        raise AnalysisError(f"Column {name!r} holds infinite values ({row_words(endless)}); make them blank.")
    return values


def require_no_stray_text(table, name) -> None:
    """Refuses a column of numbers with a few texts among them; a column of texts is none."""
    stray, values = _stray(table, name)
    if 0 < len(stray) < values.notna().sum():
        numbers_of(table, name)


def require_no_names(table, name) -> None:
    """Refuses a column whose texts look like names or keys, which belong in no output."""
    import pandas as pd

    values = table[name].dropna()
    if pd.api.types.is_numeric_dtype(values) or isinstance(table[name].dtype, pd.CategoricalDtype):
        return
    n_levels = values.map(str).nunique()
    if n_levels > MOST_LEVELS or (n_levels == len(values) and n_levels >= 4):
        raise AnalysisError(f"Column {name!r} holds {n_levels} different texts in {len(values)} rows, as names or "
                            "remarks do; expected categories. Group them, or leave the column out.")


def join_clinical(rows, clinical, *, muscle="whole muscle", side="both", session=None, key="subject"):
    """What `mrmyo.process_cohort` measured, joined with a table of clinical findings: one row per subject.

    Parameters
    ----------
    rows : pandas.DataFrame or path
        The table that `mrmyo.process_cohort` returned, its ``rows.csv``, or the folder in which that lies.
    clinical : pandas.DataFrame or path
        One row per subject: a CSV with the same keys. Comma, semicolon or tab may divide it; with the latter two,
        decimals may have a comma.
    muscle, side : str
        Which of the rows to take.
    session : str, optional
        Which visit, where there are several.
    key : str
        The column of the subjects' keys, in both tables.

    Returns
    -------
    pandas.DataFrame
        One row for every subject that is in both tables, in the order of the rows; columns of both. What is in one
        table only is left out; ``attrs["notes"]`` tells how many, and their row numbers. `mrmyo.analysis.analyse` puts
        these notes on its page.

    Raises
    ------
    AnalysisError
        When a table cannot be read, a column is missing or in both tables, keys are blank or come twice, no subject is
        in both, no row is of this muscle and side, or a column of numbers holds text. Row numbers are told, counted
        from 1 below the header, never keys.
    """
    path = rows if not isinstance(rows, str | Path) else Path(rows)
    path = path / "rows.csv" if isinstance(path, Path) and path.is_dir() else path
    measured, findings = given_table(path, key=key), given_table(clinical, key=key)
    names = {"The measured table": measured, "The clinical table": findings}
    for where, table in names.items():
        if key not in table.columns:
            raise AnalysisError(f"{where} has no column {key!r}; expected the subjects' keys there."
                                f"{nearest(key, table.columns)}")
    measured = _chosen(measured, {"muscle": muscle, "side": side, "session": session})
    names["The measured table"] = measured
    for where, table in names.items():
        if "session" in measured and measured.session.nunique() > 1 and table is measured and \
                measured[key].duplicated().any():
            raise AnalysisError(f"{where} has several visits of a subject; choose one with session=.")
        require_each_once(table, key, where)
    both = sorted((set(measured.columns) & set(findings.columns)) - {key})
    if both:
        raise AnalysisError(f"Both tables have the columns {both}; expected only {key!r} in both. Rename or remove "
                            "them in one.")
    for table in names.values():
        for name in table.columns.drop(key):
            require_no_stray_text(table, name)
    shared = set(measured[key]) & set(findings[key])
    if not shared:
        alike = {k.casefold() for k in measured[key]} & {k.casefold() for k in findings[key]}
        raise AnalysisError(f"None of the {len(measured)} subjects of the measured table is among the {len(findings)} "
                            "of the clinical one; expected the same keys in both."
                            + (" They differ in capitals only." if alike else ""))
    notes = []
    for where, table in names.items():
        alone = table.index[~table[key].isin(shared)]
        if len(alone):
            notes.append(f"{where} has {len(alone)} of {len(table)} subjects that the other has not "
                         f"({row_words(alone)}); they were left out.")
    joined = measured.merge(findings, on=key, how="inner", validate="one_to_one")
    joined.attrs["notes"] = notes
    return joined


def _chosen(measured, wanted):
    """The rows of one muscle, side and visit."""
    for name, value in wanted.items():
        if name not in measured.columns or value is None:
            continue
        found = as_categories(measured[name])
        if not (found == str(value)).any():
            known = list(dict.fromkeys(found.dropna()))
            raise AnalysisError(f"The measured table has no row of {name} {value!r}; it has {known[:20]}.")
        measured = measured[found == str(value)]
    return measured
