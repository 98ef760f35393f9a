"""ROC analysis against R.

The data are made up here, with heavy ties. R 4.2.2 Patched (2022-11-10 r83330), pROC 1.18.0:

    patients <- c(34, 35, 36, 36, 37, 37, 38, 38, 38, 39, 40, 41, 41, 42, 44, 45, 45, 48, 52, 60)
    weak     <- c(32, 34, 34, 35, 36, 36, 37, 38, 38, 41)
    controls <- c(31, 32, 33, 33, 34, 34, 35, 36, 36, 38, 39)
    r <- roc(controls = controls, cases = patients, direction = "<")     # and with cases = weak
    auc(r); ci.auc(r, method = "delong"); coords(r, "best", best.method = "youden"); coords(r, "all")
    binom.test(x, n)$conf.int
    wilcox.test(controls, patients, exact = FALSE, correct = FALSE)$p.value
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
