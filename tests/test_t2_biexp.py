"""Two exponentials come back without noise, and are shown not to with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK, SignalError
from mrmyo.t2_biexp import biexponential_bound, fit_biexponential

TIMES = tuple(10.0 * n for n in range(1, 11))


def pair(short, long, share, s0=1000.0, times=TIMES):
    short, long, share = (np.asarray(value, dtype=float)[..., None] for value in (short, long, share))
    return s0 * ((1 - share) * np.exp(-np.array(times) / short) + share * np.exp(-np.array(times) / long))


def test_noise_free_pairs_come_back():
    rng = np.random.default_rng(1)
    short, ratio, share = rng.uniform(15, 45, 300), rng.uniform(2.5, 5, 300), rng.uniform(0.15, 0.85, 300)
    found = fit_biexponential(pair(short, short * ratio, share), TIMES)
    good = found["status"] == FITTED
    assert good.mean() > 0.97
    off = np.abs(found["t2_short_ms"] / short - 1)[good]
    assert np.quantile(off, 0.98) < 1e-4 and off.max() < 0.05  # some few have stopped in the flat valley
    assert np.abs(found["long_share"] - share)[good].max() < 0.05
    assert found["s0"][good] == pytest.approx(1000, rel=0.01)


def test_least_squares_is_that_of_scipy():
    rng = np.random.default_rng(2)
    signal = pair(30.0, 120.0, 0.3) + rng.normal(0, 10, (12, 10))
    found = fit_biexponential(signal, TIMES)
    for k in range(12):
        def residuals(p, y=signal[k]):
            return y - p[0] * np.exp(-np.array(TIMES) / p[2]) - p[1] * np.exp(-np.array(TIMES) / p[3])
        starts = [(700, 300, s, r) for s in (15, 30, 45) for r in (70, 150, 300)]
        best = min((optimize.least_squares(residuals, p, bounds=([0, 0, 8, 8], [9e3, 9e3, 400, 400])) for p in starts),
                   key=lambda fit: fit.cost)
        mine = 10 * found["residual"][k] ** 2 / 2
        if found["status"][k] == FITTED:
            assert mine == pytest.approx(best.cost, rel=0.01) or mine < best.cost


def test_it_is_ill_posed_at_these_echo_times():
    """At a signal-to-noise ratio of 50 a tenth of long T2 is not measured: its SD exceeds it, and fits scatter so."""
    bound = biexponential_bound(32, 90, 0.1, echo_times_ms=TIMES, snr=50)
    assert bound["long_share_std"] > 0.1 and bound["t2_long_std_ms"] > 45
    assert bound["t2_short_std_ms"] > 8 * bound["t2_std_ms"]
    rng = np.random.default_rng(3)
    signal = np.hypot(pair(32.0, 90.0, 0.1) + rng.normal(0, 20, (2000, 10)), rng.normal(0, 20, (2000, 10)))
    found = fit_biexponential(signal, TIMES)
    lost = (found["status"] == AT_BOUND).mean()
    assert lost > 0.3  # no second exponential was found at all
    low, high = np.nanpercentile(found["long_share"], [10, 90])
    assert high - low > 0.2


def test_the_bound_is_that_of_many_fits_where_the_problem_is_well_posed():
    times = tuple(5.0 * n for n in range(1, 65))
    rng = np.random.default_rng(4)
    bound = biexponential_bound(20, 150, 0.4, echo_times_ms=times, snr=500)
    signal = pair(20.0, 150.0, 0.4, times=times) + rng.normal(0, 2, (1500, 64))
    found = fit_biexponential(signal, times, sigma=2.0)
    assert (found["status"] == FITTED).all()
    assert found["t2_short_ms"].std() == pytest.approx(bound["t2_short_std_ms"], rel=0.1)
    assert found["long_share"].std() == pytest.approx(bound["long_share_std"], rel=0.1)
    assert np.median(found["t2_long_std_ms"]) == pytest.approx(bound["t2_long_std_ms"], rel=0.1)


def test_what_is_no_pair_is_told_and_harms_no_neighbour():
    signal = np.concatenate([pair(30.0, 120.0, 0.4)[None].repeat(2, 0), pair(40.0, 40.0, 0.5)[None], np.ones((5, 10))])
    signal[3], signal[4, 2], signal[5, 0], signal[6] = 0, np.nan, np.inf, -5
    found = fit_biexponential(signal, TIMES, mask=[True] * 7 + [False])
    assert found["status"].tolist()[:1] == [FITTED] and found["status"][2] == AT_BOUND
    assert found["status"].tolist()[3:6] == [LOW_SIGNAL, NOT_FINITE, NOT_FINITE]
    assert found["status"][6] == AT_BOUND and found["status"][7] == OUTSIDE_MASK
    alone = fit_biexponential(signal[:1], TIMES)
    assert found["t2_short_ms"][0] == alone["t2_short_ms"][0] == found["t2_short_ms"][1]
    with pytest.raises(SignalError, match="at least 5"):
        fit_biexponential(signal[:, :4], TIMES[:4])
