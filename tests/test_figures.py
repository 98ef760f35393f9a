"""Figures show what they were given, the right way round. Read off the artists, not off pixels."""

from __future__ import annotations

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mrmyo import figures
from mrmyo.cohort import load_cohort
from mrmyo.figures.style import axis_name, with_unit
from mrmyo.labels import label_table
from mrmyo.volume import Volume, to_canonical

SPACING = (2.0, 3.0, 10.0)
SHAPE = (6, 4, 5)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def ras(array):
    return Volume(array, np.diag([*SPACING, 1.0]))


def reoriented(volume, codes):
    """The same voxels at the same places, stored in other axes."""
    import nibabel

    change = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(volume.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(change, volume.shape)
    return Volume(nibabel.apply_orientation(volume.array, change), affine)


@pytest.fixture
def marked():
    """One bright voxel at the patient's left, anterior, in slice 3, and its label: left vastus lateralis."""
    image, labels = np.zeros(SHAPE), np.zeros(SHAPE, dtype=np.uint8)
    image[0, -1, 3], labels[0, -1, 3] = 100.0, 1
    return ras(image), ras(labels)


def brightest(ax):
    """Where the brightest pixel lies, as fractions of the picture from its left and from its bottom."""
    image = ax.images[0]
    rows, columns = image.get_array().shape
    row, column = np.unravel_index(np.nanargmax(image.get_array()), (rows, columns))
    assert image.origin == "lower"
    return (column + 0.5) / columns, (row + 0.5) / rows


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PSR", "SAL"])
def test_patients_left_is_on_the_right_and_anterior_is_up(marked, codes):
    ax = figures.overlay(*(reoriented(v, codes) for v in marked))
    x, y = brightest(ax)
    assert x > 0.5 and y > 0.5
    assert ax.images[0].get_array().shape == (4, 6)
    assert ax.images[0].get_extent() == [0, 12, 0, 12]  # 6 × 2 mm and 4 × 3 mm
    assert ax.get_aspect() == 1
    letters = {t.get_text(): t.get_position()[0] for t in ax.texts}
    assert letters["R"] < 0.5 < letters["L"]


def test_the_slice_with_most_label_is_the_default(marked):
    assert figures.overlay(*marked).get_title() == "Slice 3 (0–4, feet to head)"
    assert figures.overlay(marked[0]).get_title().startswith("Slice 2")
    assert figures.overlay(marked[0], slice_index=-1).get_title().startswith("Slice 4")


def test_label_lies_on_its_voxel_in_its_colour(marked):
    ax = figures.overlay(*marked, alpha=0.5)
    rgba = ax.images[1].get_array()
    row, column = np.argwhere(rgba[..., 3] > 0).squeeze()
    assert ax.images[0].get_array()[row, column] == 100
    assert tuple(rgba[row, column]) == (*figures.label_colours()[1], 0.5)


def test_outline_encloses_its_voxel():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2, 1, 3] = 21
    ax = figures.overlay(ras(labels.astype(float)), ras(labels), style="outline")
    line = ax.collections[0].get_paths()[0].vertices
    centre = (6 - 1 - 2 + 0.5) * SPACING[0], 1.5 * SPACING[1]
    np.testing.assert_allclose((line.min(axis=0) + line.max(axis=0)) / 2, centre)
    assert np.ptp(line, axis=0) == pytest.approx([SPACING[0], SPACING[1]])


def test_colours_are_the_same_on_both_sides_and_differ_between_muscles():
    colours, table = figures.label_colours(), label_table()
    assert set(colours) == set(table["value"])
    assert all(colours[v] == colours[v + 20] for v in range(1, 14))
    assert len({colours[v] for v in range(1, 14)}) == 13


def test_legend_names_each_muscle_once(marked):
    labels = marked[1].array.copy()
    labels[5, 0, 3] = 21
    ax = figures.overlay(marked[0], ras(labels), legend=True)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["VL"]


def test_first_echo_of_a_multi_echo_volume(marked):
    echoes = np.stack([marked[0].array, marked[0].array[::-1]], axis=-1)
    x, y = brightest(figures.overlay(ras(echoes), slice_index=3))
    assert x > 0.5 and y > 0.5


def test_other_grid_is_refused(marked):
    with pytest.raises(figures.FigureError, match="one grid"):
        figures.overlay(marked[0], Volume(marked[1].array, np.eye(4)))


@pytest.mark.parametrize(("options", "message"), [({"slice_index": 5}, "0 to 4"), ({"style": "dots"}, "'outline'")])
def test_overlay_refuses(marked, options, message):
    with pytest.raises(figures.FigureError, match=message):
        figures.overlay(*marked, **options)


def test_t2_map_in_ms_with_gaps_blank():
    t2 = np.full(SHAPE, 40.0)
    t2[0, 0, 2] = np.nan
    ax = figures.t2_map(ras(t2), synthetic=True)
    image = ax.images[0]
    assert image.get_clim() == (20, 80)
    assert np.ma.getmaskarray(image.get_array()).sum() == 1
    assert image.colorbar.ax.get_ylabel() == "T2 (ms)"
    assert "synthetic" in ax.get_title()


def test_t2_map_refuses_seconds():
    with pytest.raises(figures.FigureError, match="seconds"):
        figures.t2_map(ras(np.full(SHAPE, 0.04)))


@pytest.mark.parametrize(("n", "titles"), [(1, ["0"]), (3, ["0", "2", "4"]), (9, ["0", "1", "2", "3", "4"])])
def test_montage(marked, n, titles):
    axes = figures.montage(*marked, n=n)
    assert [ax.get_title() for ax in axes] == [f"slice {title}" for title in titles]
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    assert len(axes[0].figure.axes) == len(titles)


def test_montage_in_a_given_figure(marked):
    fig = plt.figure()
    assert figures.montage(marked[0], n=2, fig=fig, synthetic=True)[0].figure is fig
    assert "Synthetic" in fig.get_suptitle()


def test_roc_curve_says_the_numbers():
    ax = figures.roc_curve(load_cohort(), synthetic=True)
    text = " ".join(t.get_text() for t in ax.texts)
    for number in ("AUC 0.986 (95% CI 0.964–1.000)", "cutoff 36.4 ms", "sensitivity 96.9%", "specificity 100.0%"):
        assert number in text
    assert "n = 10" in ax.get_xlabel() and "n = 64" in ax.get_ylabel()
    assert ax.get_title() == "Synthetic data"
    x, y = ax.lines[1].get_data()
    assert np.trapezoid(y, x) == pytest.approx(631 / 640)


def test_roc_curve_without_an_interval_prints_no_nan():
    few = load_cohort().iloc[[1, 2, 3, 70]]
    assert "nan" not in " ".join(t.get_text() for t in figures.roc_curve(few).texts)


def test_group_strip_shows_every_subject_and_the_cutoff():
    cohort = load_cohort()
    ax = figures.group_strip(cohort, cutoff=36.4)
    shown = [points.get_offsets()[:, 1] for points in ax.collections]
    assert [len(s) for s in shown] == [10, 64]
    np.testing.assert_allclose(np.sort(shown[1]), np.sort(cohort["t2_ms"][:64]))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["HC\n(n = 10)", "IIM\n(n = 64)"]
    assert ax.get_ylabel() == "T2 (ms)"
    assert "36.4 ms" in [t.get_text() for t in ax.texts]
    assert ax.get_title() == ""


@pytest.mark.parametrize("by", [None, "group"])
def test_bland_altman_draws_bias_and_limits(by):
    cohort = load_cohort()
    cohort["t2_true_ms"] = cohort["t2_ms"] - np.linspace(-1, 2, 74)
    ax = figures.bland_altman(cohort, measured="t2_ms", reference="t2_true_ms", by=by, synthetic=True)
    d = np.linspace(-1, 2, 74)
    drawn = sorted(line.get_ydata()[0] for line in ax.lines)
    assert drawn == pytest.approx([d.mean() - 1.959964 * d.std(ddof=1), 0.5, d.mean() + 1.959964 * d.std(ddof=1)])
    assert sum(len(points.get_offsets()) for points in ax.collections) == 74
    assert "n = 74" in ax.get_xlabel() and "(ms)" in ax.get_ylabel()
    assert (ax.get_legend() is not None) == (by is not None)


def test_import_leaves_matplotlib_alone():
    code = "import sys, mrmyo.figures; assert 'matplotlib' not in sys.modules and 'pandas' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_given_axes_are_used():
    _, ax = plt.subplots()
    assert figures.group_strip(load_cohort(), ax=ax) is ax


@pytest.mark.parametrize(
    ("name", "written"),
    [("t2_ms", "T2 (ms)"), ("ck_u_l", "CK (U/L)"), ("fat_percent", "Fat (%)"), ("t2_true_ms", "T2 true (ms)"),
     ("dice", "Dice")],
)
def test_axis_names(name, written):
    assert axis_name(name) == written


def test_value_with_unit():
    assert (with_unit(36.40000001, "t2_ms"), with_unit(0.5, "dice")) == ("36.4 ms", "0.5")


@pytest.mark.realdata
def test_real_thighs_have_gracilis_medial_on_both_sides(real_data):
    import nibabel

    def load(name):
        image = nibabel.load(real_data / "thigh_dixon" / name)
        return Volume(np.asarray(image.dataobj), image.affine)

    water, labels = load("water.nii.gz"), load("labels_machine.nii.gz")
    ax = figures.overlay(water, labels, slice_index=7)
    rgba = ax.images[1].get_array()
    assert (rgba[..., 3] > 0).sum() == (to_canonical(labels).array[..., 7] > 0).sum()
    colours = figures.label_colours()  # in this file 7 is gracilis and 3 vastus lateralis, whatever mrmyo calls them
    gracilis, lateralis = (np.argwhere(np.all(rgba[..., :3] == colours[v], axis=-1)) for v in (7, 3))
    for side in (np.less, np.greater):
        inner, outer = (np.abs(w[side(w[:, 1], 256), 1] - 256).mean() for w in (gracilis, lateralis))
        assert inner < outer
    assert gracilis[:, 0].mean() < lateralis[:, 0].mean()  # and further back, so lower in the picture


def test_the_curve_of_a_training_shows_every_step_and_the_rate():
    table = pd.DataFrame({"step": range(100), "learning_rate": np.linspace(1e-3, 0, 100)})
    table["loss"] = 2 - 0.01 * table.step
    ax = figures.training_curve(table)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), table[["step", "loss"]])
    assert 1 < ax.lines[1].get_ydata()[-1] < 1.05 and "1.0" in ax.get_legend().get_texts()[0].get_text()
    (rate,) = [other for other in ax.figure.axes if other is not ax]
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), table.learning_rate)
