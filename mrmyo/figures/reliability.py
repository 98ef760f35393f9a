"""How far a T2 can be trusted, in pictures: what a fit leaves, what the first echoes tell, and T2 by model."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.pictures import value_map
from mrmyo.figures.style import COLOURS, FigureError, finish
from mrmyo.volume import Volume, to_canonical

__all__ = ["model_changes", "reliability_maps"]

# what is shown: title, label of the scale, its ends, colours
PANELS = {
    "residual": ("residual of the fit", "% of the signal at TE 0", (0, 6), "magma"),
    "echo_ratio": ("second echo² / (first × third)", "1: one exponential", (0.8, 1.4), "RdBu_r"),
    "t2_std_ms": ("uncertainty of a voxel's T2", "SD (ms)", (0, 6), "magma"),
    "b1": ("B1", "share of nominal", (0.7, 1.1), "RdBu_r"),
    "fat_fraction": ("fat fraction", "share of magnetisation", (0, 0.5), "magma"),
    "water_t2_ms": ("water T2", "ms", (20, 80), "viridis"),
}


def reliability_maps(maps, *, slice_index=None, synthetic=False):
    """One slice of every map that tells how good a T2 is.

    Parameters
    ----------
    maps : mapping of Volume
        By name, those that there are: ``residual`` (per cent of the signal at echo time 0), ``echo_ratio``,
        ``t2_std_ms``, ``b1``, ``fat_fraction``, ``water_t2_ms``; NaN outside muscle.
    slice_index : int, optional
        Counted from the feet upwards; the middle one without it.
    synthetic : bool

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    if unknown := set(maps) - set(PANELS):
        raise FigureError(f"Found the maps {sorted(unknown)}; expected some of {', '.join(PANELS)}.")
    names = [name for name in PANELS if name in maps]
    if not names:
        raise FigureError("Found no map; expected at least one.")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.25 * columns, 2.15 * rows), layout="constrained",
                                squeeze=False)
    for ax in axes.ravel()[len(names):]:
        ax.remove()
    for name, ax in zip(names, axes.ravel(), strict=False):
        title, label, (low, high), colours = PANELS[name]
        shown = to_canonical(maps[name])
        middle = shown.shape[2] // 2 if slice_index is None else slice_index
        value_map(_cut(shown), label=label, vmin=low, vmax=high, slice_index=middle, ax=ax, cmap=colours, title=title,
                  synthetic=synthetic)
    return figure


def _cut(volume: Volume) -> Volume:
    """What lies within the box, in the plane, that holds numbers."""
    held = np.isfinite(volume.array).any(axis=2)
    if not held.any():
        return volume
    i, j = (np.flatnonzero(held.any(axis=axis)) for axis in (1, 0))
    start = np.array([i[0], j[0], 0])
    affine = volume.affine.copy()
    affine[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    return Volume(volume.array[i[0]:i[-1] + 1, j[0]:j[-1] + 1], affine)


def model_changes(table, *, ax=None, synthetic=False):
    """T2 of the same muscle by every model, as points on one axis.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `mrmyo.t2_compare.compare_models`.
    ax : matplotlib.axes.Axes, optional
    synthetic : bool

    Returns
    -------
    matplotlib.axes.Axes
    """
    if missing := {"model", "t2_ms"} - set(table.columns):
        raise FigureError(f"Found no column {', '.join(sorted(missing))}; expected a table of compare_models.")
    table = table.dropna(subset="t2_ms")
    if table.empty:
        raise FigureError("Found no model with a T2.")
    if ax is None:  # the names of the models need room
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(5.4, 0.6 + 0.29 * len(table)), layout="constrained")[1]
    places = -np.arange(len(table))
    ax.hlines(places, table.t2_ms.iloc[0], table.t2_ms, color=COLOURS["grey"], linewidth=1)
    ax.plot(table.t2_ms, places, "o", color=COLOURS["blue"], markersize=5)
    for place, value in zip(places, table.t2_ms, strict=True):
        ax.annotate(f"{value:.1f}", (value, place), xytext=(0, 5), textcoords="offset points", fontsize=7, ha="center")
    ax.set_yticks(places, table.model)
    ax.set_ylim(places[-1] - 0.6, 0.8)
    ax.margins(x=0.1)
    ax.set_xlabel("T2 (ms)")
    return finish(ax, "", synthetic)
