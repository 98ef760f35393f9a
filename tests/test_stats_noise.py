"""Verdicts under other errors of measurement: against a plain loop over SciPy, and at the ends."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.stats import StatsError, verdict_flips


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    x = rng.normal(size=40)
    return pd.DataFrame({"x": np.round(x, 1), "t2_ms": 40 + 1.6 * x + rng.normal(0, 5, 40), "sd": 1.5})


def test_as_a_plain_loop(table):
    row = verdict_flips(table, x="x", sd="sd", n_draws=4000).iloc[0]
    rng = np.random.default_rng(99)
    found = [stats.spearmanr(table.x, table.t2_ms + rng.normal(0, 1.5, 40)) for _ in range(1500)]
    p = np.array([one.pvalue for one in found])
    assert (row.r, row.p) == pytest.approx(tuple(stats.spearmanr(table.x, table.t2_ms)))
    assert 0.05 < row.flips < 0.95  # a case in which it matters
    assert row.share_significant == pytest.approx((p < 0.05).mean(), abs=0.04)
    assert row.flips == pytest.approx(((p < 0.05) != (row.p < 0.05)).mean(), abs=0.04)
    limits = np.percentile([one.statistic for one in found], [2.5, 97.5])
    assert (row.r_low, row.r_high) == pytest.approx(tuple(limits), abs=0.02)


def test_errors_that_were_seen(table):
    none = verdict_flips(table, x="x", errors=[0.0, 0.0]).iloc[0]
    assert none.flips == 0 and none.r_low == pytest.approx(none.r)
    shifted = verdict_flips(table, x="x", errors=[3.0]).iloc[0]
    assert shifted.flips == 0  # the same error for everyone moves no rank
    assert verdict_flips(table, x="x", errors=[-60.0, 60.0]).share_significant.item() < 0.3


def test_missing_values_and_refusals(table):
    gaps = table.assign(x=table.x.where(table.index > 4))
    assert verdict_flips(gaps, x="x", sd="sd", n_draws=50).loc[0, ["n", "n_missing"]].tolist() == [35, 5]
    for wrong, words in (({}, "either"), ({"sd": "sd", "errors": [1]}, "either"), ({"errors": [np.nan]}, "finite"),
                         ({"sd": "no"}, "no column")):
        with pytest.raises(StatsError, match=words):
            verdict_flips(table, x="x", **wrong)
    with pytest.raises(StatsError, match="below 0"):
        verdict_flips(table.assign(sd=-1.0), x="x", sd="sd")
    with pytest.raises(StatsError, match="constant"):
        verdict_flips(table.assign(x=1.0), x="x", sd="sd")


def test_draws_of_equal_values_are_told_and_count_as_not_significant():
    """y is 1, 1, 1, 2 and the errors 0 and −1: of 16 draws one leaves all equal (0, 0, 0, −1)."""
    table = pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 1, 1, 2.0]})
    row = verdict_flips(table, x="x", y="y", errors=[0, -1], n_draws=4000).iloc[0]
    assert int(row.note.split()[1]) / 4000 == pytest.approx(1 / 16, abs=0.01) and "y are equal" in row.note
    assert np.isfinite([row.r_low, row.r_high]).all() and row.share_significant == 0
    assert verdict_flips(table.assign(y=[1, 5, 9, 14]), x="x", y="y", errors=[0.1]).note[0] == ""


def test_equal_values_in_all_draws_leave_no_interval():
    table = pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 1, 1, 2.0]})
    rows = [verdict_flips(table, x="x", y="y", errors=[0, -1], n_draws=1, seed=seed).iloc[0] for seed in range(60)]
    alike = [row for row in rows if row.note]
    assert alike and all("in 1 draws" in row.note and row.share_significant == 0 for row in alike)
    assert all(np.isnan(row.r_low) == np.isnan(row.r_high) == bool(row.note) for row in rows)


def test_options_out_of_range_are_refused(table):
    for options, words in (({"errors": ["a"]}, "finite numbers"), ({"n_draws": 0}, "n_draws=0"),
                           ({"alpha": 5}, "alpha=5"),
                           ({"errors": pd.array([0.1, None], dtype="Float64")}, "leave missing ones out")):
        with pytest.raises(StatsError, match=words):
            verdict_flips(table, x="x", **{"errors": [0.1], **options})
