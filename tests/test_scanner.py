"""The synthetic scanner against signals computed without it: uniform blocks, halves, known motions, known noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrmyo import scanner
from mrmyo.anatomy import TISSUES, Anatomy
from mrmyo.epg import epg_signal, slice_profile
from mrmyo.scanner import DIXON, MULTI_ECHO, Tissues
from mrmyo.volume import Volume, axis_codes

SMALL = {**MULTI_ECHO, "matrix": (6, 4), "field_mm": (12.0, 8.0), "n_slices": 3}  # voxels of 2 × 2 × 6 mm
N_FINE = (40, 40, 28)
FINE = np.diag([1.0, 1.0, 1.0, 1.0])
FINE[:3, 3] = [-(n - 1) / 2 for n in N_FINE]
PEAKS_NEAR_WATER = 0.039 + 0.047  # share of the fat signal above -1 ppm, which no suppression reaches


def tissues(*, water=0.0, fat=0.0, t2_ms=30.0, label=1) -> Tissues:
    """Uniform where a number is given, else the array."""
    def volume(value, dtype=np.float32):
        return Volume(np.broadcast_to(np.asarray(value, dtype), N_FINE).copy(), FINE)
    return Tissues(volume(water), volume(fat), volume(t2_ms), volume(label, np.uint8))


def acquire(subject, *, b1=0.913, residual_fat=0.05, protocol=SMALL, **options):
    grid = scanner.stack(protocol)
    fields = {"b1": np.full(grid.shape, b1), "residual_fat": np.full(grid.shape, residual_fat)}
    return scanner.acquire_multi_echo(subject, grid, **fields, protocol=protocol, **options)


def train(t2_ms, t1_ms, b1):
    """The same physics, called directly: exact T2 and B1 instead of a table."""
    profile = slice_profile(n_positions=11, refocusing_width_ratio=1.8)
    return epg_signal(t2_ms, t1_ms=t1_ms, b1=b1, echo_spacing_ms=10.0, n_echoes=10, profile=profile)


@pytest.mark.parametrize(("t2_ms", "b1", "t1_scale"), [(34.43, 0.913, 1.0), (58.7, 1.071, 0.9), (29.0, 0.6, 0.3)])
def test_a_block_of_water_gives_the_phase_graph_signal_times_its_density(t2_ms, b1, t1_scale):
    signal = acquire(tissues(water=0.83, t2_ms=t2_ms), b1=b1, t1_scale=t1_scale)
    expected = 0.83 * train(t2_ms, t1_scale * (1400 + 9 * (t2_ms - 30)), b1)
    assert signal.shape == (6, 4, 3, 10)
    np.testing.assert_allclose(signal, np.broadcast_to(expected, signal.shape), atol=1e-3 * expected.max())


def test_a_block_of_fat_gives_what_the_suppression_left():
    signal = acquire(tissues(fat=0.9), residual_fat=0.12)
    expected = 0.9 * (0.12 + PEAKS_NEAR_WATER) * np.mean([train(t2, 370.0, 0.913) for t2 in (65.0, 160.0)], axis=0)
    np.testing.assert_allclose(signal, np.broadcast_to(expected, signal.shape), atol=1e-3 * expected.max())


def test_the_t2_of_water_and_the_share_of_fat_both_shape_the_signal():
    both = acquire(tissues(water=0.6, fat=0.3))
    np.testing.assert_allclose(both, acquire(tissues(water=0.6)) + acquire(tissues(fat=0.3)), rtol=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_a_voxel_half_muscle_and_half_fat_is_the_mean_of_the_two(axis):
    # a border through the middle of every second voxel: voxels are 2, 2 and 6 mm, the slice 5 of those 6
    width = (2, 2, 6)[axis]
    line = (np.arange(N_FINE[axis]) - (N_FINE[axis] - 1) / 2) // width % 2
    shape = [1, 1, 1]
    shape[axis] = -1
    first = line.reshape(shape)
    mixed = acquire(tissues(water=0.8 * first, fat=0.9 * (1 - first), t2_ms=30 + 5 * first), samples=(2, 2, 4),
                    protocol={**SMALL, "matrix": (7, 5), "field_mm": (14.0, 10.0)})
    expected = 0.5 * (acquire(tissues(water=0.8, t2_ms=35)) + acquire(tissues(fat=0.9)))[0, 0, 0]
    np.testing.assert_allclose(mixed, np.broadcast_to(expected, mixed.shape), rtol=1e-5)


def test_only_chosen_voxels_are_those_of_the_full_acquisition():
    rng = np.random.default_rng(0)
    subject = tissues(water=rng.random(N_FINE), fat=rng.random(N_FINE), t2_ms=rng.uniform(20, 60, N_FINE))
    grid = scanner.stack(SMALL)
    options = {"b1": rng.uniform(0.7, 1.1, grid.shape), "residual_fat": rng.uniform(0, 0.2, grid.shape),
               "protocol": SMALL, "motion": scanner.rigid([1, -2, 0.5], [3, 2, 5])}
    only = rng.random(grid.shape) < 0.4
    only[:, :, 1] = False
    full = scanner.acquire_multi_echo(subject, grid, **options)
    rows = scanner.acquire_multi_echo(subject, grid, **options, only=only)
    expected = [full[i, j, k] for k in range(3) for i in range(6) for j in range(4) if only[i, j, k]]  # slice by slice
    np.testing.assert_array_equal(rows, expected)


def test_t2_is_scaled_in_muscle_alone():
    for label, scaled in ((1, True), (33, True), (40, True), (0, False), (51, False), (52, False)):
        found = acquire(tissues(water=0.8, t2_ms=30.0, label=label), t2_scale=1.2)
        expected = acquire(tissues(water=0.8, t2_ms=36.0 if scaled else 30.0))
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=f"label {label}")


def test_motion_leads_from_the_scanner_to_the_tissues():
    water = np.zeros(N_FINE)
    water[26:30, 14:17, 16:22] = 1.0  # centred at x = 8, y = -4.5, z = 5
    subject = tissues(water=water)
    wide = {**SMALL, "matrix": (38, 38), "field_mm": (38.0, 38.0), "n_slices": 26, "spacing_mm": 1.0,
            "SliceThickness": 1.0}
    grid = scanner.stack(wide)

    def centre(motion):
        image = scanner.acquire_multi_echo(subject, grid, b1=np.ones(grid.shape), residual_fat=np.zeros(grid.shape),
                                           motion=motion, protocol=wide, samples=(1, 1, 1))[..., 0]
        (other, _) = scanner.acquire_dixon(subject, grid, motion=motion, samples=(1, 1, 1))
        places = []
        for weight in (image, other):
            index = (np.indices(image.shape) * weight).sum((1, 2, 3)) / weight.sum()
            places.append((grid.affine @ [*index, 1])[:3])
        np.testing.assert_allclose(*places, atol=0.05)
        return places[0]

    np.testing.assert_allclose(centre(None), [8, -4.5, 5], atol=0.05)
    # what the scanner calls p is p + 5 in the tissues: the block at 8 appears at 3
    np.testing.assert_allclose(centre(scanner.rigid([5, 0, 2], [0, 0, 0])), [3, -4.5, 3], atol=0.05)
    turn = scanner.rigid([0, 0, 0], [0, 0, 90])
    np.testing.assert_allclose(centre(turn), np.linalg.inv(turn)[:3, :3] @ [8, -4.5, 5], atol=0.1)


def test_a_rigid_motion_is_orthonormal_and_turns_about_x_then_y_then_z():
    matrix = scanner.rigid([1, 2, 3], [11, -25, 140])
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1) and matrix[:, 3].tolist() == [1, 2, 3, 1]
    y = np.array([0, 1, 0, 0])
    np.testing.assert_allclose(scanner.rigid([0] * 3, [90, 0, 0]) @ y, [0, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(scanner.rigid([0] * 3, [90, 90, 0]) @ y, [1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(scanner.rigid([0] * 3, [90, 90, 90]) @ y, [0, 1, 0, 0], atol=1e-12)


def test_the_stacks_are_those_of_the_protocol_in_the_order_of_dicom():
    expected = ((MULTI_ECHO, (254, 84, 20), (420 / 254, 2.75, 6)), (DIXON, (320, 176, 26), (1.3125, 1.3125, 6)))
    for protocol, shape, spacing in expected:
        grid = scanner.stack(protocol, centre_mm=(3, -4, 5))
        assert grid.shape == shape and axis_codes(grid.affine) == "LPS" and grid.meta["SliceThickness"] == 5.0
        np.testing.assert_allclose(grid.spacing_mm, spacing)
        corners = [grid.affine @ [*index, 1] for index in ((0, 0, 0), np.array(shape) - 1)]
        np.testing.assert_allclose(np.mean(corners, axis=0)[:3], [3, -4, 5])
    assert MULTI_ECHO["echo_times_ms"] == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert (MULTI_ECHO["RepetitionTime"], DIXON["RepetitionTime"], DIXON["EchoTime"]) == (6690, 5330, 51)


def test_tissues_follow_from_the_anatomy():
    muscle, fat, marrow = (TISSUES.index(name) for name in ("muscle", "subcutaneous fat", "marrow"))

    def volume(*values, dtype=np.float32):
        return Volume(np.array(values, dtype).reshape(-1, 1, 1), np.eye(4))

    anatomy = Anatomy(labels=volume(1, 22, 0, 51, dtype=np.uint8),
                      tissue=volume(muscle, muscle, fat, marrow, dtype=np.uint8),
                      fat_fraction=volume(0.1, 0.3, 0.93, 0.92), oedema=volume(0.0, 1.0, 0.0, 0.0))
    found = scanner.tissues_of(anatomy, muscle_t2_ms=29.0, oedema_contrast=0.5)
    np.testing.assert_allclose(found.t2_ms.array.ravel(), [29.0, 43.5, 35.0, 35.0], rtol=1e-6)
    np.testing.assert_allclose(found.fat.array.ravel(), 0.9 * np.array([0.1, 0.3, 0.93, 0.92]), rtol=1e-6)
    water = [0.8 * 0.9, 0.8 * 0.7 * 1.06, 0.6 * 0.07, 0.6 * 0.08]  # swollen by 12 % times the contrast
    np.testing.assert_allclose(found.water.array.ravel(), water, rtol=1e-5)
    calm = scanner.tissues_of(anatomy, muscle_t2_ms=29.0)
    assert calm.t2_ms.array[1, 0, 0] == 29.0


def test_dixon_signals_of_a_uniform_block():
    grid = scanner.stack({**DIXON, "matrix": (6, 4), "field_mm": (12.0, 8.0), "n_slices": 3})
    water, fat = scanner.acquire_dixon(tissues(water=0.7, fat=0.2, t2_ms=40.0), grid)
    np.testing.assert_allclose(water, 0.7 * np.exp(-51 / 40) * (1 - np.exp(-5330 / 1500)), rtol=1e-5)
    np.testing.assert_allclose(fat, 0.2 * (np.exp(-51 / 90) + np.exp(-51 / 180)) / 2, rtol=1e-5)


def test_equal_water_and_fat_cancel_in_opposed_phase():
    one = np.ones((8, 8, 2), np.float32)
    images = scanner.dixon_series(one, one, 1.0, np.random.default_rng(0), snr=1e6)
    # the six peaks by hand, with water and the main peak a half turn and a full turn apart
    ppm = np.array([-3.80, -3.40, -2.60, -1.95, -0.50, 0.60])
    share = np.array([0.088, 0.700, 0.120, 0.006, 0.039, 0.047])
    opposed, in_phase = (abs(1 + (share * np.exp(2j * np.pi * turns * ppm / 3.40)).sum()) for turns in (0.5, 1.0))
    np.testing.assert_allclose(images["opposed_phase"], opposed, atol=1e-4)
    np.testing.assert_allclose(images["in_phase"], in_phase, atol=1e-4)
    assert opposed < 0.35 and in_phase > 1.7


def test_dixon_noise_and_shading():
    water = np.ones((60, 60, 6), np.float32)
    images = scanner.dixon_series(water, 0 * water, 1.0, np.random.default_rng(1), snr=35.0)
    assert images["in_phase"].std() == pytest.approx(1 / 35, rel=0.03)
    assert images["water"].std() == pytest.approx(1 / 35 / np.sqrt(2), rel=0.03)  # the mean of two images
    shading = np.linspace(0.5, 1.5, 60, dtype=np.float32)[:, None, None]
    images = scanner.dixon_series(water, 0 * water, shading, np.random.default_rng(1), snr=1e6)
    np.testing.assert_allclose(images["water"], water * shading, rtol=1e-3)
    np.testing.assert_array_equal(water, 1)


@pytest.mark.parametrize("level", [0.0, 1.0, 3.0, 20.0])
def test_noise_is_rician(level):
    n, sigma = 200_000, 2.5
    signal = np.full(n, level * sigma, np.float32)
    found = scanner.add_noise(signal, np.random.default_rng(2), sigma=sigma).astype(float)
    rice = stats.rice(b=level, scale=sigma) if level else stats.rayleigh(scale=sigma)
    assert found.mean() == pytest.approx(rice.mean(), abs=4 * rice.std() / np.sqrt(n))
    assert found.std() == pytest.approx(rice.std(), rel=4 / np.sqrt(n))
    assert stats.kstest(found[:20_000], rice.cdf).pvalue > 1e-3
    np.testing.assert_array_equal(signal, np.float32(level * sigma))


def test_a_smooth_field_has_its_mean_and_sd_and_no_steps():
    grid = Volume(np.zeros((60, 40, 10)), np.eye(4))
    fields = [scanner.smooth_field(grid, np.random.default_rng(seed), mean=0.9, sd=0.03) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fields[0], fields[1])
    assert np.abs(fields[0] - fields[2]).max() > 0.03
    for field in fields:
        assert field.dtype == np.float32 and field.mean() == pytest.approx(0.9, abs=1e-4)
        assert field.std() == pytest.approx(0.03, rel=1e-3)
        assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (0, 1)) < 0.03 * 0.5


CORONAL = {**scanner.CORONAL_T1, "matrix": (20, 14), "field_mm": (40.0, 28.0), "n_slices": 40}


def bloch(t1_ms, t2_ms, *, repetition_ms, echo_ms, flip_deg):
    """The transverse magnetisation at the echo, pulse after pulse until nothing changes; spoiling leaves Mz alone."""
    flip, m = np.deg2rad(flip_deg), np.array([0.0, 0.0, 1.0])
    pulse = np.array([[1, 0, 0], [0, np.cos(flip), np.sin(flip)], [0, -np.sin(flip), np.cos(flip)]])
    for _ in range(12_000):
        m = pulse @ m
        echo = np.hypot(m[0], m[1]) * np.exp(-echo_ms / t2_ms)
        m = np.array([0.0, 0.0, 1 + (m[2] - 1) * np.exp(-repetition_ms / t1_ms)])
    return echo


@pytest.mark.parametrize(("t1_ms", "t2_ms"), [(370.0, 65.0), (1400.0, 30.0), (1940.0, 90.0), (4000.0, 2000.0)])
def test_a_spoiled_echo_is_the_steady_state_of_the_bloch_equations(t1_ms, t2_ms):
    found = scanner.spoiled_echo(t1_ms, t2_ms, scanner.CORONAL_T1)
    assert found == pytest.approx(bloch(t1_ms, t2_ms, repetition_ms=6.73, echo_ms=2.46, flip_deg=12.0), rel=1e-9)


def test_t1_weighting_shows_fat_before_muscle_and_muscle_before_fluid():
    fat, muscle, fluid = (float(scanner.spoiled_echo(t1, t2, scanner.CORONAL_T1))
                          for t1, t2 in ((370.0, 65.0), (1400.0, 30.0), (4000.0, 2000.0)))
    assert fat > 2 * muscle and muscle > 2 * fluid


def test_a_block_has_the_signal_of_its_water_and_fat_at_their_phase():
    grid = scanner.coronal_stack(CORONAL)
    expected = scanner.spoiled_echo(0.9 * (1400 + 9 * 15), 45.0, CORONAL)
    water = scanner.acquire_t1(tissues(water=0.8, t2_ms=45.0), grid, t1_scale=0.9)
    np.testing.assert_allclose(water, 0.8 * expected, rtol=1e-5)
    # T2 is scaled in muscle alone
    scaled = scanner.acquire_t1(tissues(water=0.8, t2_ms=30.0), grid, t1_scale=0.9, t2_scale=1.5)
    np.testing.assert_allclose(scaled, water, rtol=1e-5)
    vein = [scanner.acquire_t1(tissues(water=0.8, t2_ms=30.0, label=0), grid, t2_scale=s) for s in (1.0, 1.5)]
    np.testing.assert_array_equal(*vein)
    # the six peaks by hand: 2.46 ms after the pulse, at 127.7 MHz
    ppm = np.array([-3.80, -3.40, -2.60, -1.95, -0.50, 0.60])
    share = np.array([0.088, 0.700, 0.120, 0.006, 0.039, 0.047])
    turned = (share * np.exp(2j * np.pi * ppm * 3 * 42.577478518 * 2.46e-3)).sum()
    fat = 0.9 * np.mean([scanner.spoiled_echo(370.0, t2, CORONAL) for t2 in (65.0, 160.0)])
    both = scanner.acquire_t1(tissues(water=0.8, fat=0.9, t2_ms=45.0), grid, t1_scale=0.9)
    np.testing.assert_allclose(both, abs(0.8 * expected + fat * turned), rtol=1e-5)


def test_the_coronal_stack_leads_left_downwards_and_from_front_to_back():
    protocol = scanner.CORONAL_T1
    assert (protocol["RepetitionTime"], protocol["EchoTime"], protocol["SliceThickness"]) == (6.73, 2.46, 1.0)
    grid = scanner.coronal_stack(protocol, centre_mm=(3, -4, 5))
    assert grid.shape == (320, 120, 231) and axis_codes(grid.affine) == "LIP" and grid.meta["SliceThickness"] == 1.0
    np.testing.assert_allclose(grid.spacing_mm, (1.3125, 1.3, 1.0))
    corners = [grid.affine @ [*index, 1] for index in ((0, 0, 0), np.array(grid.shape) - 1)]
    np.testing.assert_allclose(np.mean(corners, axis=0)[:3], [3, -4, 5])


def test_a_coronal_image_shows_tissue_where_it_is():
    water = np.zeros(N_FINE)
    water[26:30, 14:18, 16:22] = 1.0  # centred at x = 8, y = -4, z = 5
    grid = scanner.coronal_stack(CORONAL)
    image = scanner.acquire_t1(tissues(water=water), grid)
    index = (np.indices(image.shape) * image).sum((1, 2, 3)) / image.sum()
    np.testing.assert_allclose((grid.affine @ [*index, 1])[:3], [8, -4, 5], atol=1e-5)
    assert image.max() == pytest.approx(scanner.spoiled_echo(1400.0, 30.0, CORONAL), rel=1e-4)
