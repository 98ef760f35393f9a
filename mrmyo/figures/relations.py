"""How two numbers of a subject go together, and how far a statistic can range."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.charts import GROUP_COLOURS
from mrmyo.figures.style import COLOURS, FigureError, axis_name, finish, new_axes

__all__ = ["range_chart", "rank_scatter"]


def rank_scatter(table, *, x, y="t2_ms", by=None, log_x=False, limit=None, ax=None, synthetic=False):
    """Every subject by two numbers, with Spearman's correlation, its 95 % interval, p and n.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows that lack either number are left out.
    x, y : str
        The columns.
    by : str, optional
        A column of groups, told apart by colour and marker; the correlation is that of all.
    log_x : bool
        A logarithmic axis for x: for enzymes, of which a few are many times as high as the rest.
    limit : float, optional
        The upper limit of normal of x, as a dashed line.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from mrmyo.stats import spearman

    row = spearman(table, x=x, y=y).iloc[0]
    kept = table[table[x].notna() & table[y].notna()]
    ax = new_axes(ax, height=2.8)
    groups = [(None, kept)] if by is None else list(kept.groupby(by))
    for i, (name, rows) in enumerate(groups):
        ax.scatter(rows[x], rows[y], s=14, color=GROUP_COLOURS[i % 6], marker="osD^vP"[i % 6], alpha=0.75, linewidths=0,
                   label=None if name is None else f"{name} (n = {len(rows)})")
    if log_x:
        _log_axis(ax, kept[x])
    if limit is not None:
        ax.axvline(limit, ymax=0.8, color=COLOURS["black"], linewidth=0.8, linestyle="--", zorder=1)
        ax.annotate("limit of normal", (limit, 0.79), xycoords=("data", "axes fraction"), xytext=(2, 0), rotation=90,
                    textcoords="offset points", ha="left", va="top", fontsize=7)
    if by is not None:
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.2,
                  columnspacing=1.0, borderaxespad=0.1)
    if abs(row.r) == 1:
        told = f"rs {row.r:.0f}: every pair in order, no interval".replace("-", "−")
    elif np.isfinite(row.r):
        told = (f"rs {row.r:.3f} ({row.r_low:.2f} to {row.r_high:.2f})\n" + ("p < 0.001" if row.p < 0.001 else
                f"p = {row.p:.3f}")).replace("-", "−")
    else:
        told = row.note
    ax.text(0.02, 0.98, told, transform=ax.transAxes, ha="left", va="top", fontsize=8)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.16 * (high - low))  # room for the words
    ax.set(xlabel=f"{axis_name(x)}, n = {row.n}", ylabel=axis_name(y))
    return finish(ax, "", synthetic, pad=18 if by else 4)


def _log_axis(ax, values):
    """A logarithmic axis; over less than two decades with plain numbers, three to a decade, that do not overprint."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set_xscale("log")
    if values.max() < 100 * values.min():
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())


def range_chart(table, *, where=None, zero=None, xlabel="", ax=None, synthetic=False):
    """From the lowest to the highest value of each statistic over many cohorts, with the median.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `mrmyo.cohort_ranges.ranges`: statistic, lowest, median, highest, n_cohorts.
    where : str, optional
        Only statistics whose name begins so: those that share a unit.
    zero : float, optional
        The value of no effect, as a line.
    xlabel : str
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure two columns wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When no statistic is left to draw.
    """
    import matplotlib.pyplot as plt

    rows = table if where is None else table[table.statistic.str.startswith(where)]
    if rows.empty:
        raise FigureError(f"Found no statistic that begins with {where!r}; there are {', '.join(table.statistic)}.")
    if ax is None:
        ax = plt.subplots(figsize=(7.0, 0.7 + 0.26 * len(rows)), layout="constrained")[1]
    places = np.arange(len(rows))[::-1]
    ax.hlines(places, rows.lowest, rows.highest, color=COLOURS["sky"], linewidth=5)
    ax.plot(rows["median"], places, "o", color=COLOURS["blue"], markersize=5)
    if zero is not None:
        ax.axvline(zero, color=COLOURS["black"], linewidth=0.8, linestyle="--", zorder=0)
    ax.set_yticks(places, rows.statistic)
    ax.set(ylim=(-0.6, len(rows) - 0.4), xlabel=xlabel)
    title = f"What the printed numbers allow: {rows.n_cohorts.iloc[0]} cohorts, not a finding"
    return finish(ax, title, synthetic)
