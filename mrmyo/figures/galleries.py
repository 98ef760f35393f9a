"""Many pictures side by side: training images, contrasts of one slice, echoes, two masks, the table of labels."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.pictures import MUSCLE_COLOURS, box_of, cut_to, label_colours, overlay
from mrmyo.figures.style import COLOURS, FigureError
from mrmyo.labels import is_muscle, label_table
from mrmyo.volume import Volume, same_grid, to_canonical

__all__ = ["compare_masks", "echoes", "gallery", "label_chart", "side_by_side"]

WIDTH_IN = 9.5  # of a notebook's page
DPI = 85  # of training images: their noise hardly compresses, and notebooks shall stay small
DIFFERENCES = {"same name": (COLOURS["sky"], 0.35), "another name": (COLOURS["yellow"], 0.9),
               "missed": (COLOURS["blue"], 0.9), "added": (COLOURS["vermilion"], 0.9)}


def gallery(images, labels=None, *, titles=None, columns=6, style="beneath", title="", synthetic=True):
    """Sections of left thighs as the network sees them, with their labels in the fixed colours.

    Lateral is on the right of each picture and anterior up, as for the left thigh in radiological display.

    Parameters
    ----------
    images : array, (n, x, y)
        x leads medially and y forwards; bright tissue near 1, as `mrmyo.segmentation.normalise` scales it.
    labels : array, (n, x, y), optional
        Values of `mrmyo.label_table`.
    titles : sequence of str, optional
        One for each image, written into it.
    columns : int
        Pictures in a row.
    style : "beneath", "outline" or "fill"
        Labels in a row of their own beneath the images, or drawn upon them.
    title : str
        Of the whole figure.
    synthetic : bool
        Whether the title says that the images are synthetic.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One per picture: images, then (with "beneath") their labels.
    """
    import matplotlib.pyplot as plt

    images = np.asarray(images)
    labels = None if labels is None else np.asarray(labels)
    _check_gallery(images, labels, titles, style)
    n, doubled = len(images), labels is not None and style == "beneath"
    columns = min(columns, n)
    lines = -(-n // columns) * (2 if doubled else 1)
    side = WIDTH_IN / max(columns, 4)
    height = side * images.shape[2] / images.shape[1]
    figure = plt.figure(figsize=(side * columns, lines * height + 0.35), dpi=DPI,
                        layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    grid = figure.subplots(lines, columns, squeeze=False)
    pictures, beneath = [], []
    for i, image in enumerate(images):
        line, column = divmod(i, columns)
        ax = grid[line * 2 if doubled else line, column]
        ax.imshow(image[::-1].T, cmap="gray", vmin=0, vmax=1.3, origin="lower", interpolation="nearest")
        if titles is not None:
            ax.text(0.03, 0.97, titles[i], transform=ax.transAxes, ha="left", va="top", color="yellow", fontsize=8)
        pictures.append(ax)
        if labels is not None:
            under = grid[line * 2 + 1, column] if doubled else ax
            _paint(under, labels[i][::-1].T, style)
            beneath += [under] if doubled else []
    for ax in grid.ravel():
        if ax in pictures or ax in beneath:
            _bare(ax)
        else:
            ax.remove()
    written = f"{title} (synthetic)" if title and synthetic else title or ("Synthetic images" if synthetic else "")
    if written:
        figure.suptitle(written, fontsize=9)
    return np.array(pictures + beneath)


def _check_gallery(images, labels, titles, style):
    if images.ndim != 3 or not len(images):
        raise FigureError(f"Found images of shape {images.shape}; expected (n, x, y) with at least one image.")
    if labels is not None and labels.shape != images.shape:
        raise FigureError(f"Found labels of shape {labels.shape} for images of shape {images.shape}; expected the "
                          "same shape.")
    if titles is not None and len(titles) != len(images):
        raise FigureError(f"Found {len(titles)} titles for {len(images)} images; give one for each.")
    if style not in ("beneath", "outline", "fill"):
        raise FigureError(f"Found style={style!r}; expected 'beneath', 'outline' or 'fill'.")


def _paint(ax, shown, style):
    colours = label_colours()
    rgba = np.zeros((*shown.shape, 4))
    for value in np.unique(shown[shown > 0]).tolist():
        colour = colours.get(value, (0.73, 0.73, 0.73))
        rgba[shown == value] = (*colour, 0.45 if style == "fill" else 1)
        if style == "outline":
            ax.contour(shown == value, levels=[0.5], colors=[colour], linewidths=0.8)
    if style != "outline":
        ax.imshow(rgba, origin="lower", interpolation="nearest")
    if style == "beneath":
        ax.set_facecolor("black")


def _bare(ax):
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def side_by_side(images, labels=None, *, slice_index=None, columns=4, style="outline", alpha=0.45, around=None,
                 synthetic=False):
    """The same slice of several images, each in a grey window of its own.

    Parameters
    ----------
    images : mapping of str to Volume
        What is written above each picture, and the image.
    labels : Volume or mapping of str to Volume, optional
        Drawn on every image, or the labels of each by the same name.
    slice_index : int, optional
        As for `mrmyo.figures.overlay`.
    columns : int
        Pictures in a row.
    style, alpha
        As for `mrmyo.figures.overlay`.
    around : Volume or mapping of str to Volume, optional
        Show only the part of the plane around these labels, or of each image around its own.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
    """
    if not images:
        raise FigureError("Found no image; expected a mapping of names to volumes.")
    drawn = labels if isinstance(labels, dict) else dict.fromkeys(images, labels)
    if around is not None:
        around = around if isinstance(around, dict) else dict.fromkeys(images, around)
        boxes = {name: box_of(to_canonical(around[name])) for name in images}
        images = {name: cut_to(to_canonical(volume), boxes[name]) for name, volume in images.items()}
        drawn = {name: part and cut_to(to_canonical(part), boxes[name]) for name, part in drawn.items()}
    axes = _lines(images.values(), columns, synthetic)
    for ax, (name, volume) in zip(axes, images.items(), strict=True):
        overlay(volume, drawn.get(name), slice_index=slice_index, ax=ax, style=style, alpha=alpha, title=name)
    return axes


def echoes(volume: Volume, *, slice_index=None, columns=5, synthetic=False):
    """Every echo of one slice in one grey window, so that what decays grows dark.

    Parameters
    ----------
    volume : Volume
        4-D, with echo times.
    slice_index, columns, synthetic
        As for :func:`side_by_side`.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
    """
    if volume.array.ndim != 4:
        raise FigureError(f"Found an image of shape {volume.array.shape} without echoes; expected a fourth axis.")
    parts = [volume.echo(i) for i in range(volume.array.shape[3])]
    times = volume.echo_times_ms or (None,) * len(parts)
    window = (0.0, float(np.percentile(parts[0].array, 99.5)))
    axes = _lines(parts, columns, synthetic)
    slice_index = to_canonical(parts[0]).shape[2] // 2 if slice_index is None else slice_index
    for i, (ax, part, time) in enumerate(zip(axes, parts, times, strict=True)):
        name = f"echo {i + 1}" if time is None else f"{time:g} ms"
        overlay(part, slice_index=slice_index, ax=ax, window=window, title=name)
    return axes


def _lines(volumes, columns, synthetic):
    """Axes in lines, in a new figure, for volumes of about one shape."""
    import matplotlib.pyplot as plt

    volumes = [to_canonical(volume if volume.array.ndim == 3 else volume.echo(0)) for volume in volumes]
    columns = min(columns, len(volumes))
    width, height = np.array(volumes[0].shape[:2]) * volumes[0].spacing_mm[:2]
    lines = -(-len(volumes) // columns)
    tall = lines * (WIDTH_IN / columns * height / width + 0.24) + 0.3 * synthetic
    figure = plt.figure(figsize=(WIDTH_IN, tall), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(volumes):]:
        ax.remove()
    if synthetic:
        figure.suptitle("Synthetic data", fontsize=9)
    return axes[: len(volumes)]


def compare_masks(volume: Volume, labels: Volume, reference: Volume, *, slices=None, names=("automatic", "reference"),
                  only_named=False, synthetic=False):
    """Two masks of some slices beside each other, and where they differ.

    Parameters
    ----------
    volume, labels, reference : Volume
        Image, mask and the mask that it is held against, on one grid.
    slices : sequence of int, optional
        Counted from the feet upwards; without it, the slice with most reference.
    names : (str, str)
        What is written above the masks.
    only_named : bool
        Whether the difference leaves out muscles that the reference names in no slice: nobody knows where they are.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        (slices, 3): the mask, the reference, the difference.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    if not (same_grid(volume, labels) and same_grid(volume, reference)):
        raise FigureError(f"Found shapes {volume.shape}, {labels.shape} and {reference.shape}, or grids at different "
                          "places; expected one grid for the image and both masks.")
    volume, labels, reference = (to_canonical(part) for part in (volume, labels, reference))
    box = box_of(labels.with_array((labels.array > 0) | (reference.array > 0)))
    volume, labels, reference = (cut_to(part, box) for part in (volume, labels, reference))
    slices = [int((reference.array > 0).sum((0, 1)).argmax())] if slices is None else [int(k) for k in slices]
    width, height = np.array(volume.shape[:2]) * volume.spacing_mm[:2]
    tall = len(slices) * (WIDTH_IN / 3 * height / width + 0.24) + 0.3 + 0.25 * synthetic
    known = np.unique(reference.array) if only_named else np.arange(256)
    figure = plt.figure(figsize=(WIDTH_IN, tall), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(slices), 3, squeeze=False)
    for line, k in zip(axes, slices, strict=True):
        overlay(volume, labels, slice_index=k, ax=line[0], title=f"slice {k}, {names[0]}")
        overlay(volume, reference, slice_index=k, ax=line[1], title=f"slice {k}, {names[1]}")
        overlay(volume, slice_index=k, ax=line[2], title="difference")
        ours, theirs = (part.array[::-1, :, k].T for part in (labels, reference))
        line[2].imshow(_difference(np.where(np.isin(ours, known), ours, 0), theirs), origin="lower",
                       extent=line[2].images[0].get_extent(), interpolation="nearest")
    patches = [Patch(color=colour, alpha=alpha, label=name) for name, (colour, alpha) in DIFFERENCES.items()]
    figure.legend(handles=patches, loc="outside lower right", ncols=4, frameon=False, fontsize=8, handlelength=0.9,
                  columnspacing=1.2)
    if synthetic:
        figure.suptitle("Synthetic data", fontsize=9)
    return axes


def _difference(found, reference):
    """RGBA: muscle with the same name, with another one, missed, added."""
    from matplotlib.colors import to_rgba

    ours, theirs = is_muscle(found), is_muscle(reference)
    where = {"same name": ours & (found == reference), "another name": ours & theirs & (found != reference),
             "missed": theirs & ~ours, "added": ours & ~theirs}
    rgba = np.zeros((*found.shape, 4))
    for name, here in where.items():
        rgba[here] = to_rgba(*DIFFERENCES[name])
    return rgba


def label_chart(*, ax=None):
    """The table of labels: colour, values left and right, abbreviation, name and compartment.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    table = label_table()
    left, right = (table[table.side == side].set_index("abbreviation") for side in ("left", "right"))
    names = list(left.index)
    ax = ax or plt.subplots(figsize=(6.2, 0.245 * (len(names) + 1)), layout="constrained")[1]
    places = {"left": 0.9, "right": 1.55, "": 2.0, "name": 2.75, "compartment": 6.0}
    for words, x in places.items():
        ax.text(x, 0, words, fontsize=8, va="center", ha="right" if x < 2 else "left", color="#555555")
    for i, name in enumerate(names, start=1):
        ax.add_patch(Rectangle((0, i - 0.4), 0.5, 0.8, facecolor=MUSCLE_COLOURS[name], edgecolor="#888888", lw=0.5))
        for x, words in ((0.9, left.value[name]), (1.55, right.value[name])):
            ax.text(x, i, words, fontsize=9, va="center", ha="right")
        ax.text(2.0, i, name, fontsize=9, va="center", weight="bold")
        ax.text(2.75, i, left.name[name], fontsize=9, va="center")
        ax.text(6.0, i, left.compartment[name], fontsize=9, va="center", color="#555555")
    ax.set(xlim=(-0.1, 7.4), ylim=(len(names) + 0.6, -0.6))
    _bare(ax)
    return ax
