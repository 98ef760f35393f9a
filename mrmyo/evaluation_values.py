"""Other people's label maps in our values: a list of theirs and ours, and left and right told by place."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np

from mrmyo.evaluation import EvaluationError
from mrmyo.labels import label_table
from mrmyo.volume import Volume

__all__ = ["BUILT_IN", "convert", "read_values"]

# The public maps of eleven muscles of both thighs (mrmyo.training_maps reads them for training): one value for both
# sides; they know no adductor longus.
BUILT_IN = {"thigh11": {0: 0, 1: "SAR", 2: "RF", 3: "VL", 4: "VI", 5: "VM", 6: "AM", 7: "GRA", 8: "BFL", 9: "ST",
                        10: "SM", 11: "BFS"}}
DEEP = 0.25  # the gap between two thighs holds less than this of what the emptier one holds at its widest


def read_values(source) -> dict:
    """The list of foreign label values.

    Parameters
    ----------
    source : path or str
        The name of a built-in list ('thigh11'), or a file. A TOML file has a table ``[values]`` of ``theirs = ours``; a
        CSV file the columns ``theirs`` and ``ours``. *Ours* is an abbreviation (``"VL"``: of which side is told by
        place), a side and an abbreviation (``"left VL"``), a value of `mrmyo.label_table`, or 0 for background.

    Returns
    -------
    dict
        Their value to ours: an int, or an abbreviation where the side is told by place.

    Raises
    ------
    EvaluationError
        When the file cannot be read, or names what the table of labels does not have.
    """
    if str(source) in BUILT_IN:
        return dict(BUILT_IN[str(source)])
    path = Path(source)
    kinds = {".toml": _from_toml, ".csv": _from_csv}
    if path.suffix.lower() not in kinds:
        raise EvaluationError(
            f"Found {path.name} as the list of label values; expected a .toml or .csv file, or "
            f"{' or '.join(BUILT_IN)}."
        )
    try:
        pairs = kinds[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EvaluationError(f"The list of label values {path.name} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise EvaluationError(f"The list of label values {path.name} cannot be read: {error}.") from None
    values = {}
    for theirs, ours in pairs:
        try:
            number = int(str(theirs).strip())
        except ValueError:
            raise EvaluationError(
                f"Found {theirs!r} as a label value in {path.name}; expected a whole number."
            ) from None
        if number in values:
            raise EvaluationError(f"{path.name} lists the value {number} twice; expected it once.")
        values[number] = _ours(ours, path.name)
    if not values:
        raise EvaluationError(f"{path.name} lists no label value; expected pairs of theirs and ours.")
    return values


def _from_toml(text):
    found = tomllib.loads(text).get("values")
    if not isinstance(found, dict):
        raise EvaluationError('The list of label values has no table [values]; expected lines such as 3 = "VL" in it.')
    return list(found.items())


def _from_csv(text):
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"theirs", "ours"} <= set(rows[0]):
        raise EvaluationError(
            f"The list of label values has the columns {list(rows[0]) if rows else 'of an empty file'}; expected "
            "theirs and ours."
        )
    return [(row["theirs"], row["ours"]) for row in rows]


def _ours(given, name):
    """An int, or an abbreviation that has a side by place."""
    table = label_table()
    text = str(given).strip()
    known = {0, *table.value.tolist()}
    if text.lstrip("-").isdigit():
        if int(text) not in known:
            raise EvaluationError(f"Found {text} as one of our values in {name}; mrmyo.label_table() has no such one.")
        return int(text)
    side, _, short = text.rpartition(" ")
    match = table[(table.abbreviation == short.upper()) & (table.side == side.lower())]
    if side and len(match):
        return int(match.value.iloc[0])
    if not side and short.upper() in set(table.abbreviation):
        return short.upper()
    raise EvaluationError(
        f"Found {given!r} in {name}; expected one of {', '.join(dict.fromkeys(table.abbreviation))}, with 'left ' or "
        "'right ' before it where the value is of one side, or 0."
    )


def convert(reference: Volume, values) -> Volume:
    """A foreign label map in the values of `mrmyo.label_table`.

    Parameters
    ----------
    reference : Volume
        3-D, foreign values.
    values : mapping
        From `read_values`; 0 is background unless it says otherwise.

    Returns
    -------
    Volume
        uint8 on the same grid.

    Raises
    ------
    EvaluationError
        When the map holds a value that the list does not, or sides have to be told by place and the labels are not
        two thighs.

    Notes
    -----
    Where one value stands for both sides, a voxel belongs to the side of the emptiest plane between the two thighs on
    which it lies, by the affine: the patient's left has the smaller x. Nothing but the header knows left; a mirrored
    one cannot be detected.
    """
    array = np.asarray(reference.array)
    if array.ndim != 3:
        raise EvaluationError(f"The reference has the shape {array.shape}; expected a label map of three axes.")
    values = {0: 0, **values}
    if unknown := sorted(set(np.unique(array).tolist()) - set(values)):
        raise EvaluationError(
            f"Found the values {unknown[:8]} in the reference, which the list of label values does not have; it has "
            f"{sorted(values)}. Add them (as 0 if they are to be left out)."
        )
    table = label_table()
    sides = {(row.abbreviation, row.side): row.value for row in table.itertuples()}
    by_place = [theirs for theirs, ours in values.items() if isinstance(ours, str)]
    right = np.zeros(array.shape, bool)
    if by_place and np.isin(array, by_place).any():
        right = _right_of_the_gap(reference, np.isin(array, by_place))
    result = np.zeros(array.shape, np.uint8)
    for theirs, ours in values.items():
        here = array == theirs
        if isinstance(ours, str):
            result[here & ~right], result[here & right] = sides[ours, "left"], sides[ours, "right"]
        else:
            result[here] = ours
    return reference.with_array(result)


def _right_of_the_gap(volume, labelled):
    """Which voxels lie to the patient's right of the emptiest plane between two thighs."""
    i, j, k = np.indices(volume.shape, sparse=True)
    a, b, c, d = volume.affine[0]
    x = (a * i + b * j + c * k + d).astype(np.float32)
    found = x[labelled]
    low, high = float(found.min()), float(found.max())
    width = max(4.0, float(volume.spacing_mm.min()))
    edges = np.arange(low, high + width, width)
    count = np.histogram(found, edges)[0] if edges.size > 4 else np.zeros(0)
    middle = slice(round(0.3 * count.size), max(round(0.7 * count.size), 1))
    if count.size and count[middle].size:
        least = np.flatnonzero(count[middle] == count[middle].min()) + middle.start
        gap = int(least[least.size // 2])  # the middle of the gap, not its edge
        peaks = min(count[:gap].max(initial=0), count[gap + 1:].max(initial=0))
        split = 0.5 * (edges[gap] + edges[gap + 1])
        share = float(np.mean(found > split))
        if count[gap] < DEEP * peaks and 0.2 < share < 0.8:
            return x > split
    raise EvaluationError(
        "The reference has one value for both sides, and its labels do not fall into two thighs with a gap between "
        "them. Where it is a single thigh, say 'left VL' or 'right VL' in the list of label values."
    )
