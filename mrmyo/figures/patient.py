"""The report of one patient for a clinician: one page as PDF, the same as HTML."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from mrmyo.figures.pages import (
    RESEARCH_ONLY,
    SYNTHETIC_MANUFACTURER,
    draw_levels,
    figure_html,
    table_html,
    write_page,
)
from mrmyo.figures.pictures import label_colours
from mrmyo.files import replacing
from mrmyo.labels import label_table
from mrmyo.volume import Volume

__all__ = ["patient_table", "write_patient_html", "write_patient_pdf"]

A4_IN = (8.27, 11.69)
WHOLE = "whole muscle"  # as in mrmyo.measure
MOST_FLAGS, LINE = 6, 112
LOWEST_ML = 5.0  # smaller parts are slips of the mask, not muscles to report
READING = ("T2 is the mean over the muscle; in brackets the SD between its voxels. ± is the standard deviation that "
           "noise gives the mean; errors of the mask and of the model are not in it. Water T2 is corrected for "
           "stimulated echoes and fat. T2 compares only with T2 of the same sequence and model.")


def patient_table(rows):
    """The rows of a study as a clinician reads them: one line a muscle, both sides beside each other, as text.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `mrmyo.process_study`.

    Returns
    -------
    pandas.DataFrame
        Whole muscle first. Parts below 5 ml are left out.
    """
    import pandas as pd

    sides = ["left", "right"]
    found = {(row["muscle"], row["side"]): row for row in rows.to_dict("records")}
    names = [WHOLE, *dict.fromkeys(name for name, side in found if name != WHOLE)]
    names = [name for name in names if max(found.get((name, s), {}).get("volume_ml", 0) for s in sides) >= LOWEST_ML]
    lines = []
    for name in names:
        line = {"muscle": name}
        for side in sides:
            row = found.get((name, side), {})
            line[f"T2 {side} (ms)"] = _with_sd(row, "t2")
            if "water_t2_ms" in rows:
                line[f"water T2 {side} (ms)"] = _with_sd(row, "water_t2", spread=False)
                fat = row.get("fat_fraction", np.nan)
                line[f"fat {side} (%)"] = f"{100 * fat:.0f}" if np.isfinite(fat) else "–"
            line[f"volume {side} (ml)"] = f"{row['volume_ml']:.0f}" if row else "–"
        lines.append(line)
    table = pd.DataFrame(lines)
    return table[["muscle", *sorted(table.columns[1:], key=lambda name: (_kind(name), "right" in name))]]


def _kind(name):
    return ("T2", "water", "fat", "volume").index(name.split()[0])


def _with_sd(row, name, *, spread=True):
    """34.1 ± 0.02 (1.0), or a dash."""
    value = row.get(f"{name}_ms", np.nan)
    if not np.isfinite(value):
        return "–"
    sd = row.get(f"{name}_mean_sd_ms", np.nan)
    text = f"{value:.1f}" + (f" ± {max(sd, 0.01):.2f}" if np.isfinite(sd) else "")  # never "± 0.00"
    return text + (f" ({row[f'{name}_sd_ms']:.1f})" if spread and np.isfinite(row[f"{name}_sd_ms"]) else "")


def _headline(rows):
    """What the page says first, in words."""
    whole = rows[(rows.muscle == WHOLE) & (rows.side == "both")].iloc[0]
    parts = [f"Muscle of both thighs: T2 {_with_sd(whole, 't2')} ms"]
    if "water_t2_ms" in rows and np.isfinite(whole.water_t2_ms):
        parts.append(f"water T2 {_with_sd(whole, 'water_t2', spread=False)} ms, fat {100 * whole.fat_fraction:.0f} %")
    parts.append(f"{whole.volume_ml:.0f} ml ({int(whole.n_voxels)} voxels; {int(whole.n_failed)} could not be fitted)")
    return "; ".join(parts) + "."


def _sources(facts):
    """How the numbers came about, in a few lines."""
    report, made = facts["alignment"], facts.get("provenance", {})
    moved = report.get("misalignment_mm")
    measured = "" if moved is None or not np.isfinite(moved) else (
        f"; by the images the muscle lay {moved:.1f} mm from where the headers put it, turned by "
        f"{report['rotation_deg']:.1f}°")
    versions = made.get("versions", made)
    by = f" by {facts['reviewer']} (journal {facts['mask_journal']})" if facts.get("reviewer") else ""
    return [f"Subject {facts['subject']}, session {facts['session']}. T2 model: {facts['t2_model']}. "
            f"Mask: {facts['mask']}{by}.",
            f"Alignment: {report['method']}{measured}. Refinement: {report['refinement']}.",
            f"mrmyo {versions.get('mrmyo', '')}; inputs, settings and versions are in study.json beside this page."]


def write_patient_pdf(path, *, rows, flags, facts, structural: Volume, t2: Volume, labels: Volume) -> Path:
    """Write the page of one patient as PDF, A4.

    Parameters
    ----------
    path : path
    rows : pandas.DataFrame
        Of `mrmyo.process_study`.
    flags : list of str
    facts : mapping
        As in ``study.json``: subject, session, t2_model, mask, alignment, provenance.
    structural : Volume
        The image that the mask was drawn on.
    t2, labels : Volume
        T2 in ms, and the labels that count on its grid.

    Returns
    -------
    pathlib.Path
    """
    import matplotlib
    from matplotlib.figure import Figure

    synthetic = structural.meta.get("Manufacturer") == SYNTHETIC_MANUFACTURER
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure = Figure(figsize=A4_IN)
        head, pictures, numbers = figure.subfigures(3, 1, height_ratios=[1.25, 3.5, 6.6])
        _draw_head(head, rows, facts, synthetic)
        draw_levels(pictures, structural, t2, labels)
        pictures.subplots_adjust(left=0.04, right=0.92, top=0.94, bottom=0.02, wspace=0.05, hspace=0.02)
        _draw_numbers(numbers, rows, flags, facts)
        with replacing(path) as partial:
            figure.savefig(partial, format="pdf", facecolor="white", metadata={
                "Title": f"{facts['subject']}: thigh muscle T2", "Subject": RESEARCH_ONLY, "CreationDate": None})
    return Path(path)


def _colours():
    """The colour of every muscle's outline, by its name."""
    table = label_table()
    drawn = label_colours()
    return {name: drawn[value] for name, value in zip(table.name, table.value, strict=True)}


def _draw_head(figure, rows, facts, synthetic):
    import textwrap

    figure.text(0.04, 0.72, f"Thigh muscle T2: {facts['subject']}", fontsize=15, weight="bold")
    notice = RESEARCH_ONLY + (" Synthetic data: no patient was measured." if synthetic else "")
    figure.text(0.04, 0.46, notice, fontsize=8.5, color="#8a3b00",
                bbox={"facecolor": "#fff4e5", "edgecolor": "#d55e00", "linewidth": 0.8, "pad": 4})
    figure.text(0.04, 0.28, textwrap.fill(_headline(rows), LINE), fontsize=9.5, va="top")


def _draw_numbers(figure, rows, flags, facts):
    import textwrap

    table = patient_table(rows)
    widths = np.array([1.9, *(1.5 if name.startswith("T2") else 1.05 if name.startswith("water") else 0.62
                              for name in table.columns[1:])])
    left = 0.04 + 0.92 * np.concatenate([[0], np.cumsum(widths)[:-1]]) / widths.sum()
    right = np.append(left[1:], 0.96) - 0.008
    y, step = 0.965, 0.0305
    for x, end, name in zip(left, right, table.columns, strict=True):
        text = name.replace(" (", "\n(").replace(" left", "\nleft").replace(" right", "\nright")
        figure.text(x if name == "muscle" else end, y, text, fontsize=7, weight="bold", va="top", linespacing=1.1,
                    ha="left" if name == "muscle" else "right")
    y -= 0.075
    colours = _colours()
    for number, line in enumerate(table.itertuples(index=False)):
        figure.text(0.026, y, "■", fontsize=7, va="top", color=colours.get(line[0], "white"))
        for x, end, name, cell in zip(left, right, table.columns, line, strict=True):
            figure.text(x if name == "muscle" else end, y, cell, fontsize=7.5, va="top",
                        ha="left" if name == "muscle" else "right", weight="bold" if number == 0 else "normal")
        y -= step
    shown = [f"• {flag}" for flag in flags[:MOST_FLAGS]] or ["none"]
    if len(flags) > MOST_FLAGS:
        shown.append(f"• and {len(flags) - MOST_FLAGS} more on the quality page")
    for title, lines in (("How to read it", [READING]), ("Look at", shown), ("Sources", _sources(facts))):
        y -= 0.012
        figure.text(0.04, y, title, fontsize=8.5, weight="bold", va="top")
        y -= 0.025
        for text in lines:
            wrapped = textwrap.wrap(text, LINE + 12)
            figure.text(0.04, y, "\n".join(wrapped), fontsize=7.5, va="top", linespacing=1.25)
            y -= 0.0205 * len(wrapped)


def write_patient_html(path, *, rows, flags, facts, structural: Volume, t2: Volume, labels: Volume) -> Path:
    """The same page as HTML; parameters as for `write_patient_pdf`."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.5, 4.2), layout="constrained")
    draw_levels(figure, structural, t2, labels)
    caption = "The mask on the structural image, and T2 in milliseconds within it; patient's left on the right."
    listed = "".join(f"<li>{html.escape(flag)}</li>" for flag in flags) or "<li>none</li>"
    told = "".join(f"<li>{html.escape(line)}</li>" for line in _sources(facts))
    body = [f"<p><b>{html.escape(_headline(rows))}</b></p>", figure_html(figure, caption=caption),
            "<h2>By muscle</h2>", table_html(patient_table(rows)), f"<p>{READING}</p>",
            "<h2>Look at</h2>", f"<ul>{listed}</ul>", "<h2>Sources</h2>", f"<ul>{told}</ul>"]
    synthetic = structural.meta.get("Manufacturer") == SYNTHETIC_MANUFACTURER
    return write_page(path, title=f"Thigh muscle T2: {facts['subject']}", body="\n".join(body), synthetic=synthetic)
