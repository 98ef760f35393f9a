"""T2 fits against truth, against scipy's general optimiser and against a scanner's own map."""

from __future__ import annotations

import numpy as np
import pytest
from calf import read_calf
from scipy import ndimage, optimize

from mrmyo.t2 import STATUS, SignalError, fit_t2
from mrmyo.volume import GridError, Volume

ECHO_TIMES = np.arange(1, 11) * 10.0
FITTED, AT_BOUND, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK = range(5)


def decay(t2, s0=1000.0, times=ECHO_TIMES):
    return np.asarray(s0)[..., None] * np.exp(-np.asarray(times) / np.asarray(t2)[..., None])


def rician(signal, sigma, seed):
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(0, sigma, signal.shape), rng.normal(0, sigma, signal.shape))


@pytest.mark.parametrize("times", [ECHO_TIMES, [6.3, 9.0, 22.0, 50.0], 7.7 * np.arange(1, 18)])
def test_noise_free_truth_comes_back(times):
    t2 = np.geomspace(5.5, 390, 300).reshape(10, 30)
    s0 = np.linspace(1e-3, 4e5, 300).reshape(30, 10).T
    maps = fit_t2(decay(t2, s0, times), times)
    assert (maps.status == FITTED).all() and maps.t2_ms.shape == (10, 30)
    assert maps.t2_ms == pytest.approx(t2, rel=1e-6)
    assert maps.s0 == pytest.approx(s0, rel=1e-6)
    assert (maps.residual < 1e-6 * s0).all()


@pytest.mark.parametrize("times", [ECHO_TIMES, np.array([8.0, 11, 19, 33, 60, 95])])
@pytest.mark.parametrize("sigma", [5.0, 60.0])
def test_same_as_scipy(times, sigma):
    rng = np.random.default_rng(11)
    t2 = rng.uniform(20, 90, 60)
    signal = rician(decay(t2, times=times), sigma, 12)
    maps = fit_t2(signal, times)
    assert (maps.status == FITTED).all()
    for voxel, guess, found, s0, std, residual in zip(
        signal, t2, maps.t2_ms, maps.s0, maps.t2_std_ms, maps.residual, strict=True
    ):
        best, covariance = optimize.curve_fit(
            lambda t, a, b: a * np.exp(-t / b), times, voxel, p0=(1000, guess), xtol=1e-12, ftol=1e-12
        )
        assert found == pytest.approx(best[1], abs=0.01)
        assert s0 == pytest.approx(best[0], rel=1e-4)
        assert std == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-3)
        assert residual == pytest.approx(np.sqrt(np.mean((voxel - best[0] * np.exp(-times / best[1])) ** 2)), rel=1e-4)


def test_noisy_voxels_reach_the_best_of_a_fine_search():
    """Where noise is as large as the signal the fit must find the global optimum, or say that it is a bound."""
    signal = np.abs(np.random.default_rng(2).normal(0, 1, (400, 10)))
    grid = np.geomspace(5, 400, 20_000)
    basis = decay(grid, np.ones_like(grid))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    best = (signal @ basis.T).argmax(axis=1)
    maps = fit_t2(signal, ECHO_TIMES)
    at_end = (best == 0) | (best == grid.size - 1)
    assert 0 < at_end.sum() < 400
    assert ((maps.status == AT_BOUND) == at_end).all()
    assert maps.t2_ms[~at_end] == pytest.approx(grid[best[~at_end]], rel=1e-3)


def test_any_unit_and_any_order_of_voxels():
    signal = rician(decay(np.linspace(20, 90, 500)), 15, 3)
    order = np.random.default_rng(4).permutation(500)
    maps, tiny, huge, shuffled = (fit_t2(s, ECHO_TIMES) for s in (signal, signal * 1e-9, signal * 1e9, signal[order]))
    assert tiny.t2_ms == pytest.approx(maps.t2_ms, rel=1e-6) and huge.t2_ms == pytest.approx(maps.t2_ms, rel=1e-6)
    assert huge.residual == pytest.approx(maps.residual * 1e9, rel=1e-6)
    assert np.array_equal(shuffled.t2_ms, maps.t2_ms[order])


def test_bad_voxels_get_a_status_and_leave_their_neighbours_alone():
    good = decay(np.full(9, 40.0))
    signal = good.copy()
    signal[1, 3], signal[2, 0], signal[3], signal[4] = np.nan, np.inf, 0.0, -signal[4]
    signal[5], signal[6], signal[7] = 4095.0, decay(500.0), decay(3.0)
    maps = fit_t2(signal, ECHO_TIMES)
    expected = [FITTED, NOT_FINITE, NOT_FINITE, LOW_SIGNAL, LOW_SIGNAL, AT_BOUND, AT_BOUND, AT_BOUND, FITTED]
    assert maps.status.tolist() == expected and len(STATUS) == 5
    for values in (maps.t2_ms, maps.s0, maps.t2_std_ms, maps.residual):
        assert np.array_equal(np.isnan(values), maps.status != FITTED)
    assert np.array_equal(maps.t2_ms[[0, 8]], fit_t2(good[:2], ECHO_TIMES).t2_ms)


def test_low_signal_by_sigma():
    signal = decay(np.full(3, 40.0), np.array([5.9, 6.6, 7.0]))  # first echo: 4.6, 5.1, 5.5
    assert fit_t2(signal, ECHO_TIMES, sigma=1.0).status.tolist() == [LOW_SIGNAL, FITTED, FITTED]
    assert fit_t2(signal, ECHO_TIMES, sigma=[0.5, 0.5, 2.0]).status.tolist() == [FITTED, FITTED, LOW_SIGNAL]


def test_stated_uncertainty_is_the_scatter():
    """T2 = 34 ms at a signal-to-noise ratio of 70 with Rician noise: what the synthetic scanner will give."""
    signal = rician(decay(np.full(40_000, 34.0), 70.0), 1.0, 5)
    for options, mean in (({}, 34.14), ({"sigma": 1.0}, 34.0)):  # the noise floor lengthens T2 by 0.14 ms
        maps = fit_t2(signal, ECHO_TIMES, **options)
        assert maps.t2_ms.std() == pytest.approx(np.sqrt(np.mean(maps.t2_std_ms**2)), rel=0.03)
        assert maps.t2_ms.mean() == pytest.approx(mean, abs=0.02)
    gaussian = decay(np.full(40_000, 60.0), 100.0) + np.random.default_rng(6).normal(0, 1, (40_000, 10))
    maps = fit_t2(gaussian, ECHO_TIMES)
    assert maps.t2_ms.std() == pytest.approx(np.sqrt(np.mean(maps.t2_std_ms**2)), rel=0.03)
    assert maps.residual.mean() == pytest.approx(np.sqrt(0.8), rel=0.05)


def test_integers_lists_and_masks():
    signal = decay(np.full((4, 3), 40.0)).astype(np.uint16)
    kept, mask = signal.copy(), np.zeros((4, 3), dtype=bool)
    mask[1:3, 1] = True
    maps = fit_t2(signal, ECHO_TIMES.tolist(), mask=mask)
    assert np.array_equal(maps.status == FITTED, mask) and (maps.status[~mask] == OUTSIDE_MASK).all()
    assert np.isnan(maps.t2_ms[~mask]).all() and maps.t2_ms[mask] == pytest.approx(40, abs=0.1)
    assert np.array_equal(signal, kept)
    single = fit_t2([300, 200, 133], [10, 20, 30])
    assert single.t2_ms.shape == () and single.t2_ms == pytest.approx(24.6, abs=0.2)


def test_volume_in_volume_out():
    affine = np.diag([1.6, 1.6, 6.0, 1.0])
    signal = Volume(decay(np.full((3, 4, 2), 35.0)), affine, tuple(ECHO_TIMES))
    inside = Volume(np.ones((3, 4, 2), dtype=np.uint8), affine)
    maps = fit_t2(signal, mask=inside)
    assert np.array_equal(maps.affine, affine) and maps.echo_times_ms == signal.echo_times_ms
    assert maps.volume("t2_ms").array == pytest.approx(35) and maps.volume("status").shape == (3, 4, 2)
    assert fit_t2(signal, ECHO_TIMES).t2_ms == pytest.approx(35)
    with pytest.raises(GridError, match="another grid"):
        fit_t2(signal, mask=Volume(inside.array, np.diag([2.0, 1.6, 6.0, 1.0])))
    with pytest.raises(SignalError, match="own"):
        fit_t2(signal, ECHO_TIMES + 1)
    with pytest.raises(SignalError, match="no map 'b1'"):
        maps.volume("b1")
    with pytest.raises(SignalError, match="know no place"):
        fit_t2(signal.array, ECHO_TIMES).volume("t2_ms")
    with pytest.raises(SignalError, match="without echoes"):
        fit_t2(Volume(np.ones((3, 4, 2)), affine), [10, 20, 30])


@pytest.mark.parametrize(("signal", "times", "options", "message"), [
    (np.ones((5, 2)), [10, 20], {}, "at least 3"),
    (np.ones((5, 3)), None, {}, "no echo times"),
    (np.ones((5, 3)), [10, 20, 30, 40], {}, "4 echo times"),
    (np.ones((5, 3)), [10, 30, 20], {}, "ascending"),
    (np.ones((5, 3)), [10, 20, 20], {}, "each once"),
    (np.ones((5, 3)), [0, 10, 20], {}, "positive"),
    (np.ones((5, 3)), [10, 20, np.nan], {}, "positive"),
    (np.ones((5, 3)), [0.01, 0.02, 0.03], {}, "seconds"),
    (np.ones((5, 3), dtype=complex), [10, 20, 30], {}, "magnitudes"),
    (np.ones((5, 3)), [10, 20, 30], {"mask": np.ones((3, 5), dtype=bool)}, "mask of shape"),
    (np.ones((5, 3)), [10, 20, 30], {"mask": [0, 1, 51, 1, 0]}, "is_muscle"),
    (np.ones((5, 3)), [10, 20, 30], {"sigma": 0.0}, "above 0"),
    (np.ones((5, 3)), [10, 20, 30], {"sigma": np.ones(3)}, "one per voxel"),
    (np.ones((5, 3)), [10, 20, 30], {"model": "stretched"}, "this version has 'mono'"),
    (np.ones((5, 3)), [10, 20, 30], {"b1": 1.0}, "b1"),
    (np.ones((5, 3)), [10, 20, 30], {"fat_fraction": np.zeros(5)}, "fat_fraction"),
])
def test_nonsense_is_refused(signal, times, options, message):
    with pytest.raises(SignalError, match=message):
        fit_t2(signal, times, **options)


@pytest.mark.realdata
def test_real_calf_agrees_with_the_scanners_own_map(real_data):
    """All 17 echoes, as the vendor does. Muscle: bright in both first echoes, T2 plausible, one voxel from any edge."""
    signal, times, vendor = read_calf(real_data / "calf_multiecho_nifti" / "T2data.nii.gz")
    muscle = (signal[..., :2].min(axis=-1) > 100) & (vendor > 20) & (vendor < 80)
    muscle = ndimage.binary_erosion(muscle, np.ones((3, 3, 1)))
    maps = fit_t2(signal, times, mask=muscle)
    assert muscle.sum() > 20_000 and (maps.status[muscle] == FITTED).all()
    difference = maps.t2_ms[muscle] - vendor[muscle]
    assert np.corrcoef(maps.t2_ms[muscle], vendor[muscle])[0, 1] > 0.999
    assert abs(difference.mean()) < 0.3 and difference.std() < 0.3
