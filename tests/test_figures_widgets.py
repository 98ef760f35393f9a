"""A knob turned draws a new picture; pages carry what they show."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")

from mrmyo import Volume, figures
from mrmyo.figures.pages import table_html, write_page


def test_turning_a_knob_draws_anew():
    seen = []

    def draw(table, *, cutoff, name):
        import matplotlib.pyplot as plt

        seen.append((cutoff, name))
        axes = plt.figure(figsize=(1, 1)).add_subplot()
        axes.plot(table, [0, cutoff])
        return axes

    box = figures.turn(draw, [0, 1], cutoff=(30.0, 40.0, 0.5), name="T2")
    slider, picture = box.children
    assert isinstance(slider, ipywidgets.FloatSlider) and (slider.min, slider.max, slider.value) == (30, 40, 35)
    before = picture.value
    slider.value = 37.5
    assert seen == [(35.0, "T2"), (37.5, "T2")]
    assert picture.value[:4] == b"\x89PNG" and picture.value != before
    assert not matplotlib.pyplot.get_fignums()  # every figure is closed again


def test_an_array_of_axes_is_one_figure():
    volume = Volume(np.random.default_rng(0).uniform(size=(12, 10, 5)), np.diag([2.0, 2, 6, 1]))
    box = figures.turn(figures.side_by_side, {"a": volume, "b": volume}, columns=2, slice_index=(0, 4, 1))
    assert box.children[-1].value[:4] == b"\x89PNG" and not matplotlib.pyplot.get_fignums()


def test_without_a_kernel_the_picture_is_left():
    box = figures.turn(lambda *, x: figures.roc_curve(pd.DataFrame({"group": ["HC", "IIM"] * 4, "t2_ms": range(8)})),
                       x=(0, 2, 1))
    found = box._repr_mimebundle_()
    data = found[0] if isinstance(found, tuple) else found
    assert base64.b64decode(data["image/png"]) == box.children[-1].value
    assert "application/vnd.jupyter.widget-view+json" in data  # where a kernel runs, the sliders themselves


def test_a_gallery_is_drawn_anew_from_its_seeds():
    asked = []

    def draw(size, *, anatomy, deform):
        asked.append((size, anatomy, deform))
        images = np.full((2, size, size), anatomy / 10)
        return SimpleNamespace(images=images, labels=np.ones((2, size, size), np.uint8))

    box = figures.turn_gallery(draw, 8, anatomy=(0, 4, 1), deform=(0.0, 1.0, 0.5))
    *sliders, picture = box.children
    assert [type(slider) for slider in sliders] == [ipywidgets.IntSlider, ipywidgets.FloatSlider]
    before = picture.value
    sliders[0].value = 4
    assert asked == [(8, 2, 0.5), (8, 4, 0.5)] and picture.value != before
    assert not matplotlib.pyplot.get_fignums()


def test_browse_runs_through_the_slices_from_feet_to_head():
    array = np.zeros((12, 10, 5), np.float32)
    array[..., 3] = np.arange(12)[:, None]
    box = figures.browse(Volume(array, np.diag([-2.0, -2, 6, 1])))
    slider, picture = box.children
    assert isinstance(slider, ipywidgets.IntSlider) and (slider.min, slider.max) == (0, 4)
    slider.value = 0
    empty = picture.value
    slider.value = 3
    assert picture.value != empty


def test_error_parts_show_every_subject():
    errors = pd.DataFrame({"group": ["HC", "IIM", "IIM"], "error_fit_ms": [0.1, 0.2, 0.3], "error_alignment_ms": 0.0,
                           "error_mask_ms": -0.1, "error_ms": [0.0, 0.1, 0.2]})
    axes = figures.error_parts(errors, synthetic=True)
    points = np.concatenate([c.get_offsets()[:, 1] for c in axes.collections])
    assert sorted(points) == pytest.approx(sorted(np.ravel(errors.drop(columns="group"))))
    assert "ynthetic" in axes.get_title()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["HC (n = 1)", "IIM (n = 2)"]


def test_pages_escape_what_they_show(tmp_path):
    table = pd.DataFrame({"name": ["<b>x</b>"], "t2_ms": [36.456], "n": [3], "missing": [np.nan]})
    page = write_page(tmp_path / "page.html", title="A & B", body=table_html(table)).read_text()
    assert "&lt;b&gt;x" in page and "36.46" in page and ">3<" in page and ">–<" in page
    assert "A &amp; B" in page and "Research use only" in page
    assert "synthetic" not in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
