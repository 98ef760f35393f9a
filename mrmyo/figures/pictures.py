"""Pictures of volumes, in radiological display: the patient's left on the right of the picture, anterior up."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.style import COLUMN_WIDTH_IN, FigureError, finish, new_axes
from mrmyo.labels import label_table
from mrmyo.volume import Volume, same_grid, to_canonical

__all__ = ["box_of", "cut_to", "label_colours", "montage", "overlay", "t2_map", "value_map"]

MARGIN_MM = 20.0  # around labels, where only their part of the plane is shown

# Neighbours in the thigh differ in hue and in lightness; left and right share a colour.
MUSCLE_COLOURS = {
    "VL": "#0072B2", "VM": "#56B4E9", "VI": "#F0E442", "RF": "#D55E00", "SAR": "#CC79A7", "GRA": "#009E73",
    "AM": "#E69F00", "AL": "#882255", "SM": "#44AA99", "ST": "#AA4499", "BFL": "#DDCC77", "BFS": "#88CCEE",
    "OTH": "#BBBBBB", "MUS": "#CC79A7", "FEM": "#FFFFFF",
}


def label_colours() -> dict[int, tuple[float, float, float]]:
    """The fixed colour of every label value, as red, green and blue between 0 and 1."""
    from matplotlib.colors import to_rgb

    table = label_table()
    return {v: to_rgb(MUSCLE_COLOURS[a]) for v, a in zip(table["value"], table["abbreviation"], strict=True)}


def overlay(volume: Volume, labels: Volume | None = None, *, slice_index=None, ax=None, style="fill", alpha=0.45,
            window=None, legend=False, title=None, synthetic=False):
    """One axial slice in grey with its labels in their fixed colours, the same on both sides.

    Parameters
    ----------
    volume, labels : Volume
        An image and a label map on the same grid, in any axis order; of several echoes the first is shown.
    slice_index : int, optional
        Which slice, counted from the feet upwards; negative from the top. Without it, the one with most label, else the
        middle.
    ax : matplotlib.axes.Axes, optional
        Where to draw.
    style : "fill" or "outline"
        Translucent areas, or lines around them.
    alpha : float
        The opacity of the areas.
    window : (float, float), optional
        The values shown black and white; without it, the 1st and 99th percentile of the slice.
    legend : bool
        Whether to name the colours beside the picture.
    title : str, optional
        Instead of the slice number.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FigureError
        When the grids differ, the slice does not exist, or the style is unknown.
    """
    if style not in ("fill", "outline"):
        raise FigureError(f"Found style={style!r}; expected 'fill' or 'outline'.")
    volume, labels, slice_index = _ready(volume, labels, slice_index)
    picture = _picture(volume, slice_index)
    low, high = window or _window(picture)
    ax = new_axes(ax, height=2.4)
    frame = {"extent": _extent(volume), "origin": "lower", "interpolation": "nearest"}
    ax.imshow(picture, cmap="gray", vmin=low, vmax=high, **frame)
    if labels is not None:
        shown = _picture(labels, slice_index)
        _draw_labels(ax, shown, frame, style, alpha)
        if legend:
            _name_colours(ax, shown)
    return _orient(ax, _title(volume, slice_index) if title is None else title, synthetic)


def t2_map(volume: Volume, *, slice_index=None, ax=None, vmin=20, vmax=80, cmap="viridis", colour_bar=True, title=None,
           synthetic=False):
    """One axial slice of a T2 map in milliseconds; voxels that could not be fitted (NaN) stay blank.

    Parameters
    ----------
    volume : Volume
        T2 in milliseconds, in any axis order.
    slice_index, ax, title, synthetic
        As for :func:`overlay`.
    vmin, vmax : float
        The ends of the colour scale in ms; a clinic's maps compare only with the same ends.
    cmap : str
        A Matplotlib colour map.
    colour_bar : bool
        Whether to draw the scale.

    Returns
    -------
    matplotlib.axes.Axes
    """
    finite = np.isfinite(volume.array)
    if finite.any() and np.max(volume.array, where=finite, initial=-np.inf) < 2:
        raise FigureError("The T2 map is below 2 throughout, which looks like seconds; expected milliseconds.")
    return value_map(volume, label="T2 (ms)" if colour_bar else None, slice_index=slice_index, ax=ax, vmin=vmin,
                     vmax=vmax, cmap=cmap, title=title, synthetic=synthetic)


def value_map(volume: Volume, *, label, vmin, vmax, slice_index=None, ax=None, cmap="viridis", title=None,
              synthetic=False):
    """One axial slice of a map of numbers; voxels that are NaN stay blank.

    Parameters
    ----------
    volume : Volume
    label : str or None
        Beside the colour scale, with the unit; None draws no scale.
    vmin, vmax : float
        The ends of the colour scale.
    slice_index, ax, title, synthetic
        As for :func:`overlay`.
    cmap : str
        A Matplotlib colour map.

    Returns
    -------
    matplotlib.axes.Axes
    """
    volume, _, slice_index = _ready(volume, None, slice_index)
    ax = new_axes(ax, height=2.4)
    image = ax.imshow(_picture(volume, slice_index), cmap=cmap, vmin=vmin, vmax=vmax, extent=_extent(volume),
                      origin="lower", interpolation="nearest")
    ax.set_facecolor("#E5E5E5")
    if label is not None:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend="both", shrink=0.75)
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return _orient(ax, _title(volume, slice_index) if title is None else title, synthetic)


def montage(volume: Volume, labels: Volume | None = None, *, n=9, fig=None, style="fill", window=None,
            around=None, synthetic=False):
    """A grid of n slices spread evenly from feet to head, each as by :func:`overlay`, all in one grey window.

    Parameters
    ----------
    volume, labels, style, window, synthetic
        As for :func:`overlay`.
    n : int
        How many slices; all of them when the volume has fewer.
    around : Volume, optional
        Show only the part of the plane around these labels.
    fig : matplotlib.figure.Figure, optional
        Where to draw; without it, a new figure two columns wide.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One per slice shown.
    """
    import matplotlib.pyplot as plt

    volume, labels, _ = _ready(volume, labels, None)
    if around is not None:
        box = box_of(to_canonical(around))
        volume, labels = cut_to(volume, box), labels and cut_to(labels, box)
    if n < 1:
        raise FigureError(f"Found n={n} slices; expected at least 1.")
    shown = np.unique(np.linspace(0, volume.shape[2] - 1, min(n, volume.shape[2])).round().astype(int))
    columns = int(np.ceil(np.sqrt(shown.size)))
    rows = int(np.ceil(shown.size / columns))
    left, right, bottom, top = _extent(volume)
    width = 2 * COLUMN_WIDTH_IN
    height = rows * (width / columns * abs((top - bottom) / (right - left)) + 0.22) + 0.25 * synthetic
    fig = plt.figure(figsize=(width, height), layout="constrained") if fig is None else fig
    grid = np.atleast_1d(fig.subplots(rows, columns)).ravel()
    window = window or _window(volume.array)
    for index, ax in zip(shown, grid, strict=False):
        overlay(volume, labels, slice_index=int(index), ax=ax, style=style, window=window, title=f"slice {index}")
    for ax in grid[shown.size:]:
        ax.remove()
    if synthetic:
        fig.suptitle("Synthetic data", fontsize=9)
    return grid[: shown.size]


def box_of(labels: Volume) -> list[slice]:
    """The part of the plane that holds labels (in canonical axes), with a margin; all of it where there are none."""
    seen = (labels.array > 0).any(2)
    box = []
    for axis in (0, 1):
        places = np.flatnonzero(seen.any(1 - axis)) if seen.any() else np.array([0, seen.shape[axis]])
        margin = round(MARGIN_MM / labels.spacing_mm[axis])
        box.append(slice(max(places[0] - margin, 0), places[-1] + margin + 1))
    return box


def cut_to(volume: Volume, box) -> Volume:
    """The part of a volume in canonical axes that a box of `box_of` names; every voxel keeps its place."""
    start = np.eye(4)
    start[:2, 3] = [part.start for part in box]
    return volume.with_array(volume.array[box[0], box[1]], affine=volume.affine @ start)


def _ready(volume, labels, slice_index):
    """Volume and labels in canonical axes, and a slice that exists."""
    if labels is not None and not same_grid(volume, labels):
        raise FigureError(
            f"The image has shape {volume.shape} and the labels {labels.shape}, or they lie at different places; "
            "expected one grid. Align the labels first (mrmyo.align)."
        )
    if volume.array.ndim == 4:
        volume = volume.echo(0)
    volume = to_canonical(volume)
    labels = None if labels is None else to_canonical(labels)
    n = volume.shape[2]
    if slice_index is None:
        area = np.zeros(n) if labels is None else (labels.array > 0).sum(axis=(0, 1))
        slice_index = int(area.argmax()) if area.any() else n // 2
    if not -n <= slice_index < n:
        raise FigureError(f"Found slice_index={slice_index}; expected 0 to {n - 1}, counted from the feet upwards.")
    return volume, labels, int(slice_index) % n


def _picture(volume, k):
    # canonical x leads to the patient's right, which belongs on the left of the picture
    return volume.array[::-1, :, k].T


def _extent(volume):
    width, height = np.array(volume.shape[:2]) * volume.spacing_mm[:2]
    return (0.0, float(width), 0.0, float(height))


def _window(values):
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def _title(volume, slice_index):
    return f"Slice {slice_index} (0–{volume.shape[2] - 1}, feet to head)"


def _draw_labels(ax, shown, frame, style, alpha):
    colours = label_colours()
    x = np.linspace(*frame["extent"][:2], 2 * shown.shape[1] + 1)[1::2]  # voxel centres
    y = np.linspace(*frame["extent"][2:], 2 * shown.shape[0] + 1)[1::2]
    rgba = np.zeros((*shown.shape, 4))
    for value in np.unique(shown[shown > 0]).tolist():
        colour = colours.get(int(value), (0.73, 0.73, 0.73))
        rgba[shown == value] = (*colour, alpha)
        if style == "outline":
            ax.contour(x, y, shown == value, levels=[0.5], colors=[colour], linewidths=0.9)
    if style == "fill":
        ax.imshow(rgba, **frame)


def _name_colours(ax, shown):
    from matplotlib.patches import Patch

    table = label_table().set_index("value")["abbreviation"]
    names = dict.fromkeys(table[value] for value in table.index if (shown == value).any())
    ax.legend(
        handles=[Patch(facecolor=MUSCLE_COLOURS[name], edgecolor="#888888", linewidth=0.5, label=name)
                 for name in names],  # with an edge, for the femur is white
        frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=0.8, handleheight=0.8,
        labelspacing=0.25,
    )


def _orient(ax, title, synthetic):
    """Letters for the patient's sides, no ticks, no frame."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=1.5, foreground="black")]
    for x, letter in ((0.02, "R"), (0.98, "L")):
        ax.text(x, 0.98, letter, transform=ax.transAxes, ha="left" if x < 0.5 else "right", va="top", color="white",
                fontsize=8, path_effects=halo)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return finish(ax, title, synthetic)
