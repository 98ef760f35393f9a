"""The covariate-adjusted ROC curve against base R on mtcars, a known truth, and simulation.

R 4.2.2, of base and stats only (ROCnReg is not there); the first number is the area, then the placement values:

    cars <- transform(mtcars, cyl = factor(cyl))
    adjusted <- function(score, case, model) {
      f <- lm(model, cars[case == 0, ]); cases <- cars[case == 1, ]
      own <- (cases[[score]] - predict(f, cases)) / sigma(f)
      placed <- 1 - ecdf(residuals(f) / sigma(f))(own)
      c(1 - mean(placed), placed) }
    adjusted("mpg", cars$am, mpg ~ hp)           # 0.8744939271255, and so on
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_stats_roc_more import CARS as MTCARS

from mrmyo.cohort import load_cohort
from mrmyo.stats import StatsError, roc
from mrmyo.stats.roc_adjusted import adjusted_roc, adjusted_roc_points

CYL = [6, 6, 4, 6, 8, 6, 8, 4, 4, 6, 6, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 8, 8, 8, 8, 4, 4, 4, 8, 6, 8, 4]
CARS = MTCARS.assign(cyl=[f"{number} cylinders" for number in CYL])
AM = {"score": "mpg", "group": "am", "positive": 1}
R_PLACED = [9, 9, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]  # of mpg ~ hp, in nineteenths


def sample(rng, m, n, *, d=1.2, slope=2.0, shift=1.0):
    """Scores that a covariate moves, and disease by d; the covariate is shifted in the patients."""
    age = rng.standard_normal(m + n) + np.repeat([shift, 0], [m, n])
    t2 = 40 + slope * age + rng.standard_normal(m + n) + np.repeat([d, 0], [m, n])
    return pd.DataFrame({"t2_ms": t2, "age": age, "group": ["IIM"] * m + ["HC"] * n})


@pytest.mark.parametrize(("score", "group", "covariates", "area"), [
    ("mpg", "am", ["hp"], 0.8744939271255), ("mpg", "am", ["hp", "cyl"], 0.88259109311741),
    ("mpg", "am", ["wt"], 0.64777327935223), ("mpg", "am", ["qsec", "carb"], 0.97975708502024),
    ("qsec", "vs", ["hp"], 0.8690476190476), ("qsec", "vs", ["hp", "wt"], 0.99603174603175),
    ("drat", "vs", ["wt"], 0.5674603174603),
], ids=lambda value: "+".join(value) if isinstance(value, list) else None)
def test_the_area_as_lm_and_ecdf_of_r(score, group, covariates, area):
    row = adjusted_roc(CARS, score=score, group=group, positive=1, covariates=covariates, n_resamples=50).iloc[0]
    assert row.adjusted_auc == pytest.approx(area, abs=1e-12)
    assert row.auc == pytest.approx(roc(CARS, score=score, group=group, positive=1).auc.item())
    assert row.difference == pytest.approx(row.adjusted_auc - row.auc) and row.covariates == ", ".join(covariates)
    assert row.adjusted_auc_low < area <= row.adjusted_auc_high


def test_the_row_and_its_columns():
    row = adjusted_roc(CARS, covariates="hp", **AM).iloc[0]
    assert list(row.index) == ["n_positive", "n_negative", "n_missing", "covariates", "auc", "adjusted_auc",
                               "adjusted_auc_low", "adjusted_auc_high", "difference", "method", "note"]
    assert (row.n_positive, row.n_negative, row.n_missing) == (13, 19, 0)
    assert row.method == ("Janes–Pepe, linear model in the negatives; bootstrap by group, percentiles of 500 "
                          "resamples, 95%")


def test_the_points_are_the_distribution_of_the_placement_values_and_bound_the_area():
    points = adjusted_roc_points(CARS, covariates="hp", **AM)
    assert list(points.columns) == ["fpr", "tpr"]
    corners = [(0, 0), (0, 9 / 13), (5 / 19, 9 / 13), (5 / 19, 10 / 13), (8 / 19, 10 / 13), (8 / 19, 11 / 13),
               (9 / 19, 11 / 13), (9 / 19, 1), (1, 1)]
    np.testing.assert_allclose(points.to_numpy(), corners, atol=1e-12)
    for t in np.linspace(0, 1, 50):
        assert points.tpr[points.fpr <= t].max() == pytest.approx(np.mean(np.array(R_PLACED) / 19 <= t))
    assert np.trapezoid(points.tpr, points.fpr) == pytest.approx(0.8744939271255)


def test_the_truth_of_two_normal_groups():
    """score = a + b x + d in patients + noise, x higher in patients: the adjusted area is Φ(d / √2) = 0.802."""
    row = adjusted_roc(sample(np.random.default_rng(1), 20_000, 20_000), covariates="age", n_resamples=20).iloc[0]
    assert row.adjusted_auc == pytest.approx(stats.norm.cdf(1.2 / np.sqrt(2)), abs=0.01)
    crude = stats.norm.cdf((1.2 + 2) / np.sqrt(2 * (1 + 4)))  # both differ by 1 in x, which has a slope of 2
    assert row.auc == pytest.approx(crude, abs=0.01) and row.difference < -0.03
    points = adjusted_roc_points(sample(np.random.default_rng(1), 20_000, 20_000), covariates="age")
    for t in (0.05, 0.1, 0.3, 0.6):
        truth = stats.norm.cdf(1.2 + stats.norm.ppf(t))
        assert np.interp(t, points.fpr, points.tpr) == pytest.approx(truth, abs=0.015)


def test_the_truth_with_categories():
    """Two scanners that differ by 4 ms, most patients on the one and most controls on the other."""
    rng = np.random.default_rng(3)
    ill = np.repeat([True, False], 5000)
    scanner = np.where(rng.random(10_000) < np.where(ill, 0.8, 0.3), "new", "old")
    t2 = 40 + 4 * (scanner == "new") + 1.0 * ill + rng.standard_normal(10_000)
    table = pd.DataFrame({"t2_ms": t2, "scanner": scanner, "group": np.where(ill, "IIM", "HC")})
    row = adjusted_roc(table, covariates="scanner", n_resamples=20).iloc[0]
    assert row.adjusted_auc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.015) and row.auc > 0.85
    for kind in ("category", "object", "string"):
        same = adjusted_roc(table.astype({"scanner": kind}), covariates="scanner", n_resamples=20).iloc[0]
        assert same.equals(row)
    truth = adjusted_roc(table.assign(scanner=table.scanner == "new"), covariates="scanner", n_resamples=20).iloc[0]
    assert truth.equals(row)


def test_a_covariate_that_says_nothing_changes_little():
    rng = np.random.default_rng(6)
    moved = []
    for _ in range(30):
        table = sample(rng, 60, 60, slope=0, shift=0)
        moved.append(adjusted_roc(table, covariates="age", n_resamples=20).difference.item())
    assert abs(np.mean(moved)) < 0.005 and np.max(np.abs(moved)) < 0.06


def test_the_interval_holds_the_truth_nearly_as_often_as_it_promises():
    """400 samples of 40 and 40; the true area is Φ(1.2 / √2). Of 2500 other samples it was held in 0.932."""
    rng, truth = np.random.default_rng(11), stats.norm.cdf(1.2 / np.sqrt(2))
    held = 0
    for _ in range(400):
        row = adjusted_roc(sample(rng, 40, 40), covariates="age", n_resamples=200).iloc[0]
        held += row.adjusted_auc_low <= truth <= row.adjusted_auc_high
    assert held / 400 == pytest.approx(0.932, abs=0.03)


def test_the_interval_repeats_itself_heeds_the_seed_and_narrows_with_the_level():
    table = sample(np.random.default_rng(4), 30, 30)
    first, same, other = (adjusted_roc(table, covariates="age", seed=seed).iloc[0] for seed in (0, 0, 1))
    assert first.equals(same) and first.adjusted_auc_low != other.adjusted_auc_low
    narrow = adjusted_roc(table, covariates="age", level=0.8).iloc[0]
    assert first.adjusted_auc_low < narrow.adjusted_auc_low < narrow.adjusted_auc_high < first.adjusted_auc_high
    assert "80%" in narrow.method


def test_neither_units_nor_the_order_of_covariates_or_rows_matter():
    plain = adjusted_roc(CARS, covariates=["hp", "cyl"], **AM).iloc[0]
    scaled = CARS.assign(hp=CARS.hp * 1e6 - 3e7, mpg=CARS.mpg * 1e-3 + 5).rename(index=lambda i: f"car {i}")
    for table, names in ((CARS, ["cyl", "hp"]), (scaled, ["hp", "cyl"])):
        again = adjusted_roc(table, covariates=names, **AM).iloc[0]
        assert again[["adjusted_auc", "adjusted_auc_low"]].tolist() == pytest.approx(
            plain[["adjusted_auc", "adjusted_auc_low"]].tolist())
    turned = adjusted_roc(CARS[::-1], covariates=["hp", "cyl"], **AM).iloc[0]
    assert turned.adjusted_auc == pytest.approx(plain.adjusted_auc)


def test_heavy_ties_count_by_half_within_and_across_categories():
    """Tenths of milliseconds, 5.3 ms more at the second of two sites: by all pairs of residuals, in whole numbers."""
    rng = np.random.default_rng(3)
    tenths = np.concatenate([rng.integers(301, 305, 30), np.repeat(rng.integers(300, 304, 15), 2)])
    site = np.tile(["a", "b"], 30)
    table = pd.DataFrame({"t2_ms": (tenths + 53 * (site == "b")) / 10, "site": site,
                          "group": np.repeat(["IIM", "HC"], 30)})
    rest = 15 * tenths - tenths[30::2].sum()  # the controls of both sites are alike but for the 5.3 ms
    pairs = np.subtract.outer(rest[:30], rest[30:])
    assert (pairs == 0).sum() > 50
    row = adjusted_roc(table, covariates="site", n_resamples=20).iloc[0]
    assert row.adjusted_auc == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)


def test_missing_rows_are_left_out_counted_and_change_nothing():
    whole = adjusted_roc(CARS, covariates=["hp", "cyl"], **AM).iloc[0]
    more = pd.concat([CARS, CARS.head(4)], ignore_index=True).astype({"am": object})
    more.loc[32, "mpg"], more.loc[33, "hp"], more.loc[34, "cyl"], more.loc[35, "am"] = np.nan, np.nan, None, None
    for kinds in ({}, {"hp": "Float64", "cyl": "string"}, {"cyl": "category"}, {"cyl": object}):
        row = adjusted_roc(more.astype(kinds), covariates=["hp", "cyl"], **AM).iloc[0]
        assert row.n_missing == 4 and row.drop("n_missing").equals(whole.drop("n_missing"))
    some = CARS.assign(many=(CARS.cyl == "8 cylinders").astype("boolean").where(CARS.index > 0))
    assert adjusted_roc(some, covariates="many", **AM).n_missing.item() == 1


def test_the_note_warns_of_few_negatives_extrapolation_and_thin_categories():
    note = adjusted_roc(CARS, covariates=["hp", "cyl"], **AM).note.item()
    assert "19 negatives for 3 terms: fewer than ten for each" in note
    assert "hp: 3 of 13 positives lie outside the negatives' 62 to 245, where the model extrapolates." in note
    assert "ten" not in adjusted_roc(sample(np.random.default_rng(0), 5, 10), covariates="age").note.item()
    thin = CARS.drop(index=[7, 8])  # of the three automatic cars with four cylinders one is left
    note = adjusted_roc(thin, covariates="cyl", **AM).note.item()
    assert "cyl: a single negative stands for '4 cylinders'." in note
    assert "resamples whose negatives could not support the model were drawn again" in note


def test_no_warning_where_all_is_well():
    table = sample(np.random.default_rng(5), 20, 200, shift=0)
    table["age"] = table.age.clip(-2, 2)
    assert adjusted_roc(table, covariates="age").note.item() == ""


def test_no_interval_for_one_positive_or_for_perfect_separation():
    table = sample(np.random.default_rng(2), 1, 20)
    row = adjusted_roc(table, covariates="age").iloc[0]
    assert np.isnan(row.adjusted_auc_low) and "the bootstrap needs two" in row.note and 0 <= row.adjusted_auc <= 1
    far = sample(np.random.default_rng(2), 10, 20, d=40)
    row = adjusted_roc(far, covariates="age").iloc[0]
    assert row.adjusted_auc == 1 and np.isnan(row.adjusted_auc_high) and "the same area" in row.note


def test_no_interval_where_hardly_a_resample_supports_the_model():
    letters = [*"abcdefgh", *"aaaa"]  # of most letters one: a resample that holds all is rare
    table = pd.DataFrame({"t2_ms": np.random.default_rng(1).normal(40, 3, 15), "site": [*letters, *"abc"],
                          "group": ["HC"] * 12 + ["IIM"] * 3})
    row = adjusted_roc(table, covariates="site", n_resamples=50).iloc[0]
    assert np.isnan(row.adjusted_auc_low) and "could not support the model: no interval" in row.note
    assert 0 <= row.adjusted_auc <= 1


def test_the_cohort_by_a_covariate_that_says_nothing():
    table = load_cohort()
    row = adjusted_roc(table.assign(other=np.random.default_rng(0).standard_normal(len(table))),
                       covariates="other").iloc[0]
    assert row.auc == pytest.approx(631 / 640) and row.adjusted_auc > 0.95


FEW = sample(np.random.default_rng(0), 5, 6)


@pytest.mark.parametrize(("table", "options", "message"), [
    (FEW, {"covariates": []}, "no covariate"),
    (FEW, {"covariates": "sex"}, r"no column \['sex'\]"),
    (FEW, {"covariates": "age", "positive": "DM"}, "no 'DM'"),
    (FEW.assign(group="IIM"), {"covariates": "age"}, "exactly two groups"),
    (FEW.assign(group=["DM", *FEW.group[1:]]), {"covariates": "age"}, "exactly two groups"),
    (FEW.assign(subject="a"), {"covariates": "age"}, "11 rows for 1 subjects"),
    (FEW.assign(t2_ms="x"), {"covariates": "age"}, "no numbers"),
    (FEW.assign(age=3.0), {"covariates": "age"}, "'age' is the same in all 6 complete negatives"),
    (FEW.assign(age=FEW.age.where(FEW.group == "IIM", 3)), {"covariates": "age"}, "the same in all 6"),
    (FEW.assign(sex="f"), {"covariates": "sex"}, "'sex' is the same in all 6"),
    (FEW, {"covariates": "group"}, "'group' is the same in all 6"),
    (FEW, {"covariates": "t2_ms"}, "leave no spread in 't2_ms'"),
    (FEW.assign(t2_ms=40.0), {"covariates": "age"}, "leave no spread"),
    (FEW, {"covariates": ["age", "age"]}, "tell the others"),
    (FEW.assign(years=2 * FEW.age + 1), {"covariates": ["age", "years"]}, "tell the others"),
    (FEW.assign(site=[*"cabab", *"ababab"]), {"covariates": "site"}, r"\['c'\] among the positives"),
    (FEW.assign(site=[*"abcde", *"abcdef"]), {"covariates": "site"}, "6 complete negatives for 5 terms.*expected 7"),
    (FEW.tail(8), {"covariates": ["age"], "positive": "HC"}, "2 complete negatives for 1 terms.*expected 3"),
    (FEW.assign(age=FEW.age.where(FEW.group == "HC")), {"covariates": "age"}, "0 rows of 'IIM'"),
    (FEW.assign(age=FEW.age.where(FEW.group == "IIM")), {"covariates": "age"}, "and 0 of the others"),
    (FEW.assign(age=np.nan), {"covariates": "age"}, "no value in 11 rows"),
    (FEW.assign(age=[*[40] * 10, "<18"]), {"covariates": "age"}, "1 entries that are no numbers"),
    (FEW.assign(site=["1", "2"] * 5 + ["1"]), {"covariates": "site"}, "astype"),
    (FEW.assign(day=pd.Timestamp("2024-01-01")), {"covariates": "day"}, "expected numbers"),
    (FEW.assign(age=[np.inf, *[1] * 10]), {"covariates": "age"}, "infinite"),
    ([1], {"covariates": "age"}, "expected a pandas DataFrame"),
])
def test_refusals(table, options, message):
    with pytest.raises(StatsError, match=message):
        adjusted_roc(table, **options)
    with pytest.raises(StatsError, match=message):
        adjusted_roc_points(table, **options)


@pytest.mark.parametrize(("options", "words"), [
    ({"n_resamples": 5}, "at least 20"), ({"n_resamples": 100.0}, "at least 20"), ({"level": 95}, "below 1"),
])
def test_refusals_of_the_bootstrap(options, words):
    with pytest.raises(StatsError, match=words):
        adjusted_roc(FEW, covariates="age", **options)


def test_the_table_is_left_as_it_was():
    before = CARS.copy()
    adjusted_roc(CARS, covariates=["hp", "cyl"], n_resamples=20, **AM)
    pd.testing.assert_frame_equal(CARS, before)


def test_a_seed_gives_the_same_interval_in_any_order_of_rows():
    table = sample(np.random.default_rng(3), 15, 20)
    shuffled = table.sample(frac=1, random_state=1)
    one, other = (adjusted_roc(rows, covariates="age", n_resamples=60).iloc[0] for rows in (table, shuffled))
    limits = ["adjusted_auc", "adjusted_auc_low", "adjusted_auc_high"]
    assert one[limits].tolist() == pytest.approx(other[limits].tolist(), abs=1e-12)


def test_names_among_the_covariates_are_not_printed():
    with pytest.raises(StatsError, match="5 different values among the positives") as caught:
        adjusted_roc(FEW.assign(subject=[f"Anna{letter}" for letter in "abcdefghijk"]), covariates="subject")
    assert "Anna" not in str(caught.value)


@pytest.mark.parametrize("kind", ["int64", "Int64", "float", "bool", "boolean", "category", "object"])
def test_a_positive_of_another_kind_is_the_value_it_equals(kind):
    coded = FEW.assign(group=(FEW.group == "IIM").astype(int).astype(kind))
    expected = adjusted_roc(FEW, covariates="age", n_resamples=20).adjusted_auc.item()
    for positive in (1, True, 1.0):
        assert adjusted_roc(coded, covariates="age", positive=positive, n_resamples=20).adjusted_auc.item() == expected
