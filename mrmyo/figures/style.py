"""What all figures share: widths, colours, and how a column's name is written on an axis."""

from __future__ import annotations

__all__ = [
    "COLOURS", "COLUMN_WIDTH_IN", "FigureError", "axis_name", "finish", "new_axes", "plain_name", "unit", "with_unit",
]

COLUMN_WIDTH_IN = 3.5  # one column of a two-column journal page
# Okabe and Ito, Color universal design, 2008
COLOURS = {
    "black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#F0E442",
    "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7", "grey": "#999999",
}
UNITS = {"_ms": "ms", "_mm": "mm", "_cm2": "cm²", "_ml": "ml", "_u_l": "U/L", "_years": "years", "_months": "months",
         "_percent": "%"}
ABBREVIATIONS = {"t2", "s0", "b1", "ck", "alt", "ast", "ldh", "ild", "auc"}


class FigureError(ValueError):
    """A figure cannot be drawn from what was given."""


def new_axes(ax, height):
    """The given axes, or those of a new figure one column wide."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(COLUMN_WIDTH_IN, height), layout="constrained")[1]


def finish(ax, title, synthetic, *, pad=4):
    """Set the title, say in it whether the data are synthetic, and bring the text to one size."""
    if synthetic:
        title = f"{title} (synthetic)" if title else "Synthetic data"
    if title:
        ax.set_title(title, fontsize=9, pad=pad)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.xaxis.label.set_size(9)
    ax.yaxis.label.set_size(9)
    return ax


def _split(name):
    for suffix, written in UNITS.items():
        if str(name).lower().endswith(suffix):
            return str(name)[: -len(suffix)], written
    return str(name), ""


def plain_name(name) -> str:
    """A column's name for readers: ``t2_apparent_ms`` becomes "T2 apparent"."""
    first, *rest = _split(name)[0].split("_")
    first = first.upper() if first.lower() in ABBREVIATIONS else first
    return " ".join([first[:1].upper() + first[1:], *rest]).strip()


def unit(name) -> str:
    """The unit in a column's name, "ms" for ``t2_ms``; empty where there is none."""
    return _split(name)[1]


def axis_name(name) -> str:
    """``t2_ms`` becomes "T2 (ms)"."""
    return f"{plain_name(name)} ({unit(name)})" if unit(name) else plain_name(name)


def with_unit(value, name) -> str:
    """36.4 and ``t2_ms`` become "36.4 ms"."""
    return f"{value:.1f} {unit(name)}".strip() if unit(name) else f"{value:.3g}"
