"""What an analysis computes: Table 1, the ROC curve, two families of tests, the checklist; each part on its own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mrmyo import stats
from mrmyo.figures.style import axis_name
from mrmyo.provenance import record

__all__ = ["compute_parts", "used_columns"]


def used_columns(asked) -> list:
    """The columns that Table 1 describes, in their order."""
    return list(dict.fromkeys([asked["score"], *asked["describe"], *asked["covariates"], *asked["compare"],
                               *asked["correlates"]]))


def compute_parts(work, asked) -> tuple[dict, list]:
    """Every part that can be done, and (part, why not) of those that cannot.

    Parameters
    ----------
    work : pandas.DataFrame
        The rows of both groups, with the columns that are named.
    asked : dict
        The options of `mrmyo.analysis.analyse`.

    Returns
    -------
    dict of pandas.DataFrame
        As of `mrmyo.analysis.analyse`, but for its notes.
    list of (str, str)
        Part and reason.
    """
    group, score = asked["group"], asked["score"]
    of_roc = {"score": score, "group": group, "positive": asked["positive"]}
    positives = work[work[group] == asked["positive"]].drop(columns=group)
    results, problems = {}, []

    def attempt(part, compute, *arguments, **options):
        try:
            results[part] = compute(*arguments, **options)
        except ValueError as error:
            problems.append((part, str(error)))

    attempt("table1", _table_one, work, asked, problems)
    attempt("roc", stats.roc, work, **of_roc, cutoff=asked["cutoff"])
    if "roc" in results:
        attempt("roc_points", stats.roc_points, work, **of_roc)
        attempt("roc_stability", stats.roc_stability, work, **of_roc)
        if asked["prevalence"] is not None:
            attempt("predictive_values", stats.predictive_values, work, **of_roc,
                    cutoff=results["roc"].cutoff.item(), prevalence=asked["prevalence"])
    if asked["covariates"]:
        attempt("adjusted_roc", stats.adjusted_roc, work, **of_roc, covariates=asked["covariates"])
    if asked["correlates"]:
        results["correlations"] = _family([_correlation(positives, name, score) for name in asked["correlates"]])
    if asked["compare"]:
        results["comparisons"] = _family([_comparison(positives, name, score) for name in asked["compare"]])
    for part in ("correlations", "comparisons"):
        if part in results:
            problems += [(part, f"{row.x}: {row.note}") for row in results[part].itertuples() if row.note]
    attempt("stard", _stard, results, work)
    return results, problems


def _table_one(work, asked, problems):
    columns, both = [], (asked["positive"], asked["negative"])
    options = {"by": asked["group"], "order": [name for name in both if (work[asked["group"]] == name).any()]}
    for name in used_columns(asked):  # a column that cannot be described does not take the others with it
        try:
            stats.table_one(work, columns=[name], **options)
            columns.append(name)
        except ValueError as error:
            problems.append(("table1", str(error)))
    median = [name for name in asked["median"] if name in columns]
    return stats.table_one(work, columns=columns, **options, median=median, names=_in_print(columns, asked))


def _in_print(columns, asked):
    """What Table 1 calls its columns: what was asked for, else the name with its unit, where that is no other's."""
    names = {name: asked["names"].get(name, axis_name(name)) for name in columns}
    printed = list(names.values())
    return {name: text if printed.count(text) == 1 else name for name, text in names.items()}


def _correlation(positives, name, score):
    try:
        return stats.spearman(positives, x=name, y=score).iloc[0].to_dict()
    except ValueError as error:
        both = int((positives[name].notna() & positives[score].notna()).sum())
        return {"x": name, "y": score, "n": both, "n_missing": len(positives) - both, "r": np.nan, "r_low": np.nan,
                "r_high": np.nan, "p": np.nan, "method": "", "interval": "", "note": str(error)}


def _comparison(positives, name, score):
    row = {"x": name, "y": score, "group_1": "", "group_2": "", "n_1": 0, "n_2": 0, "n_missing": len(positives),
           **dict.fromkeys(("median_1", "median_2", "shift", "shift_low", "shift_high", "rank_biserial", "u", "z", "p"),
                           np.nan), "method": "", "note": ""}
    try:
        found = stats.mann_whitney(positives, value=score, group=name).iloc[0].to_dict()
        apart = stats.hodges_lehmann(positives, value=score, group=name).iloc[0].to_dict()
    except ValueError as error:
        return row | {"note": str(error)}
    notes = [note for note in (found["note"], apart["note"]) if note]
    notes += ["fewer than five in a group: p by the normal approximation is rough"] * (
        min(found["n_1"], found["n_2"]) < 5)
    both = {"method": f"{found['method']}; {apart['method']}", "note": "; ".join(notes)}
    return {key: {**row, **apart, **found, **both}[key] for key in row}


def _family(rows):
    """Tests with p adjusted for their number, by Holm and by Benjamini and Hochberg."""
    table = pd.DataFrame(rows)
    place = table.columns.get_loc("p") + 1
    n = int(table["p"].notna().sum())
    for offset, (name, method) in enumerate((("p_holm", "holm"), ("p_bh", "bh"))):
        table.insert(place + offset, name, stats.adjust_p(table, method=method)["p_adjusted"] if n else np.nan)
    table.insert(place + 2, "n_tests", n)
    return table


def _stard(results, work):
    made = record()
    facts = {"software": "mrmyo", "n_subjects": len(work), "missing_handling": "left out where the value is needed",
             "versions": {"mrmyo": made["mrmyo"], "Python": made["python"],
                          **{name: made["packages"][name] for name in ("numpy", "scipy", "pandas")}}}
    if "table1" in results:
        facts["baseline_table"] = "table1.csv"
    if "roc" in results:
        facts |= stats.facts_of_roc(results["roc"])
    return stats.stard(facts)
