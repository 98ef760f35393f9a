"""Galleries and charts by muscle show what they were given, the right way round. Read off the artists."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mrmyo import figures
from mrmyo.labels import label_table
from mrmyo.volume import Volume, to_canonical

COLOURS = figures.label_colours()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def volume(array, codes=(1, 1, 1)):
    return Volume(array, np.diag([2.0 * codes[0], 3.0 * codes[1], 10.0 * codes[2], 1.0]))


@pytest.fixture
def sections():
    """Two images with a bright spot lateral and anterior (low x, high y); its label is the vastus lateralis."""
    images, labels = np.full((2, 8, 8), 0.2), np.zeros((2, 8, 8), np.uint8)
    images[:, 1, 6], labels[:, 1, 6] = 1.0, 1
    return images, labels


def test_lateral_is_on_the_right_and_anterior_up(sections):
    axes = figures.gallery(*sections, titles=["a", "b"])
    assert len(axes) == 4
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["a"], ["b"], [], []]
    picture, painted = axes[0].images[0], axes[2].images[0]
    assert picture.origin == painted.origin == "lower"
    assert tuple(np.argwhere(picture.get_array() == 1.0)[0]) == (6, 6)  # row from below, column from the left
    rgba = painted.get_array()
    assert tuple(rgba[6, 6]) == (*COLOURS[1], 1) and (rgba[..., 3] > 0).sum() == 1
    assert axes[0].figure.get_suptitle() == "Synthetic images"


@pytest.mark.parametrize("style", ["outline", "fill"])
def test_labels_upon_the_images(sections, style):
    axes = figures.gallery(*sections, style=style, title="Training", synthetic=False)
    assert len(axes) == 2 and axes[0].figure.get_suptitle() == "Training"
    assert len(axes[0].images) == (2 if style == "fill" else 1)
    assert len(axes[0].collections) == (style == "outline")


def test_a_gallery_that_does_not_fit_is_refused(sections):
    images, labels = sections
    for wrong, message in (((images[0],), "at least one"), ((images, labels[:1]), "same shape")):
        with pytest.raises(figures.FigureError, match=message):
            figures.gallery(*wrong)
    with pytest.raises(figures.FigureError, match="3 titles"):
        figures.gallery(images, titles=["a", "b", "c"])
    with pytest.raises(figures.FigureError, match="'beneath'"):
        figures.gallery(images, labels, style="dots")


def test_more_images_than_columns_leave_no_empty_axes(sections):
    images = np.repeat(sections[0][:1], 5, 0)
    axes = figures.gallery(images, columns=3)
    assert len(axes) == 5 == len(axes[0].figure.axes)


def test_contrasts_side_by_side_have_windows_of_their_own():
    dark = np.random.default_rng(0).uniform(0, 1, (12, 8, 3))
    images = {"dark": volume(dark), "bright": volume(100 * dark)}
    labels = np.zeros((12, 8, 3), np.uint8)
    labels[5:7, 4, 1] = 2
    axes = figures.side_by_side(images, volume(labels), columns=2, synthetic=True)
    assert [ax.get_title() for ax in axes] == ["dark", "bright"]
    assert axes[1].images[0].get_clim()[1] == pytest.approx(100 * axes[0].images[0].get_clim()[1])
    assert all(ax.collections for ax in axes)
    assert axes[0].figure.get_suptitle() == "Synthetic data"
    only = figures.side_by_side(images, {"bright": volume(labels)})
    assert [len(ax.collections) for ax in only] == [0, 1]
    with pytest.raises(figures.FigureError, match="no image"):
        figures.side_by_side({})


def test_around_labels_only_their_part_is_shown_at_the_same_place():
    array = np.zeros((60, 60, 3))
    array[40, 30, 1] = 7
    labels = np.zeros(array.shape, np.uint8)
    labels[38:43, 28:33, 1] = 1
    for turned in (1, -1):
        image, mask = volume(array, (turned, 1, 1)), volume(labels, (turned, 1, 1))
        (ax,) = figures.side_by_side({"a": image}, mask, around=mask, style="fill")
        shown = ax.images[0].get_array()
        assert shown.shape == (5 + 2 * 7, 5 + 2 * 10)  # 20 mm on every side, of 3 and 2 mm
        assert ax.images[1].get_array()[shown == 7][0, 3] > 0


def test_a_montage_around_labels_holds_them_all():
    labels = np.zeros((60, 60, 3), np.uint8)
    labels[38:43, 28:33, 1] = 1
    axes = figures.montage(volume(np.zeros(labels.shape)), volume(labels), n=3, around=volume(labels))
    assert {ax.images[0].get_array().shape for ax in axes} == {(5 + 2 * 7, 5 + 2 * 10)}
    assert (axes[1].images[1].get_array()[..., 3] > 0).sum() == 25


def test_echoes_share_a_window_and_tell_their_times():
    array = np.ones((6, 6, 2, 3)) * [100.0, 60.0, 30.0]
    axes = figures.echoes(Volume(array, np.eye(4), echo_times_ms=(10, 20, 30.5)))
    assert [ax.get_title() for ax in axes] == ["10 ms", "20 ms", "30.5 ms"]
    assert {ax.images[0].get_clim() for ax in axes} == {(0.0, 100.0)}
    assert [float(ax.images[0].get_array()[0, 0]) for ax in axes] == [100, 60, 30]
    with pytest.raises(figures.FigureError, match="without echoes"):
        figures.echoes(Volume(array[..., 0], np.eye(4)))


def test_masks_differ_where_they_differ():
    ours, theirs = np.zeros((2, 40, 40, 2), np.uint8)
    theirs[10:20, 10, 1] = 1
    ours[12:20, 10, 1] = 1  # 10 and 11 missed
    ours[13, 10, 1] = 2  # another name
    ours[20:23, 10, 1] = 3  # added
    ours[30, 30, 1] = 51  # the femur is no muscle
    image = volume(np.zeros((40, 40, 2)))
    axes = figures.compare_masks(image, volume(ours), volume(theirs), names=("a", "b"))
    assert axes.shape == (1, 3) and [ax.get_title() for ax in axes[0]] == ["slice 1, a", "slice 1, b", "difference"]
    rgba = axes[0, 2].images[1].get_array()
    counts = {}
    for colour in map(tuple, rgba[rgba[..., 3] > 0]):
        counts[colour] = counts.get(colour, 0) + 1
    assert sorted(counts.values()) == [1, 2, 3, 7]
    rgba = figures.compare_masks(image, volume(ours), volume(theirs), only_named=True)[0, 2].images[1].get_array()
    assert (rgba[..., 3] > 0).sum() == 7 + 3  # 2 and 3 have no place in the reference: three voxels, and one is missed
    words = [text.get_text() for text in axes[0, 0].figure.legends[0].get_texts()]
    assert words == ["same name", "another name", "missed", "added"]
    with pytest.raises(figures.FigureError, match="one grid"):
        figures.compare_masks(image, volume(ours), Volume(theirs, np.eye(4)))


def test_the_chart_of_labels_says_what_the_table_says():
    words = {text.get_text() for text in figures.label_chart().texts}
    table = label_table()
    assert set(table.name) | set(table.abbreviation) | set(map(str, table.value)) <= words
    patches = figures.label_chart().patches
    assert [p.get_facecolor()[:3] for p in patches] == [COLOURS[v] for v in (*range(1, 14), 40, 51)]


def test_a_point_of_each_muscle_is_the_mean_of_its_sides():
    table = pd.DataFrame({"abbreviation": ["RF", "RF", "VL", "VL", "ALL"], "side": ["left", "right"] * 2 + ["both"],
                          "dice": [0.8, 0.9, 0.7, np.nan, 0.95]})
    ax = figures.by_muscle(table, value="dice", synthetic=True)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["VL", "RF", "ALL"]  # in the order of the label table
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_ydata(), [0.7, 0.85, 0.95])
    both = pd.concat([table.assign(contrast="water"), table.assign(contrast="fat")])
    legend = figures.by_muscle(both, value="dice", by="contrast").get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["water", "fat"]
    with pytest.raises(figures.FigureError, match="no column t2_ms"):
        figures.by_muscle(table, value="t2_ms")


def test_flagged_slices_are_ringed():
    table = pd.DataFrame({"slice": [2, 0, 1, 0], "side": ["left", "left", "left", "right"],
                          "entropy": [0.3, 0.1, 0.2, 0.5], "flag": ["", "", "uncertain", ""]})
    ax = figures.profile(table, value="entropy", by="side", flag="flag")
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines == {"left": [[0, 0.1], [1, 0.2], [2, 0.3]], "right": [[0, 0.5]], "flagged": [[1, 0.2]]}


def test_trend_draws_medians_of_what_lies_within_the_steps():
    table = pd.DataFrame({"fat_percent": [*range(5), *range(10, 15), 20], "dice": [*range(5), *range(5, 10), np.nan]})
    ax = figures.trend(table, x="fat_percent", y="dice", edges=[0, 10, 20])
    assert [(*line.get_xdata(), *line.get_ydata()) for line in ax.lines] == [(2, 2), (12, 7)]
    assert [t.get_text() for t in ax.texts] == ["5", "5"] and "n = 10" in ax.get_xlabel()


@pytest.mark.realdata
def test_the_real_example_is_cut_around_both_thighs(real_data):
    from mrmyo.validation_examples import read_thigh_example

    images, reference = read_thigh_example(real_data / "thigh_dixon")
    axes = figures.side_by_side(images, reference, slice_index=7, around=reference)
    assert len(axes) == 4
    height, width = axes[0].images[0].get_array().shape
    assert height < 350 and width > height
    rgba = figures.compare_masks(images["water"], reference, reference, slices=[7])[0, 2].images[1].get_array()
    assert (rgba[..., 3] > 0).sum() == (to_canonical(reference).array[..., 7] > 0).sum()
