"""Four images of one level in one field of view, and the readers' spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from mrmyo import figures
from mrmyo.volume import Volume


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def patient():
    """A T2 map of 60 × 50 × 4 voxels with a muscle of 40 ms and a lesion of 55 ms, and images on other grids."""
    affine = np.diag([-2.0, -2.0, 6.0, 1.0])  # as DICOM has it: columns to the left, rows backwards
    affine[:3, 3] = [59, 49, 0]
    t2, labels, lesion = np.full((60, 50, 4), 80, np.float32), np.zeros((60, 50, 4), np.uint8), np.zeros((60, 50, 4))
    labels[20:40, 15:35] = 1
    t2[labels > 0] = 40
    lesion[22:28, 20:26, 2] = 1
    t2[lesion > 0] = 55
    fine = np.diag([1.0, 1.0, 3.0, 1.0])
    fine[:3, 3] = [-70, -60, -6]
    # a ramp along x, in mm, on the finer grid; and the T2 grid's own
    ramp = Volume(np.broadcast_to((np.arange(140.0) - 70)[:, None, None], (140, 120, 12)).astype(np.float32), fine)
    same = Volume(np.broadcast_to((59 - 2.0 * np.arange(60))[:, None, None], (60, 50, 4)).astype(np.float32), affine)
    return {"t1": ramp, "t2w": ramp, "fat_suppressed": same, "t2": Volume(t2, affine),
            "labels": Volume(labels, affine), "lesion": Volume(lesion, affine)}


def test_four_panels_show_one_field_of_view(patient):
    axes = figures.case_panels(**patient, synthetic=True)
    assert axes.shape == (2, 2) and [ax.get_title()[0] for ax in axes.flat] == list("ABCD")
    figure = axes[0, 0].figure
    assert figure.get_figwidth() == 7.0 and "Synthetic" in figure.get_suptitle()
    pictures = [np.asarray(ax.images[0].get_array(), float) for ax in axes.flat]
    assert len({picture.shape for picture in pictures}) == len({tuple(ax.images[0].get_extent()) for ax in axes.flat})\
        == 1
    # of one ramp on two grids the same pixels come, right to left as in radiology
    for picture in pictures[1:]:
        np.testing.assert_allclose(picture, pictures[0], atol=1e-4)
    assert (np.diff(pictures[0], axis=1) == pytest.approx(-1.0, abs=1e-3))
    # 20 mm around the muscle, which reaches from x = -20 to 20
    assert pictures[0][0, 0] == pytest.approx(38.5, abs=1.1) and pictures[0][0, -1] == pytest.approx(-38.5, abs=1.1)


def test_the_map_keeps_its_values_within_muscle_and_has_a_scale_with_a_unit(patient):
    axes = figures.case_panels(**patient)
    drawn = np.ma.filled(axes[1, 1].images[1].get_array().astype(float), np.nan)
    assert set(np.unique(drawn[np.isfinite(drawn)])) == {40.0, 55.0}
    assert np.isfinite(drawn).sum() == 40 * 40 and (drawn == 55).sum() == 12 * 12  # in pixels of 1 mm
    assert axes[1, 1].images[1].get_clim() == (20, 80)
    labels = {ax.get_ylabel() for ax in axes[0, 0].figure.axes}
    assert "T2 (ms)" in labels
    assert axes[0, 0].figure.get_suptitle() == ""


def test_the_lesion_is_outlined_in_c_and_d_only(patient):
    axes = figures.case_panels(**patient)
    assert [len(ax.collections) for ax in axes.flat] == [0, 0, 1, 1]
    assert [len(ax.texts) for ax in axes.flat] == [2, 2, 3, 2]  # the sides, and the arrow
    outline = axes[1, 0].collections[0].get_paths()[0].vertices
    drawn = np.ma.filled(axes[1, 1].images[1].get_array().astype(float), np.nan)
    rows, columns = np.nonzero(drawn == 55)
    assert outline[:, 0].min() == pytest.approx(columns.min(), abs=1) and outline[:, 0].max() == pytest.approx(
        columns.max() + 1, abs=1)
    assert outline[:, 1].mean() == pytest.approx(rows.mean() + 0.5, abs=1)
    # without a lesion the slice is another, or the one that was asked for, and nothing is outlined
    for options in ({"lesion": None}, {"slice_index": 0}):
        axes = figures.case_panels(**{**patient, **options})
        assert not any(len(ax.collections) for ax in axes.flat)


def test_without_labels_the_map_is_shown_wherever_it_is_known(patient):
    axes = figures.case_panels(**{**patient, "labels": None, "lesion": None})
    drawn = np.ma.filled(axes[1, 1].images[1].get_array().astype(float), np.nan)
    assert drawn.shape == (100, 120) and (drawn == 80).sum() == 100 * 120 - 40 * 40


def test_what_does_not_fit_together_is_refused(patient):
    with pytest.raises(figures.FigureError, match=r"the labels .* one grid"):
        figures.case_panels(**{**patient, "labels": patient["t1"]})
    with pytest.raises(figures.FigureError, match="slice_index=4"):
        figures.case_panels(**patient, slice_index=4)
    far = Volume(patient["t1"].array, patient["t1"].affine + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 500], [0] * 4]))
    with pytest.raises(figures.FigureError, match="A  T1-weighted: the image does not reach"):
        figures.case_panels(**{**patient, "t1": far})


def test_readers_are_dots_beside_the_mean_of_the_whole_muscle():
    rng = np.random.default_rng(0)
    table = pd.concat([pd.DataFrame({"n_regions": n, "t2_ms": rng.normal(41, 3 / n, 50), "whole_ms": 41.0})
                       for n in (1, 3)])
    ax = figures.region_spread(table, by="n_regions", cutoff=36.4, synthetic=True)
    strips = [text.get_text() for text in ax.get_xticklabels()]
    assert strips == ["1 region\nn = 50 readers", "3 regions\nn = 50 readers"]
    dots = [part for part in ax.collections if len(part.get_offsets()) == 50]
    np.testing.assert_allclose(dots[1].get_offsets()[:, 1], table.t2_ms[table.n_regions == 3])
    told = [text.get_text() for text in ax.get_legend().get_texts()]
    assert told == ["whole muscle, 41.0 ms", "cutoff, 36.4 ms"] and ax.get_ylabel() == "T2 (ms)"
    assert "synthetic" in ax.get_title()
    plain = figures.region_spread(table)
    assert [text.get_text() for text in plain.get_xticklabels()] == ["readers\nn = 100 readers"]


def test_a_table_without_readers_or_columns_is_refused():
    with pytest.raises(figures.FigureError, match="no column t2_ms, whole_ms"):
        figures.region_spread(pd.DataFrame({"a": [1]}))
    with pytest.raises(figures.FigureError, match="no reader"):
        figures.region_spread(pd.DataFrame({"t2_ms": [], "whole_ms": []}))
