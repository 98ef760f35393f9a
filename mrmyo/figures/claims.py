"""What an audit of printed numbers found: at which numbers of subjects each claim can hold."""

from __future__ import annotations

import re

from mrmyo.figures.style import COLOURS, FigureError, finish, new_axes

__all__ = ["consistent_n"]


def consistent_n(table, *, limits=(50, 75), printed=None, ax=None):
    """The numbers of subjects at which each claim of an audit can hold, as bars, beside the number that is printed.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `mrmyo.paper_audit.audit` with ``n_consistent``; those without are left out.
    limits : (int, int)
        The numbers of subjects to show.
    printed : int, optional
        The printed number of subjects, as a line.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When no claim of the table depends on the number of subjects.
    """
    rows = table[table.n_consistent != ""]
    if rows.empty:
        raise FigureError("Found no claim that depends on the number of subjects; there is nothing to draw.")
    ax = new_axes(ax, height=0.5 + 0.22 * len(rows))
    for y, row in enumerate(rows.itertuples()):
        colour = COLOURS["blue"] if row.consistent else COLOURS["vermilion"]
        for low, high in re.findall(r"(\d+)(?:–(\d+))?", row.n_consistent):
            low, high = int(low), int(high or low)
            if high >= limits[0] and low <= limits[1]:
                ax.barh(y, high - low + 0.9, left=low - 0.45, height=0.6, color=colour)
    if printed is not None:
        ax.axvline(printed, color=COLOURS["black"], linewidth=0.9, linestyle="--")
        ax.annotate("printed", (printed, -0.9), fontsize=7, ha="left", xytext=(2, 0), textcoords="offset points")
    ax.set(yticks=range(len(rows)), yticklabels=rows.claim, xlim=limits, ylim=(len(rows) - 0.4, -1.1),
           xlabel="Subjects at which the printed p follows from the printed correlation")
    return finish(ax, "", False)
