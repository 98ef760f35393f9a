"""Many cohorts that satisfy the printed numbers, and what these leave open."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrmyo.cohort import load_cohort
from mrmyo.cohort_claims import verify_cohort
from mrmyo.cohort_ranges import draw_cohorts, open_statistics, ranges


@pytest.fixture(scope="module")
def cohorts():
    return draw_cohorts(4, n_jobs=1, progress=False)


def test_every_one_satisfies_the_printed_numbers_and_none_is_another(cohorts):
    assert cohorts.groupby("seed").size().tolist() == [74] * 4
    for _, one in cohorts.groupby("seed"):
        assert not (verify_cohort(one).verdict == "fails").any()
    assert cohorts.groupby("subject").t2_ms.nunique().gt(1).mean() > 0.9


def test_open_statistics_are_what_other_code_makes_of_them():
    cohort = load_cohort()
    found = open_statistics(cohort).set_index("statistic")
    patients = cohort[cohort.group == "IIM"]
    by_treatment = [patients.t2_ms[patients.treatment == name].to_numpy()
                    for name in ("untreated", "relapsed on treatment")]
    shift = np.median(np.subtract.outer(*by_treatment))
    assert found.value["T2 of untreated − of relapsed (ms)"] == pytest.approx(shift)
    r, p = stats.spearmanr(patients.ck_u_l, patients.ldh_u_l, nan_policy="omit")
    assert found.loc["rs of CK and LDH"].tolist() == pytest.approx([r, p])
    normal = patients[(patients.ck_u_l <= 195) & (patients.alt_u_l <= 50) & (patients.ast_u_l <= 40)
                      & (patients.ldh_u_l <= 250)]
    assert found.value["patients whose four enzymes are normal"] == len(normal)
    assert found.value["patients with ASS who have ILD, of 8"] == 8


def test_a_range_holds_every_cohort_and_counts_them(cohorts):
    table = ranges(cohorts).set_index("statistic")
    values = np.array([open_statistics(one).value for _, one in cohorts.groupby("seed")])
    assert table.lowest.to_numpy() == pytest.approx(values.min(axis=0))
    assert table.highest.to_numpy() == pytest.approx(values.max(axis=0))
    assert table["median"].to_numpy() == pytest.approx(np.median(values, axis=0)) and table.n_cohorts.eq(4).all()
    assert table.n_significant["ratio of T2, patients ÷ controls, adjusted for age and sex"] == 4
    assert np.isnan(table.n_significant["AUC, adjusted for age and sex"])
    own = open_statistics(load_cohort()).set_index("statistic").value
    assert table.shipped["rs of CK and LDH"] == pytest.approx(own["rs of CK and LDH"])
