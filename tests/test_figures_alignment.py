"""Figures of alignment: what they draw is what the report and the masks say."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from mrmyo import figures
from mrmyo.figures import FigureError
from mrmyo.volume import Volume

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


@pytest.fixture(autouse=True)
def off_screen():
    with matplotlib.rc_context({"backend": "agg"}):
        yield


def labels(start, slices=slice(None)):
    array = np.zeros((40, 30, 6), np.uint8)
    array[start:start + 12, 8:20, slices] = 1
    return Volume(array, AFFINE)


def rows(rest=None):
    return {"slices": [{"slice": k, "right_mm": 1.0 + k, "anterior_mm": -2.0, "superior_mm": 0.5 * k,
                        "distance_mm": 3.0 + k, "rest_mm": rest} for k in range(6)]}


def test_misalignment_draws_the_report():
    ax = figures.misalignment(rows(rest=0.4), synthetic=True)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["distance"], 3.0 + np.arange(6))
    np.testing.assert_allclose(drawn["to the right"], 1.0 + np.arange(6))
    np.testing.assert_allclose(drawn["forwards"], -2.0)
    np.testing.assert_allclose(drawn["left in plane"], 0.4)
    assert "ynthetic" in ax.get_title()
    assert "left in plane" not in {line.get_label() for line in figures.misalignment(rows()).lines}
    with pytest.raises(FigureError, match="measured nothing"):
        figures.misalignment({"slices": []})


def test_border_pair_picks_the_slice_where_the_masks_differ_most():
    image = Volume(np.random.default_rng(0).random((40, 30, 6)).astype(np.float32), AFFINE)
    before, after = labels(8), labels(8)
    after.array[9:20, :, 4] = 0
    ax = figures.border_pair(image, before, after)
    assert "Slice 4" in ax.get_title()
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["by the headers", "refined"]
    # the dashed border encloses the 12 voxels of 2 mm of the first mask; x leads to the patient's left in the picture
    path = ax.collections[0].get_paths()[0].vertices
    assert np.ptp(path[:, 0]) == pytest.approx(24, abs=0.1) and np.ptp(path[:, 1]) == pytest.approx(24, abs=0.1)
    assert path[:, 0].mean() == pytest.approx(80 - 2 * 14, abs=1.5)
    with pytest.raises(FigureError, match="expected one grid"):
        figures.border_pair(image, before, Volume(after.array, np.diag([3.0, 2, 5, 1])))


def test_four_steps_shows_all_of_one_height():
    structural = Volume(np.random.default_rng(1).random((40, 30, 12)).astype(np.float32), np.diag([2.0, 2.0, 2.5, 1.0]))
    drawn = Volume(np.repeat(labels(8).array, 2, axis=2), structural.affine)
    echoes = Volume(np.random.default_rng(2).random((40, 30, 6, 3)).astype(np.float32), AFFINE)
    t2 = Volume(np.full((40, 30, 6), 35.0, np.float32), AFFINE)
    figure = figures.four_steps(structural, drawn, drawn, echoes, labels(8), labels(9), t2, level=0.6, synthetic=True)
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert [title[0] for title in titles] == list("abcd")
    shown = figure.axes[3].images[0].get_array()
    assert np.ma.count(np.ma.masked_invalid(shown)) == 144  # the region alone
    assert figure._suptitle.get_text() == "Synthetic data"
