"""What a study holds, in words: a table of its series, where each lies, and whether it can be measured.

No identity, no path and no description is told: series go by their numbers.
"""

from __future__ import annotations

import textwrap
import unicodedata

import numpy as np

from mrmyo.dicom import DicomError, SeriesTable
from mrmyo.overview_verdict import (
    Verdict,
    covered_slices,
    enumerate_words,
    find_series,
    judge,
    number_of,
    series_words,
)
from mrmyo.settings import Settings

__all__ = ["as_ascii", "describe", "look"]

_ASCII = str.maketrans({"×": "x", "–": "-", "…": "...", "°": " deg", "◄": "<-", "█": "#", "░": "-", "±": "+/-",
                        "≥": ">=", "≤": "<=", "µ": "u", "’": "'", "“": '"', "”": '"'})
_COLUMNS = ("No", "What it is", "Plane", "Matrix", "Voxel (mm)", "TE (ms)", "TR (ms)")


def look(folder, settings: Settings | None = None, *, width: int = 80) -> tuple[str, SeriesTable | None, Verdict]:
    """Look at a folder of which nothing is known.

    Parameters
    ----------
    folder : path
    settings : Settings, optional
    width : int
        As for `describe`.

    Returns
    -------
    tuple
        What `describe` says, the series (None where there is no DICOM image), and the verdict.
    """
    try:
        series = find_series(folder, settings)
    except DicomError as error:
        verdict = Verdict(reasons=(str(error),))
        return "\n".join(_refusal(verdict, width)), None, verdict
    verdict = judge(series, settings)
    return describe(series, verdict, width=width), series, verdict


def describe(series: SeriesTable, verdict: Verdict, *, width: int = 80) -> str:
    """What was found in a study, for a terminal.

    Parameters
    ----------
    series : SeriesTable
        From `find_series`.
    verdict : Verdict
        From `judge`.
    width : int
        Columns of the terminal; at least 80 for the table to fit.

    Returns
    -------
    str
        A table of the series, a picture of where each lies from feet to head, what to note, and the verdict.
    """
    n_studies = series.study.nunique()
    counts = [_count(n_studies, "study", "studies"), f"{len(series)} series", _count(series.n_files.sum(), "image")]
    lines = [", ".join(counts).ljust(width - 18) + "Research use only."]
    for study, rows in series.groupby("study", sort=True):
        lines += ["", f"Study {study} of {n_studies}"] if n_studies > 1 else [""]
        lines += _table(rows, width)
        lines += _coverage(rows, verdict, width)
    notes = _notes(series, verdict)
    if notes:
        lines += ["", "To note", *(line for note in notes for line in _bullet(note, width))]
    return "\n".join([*lines, "", *_verdict_lines(series, verdict, width)]).replace("\N{NO-BREAK SPACE}", " ")


def _table(rows, width):
    cells = [_cells(row) for row in rows.itertuples()]
    widths = [max(len(line[c]) for line in [_COLUMNS, *cells]) for c in range(len(_COLUMNS))]
    widths[1] = max(12, min(widths[1], width - sum(widths) + widths[1] - 2 * len(widths)))
    lines = []
    for line in [_COLUMNS, *cells]:
        for k, part in enumerate(textwrap.wrap(line[1], widths[1])):
            shown = [part if c == 1 else cell if k == 0 else "" for c, cell in enumerate(line)]
            aligned = [cell.ljust(w) if c in (1, 2) else cell.rjust(w) for c, (cell, w) in
                       enumerate(zip(shown, widths, strict=True))]
            lines.append(("  " + "  ".join(aligned)).rstrip())
    return lines


def _cells(row):
    times = row.echo_times_ms
    te = "–".join(_short(t) for t in dict.fromkeys([*times[:1], *times[-1:]])) or "–"
    what = series_words(row) + ("" if row.readable else ", CANNOT\N{NO-BREAK SPACE}BE\N{NO-BREAK SPACE}READ")
    voxel = "×".join(_short(step) for step in row.spacing_mm) if np.isfinite(row.spacing_mm).all() else "–"
    return (number_of(row), what, row.plane or "–", "×".join(map(str, row.shape[:2])), voxel, te,
            _short(row.repetition_time_ms))


def _coverage(rows, verdict, width):
    """A bar for each series on one scale, full where it lies within the slab of the T2 stack."""
    extents = {row.key: row.coverage_mm for row in rows.itertuples() if np.isfinite(row.coverage_mm).all()}
    if not extents:
        return []
    low, high = min(e[0] for e in extents.values()), max(e[1] for e in extents.values())
    number_width = max(len(number_of(row)) for row in rows.itertuples())
    n = max(20, width - number_width - 34)
    centres = low + (np.arange(n) + 0.5) / n * (high - low)
    t2 = extents.get(verdict.t2)
    head = f"{high - low:.0f} mm head"
    lines = ["", "  " + " " * (number_width + 2) + "feet 0 mm" + head.rjust(n - 9)]
    for row in rows.itertuples():
        use = " ◄ T2" if row.key == verdict.t2 else " ◄ mask" if row.key in verdict.mask else ""
        slices = _count(row.n_slices, "slice")
        bar, told = " " * n, f"{slices}, place not known"
        if row.key in extents:
            start, end = extents[row.key]
            inside = (centres >= start) & (centres <= end)
            inside[np.abs(centres - (start + end) / 2).argmin()] = True  # a thin stack still shows
            marked = inside if t2 is None else inside & (centres >= t2[0]) & (centres <= t2[1])
            bar = "".join("█" if m else "░" if i else " " for m, i in zip(marked, inside, strict=True))
            told = f"{slices}, {end - start:.0f} mm"
        lines.append(f"  {number_of(row):>{number_width}}  {bar}  {told}{use}".rstrip())
    return [*lines, *(["  " + " " * (number_width + 2) + "█ within the T2 stack  ░ outside it"] if t2 else [])]


def _notes(series, verdict):
    """What a person should know, each once for all series that it holds for."""
    found = {}
    frame = series.grid(verdict.t2).meta.get("FrameOfReferenceUID") if verdict.t2 else None
    for row in series.itertuples():
        told = [] if row.readable else [f"cannot be read: {row.problem}"]
        told += [row.warnings] if row.warnings else []
        told += _grid_notes(series.grid(row.key), frame) if row.readable else []
        for text in told:
            found.setdefault((row.study, text), []).append(number_of(row))
    n = series.study.nunique()
    notes = []
    for (study, text), numbers in sorted(found.items(), key=lambda item: item[0][0]):
        which = f"Study {study}, series" if n > 1 else "Series"
        notes.append(f"{which} {enumerate_words(list(dict.fromkeys(numbers)))}: {text}")
    if verdict.ready:
        notes += _pair_notes(series, verdict)
    if n > 1:
        notes.append(f"The folder holds {n} studies, perhaps of several patients. Give each a folder of its own.")
    skipped, copies = series.attrs.get("skipped_files", 0), series.attrs.get("duplicate_files", 0)
    if copies:
        notes.append(f"{_count(copies, 'file is a copy', 'files are copies')} of another and left out.")
    if skipped:
        notes.append(f"{_count(skipped, 'file is', 'files are')} no DICOM images (reports, text …) and left out.")
    return notes


def _grid_notes(grid, t2_frame):
    notes = []
    frame = grid.meta.get("FrameOfReferenceUID")
    if None not in (frame, t2_frame) and frame != t2_frame:
        notes.append("another frame of reference than the T2 stack: where it lies beside it is not known.")
    thickness, step = grid.meta.get("SliceThickness"), float(grid.spacing_mm[2])
    if thickness and step > 1.02 * thickness + 0.05:
        notes.append(f"slices are {_short(thickness)} mm thick and {_short(step)} mm apart, which leaves gaps of "
                     f"{_short(step - thickness)} mm between them.")
    side = str(grid.meta.get("ImageLaterality") or grid.meta.get("Laterality") or "").upper()
    if side in ("L", "R"):
        notes.append(f"the header says that it shows the {'left' if side == 'L' else 'right'} side only.")
    return notes


def _pair_notes(series, verdict):
    mask, t2 = series.grid(verdict.mask[0]), series.grid(verdict.t2)
    covered = covered_slices(mask, t2)
    notes = [_sentence(note) for note in verdict.notes]
    if not covered.all():
        notes.append(f"{(~covered).sum()} of the {covered.size} slices of the T2 stack lie outside the image for the "
                     "mask and get none.")
    wide = [np.abs(grid.affine[0, :3]) @ grid.shape for grid in (mask, t2)]
    if wide[1] < wide[0] - 20:
        notes.append(f"The T2 stack is {wide[1]:.0f} mm wide from left to right, the image for the mask {wide[0]:.0f} "
                     "mm. Whether it cuts off a thigh is not known from the headers: look at it.")
    return notes


def _verdict_lines(series, verdict, width):
    if not verdict.ready:
        return _refusal(verdict, width)
    rows = {row.key: row for row in series.itertuples()}
    masks = " + ".join(f"series {number_of(rows[key])}, {series_words(rows[key])}" for key in verdict.mask)
    if len(verdict.mask) > 1:
        masks = f"an in-phase image made of {masks}"
    if verdict.beside:
        beside = enumerate_words([number_of(rows[key]) for key in verdict.beside])
        masks += f" (the muscles are found on series {beside} too)"
    t2 = f"series {number_of(rows[verdict.t2])}, {series_words(rows[verdict.t2])}"
    lines = ["Ready to measure: YES"]
    for text in (f"Mask drawn on: {masks}", f"T2 taken from: {t2}", "Next: mrmyo run FOLDER OUT",
                 "Not checked: what the images show, such as movement, metal, or a thigh cut off at the left or right "
                 "edge. Look at them."):
        lines += textwrap.wrap(text, width - 2, initial_indent="  ", subsequent_indent="    ")
    return lines


def _refusal(verdict, width):
    lines = ["Ready to measure: NO, because", *(line for text in verdict.reasons for line in _bullet(text, width))]
    if verdict.advice:
        lines += ["What to do", *(line for text in dict.fromkeys(verdict.advice) for line in _bullet(text, width))]
    return lines


def as_ascii(text: str) -> str:
    """The text for a terminal that shows only ASCII."""
    return unicodedata.normalize("NFKD", text.translate(_ASCII)).encode("ascii", "replace").decode()


def _bullet(text, width):
    return textwrap.wrap(text, width - 2, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)


def _short(value):
    """7.66 and 130.9 become "7.66" and "131"."""
    return "–" if not np.isfinite(value) else f"{value:.0f}" if abs(value) >= 100 else f"{round(float(value), 2):.3g}"


def _count(n, one, many=None):
    return f"{n} {one if n == 1 else many or one + 's'}"


def _sentence(text):
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
