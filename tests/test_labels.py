"""The table of labels, and the one rule by which labels travel to another grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrmyo.labels import FEMUR, carry, is_muscle, label_table, mirror
from mrmyo.volume import GridError, Volume

# the order that the design page prints
ABBREVIATIONS = ["VL", "VM", "VI", "RF", "SAR", "GRA", "AM", "AL", "SM", "ST", "BFL", "BFS", "OTH"]
MUSCLE_VALUES = {*range(1, 14), *range(21, 34), 40, 41}


def volume(array, *, spacing=(1, 1, 1), origin=(0, 0, 0), **meta) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Volume(np.asarray(array, np.uint8), affine, meta=meta)


def test_the_table_holds_the_agreed_values():
    table = label_table()
    assert table.value.is_unique and len(table) == 30
    for side, offset in (("left", 0), ("right", 20)):
        rows = table[(table.side == side) & table.value.between(offset + 1, offset + 13)].sort_values("value")
        assert rows.abbreviation.tolist() == ABBREVIATIONS
    by_value = table.set_index("value")
    assert by_value.side[[40, 41, 51, 52]].tolist() == ["left", "right"] * 2
    assert by_value.name[[51, 52]].tolist() == ["femur"] * 2 and FEMUR == {"left": 51, "right": 52}
    assert set(table.value[table.is_muscle]) == MUSCLE_VALUES
    table.loc[:, "value"] = 0  # a caller may do as he likes with his copy
    assert label_table().value.is_unique


def test_is_muscle_never_takes_the_femur():
    values = np.array([0, *sorted(MUSCLE_VALUES), 51, 52], np.int16)
    assert is_muscle(values).tolist() == [v in MUSCLE_VALUES for v in values]
    assert is_muscle(np.array([[1.0, 51.0]])).tolist() == [[True, False]]


@pytest.mark.parametrize("value", [14, 20, 34, 53, 257, -1, 1.5, np.nan])
def test_values_that_the_table_does_not_list_are_refused(value):
    for function in (is_muscle, mirror):
        with pytest.raises(ValueError, match=r"label_table\(\) does not list"):
            function(np.array([0, value]))


def test_mirror_swaps_sides_and_is_its_own_inverse():
    table = label_table().set_index("value")
    values = table.index.to_numpy()
    other = mirror(values)
    np.testing.assert_array_equal(mirror(other), values)
    assert mirror(np.array([0]))[0] == 0
    for a, b in zip(values, other, strict=True):
        assert table.name[a] == table.name[b] and {table.side[a], table.side[b]} == {"left", "right"}


def carried_by_loops(labels, like, transform, samples, thickness=None):
    """The rule in plain words and loops, one voxel and one point after the other."""
    out = np.zeros(like.shape, np.uint8)
    into = np.linalg.inv(labels.affine) @ transform @ like.affine
    for index in np.ndindex(*like.shape):
        seen = []
        for offset in np.ndindex(*samples):
            point = [(o + 0.5) / n - 0.5 for o, n in zip(offset, samples, strict=True)]
            if thickness:
                point[2] *= thickness / np.linalg.norm(like.affine[:3, 2])
            place = into @ [*(np.array(index) + point), 1]
            voxel = [math.floor(p + 0.5) for p in place[:3]]
            inside = all(0 <= v < n for v, n in zip(voxel, labels.shape, strict=True))
            seen.append(int(labels.array[tuple(voxel)]) if inside else 0)
        muscle = [v for v in seen if v in MUSCLE_VALUES]
        pool = muscle if 2 * len(muscle) >= len(seen) else [v for v in seen if v not in MUSCLE_VALUES]
        out[index] = min(set(pool), key=lambda v: (-pool.count(v), v))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_carry_agrees_with_plain_loops_on_oblique_grids(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 0, 1, 3, 22, 51], (3, 3, 3)).repeat(3, 0).repeat(3, 1).repeat(2, 2)
    labels = volume(blocks, spacing=(1.1, 0.9, 2.0), origin=(-4, -4, -5))
    affine, transform = np.eye(4), np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix() @ np.diag([-2.0, -2.3, 4.0])
    affine[:3, 3] = [5, 5, -6] + rng.normal(size=3)
    transform[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.2, 3)).as_matrix()
    transform[:3, 3] = rng.normal(size=3)
    like = Volume(np.zeros((5, 5, 4)), affine, meta={"SliceThickness": 3.0})
    samples = ((3, 3, 3), (2, 3, 4))[seed % 2]
    expected = carried_by_loops(labels, like, transform, samples, thickness=3.0)
    assert {0, 1} <= set(np.unique(expected)), "a dull example"
    np.testing.assert_array_equal(carry(labels, like, transform=transform, samples=samples).array, expected)


@pytest.mark.parametrize("muscle_first", [True, False])
def test_a_voxel_is_muscle_when_at_least_half_of_it_is(muscle_first):
    # voxels of 8 mm over labels of 1 mm; muscle ends at a whole number of mm, 0 to 8 within some voxel
    for end in range(8, 25):
        line = (np.arange(32) < end) == muscle_first
        labels = volume(line.reshape(32, 1, 1))
        like = volume(np.zeros((4, 1, 1)), spacing=(8, 1, 1), origin=(3.5, 0, 0))
        share = line.reshape(4, 8).mean(1)
        found = carry(labels, like).array.ravel()
        np.testing.assert_array_equal(found, share >= 0.5, err_msg=f"muscle ends at {end} mm")


@pytest.mark.parametrize("axis", range(3))
def test_an_exact_half_counts_as_muscle_on_either_side(axis):
    for line in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 0]):
        shape, spacing, origin = [1, 1, 1], [1, 1, 1], [0, 0, 0]
        shape[axis], spacing[axis], origin[axis] = 3, 2, 0.5
        like = volume(np.zeros(shape), spacing=spacing, origin=origin)
        shape[axis] = 6
        found = carry(volume(np.reshape(line, shape)), like).array.ravel()
        np.testing.assert_array_equal(found, np.reshape(line, (3, 2)).mean(1) >= 0.5)


def test_halving_the_resolution_moves_the_mask_to_neither_side():
    rng = np.random.default_rng(3)
    array = (rng.random((12, 10, 8)) < 0.5) * 1
    like = volume(np.zeros((6, 5, 4)), spacing=(2, 2, 2), origin=(0.5, 0.5, 0.5))
    there = carry(volume(array), like).array
    back = carry(volume(array[::-1, ::-1, ::-1]), like).array[::-1, ::-1, ::-1]
    np.testing.assert_array_equal(there, back)
    share = array.reshape(6, 2, 5, 2, 4, 2).mean((1, 3, 5))
    np.testing.assert_array_equal(there, share >= 0.5)


def test_many_points_a_voxel_do_not_overflow():
    labels = volume(np.ones((3, 3, 3)))
    assert (carry(labels, labels, samples=(8, 8, 8)).array == 1).all()


def test_the_commonest_muscle_names_the_voxel_and_the_femur_only_without_muscle():
    def carried(*values):
        like = volume(np.zeros((1, 1, 1)), spacing=(len(values), 1, 1), origin=((len(values) - 1) / 2, 0, 0))
        return int(carry(volume(np.reshape(values, (-1, 1, 1))), like, samples=(len(values), 1, 1)).array[0, 0, 0])

    assert carried(1, 1, 22, 51, 51) == 1  # 3 of 5 are muscle, though of two names
    assert carried(1, 51, 51, 51, 22) == 51
    assert carried(1, 51, 51, 0, 0, 0) == 0
    assert carried(40, 0) == 40  # half


def test_the_transform_leads_from_the_new_grid_to_the_labels():
    labels = volume(np.zeros((9, 9, 3)), origin=(-4, -4, -1))
    labels.array[6, 4, 1] = 7  # at x = 2, y = 0
    shift, turn = np.eye(4), np.eye(4)
    shift[0, 3] = 3.0  # what the new grid calls -1 lies at 2 in the labels
    turn[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()  # (0, -2) there is (2, 0) here
    assert np.argwhere(carry(labels, labels, transform=shift).array).tolist() == [[3, 4, 1]]
    assert np.argwhere(carry(labels, labels, transform=turn).array).tolist() == [[4, 2, 1]]


def test_only_the_slice_thickness_is_sampled_not_the_gap():
    # one voxel a slice of 9 mm: muscle fills the middle 4 mm
    labels = volume(((np.arange(9) >= 3) & (np.arange(9) < 6)).reshape(1, 1, 9))
    like = {"spacing": (1, 1, 9), "origin": (0, 0, 4)}
    assert carry(labels, volume(np.zeros((1, 1, 1)), **like)).array.item() == 0
    assert carry(labels, volume(np.zeros((1, 1, 1)), **like, SliceThickness=4.0)).array.item() == 1
    assert carry(labels, volume(np.zeros((1, 1, 1)), **like, SliceThickness=40.0)).array.item() == 0  # overlapping


def test_outside_the_field_of_view_is_background_even_where_labels_have_none():
    labels = volume(np.full((2, 2, 2), 21))
    found = carry(labels, volume(np.zeros((6, 2, 2)), origin=(-2, 0, 0)))
    np.testing.assert_array_equal(found.array[:, 0, 0], [0, 0, 21, 21, 0, 0])
    assert found.array.dtype == np.uint8
    assert not carry(volume(np.zeros((2, 2, 2))), labels).array.any()


def test_left_stays_left_when_the_grid_runs_the_other_way():
    labels = np.zeros((6, 4, 1), np.uint8)
    labels[:3], labels[3:] = 1, 21  # x grows to the right: left first
    affine = np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = [5, 3, 0]
    like = Volume(np.zeros((6, 4, 1, 2), np.float32), affine, (10, 20), {"RepetitionTime": 6690.0})
    found = carry(volume(labels), like)
    assert (found.array[3:] == 1).all() and (found.array[:3] == 21).all()
    assert found.array.shape == (6, 4, 1) and found.echo_times_ms is None and found.meta["RepetitionTime"] == 6690.0


def test_carry_refuses_what_are_no_labels_and_changes_nothing():
    labels = volume(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="does not list"):
        carry(volume(np.full((2, 2, 2), 99)), labels)
    with pytest.raises(GridError, match="3 axes"):
        carry(Volume(np.zeros((2, 2, 2, 3), np.uint8), np.eye(4)), labels)
    carry(labels, labels)
    assert (labels.array == 1).all()
