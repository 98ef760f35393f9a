"""Small regions and grown regions on maps whose means are known by calculation."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.lessons_regions import region_of_mean, small_regions
from mrmyo.volume import GridError, Volume

AFFINE = np.diag([1.0, 1.0, 6.0, 1.0])
VL, BFL, RIGHT_VL = 1, 11, 21


def volumes(t2, labels, affine=AFFINE):
    return Volume(np.asarray(t2, np.float32), affine), Volume(np.asarray(labels, np.uint8), affine)


def two_muscles():
    """60 × 40 × 3 voxels: a muscle of 30 ms beside one of 50 ms with half its width, fat of 80 ms around both."""
    t2, labels = np.full((60, 40, 3), 80.0), np.zeros((60, 40, 3))
    labels[5:35, 5:35], labels[35:50, 5:35] = VL, BFL
    t2[labels == VL], t2[labels == BFL] = 30, 50
    return t2, labels


# --- regions drawn by hand


def test_a_region_lies_wholly_within_one_muscle():
    table = small_regions(*volumes(*two_muscles()), n_regions=1, n_readers=400)
    assert set(table.t2_ms) == {30.0, 50.0}  # neither a mixture nor any fat
    assert table.whole_ms.unique().tolist() == pytest.approx([30 + 20 / 3])
    assert table.columns.tolist() == ["reader", "n_regions", "t2_ms", "n_voxels", "area_mm2", "whole_ms"]
    assert table.reader.tolist() == list(range(1, 401))


def test_places_are_drawn_by_the_room_that_muscles_have():
    # a circle of 4.5 mm radius has its middle in 22 × 22 of the wider muscle's places and in 7 × 22 of the other's
    table = small_regions(*volumes(*two_muscles()), n_regions=1, n_readers=3000, area_mm2=(np.pi * 4.5**2,) * 2)
    assert (table.t2_ms == 50).mean() == pytest.approx(7 / 29, abs=4 * np.sqrt(7 * 22 / 29**2 / 3000))


def test_a_region_has_the_area_that_was_asked_for():
    by_hand = sum(i * i + j * j <= 50 / np.pi for i in range(-9, 10) for j in range(-9, 10))
    table = small_regions(*volumes(*two_muscles()), n_regions=2, n_readers=5, area_mm2=(50, 50))
    assert table.n_voxels.tolist() == [2 * by_hand] * 5 and table.area_mm2.tolist() == [2.0 * by_hand] * 5
    fine = small_regions(*volumes(*two_muscles(), np.diag([0.5, 0.5, 6.0, 1.0])), n_regions=1, n_readers=500)
    assert fine.area_mm2.min() > 16 and fine.area_mm2.max() < 104 and fine.area_mm2.mean() == pytest.approx(60, abs=4)


@pytest.mark.parametrize("n_regions", [1, 3])
def test_noise_is_averaged_over_the_voxels_of_the_regions(n_regions):
    labels = np.zeros((130, 130, 8))
    labels[1:-1, 1:-1] = VL
    t2 = 40 + np.random.default_rng(1).normal(0, 6, labels.shape)
    table = small_regions(*volumes(t2, labels), n_regions=n_regions, n_readers=2000, area_mm2=(50, 50))
    n = table.n_voxels.iloc[0]
    assert table.t2_ms.mean() == pytest.approx(40, abs=0.1)
    assert table.t2_ms.std() == pytest.approx(6 / np.sqrt(n), rel=0.08)


def test_voxels_without_a_t2_belong_to_no_region():
    t2, labels = two_muscles()
    t2[20, :, :] = np.nan
    table = small_regions(*volumes(t2, labels), n_readers=300)
    assert np.isfinite(table.t2_ms).all() and table.t2_ms.between(30, 50).all()
    t2[:] = np.nan
    with pytest.raises(ValueError, match="no muscle with a T2"):
        small_regions(*volumes(t2, labels))


def test_the_order_of_the_axes_does_not_matter_and_the_seed_does():
    t2, labels = two_muscles()
    t2 = t2 + np.random.default_rng(2).normal(size=t2.shape)
    table = small_regions(*volumes(t2, labels), n_readers=20)
    turned = small_regions(*volumes(t2.transpose(2, 0, 1), labels.transpose(2, 0, 1), AFFINE[:, [2, 0, 1, 3]]),
                           n_readers=20)
    np.testing.assert_allclose(turned.t2_ms, table.t2_ms)
    assert small_regions(*volumes(t2, labels), n_readers=20).equals(table)
    assert not small_regions(*volumes(t2, labels), n_readers=20, seed=1).equals(table)


def test_what_cannot_be_drawn_is_refused():
    t2, labels = volumes(*two_muscles())
    with pytest.raises(ValueError, match="has room for a round region of 2000 mm²"):
        small_regions(t2, labels, area_mm2=(20, 2000))
    for options in ({"area_mm2": (100, 20)}, {"area_mm2": (0, 20)}, {"n_regions": 0}, {"n_readers": 0}):
        with pytest.raises(ValueError, match="at least one of both"):
            small_regions(t2, labels, **options)
    with pytest.raises(GridError, match="one grid"):
        small_regions(t2, Volume(labels.array[:-1], labels.affine))
    with pytest.raises(ValueError, match="no muscle with a T2"):
        small_regions(t2, labels.with_array(np.full(labels.shape, 51, np.uint8)))


# --- a region grown to a mean


def cone(shape, spacing, peak_ms, slope, label=VL):
    """T2 that falls evenly with the distance from the middle, all of it muscle."""
    places = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)],
                                  indexing="ij"))
    return volumes(peak_ms - slope * np.sqrt((places**2).sum(0)), np.full(shape, label), np.diag([*spacing, 1.0]))


def test_a_cone_grows_to_the_disc_of_the_wanted_mean():
    # the mean of T - g r over a disc of radius R is T - 2/3 g R
    region, facts = region_of_mean(*cone((81, 81, 1), (1, 1, 6), 60, 0.8), mean_ms=48, smooth_mm=0)
    radius = 1.5 * (60 - 48) / 0.8
    assert facts["volume_ml"] == pytest.approx(np.pi * radius**2 * 6 / 1000, rel=0.02)
    assert facts["t2_ms"] == pytest.approx(48, abs=0.05) and facts["t2_ms"] <= 48
    assert region.array.dtype == bool and region.array.sum() == facts["n_voxels"]
    i, j, _ = np.nonzero(region.array)
    assert np.hypot(i - 40, j - 40).max() == pytest.approx(radius, abs=1)
    assert (facts["muscle"], facts["side"], facts["share_in_muscle"]) == ("vastus lateralis", "left", 1.0)
    assert facts["share"] == pytest.approx(facts["n_voxels"] / 81**2)


def test_a_cone_in_space_grows_to_a_ball():
    # the mean of T - g r over a ball of radius R is T - 3/4 g R
    _, facts = region_of_mean(*cone((51, 51, 27), (1, 1, 2), 60, 0.8), mean_ms=50, smooth_mm=0)
    assert facts["volume_ml"] == pytest.approx(4 / 3 * np.pi * (4 / 3 * 10 / 0.8) ** 3 / 1000, rel=0.02)
    assert facts["t2_ms"] == pytest.approx(50, abs=0.02)


def test_noise_changes_a_smoothed_region_little():
    t2, labels = cone((61, 61, 1), (1, 1, 6), 60, 0.8)
    noisy = t2.with_array(t2.array + np.random.default_rng(3).normal(0, 2, t2.shape).astype(np.float32))
    one, other = (region_of_mean(volume, labels, mean_ms=48)[0].array for volume in (t2, noisy))
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.95


def test_growth_crosses_no_gap_and_holds_no_voxel_without_t2():
    t2, labels = cone((60, 40, 1), (1, 1, 6), 60, 0.8)
    array, names = np.array(t2.array), np.array(labels.array)
    names[30] = 0  # fat between two halves, of which the left one is the longer in T2
    array[:30] += 1
    array[20:24, 10:14] = np.nan
    region, facts = region_of_mean(t2.with_array(array), labels.with_array(names), mean_ms=46, smooth_mm=0)
    assert not region.array[30:].any() and not region.array[20:24, 10:14].any()
    assert np.isfinite(facts["t2_ms"]) and region.array[24:30].any()


def test_growth_may_end_at_the_border_of_its_muscle():
    t2, labels = cone((60, 40, 1), (1, 1, 6), 60, 0.8)
    names = np.array(labels.array)
    names[32:] = RIGHT_VL  # two muscles side by side; the peak lies in the first
    labels = labels.with_array(names)
    wide, facts = region_of_mean(t2, labels, mean_ms=52, smooth_mm=0)
    assert wide.array[32:].any() and 0.5 < facts["share_in_muscle"] < 0.9 and facts["side"] == "left"
    narrow, facts = region_of_mean(t2, labels, mean_ms=52, smooth_mm=0, one_muscle=True)
    assert not narrow.array[32:].any() and facts["share_in_muscle"] == 1.0
    assert facts["t2_ms"] == pytest.approx(52, abs=0.1)


def test_growth_does_not_begin_in_a_vessel_or_a_sliver_at_the_edge():
    t2, labels = cone((60, 40, 1), (1, 1, 6), 50, 0.4)
    array, names = np.array(t2.array), np.array(labels.array)
    array[50:52, 10:12] = 120  # a vessel within muscle
    names[:3], names[3:6], array[:3] = BFL, 0, 90  # a strip three voxels wide
    region, _ = region_of_mean(t2.with_array(array), labels.with_array(names), mean_ms=47, min_ml=0.1)
    assert region.array[30, 20] and not region.array[:6].any() and not region.array[50:52, 10:12].any()


def test_a_mean_that_cannot_be_is_refused_in_words():
    t2, labels = cone((40, 40, 1), (1, 1, 6), 50, 0.4)
    with pytest.raises(ValueError, match=r"1\.00 ml of muscle around the longest T2 have a mean of 48.\d ms"):
        region_of_mean(t2, labels, mean_ms=49.5, smooth_mm=0)
    with pytest.raises(ValueError, match=r"has a mean of 43.\d ms; expected less than the 40 ms"):
        region_of_mean(t2, labels, mean_ms=40, smooth_mm=0)
    names = np.zeros(labels.shape, np.uint8)
    names[19:21, 19:21] = VL
    with pytest.raises(ValueError, match=r"has 0\.02 ml; expected at least 1 ml"):
        region_of_mean(t2, labels.with_array(names), mean_ms=45)
    with pytest.raises(GridError, match="one grid"):
        region_of_mean(t2, Volume(names[:-1], labels.affine), mean_ms=45)
