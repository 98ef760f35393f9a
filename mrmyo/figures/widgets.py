"""A slider over slices, for notebooks."""

from __future__ import annotations

from mrmyo.figures.pictures import overlay, t2_map
from mrmyo.volume import Volume, to_canonical

__all__ = ["browse"]


def browse(volume: Volume, labels: Volume | None = None, *, t2: Volume | None = None, style="outline"):
    """Look through the slices of an image and its labels, with a T2 map on the same grid beside it.

    Parameters
    ----------
    volume, labels : Volume
        As for `mrmyo.figures.overlay`.
    t2 : Volume, optional
        T2 in ms, on the same grid.
    style : "fill" or "outline"

    Returns
    -------
    ipywidgets.VBox
        A slider and the picture. Display it.
    """
    import ipywidgets
    import matplotlib.pyplot as plt

    n_slices = to_canonical(volume).shape[2]
    slider = ipywidgets.IntSlider(value=n_slices // 2, min=0, max=n_slices - 1, description="slice", continuous_update=False)
    picture = ipywidgets.Output()

    def draw(_=None):
        columns = 1 if t2 is None else 2
        figure, axes = plt.subplots(1, columns, figsize=(6.4 * columns, 3.9), layout="constrained", squeeze=False)
        overlay(volume, labels, slice_index=slider.value, ax=axes[0, 0], style=style)
        if t2 is not None:
            t2_map(t2, slice_index=slider.value, ax=axes[0, 1])
        picture.clear_output(wait=True)
        with picture:
            plt.show()
        plt.close(figure)

    slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([slider, picture])
