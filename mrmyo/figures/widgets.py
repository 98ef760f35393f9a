"""Knobs for notebooks: a picture that is drawn anew when a slider is turned."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from mrmyo.figures.galleries import gallery
from mrmyo.figures.pictures import overlay, t2_map
from mrmyo.volume import Volume, to_canonical

__all__ = ["browse", "turn", "turn_gallery"]


def turn(draw: Callable, *fixed, dpi: int = 100, **options):
    """Draw with a slider for every option that is given as a range.

    Parameters
    ----------
    draw : callable
        Returns Matplotlib axes (one or an array) or a figure, such as the functions of `mrmyo.figures`.
    *fixed
        Positional arguments of `draw`.
    dpi : int
    **options
        Options of `draw`. A tuple ``(low, high, step)`` of numbers becomes a slider, starting in the middle; of whole
        numbers if all three are. Everything else is passed on.

    Returns
    -------
    ipywidgets.VBox
        The sliders above the picture. Display it. Where no kernel runs (an executed notebook, a page made of it) the
        picture stands there as it was first drawn.
    """
    import ipywidgets

    sliders = {name: _slider(name, value) for name, value in options.items() if _is_range(value)}
    rest = {name: value for name, value in options.items() if name not in sliders}
    # an Image widget, not an Output: nothing then depends on which cell the kernel is thought to be in
    picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})

    def redraw(_=None):
        drawn = draw(*fixed, **rest, **{name: slider.value for name, slider in sliders.items()})
        drawn = drawn.flat[0] if hasattr(drawn, "flat") else drawn  # of many axes any one knows the figure
        picture.value = _png(getattr(drawn, "figure", drawn), dpi)

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    # at the left and not stretched: the picture keeps its size
    return _knobs([*sliders.values(), picture], picture)


def _knobs(children, picture):
    """A box of widgets that is its picture wherever widgets cannot be shown."""
    import ipywidgets

    class Knobs(ipywidgets.VBox):
        """Sliders above a picture."""

        def _repr_mimebundle_(self, **kwargs):
            found = super()._repr_mimebundle_(**kwargs)
            data, *more = found if isinstance(found, tuple) else (found,)
            return ({**data, "image/png": base64.b64encode(picture.value).decode()}, *(more or [{}]))

    return Knobs(children, layout={"align_items": "flex-start"})


def _is_range(value):
    return isinstance(value, tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value)


def _slider(name, limits):
    import ipywidgets

    low, high, step = limits
    whole = all(isinstance(v, int) for v in limits)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    middle = low + round((high - low) / 2 / step) * step
    return kind(value=middle, min=low, max=high, step=step, description=name.replace("_", " "), continuous_update=False)


def _png(figure, dpi):
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    plt.close(figure)
    return buffer.getvalue()


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

    def draw(*, slice):
        import matplotlib.pyplot as plt

        columns = 1 if t2 is None else 2
        figure, axes = plt.subplots(1, columns, figsize=(5.8 * columns, 3.4), layout="constrained", squeeze=False)
        overlay(volume, labels, slice_index=slice, ax=axes[0, 0], style=style)
        if t2 is not None:
            t2_map(t2, slice_index=slice, ax=axes[0, 1])
        return figure

    return turn(draw, slice=(0, to_canonical(volume).shape[2] - 1, 1))


def turn_gallery(draw: Callable, *fixed, columns=6, style="beneath", dpi: int = 80, **options):
    """A gallery with sliders for what it is drawn from, such as the seeds of training images.

    Parameters
    ----------
    draw : callable
        Returns something with ``images`` and ``labels`` as `mrmyo.figures.gallery` takes them.
    *fixed
        Positional arguments of `draw`.
    columns, style
        As for `mrmyo.figures.gallery`.
    dpi : int
    **options
        As for `turn`.

    Returns
    -------
    ipywidgets.VBox
        The sliders above the gallery. Display it.
    """

    def picture(**chosen):
        drawn = draw(*fixed, **chosen)
        return gallery(drawn.images, drawn.labels, columns=columns, style=style)

    return turn(picture, dpi=dpi, **options)
