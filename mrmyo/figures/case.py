"""One patient: four images of one level as in Fig. 3 of the paper, and what small regions would have found."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.charts import GROUP_COLOURS
from mrmyo.figures.pictures import MARGIN_MM, overlay
from mrmyo.figures.style import COLOURS, COLUMN_WIDTH_IN, FigureError, axis_name, finish, new_axes, with_unit
from mrmyo.labels import is_muscle
from mrmyo.volume import GridError, Volume, resample, same_grid, to_canonical

__all__ = ["case_panels", "region_spread"]

PIXEL_MM = 1.0  # of the common field of view
LESION_COLOUR = COLOURS["vermilion"]


def case_panels(t1: Volume, t2w: Volume, fat_suppressed: Volume, t2: Volume, labels: Volume | None = None,
                lesion: Volume | None = None, *, slice_index=None, vmin=20, vmax=80, cmap="viridis", synthetic=False):
    """T1-weighted, T2-weighted, fat-suppressed T2-weighted image and T2 map of one axial level, in one field of view.

    The images are sampled for display at the height of one slice of the T2 map; the map and the masks keep their own
    voxels. Positions are those of the headers.

    Parameters
    ----------
    t1, t2w, fat_suppressed : Volume
        3-D images on grids of their own.
    t2 : Volume
        T2 in ms.
    labels : Volume, optional
        Values of `mrmyo.label_table` on the grid of the map, which is shown within muscle only; without labels it is
        shown wherever it is known.
    lesion : Volume, optional
        A mask on the same grid; outlined in C and D, and pointed at in C.
    slice_index : int, optional
        Of the map, counted from the feet upwards; negative from the top. Without it, the one with most lesion, else
        with most label, else the middle.
    vmin, vmax : float
        The ends of the colour scale in ms.
    cmap : str
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        (2, 2), in a new figure two columns wide.

    Raises
    ------
    FigureError
        When masks and map do not share a grid, the slice does not exist, or an image does not reach it.
    """
    import matplotlib.pyplot as plt

    for name, mask in (("labels", labels), ("lesion", lesion)):
        if mask is not None and not same_grid(t2, mask):
            raise FigureError(f"The T2 map has shape {t2.shape}, the {name} {mask.shape}, or they lie apart; expected "
                              "one grid.")
    t2, labels, lesion = (None if part is None else to_canonical(part) for part in (t2, labels, lesion))
    view = _view(t2, labels, _level(t2, labels, lesion, slice_index))
    muscle = np.ones(t2.shape, bool) if labels is None else is_muscle(labels.array)
    shown = resample(t2.with_array(np.where(muscle, t2.array, np.nan)), view, order=0, fill=np.nan)
    outline = None if lesion is None else resample(lesion.with_array((lesion.array > 0).astype(np.uint8)), view,
                                                   order=0).array[::-1, :, 0].T
    wide, high = np.array(view.shape[:2]) * PIXEL_MM
    figure = plt.figure(figsize=(2 * COLUMN_WIDTH_IN, 1.95 * COLUMN_WIDTH_IN * high / wide + 0.75),
                        layout="constrained")
    axes = figure.subplots(2, 2)
    images = {"A  T1-weighted": t1, "B  T2-weighted": t2w, "C  T2-weighted, fat-suppressed": fat_suppressed}
    for ax, (title, image) in zip(axes.flat, images.items(), strict=False):
        overlay(_at(image, view, title), slice_index=0, ax=ax, title=title)
    overlay(_at(fat_suppressed, view, "the T2 map"), slice_index=0, ax=axes[1, 1], title="D  T2 map")
    frame = {"extent": axes[1, 1].images[0].get_extent(), "origin": "lower", "interpolation": "nearest"}
    drawn = axes[1, 1].imshow(shown.array[::-1, :, 0].T, cmap=cmap, vmin=vmin, vmax=vmax, **frame)
    bar = figure.colorbar(drawn, ax=axes[1], fraction=0.03, pad=0.01, extend="both", shrink=0.85)
    bar.set_label("T2 (ms)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if outline is not None and outline.any():
        _outline(axes[1], outline, frame["extent"])
    if synthetic:
        figure.suptitle("Synthetic data", fontsize=9)
    return axes


def _level(t2, labels, lesion, slice_index):
    """A slice of the map that exists."""
    n = t2.shape[2]
    if slice_index is None:
        areas = [(mask.array > 0).sum((0, 1)) for mask in (lesion, labels) if mask is not None]
        area = next((area for area in areas if area.any()), None)
        slice_index = n // 2 if area is None else int(area.argmax())
    if not -n <= slice_index < n:
        raise FigureError(f"Found slice_index={slice_index}; expected 0 to {n - 1}, counted from the feet upwards.")
    return int(slice_index) % n


def _view(t2, labels, k):
    """One slice of small square pixels at the height of slice k, over the labels and a margin or the whole field."""
    ends = np.array([[-0.5, n - 0.5] for n in t2.shape[:2]])
    if labels is not None and (labels.array > 0).any():
        margin = MARGIN_MM / t2.spacing_mm[:2]
        for axis in (0, 1):
            places = np.flatnonzero((labels.array > 0).any((1 - axis, 2)))
            ends[axis] = np.clip([places[0] - margin[axis], places[-1] + margin[axis]], *ends[axis])
    steps = PIXEL_MM / t2.spacing_mm[:2]
    n = np.maximum(1, ((ends[:, 1] - ends[:, 0]) / steps).astype(int))
    to_t2 = np.diag([*steps, 1.0, 1.0])
    to_t2[:3, 3] = [*(ends[:, 0] + steps / 2), k]
    return Volume(np.zeros((*n, 1), np.uint8), t2.affine @ to_t2)


def _at(image, view, title):
    """The image on the common field of view."""
    try:
        found = resample(image.with_array(image.array.astype(np.float32)), view, fill=np.nan)
    except GridError as error:
        raise FigureError(f"{title}: {error}") from None
    if np.isnan(found.array).all():
        raise FigureError(f"{title}: the image does not reach the level of the T2 slice; choose another slice.")
    return found


def _outline(axes, mask, extent):
    """The border of the lesion in both axes, and an arrow that points at its largest part in the first."""
    from scipy import ndimage

    x, y = (np.linspace(*ends, 2 * n + 1)[1::2] for ends, n in ((extent[:2], mask.shape[1]), (extent[2:],
                                                                                              mask.shape[0])))
    for ax in axes:
        ax.contour(x, y, mask, levels=[0.5], colors=[LESION_COLOUR], linewidths=1.1)
    parts, n = ndimage.label(mask)
    largest = parts == 1 + int(np.argmax(ndimage.sum_labels(mask, parts, np.arange(1, n + 1))))
    j, i = ndimage.center_of_mass(largest)
    outwards = -1 if i < mask.shape[1] / 2 else 1
    edge = np.flatnonzero(largest.any(0))[0 if outwards < 0 else -1]
    axes[0].annotate("", (x[edge] + 2 * outwards, y[round(j)]), (x[edge] + 28 * outwards, y[round(j)] - 12),
                     arrowprops={"arrowstyle": "-|>", "color": LESION_COLOUR, "linewidth": 1.2})


def region_spread(table, *, value="t2_ms", whole="whole_ms", by=None, cutoff=None, ax=None, synthetic=False):
    """What readers with small regions find, a dot for each, beside the mean of the whole muscle.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `mrmyo.lessons_regions.small_regions`; several calls put together where there are groups.
    value, whole : str
        The readers' mean, and the mean of all muscle.
    by : str, optional
        A column of groups, one strip each: ``n_regions``.
    cutoff : float, optional
        Drawn as a dotted line.
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
        When a column is missing or there is no reader.
    """
    wanted = [value, whole, *([by] if by else [])]
    if missing := [name for name in wanted if name not in table]:
        raise FigureError(f"Found no column {', '.join(missing)}; expected the rows of small_regions.")
    if table.empty:
        raise FigureError("Found no reader; expected one row for each.")
    groups = [("readers", table)] if by is None else list(table.groupby(by))
    ax = new_axes(ax, height=2.8)
    rng = np.random.default_rng(0)  # of the places beside each other, which mean nothing
    names = []
    for i, (name, rows) in enumerate(groups):
        values = rows[value].to_numpy(float)
        ax.scatter(i + rng.uniform(-0.25, 0.25, values.size), values, s=9, alpha=0.6, linewidths=0,
                   color=GROUP_COLOURS[i % len(GROUP_COLOURS)])
        low, high = np.percentile(values, [2.5, 97.5])
        ax.vlines(i + 0.36, low, high, color=COLOURS["black"], linewidth=1.5)
        ax.plot(i + 0.36, values.mean(), "o", color=COLOURS["black"], markersize=4)
        many = f"{name} region{'' if name == 1 else 's'}" if by == "n_regions" else str(name)
        names.append(f"{many}\nn = {values.size} readers")
    mean = float(table[whole].mean())
    ax.axhline(mean, color=COLOURS["black"], linewidth=1.0, label=f"whole muscle, {with_unit(mean, value)}")
    if cutoff is not None:
        ax.axhline(cutoff, color=COLOURS["black"], linewidth=1.0, linestyle=":",
                   label=f"cutoff, {with_unit(cutoff, value)}")
    ax.set_xticks(range(len(names)), names)
    ax.set(xlim=(-0.6, len(names) - 0.4), ylabel=axis_name(value))
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=1.4,
              columnspacing=1.0, borderaxespad=0.1)
    return finish(ax, "Small regions", synthetic, pad=18)
