"""Charts by muscle, along slices and along a number: how well a mask agrees, and what becomes of T2."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mrmyo.figures.charts import GROUP_COLOURS
from mrmyo.figures.style import COLOURS, FigureError, axis_name, finish, new_axes
from mrmyo.labels import label_table

__all__ = ["by_muscle", "change_chart", "involvement_map", "profile", "trend"]

WIDE_IN = 7.0
WHOLE = "ALL"


def by_muscle(table, *, value="dice", by=None, ax=None, synthetic=False):
    """One number of every muscle: a point at the mean of the sides, a line between them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows with ``abbreviation`` and, where there are two, ``side``; as `mrmyo.measure.dice_by_muscle` gives them.
    value : str
        The column of the numbers; rows without one are left out.
    by : str, optional
        A column that tells several rows of a muscle apart by colour and marker.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure two columns wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _require(table, "abbreviation", value, *([by] if by else []))
    table = table.dropna(subset=value)
    order = [name for name in [*dict.fromkeys(label_table().abbreviation), WHOLE] if (table.abbreviation == name).any()]
    if not order:
        raise FigureError(f"Found no row with a {value}; expected at least one muscle that has it.")
    groups = [(None, table)] if by is None else list(table.groupby(by, sort=False))
    ax = ax or _wide(2.9)
    if table[value].min() < 0:
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    for i, (name, rows) in enumerate(groups):
        spread = rows.groupby("abbreviation")[value].agg(["mean", "min", "max"]).reindex(order)
        x = np.arange(len(order)) + (i - (len(groups) - 1) / 2) * min(0.18, 0.7 / len(groups))
        colour = GROUP_COLOURS[i % 6]
        ax.vlines(x, spread["min"], spread["max"], color=colour, linewidth=1.2)
        ax.plot(x, spread["mean"], "osD^vP"[i % 6], color=colour, markersize=4.5, linestyle="", label=name)
    for k in np.arange(0.5, len(order) - 1):
        ax.axvline(k, color="#E5E5E5", linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(order)), order)
    ax.set(xlim=(-0.6, len(order) - 0.4), ylabel=axis_name(value))
    if value == "dice":
        ax.set_ylim(min(0.5, 0.05 * np.floor(20 * table[value].min())), 1.0)
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    if by is not None:
        _legend(ax, len(groups))
    return finish(ax, "", synthetic, pad=18 if by else 4)


def profile(table, *, value, x="slice", by=None, flag=None, ax=None, synthetic=False):
    """One number along the slices, or along another number, as a line; what is flagged is ringed.

    Parameters
    ----------
    table : pandas.DataFrame
        Such as `mrmyo.segmentation.slice_quality` gives.
    value, x : str
        The columns of the numbers.
    by : str, optional
        A column whose values get a line each.
    flag : str, optional
        A column of words: rows where it is not empty are ringed.
    ax, synthetic
        As for :func:`by_muscle`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _require(table, x, value, *([by] if by else []), *([flag] if flag else []))
    ax = ax or _wide(2.3)
    groups = [(None, table)] if by is None else list(table.groupby(by, sort=False))
    for i, (name, rows) in enumerate(groups):
        rows = rows.sort_values(x)
        ax.plot(rows[x], rows[value], "osD^vP"[i % 6], color=GROUP_COLOURS[i % 6], markersize=3.5, linestyle="-",
                linewidth=1, label=name)
    if flag is not None and (table[flag].astype(bool) & table[value].notna()).any():
        ringed = table[table[flag].astype(bool) & table[value].notna()]
        ax.plot(ringed[x], ringed[value], "o", markersize=9, markerfacecolor="none",
                markeredgecolor=COLOURS["black"], linestyle="", label="flagged", clip_on=False)
    ax.set(xlabel=axis_name(x), ylabel=axis_name(value))
    if by is not None or flag is not None:
        _legend(ax, len(groups) + 1)
    return finish(ax, "", synthetic, pad=18 if by or flag else 4)


def trend(table, *, x, y, edges, ax=None, synthetic=False):
    """Every row as a faint point, and the median with the quartiles within steps of x.

    Parameters
    ----------
    table : pandas.DataFrame
    x, y : str
        Columns of numbers; rows that lack one are left out.
    edges : sequence of float
        Where one step of x ends and the next begins. Steps with fewer than five rows get no median.
    ax, synthetic
        As for :func:`by_muscle`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _require(table, x, y)
    table = table.dropna(subset=[x, y])
    ax = new_axes(ax, height=2.8)
    size, alpha = (7, 0.35) if len(table) > 100 else (14, 0.8)
    ax.scatter(table[x], table[y], s=size, color=COLOURS["grey"], alpha=alpha, linewidths=0)
    for low, high in pairwise(edges):
        inside = table[(table[x] >= low) & ((table[x] < high) | ((high == edges[-1]) & (table[x] == high)))]
        if len(inside) < 5:
            continue
        first, median, third = np.percentile(inside[y], [25, 50, 75])
        middle = float(inside[x].median())
        ax.vlines(middle, first, third, color=COLOURS["blue"], linewidth=2)
        ax.plot(middle, median, "o", color=COLOURS["blue"], markersize=6)
        ax.annotate(f"{len(inside)}", (middle, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                    fontsize=7, color="#555555")
    ax.set(xlabel=f"{axis_name(x)} (n = {len(table)})", ylabel=axis_name(y))
    return finish(ax, "", synthetic, pad=14)


def change_chart(table, *, ax=None, synthetic=False):
    """The change of every muscle and side, beside the smallest change that is more than chance (grey).

    Parameters
    ----------
    table : pandas.DataFrame
        Of `mrmyo.followup.change_by_muscle`; values in milliseconds.
    ax, synthetic
        As for :func:`by_muscle`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _require(table, "side", "abbreviation", "change", "smallest_change", "beyond", "n_repeated")
    order = [name for name in [*dict.fromkeys(label_table().abbreviation), WHOLE] if (table.abbreviation == name).any()]
    ax = ax or _wide(2.9)
    smallest = table.groupby("abbreviation").smallest_change.first().reindex(order)
    ax.bar(range(len(order)), 2 * smallest, bottom=-smallest, width=0.8, color="#DDDDDD", label="within chance")
    for offset, side, marker, colour in ((0.18, "left", "<", "sky"), (-0.18, "right", ">", "orange"),
                                         (0, "both", "o", "green")):
        rows = table[table.side == side]
        x = [order.index(name) + offset for name in rows.abbreviation]
        ax.scatter(x, rows.change, s=30, marker=marker, color=COLOURS[colour], zorder=3, clip_on=False,
                   label=f"{side}, {int(rows.beyond.sum())} of {len(rows)} beyond chance")
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.set_xticks(range(len(order)), order)
    n = table.n_repeated[table.n_repeated > 0]
    told = "" if n.empty else f", chance by {n.min()} repeats or more"
    ax.set(xlim=(-0.6, len(order) - 0.4), ylabel="Change of T2 (ms)", xlabel=f"Muscle{told}")
    ax.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, handletextpad=0.3,
              columnspacing=1.0, borderaxespad=0.1)
    return finish(ax, "", synthetic, pad=18)


def involvement_map(table, *, limits=None, ax=None, synthetic=False):
    """How far every subject's muscles lie above the controls (ms): patients on top, the most involved first.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `mrmyo.followup.involvement`.
    limits : (float, float), optional
        Of the colours; from −2 ms to where 19 of 20 values lie below when None.
    ax, synthetic
        As for :func:`by_muscle`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When there is nothing to draw, as with fewer than three controls.
    """
    _require(table, "subject", "control", "abbreviation", "excess", "n_controls")
    wide = table.pivot_table(index=["control", "subject"], columns="abbreviation", values="excess")
    if wide.empty:
        raise FigureError("Found no muscle with an excess; expected three controls at least.")
    order = [name for name in dict.fromkeys(label_table().abbreviation) if name in wide]
    wide = wide[order].assign(mean=wide[order].mean(axis=1)).sort_values(["control", "mean"], ascending=[True, False])
    n_controls = int(np.sum(wide.index.get_level_values("control").to_numpy(bool)))
    wide = wide[order]
    low, high = limits or (-2, max(2, float(np.nanpercentile(wide, 95))))
    ax = ax or _wide(0.9 + max(1.6, 0.055 * len(wide)))
    picture = ax.imshow(wide, aspect="auto", cmap="magma", vmin=low, vmax=high, interpolation="nearest")
    bar = ax.figure.colorbar(picture, ax=ax, pad=0.01, extend="both")
    bar.set_label("T2 above the controls' median (ms)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    ax.axhline(len(wide) - n_controls - 0.5, color="white", linewidth=1.5)
    ax.set_xticks(range(len(order)), order)
    middles = [(len(wide) - n_controls - 1) / 2, len(wide) - 0.5 - n_controls / 2]
    ax.set_yticks(middles, [f"patients\n(n = {len(wide) - n_controls})", f"controls\n(n = {n_controls})"])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="Muscle, mean of both sides")
    return finish(ax, "", synthetic)


def _require(table, *columns):
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise FigureError(f"Found no column {', '.join(missing)}; the table has {', '.join(map(str, table.columns))}.")


def _wide(height):
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(WIDE_IN, height), layout="constrained")[1]


def _legend(ax, n):
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=n, handletextpad=0.3,
              columnspacing=1.0, borderaxespad=0.1)
