"""What every statistic refuses: each with the rows in question, never with a subject's name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, mann_whitney, roc, spearman
from mrmyo.stats.columns import name_rows


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
