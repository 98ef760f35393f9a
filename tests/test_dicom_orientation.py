"""Whatever the order, direction and obliquity of its axes, a volume that is written comes back to the same points."""

from __future__ import annotations

import itertools

import numpy as np
import pydicom
import pytest
from dicom_readers import LPS_TO_RAS, assert_same_points, simpleitk_volume
from dicom_samples import write
from scipy.spatial.transform import Rotation

from mrmyo.dicom import read_dicom
from mrmyo.volume import Volume, axis_codes

SPACING = (0.7, 1.9, 6.5)
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)))


def placed(directions, rng, *, shape=(7, 6, 4), n_echoes=3):
    """Random voxels on a grid with these axis directions, anywhere within a metre of the origin."""
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(SPACING)
    affine[:3, 3] = rng.uniform(-1000, 1000, 3)
    times = tuple(np.cumsum(rng.uniform(5, 15, n_echoes)).round(2))
    return Volume(rng.integers(0, 4000, (*shape, n_echoes)).astype(np.uint16), affine, times)


def assert_comes_back(volume, folder):
    write(volume, folder)
    table = read_dicom(folder)
    ours = table.volume("multi_echo")
    assert ours.echo_times_ms == pytest.approx(volume.echo_times_ms)
    for e in range(len(volume.echo_times_ms)):  # each echo's voxels are its own: a swap would show
        assert_same_points(ours.echo(e), volume.echo(e))
    grid = table.grid("multi_echo")
    assert grid.array.shape == ours.array.shape and np.array_equal(grid.affine, ours.affine)
    return ours


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=[f"{o}{s}" for o, s in ORDERS])
def test_every_axis_order_with_random_obliquity(tmp_path, order, signs):
    rng = np.random.default_rng(100 + ORDERS.index((order, signs)))
    nominal = np.eye(3)[:, order] * signs
    assert_comes_back(placed(nominal, rng), tmp_path / "straight")
    for number in range(3):
        angle = rng.uniform(0, np.radians(44)) * (1 if number else 1e-3)  # nearly straight, then truly oblique
        axis = rng.normal(size=3)
        tilt = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
        volume = placed(tilt @ nominal, rng)
        assert_comes_back(volume, tmp_path / f"{number}")


@pytest.mark.parametrize("seed", range(20))
def test_any_rotation_and_either_handedness(tmp_path, seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng).as_matrix()
    for hand in (1, -1):
        volume = placed(turn @ np.diag([1, 1, hand]), rng)
        assert np.sign(np.linalg.det(volume.affine)) == hand
        ours = assert_comes_back(volume, tmp_path / f"{hand}")
        assert np.linalg.det(LPS_TO_RAS @ ours.affine) > 0  # slices ascend along the normal, as columns × rows gives it
        first_echo = [path for path in sorted((tmp_path / f"{hand}").iterdir())
                      if float(pydicom.dcmread(path, stop_before_pixels=True).EchoTime) == volume.echo_times_ms[0]]
        assert_same_points(ours.echo(0), simpleitk_volume(first_echo))


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=[f"{o}{s}" for o, s in ORDERS])
def test_left_stays_left_and_head_stays_up(tmp_path, order, signs):
    """A voxel marked at a stated place of the patient is found there, by its coordinates alone."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * signs @ np.diag(SPACING)
    shape = np.array([9, 8, 5])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)  # the patient's midline through the middle
    marker = np.zeros(shape, dtype=np.uint16)
    places = affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
    left_front_top = np.argmin(places[0] - 0.1 * places[1] - 0.01 * places[2])  # RAS: left is the smallest x
    marker.reshape(-1)[left_front_top] = 1000
    write(Volume(marker, affine), tmp_path / "series")
    volume = read_dicom(tmp_path).volume(5)
    (index,) = np.argwhere(volume.array)
    point = volume.affine @ [*index, 1]
    assert point[:3] == pytest.approx(places[:, left_front_top], abs=0.01)
    assert point[0] < 0 < point[1] and point[2] > 0
    # seen from the picture: stepping to the right of the patient leaves the marker behind
    codes = axis_codes(volume.affine)
    axis = next(a for a, code in enumerate(codes) if code in "LR")
    assert index[axis] == (0 if codes[axis] == "R" else volume.shape[axis] - 1)
