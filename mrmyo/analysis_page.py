"""The figures and the page of an analysis."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pandas as pd

from mrmyo.figures.style import axis_name, plain_name, with_unit

__all__ = ["draw_figures", "page_body"]

VECTOR = {"backend": "agg", "pdf.fonttype": 42, "svg.hashsalt": "mrmyo"}  # journals ask for TrueType
SPREAD = 50  # largest over smallest value from which on an axis is logarithmic
DASH = "–"
PARTS = {"table": "The table", "table1": "Table 1", "roc": "ROC curve", "roc_points": "ROC curve",
         "roc_stability": "Stability of the cutoff", "predictive_values": "Predictive values",
         "adjusted_roc": "ROC curve adjusted for covariates", "correlations": "Correlations",
         "comparisons": "Comparisons", "stard": "STARD 2015", "figures": "Figures"}


def draw_figures(work, results, asked, folder, notes) -> dict:
    """Draw every figure and save it as PDF and SVG, one column wide.

    Parameters
    ----------
    work : pandas.DataFrame
        The rows of both groups.
    results : dict of pandas.DataFrame
        What `mrmyo.analysis.analyse` computed.
    asked : dict
        Its options.
    folder : pathlib.Path
    notes : list of (part, note)
        Receives why a figure could not be drawn.

    Returns
    -------
    dict of str
        Name of the figure: HTML with the figure inside.
    """
    import matplotlib

    from mrmyo import figures

    score, group, synthetic = asked["score"], asked["group"], asked["synthetic"]
    positives = work[work[group] == asked["positive"]].drop(columns=group)
    shown, taken = {}, set()

    def save(name, caption, draw, *columns):
        try:
            figure = draw().figure
        except ValueError as error:
            return notes.append(("figures", f"{name}: {error}"))
        _rename(figure, asked["names"], (score, *columns))
        stem = _stem(name, taken)
        figure.savefig(folder / f"{stem}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
        shown[name] = figures.pages.figure_html(figure, caption=f"{caption} ({stem}.pdf, {stem}.svg)", dpi=150)

    with matplotlib.rc_context(VECTOR):
        if "roc" in results:
            save("roc", "ROC curve with its area, the interval and the cutoff", lambda: figures.roc_curve(
                work, score=score, group=group, positive=asked["positive"], synthetic=synthetic))
        save("strip", "Every subject by group, over a box of the quartiles", lambda: figures.group_strip(
            work, value=score, group=group, cutoff=_cutoff(results), synthetic=synthetic))
        drawn = results["correlations"].dropna(subset="r").x if "correlations" in results else ()
        for name in drawn:
            save(f"scatter_{name}", f"{_named(name, asked)} and {_named(score, asked)} of {asked['positive']}",
                 lambda name=name: figures.rank_scatter(
                     positives, x=name, y=score, log_x=_is_spread(positives, name, score), synthetic=synthetic), name)
        drawn = results["comparisons"].dropna(subset="median_1").x if "comparisons" in results else ()
        for name in drawn:
            save(f"compare_{name}", f"{_named(score, asked)} of {asked['positive']} by {plain_name(name)}",
                 lambda name=name: figures.group_strip(positives, value=score, group=name, synthetic=synthetic))
    return shown


def _cutoff(results):
    cutoff = results["roc"].cutoff.item() if "roc" in results else np.nan
    return cutoff if np.isfinite(cutoff) else None


def _is_spread(positives, x, y):
    values = positives[x][positives[y].notna()].dropna()
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > SPREAD)


def _rename(figure, names, columns):
    """What the reader is to see in place of a column's name."""
    for ax in figure.axes:
        for name in columns:
            if name in names:
                ax.set_xlabel(ax.get_xlabel().replace(axis_name(name), names[name]))
                ax.set_ylabel(ax.get_ylabel().replace(axis_name(name), names[name]))


def _stem(name, taken):
    """A file name for a figure: letters, digits, and no two alike, whatever the capitals."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60]
    while stem.casefold() in taken:
        stem += "_"
    taken.add(stem.casefold())
    return stem


def _named(name, asked):
    return asked["names"].get(name, axis_name(name))


def page_body(results, asked, notes, shown, facts) -> str:
    """The body of the page: every table and figure, what could not be done and why, where it all comes from.

    Parameters
    ----------
    results, asked, notes
        As for `draw_figures`.
    shown : dict of str
        What that returned.
    facts : dict
        Of `mrmyo.provenance.record`.

    Returns
    -------
    str
        HTML.
    """
    from mrmyo.figures.pages import table_html

    body = []

    def section(parts, title, *content):
        told = [(f"{PARTS[part]}: " if len(parts) > 1 else "") + note for part, note in dict.fromkeys(notes)
                if part in parts]
        told = [f'<p class="notice">{html.escape(note)}</p>' for note in told]
        content = [part for part in content if part]
        if told or content:
            body.extend([f"<h2>{title}</h2>", *told, *content])

    section(("table", "figures"), "What was left out")
    section(("table1",), "Table 1", _table_one_shown(results))
    section(("roc", "roc_points", "roc_stability", "predictive_values", "adjusted_roc"),
            html.escape(f"{asked['positive']} against {asked['negative']}"), _roc_section(results, asked),
            shown.get("roc"), shown.get("strip"))
    for part, make in (("correlations", _correlations_shown), ("comparisons", _comparisons_shown)):
        if part in results:
            words = (f"Among {asked['positive']}. One family of {int(results[part].n_tests.iloc[0])} tests; p also "
                     "adjusted for their number by Holm and by Benjamini and Hochberg (BH).")
            start = {"correlations": "scatter_", "comparisons": "compare_"}[part]
            section((part,), PARTS[part], f"<p>{html.escape(words)}</p>", table_html(make(results[part], asked)),
                    *(figure for name, figure in shown.items() if name.startswith(start)))
    if "stard" in results:
        listed = results["stard"]
        n = int((listed.status == "filled").sum())
        section(("stard",), "STARD 2015", f"<p>{n} of {len(listed)} items follow from the numbers; the rest only the "
                "authors know. Topics are in our words: read the original list beside them.</p>",
                table_html(listed[["item", "section", "topic", "answer", "status"]]))
    text = json.dumps(facts, indent=1, default=str)
    section((), "Provenance", f"<pre>{html.escape(text)}</pre>")
    return "\n".join(body)


def _table_one_shown(results):
    """Table 1 with the name of a category told once."""
    from mrmyo.figures.pages import table_html

    if "table1" not in results:
        return ""
    table = results["table1"]
    return table_html(table.assign(variable=table.variable.where(~table.variable.duplicated(), "")))


def _roc_section(results, asked):
    """The numbers of the curve, each with its interval and how it was found."""
    from mrmyo.figures.pages import table_html

    rows, notes = [], []

    def add(quantity, value, low, high, how, percent=False):
        if pd.isna(value):
            return
        scale, digits, unit = (100, 1, "\u00a0%") if percent else (1, 3, "")
        interval = DASH if pd.isna(low) else f"{scale * low:.{digits}f} to {scale * high:.{digits}f}{unit}"
        rows.append({"quantity": quantity, "value": f"{scale * value:.{digits}f}{unit}", "95 % interval": interval,
                     "how": how})

    if "roc" in results:
        row = results["roc"].iloc[0]
        notes.append(row.note)
        add("area under the curve", row.auc, row.auc_low, row.auc_high, row.auc_method)
        rows.append({"quantity": "p (area of 0.5)", "value": _p(row.p), "95 % interval": DASH, "how": row.p_method})
        exact = "Clopper–Pearson"
        if pd.notna(row.cutoff):
            rows.append({"quantity": "cutoff", "value": with_unit(row.cutoff, asked["score"]), "95 % interval": DASH,
                         "how": row.cutoff_method})
            add(f"sensitivity, {row.true_positive:.0f} of {row.n_positive}", row.sensitivity, row.sensitivity_low,
                row.sensitivity_high, exact, percent=True)
            add(f"specificity, {row.true_negative:.0f} of {row.n_negative}", row.specificity, row.specificity_low,
                row.specificity_high, exact, percent=True)
    if "roc_stability" in results:
        row = results["roc_stability"].iloc[0]
        rows.append({"quantity": "Youden's cutoff, resampled", "value": with_unit(row.cutoff, asked["score"]),
                     "95 % interval": f"{row.cutoff_low:.1f} to {row.cutoff_high:.1f}", "how": row.method})
        add("Youden's index", row.youden, np.nan, np.nan, "in its own sample")
        add("Youden's index, less optimism", row.youden_corrected, np.nan, np.nan, "bootstrap")
        add("sensitivity, leave one out", row.loo_sensitivity, np.nan, np.nan, "each called by the others' cutoff",
            percent=True)
        add("specificity, leave one out", row.loo_specificity, np.nan, np.nan, "each called by the others' cutoff",
            percent=True)
    if "predictive_values" in results:
        row = results["predictive_values"].iloc[0]
        notes.append(row.note and f"Predictive values: {row.note}.")
        for name, words in (("ppv", "positive predictive value"), ("npv", "negative predictive value")):
            add(f"{words} at a prevalence of {row.prevalence:.1%}", row[name], row[f"{name}_low"], row[f"{name}_high"],
                row.method, percent=True)
    if "adjusted_roc" in results:
        row = results["adjusted_roc"].iloc[0]
        notes.append(row.note and f"Adjusted curve: {row.note}")
        add(f"area adjusted for {row.covariates}", row.adjusted_auc, row.adjusted_auc_low, row.adjusted_auc_high,
            row.method)
    told = "".join(f"<p>{html.escape(note)}</p>" for note in notes if note)
    rows = [row | {"value": row["value"].replace(" ", "\u00a0")} for row in rows]  # no line ends before a unit
    return table_html(pd.DataFrame(rows)) + told if rows else ""


def _p(p):
    return DASH if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _interval(low, high, digits):
    return DASH if pd.isna(low) else f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−")


def _number(value, digits):
    return DASH if pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def _correlations_shown(table, asked):
    return pd.DataFrame([{
        "with": _named(row.x, asked), "n": row.n, "rs": _number(row.r, 3),
        "95 % interval": _interval(row.r_low, row.r_high, 2),
        "p": _p(row.p), "p (Holm)": _p(row.p_holm), "p (BH)": _p(row.p_bh),
    } for row in table.itertuples()])


def _comparisons_shown(table, asked):
    return pd.DataFrame([{
        "by": plain_name(row.x),
        "groups (n)": f"{row.group_1} ({row.n_1}), {row.group_2} ({row.n_2})" if row.n_1 else DASH,
        "medians": f"{row.median_1:.2f}, {row.median_2:.2f}" if row.n_1 else DASH, "shift": _number(row.shift, 2),
        "95 % interval": _interval(row.shift_low, row.shift_high, 2), "rank-biserial": _number(row.rank_biserial, 2),
        "p": _p(row.p), "p (Holm)": _p(row.p_holm), "p (BH)": _p(row.p_bh),
    } for row in table.itertuples()])
