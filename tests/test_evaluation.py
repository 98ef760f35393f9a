"""A mask beside its reference: numbers of geometry, the same in every axis order, honest where a mask is empty."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mrmyo
from mrmyo.evaluation import EvaluationError, slice_scores
from mrmyo.evaluation_notes import remarks
from mrmyo.volume import GridError, Volume

SPACING = np.array([1.0, 1.5, 4.0])
SHAPE = (60, 44, 18)


def affine_of(spacing=SPACING, *, turn=(0.0, 0.0, 0.0), origin=(-30.0, -33.0, -36.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def box(low, high, value=1, shape=SHAPE, into=None):
    array = np.zeros(shape, np.uint8) if into is None else into.copy()
    array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return array


def volume(array, affine=None):
    return Volume(array, affine_of() if affine is None else affine)


def reoriented(source, codes):
    change = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(source.affine), nibabel.orientations.axcodes2ornt(codes))
    affine = source.affine @ nibabel.orientations.inv_ornt_aff(change, source.shape)
    return Volume(nibabel.apply_orientation(source.array, change), affine)


def row(rows, abbreviation="VL", side="left", level="all"):
    found = rows[(rows.abbreviation == abbreviation) & (rows.side == side) & (rows.level == level)]
    assert len(found) == 1
    return found.iloc[0]


def test_two_shifted_boxes_have_the_numbers_of_geometry():
    theirs = box((10, 10, 4), (30, 30, 14))
    ours = box((13, 10, 4), (33, 30, 14))  # 3 voxels of 1 mm to the patient's right
    found = row(mrmyo.evaluate(volume(ours), volume(theirs)))
    assert found.dice == pytest.approx(17 / 20)
    assert found.volume_ml == found.reference_volume_ml == pytest.approx(20 * 20 * 10 * 6 / 1000)
    assert (found.volume_error_ml, found.volume_error_percent) == (0, 0)
    assert (found.n_slices, found.n_missed_slices, found.n_extra_slices, found.n_muscles) == (10, 0, 0, 1)
    # in a slice: two columns of 20 voxels are 3 mm off; of the edges along x, the 3 voxels beyond the other are 1, 2
    # (and the corner, counted with the column, 3) mm off, and two inside are as far from the other's column
    outline = np.concatenate([np.full(20, 3.0), inside_column(), [1, 2] * 2, np.zeros(2 * 16)])
    assert len(outline) == 2 * 20 + 2 * 18
    assert found.surface_distance_in_plane_mm == pytest.approx(outline.mean())
    assert found.hd95_in_plane_mm == pytest.approx(np.percentile(outline, 95)) == 3.0
    assert found.hd95_mm == 3.0  # the caps lie in the same planes


def inside_column():
    """The other column of a box, seen from within the shifted one: 3 mm, or nearer to its upper or lower edge."""
    from_edge = 1.5 * np.minimum(np.arange(20), 19 - np.arange(20))
    return np.minimum(3.0, from_edge)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ILP"])
@pytest.mark.parametrize("turn", [(0, 0, 0), (12, -9, 20)])
def test_the_order_of_axes_and_oblique_planes_change_nothing(codes, turn):
    rng, shape = np.random.default_rng(4), (20, 15, 9)
    affine = affine_of(turn=turn)
    theirs = np.where(rng.random(shape) < 0.2, rng.integers(1, 4, shape), 0).astype(np.uint8)
    ours = np.where(rng.random(shape) < 0.3, rng.integers(1, 4, shape), theirs).astype(np.uint8)
    t2 = Volume(rng.uniform(25, 60, shape).astype(np.float32), affine)
    expected = mrmyo.evaluate(Volume(ours, affine), Volume(theirs, affine), t2=t2)
    straight = mrmyo.evaluate(volume(ours), volume(theirs))
    found = mrmyo.evaluate(reoriented(Volume(ours, affine), codes), Volume(theirs, affine), t2=reoriented(t2, codes))
    other = mrmyo.evaluate(Volume(ours, affine), reoriented(Volume(theirs, affine), codes), t2=t2)
    for rows in (found, other):
        np.testing.assert_allclose(rows.select_dtypes("number"), expected.select_dtypes("number"), atol=1e-6)
        assert rows[["side", "muscle", "level"]].equals(expected[["side", "muscle", "level"]])
    columns = ["dice", "hd95_mm", "surface_distance_mm", "hd95_in_plane_mm", "volume_ml"]
    np.testing.assert_allclose(straight[columns], expected[columns])  # turning the patient moves no surface


def test_levels_run_from_distal_to_proximal_by_height_and_add_up():
    theirs, ours = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    theirs[10:20, 10:20, 3:15] = 1  # twelve slices: four in each third
    ours[10:20, 10:20, 3:15] = 1
    ours[10:15, 10:20, 11:15] = 0  # half is missing proximally
    ours[10:20, 10:20, 16] = 1  # and a slice beyond is painted
    upside_down = affine_of() @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1.0]])
    straight = mrmyo.evaluate(volume(ours), volume(theirs))
    flipped = mrmyo.evaluate(volume(ours[..., ::-1], upside_down), volume(theirs[..., ::-1], upside_down))
    np.testing.assert_allclose(straight.select_dtypes("number"), flipped.select_dtypes("number"))
    assert list(dict.fromkeys(straight.level)) == ["all", "distal", "middle", "proximal"]
    assert [row(straight, level=level).dice for level in ("distal", "middle")] == [1, 1]
    proximal = row(straight, level="proximal")
    assert proximal.dice == pytest.approx(2 * 200 / (400 + 200 + 100))
    assert (proximal.n_slices, proximal.n_missed_slices, proximal.n_extra_slices) == (4, 0, 1)
    whole = row(straight)
    for column in ("n_slices", "n_extra_slices", "volume_ml", "reference_volume_ml"):
        parts = [row(straight, level=name)[column] for name in ("distal", "middle", "proximal")]
        assert sum(parts) == pytest.approx(whole[column])
    assert row(straight, level="distal").z_low_mm == -36 and proximal.z_high_mm == -36 + 4 * 17
    assert row(straight, level="middle").z_low_mm == -36 + 4 * 7
    # a cut between bands is no surface: the band's distances are those of the whole mask
    assert row(straight, level="distal").hd95_mm == 0 and proximal.hd95_mm > 0


def test_other_numbers_of_levels():
    theirs = box((10, 10, 3), (20, 20, 15))
    five = mrmyo.evaluate(volume(theirs), volume(theirs), n_levels=5)
    assert list(dict.fromkeys(five.level)) == ["all", *(f"{i} of 5" for i in range(1, 6))]
    assert set(mrmyo.evaluate(volume(theirs), volume(theirs), n_levels=1).level) == {"all"}
    two = box((10, 10, 3), (20, 20, 5))
    assert list(dict.fromkeys(mrmyo.evaluate(volume(two), volume(two)).level)) == ["all", "distal", "proximal"]
    for wrong in (0, 2.5, True, "3"):
        with pytest.raises(EvaluationError, match="n_levels"):
            mrmyo.evaluate(volume(theirs), volume(theirs), n_levels=wrong)


def test_where_one_mask_has_nothing_there_is_no_distance():
    theirs = box((10, 10, 3), (20, 20, 15))
    theirs = box((30, 10, 3), (40, 20, 15), 2, into=theirs)
    ours = box((10, 10, 3), (20, 20, 7))
    ours = box((10, 30, 3), (20, 40, 7), 3, into=ours)  # a muscle that the reference does not name
    rows = mrmyo.evaluate(volume(ours), volume(theirs))
    missing = row(rows, "VM")
    assert missing.dice == 0 and (missing.n_slices, missing.n_missed_slices) == (12, 12)
    distances = ["hd95_mm", "surface_distance_mm", "hd95_in_plane_mm", "surface_distance_in_plane_mm"]
    assert missing[distances].isna().all() and missing.volume_error_percent == -100
    proximal = row(rows, level="proximal")
    assert proximal.dice == 0 and proximal.n_missed_slices == 4 and proximal[distances].isna().all()
    assert np.isfinite(row(rows)[distances].astype(float)).all()
    assert not (rows.abbreviation == "VI").any()
    assert not (rows.side == "right").any()  # neither mask has anything there
    empty = mrmyo.evaluate(volume(np.zeros(SHAPE, np.uint8)), volume(theirs))
    assert (empty.dice == 0).all() and (empty.n_missed_slices == empty.n_slices).all()


def test_the_rule_of_the_whole_muscle():
    theirs = box((10, 10, 3), (20, 20, 13))
    ours = box((20, 10, 3), (25, 20, 13), 8, into=theirs)  # adductor longus beside it, which the reference never names
    plain = row(mrmyo.evaluate(volume(ours), volume(theirs)), "ALL", "both")
    assert (plain.dice, plain.n_muscles, plain.volume_error_ml) == (1, 1, 0)
    counted = row(mrmyo.evaluate(volume(ours), volume(theirs), count_unnamed=True), "ALL", "both")
    assert counted.dice == pytest.approx(2 * 1000 / 2500) and counted.n_muscles == 13
    over = box((10, 10, 3), (15, 20, 13), 8, into=theirs)  # and over the reference's muscle: that is missed
    assert row(mrmyo.evaluate(volume(over), volume(theirs)), "ALL", "both").dice == pytest.approx(2 * 500 / 1500)
    # a reference without names: everything that is muscle counts, femur never does
    bare = np.where(ours > 0, 40, 0).astype(np.uint8)
    named = box((30, 10, 3), (35, 20, 13), 51, into=ours)
    rows = mrmyo.evaluate(volume(named), volume(bare))
    assert set(rows.abbreviation) == {"ALL"} and (rows.dice == 1).all()
    back = mrmyo.evaluate(volume(bare), volume(ours))
    assert set(back.abbreviation) == {"ALL"} and (back.dice == 1).all()


def test_a_reference_of_one_thigh_is_compared_on_that_thigh():
    theirs = box((40, 10, 3), (50, 20, 13), 21)
    ours = box((40, 20, 3), (50, 24, 13), 22, into=box((10, 10, 3), (20, 20, 13), 1, into=theirs))
    rows = mrmyo.evaluate(volume(ours), volume(theirs))
    assert set(rows.side) == {"right", "both"} and (rows.dice == 1).all() and (rows.hd95_mm == 0).all()
    voxel_ml = 6 / 1000
    assert row(rows, "VL", "right").other_side_ml == pytest.approx(1000 * voxel_ml)
    assert row(rows, "ALL", "both").other_side_ml == pytest.approx(1000 * voxel_ml)
    bands = [row(rows, "VL", "right", level).other_side_ml for level in ("distal", "middle", "proximal")]
    assert sum(bands) == pytest.approx(1000 * voxel_ml) and min(bands) > 0
    assert (slice_scores(volume(ours), volume(theirs)).dice == 1).all()
    only = mrmyo.evaluate(volume(ours), volume(theirs), only="VL")
    assert set(only.side) == {"right", "both"} and (only.dice == 1).all()
    bare = mrmyo.evaluate(volume(ours), volume(np.where(theirs > 0, 41, 0).astype(np.uint8)))
    assert set(bare.side) == {"right", "both"}
    assert row(bare, "ALL", "both").dice == pytest.approx(2 * 1000 / 2400)  # all muscle counts beside a bare mask
    # labels of the wrong side are no perfect ones
    swapped = mrmyo.evaluate(volume(np.where(theirs > 0, 1, 0).astype(np.uint8)), volume(theirs))
    assert (swapped.dice == 0).all() and set(swapped.side) == {"right", "both"}
    # a side that has some muscle was drawn: what it lacks is extra
    drawn = mrmyo.evaluate(volume(ours), volume(box((10, 20, 3), (20, 24, 13), 2, into=theirs)))
    assert row(drawn, "VL", "left").dice == 0 and (drawn.other_side_ml == 0).all()


def test_gaps_of_the_reference_are_counted_and_told():
    ours = box((40, 10, 2), (50, 20, 13), 21, into=box((10, 10, 2), (20, 20, 13)))
    theirs = ours.copy()
    theirs[..., [k for k in range(SHAPE[2]) if (k - 2) % 5]] = 0  # slices 2, 7 and 12
    rows = mrmyo.evaluate(volume(ours), volume(theirs))
    found = row(rows, "ALL", "both")
    assert (found.n_slices, found.n_gap_slices, found.n_extra_slices) == (3, 8, 8)
    assert found.dice == pytest.approx(2 * 3 / 14)
    assert sum(row(rows, level=name).n_gap_slices for name in ("distal", "middle", "proximal")) == 8
    (note,) = remarks(rows)
    assert "whole muscle" in note and "empty in 8 of 11" in note and "set the mask to 0" in note
    assert remarks(mrmyo.evaluate(volume(ours), volume(ours))) == []
    longer = box((10, 10, 1), (20, 20, 15))  # beyond the ends of the reference there is no gap
    assert remarks(mrmyo.evaluate(volume(longer), volume(box((10, 10, 3), (20, 20, 13))))) == []
    single = remarks(mrmyo.evaluate(volume(ours), volume(np.where(ours == 21, 21, 0).astype(np.uint8))).assign(
        subject="P1"))
    assert len(single) == 1 and "P1 (right; the mask has 6.6 ml on the other)" in single[0]
    with pytest.raises(EvaluationError, match="n_gap_slices"):
        remarks(rows.drop(columns="n_gap_slices"))


def test_only_restricts_muscles_and_the_whole():
    theirs = box((30, 10, 3), (40, 20, 13), 2, into=box((10, 10, 3), (20, 20, 13)))
    ours = box((10, 10, 3), (20, 20, 13))
    rows = mrmyo.evaluate(volume(ours), volume(theirs), only=["VL"])
    assert set(rows.abbreviation) == {"VL", "ALL"} and (rows.dice == 1).all()
    assert row(mrmyo.evaluate(volume(ours), volume(theirs), only="VM"), "VM").dice == 0
    for wrong, words in ((["XY"], "none of"), (["SAR"], "at least one of SAR")):
        with pytest.raises(EvaluationError, match=words):
            mrmyo.evaluate(volume(ours), volume(theirs), only=wrong)
    with pytest.raises(EvaluationError, match="name no muscle"):
        mrmyo.evaluate(volume(ours * 40), volume(theirs), only=["VL"])


def test_t2_is_the_mean_of_the_fitted_voxels_of_each_mask():
    theirs, ours = np.zeros((6, 1, 1), np.uint8), np.zeros((6, 1, 1), np.uint8)
    theirs[:4], ours[1:6] = 1, 1
    t2 = np.array([30, 32, np.nan, 40, 60, np.nan], np.float32).reshape(6, 1, 1)
    found = row(mrmyo.evaluate(volume(ours), volume(theirs), t2=volume(t2)))
    assert found.reference_t2_ms == pytest.approx((30 + 32 + 40) / 3)
    assert found.t2_ms == pytest.approx((32 + 40 + 60) / 3)
    assert found.delta_t2_ms == pytest.approx(found.t2_ms - found.reference_t2_ms)
    assert (found.n_failed, found.reference_n_failed) == (2, 1)
    assert "t2_ms" not in mrmyo.evaluate(volume(ours), volume(theirs))


@pytest.mark.parametrize(("scale", "words"), [
    (1e-3, "seconds"), (np.nan, "no number"), (0.0, "expected NaN"), (-1.0, "expected NaN"), (np.inf, "expected NaN"),
    (1e3, "unit")])
def test_maps_that_are_none_of_t2_in_ms_are_refused(scale, words):
    theirs = box((10, 10, 3), (20, 20, 13))
    t2 = np.full(SHAPE, 35.0, np.float32) * scale
    with pytest.raises(EvaluationError, match=words):
        mrmyo.evaluate(volume(theirs), volume(theirs), t2=volume(t2))


def test_bad_masks_are_refused_by_name():
    good = box((10, 10, 3), (20, 20, 13))
    moved = affine_of(origin=(-29.0, -33.0, -36.0))
    with pytest.raises(GridError, match=r"(?s)labels have the shape .* expected one grid"):
        mrmyo.evaluate(volume(good, moved), volume(good))
    with pytest.raises(GridError, match=r"labels have the shape \(60, 44, 17\)"):
        mrmyo.evaluate(volume(good[..., 1:]), volume(good))
    with pytest.raises(GridError, match="T2 map"):
        mrmyo.evaluate(volume(good), volume(good), t2=volume(good * 35.0, moved))
    with pytest.raises(GridError, match="ndarray"):
        mrmyo.evaluate(good, volume(good))
    with pytest.raises(GridError, match="three axes"):
        mrmyo.evaluate(volume(good[..., None]), volume(good))
    with pytest.raises(EvaluationError, match=r"In the reference: .*99.*--reference-values"):
        mrmyo.evaluate(volume(good), volume(good * 99))
    with pytest.raises(EvaluationError, match="In the labels"):
        mrmyo.evaluate(volume(good * 0.5), volume(good))
    for empty in (good * 0, good * 51):
        with pytest.raises(EvaluationError, match="holds no muscle"):
            mrmyo.evaluate(volume(good), volume(empty))


def test_inputs_stay_as_they_are():
    ours, theirs = box((10, 10, 3), (20, 20, 13)), box((11, 10, 3), (20, 20, 13))
    kept = ours.copy(), theirs.copy()
    mrmyo.evaluate(volume(ours), volume(theirs))
    assert np.array_equal(ours, kept[0]) and np.array_equal(theirs, kept[1])


def test_slice_scores_are_the_mean_of_the_muscles_in_a_slice():
    theirs = box((30, 10, 3), (40, 20, 5), 2, into=box((10, 10, 3), (20, 20, 6)))
    ours = box((10, 10, 3), (20, 20, 5))
    scores = slice_scores(volume(ours), volume(theirs)).set_index("slice_index").dice
    assert scores.to_dict() == {3: 0.5, 4: 0.5, 5: 0.0}
    bare = slice_scores(volume(ours), volume(np.where(theirs > 0, 41, 0).astype(np.uint8)))
    assert (bare.dice == 0).all()  # the reference lies on the other side
