"""What every statistic refuses: each with the rows in question, never with a subject's name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, adjusted_roc, ancova, compare_roc, mann_whitney, mixed_model, roc, spearman
from mrmyo.stats.columns import (
    categories_or_numbers,
    in_order,
    name_rows,
    numbers,
    require_count,
    require_share,
    values_in_words,
)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"subject": [f"P{i}" for i in range(12)], "group": ["IIM"] * 7 + ["HC"] * 5,
                         "t2_ms": np.round(rng.normal(40, 5, 12), 1), "ck_u_l": rng.integers(20, 900, 12)})


def test_rows_in_words():
    assert name_rows([True, False]) == "row 1"
    assert name_rows([True, False, True, True]) == "rows 1, 3 and 4"
    assert name_rows([True] * 8) == "rows 1, 2, 3, 4, 5 and 3 more"


STATISTICS = {"roc": roc, "mann_whitney": lambda t: mann_whitney(t, value="t2_ms", group="group"),
              "spearman": lambda t: spearman(t, x="t2_ms", y="ck_u_l")}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_text_among_numbers_is_named_by_its_row(table, name):
    wrong = table.assign(t2_ms=table.t2_ms.astype(object))
    wrong.loc[[3, 8], "t2_ms"] = ["<30", "n/a"]
    with pytest.raises(StatsError, match=r"2 entries that are no numbers \(rows 4 and 9, counted from 1\)"):
        STATISTICS[name](wrong)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_subject_twice_is_named_by_rows_and_not_by_name(table, name):
    table.loc[6, "subject"] = "P2"
    with pytest.raises(StatsError, match=r"rows 3 and 7") as caught:
        STATISTICS[name](table)
    assert "P2" not in str(caught.value)


@pytest.mark.parametrize("name", STATISTICS)
def test_seconds_nothing_at_all_and_infinity(table, name):
    for wrong, words in ((table.assign(t2_ms=table.t2_ms / 1000), "Multiply by 1000"),
                         (table.assign(t2_ms=np.nan), "no value in 12 rows"),
                         (table.assign(t2_ms=table.t2_ms.where(table.index != 4, np.inf)), "infinite values in row 5"),
                         (table.drop(columns="t2_ms"), "no column")):
        with pytest.raises(StatsError, match=words):
            STATISTICS[name](wrong)


@pytest.mark.parametrize("name", ["roc", "mann_whitney"])
def test_a_misspelt_group_is_named_by_its_row(table, name):
    table.loc[9, "group"] = "HC "
    with pytest.raises(StatsError, match=r"'HC '.*row 10 may be misspelt"):
        STATISTICS[name](table)
    with pytest.raises(StatsError, match="expected exactly two"):
        STATISTICS[name](table[table.group == "IIM"])


def test_a_positive_that_is_not_there(table):
    with pytest.raises(StatsError, match=r"Found no 'iim'.*'IIM'"):
        roc(table, positive="iim")


def test_a_constant_score_has_no_verdict(table):
    row = roc(table.assign(t2_ms=40.0)).iloc[0]
    assert row.auc == 0.5 and np.isnan(row.p) and "equal" in row.note
    assert "constant" in spearman(table.assign(t2_ms=40.0), x="t2_ms", y="ck_u_l").note[0]


@pytest.mark.parametrize(("values", "order"), [
    ([10, 9, 100, 9, None], [9, 10, 100]), ([True, False], [False, True]), (["b", None, "a"], ["a", "b"]),
    (pd.array([10, None, 9], dtype="Int64"), [9, 10]), ([10, "9"], [10, "9"]),
    (pd.Categorical(["low", "high", None], ["low", "mid", "high"]), ["low", "high"]),
    (pd.Categorical([10, 9, 10], [10, 9], ordered=True), [10, 9]),
])
def test_numbers_come_by_size_categories_in_their_order_and_all_else_by_text(values, order):
    assert in_order(pd.Series(values)) == order


@pytest.mark.parametrize(("column", "words"), [
    ([True, False, True], "holds true and false; expected numbers. Turn them into 1 and 0"),
    (pd.array([True, None, False], dtype="boolean"), "holds true and false"),
    (pd.Series([True, None, False], dtype=object), "holds true and false"),
    (pd.Categorical([1, 2, 1]), "holds categories"), (pd.Categorical(["a", "b", "a"]), "holds categories"),
    (pd.date_range("2020-01-01", periods=3), "holds dates or times"),
    (pd.Series(pd.date_range("2020-01-01", periods=3)).astype(object), "holds dates or times"),
    (pd.to_timedelta([1, 2, 3], unit="D"), "holds dates or times"),
    (pd.period_range("2020", periods=3, freq="D"), "holds dates or times"),
    (["1", "2", "3"], "holds numbers written as text"),
    (pd.Series(["1", None, "3"], dtype=object), r"numbers written as text; expected numbers.*to_numeric"),
    (pd.Series([1.5, "2", 3], dtype=object), "numbers written as text in row 2;"),
    (pd.Series([1.5, True, 3], dtype=object), "true and false in row 2;"),
    (pd.Series(["1", "<5", True], dtype=object), r"1 entries that are no numbers \(row 2, counted"),
    (np.arange(3) + 1j, "3 entries that are no numbers"),
])
def test_a_column_of_something_else_than_numbers_is_told_as_what_it_is(column, words):
    with pytest.raises(StatsError, match=words):
        numbers(pd.DataFrame({"ck": column}), "ck")


def test_numbers_of_every_kind_are_read():
    for column in ([1, 2, 4], pd.array([1, 2, None], dtype="Int64"), pd.Series([1, None, 2.5], dtype=object),
                   pd.array([0.5, None, 2], dtype="Float64")):
        found = numbers(pd.DataFrame({"ck": column}), "ck")
        assert found.dtype == float and np.isnan(found).tolist() == pd.isna(pd.Series(column)).tolist()
    for nothing in (pd.array([None] * 3, dtype="boolean"), [None] * 3, pd.Categorical([None] * 3)):
        with pytest.raises(StatsError, match="no value in 3 rows"):
            numbers(pd.DataFrame({"ck": nothing}), "ck")


@pytest.mark.parametrize(("name", "values", "seconds"), [
    ("t2_ms", [0.03, 0.05], True), ("VL_T2_ms", [0.03, 0.99], True), ("t2_ms", [0.03, 1.2], False),
    ("t2_ms", [0.0, 0.05], False), ("t2_ms", [-40.0, 0.05], False), ("t2_sd_ms", [0.2, 0.7], False),
    ("t2_change_ms", [-5.0, -2.0], False), ("t2_change_ms", [0.2, 0.4], False), ("t2_noise_ms", [0.2, 0.4], False),
    ("delta_t2_ms", [0.2, 0.4], False), ("t2_error_ms", [0.2, 0.4], False), ("t2_shift_ms", [0.2, 0.4], False),
    ("t2_difference_ms", [0.2, 0.4], False), ("te_ms", [0.2, 0.4], False),
])
def test_only_a_t2_itself_can_look_like_seconds(name, values, seconds):
    table = pd.DataFrame({name: values})
    if seconds:
        with pytest.raises(StatsError, match="looks like seconds"):
            numbers(table, name)
    else:
        assert numbers(table, name).tolist() == values


@pytest.mark.parametrize("name", STATISTICS)
def test_columns_that_are_there_twice_sparse_or_of_lists_are_refused(table, name):
    twice = pd.concat([table, table[["t2_ms"]]], axis=1)
    sparse = table.assign(t2_ms=pd.arrays.SparseArray(table.t2_ms.to_numpy()))
    lists = table.assign(t2_ms=[[value] for value in table.t2_ms])
    two_names = pd.concat([table, table[["subject"]]], axis=1)
    for wrong, words in ((twice, "more than one column 't2_ms'"), (sparse, "sparse.to_dense"),
                         (lists, "lists or the like in rows 1, 2, 3, 4, 5 and 7 more"),
                         (two_names, "more than one column 'subject'")):
        with pytest.raises(StatsError, match=words):
            STATISTICS[name](wrong)


def test_covariates_of_lists_are_refused_and_truth_values_are_categories(table):
    lists = table.assign(site=[[1]] * 12)
    for compute in (ancova, adjusted_roc):
        with pytest.raises(StatsError, match="lists"):
            compute(lists, covariates="site")
    for truth in ([True, False] * 6, pd.array([True, None, False] * 4, dtype="boolean"),
                  pd.Series([True, None, False] * 4, dtype=object)):
        found = categories_or_numbers(table.assign(male=truth), "male")
        assert found.dtype == object and found[0] is True and pd.isna(found[1]) == pd.isna(pd.Series(truth)[1])
    assert categories_or_numbers(table, "t2_ms").dtype == float
    for wrong, words in (("12" * 6, "written as text"), ("1x" * 6, "no numbers")):
        with pytest.raises(StatsError, match=words):
            categories_or_numbers(table.assign(site=list(wrong)), "site")


NAMES = ["Anna", "Berta", "Carl", "Dora", "Emil", "Fritz", "Gusti", "Hans", "Ida", "Jan", "Karl", "Lena"]


def test_names_are_counted_and_never_printed(table):
    assert values_in_words(pd.Series(["a", "b", None, "a"])) == "['a', 'b']"
    assert values_in_words(pd.Series(NAMES[:2], name="subject")) == "2 different values"
    assert values_in_words(pd.Series(NAMES)) == "12 different values"
    assert values_in_words(pd.Series(NAMES), NAMES[:3]) == "3 different values"
    assert values_in_words(pd.Series(range(12))) == str(list(range(10)))
    named = table.assign(subject=NAMES, who=NAMES, side="left", muscle="VL")
    for column in ("subject", "who"):
        for compute in (lambda c: roc(named, group=c), lambda c: mann_whitney(named, group=c),
                        lambda c: compare_roc(named, by=c), lambda c: ancova(named, group=c, reference="nobody"),
                        lambda c: adjusted_roc(named, covariates=c),
                        lambda c: mixed_model(named.assign(id=range(12)), group=c, subject="id")):
            with pytest.raises(StatsError) as caught:
                compute(column)
            assert not any(name in str(caught.value) for name in NAMES), caught.value


@pytest.mark.parametrize("value", [0, 1, 95, -0.5, np.nan, None, "0.95", True])
def test_a_level_is_a_share(value):
    with pytest.raises(StatsError, match=r"level=.*above 0 and below 1"):
        require_share("level", value)
    require_share("level", np.float64(0.9))


@pytest.mark.parametrize("value", [0, -3, 100.0, np.nan, None, "9", True])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(StatsError, match=r"n_draws=.*whole number of at least 1"):
        require_count("n_draws", value)
    require_count("n_draws", np.int64(1))
