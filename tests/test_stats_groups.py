"""Mann–Whitney against R 4.2.2: wilcox.test(controls, patients, exact = FALSE, correct = FALSE), and correct = TRUE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.paper import printed
from mrmyo.stats import StatsError, mann_whitney
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


@pytest.mark.parametrize("groups", [["a"] * 3, ["a", "b", "c"]])
def test_refuses_other_than_two_groups(groups):
    with pytest.raises(StatsError, match="exactly two"):
        mann_whitney(pd.DataFrame({"t2_ms": [40.0, 41, 42], "group": groups}))
