"""One table of subjects in, everything that a paper reports of it out: tables, figures, a checklist, a page."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from mrmyo.analysis_parts import compute_parts, used_columns
from mrmyo.analysis_tables import (
    AnalysisError,
    as_categories,
    given_table,
    join_clinical,
    nearest,
    numbers_of,
    require_each_once,
    require_no_names,
    require_no_stray_text,
    row_words,
)
from mrmyo.files import PARTIAL, locked, remove_leftovers
from mrmyo.provenance import digest, record
from mrmyo.stats.columns import numbers

__all__ = ["AnalysisError", "analyse", "join_clinical"]

NOTE, PAGE = "analysis.json", "analysis.html"
OURS = (NOTE, PAGE, "table1.csv", "roc.csv", "roc_points.csv", "correlations.csv", "comparisons.csv", "stard.csv",
        "roc.pdf", "roc.svg", "strip.pdf", "strip.svg")
FOR_WORD = ("table1", "stard")  # opened by Excel, which takes only a marked file for UTF-8
ENDINGS = (".csv", ".pdf", ".svg", ".html", ".json")


def analyse(table, out, *, score="t2_ms", group="group", positive="IIM", negative="HC", correlates=(), compare=(),
            covariates=(), describe=None, median=(), cutoff="youden", prevalence=None, names=None, synthetic=False,
            key="subject") -> dict:
    """Analyse a table of subjects as the paper does, and write all of it to a folder.

    Parameters
    ----------
    table : pandas.DataFrame or path
        One row per subject: a table, such as `join_clinical` gives, or a CSV. Only columns named here get anywhere.
    out : path
        A folder for the tables as CSV, the figures as PDF and SVG (one column wide), ``analysis.json`` (versions,
        options, a hash of the input) and ``analysis.html``, which shows all of it. Those of an earlier analysis are
        replaced once all new ones are complete. Nothing in it names a subject.
    score, group : str
        The columns of the numbers and of the groups; rows of other groups are left out and counted.
    positive, negative
        The groups that the score should tell apart by being high in the first.
    correlates : list of str
        Columns of numbers to correlate with the score, among positives: one family of tests.
    compare : list of str
        Columns that part the positives in two, to compare the score between: another family.
    covariates : list of str
        Columns to adjust the ROC curve for.
    describe : list of str, optional
        What else Table 1 shall describe beside the columns named above; age and sex where the table has them when None.
    median : list of str
        Columns of numbers that Table 1 describes by median and quartiles.
    cutoff : {"youden", "closest"} or float
        As for `mrmyo.stats.roc`.
    prevalence : float, optional
        Of the disease among those who are to be tested; gives predictive values.
    names : dict, optional
        What to print for a column: ``{"ck_u_l": "Creatine kinase (U/L)"}``.
    synthetic : bool
        Whether page and figures say that the data are synthetic.
    key : str
        The column of the subjects' keys. Where there is none, nobody can check that each comes once.

    Returns
    -------
    dict of pandas.DataFrame
        What the files of these names hold: table1 (`mrmyo.stats.table_one`), roc, roc_points, roc_stability,
        predictive_values, adjusted_roc, correlations (`mrmyo.stats.spearman` with p_holm, p_bh), comparisons
        (`mrmyo.stats.mann_whitney` and `hodges_lehmann` with p_holm, p_bh), stard (`mrmyo.stats.stard`); and notes
        (part, note): what was left out, and why a part could not be done. Such a part is not in the dict; a test of a
        family that could not be done keeps its row, with a note.

    Raises
    ------
    AnalysisError
        Before anything is written, when a column or a group is missing, subjects repeat, numbers are none (rows are
        told, never keys), a column looks like names, one of `compare` has more than two values, an option cannot be, or
        `out` holds files of these names that no analysis wrote.
    StatsError
        When the score holds nothing, or T2 in milliseconds looks like seconds.
    """
    lists = [[value] if isinstance(value, str) else list(dict.fromkeys(value or ()))
             for value in (correlates, compare, covariates, median)]
    asked = dict(zip(("correlates", "compare", "covariates", "median"), lists, strict=True))
    asked |= {"score": score, "group": group, "positive": str(positive), "negative": str(negative), "cutoff": cutoff,
              "prevalence": prevalence, "names": dict(names or {}), "synthetic": bool(synthetic), "key": key}
    _check_options(asked)
    given = given_table(table, key=key)
    asked["describe"] = [name for name in ("age", "sex") if name in given] if describe is None else (
        [describe] if isinstance(describe, str) else list(dict.fromkeys(describe)))
    notes = list(table.attrs.get("notes", ())) if isinstance(table, pd.DataFrame) else []
    work = _checked(given, asked, notes)
    _check_folder(Path(out), table)
    results, problems = compute_parts(work, asked)
    notes = [("table", note) for note in notes] + problems
    _write(Path(out), work, asked, results, notes, _hash(given))
    return results | {"notes": pd.DataFrame(notes, columns=["part", "note"])}


def _check_options(asked):
    cutoff, prevalence = asked["cutoff"], asked["prevalence"]
    is_number = isinstance(cutoff, int | float | np.number) and not isinstance(cutoff, bool) and np.isfinite(cutoff)
    if not (is_number or cutoff in ("youden", "closest")):
        raise AnalysisError(f"Found cutoff={cutoff!r}; expected 'youden', 'closest' or a number in the unit of the "
                            "score.")
    if prevalence is not None and not (isinstance(prevalence, int | float) and 0 < prevalence < 1):
        raise AnalysisError(f"Found prevalence={prevalence!r}; expected a number above 0 and below 1.")
    if asked["positive"] == asked["negative"]:
        raise AnalysisError(f"Found {asked['positive']!r} for both groups; expected two different ones.")
    family = [asked["score"], asked["group"]]
    if asked["score"] == asked["group"] or {*family} & {*asked["correlates"], *asked["compare"], *asked["covariates"]}:
        raise AnalysisError(f"The columns of score and group, {family}, must differ, and be none of the correlates, "
                            "comparisons and covariates.")
    mixed = sorted(set(asked["correlates"]) & set(asked["compare"]))
    if mixed:
        raise AnalysisError(f"Found {mixed} among both correlates and comparisons; expected numbers in the first, two "
                            "groups in the second.")


def _checked(given, asked, notes):
    """The rows of both groups and the columns that are named, numbers and categories as such."""
    columns, key, group = used_columns(asked), asked["key"], asked["group"]
    if {key, "subject"} & {group, *columns}:
        raise AnalysisError(f"The column {key!r} tells who is who; it must not get into an analysis.")
    missing = [name for name in (group, *columns) if name not in given]
    if missing:
        # without a line of names, the first subject stands in its place
        known = f"the table has {list(given.columns)[:30]}" if key in given else "its first line must name the columns"
        raise AnalysisError(f"Found no column {missing[0]!r}; {known}.{nearest(missing[0], given.columns)}")
    unknown = [name for name in (*asked["names"], *asked["median"]) if name not in columns]
    if unknown:
        raise AnalysisError(f"names= or median= speaks of {unknown[0]!r}, which no part uses."
                            f"{nearest(unknown[0], columns)}")
    if key in given:
        require_each_once(given, key, "The table")
    else:
        notes.append(f"The table has no column {key!r}: that no subject comes twice was not checked.")
    given = given.assign(**{name: numbers_of(given, name) for name in (asked["score"], *asked["correlates"])})
    for name in (asked["score"], *asked["correlates"]):
        if name == asked["score"] or given[name].notna().any():
            numbers(given, name)  # for what it refuses: seconds, nothing at all
    for name in (*asked["covariates"], *asked["describe"]):
        require_no_stray_text(given, name)
        require_no_names(given, name)
    labels = as_categories(given[group])
    _check_groups(labels, asked)
    for words, left in ((f"without {group!r}", labels.isna()),
                        ("of other groups", labels.notna() & ~labels.isin([asked["positive"], asked["negative"]]))):
        if left.any():
            notes.append(f"{left.sum()} rows {words} were left out ({row_words(given.index[left])}).")
    kept = labels.isin([asked["positive"], asked["negative"]])
    work = given[columns].assign(**{name: as_categories(given[name]) for name in asked["compare"]})
    work = work.assign(**{group: labels})[kept]
    for name in asked["compare"]:
        n = work.loc[work[group] == asked["positive"], name].nunique()
        if n > 2:
            raise AnalysisError(f"Column {name!r} holds {n} different values among {asked['positive']!r}; expected "
                                "two to compare. Merge them, or leave the column out.")
    return work


def _check_groups(labels, asked):
    found, column = list(dict.fromkeys(labels.dropna())), asked["group"]
    few = len(found) <= min(8, labels.notna().sum() // 2)  # more may be names
    shown = f"it holds {found}" if few else f"it holds {len(found)} different values"
    if asked["positive"] not in found:
        raise AnalysisError(f"Found no {asked['positive']!r} in column {column!r}; {shown}."
                            f"{nearest(asked['positive'], found)} Set positive= to one.")
    others = [name for name in found if name != asked["positive"]]
    if others and asked["negative"] not in others:
        raise AnalysisError(f"Found no {asked['negative']!r} in column {column!r}; {shown}."
                            f"{nearest(asked['negative'], others)} Set negative= to one.")


def _hash(given):
    return digest(list(map(str, given.columns)), given.to_csv(index=False))


def _older(out):
    """Names of the files that an earlier analysis wrote; None where there was none."""
    try:
        files = [*json.loads((out / NOTE).read_text(encoding="utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {str(name) for name in files if Path(str(name)).name == name and str(name).endswith(ENDINGS)}


def _check_folder(out, table):
    if out.exists() and not out.is_dir():
        raise AnalysisError(f"Found the file {out.name} as the output; expected a folder.")
    theirs = [name for name in OURS if (out / name).exists()]
    if theirs and _older(out) is None:
        raise AnalysisError(f"The output folder {out.name} holds {', '.join(theirs)} but no note of an earlier "
                            "analysis; they would be lost. Give another folder, or move them.")
    if not isinstance(table, pd.DataFrame) and Path(table).resolve().parent == out.resolve() and \
            Path(table).name in (_older(out) or ()):
        raise AnalysisError(f"The table {Path(table).name} is an output of an earlier analysis in this folder, which "
                            "would be lost. Give another folder.")


def _write(out, work, asked, results, notes, hashed):
    """All files under a temporary name first; then each takes its place, the note last."""
    from mrmyo.analysis_page import draw_figures, page_body
    from mrmyo.figures.pages import write_page

    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        remove_leftovers(out)
        staged = out / f"{PARTIAL}{secrets.token_hex(4)}"
        staged.mkdir()
        try:
            for name, found in results.items():
                found.to_csv(staged / f"{name}.csv", index=False, float_format="%.6g",
                             encoding="utf-8-sig" if name in FOR_WORD else "utf-8")
            shown = draw_figures(work, results, asked, staged, notes)
            facts = record(options=asked, input_hash=hashed, n_rows=len(work),
                           notes=[{"part": part, "note": note} for part, note in notes])
            write_page(staged / PAGE, title="Analysis of a table of subjects", synthetic=asked["synthetic"],
                       body=page_body(results, asked, notes, shown, facts))
            facts["files"] = [*sorted(path.name for path in staged.iterdir()), NOTE]
            (staged / NOTE).write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
            stale = (_older(out) or set()) - set(facts["files"])
            for path in staged.iterdir():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())  # a full disk may tell only now
            for name in facts["files"]:
                os.replace(staged / name, out / name)
            for name in stale:  # of an earlier analysis with other options
                (out / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
