"""Figures of a mask beside its reference: numbers by muscle, by level, and the two masks on the image."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.pictures import _draw_labels, _extent, _name_colours, _orient, _picture, _ready, _title, _window
from mrmyo.figures.style import COLOURS, FigureError, axis_name, finish, new_axes
from mrmyo.labels import is_muscle
from mrmyo.volume import Volume

__all__ = ["level_map", "mask_pair", "muscle_strip"]

SIDES = {"left": ("sky", "<"), "right": ("orange", ">"), "both": ("green", "o")}
MARGIN_MM = 30  # fat and skin around the muscles
WORDS = {
    "dice": "Dice",
    "hd95_mm": "95th percentile of surface distances (mm)",
    "surface_distance_mm": "Mean surface distance (mm)",
    "hd95_in_plane_mm": "95th percentile in plane (mm)",
    "surface_distance_in_plane_mm": "Mean distance of outlines (mm)",
    "volume_error_percent": "Volume, mask − reference (%)",
    "volume_error_ml": "Volume, mask − reference (ml)",
    "delta_t2_ms": "T2, mask − reference (ms)",
    "n_missed_slices": "Slices missed",
    "n_extra_slices": "Slices of the mask alone",
    "other_side_ml": "Mask on the side that is not drawn (ml)",
}


def muscle_strip(rows, *, value="dice", level="all", summary=None, goal=None, ax=None, synthetic=False):
    """One number of every case and side by muscle, with the mean over subjects and its interval.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.evaluate`, of one or many cases (column ``subject``).
    value : str
        A column of the rows.
    level : str
        Which of the levels.
    summary : pandas.DataFrame, optional
        From `mrmyo.evaluation_summary.summarise`: its means are drawn in black, with their 95 % intervals.
    goal : float or (float, float), optional
        Drawn as dashed lines.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When the rows do not have the column or the level.
    """
    needed = ("side", "abbreviation", "level", value)
    if missing := [name for name in needed if name not in rows]:
        raise FigureError(f"Found no column {missing}; expected the rows of mrmyo.evaluate.")
    shown = rows[rows.level == level]
    if not len(shown):
        raise FigureError(f"Found no rows of the level {level!r}; there are {', '.join(rows.level.unique())}.")
    names = list(dict.fromkeys(shown.abbreviation))
    ax = new_axes(ax, height=0.9 + 0.21 * len(names))
    place = {name: i for i, name in enumerate(names)}
    spread = np.random.default_rng(0)  # for the eye only, the same at every call
    for side, (colour, marker) in SIDES.items():
        part = shown[shown.side == side]
        if len(part):
            y = part.abbreviation.map(place).to_numpy(float) + spread.uniform(-0.32, 0.02, len(part))
            ax.scatter(part[value], y, s=14, color=COLOURS[colour], marker=marker, alpha=0.8, linewidths=0, label=side,
                       clip_on=False)
    if summary is not None:
        _draw_means(ax, summary[(summary.measure == value) & (summary.level == level)], place)
    for line in np.atleast_1d([] if goal is None else goal):
        ax.axvline(line, color=COLOURS["black"], linewidth=0.8, linestyle="--", zorder=0)
    if shown[value].min() < 0:
        ax.axvline(0, color=COLOURS["grey"], linewidth=0.8, zorder=0)
    elif value != "dice":
        ax.set_xlim(left=0)
    if value == "dice":
        ax.set_xlim(max(0.0, np.floor(10 * shown[value].min() - 0.5) / 10), 1.0)
    ax.locator_params(axis="x", nbins=6)
    missing = int(shown[value].isna().sum())
    n = shown.subject.nunique() if "subject" in shown else 1
    ax.set_yticks(range(len(names)), ["whole" if name == "ALL" else name for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    without = f", {missing} without" if missing else ""
    ax.set_xlabel(f"{WORDS.get(value, axis_name(value))}\n(n = {n}{without})")
    ax.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, handletextpad=0.1,
              columnspacing=0.9, borderaxespad=0.1)
    return finish(ax, "" if level == "all" else f"Level: {level}", synthetic, pad=18)


def _draw_means(ax, summary, place):
    drawn = summary[summary.abbreviation.isin(list(place))]
    # the whole muscle has two means: of the sides, and of both thighs at once, which is the one shown
    drawn = drawn[(drawn.side == "both") | (drawn.abbreviation != "ALL")]
    name = "mean, 95 %" if drawn.mean_low.notna().any() else "mean"
    for i, row in enumerate(drawn.itertuples()):
        y = place[row.abbreviation] + 0.24  # below its points, so that it hides none
        ax.plot([row.mean], [y], "D", color=COLOURS["black"], markersize=3, zorder=3, label=name if i == 0 else None)
        if np.isfinite(row.mean_low):
            ax.plot([row.mean_low, row.mean_high], [y, y], color=COLOURS["black"], linewidth=1.4, zorder=3)


def level_map(summary, *, value="dice", ax=None, synthetic=False):
    """The mean over subjects by muscle and slice level, as a table of colours with the numbers in it.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `mrmyo.evaluation_summary.summarise`.
    value : str
        One of its measures.
    ax, synthetic
        As for :func:`muscle_strip`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    table = summary[(summary.measure == value) & (summary.side != "both")]
    if not len(table):
        raise FigureError(f"Found no measure {value!r}; there are {', '.join(summary.measure.unique())}.")
    wide = table.pivot(index="abbreviation", columns="level", values="mean")
    wide = wide.loc[list(dict.fromkeys(table.abbreviation)), list(dict.fromkeys(table.level))]
    numbers = wide.to_numpy(float)
    ax = new_axes(ax, height=0.8 + 0.21 * len(wide))
    signed = np.nanmin(numbers) < 0
    if value == "dice":
        scale = {"cmap": "cividis", "vmin": min(0.5, float(np.nanmin(numbers))), "vmax": 1.0}
    else:
        far = float(np.nanmax(np.abs(numbers))) or 1.0
        scale = {"cmap": "PuOr" if signed else "cividis_r", "vmin": -far if signed else 0.0, "vmax": far}
    image = ax.imshow(numbers, aspect="auto", **scale)
    for (i, j), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            red, green, blue, _ = image.cmap(image.norm(number))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            text = f"{number:.2f}" if value == "dice" or abs(number) < 10 else f"{number:.0f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    ax.set_xticks(range(len(wide.columns)), list(wide.columns))
    names = {"ALL": "whole", "MEAN": "mean"}
    ax.set_yticks(range(len(wide)), [names.get(name, name) for name in wide.index])
    n = f"n {'=' if table.n.nunique() == 1 else '≤'} {int(table.n.max())}"
    ax.set_xlabel(f"{WORDS.get(value, axis_name(value))}, mean ({n})")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return finish(ax, "", synthetic)


def mask_pair(image: Volume | None, labels: Volume, reference: Volume, *, slice_index=None, ax=None, alpha=0.5,
              legend=False, title=None, synthetic=False):
    """One axial slice with the muscles of a mask in the fixed colours of the muscles, and the reference as white lines.

    Parameters
    ----------
    image : Volume or None
        On the grid of the masks; without one the masks are drawn on black.
    labels, reference : Volume
        Label maps on one grid, in any axis order.
    slice_index, alpha, legend, title, synthetic
        As for :func:`mrmyo.figures.overlay`; without a slice, the one with most reference. The picture is cut to what
        lies within MARGIN_MM of either mask, in whatever slice.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When the grids differ or the slice does not exist.
    """
    from matplotlib.patheffects import withStroke

    from mrmyo.volume import in_axis_order_of, to_canonical

    reference = to_canonical(reference)
    parts = [in_axis_order_of(volume, reference) for volume in (labels, image) if volume is not None]
    for volume in parts:
        _, _, slice_index = _ready(volume, reference, slice_index)  # refuses other grids
    labels, reference = (volume.with_array(np.where(is_muscle(volume.array), volume.array, 0))
                         for volume in (parts[0], reference))
    frame = {"extent": _extent(reference), "origin": "lower", "interpolation": "nearest"}
    ax = new_axes(ax, height=2.4)
    if image is None:
        beneath, low, high = np.zeros(reference.shape[1::-1]), 0.0, 1.0
    else:
        shown = parts[1].echo(0) if parts[1].array.ndim == 4 else parts[1]
        beneath = _picture(shown, slice_index)
        low, high = _window(beneath)
    ax.imshow(beneath, cmap="gray", vmin=low, vmax=high, **frame)
    labels_here = _picture(labels, slice_index)
    _draw_labels(ax, labels_here, frame, "fill", alpha)
    theirs = _picture(reference, slice_index)
    width, height = frame["extent"][1], frame["extent"][3]
    x = (np.arange(theirs.shape[1]) + 0.5) * width / theirs.shape[1]
    y = (np.arange(theirs.shape[0]) + 0.5) * height / theirs.shape[0]
    for value in np.unique(theirs[theirs > 0]):
        lines = ax.contour(x, y, theirs == value, levels=[0.5], colors="white", linewidths=0.7)
        lines.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
    any_mask = _picture(reference.with_array(((labels.array > 0) | (reference.array > 0)).any(2, keepdims=True)), 0)
    for limits, centres, axis, end in ((ax.set_xlim, x, 0, width), (ax.set_ylim, y, 1, height)):
        found = centres[any_mask.any(axis)]
        if found.size:
            limits(max(found[0] - MARGIN_MM, 0), min(found[-1] + MARGIN_MM, end))
    if legend:
        _name_colours(ax, np.where(labels_here > 0, labels_here, theirs))
    return _orient(ax, _title(reference, slice_index) if title is None else title, synthetic)
