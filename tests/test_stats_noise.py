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
