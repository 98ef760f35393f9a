"""What the tools of the editor do to a mask, against shapes that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo import editor_tools as tools
from mrmyo.editor_targets import EditError, name_voxels, target, targets

ROWS, COLUMNS = np.indices((41, 41))


def disc(radius, row=20, column=20):
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


def stack(*slices):
    return np.array(slices, np.uint8)


def test_targets_cover_the_table_and_its_groups():
    assert target("anterior left").values == (1, 2, 3, 4, 5)
    assert target("posterior").values == (9, 10, 11, 12, 29, 30, 31, 32)
    assert set(target("whole muscle right").values) == {*range(21, 34), 41}
    assert not {51, 52} & set(target("whole muscle").values) and {51, 52} <= set(target("any").values)
    assert targets()["7"].name == "adductor magnus"
    for wrong in ("99", "anterior middle", None, [1]):
        with pytest.raises(EditError, match="label_table"):
            target(wrong)


def test_drawing_a_muscle_takes_from_others_unless_only_empty_voxels_are_asked_for():
    screen = stack(np.where(disc(10), 2, 0))
    drawn = tools.draw(screen, 0, disc(12, column=30), target("1"))[0]
    np.testing.assert_array_equal(drawn, np.where(disc(12, column=30), 1, screen[0]))
    kept = tools.draw(screen, 0, disc(12, column=30), target("1"), only_empty=True)[0]
    np.testing.assert_array_equal(kept, np.where(disc(12, column=30) & ~disc(10), 1, screen[0]))


def test_what_is_added_to_a_group_takes_the_nearest_name():
    screen = stack(np.where(disc(4, column=8), 1, 0) + np.where(disc(4, column=32), 22, 0), np.zeros((41, 41)))
    where = disc(19)
    drawn = tools.draw(screen, 0, where, target("whole muscle"))[0]
    there = np.argwhere(screen[0] > 0)
    for row, column in np.argwhere(where)[::7]:
        away = np.hypot(*(there - [row, column]).T)
        nearest = {screen[0][tuple(place)] for place in there[away == away.min()]}
        assert drawn[row, column] in nearest
    assert (drawn[screen[0] > 0] == screen[0][screen[0] > 0]).all()  # those that have a name keep it
    assert set(np.unique(tools.draw(screen, 1, where, target("whole muscle"))[1])) == {0, 1, 22}  # of the next slice
    empty = np.zeros_like(screen)
    assert set(name_voxels(empty, 0, where, target("whole muscle left"))) == {40}
    for nameless in ("whole muscle", "medial left", "any"):
        with pytest.raises(EditError, match=r"choose|Choose"):
            tools.draw(empty, 0, where, target(nameless))


def test_erasing_takes_only_the_target():
    screen = stack(np.where(disc(10), 2, 0) + np.where(disc(5, column=36), 1, 0))
    erased = tools.erase(screen, 0, np.ones((41, 41), bool), target("2"))[0]
    np.testing.assert_array_equal(erased, np.where(screen[0] == 1, 1, 0))
    assert not tools.erase(screen, 0, np.ones((41, 41), bool), target("any"))[0].any()


def test_growing_and_shrinking_by_one_voxel():
    screen = stack(np.where(disc(6), 5, 0))
    screen[0, 20, 27] = 6  # a neighbour, which stays
    grown = tools.grow(screen, 0, target("5"))[0]
    cross = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    expected = {(r + i, c + j) for r, c in np.argwhere(screen[0] == 5) for i, j in cross}
    assert {tuple(place) for place in np.argwhere(grown == 5)} == expected - {(20, 27)} and grown[20, 27] == 6
    shrunk = tools.shrink(stack(grown), 0, target("5"))[0]
    lost = {(r, c) for r, c in np.argwhere(grown == 5) if any(grown[r + i, c + j] != 5 for i, j in cross)}
    assert {tuple(place) for place in np.argwhere(shrunk == 5)} == {tuple(p) for p in np.argwhere(grown == 5)} - lost
    whole = stack(np.full((41, 41), 5))
    assert (tools.shrink(whole, 0, target("5"))[0] == 5).all()  # the end of the picture is no border


def test_holes_are_filled_and_what_lies_in_them_stays():
    screen = stack(np.where(disc(12) & ~disc(6), 3, 0))
    screen[0, 20, 20] = 51
    filled = tools.fill_holes(screen, 0, target("3"))[0]
    assert (filled[disc(12)] > 0).all() and filled[20, 20] == 51 and (filled == 3).sum() == disc(12).sum() - 1


def test_copying_puts_the_shape_in_place_of_the_one_there():
    screen = stack(np.where(disc(8), 1, 0), np.where(disc(8, column=26), 1, 0) + np.where(disc(3, column=10), 2, 0))
    copied = tools.copy_slice(screen, 0, 1, target("1"))[1]
    np.testing.assert_array_equal(copied == 1, disc(8))
    kept = tools.copy_slice(screen, 0, 1, target("1"), only_empty=True)[1]
    np.testing.assert_array_equal(kept == 2, disc(3, column=10))


def test_interpolated_discs_are_discs_between():
    empty = np.zeros((41, 41))
    screen = stack(np.where(disc(4), 1, 0), empty, empty, empty, np.where(disc(12), 1, 0))
    between = tools.interpolate(screen, 4, 0, target("1"))
    assert sorted(between) == [1, 2, 3]
    for index, radius in ((1, 6), (2, 8), (3, 10)):
        assert abs(np.sqrt((between[index] == 1).sum() / np.pi) - radius) < 0.35
    apart = stack(np.where(disc(8, column=14), 1, 0), empty, np.where(disc(8, column=22), 1, 0))
    moved = tools.interpolate(apart, 0, 2, target("1"))[1]
    assert abs(np.argwhere(moved == 1)[:, 1].mean() - 18) < 0.5


def test_interpolation_keeps_two_muscles_apart_and_says_what_it_lacks():
    left, right = np.where(disc(9) & (COLUMNS < 20), 1, 0), np.where(disc(9) & (COLUMNS >= 20), 2, 0)
    screen = stack(left + right, np.full((41, 41), 1), left + right)
    between = tools.interpolate(screen, 0, 2, target("anterior left"))[1]
    np.testing.assert_array_equal(between, left + right)
    with pytest.raises(EditError, match="no slice between"):
        tools.interpolate(screen, 0, 1, target("1"))
    with pytest.raises(EditError, match="no gracilis"):
        tools.interpolate(screen, 0, 2, target("6"))


def test_relabelling_a_part_a_slice_or_all():
    two = np.where(disc(4, column=8) | disc(4, column=32), 7, 0)
    screen = stack(two, two)
    part = tools.relabel(screen, [0], target("7"), target("8"), around=(20, 32))
    np.testing.assert_array_equal(part[0] == 8, disc(4, column=32))
    assert (part[0] == 7).sum() == disc(4).sum()
    both = tools.relabel(screen, [0, 1], target("7"), target("8"))
    assert all((both[k] == 8).sum() == 2 * disc(4).sum() for k in (0, 1))
    beside = tools.relabel(screen, [0], target("7"), target("8"), around=(0, 0))
    np.testing.assert_array_equal(beside[0], two)
    with pytest.raises(EditError, match="single label"):
        tools.relabel(screen, [0], target("7"), target("anterior"))


def test_no_tool_changes_the_mask_that_it_was_given():
    screen = stack(*[np.where(disc(8), 1, 0)] * 3)
    before = screen.copy()
    chosen = target("1")
    tools.draw(screen, 0, disc(12), chosen), tools.erase(screen, 0, disc(3), chosen), tools.grow(screen, 0, chosen)
    tools.shrink(screen, 0, chosen), tools.fill_holes(screen, 0, chosen), tools.copy_slice(screen, 0, 1, chosen)
    tools.interpolate(screen, 0, 2, chosen), tools.swap_sides(screen, [0, 1])
    np.testing.assert_array_equal(screen, before)
