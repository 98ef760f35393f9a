"""T2 by muscle, overlap and flags on maps small enough to count by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mrmyo.measure import dice, dice_by_muscle, quality_flags, t2_by_muscle, trim_fat
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, T2Maps, fit_t2
from mrmyo.volume import GridError, Volume

AFFINE = np.diag([-2.0, -2.5, 6.0, 1.0])  # 30 µl a voxel


def maps_of(t2_ms, status=None, std=None, affine=AFFINE) -> T2Maps:
    t2_ms = np.asarray(t2_ms, np.float32).reshape(-1, 1, 1)
    status = np.zeros(t2_ms.shape, np.uint8) if status is None else np.asarray(status, np.uint8).reshape(t2_ms.shape)
    std = np.full(t2_ms.shape, 0.5, np.float32) if std is None else np.asarray(std, np.float32).reshape(t2_ms.shape)
    return T2Maps(t2_ms, t2_ms, std, t2_ms, status, "mono", (10.0, 20.0, 30.0), affine=affine)


def labels_of(values, affine=AFFINE) -> Volume:
    return Volume(np.asarray(values, np.uint8).reshape(-1, 1, 1), affine)


def row(rows, muscle, side) -> pd.Series:
    found = rows[(rows.muscle == muscle) & (rows.side == side)]
    assert len(found) == 1
    return found.iloc[0]


def test_means_by_muscle_side_and_whole():
    labels = labels_of([1, 1, 1, 4, 21, 21, 51, 52, 0])
    rows = t2_by_muscle(maps_of([30, 32, 37, 40, 50, 60, 500, 500, 900]), labels)
    assert rows[["side", "abbreviation"]].values.tolist() == [
        ["left", "VL"], ["left", "RF"], ["right", "VL"], ["left", "ALL"], ["right", "ALL"], ["both", "ALL"]]
    left = row(rows, "vastus lateralis", "left")
    assert (left.t2_ms, left.t2_median_ms, left.n_voxels, left.n_failed) == (33.0, 32.0, 3, 0)
    assert left.t2_sd_ms == pytest.approx(np.sqrt(13)) and left.volume_ml == pytest.approx(0.09)
    assert left.t2_p05_ms == pytest.approx(30.2) and left.t2_p95_ms == pytest.approx(36.5)
    assert left.compartment == "anterior" and left.t2_noise_ms == 0.5
    # the whole muscle is the union of the muscles: neither femur (500 ms) nor background, each voxel counted once
    assert row(rows, "whole muscle", "left").t2_ms == pytest.approx((30 + 32 + 37 + 40) / 4)
    assert row(rows, "whole muscle", "right").t2_ms == pytest.approx(55)
    both = row(rows, "whole muscle", "both")
    assert both.t2_ms == pytest.approx(249 / 6) and both.n_voxels == 6 and both.volume_ml == pytest.approx(0.18)
    assert np.isnan(row(rows, "rectus femoris", "left").t2_sd_ms)  # one voxel has no spread


def test_voxels_that_could_not_be_fitted_are_counted_and_left_out():
    rows = t2_by_muscle(
        maps_of([30, np.nan, np.nan, 40, np.nan], [FITTED, AT_BOUND, LOW_SIGNAL, FITTED, AT_BOUND],
                [1, np.nan, np.nan, 3, np.nan]), labels_of([1, 1, 1, 1, 22]))
    left = row(rows, "vastus lateralis", "left")
    assert (left.t2_ms, left.n_voxels, left.n_failed, left.t2_noise_ms) == (35, 2, 2, 2.0)
    assert left.volume_ml == pytest.approx(0.12)  # a failed voxel is muscle all the same
    right = row(rows, "vastus medialis", "right")
    assert np.isnan(right.t2_ms) and np.isnan(right.t2_p05_ms) and (right.n_voxels, right.n_failed) == (0, 1)
    assert row(rows, "whole muscle", "both").n_failed == 3


def test_whole_muscle_masks_without_names_count_too():
    rows = t2_by_muscle(maps_of([30, 34, 50]), labels_of([40, 40, 41]))
    assert row(rows, "unnamed muscle", "left").t2_ms == row(rows, "whole muscle", "left").t2_ms == 32
    assert row(rows, "whole muscle", "right").t2_ms == 50


def test_rows_of_an_empty_mask_hold_no_number():
    rows = t2_by_muscle(maps_of([30, 34]), labels_of([0, 51]))
    assert rows.side.tolist() == ["left", "right", "both"]
    assert rows.t2_ms.isna().all() and (rows.n_voxels == 0).all() and (rows.volume_ml == 0).all()


def test_a_fit_of_a_volume_is_measured_as_it_stands():
    t2_ms = np.array([28.0, 36.0, 44.0]).reshape(3, 1, 1, 1)
    times = (10.0, 20.0, 30.0, 40.0)
    signal = Volume(1000 * np.exp(-np.array(times) / t2_ms), AFFINE, times)
    rows = t2_by_muscle(fit_t2(signal), labels_of([1, 1, 33]))
    assert row(rows, "vastus lateralis", "left").t2_ms == pytest.approx(32, abs=1e-3)
    assert row(rows, "other muscle", "right").t2_ms == pytest.approx(44, abs=1e-3)


def test_other_grids_and_bare_arrays_are_refused():
    maps, labels = maps_of([30, 31]), labels_of([1, 1])
    moved = AFFINE.copy()
    moved[0, 3] = 0.5
    for other in (labels_of([1, 1, 1]), labels_of([1, 1], moved)):
        with pytest.raises(GridError, match="expected one grid"):
            t2_by_muscle(maps, other)
    with pytest.raises(GridError, match="bare array"):
        t2_by_muscle(dataclasses.replace(maps, affine=None), labels)
    with pytest.raises(GridError, match="bare array"):
        t2_by_muscle(maps, labels.array)
    with pytest.raises(GridError, match="expected one grid"):
        dice_by_muscle(labels, labels_of([1, 1], moved))


def test_dice_against_hand_values():
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 1], bool)
    assert dice(a, b) == pytest.approx(4 / 7)
    assert (dice(a, a), dice(a, ~a), dice(a, np.zeros(5))) == (1, 0, 0)
    assert np.isnan(dice(np.zeros(5), np.zeros(5)))
    assert dice(np.ones(300, np.uint8), np.ones(300, np.uint8)) == 1  # sums do not wrap at 255


def test_dice_by_muscle_names_what_either_mask_has():
    rows = dice_by_muscle(labels_of([1, 1, 2, 0, 51, 21]), labels_of([1, 2, 2, 2, 0, 51])).set_index("abbreviation")
    both = rows[rows.side == "both"].dice
    rows = rows[rows.side != "both"]
    assert rows.dice["VM"] == pytest.approx(2 / 4) and len(rows) == 3
    assert rows[rows.side == "left"].dice["VL"] == pytest.approx(2 / 3)
    assert rows[rows.side == "right"].dice["VL"] == 0
    assert both["ALL"] == pytest.approx(2 * 3 / (4 + 4))  # muscle voxels 4 and 4, of which 3 are common


def whole(left_ml=1000.0, right_ml=1000.0, t2_ms=34.0, n_voxels=10_000, n_failed=0) -> pd.DataFrame:
    """Rows of a study, as few columns as the flags need; one named muscle that they must not look at."""
    rows = [("left", "gracilis", 1.0, 300.0, 1, 99), ("left", "whole muscle", left_ml, t2_ms, n_voxels // 2, 0),
            ("right", "whole muscle", right_ml, t2_ms, n_voxels // 2, 0),
            ("both", "whole muscle", left_ml + right_ml, t2_ms, n_voxels, n_failed)]
    return pd.DataFrame(rows, columns=["side", "muscle", "volume_ml", "t2_ms", "n_voxels", "n_failed"])


@pytest.mark.parametrize(("rows", "coverage", "words"), [
    ({"n_voxels": 0, "left_ml": 0, "right_ml": 0, "t2_ms": np.nan}, 1.0, "no muscle was found"),
    ({}, 0.8, "covers only 80%"),
    ({"n_failed": 102}, 1.0, "could not be fitted"),
    ({"left_ml": 0.0}, 1.0, "one side only"),
    ({"right_ml": 1310.0}, 1.0, "1.3 times the muscle"),
    ({"left_ml": 2000.0}, 1.0, "2.0 times the muscle"),
    ({"t2_ms": 19.9}, 1.0, "19.9 ms is not that of muscle"),
    ({"t2_ms": 121.0}, 1.0, "is not that of muscle"),
])
def test_each_flag_is_raised_alone(rows, coverage, words):
    (flag,) = quality_flags(whole(**rows), coverage=coverage)
    assert words in flag


def test_an_unremarkable_study_raises_no_flag_and_a_bad_one_several():
    assert quality_flags(whole(), coverage=1.0) == []
    assert quality_flags(whole(), coverage=1.0, n_bare_slices=3) == ["3 of the T2 slices hold no muscle of the mask"]
    assert quality_flags(whole(n_failed=100, right_ml=1299, t2_ms=60), coverage=1.0) == []
    assert len(quality_flags(whole(n_failed=5000, left_ml=300, t2_ms=np.nan), coverage=0.5)) == 4


def test_flags_read_the_rows_of_a_measurement():
    rows = t2_by_muscle(maps_of([30, 31, 32, 33]), labels_of([1, 2, 0, 51]))
    assert quality_flags(rows, coverage=1.0) == ["muscle was found on one side only"]


def test_restrict_takes_the_border_and_the_fat_away():
    from mrmyo.measure import restrict

    array = np.zeros((12, 12, 3), np.uint8)
    array[2:10, 2:10] = 1
    array[5, 5, 1] = 51  # a femur is no muscle: muscle near it goes, the label stays
    labels = Volume(array, np.diag([1.5, 2.5, 6.0, 1.0]))
    found = restrict(labels, erode_mm=2.0).array
    # neighbours at 1.5 mm go; those at 2.5 mm stay; nothing is lost through the slices
    assert found[..., 0].astype(bool).sum(0).tolist() == [0, 0, 6, 6, 6, 6, 6, 6, 6, 6, 0, 0]
    assert found[5, 5, 1] == 51 and (found[[4, 6], 5, 1] == 0).all() and (found[5, [4, 6], 1] == 1).all()
    np.testing.assert_array_equal(restrict(labels).array, array)
    fat = np.full(array.shape, 0.1)
    fat[3, 3], fat[4, 3, 0] = 0.31, np.nan
    lean = restrict(labels, fat_fraction=fat, max_fat_fraction=0.3).array
    assert (lean[3, 3] == 0).all() and lean[4, 3, 0] == 0 and (lean > 0).sum() == (array > 0).sum() - 4
    both = restrict(labels, erode_mm=2.0, fat_fraction=fat, max_fat_fraction=0.3).array
    np.testing.assert_array_equal(both > 0, (found > 0) & (lean > 0))
    for wrong in (None, fat[:5]):
        with pytest.raises(ValueError, match="needs a map of it"):
            restrict(labels, fat_fraction=wrong, max_fat_fraction=0.3)


def test_trim_fat_takes_fat_beside_lean_muscle_and_no_other():
    array = np.zeros((16, 12, 10), np.uint8)
    array[2:8, 2:10] = 1  # lean
    array[8:14, 2:10] = 2  # fat has replaced it
    array[:, 11] = 51  # a femur without any fat, as large as the fat around
    fat = np.where(array == 0, 0.9, np.where(array == 1, 0.1, 0.6)).astype(np.float32)
    fat[array == 51] = 0
    fat[2, 3:6] = 0.85  # beside the fat around: taken along
    fat[3, 4, 0] = fat[4, 4, 0] = 0.85  # reached through what has gone
    fat[3, 6, 1] = fat[2, 6, 2] = 0.85  # over a corner, and through the slices: not reached
    fat[2, 6, 1] = 0.1
    fat[5, 5] = 0.85  # inside: the muscle's own
    fat[2, 8] = 0.55  # beyond half of the way, not three fifths (0.58)
    fat[13, 2:10] = 0.9  # at the border of what is fat itself
    fat[2:8, 2:10, 9] = 0.85  # a slice in which fat has replaced the lean one too
    fat[7, 2] = np.nan
    before = fat.copy()
    labels = Volume(array, np.diag([1.5, 1.5, 6.0, 1.0]))
    expected = array.copy()
    expected[2, 3:6, :9] = expected[3:5, 4, 0] = expected[2, 6, 2] = 0
    found = trim_fat(labels, fat)
    np.testing.assert_array_equal(found.array, expected)
    assert found.array.dtype == np.uint8 and (found.affine == labels.affine).all()
    np.testing.assert_array_equal(fat, before)
    np.testing.assert_array_equal(trim_fat(labels, 300 * fat).array, expected)  # of no known unit
    # the same volume stored with the slices first
    turned = Volume(np.moveaxis(array, 2, 0), np.diag([6.0, 1.5, 1.5, 1.0])[[1, 2, 0, 3]])
    np.testing.assert_array_equal(trim_fat(turned, np.moveaxis(fat, 2, 0)).array, np.moveaxis(expected, 2, 0))
    # water and fat swapped, all muscle, no signal at all, no muscle: nothing to go by
    for other in (1 - fat, np.full_like(fat, np.nan), np.zeros_like(fat), -fat):
        np.testing.assert_array_equal(trim_fat(labels, other).array, array)
    for values in (np.ones_like(array), np.zeros_like(array)):
        np.testing.assert_array_equal(trim_fat(labels.with_array(values), fat).array, values)
    with pytest.raises(ValueError, match=r"shaped \(16, 12, 10\); found \(5, 12, 10\)"):
        trim_fat(labels, fat[:5])


def test_trim_fat_never_takes_more_than_a_quarter_of_a_muscle():
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(40):
        array = (rng.random((20, 20, 3)) < 0.6).astype(np.uint8)
        array[array > 0] = rng.choice([1, 2, 3], (array > 0).sum(), p=(0.9, 0.095, 0.005))  # the last a few voxels
        found = trim_fat(Volume(array, AFFINE), rng.random(array.shape) ** rng.uniform(3, 9)).array
        taken += [1 - (found == value).sum() / (array == value).sum() for value in np.unique(array[array > 0])]
    assert 0.1 < max(taken) <= 0.25
