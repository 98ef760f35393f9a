"""ROC analysis against R.

The data are made up here, with heavy ties. R 4.2.2 Patched (2022-11-10 r83330), pROC 1.18.0:

    patients <- c(34, 35, 36, 36, 37, 37, 38, 38, 38, 39, 40, 41, 41, 42, 44, 45, 45, 48, 52, 60)
    weak     <- c(32, 34, 34, 35, 36, 36, 37, 38, 38, 41)
    controls <- c(31, 32, 33, 33, 34, 34, 35, 36, 36, 38, 39)
    r <- roc(controls = controls, cases = patients, direction = "<")     # and with cases = weak
    auc(r); ci.auc(r, method = "delong"); coords(r, "best", best.method = "youden"); coords(r, "all")
    binom.test(x, n)$conf.int
    wilcox.test(controls, patients, exact = FALSE, correct = FALSE)$p.value

The rules of cutoffs and the other intervals are compared on mtcars, with the same R and pROC:

    r <- roc(mtcars$am, mtcars$mpg, direction = "<")          # and other scores; a minus sign where low speaks for it
    coords(r, "best", best.method = "closest.topleft")
    coords(r, "best", best.method = "youden", best.weights = c(1 / cost_ratio, prevalence))
    a <- subset(coords(r, "all"), specificity >= s & is.finite(threshold))
    a <- subset(a, sensitivity == max(sensitivity)); a[which.max(a$specificity), ]
    coords(r, s, input = "specificity")$sensitivity
    a <- as.numeric(auc(r)); plogis(qlogis(a) + c(-1, 1) * qnorm(0.975) * sqrt(var(r)) / (a * (1 - a)))
    set.seed(1); ci.auc(r, method = "bootstrap", boot.n = 20000)
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_stats_roc_more import CARS as MTCARS

import mrmyo.stats
from mrmyo.cohort import load_cohort
from mrmyo.stats import StatsError, roc, roc_points

PATIENTS = [34, 35, 36, 36, 37, 37, 38, 38, 38, 39, 40, 41, 41, 42, 44, 45, 45, 48, 52, 60]
WEAK = [32, 34, 34, 35, 36, 36, 37, 38, 38, 41]
CONTROLS = [31, 32, 33, 33, 34, 34, 35, 36, 36, 38, 39]
R_AUC = {  # auc, low, high, p
    "patients": (0.884090909, 0.765006281, 1.0, 0.000466520826699),  # the interval clipped by R too
    "weak": (0.663636364, 0.422956053, 0.904316674, 0.200974013684),
}
R_BEST = {"patients": (36.5, 0.8, 0.818181818182), "weak": (33.5, 0.9, 0.363636363636)}
R_POINTS = [  # coords(r, "all"): threshold, specificity, sensitivity
    (-np.inf, 0, 1), (31.5, 1 / 11, 1), (32.5, 2 / 11, 1), (33.5, 4 / 11, 1), (34.5, 6 / 11, 0.95), (35.5, 7 / 11, 0.9),
    (36.5, 9 / 11, 0.8), (37.5, 9 / 11, 0.7), (38.5, 10 / 11, 0.55), (39.5, 1, 0.5), (40.5, 1, 0.45), (41.5, 1, 0.35),
    (43.0, 1, 0.3), (44.5, 1, 0.25), (46.5, 1, 0.15), (50, 1, 0.1), (56, 1, 0.05), (np.inf, 1, 0),
]
CARS = MTCARS.assign(fewer=-MTCARS.carb)


def table(positives, negatives=CONTROLS):
    groups = ["IIM"] * len(positives) + ["HC"] * len(negatives)
    return pd.DataFrame({"t2_ms": [*positives, *negatives], "group": groups})


@pytest.mark.parametrize(("name", "positives"), [("patients", PATIENTS), ("weak", WEAK)])
def test_auc_interval_p_and_youden_as_in_r(name, positives):
    row = roc(table(positives)).iloc[0]
    assert row[["auc", "auc_low", "auc_high", "p"]].tolist() == pytest.approx(R_AUC[name], abs=1e-9)
    assert row[["cutoff", "sensitivity", "specificity"]].tolist() == pytest.approx(R_BEST[name], abs=1e-9)
    assert row[["n_positive", "n_negative", "n_missing", "note"]].tolist() == [len(positives), 11, 0, ""]


def test_points_as_in_r():
    expected = [(t, 1 - spec, sens) for t, spec, sens in R_POINTS[::-1]]
    points = roc_points(table(PATIENTS))
    assert list(points.columns) == ["threshold", "fpr", "tpr"]
    np.testing.assert_allclose(points.to_numpy(), expected, atol=1e-12)


def test_area_under_the_points_is_the_auc():
    points = roc_points(table(PATIENTS))
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(R_AUC["patients"][0], abs=1e-9)


@pytest.mark.parametrize(  # binom.test(k, n)$conf.int
    ("k", "n", "low", "high"),
    [(62, 64, 0.891629477775, 0.996192818618), (10, 10, 0.691502892181, 1.0), (0, 7, 0.0, 0.409616397225),
     (15, 20, 0.508954128292, 0.913428530899)],
)
def test_proportions_as_in_r(k, n, low, high):
    row = roc(table([50] * k + [30] * (n - k), [31, 60]), cutoff=40).iloc[0]
    assert row[["sensitivity", "sensitivity_low", "sensitivity_high"]].tolist() == pytest.approx([k / n, low, high])
    row = roc(table([31, 60], [30] * k + [50] * (n - k)), cutoff=40).iloc[0]
    assert row[["specificity", "specificity_low", "specificity_high"]].tolist() == pytest.approx([k / n, low, high])


def test_cohort_prints_the_paper_and_agrees_with_r():
    row = mrmyo.stats.roc(load_cohort()).iloc[0]
    assert row["auc"] == pytest.approx(631 / 640, abs=1e-12)
    assert row["auc_low"] == pytest.approx(0.96383369, abs=1e-8)  # pROC: 0.96383369-1, and p from wilcox.test
    assert row["auc_high"] == 1
    assert row["p"] == pytest.approx(8.7727318139e-07, rel=1e-9)
    assert row["cutoff"] == pytest.approx(36.4, abs=1e-9)
    assert row[["true_positive", "true_negative"]].tolist() == [62, 10]


def test_a_score_at_the_cutoff_is_positive():
    row = roc(table([40, 41], [39, 40]), cutoff=40).iloc[0]
    assert (row["sensitivity"], row["specificity"], row["cutoff_method"]) == (1.0, 0.5, "given")


def test_observed_thresholds_call_the_same_subjects():
    middle, observed = (roc(table(PATIENTS), threshold=t).iloc[0] for t in ("midpoint", "observed"))
    assert observed["cutoff"] == 37  # the lowest score above 36.5
    assert observed["sensitivity"] == middle["sensitivity"] and observed["specificity"] == middle["specificity"]


def test_equal_youden_takes_the_lowest_cutoff_and_says_so():
    row = roc(table([35, 50], [30, 40])).iloc[0]
    assert row["cutoff"] == 32.5
    assert "2 cutoffs share" in row["note"]


def test_exchanging_the_groups_mirrors_the_auc():
    row = roc(table(WEAK), positive="HC").iloc[0]
    # ci.auc(roc(controls = weak, cases = controls, direction = "<"))
    assert [row["auc"], row["auc_low"], row["auc_high"]] == pytest.approx([0.336363636, 0.0956833257, 0.577043947])
    assert "below 0.5" in row["note"]


def test_missing_rows_are_counted_and_change_nothing():
    full = table(PATIENTS)
    holes = pd.concat([full, pd.DataFrame({"t2_ms": [np.nan, 40.0], "group": ["IIM", None]})], ignore_index=True)
    a, b = roc(full).iloc[0], roc(holes).iloc[0]
    assert b["n_missing"] == 2
    assert a.drop("n_missing").equals(b.drop("n_missing"))


def test_one_control_has_no_delong_interval():
    row = roc(table(PATIENTS, [36])).iloc[0]
    assert np.isnan(row["auc_low"]) and np.isnan(row["auc_high"])
    assert "needs two of each" in row["note"]
    assert row["auc"] == pytest.approx(17 / 20)  # 2 below, 2 tied at a half, 16 above
    assert row["specificity_low"] == pytest.approx(0.025)  # binom.test(1, 1)$conf.int


def test_perfect_separation_gives_no_interval_but_a_note():
    row = roc(table([40, 41], [30, 31])).iloc[0]
    assert (row["auc"], row["cutoff"]) == (1.0, 35.5)
    assert np.isnan(row["auc_low"]) and "variance is zero" in row["note"]


def test_a_constant_score_gives_one_half_and_no_cutoff():
    row = roc(table([40, 40], [40, 40])).iloc[0]
    assert row["auc"] == 0.5
    assert row[["auc_low", "p", "cutoff", "sensitivity", "specificity_low"]].isna().all()
    assert row[["true_positive", "true_negative"]].isna().all()
    assert "All scores are equal" in row["note"]


def test_a_score_worse_than_chance_has_no_youden_cutoff():
    row = roc(table([30, 31], [40, 41])).iloc[0]
    assert row["auc"] == 0 and np.isnan(row["cutoff"]) and "better than chance" in row["note"]


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_group_may_be_of_any_kind(dtype):
    data = table(PATIENTS)
    data["group"] = data["group"].astype(dtype)
    assert roc(data).iloc[0]["auc"] == pytest.approx(R_AUC["patients"][0], abs=1e-9)


def test_the_table_is_left_as_it_was():
    data = table(PATIENTS)
    before = data.copy()
    roc(data)
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (table(PATIENTS), {"score": "t2"}, r"no column \['t2'\]"),
        (table(PATIENTS), {"positive": "DM"}, r"no 'DM'.*\['IIM', 'HC'\]"),
        (table(PATIENTS, []), {}, "exactly two groups"),
        (table([40, 41], [30]).assign(group=["IIM", "DM", "HC"]), {}, "exactly two groups"),
        (table([np.nan], [np.nan]), {}, "no value in 2 rows"),
        (table([np.nan], [34]), {}, "0 scores of 'IIM'"),
        (table(["<5", 40]), {}, "1 entries that are no numbers"),
        (table(["40", "41"], ["1"]).astype({"t2_ms": "string"}), {}, "expected numbers"),
        (table([np.inf, 40]), {}, "infinite"),
        (table([0.047, 0.05], [0.034]), {}, "looks like seconds"),
        (table([40, 41]).assign(subject=["A1", "A1", *"bcdefghijkl"]), {}, "13 rows for 12 subjects"),
        (table(PATIENTS), {"cutoff": "best"}, "expected 'youden'"),
        (table(PATIENTS), {"cutoff": np.nan}, "finite"),
        (table(PATIENTS), {"threshold": "middle"}, "midpoint"),
        (table(PATIENTS), {"cutoff": None}, "or a number"),
        (table(PATIENTS), {"cutoff": True}, "or a number"),
        (table(PATIENTS), {"cutoff": "cost"}, "without cost_ratio and prevalence"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": 1}, "without prevalence"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": 0, "prevalence": 0.1}, "cost_ratio=0; expected .* above 0"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": "1", "prevalence": 0.1}, "cost_ratio='1'"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": np.inf, "prevalence": 0.1}, "cost_ratio=inf"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": 1, "prevalence": 1}, "above 0 and below 1"),
        (table(PATIENTS), {"cutoff": "cost", "cost_ratio": 1, "prevalence": np.nan}, "prevalence=nan"),
        (table(PATIENTS), {"cutoff": "specificity"}, "without min_specificity"),
        (table(PATIENTS), {"cutoff": "specificity", "min_specificity": 90}, "at most 1"),
        (table(PATIENTS), {"min_specificity": 0.9}, "min_specificity with cutoff='youden'.*cutoff='specificity'"),
        (table(PATIENTS), {"cutoff": 36.5, "prevalence": 0.1}, "prevalence with cutoff=36.5.*cutoff='cost'"),
        (table(PATIENTS), {"cutoff": "closest", "cost_ratio": 1}, "cost_ratio with cutoff='closest'"),
        (table(PATIENTS), {"interval": "wald"}, "expected one of"),
        (table(PATIENTS), {"interval": "bootstrap", "n_resamples": 2.5}, "whole number"),
        ({"t2_ms": [1]}, {}, "expected a pandas DataFrame"),
    ],
)
def test_refusals(data, options, message):
    with pytest.raises(StatsError, match=message):
        roc(data, **options)


def test_no_subject_is_named_in_an_error():
    with pytest.raises(StatsError) as caught:
        roc(table([40, 41], [30]).assign(subject=["Zoe", "Zoe", "Yan"]))
    assert "Zoe" not in str(caught.value)


def test_points_refuse_too():
    with pytest.raises(StatsError, match="expected one of"):
        roc_points(table(PATIENTS), threshold="middle")


COLUMNS = ["score", "positive", "negative", "n_positive", "n_negative", "n_missing", "auc", "auc_low", "auc_high",
           "auc_method", "p", "p_method", "cutoff", "cutoff_method", "sensitivity", "sensitivity_low",
           "sensitivity_high", "true_positive", "specificity", "specificity_low", "specificity_high", "true_negative",
           "note"]


def cars(score, group, **options):
    return roc(CARS, score=score, group=group, positive=1, **options).iloc[0]


def test_what_is_not_asked_for_is_as_it_was():
    row = roc(table(PATIENTS)).iloc[0]
    assert list(row.index) == COLUMNS
    assert (row["auc_method"], row["cutoff_method"]) == ("DeLong", "Youden, midpoint")
    assert list(cars("mpg", "am", cutoff="closest", interval="logit").index) == COLUMNS


@pytest.mark.parametrize(("score", "group", "cutoff", "specificity", "sensitivity"), [
    ("mpg", "am", 19.45, 0.7894736842105, 0.8461538461538),
    ("light", "vs", -3.325, 0.7222222222222, 0.7857142857143),  # Youden's are −3.49 here and −1.5 below
    ("fewer", "am", -2.5, 0.5263157894737, 0.6153846153846),
])
def test_the_closest_cutoff_as_in_proc(score, group, cutoff, specificity, sensitivity):
    row = cars(score, group, cutoff="closest")
    assert row[["cutoff", "specificity", "sensitivity"]].tolist() == pytest.approx([cutoff, specificity, sensitivity])
    assert row["cutoff_method"] == "closest to (0, 1), midpoint" and "better than chance" not in row["note"]


@pytest.mark.parametrize(("score", "group", "cost_of_false_negative", "prevalence", "cutoff"), [
    ("mpg", "am", 0.5, 0.5, 25.2), ("mpg", "am", 5, 0.2, 19.45), ("mpg", "am", 50, 0.2, 14.85),
    ("mpg", "am", 1, 0.1, 25.2), ("light", "vs", 0.5, 0.5, -2.5425), ("light", "vs", 1, 0.1, -2.0375),
    ("light", "vs", 1, 0.7, -3.49), ("fewer", "am", 2, 0.3, -1.5), ("fewer", "am", 5, 0.2, -2.5),
    ("drat", "vs", 0.5, 0.5, 3.91), ("drat", "vs", 1, 0.1, 4.68), ("drat", "vs", 1, 0.7, 3.655),
])
def test_the_cheapest_cutoff_as_in_proc(score, group, cost_of_false_negative, prevalence, cutoff):
    row = cars(score, group, cutoff="cost", cost_ratio=1 / cost_of_false_negative, prevalence=prevalence)
    assert row["cutoff"] == pytest.approx(cutoff)
    assert f"prevalence {prevalence:g}, midpoint" in row["cutoff_method"]


@pytest.mark.parametrize(("cost_of_false_negative", "prevalence", "whom"), [
    (0.5, 0.5, "nobody"), (1, 0.1, "nobody"), (50, 0.2, "everybody"), (1, 0.7, "everybody"),
])
def test_where_proc_puts_the_cheapest_cutoff_at_infinity_there_is_none(cost_of_false_negative, prevalence, whom):
    row = cars("fewer", "am", cutoff="cost", cost_ratio=1 / cost_of_false_negative, prevalence=prevalence)
    assert np.isnan(row["cutoff"]) and np.isnan(row["sensitivity"])
    assert row["note"] == f"No cutoff costs less than calling {whom} positive."


def test_the_cheapest_cutoff_costs_least_in_money():
    """Of 1000 tested, counted out: what a missed patient costs is 1, what a false alarm costs is the ratio."""
    rng = np.random.default_rng(2)
    pos, neg = rng.integers(30, 60, 40), rng.integers(20, 45, 25)
    for ratio, prevalence in ((0.1, 0.1), (0.5, 0.3), (2, 0.4), (5, 0.8)):
        row = roc(table(pos, neg), cutoff="cost", cost_ratio=ratio, prevalence=prevalence).iloc[0]
        bills = {cut: 1000 * (prevalence * np.mean(pos < cut) + (1 - prevalence) * ratio * np.mean(neg >= cut))
                 for cut in np.arange(19.5, 61)}
        cheapest = min(bills.values())
        assert 1000 * prevalence * (1 - row["sensitivity"]) + 1000 * (1 - prevalence) * ratio * (
            1 - row["specificity"]) == pytest.approx(cheapest)


def test_equal_costs_at_a_prevalence_of_one_half_are_youden():
    youden, cost = cars("drat", "vs"), cars("drat", "vs", cutoff="cost", cost_ratio=1, prevalence=0.5)
    assert youden.drop(["cutoff_method"]).equals(cost.drop(["cutoff_method"]))


@pytest.mark.parametrize(("score", "group", "least", "cutoff", "specificity", "sensitivity", "interpolated"), [
    ("mpg", "am", 0.5, 19.45, 0.7894736842105, 0.8461538461538, 0.8461538461538),
    ("mpg", "am", 0.75, 19.45, 0.7894736842105, 0.8461538461538, 0.8461538461538),
    ("mpg", "am", 0.8, 22.15, 0.8947368421053, 0.5384615384615, 0.6),
    ("mpg", "am", 0.9, 25.2, 1.0, 0.4615384615385, 0.5307692307692),
    ("mpg", "am", 1, 25.2, 1.0, 0.4615384615385, 0.4615384615385),
    ("light", "vs", 0.9, -2.5425, 0.9444444444444, 0.5, 0.5),
    ("drat", "vs", 0.75, 3.75, 0.7777777777778, 0.7142857142857, 0.7142857142857),
    ("drat", "vs", 0.9, 4.68, 1.0, 0.07142857142857, 0.1285714285714),
])
def test_the_most_sensitive_of_the_specific_cutoffs_as_in_proc(
        score, group, least, cutoff, specificity, sensitivity, interpolated):
    row = cars(score, group, cutoff="specificity", min_specificity=least)
    assert row[["cutoff", "specificity", "sensitivity"]].tolist() == pytest.approx([cutoff, specificity, sensitivity])
    assert row["cutoff_method"] == f"highest sensitivity at a specificity of at least {least:g}, midpoint"
    assert row["sensitivity"] <= interpolated + 1e-12  # coords(r, s, "specificity") draws a line to the corner before


def test_of_cutoffs_that_are_equally_sensitive_the_most_specific_is_given():
    note = cars("mpg", "am", cutoff="specificity", min_specificity=0.5)["note"]
    assert "5 cutoffs share the highest sensitivity at that specificity; the highest is given." in note
    exact = roc(table([50] * 9 + [20], [30] * 9 + [60]), cutoff="specificity", min_specificity=0.9).iloc[0]
    assert (exact["cutoff"], exact["specificity"], exact["sensitivity"]) == (40, 0.9, 0.9)  # 9 of 10 are 0.9


def test_a_specificity_that_no_cutoff_reaches():
    row = cars("fewer", "am", cutoff="specificity", min_specificity=0.9)  # nor does any finite one in pROC
    assert np.isnan(row["cutoff"]) and row["note"] == "No cutoff with a specificity of at least 0.9 finds a positive."


@pytest.mark.parametrize("options", [
    {"cutoff": "closest"}, {"cutoff": "cost", "cost_ratio": 0.2, "prevalence": 0.3},
    {"cutoff": "specificity", "min_specificity": 0.8},
], ids=lambda options: options["cutoff"])
def test_on_the_scores_every_rule_calls_the_same_subjects(options):
    middle, observed = (roc(table(PATIENTS), threshold=t, **options).iloc[0] for t in ("midpoint", "observed"))
    assert observed["cutoff"] == min(v for v in PATIENTS + CONTROLS if v > middle["cutoff"])
    assert observed["true_positive"] == middle["true_positive"] and observed["cutoff_method"].endswith("observed")


@pytest.mark.parametrize("options", [
    {"cutoff": "closest"}, {"cutoff": "cost", "cost_ratio": 1, "prevalence": 0.5},
    {"cutoff": "specificity", "min_specificity": 0.5},
], ids=lambda options: options["cutoff"])
def test_no_rule_finds_a_cutoff_where_there_is_none(options):
    constant = roc(table([40, 40], [40, 40]), **options).iloc[0]
    assert np.isnan(constant["cutoff"]) and constant["cutoff_method"] and "All scores are equal" in constant["note"]
    reverse = roc(table([30, 31], [40, 41]), **options).iloc[0]
    assert np.isnan(reverse["cutoff"]) and "No cutoff" in reverse["note"]


def test_ties_between_cutoffs_are_told_and_those_no_better_than_chance():
    both = roc(table([35, 50], [30, 40]), cutoff="closest").iloc[0]  # (0.5, 1) and (0, 0.5)
    assert both["cutoff"] == 32.5 and "2 cutoffs are equally close to (0, 1); the lowest" in both["note"]
    cost = roc(table([35, 50], [30, 40]), cutoff="cost", cost_ratio=2, prevalence=2 / 3).iloc[0]
    assert cost["cutoff"] == 32.5 and "2 cutoffs cost the same; the lowest" in cost["note"]
    poor = roc(table([30, 45], [31, 46]), cutoff="closest").iloc[0]
    assert poor["cutoff"] == 38 and "The cutoff does no better than chance." in poor["note"]


@pytest.mark.parametrize(("score", "group", "logit", "bootstrap"), [
    ("mpg", "am", (0.6250383955169, 0.9346058004352), (0.66194332, 0.95748988)),
    ("qsec", "vs", (0.7498716746718, 0.9949069748916), (0.85714286, 1)),
    ("light", "am", (0.754772346593, 0.9844733933787), (0.82186235, 1)),
    ("hp", "am", (0.1262310568108, 0.5297382907965), (0.097165992, 0.50202429)),
    ("drat", "vs", (0.5351535984112, 0.8969367171074), (0.56746032, 0.92857143)),
])
def test_other_intervals_of_the_area_as_in_proc(score, group, logit, bootstrap):
    usual, other, again = (cars(score, group, interval=interval) for interval in ("delong", "logit", "bootstrap"))
    assert (other["auc_low"], other["auc_high"]) == pytest.approx(logit, abs=1e-9)
    assert (again["auc_low"], again["auc_high"]) == pytest.approx(bootstrap, abs=0.015)
    assert usual["auc"] == other["auc"] == again["auc"] and usual["p"] == other["p"]
    assert other["auc_method"] == "DeLong, logit scale"
    assert again["auc_method"] == "bootstrap by group, percentiles of 2000 resamples"


def test_the_bootstrap_repeats_itself_and_heeds_the_seed():
    first, same, other = (roc(table(WEAK), interval="bootstrap", n_resamples=200, seed=s).iloc[0] for s in (1, 1, 2))
    assert first.equals(same) and first["auc_low"] != other["auc_low"]


@pytest.mark.parametrize("interval", ["logit", "bootstrap"])
@pytest.mark.parametrize(("positives", "negatives", "area", "note"), [
    ([40, 41], [30, 31], 1.0, {"logit": "AUC of exactly 1", "bootstrap": "the same AUC"}),
    ([30, 31], [40, 41], 0.0, {"logit": "AUC of exactly 0", "bootstrap": "the same AUC"}),
    ([40, 40], [40, 40], 0.5, {"logit": "variance is zero", "bootstrap": "the same AUC"}),
    ([40, 41], [36], 1.0, {"logit": "needs two of each", "bootstrap": "the bootstrap needs two of each"}),
], ids=["one", "zero", "tied", "single"])
def test_no_interval_where_nothing_varies(positives, negatives, area, note, interval):
    row = roc(table(positives, negatives), interval=interval).iloc[0]
    assert row["auc"] == area and np.isnan(row["auc_low"]) and np.isnan(row["auc_high"])
    assert note[interval] in row["note"]


def test_near_one_the_logit_interval_covers_better_than_the_usual():
    """Two normal groups of 25, 1000 samples; the area is Φ(d / √2) = 0.966."""
    rng = np.random.default_rng(8)
    held = {"delong": 0, "logit": 0}
    for _ in range(1000):
        data = table(40 + 2.58 + rng.standard_normal(25), 40 + rng.standard_normal(25))
        for interval in held:
            row = roc(data, interval=interval, cutoff=40).iloc[0]
            held[interval] += bool(row["auc_low"] <= 0.96595 <= row["auc_high"])  # pnorm(2.58 / sqrt(2))
    assert held["delong"] < 920 < 930 <= held["logit"]


@pytest.mark.parametrize("kind", ["int64", "Int64", "float", "bool", "boolean", "category", "object"])
@pytest.mark.parametrize("positive", [1, True, 1.0], ids=repr)
def test_a_positive_of_another_kind_is_the_value_it_equals(kind, positive):
    data = table(PATIENTS)
    coded = data.assign(group=(data.group == "IIM").astype(int).astype(kind))
    row, expected = roc(coded, positive=positive).iloc[0], roc(data).iloc[0]
    assert (row.auc, row.n_positive, row.cutoff) == (expected.auc, expected.n_positive, expected.cutoff)


def test_a_seed_gives_the_same_interval_in_any_order_of_rows():
    data = table(PATIENTS)
    shuffled = data.sample(frac=1, random_state=0)
    one, other = (roc(rows, interval="bootstrap", n_resamples=100) for rows in (data, shuffled))
    pd.testing.assert_frame_equal(one, other)
