"""What alignment did: how far every slice lay aside, and the mask's border before and after."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.pictures import overlay, t2_map
from mrmyo.figures.style import COLOURS, FigureError, finish, new_axes
from mrmyo.labels import is_muscle
from mrmyo.volume import Volume, same_grid, to_canonical

__all__ = ["border_pair", "four_steps", "misalignment"]

AXES = (("right_mm", "to the right", "vermilion", "-"), ("anterior_mm", "forwards", "green", "--"),
        ("superior_mm", "upwards", "blue", ":"))


def misalignment(report, *, ax=None, synthetic=False):
    """How far the muscle of every T2 slice lies from where the headers put it.

    Parameters
    ----------
    report : mapping
        Of `mrmyo.align`, with its ``slices``.
    ax : matplotlib.axes.Axes, optional
    synthetic : bool

    Returns
    -------
    matplotlib.axes.Axes
        The distance, its parts along the patient's axes, and what the single slices are off in plane beyond that.

    Raises
    ------
    FigureError
        When nothing was measured.
    """
    slices = report["slices"]
    if not slices:
        raise FigureError("This alignment measured nothing; ask for it with refine='measure', 'rigid' or 'slicewise'.")
    ax = new_axes(ax, height=2.6)
    number = [row["slice"] for row in slices]
    for column, name, colour, line in AXES:
        ax.plot(number, [row[column] for row in slices], line, color=COLOURS[colour], linewidth=1.2, label=name)
    ax.plot(number, [row["distance_mm"] for row in slices], "-", color="black", linewidth=2, label="distance")
    rest = np.array([np.nan if row["rest_mm"] is None else row["rest_mm"] for row in slices], float)
    if np.isfinite(rest).any():
        ax.plot(number, rest, "o", color=COLOURS["purple"], markersize=4, label="left in plane")
    ax.axhline(0, color="#999999", linewidth=0.6)
    ax.set(xlabel="T2 slice", ylabel="mm")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1.0,
              handletextpad=0.4, borderaxespad=0.1)
    return finish(ax, "", synthetic, pad=30)


def border_pair(image: Volume, before: Volume, after: Volume, *, slice_index=None, ax=None, title=None,
                synthetic=False, names=("by the headers", "refined")):
    """The border of all muscle by two masks on one image: where alignment moved it.

    Parameters
    ----------
    image : Volume
        On the grid of the masks; of several echoes the first.
    before, after : Volume
        Labels.
    slice_index : int, optional
        Counted from the feet upwards; where the two differ most when None.
    ax, title, synthetic
        As for `mrmyo.figures.overlay`.
    names : (str, str)
        For the legend.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if not same_grid(before, after):
        raise FigureError(f"Found masks of shape {before.shape} and {after.shape}, or at other places; expected one "
                          "grid.")
    masks = [to_canonical(labels.with_array(is_muscle(labels.array).astype(np.uint8))) for labels in (before, after)]
    if slice_index is None:
        slice_index = int((masks[0].array != masks[1].array).sum(axis=(0, 1)).argmax())
    ax = overlay(image, slice_index=slice_index, ax=ax, title=title, synthetic=synthetic)
    handles = []
    for labels, colour, line, name in zip(masks, ("#E69F00", "#56B4E9"), ("dashed", "solid"), names, strict=True):
        shown = labels.array[::-1, :, slice_index].T
        width, height = np.array(labels.shape[:2]) * labels.spacing_mm[:2]
        x = np.linspace(0, width, 2 * shown.shape[1] + 1)[1::2]
        y = np.linspace(0, height, 2 * shown.shape[0] + 1)[1::2]
        ax.contour(x, y, shown, levels=[0.5], colors=[colour], linewidths=1.1, linestyles=line)
        handles.append(ax.plot([], [], color=colour, linestyle=line, label=name)[0])
    ax.legend(handles=handles, frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
    return ax


def four_steps(structural: Volume, automatic: Volume, revised: Volume, echoes: Volume, before: Volume, after: Volume,
               t2: Volume, *, level=0.5, synthetic=False):
    """From the structural image to the region that is measured, at one height: segmentation, revision, alignment, T2.

    Parameters
    ----------
    structural : Volume
    automatic, revised : Volume
        Two masks on it.
    echoes : Volume
        Of several echoes the first is shown.
    before, after : Volume
        The revised mask on their grid, by the headers alone and refined.
    t2 : Volume
        T2 in ms, on the same grid.
    level : float
        Which height, from 0 (the lowest T2 slice) to 1.
    synthetic : bool

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    lower = to_canonical(echoes.echo(0) if echoes.array.ndim == 4 else echoes)
    k = round(level * (lower.shape[2] - 1))
    middle = lower.affine @ [*(np.array(lower.shape[:2]) - 1) / 2, k, 1]
    there = np.linalg.inv(to_canonical(structural).affine) @ middle
    above = int(np.clip(round(there[2]), 0, to_canonical(structural).shape[2] - 1))
    figure, axes = plt.subplots(1, 4, figsize=(12.5, 2.6), layout="constrained")
    border_pair(structural, automatic, automatic, slice_index=above, ax=axes[0], title="a  segmentation",
                names=("automatic", "automatic"))
    axes[0].get_legend().remove()
    border_pair(structural, automatic, revised, slice_index=above, ax=axes[1], title="b  revision",
                names=("automatic", "revised"))
    border_pair(echoes, before, after, slice_index=k, ax=axes[2], title="c  alignment")
    shown = t2.with_array(np.where(is_muscle(after.array), t2.array, np.nan).astype(np.float32))
    t2_map(shown, slice_index=k, ax=axes[3], title="d  the region that is measured")
    if synthetic:
        figure.suptitle("Synthetic data", fontsize=9)
    return figure
