"""The compiled fit against the search that cannot miss, and Rician likelihood against the bound on any estimator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from mrmyo import t2_kernels
from mrmyo.epg import epg_signal, slice_profile
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, SignalError, fit_t2
from mrmyo.t2_mono import FEW, fit_mono
from mrmyo.t2_noise import estimate_sigma, looks_synthesised
from mrmyo.t2_rician import information_table, ratio_table, rician_mean

TIMES = np.arange(1, 11) * 10.0


def decays(t2, s0=1.0, times=TIMES):
    return np.asarray(s0)[..., None] * np.exp(-np.asarray(times) / np.asarray(t2)[..., None])


def magnitudes(signal, sigma, seed):
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(0, sigma, signal.shape), rng.normal(0, sigma, signal.shape))


def mixed(times=TIMES, seed=1):
    """Muscle, noise alone, and everything that is no decay."""
    rng = np.random.default_rng(seed)
    signal = magnitudes(decays(rng.uniform(20, 90, 3000), rng.uniform(50, 4000, 3000), times), 20, seed)
    signal = np.concatenate([signal, magnitudes(np.zeros_like(signal), 20, seed + 1)])
    signal[10:20, 3], signal[30:40, 0], signal[50:60, 9] = np.nan, np.inf, -np.inf
    signal[70:80], signal[90:100], signal[110:120] = 0.0, 4095.0, -signal[110:120]
    signal[130:140, :4] = 4095.0
    return signal


@pytest.mark.parametrize(("times", "shift"), [(TIMES, 0), (TIMES + 5, 0), (7.7 * np.arange(1, 18), 0), (TIMES, 1)])
def test_compiled_equals_search(times, shift):
    signal, times = mixed(times)[:, shift:], times[shift:]
    fast = fit_mono(signal, tuple(times))
    parts = [fit_mono(part, tuple(times)) for part in np.array_split(signal, 1 + signal.shape[0] // (FEW // 2))]
    assert len(signal) >= FEW > len(parts) and FITTED in fast["status"] and LOW_SIGNAL in fast["status"]
    assert NOT_FINITE in fast["status"] and AT_BOUND in fast["status"]
    for name, tolerance in (("t2_ms", 1e-5), ("s0", 1e-5), ("t2_std_ms", 2e-2), ("residual", 1e-3), ("status", 0)):
        slow = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(fast[name], slow, rtol=tolerance, err_msg=name)


def test_compiled_equals_its_pure_python_form():
    signal = mixed()[::23].astype(np.float32)
    bounds, found = np.exp(-10 / np.array([5.0, 400.0])), []
    for fit in (t2_kernels.fit_uniform, t2_kernels.fit_uniform.py_func):
        maps, good = np.empty((4, len(signal)), np.float32), np.empty(len(signal), bool)
        with np.errstate(all="ignore"):
            fit(signal, 10.0, 10.0, bounds, *maps, good)
        found.append((maps, good))
    (maps, good), (plain, plainly) = found
    assert np.array_equal(good, plainly) and 0.3 < good.mean() < 0.7
    np.testing.assert_allclose(maps[:, good], plain[:, good], rtol=2e-3)


def test_pure_python_rician_equals_compiled():
    signal = magnitudes(decays(np.linspace(20, 90, 40), 30.0), 1.0, 3)
    signal[3, 2], signal[4, 5] = np.nan, np.inf
    found = []
    for refine in (t2_kernels.refine_rician, t2_kernels.refine_rician.py_func):
        answer, good = np.full((4, 40), 40.0), np.empty(40, bool)
        with np.errstate(all="ignore"):
            refine(signal, TIMES, np.ones(40), ratio_table(), information_table(), *answer, good)
        found.append((answer, good))
    assert np.array_equal(found[0][1], found[1][1]) and found[0][1].sum() == 38
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)


def test_tables_of_rician_magnitudes():
    """Against integrals by SciPy's adaptive quadrature and the textbook's mean of pure noise."""
    table = information_table()
    for mu, information, mean in table[[0, 25, 75, 200, 500]]:
        def density(m, mu=mu):
            return m * np.exp(-0.5 * (m - mu) ** 2) * special.ive(0, m * mu)

        def score(m, mu=mu):
            return m * special.ive(1, m * mu) / special.ive(0, m * mu) - mu

        expected = integrate.quad(lambda m: score(m) ** 2 * density(m), 0, mu + 12, limit=200)[0]
        assert information == pytest.approx(expected, abs=1e-5)
        assert mean == pytest.approx(integrate.quad(lambda m: m * density(m), 0, mu + 12, limit=200)[0], abs=1e-6)
    assert rician_mean(0) == pytest.approx(np.sqrt(np.pi / 2))
    assert table[-1, 1] == pytest.approx(1 - 0.5 / table[-1, 0] ** 2, abs=1e-4)


def bound(t2, snr):
    """The SD that no unbiased estimator of T2 from Rician magnitudes can go below, by quadrature."""
    signal = snr * np.exp(-TIMES / t2)
    information = np.interp(signal, *information_table()[:, :2].T, right=1.0)
    slopes = np.stack([signal / snr, signal * TIMES / t2**2])
    return np.sqrt(np.linalg.inv((slopes * information) @ slopes.T)[1, 1])


@pytest.mark.parametrize(("snr", "efficiency"), [(20, 0.97), (50, 0.98), (100, 0.98)])
def test_known_noise_reaches_the_bound(snr, efficiency):
    for t2 in (25.0, 34.0, 60.0, 90.0):
        maps = fit_t2(magnitudes(decays(np.full(20_000, t2), snr), 1.0, 7), TIMES, sigma=1.0)
        assert (maps.status == FITTED).all()
        error = maps.t2_ms - t2
        assert abs(error.mean()) < 0.5 * (snr == 20) + 0.1
        assert bound(t2, snr) / np.sqrt(np.mean(error**2)) > efficiency - 0.01  # sampling alone: 0.005
        assert np.median(maps.t2_std_ms) == pytest.approx(bound(t2, snr), rel=0.05)


def test_noise_is_told_without_a_background():
    rng = np.random.default_rng(5)
    t2, fat = rng.uniform(28, 60, 4000), rng.uniform(0, 0.4, 4000)[:, None]
    clean = 900 * ((1 - fat) * decays(t2) + fat * decays(np.full(4000, 150.0)))
    for sigma in (5.0, 15.0):
        signal = magnitudes(clean, sigma, 6)
        blanked = np.concatenate([signal, np.zeros((9000, 10))])
        assert estimate_sigma(blanked) == pytest.approx(sigma, rel=0.05)
        asked = fit_t2(signal, TIMES, sigma="estimate")
        assert asked.t2_std_ms == pytest.approx(fit_t2(signal, TIMES, sigma=sigma).t2_std_ms, rel=0.07, nan_ok=True)
    with pytest.raises(SignalError, match="6 or more"):
        estimate_sigma(signal[:, :5])
    with pytest.raises(SignalError, match="voxels with signal"):
        estimate_sigma(np.zeros((500, 10)))
    with pytest.raises(SignalError, match="estimate"):
        fit_t2(signal, TIMES, sigma="guess")


@pytest.mark.parametrize("profile", [None, slice_profile(refocusing_width_ratio=1.8)], ids=["hard", "profile"])
@pytest.mark.parametrize(("n", "n_echoes"), [(300, 10), (3000, 8), (3000, 17)])
def test_stimulated_echoes_fat_and_vessels_are_no_noise(profile, n, n_echoes):
    rng = np.random.default_rng(n + n_echoes)
    options = {"b1": rng.uniform(0.7, 1.05, n), "echo_spacing_ms": 10.0, "n_echoes": n_echoes, "profile": profile}
    fat = rng.uniform(0, 0.3, (n, 1))
    signal = (1 - fat) * epg_signal(rng.uniform(28, 70, n), t1_ms=1400, **options)
    signal = 1000 * (signal + fat * epg_signal(np.full(n, 130.0), t1_ms=370, **options))
    vessels = rng.random(n) < 0.05
    signal[vessels] *= rng.uniform(0.5, 1.5, (vessels.sum(), n_echoes))
    assert estimate_sigma(magnitudes(signal, 13.0, n)) == pytest.approx(13.0, rel=0.13)


def test_echoes_that_a_scanner_computed_are_noticed():
    t2 = np.random.default_rng(8).uniform(25, 90, 400)
    computed = decays(t2, 800.0)
    for signal, made in ((np.round(computed), True), (computed.astype(np.float32), True),
                         (magnitudes(computed, 4, 9), False), (np.round(magnitudes(computed, 4, 9)), False)):
        maps = fit_t2(signal, TIMES)
        assert looks_synthesised(signal, maps) is made
        assert any("computed" in note for note in maps.notes) is made


def test_first_echo_left_out():
    signal = decays(np.linspace(30, 60, 5), 1000.0)
    signal[:, 0] *= 0.7  # the first echo lacks the stimulated echo
    assert fit_t2(signal, TIMES, skip_first=True).t2_ms == pytest.approx(np.linspace(30, 60, 5), rel=1e-5)
    assert fit_t2(signal, TIMES).t2_ms.min() > 33
    with pytest.raises(SignalError, match="at least 3"):
        fit_t2(signal[:, :3], TIMES[:3], skip_first=True)


@pytest.mark.parametrize("below", [-1.0, -40.0, -400.0, -1e5])
def test_a_negative_echo_says_no_more_than_none(below):
    """Filtered images hold some. The likelihood of a magnitude below 0 is that of no signal; nothing else is read."""
    signal = decays(np.full(3, 40.0), 1000.0)
    signal[1, 9], signal[2, 9] = below, 0.0
    maps = fit_t2(signal, TIMES, sigma=20.0)
    assert maps.t2_ms[0] == fit_t2(signal[:1], TIMES, sigma=20.0).t2_ms[0]
    if np.isfinite(maps.t2_ms[1]):  # least squares, which it begins from, may find none where the echo is far below
        assert maps.t2_ms[1] == pytest.approx(maps.t2_ms[2], rel=1e-4)
    if below >= -40:
        assert np.isfinite(maps.t2_ms[1])
