"""Self-contained HTML pages: figures inside, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

from mrmyo.figures.pictures import montage, t2_map
from mrmyo.figures.reliability import reliability_maps
from mrmyo.files import replacing
from mrmyo.labels import is_muscle
from mrmyo.volume import Volume, resample, to_canonical

__all__ = ["draw_levels", "figure_html", "table_html", "write_page", "write_quality_page"]

SYNTHETIC_MANUFACTURER = "mrmyo synthetic scanner"  # as mrmyo.simulation signs what it makes
COLUMNS = ("side", "muscle", "t2_ms", "t2_sd_ms", "t2_median_ms", "t2_noise_ms", "t2_mean_sd_ms", "n_voxels",
           "n_failed", "volume_ml")
WATER_COLUMNS = ("side", "muscle", "water_t2_ms", "water_t2_sd_ms", "water_t2_noise_ms", "water_t2_mean_sd_ms",
                 "n_water_failed", "fat_fraction")
RESEARCH_ONLY = "Research use only. Not a medical device; not for diagnosis or treatment decisions."
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
.notice{background:#fff4e5;border-left:4px solid #d55e00;padding:.5rem .9rem;margin:1rem 0}
table{border-collapse:collapse;font-size:.87rem;margin:.8rem 0}th{text-align:left;border-bottom:1px solid #888}
td,th{padding:.18rem .7rem .18rem 0;font-variant-numeric:tabular-nums;vertical-align:top}
td.number{text-align:right}figure{margin:1rem 0}figure img{max-width:100%;height:auto}
figcaption{font-size:.87rem;color:#555}pre{background:#f6f6f6;padding:.7rem;overflow-x:auto;font-size:.8rem}
"""


def figure_html(figure, *, caption: str, dpi: int = 110) -> str:
    """A Matplotlib figure as an HTML figure with the picture inside; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    plt.close(figure)
    picture = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{picture}"><figcaption>{text}</figcaption></figure>'


def table_html(table, *, digits: int = 2) -> str:
    """A DataFrame as an HTML table; numbers to `digits` places, absent values as a dash."""
    import pandas as pd

    def cell(value):
        if value is None or (not isinstance(value, str) and pd.isna(value)):
            return '<td class="number">–</td>'
        if isinstance(value, bool | str):
            return f"<td>{html.escape(str(value))}</td>"
        text = f"{value:.{digits}f}" if isinstance(value, float) else f"{value}"
        return f'<td class="number">{html.escape(text)}</td>'

    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(map(cell, row)) + "</tr>\n" for row in table.itertuples(index=False))
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def write_page(path, *, title: str, body: str, synthetic: bool = False) -> Path:
    """Write a page with its title, the notice that it is for research only, and a body of HTML.

    Parameters
    ----------
    path : path
    title : str
    body : str
        HTML.
    synthetic : bool
        Whether the page says that its data are synthetic.

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    notice = RESEARCH_ONLY + (" All data on this page are synthetic: no patient was measured." if synthetic else "")
    page = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1><p class="notice">{notice}</p>'
            f"{body}</body></html>\n")
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def write_quality_page(
    path, *, rows, flags, facts, structural: Volume, mask: Volume, t2: Volume, labels: Volume, slices=None,
    models=None, reliability=None, steps=None,
) -> Path:
    """The page of one study: mask on the structural image, T2 map, rows, flags, provenance.

    Parameters
    ----------
    path : path
    rows : pandas.DataFrame
        From `mrmyo.t2_by_muscle`.
    flags : list of str
        From `mrmyo.measure.quality_flags`.
    facts : mapping
        ``subject``, ``mask``, ``alignment``, ``provenance`` and whatever else the page shall tell.
    structural, mask : Volume
        The image that the mask was drawn on, and the mask.
    t2, labels : Volume
        T2 map in ms and the labels carried to it.
    slices : pandas.DataFrame, optional
        Of an automatic mask: what is known of every slice (``slice``, ``side``, ``expected_dice``, ``flag``, …).
    models : pandas.DataFrame, optional
        T2 by model, of `mrmyo.t2_compare.compare_models`.
    reliability : mapping of Volume, optional
        For `mrmyo.figures.reliability_maps`.
    steps : pandas.DataFrame, optional
        T2 by the steps of alignment and region, of `mrmyo.study_alignment.read_steps`.
    """
    body = ["<h2>Flags</h2>", "<ul>" + "".join(f"<li>{html.escape(flag)}</li>" for flag in flags) + "</ul>" if flags
            else "<p>None.</p>"]
    if facts.get("notes"):
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in facts["notes"])
        body += ["<h2>Notes</h2>", f"<ul>{notes}</ul>"]
    body += [
        "<h2>T2 by side and muscle</h2>",
        table_html(rows[list(COLUMNS)]),
    ]
    if "water_t2_ms" in rows:
        body += ["<h3>Water T2 (stimulated echoes and Dixon fat corrected for) and fat fraction</h3>",
                 table_html(rows[list(WATER_COLUMNS)])]
    body += [
        "<h2>Mask on the structural image</h2>",
        figure_html(
            _montage_figure(structural, mask),
            caption="Slices from feet to head; patient's left on the right of the picture.",
        ),
    ]
    body += _slice_section(slices, structural, mask)
    body += ["<h2>T2 map</h2>", figure_html(
        _map_figure(t2, labels, structural), caption="T2 in milliseconds within the carried mask.")]
    body += _alignment_section(facts.get("alignment"), steps)
    body += _reliability_section(models, reliability)
    body += ["<h2>Provenance</h2>", f"<pre>{html.escape(_as_text(facts))}</pre>"]
    synthetic = structural.meta.get("Manufacturer") == SYNTHETIC_MANUFACTURER
    return write_page(path, title=f"{facts['subject']}: thigh muscle T2", body="\n".join(body), synthetic=synthetic)


def _alignment_section(report, steps):
    """Where the mask came to lie on the T2 images, and what each step to it does to T2."""
    if steps is None:
        return []
    import matplotlib.pyplot as plt

    from mrmyo.figures.alignment import misalignment

    told = f"{report['method']}; refinement: {report['refinement']}."
    if report["slices"]:
        told += (f" By the images, the muscle lies {report['misalignment_mm']:.1f} mm from where the headers put it, "
                 f"turned by {report['rotation_deg']:.1f}°; registration there and back differ by "
                 f"{report['apart_mm']:.1f} mm.")
    shown = steps.rename(columns={"change_ms": "change (ms)"}).assign(
        counts=steps.counts.map({True: "yes", False: "no"}))
    parts = ["<h2>Alignment to the T2 images</h2>", f"<p>{html.escape(told)}</p>",
             "<p>T2 of all muscle by each step; changes of the alignment against the headers alone, those of a "
             "narrower region against the aligned mask. “No” is tried for this table only.</p>", table_html(shown)]
    if report["slices"]:
        figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
        misalignment(report, ax=ax)
        parts.append(figure_html(figure, caption="How far the muscle of every T2 slice lies from where the headers put "
                                 "it; dots: what single slices are off in plane beyond that, where it was measured."))
    return parts


def _reliability_section(models, maps):
    """How far T2 can be trusted: its maps, and the same muscle by every model."""
    if models is None or not maps:
        return []
    shown = models[["model", "t2_ms", "change_ms", "residual", "n_voxels", "n_failed"]].assign(
        residual=100 * models.residual).rename(columns={"change_ms": "change (ms)", "residual": "residual (%)"})
    lost = "".join(f"<li>{html.escape(row.model)}: {html.escape(str(row.note))}</li>"
                   for row in models[models.t2_ms.isna()].itertuples())
    return [
        "<h2>How far T2 can be trusted</h2>",
        "<p>The same muscle by every model; evenly spread slices of a large stack. What separates the rows is the "
        "model, not the patient: compare T2 only with T2 of the same model.</p>",
        table_html(shown), f"<ul>{lost}</ul>" if lost else "",
        figure_html(reliability_maps(maps), caption="The middle slice. Residual: what the fit leaves, root mean "
                    "square. Second echo² / (first × third): above 1 only where there are stimulated echoes (or "
                    "noise). SD: the Cramér–Rao bound of a single voxel."),
    ]


def _slice_section(slices, structural, mask):
    """The flagged slices: pictures of those that promise least, and a table of all."""
    if slices is None or slices.empty:
        return []  # a reviewed mask, or one of a network that tells nothing
    flagged = slices[slices.flag.fillna("") != ""]
    if flagged.empty:
        return ["<h2>Slices to look at first</h2>", "<p>None was flagged; look at the mask all the same.</p>"]
    shown = flagged[~flagged["empty"].astype(bool)].sort_values("expected_dice")["slice"].drop_duplicates().head(6)
    parts = ["<h2>Slices to look at first</h2>"]
    if len(shown):
        caption = "Flagged slices, those that promise least; numbers as in the table, along the array of the image."
        parts.append(figure_html(_strip_figure(structural, mask, sorted(shown)), caption=caption))
    columns = ["slice", "side", "expected_dice", "muscle_cm2", "flag"]
    return [*parts, table_html(flagged[columns])]


def _strip_figure(structural, mask, numbers):
    """Slices, three in a row, by their number along the array."""
    import matplotlib.pyplot as plt
    import numpy as np

    from mrmyo.figures.pictures import overlay

    axis = structural.slice_axis
    upwards = structural.affine[2, axis] > 0
    columns, rows = min(len(numbers), 3), -(-len(numbers) // 3)
    size = np.array(structural.shape) * structural.spacing_mm
    tall = size[2 if axis == 1 else 1] / size[1 if axis == 0 else 0]
    figure = plt.figure(figsize=(3.2 * columns, rows * (3.2 * min(max(tall, 0.3), 1.2) + 0.3)), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax in grid[len(numbers):]:
        ax.remove()
    for number, ax in zip(numbers, grid, strict=False):
        index = int(number) if upwards else structural.shape[axis] - 1 - int(number)
        overlay(structural, mask, slice_index=index, ax=ax, style="outline", title=f"slice {number}")
    return figure


def _as_text(facts):
    import json

    return json.dumps(facts, indent=1, default=str)


def _montage_figure(volume, labels):
    return montage(volume, labels, n=9, style="outline")[0].figure


def draw_levels(figure, structural: Volume, t2: Volume, labels: Volume) -> None:
    """Draw the labels on the structural image, and T2 within them, at three levels from feet to head.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or SubFigure
    structural : Volume
    t2, labels : Volume
        T2 in ms and the labels that count, on one grid.
    """
    import numpy as np

    from mrmyo.figures.pictures import overlay

    shown = to_canonical(t2.with_array(np.where(is_muscle(labels.array), t2.array, np.nan).astype(np.float32)))
    regions, beneath = to_canonical(labels), resample(structural, shown)
    filled = np.flatnonzero((regions.array > 0).any((0, 1)))
    picks = np.quantile(filled if filled.size else np.arange(shown.shape[2]), [0.15, 0.5, 0.85]).round().astype(int)
    axes = figure.subplots(2, 4, width_ratios=[1, 1, 1, 0.04])
    for column, (index, level) in enumerate(zip(picks, ("towards the knee", "middle", "towards the hip"), strict=True)):
        overlay(beneath, regions, slice_index=int(index), ax=axes[0, column], style="outline", title=level)
        t2_map(shown, slice_index=int(index), ax=axes[1, column], colour_bar=False, title="")
    axes[0, 3].set_axis_off()
    figure.colorbar(axes[1, 0].images[0], cax=axes[1, 3], label="T2 (ms)", extend="both")


def _map_figure(t2, labels, structural):
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.5, 4.4), layout="constrained")
    draw_levels(figure, structural, t2, labels)
    return figure
