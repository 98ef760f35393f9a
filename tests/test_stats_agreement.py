"""Bland and Altman's own example, and R.

Peak flow (l/min) of 17 people by two meters, first readings: Bland and Altman 1986, Lancet 327:307. They print a mean
difference of −2.1, an SD of 38.8 and the interval −22.0 to 17.8. (Their limits use 2 SD instead of 1.96.)

R 4.2.2 Patched (2022-11-10 r83330):

    d <- wright - mini; n <- 17; mean(d); sd(d); t.test(d)$conf.int; mean(d) + c(-1, 1) * qnorm(.975) * sd(d)
    se <- sd(d) * sqrt(1 / n + qnorm(.975)^2 / (2 * (n - 1)))
    mean(d) - qnorm(.975) * sd(d) + c(-1, 1) * qt(.975, n - 1) * se      # and with + for the upper limit
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, bland_altman

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
PEAK_FLOW = pd.DataFrame({"wright": WRIGHT, "mini": MINI})
IN_R = {
    "bias": -2.11764705882, "bias_low": -22.0488376966, "bias_high": 17.8135435790, "sd": 38.7651298736,
    "loa_low": -78.0959054671, "loa_high": 73.8606113495, "loa_low_low": -112.8515531393,
    "loa_low_high": -43.3402577949, "loa_high_low": 39.1049636773, "loa_high_high": 108.6162590217,
}


def test_as_in_r_and_in_print():
    row = bland_altman(PEAK_FLOW, measured="wright", reference="mini").iloc[0]
    assert row[list(IN_R)].tolist() == pytest.approx(list(IN_R.values()), abs=1e-8)
    assert [round(row[k], 1) for k in ("bias", "sd", "bias_low", "bias_high")] == [-2.1, 38.8, -22.0, 17.8]
    assert row[["group", "n", "n_missing", "note"]].tolist() == ["all", 17, 0, ""]


def test_exchanging_the_two_changes_the_sign():
    row = bland_altman(PEAK_FLOW, measured="mini", reference="wright").iloc[0]
    assert [row["bias"], row["loa_low"]] == pytest.approx([-IN_R["bias"], -IN_R["loa_high"]])


def test_by_group_then_all():
    data = PEAK_FLOW.assign(side=["left"] * 8 + ["right"] * 9)
    rows = bland_altman(data, measured="wright", reference="mini", by="side")
    assert rows["side"].tolist() == ["left", "right", "all"]
    assert rows["n"].tolist() == [8, 9, 17]
    left = bland_altman(data[:8], measured="wright", reference="mini")
    pd.testing.assert_series_equal(rows.iloc[0, 1:], left.iloc[0, 1:])
    assert rows.iloc[2]["sd"] == pytest.approx(IN_R["sd"])


def test_fewer_than_three_pairs_have_a_bias_and_a_note():
    row = bland_altman(PEAK_FLOW[:2], measured="wright", reference="mini").iloc[0]
    assert row["bias"] == -26.5
    assert row[["sd", "bias_low", "loa_low", "loa_high_high"]].isna().all()
    assert "at least three" in row["note"]


def test_a_group_without_pairs_is_a_row_of_nan():
    data = pd.DataFrame({"a": [1.0, 2, 3, np.nan], "b": [1.0, 2, 2, 4], "group": list("xxxy")})
    row = bland_altman(data, measured="a", reference="b", by="group").set_index("group").loc["y"]
    assert (row["n"], row["n_missing"]) == (0, 1) and np.isnan(row["bias"])


def test_refuses_a_table_without_pairs():
    with pytest.raises(StatsError, match="expected pairs"):
        bland_altman(pd.DataFrame({"a": [1.0, np.nan], "b": [np.nan, 2.0]}), measured="a", reference="b")


def test_refuses_a_missing_column():
    with pytest.raises(StatsError, match=r"\['side'\]"):
        bland_altman(PEAK_FLOW, measured="wright", reference="mini", by="side")


@pytest.mark.parametrize("name", ["method", "n", "note", "bias", "n_missing", "loa_high_low"])
def test_refuses_groups_called_like_a_column_of_the_result(name):
    with pytest.raises(StatsError, match=f"by='{name}'.*rename"):
        bland_altman(PEAK_FLOW.assign(**{name: "a"}), measured="wright", reference="mini", by=name)


def test_refuses_a_group_called_all():
    with pytest.raises(StatsError, match="a group 'all'"):
        bland_altman(PEAK_FLOW.assign(side=["all"] * 8 + ["left"] * 9), measured="wright", reference="mini", by="side")


def test_groups_come_by_size_or_in_the_order_of_their_categories():
    tens = PEAK_FLOW.assign(side=[10] * 8 + [9] * 9)
    assert bland_altman(tens, measured="wright", reference="mini", by="side").side.tolist() == [9, 10, "all"]
    words = PEAK_FLOW.assign(side=pd.Categorical(["right"] * 8 + ["left"] * 9, ["right", "left", "none"]))
    rows = bland_altman(words, measured="wright", reference="mini", by="side")
    assert rows.side.tolist() == ["right", "left", "all"] and rows.n.tolist() == [8, 9, 17]
