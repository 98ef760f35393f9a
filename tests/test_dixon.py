"""Water and fat there and back."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.dixon import FAT_PEAKS, combine, dixon_images, fat_dephasing, fat_fraction, undo_relaxation, water_fat
from mrmyo.volume import GridError, Volume

# Time in ms for half a turn of the main peak at 3 T, from the proton's 42.577478518 MHz/T and 3.4 ppm
HALF_TURN_MS = 0.5e3 / (3.4 * 42.577478518 * 3.0)


def test_fat_is_whole_and_in_phase_at_time_zero():
    assert sum(share for _, share in FAT_PEAKS) == pytest.approx(1)
    assert fat_dephasing(0.0) == pytest.approx(1)


def test_fat_dephasing_peak_by_peak():
    found = fat_dephasing([0.7, 3.1], field_t=1.5)
    for time, value in zip([0.7, 3.1], found, strict=True):
        angles = [2 * np.pi * ppm * 42.577478518 * 1.5 * time / 1000 for ppm, _ in FAT_PEAKS]
        assert value.real == pytest.approx(sum(a * np.cos(x) for x, (_, a) in zip(angles, FAT_PEAKS, strict=True)))
        assert value.imag == pytest.approx(sum(a * np.sin(x) for x, (_, a) in zip(angles, FAT_PEAKS, strict=True)))


def test_half_the_field_takes_twice_as_long():
    assert fat_dephasing(1.2, field_t=3.0) == pytest.approx(fat_dephasing(2.4, field_t=1.5))


def test_fat_is_nearly_opposed_after_half_a_turn_and_weaker():
    """The six peaks do not meet again: about four fifths of the fat are left at the opposed and the in-phase time."""
    opposed, in_phase = fat_dephasing([HALF_TURN_MS, 2 * HALF_TURN_MS])
    assert opposed.real == pytest.approx(-0.797, abs=0.003) and abs(opposed.imag) < 0.1
    assert in_phase.real == pytest.approx(0.815, abs=0.003) and abs(in_phase.imag) < 0.1


def test_combine_at_plain_phases():
    assert combine(3.0, 4.0, phase=0) == pytest.approx(7)
    assert combine(3.0, 4.0, phase=np.pi) == pytest.approx(1)
    assert combine(3.0, 4.0, phase=np.pi / 2) == pytest.approx(5)


def test_images_of_pure_water_and_of_a_mixture():
    water, fat = np.array([100.0, 70.0, 0.0]), np.array([0.0, 30.0, 100.0])
    images = dixon_images(water, fat)
    opposed, in_phase = fat_dephasing([HALF_TURN_MS, 2 * HALF_TURN_MS])
    assert images["in_phase"] == pytest.approx(np.abs(water + fat * in_phase), rel=1e-5)
    assert images["opposed_phase"] == pytest.approx(np.abs(water + fat * opposed), rel=1e-5)
    assert [float(v[0]) for v in images.values()] == pytest.approx([100, 100, 100, 0], abs=1e-4)
    # a mixture of 30 % fat: the opposed image is more than W - F, the fat image less than F
    assert images["opposed_phase"][1] > 45 and 23 < images["fat"][1] < 25


def test_noise_of_every_image_has_the_stated_strength():
    n, sigma = 200_000, 2.0
    images = dixon_images(np.full(n, 1000.0), 0.0, sigma=sigma, rng=np.random.default_rng(3))
    assert images["in_phase"].std() == pytest.approx(sigma, rel=0.01)
    assert images["opposed_phase"].std() == pytest.approx(sigma, rel=0.01)
    assert images["water"].std() == pytest.approx(sigma / np.sqrt(2), rel=0.01)
    # without signal a magnitude follows Rayleigh's distribution
    air = dixon_images(np.zeros(n), 0.0, sigma=sigma, rng=np.random.default_rng(4))["in_phase"]
    assert air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)


def test_noise_repeats_with_its_seed_and_needs_a_generator():
    one, two = (dixon_images(np.ones(9), 0.5, sigma=0.1, rng=np.random.default_rng(5))["fat"] for _ in range(2))
    assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="rng"):
        dixon_images(1.0, 0.0, sigma=1.0)


def test_fat_fraction_and_where_there_is_none():
    water, fat = np.array([90, 0, 0, 3, -1], dtype=np.int16), np.array([10, 50, 0, 1, 0], dtype=np.int16)
    found = fat_fraction(water, fat)
    assert found[:2] == pytest.approx([0.1, 1.0]) and found[3] == pytest.approx(0.25)
    assert np.isnan(found[[2, 4]]).all()
    assert np.isnan(fat_fraction(water, fat, minimum=5.0)[3])
    assert np.isnan(fat_fraction([np.nan, np.inf], [1.0, 1.0])).all()
    assert water.tolist() == [90, 0, 0, 3, -1]


def test_two_points_find_the_larger_part_only():
    water, fat = np.array([80.0, 20.0]), np.array([20.0, 80.0])
    pair = combine(water, fat, phase=0), combine(water, fat, phase=np.pi)
    found_water, found_fat = water_fat(*pair)
    assert found_water == pytest.approx([80, 80]) and found_fat == pytest.approx([20, 20])
    assert water_fat(*pair, dominant="fat")[0] == pytest.approx([20, 20])
    told_water, told_fat = water_fat(*pair, dominant=water > fat)
    assert told_water == pytest.approx(water) and told_fat == pytest.approx(fat)
    with pytest.raises(ValueError, match="dominant"):
        water_fat(*pair, dominant="neither")


def test_volumes_stay_in_their_place():
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    water, fat = (Volume(np.full((2, 3, 4), v), affine, meta={"RepetitionTime": 5330.0}) for v in (60, 20))
    found = fat_fraction(water, fat)
    assert isinstance(found, Volume) and np.array_equal(found.affine, affine)
    assert found.array == pytest.approx(0.25)
    assert water_fat(water, fat)[1].array == pytest.approx(20)
    moved = Volume(fat.array, affine + np.outer([3, 0, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(GridError, match="resample"):
        fat_fraction(water, moved)
    with pytest.raises(GridError, match="two Volumes"):
        fat_fraction(water, fat.array)
    with pytest.raises(GridError, match="shapes"):
        fat_fraction(np.ones(3), np.ones(4))


def test_late_echoes_overstate_fat_and_that_is_undone():
    amount, t2, echo_time = np.array([0.0, 0.1, 0.4, 0.9]), np.array([28.0, 35.0, 60.0, 35.0]), 51.0
    water, fat = (1 - amount) * np.exp(-echo_time / t2), amount * np.exp(-echo_time / 133.0)
    shown = fat / (water + fat)
    assert shown[1] > 0.2
    assert undo_relaxation(shown, echo_time, water_t2_ms=t2) == pytest.approx(amount, abs=1e-6)
    assert undo_relaxation(shown, 0.0, water_t2_ms=t2) == pytest.approx(shown, abs=1e-6)
    assert np.isnan(undo_relaxation([np.nan, 0.3], echo_time, water_t2_ms=[35.0, np.nan])).all()
