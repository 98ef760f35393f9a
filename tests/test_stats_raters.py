"""Readers and repeats, against psych 2.2.9 (ICC, lmer = FALSE) and vcd 1.4.11 (Kappa) in R 4.2.2, and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, icc, repeatability, weighted_kappa

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
SLEEP = np.array([[0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
                  [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]]).T


def long(ratings):
    """One row per subject and rater."""
    n, k = ratings.shape
    return pd.DataFrame({"subject": np.repeat(np.arange(n), k), "rater": np.tile(list("ABCD")[:k], n),
                         "score": ratings.ravel().astype(float)})


@pytest.mark.parametrize(("ratings", "expected"), [
    (SHROUT_FLEISS, {  # also printed, to two decimals, in Shrout and Fleiss 1979, table 4
        "ICC1": (0.1657417684, -0.13293232487, 0.7225600623), "ICC2": (0.2897637795, 0.01878651337, 0.7610843696),
        "ICC3": (0.7148407148, 0.34246476503, 0.9458582600), "ICC1k": (0.4427971337, -0.88444215524, 0.9124154203),
        "ICC2k": (0.6200505476, 0.07113681530, 0.9272320402), "ICC3k": (0.9093155424, 0.67567471382, 0.9858916782)}),
    (SLEEP, {
        "ICC1": (0.5397340898, -0.06086911466, 0.8597512282), "ICC2": (0.5962182529, -0.09802381370, 0.8935003865),
        "ICC3": (0.7901550411, 0.35875680710, 0.9434151286), "ICC1k": (0.7010744172, -0.12962860791, 0.9245873482),
        "ICC2k": (0.7470385103, -0.21735344057, 0.9437551668), "ICC3k": (0.8827783326, 0.52806625177, 0.9708837960)}),
])
def test_all_six_as_psych(ratings, expected):
    table = icc(long(ratings)).set_index("type")
    for kind, (value, low, high) in expected.items():
        row = table.loc[kind]
        assert (row.icc, row.icc_low, row.icc_high) == pytest.approx((value, low, high), abs=1e-8), kind
    if ratings is SHROUT_FLEISS:
        assert table.p["ICC2"] == pytest.approx(0.0001345665165) and table.f["ICC1"] == pytest.approx(1.794678492)


def test_subjects_that_lack_a_rating_are_left_out_and_counted():
    table = long(SHROUT_FLEISS).drop(index=5)
    row = icc(table).iloc[0]
    assert (row.n_subjects, row.n_raters, row.n_missing) == (5, 4, 1)
    assert row.icc == icc(long(np.delete(SHROUT_FLEISS, 1, axis=0))).icc.iloc[0]


def test_refusals_of_icc():
    table = long(SHROUT_FLEISS)
    with pytest.raises(StatsError, match="second ratings"):
        icc(pd.concat([table, table.head(1)]))
    with pytest.raises(StatsError, match="two of each"):
        icc(table[table.rater == "A"])
    same = icc(table.assign(score=3.0))
    assert same.icc.isna().all() and "all ratings are the same" in same.note[0]
    perfect = icc(long(np.repeat(np.arange(5.0)[:, None], 2, axis=1))).set_index("type")
    assert perfect.icc["ICC2"] == 1 and perfect.icc["ICC3"] == 1


COUNTS = np.array([[11, 4, 1, 0], [2, 8, 5, 1], [0, 3, 9, 2], [0, 1, 2, 7]])


def readings():
    pairs = [(i, j) for i, j in np.ndindex(4, 4) for _ in range(COUNTS[i, j])]
    return pd.DataFrame(pairs, columns=["one", "two"])


@pytest.mark.parametrize(("weights", "value", "se"), [
    ("linear", 0.6355748373102, 0.0729791344895), ("quadratic", 0.7591743119266, 0.0633867754528),
    ("none", 0.4961439588689, 0.0876464221929),
])
def test_kappa_as_vcd(weights, value, se):
    row = weighted_kappa(readings(), first="one", second="two", weights=weights).iloc[0]
    assert (row.kappa, row.se) == pytest.approx((value, se), abs=1e-10)
    assert row.kappa_low == pytest.approx(value - 1.959963985 * se) and row.agreement == pytest.approx(35 / 56)


def test_kappa_knows_the_order_of_words_and_refuses_others():
    words = readings().replace({0: "none", 1: "mild", 2: "moderate", 3: "severe"})
    scale = ["none", "mild", "moderate", "severe"]
    assert weighted_kappa(words, first="one", second="two", categories=scale).kappa.item() == pytest.approx(0.75917431)
    assert weighted_kappa(words, first="one", second="two").kappa.item() < 0.7  # in the order of the alphabet
    with pytest.raises(StatsError, match=r"\['severe'\]"):
        weighted_kappa(words, first="one", second="two", categories=scale[:3])
    with pytest.raises(StatsError, match="expected 'quadratic'"):
        weighted_kappa(words, first="one", second="two", weights="cubic")
    with pytest.raises(StatsError, match="no row"):
        weighted_kappa(words.assign(two=None), first="one", second="two")
    one = weighted_kappa(words.assign(one="mild", two="mild"), first="one", second="two").iloc[0]
    assert np.isnan(one.kappa) and "no kappa" in one.note


def test_repeats_against_a_known_spread():
    rng = np.random.default_rng(4)
    subject = np.repeat(np.arange(400), 3)
    table = pd.DataFrame({"subject": subject, "t2_ms": 40 + 5 * rng.standard_normal(400)[subject]
                          + 0.6 * rng.standard_normal(1200)})
    row = repeatability(pd.concat([table, pd.DataFrame({"subject": [-1], "t2_ms": [35.0]})])).iloc[0]
    assert row.within_sd == pytest.approx(0.6, rel=0.05) and row.within_sd_low < 0.6 < row.within_sd_high
    assert row.coefficient == pytest.approx(1.96 * np.sqrt(2) * row.within_sd, rel=1e-4) and row.n_single == 1
    pairs = rng.standard_normal((20_000, 2)) * row.within_sd
    assert (np.abs(np.diff(pairs)) < row.coefficient).mean() == pytest.approx(0.95, abs=0.01)
    # of pairs it is the root of half the mean squared difference
    two = pd.DataFrame({"subject": np.repeat(np.arange(10), 2), "t2_ms": 40 + SLEEP.ravel()})
    assert repeatability(two).within_sd.item() == pytest.approx(np.sqrt((np.diff(SLEEP) ** 2).mean() / 2))
    with pytest.raises(StatsError, match="repeated measurements"):
        repeatability(table.drop_duplicates("subject"))


def test_rows_without_a_subject_or_a_rater_are_no_subject_and_no_rater():
    table = long(SHROUT_FLEISS).astype({"subject": object, "rater": object})
    expected = icc(table[table.subject > 0])
    for nothing in (None, np.nan):
        nameless = table.assign(subject=table.subject.where(table.subject > 0, nothing))
        found = icc(nameless)
        pd.testing.assert_frame_equal(found.drop(columns="n_missing"), expected.drop(columns="n_missing"))
        assert (found.n_missing == 4).all() and (found.n_subjects == 5).all()
    extra = pd.DataFrame({"subject": [1, 2], "rater": [None, None], "score": [3.0, 4.0]})
    found = icc(pd.concat([table, extra]))
    assert found.icc.tolist() == icc(table).icc.tolist() and found.n_raters[0] == 4 and found.n_missing[0] == 2
    alone = table[table.rater == "A"].assign(rater="A")
    with pytest.raises(StatsError, match="all of 1 raters"):
        icc(pd.concat([alone, extra]))


def test_ratings_that_do_not_vary_have_no_correlation_whatever_arithmetic_leaves():
    for value in (3.0, 0.1, 1e9 / 3, 1e-7):
        same = icc(long(np.full((7, 3), value)))
        assert same[["icc", "icc_low", "icc_high", "p"]].isna().all(axis=None) and "are the same" in same.note[0]
    shifted = icc(long(np.tile([0.1, 0.3, 0.2], (7, 1)))).set_index("type")  # raters differ, subjects do not
    assert shifted.icc[["ICC1", "ICC2", "ICC2k"]].tolist() == pytest.approx([-0.5, 0, 0])
    assert shifted.icc[["ICC3", "ICC1k", "ICC3k"]].isna().all()
    assert shifted[["icc_low", "icc_high"]].isna().all(axis=None)
    assert (shifted.note != "").all()


def test_perfect_agreement_is_1_without_an_interval():
    for ratings in (np.repeat([[1.0], [2], [3]], 2, axis=1), np.repeat([[0.1], [0.7], [0.3], [0.37]], 3, axis=1)):
        table = icc(long(ratings))
        assert (table.icc == 1).all() and table[["icc_low", "icc_high"]].isna().all(axis=None)
        assert table.note.str.contains("no error is left").all()


def test_raters_that_differ_by_a_constant_as_psych():
    """psych 2.2.9: ICC(matrix(c(1, 2, 2, 3, 3, 4, 5, 6), ncol = 2, byrow = TRUE), lmer = FALSE)."""
    table = icc(long(np.array([[1, 2], [2, 3], [3, 4], [5, 6]]))).set_index("type")
    assert table.icc.tolist() == pytest.approx([0.842105263158, 0.853658536585, 1, 0.914285714286, 0.921052631579, 1])
    assert table.loc["ICC2", ["icc_low", "icc_high"]].tolist() == pytest.approx([0.0067050093161, 0.990267963771])
    assert table.loc[["ICC3", "ICC3k"], ["icc_low", "icc_high"]].isna().all(axis=None) and table.note["ICC1"] == ""


def test_subjects_whose_means_are_equal_have_few_correlations():
    table = icc(long(np.array([[1, 2], [2, 1], [1, 2], [2, 1]]))).set_index("type")
    assert table.icc[["ICC1", "ICC3"]].tolist() == [-1, -1]  # the least that two raters can have
    assert table.icc[["ICC2", "ICC1k", "ICC2k", "ICC3k"]].isna().all()
    assert table.note.str.contains("do not differ").all() and table[["icc_low", "icc_high"]].isna().all(axis=None)


def test_kappa_takes_the_order_of_categories():
    scale = ["none", "mild", "moderate", "severe"]
    words = readings().replace(dict(enumerate(scale)))
    for kind in (pd.CategoricalDtype(scale, ordered=True), pd.CategoricalDtype(scale)):
        row = weighted_kappa(words.astype(kind), first="one", second="two").iloc[0]
        assert (row.kappa, row.se) == pytest.approx((0.7591743119266, 0.0633867754528), abs=1e-10)
        one = words.astype({"one": kind})
        assert weighted_kappa(one, first="one", second="two").kappa.item() == pytest.approx(row.kappa)
    other = words.astype({"one": pd.CategoricalDtype(scale, ordered=True),
                          "two": pd.CategoricalDtype(scale[::-1], ordered=True)})
    with pytest.raises(StatsError, match="do not share one ordered scale"):
        weighted_kappa(other, first="one", second="two")


def test_kappa_on_a_long_scale_is_that_of_the_ratings():
    """Two scales that differ by a factor only have the same kappa and the same error."""
    table = pd.DataFrame({"a": [50] * 98 + [51, 50], "b": [50] * 98 + [50, 51]})
    short = weighted_kappa(table, first="a", second="b").iloc[0]
    assert short.kappa == pytest.approx((0.98 - (0.99**2 + 0.01**2)) / (1 - (0.99**2 + 0.01**2)))
    for length in (101, 1001):
        row = weighted_kappa(table, first="a", second="b", categories=range(length)).iloc[0]
        assert (row.kappa, row.se) == pytest.approx((short.kappa, short.se), rel=1e-9) and row.note == ""


def test_refusals_of_kappa():
    table = readings()
    for options, words in (({"second": "one"}, "both 'one'"), ({"level": 95}, "level=95")):
        with pytest.raises(StatsError, match=words):
            weighted_kappa(table, **{"first": "one", "second": "two", **options})
    with pytest.raises(StatsError, match="several kinds"):
        weighted_kappa(pd.DataFrame({"one": [1, "2"], "two": [1, "2"]}), first="one", second="two")
    with pytest.raises(StatsError, match="56 different values, not on the scale") as caught:
        weighted_kappa(table.assign(one=[f"Anna {i}" for i in range(56)]), first="one", second="two", categories=[0, 1])
    assert "Anna" not in str(caught.value)


def test_levels_out_of_range_are_refused():
    with pytest.raises(StatsError, match="level=95"):
        icc(long(SLEEP), level=95)
    with pytest.raises(StatsError, match="level=0"):
        repeatability(long(SLEEP), score="score", level=0)
