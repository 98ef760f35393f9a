"""ROC curves compared, cut short and resampled, against pROC 1.18.0 in R 4.2.2 on mtcars, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_stats_correlation import MTCARS

from mrmyo.cohort import load_cohort
from mrmyo.stats import StatsError, compare_roc, partial_auc, predictive_values, roc, roc_stability

AM = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
VS = [0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]
CARS = MTCARS.assign(am=AM, vs=VS, light=-MTCARS.wt)
OF_CARS = {"group": "am", "positive": 1}


def test_two_scores_of_the_same_subjects_as_roc_test():
    row = compare_roc(CARS, scores=("mpg", "light"), **OF_CARS).iloc[0]
    assert (row.auc_1, row.auc_2) == pytest.approx((0.82995951417, 0.933198380567))
    assert (row.statistic, row.p) == pytest.approx((-2.09520247655, 0.0361529972254))
    assert (row.low, row.high) == pytest.approx((-0.199814000403, -0.0066637323906)) and row.n == 32
    missing = CARS.assign(mpg=CARS.mpg.where(CARS.index > 2))
    again = compare_roc(missing, scores=("mpg", "light"), **OF_CARS).iloc[0]
    assert (again.n, again.n_missing) == (29, 3)


def test_two_sets_of_subjects_as_roc_test():
    row = compare_roc(CARS, by="vs", score="mpg", **OF_CARS).iloc[0]
    assert (row.auc_1, row.auc_2) == pytest.approx((0.847222222222, 0.897959183673))
    assert (row.statistic, row.p, row.df) == pytest.approx((-0.363580160703, 0.71876175523, 29.5285015579))


def test_refusals_of_a_comparison():
    with pytest.raises(StatsError, match="either"):
        compare_roc(CARS, **OF_CARS)
    with pytest.raises(StatsError, match="exactly two values"):
        compare_roc(CARS, by="carb", score="mpg", **OF_CARS)
    for scores in (("mpg",), "mpg", "ab", ("mpg", "mpg"), ("mpg", "wt", "hp")):
        with pytest.raises(StatsError, match="two different columns"):
            compare_roc(CARS, scores=scores, **OF_CARS)
    same = compare_roc(CARS.assign(again=CARS.mpg * 2), scores=("mpg", "again"), **OF_CARS).iloc[0]
    assert np.isnan(same.p) and "alike" in same.note
    few = pd.concat([CARS[CARS.am == 1].head(1), CARS[CARS.am == 0]])
    with pytest.raises(StatsError, match="two of each"):
        compare_roc(few, scores=("mpg", "light"), **OF_CARS)


@pytest.mark.parametrize(("score", "specificity", "area", "standardised"), [
    ("mpg", 0.9, 0.0477935222672, 0.725229064564), ("mpg", 0.8, 0.102914979757, 0.730319388214),
    ("mpg", 0.5, 0.354251012146, 0.805668016194), ("light", 0.8, 0.16032388664, 0.889788573999),
])
def test_part_of_the_area_as_proc(score, specificity, area, standardised):
    row = partial_auc(CARS, score=score, min_specificity=specificity, **OF_CARS).iloc[0]
    assert (row.partial_auc, row.standardised) == pytest.approx((area, standardised))


def test_the_whole_part_is_the_area():
    row = partial_auc(CARS, score="mpg", min_specificity=0, **OF_CARS).iloc[0]
    assert row.partial_auc == pytest.approx(roc(CARS, score="mpg", **OF_CARS).auc.item())
    with pytest.raises(StatsError, match="below 1"):
        partial_auc(CARS, score="mpg", min_specificity=1, **OF_CARS)


def counted(tp, fn, fp, tn):
    return pd.DataFrame({"t2_ms": [40.0] * tp + [30.0] * fn + [40.0] * fp + [30.0] * tn,
                         "group": ["IIM"] * (tp + fn) + ["HC"] * (fp + tn)})


def test_likelihood_ratios_and_predictive_values_by_hand():
    row = predictive_values(counted(80, 20, 30, 70), cutoff=36.4, prevalence=0.5).iloc[0]
    assert (row.lr_positive, row.lr_negative) == pytest.approx((0.8 / 0.3, 0.2 / 0.7))
    assert (row.ppv, row.npv) == pytest.approx((80 / 110, 70 / 90))
    half = 1.959964 * np.sqrt(1 / 80 - 1 / 100 + 1 / 30 - 1 / 100)
    assert (row.lr_positive_low, row.lr_positive_high) == pytest.approx(
        (0.8 / 0.3 * np.exp(-half), 0.8 / 0.3 * np.exp(half)))
    rare = predictive_values(counted(80, 20, 30, 70), cutoff=36.4, prevalence=0.01).iloc[0]
    assert rare.ppv == pytest.approx(0.008 / (0.008 + 0.3 * 0.99)) and rare.lr_positive == row.lr_positive
    assert rare.ppv_low < rare.ppv < rare.ppv_high and rare.npv_low < rare.npv < rare.npv_high


def test_predictive_intervals_cover():
    """Of 500 samples of 60 and 60, at a true sensitivity of 0.85, specificity of 0.8 and prevalence of 0.2."""
    rng, held = np.random.default_rng(2), np.zeros(4)
    true = np.array([0.85 / 0.2, 0.15 / 0.8, 0.17 / (0.17 + 0.16), 0.64 / (0.64 + 0.03)])
    for _ in range(500):
        tp, fp = rng.binomial(60, 0.85), rng.binomial(60, 0.2)
        row = predictive_values(counted(tp, 60 - tp, fp, 60 - fp), cutoff=36, prevalence=0.2).iloc[0]
        held += [row[f"{name}_low"] <= value <= row[f"{name}_high"]
                 for name, value in zip(("lr_positive", "lr_negative", "ppv", "npv"), true, strict=True)]
    assert ((held / 500 > 0.92) & (held / 500 < 0.985)).all(), held / 500


def test_empty_cells_are_told():
    row = predictive_values(load_cohort(), cutoff=36.4, prevalence=0.3).iloc[0]
    assert row.specificity == 1 and np.isinf(row.lr_positive) and row.ppv == 1 and "half a subject" in row.note
    assert 1 < row.lr_positive_low < 100 and np.isinf(row.lr_positive_high) and row.ppv_low < 0.9 < row.ppv_high == 1
    for cutoff, prevalence, words in ((np.nan, 0.5, "in the unit of the score"), (None, 0.5, "cutoff=None"),
                                      (36, 0, "above 0 and below 1"), (36, "x", "prevalence='x'")):
        with pytest.raises(StatsError, match=words):
            predictive_values(load_cohort(), cutoff=cutoff, prevalence=prevalence)


def test_resampled_area_as_proc_and_a_cutoff_that_wanders():
    row = roc_stability(CARS, score="mpg", n_resamples=4000, **OF_CARS).iloc[0]
    # ci.auc(method = "bootstrap", boot.n = 10000) of pROC: 0.660 to 0.953
    assert (row.auc_low, row.auc_high) == pytest.approx((0.65991902834, 0.953441295547), abs=0.012)
    assert row.cutoff == pytest.approx(19.45) and row.cutoff_low < 19.45 < row.cutoff_high
    again = roc_stability(CARS, score="mpg", n_resamples=4000, **OF_CARS).iloc[0]
    assert (row.optimism, row.cutoff_low) == (again.optimism, again.cutoff_low)


def test_optimism_is_what_another_sample_takes_away():
    """Youden's index of a cutoff in its own 15 and 15 subjects against what it gives in all others.

    The bootstrap finds a good part of it, not all: resamples share most of their subjects with the sample.
    """
    rng, claimed, lost = np.random.default_rng(4), [], []
    for seed in range(60):
        pos, neg = rng.standard_normal(15) + 1, rng.standard_normal(15)
        table = pd.DataFrame({"t2_ms": np.r_[pos, neg] + 50, "group": ["IIM"] * 15 + ["HC"] * 15})
        row = roc_stability(table, n_resamples=150, seed=seed).iloc[0]
        true = stats.norm.sf(row.cutoff - 51) + stats.norm.cdf(row.cutoff - 50) - 1
        claimed.append(row.optimism)
        lost.append(row.youden - true)
    assert np.mean(lost) > 0.1 and 0.45 < np.mean(claimed) / np.mean(lost) < 1


def test_leaving_one_out_on_the_cohort():
    row = roc_stability(load_cohort(), n_resamples=300).iloc[0]
    assert row.cutoff == pytest.approx(36.4, abs=0.05) and row.specificity == 1
    assert row.loo_specificity <= 1 and row.loo_sensitivity <= row.sensitivity and row.youden_corrected < row.youden
    with pytest.raises(StatsError, match="three of each"):
        roc_stability(counted(5, 2, 1, 1))
    with pytest.raises(StatsError, match="better than chance"):
        roc_stability(counted(5, 0, 5, 0))


def test_a_comparison_names_the_rows_of_the_table():
    table = CARS.assign(subject=range(32), mpg=CARS.mpg.where(CARS.index > 2))  # rows 1 to 3 are left out
    kinds = table.am.map({1: "IIM", 0: "HC"})
    for wrong, words in ((table.assign(subject=[*range(31), 30]), "rows 31 and 32"),
                         (table.assign(light=table.light.where(table.index < 31, np.inf)), "infinite values in row 32"),
                         (table.assign(am=kinds.where(table.index < 31, "iim")), "row 32 may be misspelt")):
        options = {"group": "am", "positive": "IIM" if "iim" in set(wrong.am) else 1}
        for asked in ({"scores": ("mpg", "light")}, {"by": "vs", "score": "light"}):
            with pytest.raises(StatsError, match=words):
                compare_roc(wrong, **asked, **options)


def test_a_group_without_scores_in_a_part_is_refused():
    for table, asked in ((CARS.assign(vs=CARS.am), {"by": "vs", "score": "mpg"}),
                         (CARS.assign(mpg=CARS.mpg.where(CARS.index < 9), light=CARS.light.where(CARS.index > 8)),
                          {"scores": ("mpg", "light")})):
        with pytest.raises(StatsError, match="two of each"):
            compare_roc(table, **asked, **OF_CARS)


def test_parts_come_by_size_or_in_the_order_of_their_categories():
    plain = compare_roc(CARS, by="vs", score="mpg", **OF_CARS).iloc[0]
    tens = compare_roc(CARS.assign(vs=CARS.vs + 9), by="vs", score="mpg", **OF_CARS).iloc[0]
    assert (tens["first"], tens.second, tens.p) == ("vs 9", "vs 10", plain.p)
    turned = compare_roc(CARS.assign(vs=pd.Categorical(CARS.vs, [1, 0])), by="vs", score="mpg", **OF_CARS).iloc[0]
    assert turned["first"] == "vs 1" and turned.difference == -plain.difference


def test_a_cutoff_beyond_all_scores_says_what_it_cannot_tell():
    table = counted(10, 5, 5, 10)
    nobody = predictive_values(table, cutoff=100, prevalence=0.1).iloc[0]
    assert nobody[["lr_positive", "lr_positive_low", "lr_positive_high", "ppv", "ppv_low", "ppv_high"]].isna().all()
    assert (nobody.sensitivity, nobody.lr_negative, nobody.npv) == (0, 1, 0.9)
    assert "nobody is at or above" in nobody.note
    everybody = predictive_values(table, cutoff=-100, prevalence=0.1).iloc[0]
    assert everybody[["lr_negative", "lr_negative_low", "npv", "npv_low", "npv_high"]].isna().all()
    assert (everybody.lr_positive, everybody.ppv) == (1, 0.1) and "everybody is at or above" in everybody.note


def test_a_seed_gives_the_same_stability_in_any_order_of_rows():
    shuffled = CARS.sample(frac=1, random_state=2)
    one, other = (roc_stability(table, score="mpg", n_resamples=100, **OF_CARS) for table in (CARS, shuffled))
    pd.testing.assert_frame_equal(one, other)


def test_options_out_of_range_are_refused():
    for options, words in (({"level": 95}, "level=95"), ({"n_resamples": 0}, "n_resamples=0"),
                           ({"n_resamples": 2.5}, "whole number")):
        with pytest.raises(StatsError, match=words):
            roc_stability(CARS, score="mpg", **OF_CARS, **options)
    with pytest.raises(StatsError, match="min_specificity='x'"):
        partial_auc(CARS, score="mpg", min_specificity="x", **OF_CARS)
