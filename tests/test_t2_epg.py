"""Water T2 under stimulated echoes and fat, against spins followed one by one and the bound on any estimator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize
from test_epg import spins, turn

from mrmyo import t2_epg_free, t2_epg_kernels
from mrmyo.epg import epg_signal, slice_profile
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK, SignalError, fit_t2
from mrmyo.t2_epg import EpgAssumptions, calibrate_fat, fat_bias
from mrmyo.t2_epg_table import make_table
from mrmyo.t2_rician import information_table, ratio_table
from mrmyo.volume import GridError, Volume

TIMES = np.arange(1, 11) * 10.0
WATER = EpgAssumptions()


def train(t2, b1=1.0, fat=0.0, made=WATER, n_echoes=10):
    """Signals of water and fat for unit magnetisation of both together."""
    t2, b1, fat = np.broadcast_arrays(t2, b1, fat)
    options = {"b1": b1, "echo_spacing_ms": 10.0, "n_echoes": n_echoes, "profile": made.profile}
    water = epg_signal(t2, t1_ms=made.t1_ms, **options)
    lipid = epg_signal(np.full(t2.shape, made.fat_t2_ms), t1_ms=made.fat_t1_ms, **options)
    return (1 - fat[..., None]) * water + made.residual_fat * fat[..., None] * lipid


def magnitudes(signal, sigma, seed):
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(0, sigma, signal.shape), rng.normal(0, sigma, signal.shape))


def test_spins_followed_one_by_one_come_back():
    """The signals are of a Bloch simulation of isochromats, not of the phase graph that the fit uses."""
    cases = [(t2, b1) for t2 in (28.0, 40.0, 75.0) for b1 in (0.6, 0.8, 0.95)]
    signal = [spins(turn([1.0, 0, 0], np.pi / 2 * b1), turn([0, 1.0, 0], np.pi * b1), t2, 1412.0, 10.0, 10)
              for t2, b1 in cases]
    maps = fit_t2(np.array(signal), TIMES, model="epg")
    assert maps.t2_ms == pytest.approx([t2 for t2, _ in cases], abs=0.05)
    assert maps.b1 == pytest.approx([b1 for _, b1 in cases], abs=0.01)
    assert fit_t2(np.array(signal), TIMES).t2_ms[0] > 33  # what one exponential makes of the first


@pytest.mark.parametrize("profile", [None, slice_profile()], ids=["hard pulses", "slice profile"])
def test_noise_free_truth_comes_back(profile):
    made = replace(WATER, profile=profile)
    rng = np.random.default_rng(1)
    t2, fat = rng.uniform(14, 280, 3000), rng.uniform(0, 0.5, 3000)
    b1 = rng.uniform(0.5, 1.0 if profile is None else 0.9, 3000)
    signal = 500 * train(t2, b1, 0.0, made)
    known = fit_t2(signal, TIMES, model="epg", b1=b1, assumptions=made)
    assert np.abs(known.t2_ms / t2 - 1).max() < 2e-3 and np.median(np.abs(known.t2_ms - t2)) < 0.01
    assert known.s0 == pytest.approx(500, rel=2e-3) and known.b1 == pytest.approx(b1, abs=1e-3)
    muscle = t2 < 90
    with_fat = fit_t2(500 * train(t2, b1, fat, made), TIMES, model="epg", b1=b1, fat_fraction=fat, assumptions=made)
    assert np.abs(with_fat.t2_ms - t2)[muscle].max() < 0.1
    if profile is None:
        free = fit_t2(signal, TIMES, model="epg", assumptions=made)
        assert np.abs(free.t2_ms - t2)[muscle].max() < 0.05 and (free.status == FITTED).all()


def bound(t2, b1, snr, free=True):
    """Cramér-Rao SD of T2 with amplitude and B1 unknown, by differences of the phase graph and Rician information."""
    step, signal = 1e-4, snr * train(t2, b1)
    slopes = [signal / snr, (snr * train(t2 + step, b1) - signal) / step]
    slopes += [(snr * train(t2, b1 + step) - snr * train(t2, b1 - step)) / (2 * step)] if free else []
    information = np.interp(signal, *information_table()[:, :2].T, right=1.0)
    return np.sqrt(np.linalg.inv((np.array(slopes) * information) @ np.array(slopes).T)[1, 1])


def test_stated_uncertainty_is_the_scatter_and_near_the_bound():
    for t2, b1 in ((35.0, 0.75), (50.0, 0.85)):
        signal = magnitudes(50 * train(np.full(8000, t2), b1), 1.0, 3)
        for known in (None, b1):
            maps = fit_t2(signal, TIMES, model="epg", sigma=1.0, b1=known)
            limit = bound(t2, b1, 50, known is None)
            assert abs(maps.t2_ms.mean() - t2) < 0.2
            assert maps.t2_ms.std() == pytest.approx(limit, rel=0.1)
            assert np.median(maps.t2_std_ms) == pytest.approx(limit, rel=0.1)


def test_goals_at_a_signal_to_noise_ratio_of_fifty():
    rng = np.random.default_rng(4)
    t2, b1, fat = rng.uniform(25, 90, 30_000), rng.uniform(0.7, 1.0, 30_000), rng.uniform(0, 0.3, 30_000)
    near = np.clip(fat + rng.normal(0, 0.02, fat.size), 0, 1)
    watery, fatty = (magnitudes(50 * train(t2, b1, f), 1.0, 5) for f in (0.0, fat))
    cases = [(watery, {}, 2.95, 0.2), (watery, {"sigma": 1.0}, 2.95, 0.2),
             (fatty, {"sigma": 1.0, "fat_fraction": near}, 4.0, 0.3),
             (fatty, {"sigma": 1.0, "fat_fraction": near, "b1": b1 + rng.normal(0, 0.03, b1.size)}, 3.7, 0.3)]
    for signal, options, rmse, bias in cases:
        maps = fit_t2(signal, TIMES, model="epg", **options)
        error = maps.t2_ms - t2
        assert (maps.status == FITTED).mean() > 0.999
        assert np.sqrt(np.nanmean(error**2)) < rmse and abs(np.nanmean(error)) < bias


def test_same_optimum_as_scipy():
    rng = np.random.default_rng(6)
    t2, b1 = rng.uniform(28, 50, 25), rng.uniform(0.65, 0.9, 25)
    signal = 100 * train(t2, b1) + rng.normal(0, 1, (25, 10))
    maps = fit_t2(signal, TIMES, model="epg")
    for voxel, t, b, found, residual in zip(signal, t2, b1, maps.t2_ms, maps.residual, strict=True):
        best = optimize.least_squares(lambda x, y=voxel: x[0] * train(x[1], x[2]) - y, (100, t, b),
                                      x_scale=(100, 30, 1))
        assert found == pytest.approx(best.x[1], abs=0.25)  # a sixth of the noise, where the valley is flat
        assert residual < np.sqrt(np.mean(best.fun**2)) * 1.01


def test_compiled_equals_pure_python():
    rng = np.random.default_rng(7)
    signal = magnitudes(train(rng.uniform(25, 90, 60), rng.uniform(0.6, 1, 60)), 0.02, 8).astype(np.float32)
    signal[3, 2], signal[4, 0], signal[5], signal[6] = np.nan, np.inf, 0, -signal[6]
    table, n = make_table(10.0, 10, 0, WATER), 60
    tables = table.water, table.fat, table.axes, table.starts, 6, table.basis, ratio_table()
    zeros, some = np.zeros(n, np.float32), np.full(n, 0.1, np.float32)
    free, near = np.full(n, np.inf, np.float32), np.full(n, 0.01, np.float32)
    for args in ((zeros, zeros, zeros, free), (zeros + 0.02, some, some / 5, near), (zeros, some, some / 5, zeros)):
        found = []
        for fit in (t2_epg_kernels.fit_table, t2_epg_kernels.fit_table.py_func):
            out, good = np.zeros((6, n), np.float32), np.zeros(n, np.uint8)
            with np.errstate(all="ignore"):
                fit(signal, *args, *tables, out, good)
            found.append((out[:, good == 0], good))
        assert np.array_equal(found[0][1], found[1][1]) and (found[0][1] == 0).sum() > 50
        assert (found[0][1][[3, 5, 6]] != 0).all()
        np.testing.assert_allclose(found[0][0], found[1][0], rtol=5e-3, atol=1e-4)
    found = []
    for fit in (t2_epg_free.fit_free, t2_epg_free.fit_free.py_func):
        out, good = np.zeros((6, n), np.float32), np.zeros(n, bool)
        with np.errstate(all="ignore"):
            fit(signal, table.water, table.inverse, table.variance, table.axes, table.basis, table.corner,
                table.nearest, out, good)
        found.append((out[:, good], good))
    assert np.array_equal(found[0][1], found[1][1]) and found[0][1].sum() > 40
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=5e-3, atol=1e-4)


def test_unit_order_and_bad_voxels():
    rng = np.random.default_rng(9)
    signal = magnitudes(1000 * train(rng.uniform(25, 90, 400), rng.uniform(0.7, 1, 400)), 15, 10)
    for options in ({}, {"fat_fraction": np.full(400, 0.1), "sigma": 15.0}):
        maps = fit_t2(signal, TIMES, model="epg", **options)
        scaled = {**options, "sigma": 15e-6} if "sigma" in options else options
        assert fit_t2(signal * 1e-6, TIMES, model="epg", **scaled).t2_ms == pytest.approx(maps.t2_ms, rel=1e-3)
        order = rng.permutation(400)
        assert np.array_equal(fit_t2(signal[order], TIMES, model="epg", **options).t2_ms, maps.t2_ms[order])
        bad = signal.copy()
        bad[0, 3], bad[1, 0], bad[2], bad[3], bad[4] = np.nan, np.inf, 0, -bad[3], 4095.0
        bad[5] = 1e5 * np.exp(-TIMES / 3.0)
        spoiled = fit_t2(bad, TIMES, model="epg", **options)
        assert spoiled.status[:6].tolist() == [NOT_FINITE, NOT_FINITE, LOW_SIGNAL, LOW_SIGNAL, AT_BOUND, AT_BOUND]
        assert np.array_equal(spoiled.t2_ms[6:], maps.t2_ms[6:]) and np.isnan(spoiled.t2_ms[:6]).all()
        assert np.isnan(spoiled.b1[:6]).all() and np.isnan(spoiled.t2_std_ms[:6]).all()


def test_fat_is_told_of_and_never_fitted():
    signal = 100 * train([35.0, 35.0], 0.9, [0.0, 0.1])
    blind = fit_t2(signal, TIMES, model="epg")
    assert blind.fat_fraction is None and any("no fat fraction" in note for note in blind.notes)
    assert blind.t2_ms[1] - blind.t2_ms[0] == pytest.approx(fat_bias(TIMES), abs=0.1) and fat_bias(TIMES) > 3
    seen = fit_t2(signal, TIMES, model="epg", fat_fraction=[0.0, 0.1])
    assert seen.t2_ms == pytest.approx(35, abs=0.05) and not any("no fat fraction" in note for note in seen.notes)
    unknown = fit_t2(signal, TIMES, model="epg", fat_fraction=[np.nan, 0.1])
    assert unknown.status.tolist() == [NOT_FINITE, FITTED]


def test_fat_is_calibrated_on_fat():
    made = replace(WATER, fat_t2_ms=110.0, residual_fat=0.15)
    fat = 800 * train(np.full(30, 35.0), 0.85, 1.0, made)
    found = calibrate_fat(fat, TIMES, muscle_s0=800.0)
    assert found.fat_t2_ms == pytest.approx(110, abs=0.5) and found.residual_fat == pytest.approx(0.15, rel=0.02)
    with pytest.raises(SignalError, match="no decay"):
        calibrate_fat(np.ones((5, 10)), TIMES)


def test_b1_smoothed_and_known():
    shape = (24, 20, 2)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    b1 = 0.85 - 0.12 * x + 0.05 * y
    rng = np.random.default_rng(11)
    t2 = rng.uniform(30, 45, shape)
    signal = Volume(magnitudes(50 * train(t2, b1), 1.0, 12), np.diag([2.0, 2.0, 6.0, 1.0]), tuple(TIMES))
    free, smooth, given = (fit_t2(signal, model="epg", sigma=1.0, b1=b) for b in (None, "smooth", b1))
    errors = [np.sqrt(np.mean((maps.t2_ms - t2) ** 2)) for maps in (free, smooth, given)]
    assert errors[0] > 1.05 * errors[2] and errors[1] < 1.1 * errors[2]
    assert np.abs(smooth.b1 - b1).mean() < 0.02 and np.array_equal(smooth.affine, signal.affine)
    assert fit_t2(signal, model="epg", mask=b1 > 0.85).status[0, 0, 0] in (FITTED, OUTSIDE_MASK)
    for options, error, message in (
        ({"b1": "fitted"}, SignalError, "smooth"), ({"b1": 85.0}, SignalError, "per cent"),
        ({"b1": np.ones(3)}, SignalError, "one per voxel"),
        ({"fat_fraction": Volume(np.zeros(shape), np.eye(4))}, GridError, "another grid"),
        ({"fat_fraction": np.full(shape, 20.0)}, SignalError, "per cent"),
    ):
        with pytest.raises(error, match=message):
            fit_t2(signal, model="epg", **options)
    with pytest.raises(SignalError, match="three axes"):
        fit_t2(signal.array, TIMES, model="epg", b1="smooth")
    with pytest.raises(SignalError, match="multiples of their spacing"):
        fit_t2(np.ones((2, 4)), [10, 20, 35, 60], model="epg")
    with pytest.raises(SignalError, match="multiples of their spacing"):
        fit_t2(np.ones((2, 4)), [12, 22, 32, 42], model="epg")


def test_trains_that_begin_late():
    """Without the first echo the later ones are still those of the same train; without two they tell too little."""
    signal = 100 * train([30.0, 50.0], [0.7, 0.9])
    assert fit_t2(signal, TIMES, model="epg", skip_first=True).t2_ms == pytest.approx([30, 50], abs=0.1)
    with pytest.raises(SignalError, match="begins with echo 3"):
        fit_t2(signal[:, 2:], TIMES[2:], model="epg")


@pytest.mark.parametrize("n_echoes", [6, 10, 17])
@pytest.mark.parametrize("options", [{}, {"sigma": 1.0}, {"fat_fraction": 0.0}], ids=["plain", "noise", "fat"])
def test_without_the_first_echo_the_likelier_of_two_nodes_is_found(options, n_echoes):
    rng = np.random.default_rng(12)
    t2, b1 = rng.uniform(25, 60, 2000), rng.uniform(0.7, 0.95, 2000)
    signal = magnitudes(100 * train(t2, b1, n_echoes=n_echoes), 1.0, 3)
    options = {name: np.full(2000, value) for name, value in options.items()}
    times = np.arange(1, n_echoes + 1) * 10.0
    maps = fit_t2(signal, times, model="epg", skip_first=True, **options)
    assert (maps.status == FITTED).all() and np.mean(np.abs(maps.t2_ms / t2 - 1) > 0.15) < 0.012
    clean = fit_t2(train(t2, b1, n_echoes=n_echoes), times, model="epg", skip_first=True)
    assert np.mean(np.abs(clean.t2_ms / t2 - 1) < 0.01) > 0.99


def test_long_trains_in_noise_find_the_best_fit():
    """Least squares over a grid of T2 and B1 explains hardly any signal better than the fit does."""
    rng = np.random.default_rng(13)
    grid_t2, grid_b1 = (a.ravel() for a in np.meshgrid(np.geomspace(12, 280, 120), np.linspace(0.46, 1, 50)))
    for n_echoes, snr in ((10, 20), (16, 20), (32, 20), (32, 50)):
        signal = magnitudes(train(rng.uniform(20, 90, 400), rng.uniform(0.6, 1, 400), n_echoes=n_echoes), 1 / snr, 4)
        shapes = train(grid_t2, grid_b1, n_echoes=n_echoes)
        shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
        best = np.sqrt((signal**2).sum(1) - (signal @ shapes.T).max(1) ** 2)
        maps = fit_t2(signal, np.arange(1, n_echoes + 1) * 10.0, model="epg")
        reached = maps.residual * np.sqrt(n_echoes)
        assert np.mean(reached > 1.05 * best) < 0.02


def test_signals_of_any_type_and_b1_within_its_range():
    rng = np.random.default_rng(14)
    made = EpgAssumptions(profile=slice_profile())
    signal = magnitudes(1000 * train(rng.uniform(25, 90, 3000), rng.uniform(0.5, 1.15, 3000), made=made), 30, 6)
    for options in ({}, {"sigma": 30.0}, {"assumptions": made}):
        expected = fit_t2(signal.astype(np.float32), TIMES, model="epg", **options)
        known = expected.b1[expected.status == FITTED]
        assert known.min() >= 0.45 - 1e-6 and known.max() <= 1.2 + 1e-6
        for kind in (">f4", ">f8", np.longdouble, np.float64):
            found = fit_t2(signal.astype(np.float32).astype(kind), TIMES, model="epg", **options)
            assert np.array_equal(found.status, expected.status)
            assert np.mean(np.abs(found.t2_ms / expected.t2_ms - 1)[expected.status == FITTED] < 1e-3) > 0.995
        for kind in (np.float16, ">i2", np.uint16):
            found = fit_t2(np.rint(signal).astype(kind), TIMES, model="epg", **options)
            assert np.nanmedian(found.t2_ms) == pytest.approx(np.nanmedian(expected.t2_ms), rel=0.02)
    tiny, plain = (np.nanmedian(fit_t2(signal * unit, TIMES, model="epg").t2_std_ms) for unit in (1e-28, 1.0))
    assert tiny == pytest.approx(plain, rel=0.01)
