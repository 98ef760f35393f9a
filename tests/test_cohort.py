"""The synthetic cohort prints the paper's numbers; the statistics come from NumPy and SciPy, not from mrmyo.stats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.cohort import CohortError, load_cohort, make_cohort, pick_subjects, write_cohort
from mrmyo.paper import printed, printed_figures

SHIPPED = Path(__file__).resolve().parents[1] / "data_synthetic" / "cohort.csv"


@pytest.fixture(params=[2022, 1, 2])
def cohort(request):
    return make_cohort(seed=request.param)


def groups(cohort):
    return cohort[cohort["group"] == "IIM"], cohort[cohort["group"] == "HC"]


def prints_as(value, figure_id):
    text = printed_figures().set_index("id").loc[figure_id, "text"]
    return f"{value:.{len(text.partition('.')[2])}f}" == text


def test_shipped_file_is_what_the_function_makes(tmp_path):
    pd.testing.assert_frame_equal(load_cohort(), make_cohort(), check_exact=True)
    assert write_cohort(tmp_path / "cohort.csv").read_bytes() == SHIPPED.read_bytes()


def test_columns_and_names(cohort):
    assert list(cohort.columns) == ["subject", "group", "age", "sex", "t2_ms"]
    assert cohort["subject"].is_unique
    assert cohort["subject"].str.match(r"SYN-(IIM|HC)-\d\d$").all()
    assert cohort["subject"].iloc[[0, 63, 64, 73]].tolist() == ["SYN-IIM-01", "SYN-IIM-64", "SYN-HC-01", "SYN-HC-10"]


def test_counts(cohort):
    iim, hc = groups(cohort)
    assert (len(iim), len(hc)) == (printed("sample size", "IIM", "n"), printed("sample size", "HC", "n"))
    assert iim["sex"].value_counts().to_dict() == {"F": 38, "M": 26}
    assert hc["sex"].value_counts().to_dict() == {"F": 9, "M": 1}


def test_age(cohort):
    iim, hc = (g["age"] for g in groups(cohort))
    assert prints_as(iim.mean(), "N088") and (iim.min(), iim.max()) == (19, 72)
    assert prints_as(hc.mean(), "N098") and (hc.min(), hc.max()) == (25, 63)


def test_t2(cohort):
    iim, hc = (g["t2_ms"] for g in groups(cohort))
    assert prints_as(iim.mean(), "N101") and prints_as(iim.std(), "N102")
    assert prints_as(hc.mean(), "N103") and prints_as(hc.std(), "N104")
    assert stats.skew(iim) > 0.5
    assert 66 < iim.max() < 75


def test_631_of_640_pairs_are_in_order(cohort):
    iim, hc = (g["t2_ms"].to_numpy() for g in groups(cohort))
    assert (iim[:, None] > hc).sum() == 631
    assert (iim[:, None] == hc).sum() == 0
    assert prints_as(631 / 640, "N106")


def test_cutoff_lies_midway_between_two_subjects(cohort):
    iim, hc = (g["t2_ms"].to_numpy() for g in groups(cohort))
    t2 = np.sort(cohort["t2_ms"])
    cuts = (t2[1:] + t2[:-1]) / 2
    youden = [(iim >= c).mean() + (hc < c).mean() for c in cuts]
    best = cuts[np.argmax(youden)]
    assert best == pytest.approx(36.4, abs=1e-9)
    assert sum(np.isclose(youden, max(youden))) == 1
    assert ((iim >= best).sum(), (hc < best).sum()) == (62, 10)
    assert prints_as(100 * 62 / 64, "N008")


def test_p_values(cohort):
    iim, hc = groups(cohort)
    assert stats.mannwhitneyu(iim["t2_ms"], hc["t2_ms"], method="asymptotic", use_continuity=False).pvalue < 0.001
    age = stats.spearmanr(iim["age"], iim["t2_ms"])
    assert prints_as(age.statistic, "N140") and prints_as(age.pvalue, "N141")


def test_a_seed_is_repeatable_and_another_differs():
    pd.testing.assert_frame_equal(make_cohort(seed=7), make_cohort(seed=7))
    assert not make_cohort(seed=7)["t2_ms"].equals(make_cohort(seed=8)["t2_ms"])


@pytest.mark.parametrize(("n", "iim", "hc"), [(1, 1, 0), (2, 1, 1), (8, 7, 1), (16, 14, 2), (37, 32, 5), (74, 64, 10)])
def test_pick_subjects_in_proportion(n, iim, hc):
    picked = pick_subjects(load_cohort(), n)
    assert picked["group"].value_counts().reindex(["IIM", "HC"], fill_value=0).tolist() == [iim, hc]
    assert picked["subject"].is_unique


def test_pick_subjects_keeps_the_order_and_spreads_over_t2():
    cohort = load_cohort()
    picked = pick_subjects(cohort, 8)
    pd.testing.assert_frame_equal(picked, pick_subjects(cohort, 8))
    assert picked["subject"].tolist() == [s for s in cohort["subject"] if s in set(picked["subject"])]
    iim = cohort[cohort["group"] == "IIM"]["t2_ms"]
    seventh = np.floor(stats.rankdata(iim, method="min") - 1) * 7 // 64  # which seventh of the patients each is in
    chosen = seventh[np.isin(iim, picked[picked["group"] == "IIM"]["t2_ms"])]
    assert sorted(chosen) == list(range(7))


def test_pick_subjects_ignores_the_index():
    cohort = load_cohort()
    cohort.index = [0] * 74
    assert len(pick_subjects(cohort, 8)) == 8


@pytest.mark.parametrize("n", [0, -1, 75])
def test_pick_subjects_refuses(n):
    with pytest.raises(CohortError, match="expected 1 to 74"):
        pick_subjects(load_cohort(), n)


def test_pick_subjects_refuses_another_table():
    with pytest.raises(CohortError, match="t2_ms"):
        pick_subjects(pd.DataFrame({"group": ["IIM"]}), 1)


def test_write_refuses_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CohortError, match="no folder"):
        write_cohort(tmp_path / "absent" / "cohort.csv")
