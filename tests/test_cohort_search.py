"""Searches: ranges of printed numbers, windows of correlations, totals, orders, annealing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrmyo.cohort_search import anneal, correlation_window, order_by_correlation, printed_range, skewed_integers


def test_what_rounds_to_a_text():
    assert printed_range("0.226") == pytest.approx((0.2255, 0.2265))
    assert printed_range("47") == pytest.approx((46.5, 47.5))


@pytest.mark.parametrize(("r", "p", "n"), [("0.376", "0.003", 62), ("0.242", "0.054", 64), ("-0.226", "0.080", 61)])
def test_a_window_holds_what_prints_as_both(r, p, n):
    low, high = correlation_window(r, p, n)
    for value in np.linspace(low, high, 7)[1:-1]:
        t = value * np.sqrt((n - 2) / (1 - value**2))
        assert f"{value:.3f}" == r and f"{2 * stats.t.sf(abs(t), n - 2):.3f}" == p
    for value in (low - 1e-6, high + 1e-6):
        t = value * np.sqrt((n - 2) / (1 - value**2))
        assert (f"{value:.3f}", f"{2 * stats.t.sf(abs(t), n - 2):.3f}") != (r, p)


def test_no_window_where_correlation_and_p_contradict():
    low, high = correlation_window("0.376", "0.003", 64)  # as printed, with 64 patients
    assert low > high


def test_skewed_whole_numbers_have_their_extremes_and_total():
    for seed in range(20):
        values = skewed_integers(np.random.default_rng(seed), 40, low=3, high=500, total=(2000, 2001))
        assert (values.min(), values.max(), values.sum()) == (3, 500, 2000) and np.median(values) < values.mean()
    assert skewed_integers(np.random.default_rng(0), 40, low=3, high=500, total=(50, 60)) is None


def test_an_order_meets_a_correlation_and_keeps_what_is_fixed():
    rng = np.random.default_rng(1)
    values, reference = np.round(rng.normal(0, 3, 50)), rng.normal(size=50)  # with ties
    before = stats.spearmanr(values, reference).statistic
    found = order_by_correlation(rng, values, reference, (before + 0.2, before + 0.201), fixed=[0, 7])
    assert before + 0.2 < stats.spearmanr(found, reference).statistic < before + 0.201
    assert sorted(found) == sorted(values) and (found[[0, 7]] == values[[0, 7]]).all()
    assert (found == values).mean() > 0.5  # most stay where they were
    assert order_by_correlation(rng, values, reference, (1.1, 1.2), n_steps=200) is None


def test_annealing_comes_out_of_a_hollow():
    def cost(x):  # a hollow at 0, what is sought at 20
        return 0 if x == 20 else 1 + min(abs(x), 3 * abs(x - 20))

    def step(rng, x):
        return x + int(rng.choice([-4, -3, -2, -1, 1, 2, 3, 4]))

    assert anneal(np.random.default_rng(0), 0, cost, step, n_steps=20_000, warm=8.0) == 20
    assert anneal(np.random.default_rng(0), 0, lambda x: 1, step, n_steps=50) is None
