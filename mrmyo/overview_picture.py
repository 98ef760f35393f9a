"""The picture of `mrmyo check`: where each series of a study lies from feet to head, and its middle slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrmyo.dicom import DicomError, SeriesTable
from mrmyo.files import replacing
from mrmyo.overview_verdict import Verdict, number_of, series_words
from mrmyo.volume import Volume, axis_codes, to_canonical

__all__ = ["draw_overview", "middle_slice", "write_overview"]

MOST_PANELS = 12
MASK, T2, REST = "#0072B2", "#D55E00", "#999999"  # blue, vermilion and grey of Okabe and Ito


def draw_overview(series: SeriesTable, verdict: Verdict):
    """Draw a study; the pixels of every readable series that is shown are read for it.

    A series whose pixels may hold burned-in text is not shown.

    Parameters
    ----------
    series : SeriesTable
    verdict : Verdict

    Returns
    -------
    matplotlib.figure.Figure
        Upright bars from feet to head at the left, and the middle slice of each series.
    """
    from matplotlib.figure import Figure

    rows = [row for row in series.itertuples() if row.readable]
    rows.sort(key=lambda row: row.key not in (*verdict.mask, verdict.t2))  # those that count come first
    left_out = len(rows) - MOST_PANELS
    rows = rows[:MOST_PANELS]
    n_columns = 3 if len(rows) <= 6 else 4
    n_lines = max(1, -(-len(rows) // n_columns))
    figure = Figure(figsize=(11, 1 + 2.6 * max(n_lines, 1.4)), dpi=110, layout="constrained")
    bars, panels = figure.subfigures(1, 2, width_ratios=[1, 3])
    _draw_bars(bars.subplots(), rows, verdict)
    axes = panels.subplots(n_lines, n_columns, squeeze=False).ravel()
    for ax, row in zip(axes, rows, strict=False):
        _draw_slice(ax, series, row, verdict)
    for ax in axes[len(rows):]:
        ax.remove()
    ready = "ready to measure" if verdict.ready else "NOT ready to measure"
    more = f"; {left_out} more series not shown" if left_out > 0 else ""
    figure.suptitle(f"What the study holds: {ready}{more}. Research use only.", fontsize=12)
    return figure


def write_overview(series: SeriesTable, verdict: Verdict, path) -> Path:
    """Write the figure of `draw_overview` as PNG.

    Raises
    ------
    ValueError
        When the name does not end in ``.png``.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"Cannot write {path.name}: expected a name that ends in .png.")
    figure = draw_overview(series, verdict)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": "mrmyo"})
    return path


def _colour(row, verdict):
    return T2 if row.key == verdict.t2 else MASK if row.key in verdict.mask else REST


def _name(row, verdict):
    use = " (T2)" if row.key == verdict.t2 else " (mask)" if row.key in verdict.mask else ""
    return f"{number_of(row)}{use}"


def _draw_bars(ax, rows, verdict):
    """Upright bars, the head above, with the slab of the T2 stack behind them."""
    for x, row in enumerate(rows):
        # places compare only within a study
        feet = min(other.coverage_mm[0] for other in rows if other.study == row.study)
        low, high = (z - feet for z in row.coverage_mm)
        ax.bar(x, high - low, bottom=low, width=0.6, color=_colour(row, verdict))
        if row.key == verdict.t2:
            ax.axhspan(low, high, color=T2, alpha=0.12, zorder=0)
    names = [_name(row, verdict).replace(" (", "\n").strip(")") for row in rows]
    ax.set_xticks(range(len(rows)), names, rotation=0 if len(rows) <= 6 else 90)
    ax.set_xlim(-0.6, max(len(rows), 4) - 0.4)
    ax.set_xlabel("series", fontsize=9)
    ax.set_ylabel("from the feet (0) to the head (mm)", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_slice(ax, series, row, verdict):
    ax.set_xticks([])
    ax.set_yticks([])
    words = series_words(row).replace("\N{NO-BREAK SPACE}", " ")
    study = f"Study {row.study}, series" if series.study.nunique() > 1 else "Series"
    ax.set_title(f"{study} {_name(row, verdict)}\n{words}", fontsize=8)
    for spine in ax.spines.values():
        spine.set_color(_colour(row, verdict))
        spine.set_linewidth(2)
    why = "not shown: text may be\nburned into the pixels" if "burned" in row.warnings else ""
    try:
        picture, (width, height), letters = middle_slice(series.volume(row.key))
    except DicomError:
        why = "pixels cannot\nbe decoded"
    if why:
        ax.text(0.5, 0.5, why, ha="center", va="center", fontsize=9, transform=ax.transAxes)
        return
    low, high = np.percentile(picture[np.isfinite(picture)], [1, 99.5]) if np.isfinite(picture).any() else (0, 1)
    ax.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=(0, width, 0, height), origin="lower",
              interpolation="nearest")
    for (x, y), letter in zip(((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05)), letters, strict=True):
        ax.text(x, y, letter, color="yellow", fontsize=8, ha="center", va="center", transform=ax.transAxes)


def middle_slice(volume: Volume) -> tuple[np.ndarray, tuple[float, float], str]:
    """The slice in the middle of a stack, as a radiologist looks at it, of several echoes the first.

    The patient's right is on the left of the picture and anterior or the head up; on sagittal slices anterior is left.

    Parameters
    ----------
    volume : Volume
        Shaped (column, row, slice) or (column, row, slice, echo), as `SeriesTable.volume` gives it.

    Returns
    -------
    picture : numpy.ndarray
        Shaped (up, right): row 0 is the lowest.
    size_mm : (float, float)
        Width and height.
    letters : str
        The patient's side at the left, right, upper and lower edge.
    """
    volume = volume if volume.array.ndim == 3 else volume.echo(0)
    middle = volume.shape[2] // 2
    slab = to_canonical(volume.with_array(volume.array[:, :, middle : middle + 1]))
    across, up = (axis for axis in range(3) if axis != np.argmax([_is_slice(slab, volume, axis) for axis in range(3)]))
    picture = np.moveaxis(slab.array, (up, across), (0, 1))[:, ::-1].squeeze(-1)
    codes = axis_codes(slab.affine)
    letters = codes[across] + "LRPAIS"["RLAPSI".index(codes[across])] + codes[up] + "LRPAIS"["RLAPSI".index(codes[up])]
    width, height = (float(slab.shape[axis] * slab.spacing_mm[axis]) for axis in (across, up))
    return picture, (width, height), letters


def _is_slice(slab, volume, axis):
    """How nearly an axis of the slab leads along the slices of the volume."""
    step = volume.affine[:3, 2] / np.linalg.norm(volume.affine[:3, 2])
    return abs(slab.affine[:3, axis] @ step) / np.linalg.norm(slab.affine[:3, axis])
