"""Mann–Whitney against R 4.2.2: wilcox.test(controls, patients, exact = FALSE, correct = FALSE), and correct = TRUE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.paper import printed
from mrmyo.stats import StatsError, adjust_p, equivalence, hodges_lehmann, mann_whitney
from mrmyo.stats.groups import rank_sum_test

PATIENTS = [34, 35, 36, 36, 37, 37, 38, 38, 38, 39, 40, 41, 41, 42, 44, 45, 45, 48, 52, 60]
CONTROLS = [31, 32, 33, 33, 34, 34, 35, 36, 36, 38, 39]
TABLE = pd.DataFrame({"t2_ms": [*PATIENTS, *CONTROLS], "group": ["IIM"] * 20 + ["HC"] * 11})


@pytest.mark.parametrize(("continuity", "p"), [(False, 0.000466520826699), (True, 0.000504093582406)])
def test_as_in_r(continuity, p):
    row = mann_whitney(TABLE, continuity=continuity).iloc[0]
    assert row[["group_1", "group_2", "n_1", "n_2", "n_missing"]].tolist() == ["HC", "IIM", 11, 20, 0]
    assert row["u"] == 25.5  # R's W, of its first sample
    assert row["p"] == pytest.approx(p, rel=1e-9)
    assert row["z"] == pytest.approx(stats.norm.ppf(p / 2), rel=1e-9)  # negative: the controls are lower
    assert row["rank_biserial"] == pytest.approx(2 * 25.5 / 220 - 1)
    assert ("no continuity" in row["method"]) is not continuity


def test_default_is_the_printed_z_of_the_paper():
    # The audit's reading of the printed comparison of T2: 8 against 56 patients, U = 186, no ties, Z = 0.771, p = .440.
    t2 = np.arange(64.0)
    ranks_of_8 = next(c for c in _eight_ranks_with_u(186))
    _, z, p = rank_sum_test(t2[ranks_of_8], np.delete(t2, ranks_of_8))
    assert round(abs(z), 3) == printed("T2 ASS vs non-ASS", "", "Z")
    assert round(p, 2) == 0.44


def _eight_ranks_with_u(u):
    # u is the sum over the eight of how many of the others lie below
    below = [u // 8] * 8
    for i in range(u % 8):
        below[-1 - i] += 1
    yield [b + i for i, b in enumerate(below)]


def test_order_of_rows_does_not_matter():
    shuffled = TABLE.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(mann_whitney(TABLE), mann_whitney(shuffled))


def test_missing_are_counted():
    holes = pd.concat([TABLE, pd.DataFrame({"t2_ms": [np.nan, 1.0], "group": ["HC", None]})])
    assert mann_whitney(holes)["n_missing"].item() == 2
    assert mann_whitney(holes)["p"].item() == mann_whitney(TABLE)["p"].item()


def test_all_tied_has_no_p():
    row = mann_whitney(pd.DataFrame({"t2_ms": [40.0] * 4, "group": list("aabb")})).iloc[0]
    assert np.isnan(row["z"]) and np.isnan(row["p"]) and row["rank_biserial"] == 0
    assert row["note"] == "all values are equal: no test" and mann_whitney(TABLE)["note"].item() == ""


@pytest.mark.parametrize("groups", [["a"] * 3, ["a", "b", "c"]])
def test_refuses_other_than_two_groups(groups):
    with pytest.raises(StatsError, match="exactly two"):
        mann_whitney(pd.DataFrame({"t2_ms": [40.0, 41, 42], "group": groups}))


A, B = [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2], [41.2, 46.1, 39.3, 42.2, 40.5, 43.9]
MANUAL = [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4]  # mpg of mtcars by am
AUTOMATIC = [21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 21.5, 15.5, 15.2, 13.3,
             19.2]


def table_of(first, second):
    return pd.DataFrame({"t2_ms": [*first, *second], "group": ["A"] * len(first) + ["B"] * len(second)})


def test_hodges_lehmann_as_wilcox_test_of_r():
    """R 4.2.2: wilcox.test(conf.int = TRUE), exact; with ties R searches for the shift where z is at the limit."""
    row = hodges_lehmann(table_of(A, B)).iloc[0]
    assert (row["shift"], row.shift_low, row.shift_high) == pytest.approx((3.65, 0.2, 8.5)) and "exact" in row.method
    row = hodges_lehmann(table_of(MANUAL, AUTOMATIC)).iloc[0]
    assert row["shift"] == pytest.approx(6.8) and "normal" in row.method
    assert (row.shift_low, row.shift_high) == pytest.approx((2.90004598887, 11.3000408671), abs=0.1)


def test_the_interval_of_the_shift_covers_it():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        row = hodges_lehmann(table_of(rng.standard_normal(9) + 1.5, rng.standard_normal(12))).iloc[0]
        held += row.shift_low <= 1.5 <= row.shift_high
    assert 0.92 <= held / 300 <= 0.985


def test_equivalence_as_two_one_sided_t_tests_of_r():
    row = equivalence(table_of(A, B), margin=5).iloc[0]
    assert row.p == pytest.approx(0.295363279545) and not row.equivalent
    assert (row.low, row.high) == pytest.approx((1.08918617823, 7.06081382177))
    wide = equivalence(table_of(A, B), margin=8).iloc[0]
    assert wide.equivalent and wide.p < 0.05
    with pytest.raises(StatsError, match="above 0"):
        equivalence(table_of(A, B), margin=0)
    with pytest.raises(StatsError, match="two of each"):
        equivalence(table_of(A, B[:1]), margin=1)
    assert equivalence(table_of([1.0, 1.0], [1.0, 1.0]), margin=0.5).equivalent.item()


def test_adjusted_p_as_p_adjust_of_r():
    p = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]
    expected = {"holm": [0.01, 0.072, 0.312, 0.312, 0.312, 0.312, 0.312, 0.615, 0.615, 0.615],
                "bh": [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.105714285714, 0.216, 0.216, 0.216],
                "bonferroni": [0.01, 0.08, 0.39, 0.41, 0.42, 0.6, 0.74, 1, 1, 1]}
    order = np.random.default_rng(0).permutation(10)
    for method, values in expected.items():
        table = pd.DataFrame({"p": np.array(p)[order], "claim": order})
        table.loc[10] = [np.nan, 99]  # a test that gave no p does not count
        found = adjust_p(table, method=method).set_index("claim").p_adjusted
        assert found[range(10)].tolist() == pytest.approx(values) and np.isnan(found[99])
    with pytest.raises(StatsError, match="outside 0 to 1"):
        adjust_p(pd.DataFrame({"p": [0.2, 1.2]}))
    with pytest.raises(StatsError, match="expected one of"):
        adjust_p(pd.DataFrame({"p": [0.2]}), method="sidak")


@pytest.mark.parametrize(("first", "second", "level", "low", "high"), [
    ([1, 2, 3], [15, 17, 19.5], 0.9, -18.5, -12), ([1, 2, 3.5, 4.2], [15, 17, 19.4, 23], 0.95, -22, -10.8),
])
def test_the_smallest_groups_that_have_an_interval_as_wilcox_test_of_r(first, second, level, low, high):
    """R 4.2.2: wilcox.test(conf.int = TRUE, exact = TRUE, conf.level = level)."""
    row = hodges_lehmann(table_of(first, second), level=level).iloc[0]
    assert (row.shift_low, row.shift_high) == pytest.approx((low, high)) and row.note == ""


@pytest.mark.parametrize(("first", "second", "most"), [
    ([1], [2], "0.0%"), ([1, 2], [5, 7], "66.7%"), ([1, 2, 3], [15, 17, 19.5], "90.0%"),
])
def test_groups_too_small_for_an_interval_have_none(first, second, most):
    """Where R 4.2.2 warns "Requested conf.level not achievable", and gives 1 − 2 / choose(n_1 + n_2, n_1)."""
    row = hodges_lehmann(table_of(first, second)).iloc[0]
    assert np.isnan(row.shift_low) and np.isnan(row.shift_high) and np.isfinite(row["shift"])
    assert "too few for a 95% interval" in row.note and row.note.endswith(most)


def test_no_interval_where_mann_whitney_tells_no_shift_from_none():
    for first, second in (([1, 1], [5, 7]), ([1, 1], [1, 1]), ([3], [3, 3])):
        row = hodges_lehmann(table_of(first, second)).iloc[0]
        assert np.isnan(row.shift_low) and np.isnan(row.shift_high) and "no shift can be told" in row.note
        assert mann_whitney(table_of(np.array(first) + 1000, second)).p.item() > 0.05
    alike = hodges_lehmann(table_of([3] * 6, [3] * 6)).iloc[0]  # here any shift would be seen
    assert (alike.shift_low, alike.shift_high, alike.note) == (0, 0, "")
    assert mann_whitney(table_of([3.1] * 6, [3] * 6)).p.item() < 0.05


def test_group_1_is_the_smaller_number_or_the_first_category():
    nine = TABLE.assign(group=TABLE.group.map({"IIM": 10, "HC": 9}))
    first = TABLE.assign(group=pd.Categorical(TABLE.group, ["IIM", "none", "HC"]))
    for compute in (mann_whitney, hodges_lehmann, lambda t: equivalence(t, margin=3)):
        assert compute(nine).loc[0, ["group_1", "group_2"]].tolist() == [9, 10]
        assert compute(first).loc[0, ["group_1", "group_2"]].tolist() == ["IIM", "HC"]


def test_options_out_of_range_are_refused():
    with pytest.raises(StatsError, match="level=95"):
        hodges_lehmann(TABLE, level=95)
    for options, words in (({"alpha": 5}, "alpha=5"), ({"alpha": 0.5}, "below 0.5"), ({"margin": "x"}, "margin='x'")):
        with pytest.raises(StatsError, match=words):
            equivalence(TABLE, **{"margin": 3, **options})


def two(first, second):
    return pd.DataFrame({"t2_ms": [*first, *second], "group": ["A"] * len(first) + ["B"] * len(second)})


SLEEP = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# mpg of cars with fewer than eight cylinders
LIGHT_MANUAL = [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 19.7, 21.4]
LIGHT_AUTOMATIC = [21.4, 18.1, 24.4, 22.8, 19.2, 17.8, 21.5]


@pytest.mark.parametrize(("first", "second", "p"), [
    (*SLEEP, 0.0658165364048), (LIGHT_MANUAL, LIGHT_AUTOMATIC, 0.0526332327803),
    ([1.1, 2.2, 3.3, 9.9], [0.5, 0.7, 1.9, 4.4, 5.5, 6.6, 7.7], 0.927272727273),
], ids=["sleep", "mtcars", "untied"])
def test_exact_p_by_all_orders_as_in_r(first, second, p):
    """R 4.2.2: all of combn(N, n), |S - E(S)| at least as large (sleep and mtcars, with ties); wilcox.test, exact."""
    row = mann_whitney(two(first, second), exact=True).iloc[0]
    assert row.p == pytest.approx(p, rel=1e-9) and row.method == "Mann–Whitney, exact"
    assert row.z == mann_whitney(two(first, second)).z.item()


def test_exact_p_of_many_and_of_the_fewest():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 60), rng.normal(0.4, 1, 45)
    known = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert mann_whitney(two(a, b), exact=True).p.item() == pytest.approx(known, rel=1e-9)
    assert mann_whitney(two([1.0], [2.0]), exact=True).p.item() == 1
    ties = mann_whitney(two(np.round(a), np.round(b)), exact=True).p.item()
    assert ties == pytest.approx(mann_whitney(two(np.round(a), np.round(b))).p.item(), rel=0.1)
    equal = mann_whitney(two([3.0, 3], [3.0, 3]), exact=True).iloc[0]
    assert np.isnan(equal.p) and equal.note
    with pytest.raises(StatsError, match="at most"):
        mann_whitney(two(rng.normal(size=150), rng.normal(size=60)), exact=True)
