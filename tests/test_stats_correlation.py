"""Rank correlations against R 4.2.2 (cor.test, and cor of the residuals of lm on ranks) on its data set mtcars."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mrmyo.stats import StatsError, correlation_power, partial_spearman, spearman
from mrmyo.stats.correlation import p_of_correlation

MTCARS = pd.DataFrame({
    "mpg": [21, 21, 22.8, 21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 32.4,
            30.4, 33.9, 21.5, 15.5, 15.2, 13.3, 19.2, 27.3, 26, 30.4, 15.8, 19.7, 15, 21.4],
    "wt": [2.62, 2.875, 2.32, 3.215, 3.44, 3.46, 3.57, 3.19, 3.15, 3.44, 3.44, 4.07, 3.73, 3.78, 5.25, 5.424, 5.345,
           2.2, 1.615, 1.835, 2.465, 3.52, 3.435, 3.84, 3.845, 1.935, 2.14, 1.513, 3.17, 2.77, 3.57, 2.78],
    "hp": [110, 110, 93, 110, 175, 105, 245, 62, 95, 123, 123, 180, 180, 180, 205, 215, 230, 66, 52, 65, 97, 150, 150,
           245, 175, 66, 91, 113, 264, 175, 335, 109],
    "qsec": [16.46, 17.02, 18.61, 19.44, 17.02, 20.22, 15.84, 20, 22.9, 18.3, 18.9, 17.4, 17.6, 18, 17.98, 17.82,
             17.42, 19.47, 18.52, 19.9, 20.01, 16.87, 17.3, 15.41, 17.05, 18.9, 16.7, 16.9, 14.5, 15.5, 14.6, 18.6],
    "carb": [4, 4, 1, 1, 2, 1, 4, 2, 2, 4, 4, 3, 3, 3, 4, 4, 4, 1, 2, 1, 1, 2, 2, 4, 2, 1, 2, 2, 4, 6, 8, 2],
    "drat": [3.9, 3.9, 3.85, 3.08, 3.15, 2.76, 3.21, 3.69, 3.92, 3.92, 3.92, 3.07, 3.07, 3.07, 2.93, 3, 3.23, 4.08,
             4.93, 4.22, 3.7, 2.76, 3.15, 3.73, 3.08, 4.08, 4.43, 3.77, 4.22, 3.62, 3.54, 4.11],
})


@pytest.mark.parametrize(("x", "y", "r", "p"), [
    ("mpg", "wt", -0.886422033270298, 1.48759485812743e-11), ("hp", "qsec", -0.66660602135505, 3.10534425313097e-05),
    ("carb", "drat", -0.12522293992018, 0.494682402970658),  # six values of carb among 32 cars: heavy ties
])
def test_as_cor_test_of_r(x, y, r, p):
    row = spearman(MTCARS, x=x, y=y).iloc[0]
    assert (row.r, row.p, row.n) == (pytest.approx(r, abs=1e-12), pytest.approx(p, rel=1e-9), 32)
    assert row.r_low < r < row.r_high and "30 df" in row.method


def test_exact_p_as_cor_test_of_r():
    x, y = [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2], [2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8]
    row = spearman(pd.DataFrame({"x": x, "y": y}), x="x", y="y", method="exact").iloc[0]
    assert row.r == pytest.approx(0.666666666666667) and row.p == pytest.approx(0.0830853174603175, rel=1e-12)


def test_random_orders_come_near_the_exact_p():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"x": rng.integers(0, 4, 9), "y": rng.integers(0, 4, 9)})  # ties too
    exact = spearman(table, x="x", y="y", method="exact").p.item()
    near = spearman(table, x="x", y="y", method="permutation", n_resamples=40_000).p.item()
    assert near == pytest.approx(exact, abs=0.01)
    again = spearman(table, x="x", y="y", method="permutation", n_resamples=40_000).p.item()
    assert near == again  # the same seed


@pytest.mark.parametrize(("covariates", "r", "p"), [
    (["hp"], -0.68441516084191, 2.17595271598925e-05), (["hp", "qsec"], -0.613158274025324, 0.000315023925871562),
])
def test_partial_as_residuals_in_r(covariates, r, p):
    row = partial_spearman(MTCARS, x="mpg", y="wt", covariates=covariates).iloc[0]
    assert (row.r, row.p) == (pytest.approx(r, abs=1e-10), pytest.approx(p, rel=1e-7))


def test_missing_values_are_left_out_and_counted():
    table = MTCARS.assign(wt=MTCARS.wt.where(MTCARS.index % 5 > 0))
    row = spearman(table, x="mpg", y="wt").iloc[0]
    kept = table.dropna()
    expected = scipy_stats.spearmanr(kept.mpg, kept.wt)
    assert (row.n, row.n_missing, row.r, row.p) == (25, 7, pytest.approx(expected.statistic),
                                                    pytest.approx(expected.pvalue))


def test_intervals_cover_what_they_promise():
    """Of 400 samples of 40 pairs the interval holds the true rank correlation in about 95 of 100."""
    rng = np.random.default_rng(5)
    rho = 0.5
    true = 6 / np.pi * np.arcsin(rho / 2)  # of two normal variables (Pearson 1907)
    held = 0
    for _ in range(400):
        x = rng.standard_normal(40)
        y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(40)
        row = spearman(pd.DataFrame({"x": x, "y": y}), x="x", y="y").iloc[0]
        held += row.r_low <= true <= row.r_high
    assert 0.92 <= held / 400 <= 0.98
    boot = spearman(MTCARS, x="hp", y="qsec", interval="bootstrap", n_resamples=4000).iloc[0]
    usual = spearman(MTCARS, x="hp", y="qsec").iloc[0]
    assert boot.r_low == pytest.approx(usual.r_low, abs=0.08) and boot.r_high == pytest.approx(usual.r_high, abs=0.08)


def test_power_against_simulation_and_the_n_for_it():
    n = correlation_power(r=0.4, power=0.8)
    assert n == 47  # Hulley et al., Designing Clinical Research, table 6C
    assert correlation_power(r=0.4, n=47) == pytest.approx(0.8, abs=0.01)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4000, 47))
    y = 0.4 * x + np.sqrt(1 - 0.16) * rng.standard_normal((4000, 47))
    found = np.mean([scipy_stats.pearsonr(a, b).pvalue < 0.05 for a, b in zip(x, y, strict=True)])
    assert found == pytest.approx(0.8, abs=0.03)
    for wrong in ({"r": 0, "n": 5}, {"r": 0.5}, {"r": 0.5, "n": 5, "power": 0.8}, {"r": 1.2, "n": 5}):
        with pytest.raises(StatsError):
            correlation_power(**wrong)


def test_the_papers_p_values_at_the_n_that_fits():
    """Printed: 0.376 and 0.003, at 62 patients; at the 64 that are printed too it would be 0.002."""
    assert round(p_of_correlation(0.376, 62), 3) == 0.003 and round(p_of_correlation(0.376, 64), 3) == 0.002
    assert np.isnan(p_of_correlation(0.5, 2)) and p_of_correlation(1, 10) == 0


def test_refusals():
    for table, words in (
        (MTCARS[["mpg"]], "no column"), (MTCARS.head(3), "expected 4 at least"),
        (MTCARS.assign(wt="heavy"), "no numbers"), (MTCARS.assign(subject="A"), "one row per subject"),
        (MTCARS.assign(wt=np.nan), "no value"),
    ):
        with pytest.raises(StatsError, match=words):
            spearman(table, x="mpg", y="wt")
    constant = spearman(MTCARS.assign(wt=1.0), x="mpg", y="wt").iloc[0]
    assert np.isnan(constant.r) and "wt is constant" in constant.note
    with pytest.raises(StatsError, match="one of t, exact"):
        spearman(MTCARS, x="mpg", y="wt", method="kendall")
    with pytest.raises(StatsError, match="permutation"):
        spearman(MTCARS, x="mpg", y="wt", method="exact")
    with pytest.raises(StatsError, match="altogether"):
        partial_spearman(MTCARS, x="mpg", y="wt", covariates=["mpg"])
    with pytest.raises(StatsError, match="complete rows"):
        partial_spearman(MTCARS.head(4), x="mpg", y="wt", covariates=["hp"])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_has_no_interval_and_says_so(sign):
    """By all 24 orders of four, two are as far apart: p is 1 / 12, while Student's t gives 0."""
    table = pd.DataFrame({"x": [1, 2, 3, 4], "y": [sign * v for v in (10, 20, 25, 70)]})
    for interval in ("bonett-wright", "bootstrap"):
        row = spearman(table, x="x", y="y", interval=interval, n_resamples=50).iloc[0]
        assert row.r == sign and row.p == 0 and np.isnan(row.r_low) and np.isnan(row.r_high)
        assert "every pair in order" in row.note and "take method='exact'" in row.note
    exact = spearman(table, x="x", y="y", method="exact").iloc[0]
    assert exact.p == pytest.approx(1 / 12) and exact.note == "every pair in order: no interval is defined"
    many = spearman(pd.DataFrame({"x": range(30), "y": range(30)}), x="x", y="y").iloc[0]
    assert "method='permutation'" in many.note


def test_resamples_without_a_correlation_are_told():
    table = pd.DataFrame({"x": [1, 1, 1, 2, 3], "y": [1, 1, 2, 1, 3]})
    row = spearman(table, x="x", y="y", interval="bootstrap", n_resamples=4000).iloc[0]
    told = int(row.note.split()[0])
    # a resample has none where x is 1 in all five (drawn of three rows) or y is (of three), or one row alone makes it
    alike = sum(len({table.x[i] for i in rows}) == 1 or len({table.y[i] for i in rows}) == 1
                for rows in itertools.product(range(5), repeat=5))
    assert told / 4000 == pytest.approx(alike / 5**5, abs=0.02) and "4000 resamples" in row.note
    assert spearman(MTCARS, x="mpg", y="wt", interval="bootstrap", n_resamples=50).note[0] == ""


def test_a_seed_gives_the_same_numbers_in_any_order_of_rows():
    shuffled = MTCARS.sample(frac=1, random_state=0)
    for options in ({"interval": "bootstrap"}, {"method": "permutation"}):
        one, other = (spearman(table, x="carb", y="drat", n_resamples=200, **options) for table in (MTCARS, shuffled))
        pd.testing.assert_frame_equal(one, other)


def test_redundant_covariates_are_refused_and_a_constant_has_no_partial_correlation():
    table = MTCARS.assign(logs=np.log(MTCARS.hp), one=1.0)
    for covariates, words in ((["hp", "logs"], "'logs' is constant or fixed"), (["hp", "one"], "'one' is constant"),
                              ("one", "'one' is constant"), (["hp", "hp"], "'hp' is constant or fixed")):
        with pytest.raises(StatsError, match=words):
            partial_spearman(table, x="mpg", y="wt", covariates=covariates)
    for x, y in (("one", "wt"), ("wt", "one")):
        row = partial_spearman(table, x=x, y=y, covariates="hp").iloc[0]
        assert np.isnan([row.r, row.r_low, row.p]).all() and row.note == "one is constant: no correlation is defined"
    perfect = partial_spearman(table, x="mpg", y="mpg", covariates="hp").iloc[0]
    assert perfect.r == 1 and np.isnan(perfect.r_low) and "every pair in order" in perfect.note


@pytest.mark.parametrize(("options", "words"), [
    ({"n": 3}, "n=3; expected 4"), ({"n": "9"}, "n='9'"), ({"power": 1}, "power=1"), ({"power": 80}, "power=80"),
    ({"power": 0.01}, "above alpha"), ({"n": 20, "alpha": 5}, "alpha=5"), ({"n": 20, "r": "high"}, "r='high'"),
])
def test_refusals_of_power(options, words):
    with pytest.raises(StatsError, match=words):
        correlation_power(**{"r": 0.3, **options})


def test_options_out_of_range_are_refused():
    for options in ({"level": 95}, {"level": 95, "interval": "bootstrap"}, {"n_resamples": 0}, {"n_resamples": 100.0}):
        with pytest.raises(StatsError, match=r"expected a (number|whole number)"):
            spearman(MTCARS, x="mpg", y="wt", **options)
    with pytest.raises(StatsError, match="level=95"):
        partial_spearman(MTCARS, x="mpg", y="wt", covariates="hp", level=95)
