"""Clinical scores on cases worked out by hand from their published tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, bohan_peter, eular_acr, ild_score
from mrmyo.stats.scores import BIOPSY, EULAR_ACR


@pytest.mark.parametrize(("findings", "expected"), [  # weakness, biopsy, enzymes, emg, rash
    ((1, 1, 1, 1, 0), "definite PM"), ((1, 0, 1, 1, 0), "probable PM"), ((1, 0, 1, 0, 0), "possible PM"),
    ((1, 0, 0, 0, 0), "not classified"), ((1, 1, 1, 0, 1), "definite DM"), ((1, 1, 1, 1, 1), "definite DM"),
    ((1, 0, 1, 0, 1), "probable DM"), ((0, 0, 1, 0, 1), "possible DM"), ((0, 0, 0, 0, 1), "not classified"),
])
def test_bohan_and_peter(findings, expected):
    names = ("weakness", "biopsy", "enzymes", "emg", "rash")
    table = pd.DataFrame([dict(zip(names, map(bool, findings), strict=True))])
    row = bohan_peter(table).iloc[0]
    assert row.bohan_peter == expected and row.bohan_peter_met == sum(findings[:4]) and row.bohan_peter_unknown == 0


def test_what_is_not_known_counts_as_absent_and_is_counted():
    table = pd.DataFrame({"weakness": [True], "biopsy": [None], "enzymes": [True], "emg": [np.nan], "rash": [True]})
    row = bohan_peter(table).iloc[0]
    assert row.bohan_peter == "probable DM" and row.bohan_peter_unknown == 2
    with pytest.raises(StatsError, match="expected True, False or nothing"):
        bohan_peter(table.assign(rash=["yes"]))
    with pytest.raises(StatsError, match="no column"):
        bohan_peter(table.drop(columns="emg"))


def patient(age, *items, biopsied=False, **more):
    """One row with the items that a patient has."""
    row = {name: name in items for name in [*EULAR_ACR, *BIOPSY]}
    return pd.DataFrame([{**row, "age_at_onset": age, "biopsied": biopsied, **more}])


@pytest.mark.parametrize(("age", "items", "biopsied", "score", "word", "subgroup"), [
    # 2.1 + 0.7 + 0.8 + 3.1 + 1.3
    (45, ("weakness_upper", "weakness_lower", "heliotrope_rash", "enzymes_elevated"), False, 8.0, "definite", "DM"),
    # 2.2 + 0.7 + 0.5 + 1.4 + 1.7 + 1.2
    (45, ("weakness_upper", "weakness_lower", "enzymes_elevated", "endomysial_infiltration", "perimysial_infiltration"),
     True, 7.7, "probable", "PM or IMNM"),
    # 1.3 + 0.7 + 0.8 + 3.9
    (30, ("weakness_upper", "weakness_lower", "anti_jo_1"), False, 6.7, "probable", "PM or IMNM"),
    (30, ("weakness_upper", "weakness_lower", "enzymes_elevated"), False, 4.1, "no", ""),  # 1.3 + 0.7 + 0.8 + 1.3
    (50, ("gottron_sign",), False, 5.4, "possible", ""),  # 2.1 + 3.3
    (50, ("gottron_sign", "dysphagia"), False, 6.1, "probable", "ADM"),  # no weakness at all
    (10, ("gottron_sign", "heliotrope_rash"), False, 6.4, "probable", "JDM"),  # no points for a child's age
    (10, ("anti_jo_1", "weakness_upper", "weakness_lower", "neck_flexors_weaker"), False, 7.3, "probable",
     "juvenile other"),
    # 2.2 + 0.5 + 1.2 + 1.4 + 3.1
    (65, ("weakness_lower", "legs_proximal_weaker", "enzymes_elevated", "rimmed_vacuoles"), True, 8.4, "probable",
     "IBM"),
])
def test_eular_acr_cases(age, items, biopsied, score, word, subgroup):
    row = eular_acr(patient(age, *items, biopsied=biopsied)).iloc[0]
    assert (row.eular_acr_score, row.eular_acr_class, row.eular_acr_subgroup) == (score, word, subgroup)
    assert row.eular_acr_probability == pytest.approx(1 / (1 + math.exp((6.49 if biopsied else 5.33) - score)))


def test_the_published_cutoffs_are_the_published_probabilities():
    """Scores of 5.5 and 7.5 (6.7 and 8.7 with biopsy) stand for about 55 % and 90 %."""
    for constant, scores in ((5.33, (5.5, 7.5)), (6.49, (6.7, 8.7))):
        found = [1 / (1 + math.exp(constant - score)) for score in scores]
        assert found == pytest.approx([0.55, 0.90], abs=0.01)


def test_inclusion_body_myositis_by_finger_flexors_that_did_not_respond():
    items = ("weakness_lower", "anti_jo_1")
    both = patient(60, *items, finger_flexors_weak=True, treatment_failed=True)
    assert eular_acr(both).eular_acr_subgroup.item() == "IBM"
    assert eular_acr(both.assign(treatment_failed=False)).eular_acr_subgroup.item() == "PM or IMNM"


def test_a_biopsy_that_was_not_done_gives_no_points_and_unknowns_are_counted():
    table = patient(45, "weakness_upper", "heliotrope_rash", "perifascicular_atrophy")
    assert eular_acr(table).eular_acr_score.item() == 5.9  # 2.1 + 0.7 + 3.1
    unknown = table.astype({"dysphagia": object}).assign(dysphagia=None, age_at_onset=np.nan)
    row = eular_acr(pd.concat([unknown, table])).iloc[0]
    assert row.eular_acr_unknown == 2 and row.eular_acr_score == 3.8 and row.eular_acr_subgroup == ""
    bare = table.drop(columns=list(BIOPSY))
    assert eular_acr(bare).eular_acr_score.item() == 5.9
    with pytest.raises(StatsError, match="perifascicular_atrophy"):
        eular_acr(bare.assign(biopsied=True))
    with pytest.raises(StatsError, match="outside 0 to 120"):
        eular_acr(table.assign(age_at_onset=450))


def test_ild_score_and_the_gaps_of_its_definition():
    percent = [0, 5, 10, 17, 25, 30, 50, 75, 100, np.nan]
    table = pd.DataFrame({"ild_severity": [0, 1, 1, 2, 2, 2, 3, 4, 4, 1], "ild_extent_percent": percent})
    found = ild_score(table)
    assert found.ild_extent.tolist()[:9] == [0, 1, 1, 1, 2, 2, 3, 4, 4] and found.ild_score.tolist()[:3] == [0, 2, 2]
    assert np.isnan(found.ild_score.iloc[9])
    assert found.ild_note.str.contains("no grade").tolist() == [False, True, *[False] * 8]
    assert found.ild_note.str.contains("two grades").sum() == 3
    assert ild_score(table, endpoint="lower").ild_extent.tolist()[:9] == [0, 1, 1, 1, 1, 2, 2, 3, 4]
    assert np.isnan(ild_score(table, below_10=None).ild_score.iloc[1])
    assert ild_score(table, below_10=0).ild_extent.iloc[1] == 0
    for wrong, words in ((table.assign(ild_severity=5), "outside 0 to 4"),
                         (table.assign(ild_severity=1.5), "whole grades"),
                         (table.assign(ild_extent_percent=120), "outside 0 to 100")):
        with pytest.raises(StatsError, match=words):
            ild_score(wrong)
    with pytest.raises(StatsError, match="below_10"):
        ild_score(table, below_10=2)


@pytest.mark.parametrize("kind", ["object", "boolean", "Int64", "Float64", "float", "category"])
def test_missing_findings_of_every_kind_are_unknown(kind):
    numbers = kind in ("Int64", "Float64", "float")
    values = pd.Series([1.0, np.nan, 0.0] if numbers else [True, None, False]).astype(kind)
    table = pd.DataFrame(dict.fromkeys(("weakness", "biopsy", "enzymes", "emg", "rash"), values))
    found = bohan_peter(table)
    assert found.bohan_peter.tolist() == ["definite DM", "not classified", "not classified"]
    assert found.bohan_peter_met.tolist() == [4, 0, 0] and found.bohan_peter_unknown.tolist() == [0, 5, 0]
    items = pd.DataFrame(dict.fromkeys([*EULAR_ACR, *BIOPSY, "biopsied"], values)).assign(age_at_onset=[50.0, 20, 30])
    plain = items.astype(object).where(items.notna(), None).assign(age_at_onset=items.age_at_onset)
    kept = [name for name in eular_acr(plain) if name.startswith("eular_acr")]
    pd.testing.assert_frame_equal(eular_acr(items)[kept], eular_acr(plain)[kept])
    assert eular_acr(items).eular_acr_unknown.tolist() == [0, 10, 0]


def test_names_in_place_of_findings_are_not_printed():
    table = pd.DataFrame({"subject": ["Anna", "Berta"], **dict.fromkeys(("biopsy", "enzymes", "emg", "rash"), True)})
    with pytest.raises(StatsError, match="'subject' holds 2 different values; expected True") as caught:
        bohan_peter(table, weakness="subject")
    assert "Anna" not in str(caught.value)
