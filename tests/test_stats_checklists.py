"""STARD 2015 and CLAIM 2024: numbering as published, answers of facts given and of nothing else."""

from __future__ import annotations

import string

import numpy as np
import pandas as pd
import pytest

from mrmyo.stats import StatsError, roc
from mrmyo.stats.checklists import CLAIM, COMPUTED, STARD, STATED, _items, checklist_facts, claim, facts_of_roc, stard

LISTS = [(STARD, stard), (CLAIM, claim)]
KNOWN = [*COMPUTED, *STATED]
TO_WRITE = "to be written by the author"


def measured():
    """Six patients and five controls, of whom five and one lie above 38, two pairs in disorder; one more without T2."""
    return pd.DataFrame({"group": ["IIM"] * 6 + ["HC"] * 5 + ["IIM"],
                         "t2_ms": [35, 39, 41, 44, 47, 52, 31, 32, 33, 34, 40, np.nan]})


def test_items_are_numbered_as_published():
    halves = {"10", "12", "13", "21"}
    numbers = [number for n in range(1, 31) for number in ([f"{n}a", f"{n}b"] if str(n) in halves else [str(n)])]
    assert stard({})["item"].tolist() == numbers and len(numbers) == 34
    assert claim({})["item"].tolist() == [str(n) for n in range(1, 45)]


def test_sections_hold_the_items_they_hold_in_the_lists():
    def bounds(table):
        spans = table.groupby(table["section"].str.split(":").str[0], sort=False)["item"]
        return [(name, items.iloc[0], items.iloc[-1]) for name, items in spans]

    assert bounds(stard({})) == [
        ("Title or abstract", "1", "1"), ("Abstract", "2", "2"), ("Introduction", "3", "4"), ("Methods", "5", "18"),
        ("Results", "19", "25"), ("Discussion", "26", "27"), ("Other information", "28", "30")]
    assert bounds(claim({})) == [
        ("Title/abstract", "1", "2"), ("Introduction", "3", "4"), ("Methods", "5", "34"), ("Results", "35", "39"),
        ("Discussion", "40", "41"), ("Other information", "42", "44")]


def test_landmarks_of_both_lists():
    of_stard, of_claim = (made({}).set_index("item")["keys"] for _, made in LISTS)
    for item, key in {"6": "eligibility", "11": "reference_rationale", "18": "sample_size", "22": "test_interval",
                      "25": "adverse_events", "28": "registration", "29": "protocol", "30": "funding"}.items():
        assert of_stard[item] == key
    for item, key in {"9": "preprocessing", "13": "acquisition", "20": "partition_level", "21": "sample_size",
                      "27": "ensemble", "33": "external_testing", "34": "registration", "40": "limitations",
                      "42": "protocol", "44": "funding"}.items():
        assert of_claim[item] == key


@pytest.mark.parametrize("name", [STARD, CLAIM])
def test_every_template_says_each_of_its_facts_once_and_no_other(name):
    for item in _items(name):
        said = [field for _, field, _, _ in string.Formatter().parse(item["template"]) if field is not None]
        assert sorted(said) == sorted(set(said)) == sorted(item["keys"].split()), item["item"]
        assert item["topic"] and item["section"], item["item"]


def test_every_fact_is_asked_for_and_every_question_is_a_fact():
    asked = {key for name, _ in LISTS for item in _items(name) for key in item["keys"].split()}
    assert asked == set(KNOWN) and not set(COMPUTED) & set(STATED)
    table = checklist_facts().set_index("fact")
    assert set(table.index) == asked and (table["meaning"] != "").all()
    assert (table.loc["auc", "stard"], table.loc["auc", "claim"], table.loc["auc", "where"]) == ("24", "38", "computed")
    assert table.loc["cutoff", "stard"] == "12a, 23, 24" and table.loc["ethics", "where"] == "stated by the author"


@pytest.mark.parametrize("made", [stard, claim])
def test_nothing_is_filled_without_facts(made):
    for facts in ({}, {"auc": np.nan, "cutoff": None, "funding": "", "title": "  ", "versions": {}, "seed": pd.NA}):
        table = made(facts)
        assert (table["status"] == TO_WRITE).all() and (table["where"] == "").all()
        for row in table.itertuples():
            assert row.answer == f"Lacks {row.keys}."


@pytest.mark.parametrize("made", [stard, claim])
def test_with_all_facts_all_is_filled_with_them(made):
    facts = {key: f"«{key}»" for key in KNOWN}
    table = made(facts)
    assert (table["status"] == "filled").all()
    for row in table.itertuples():
        assert all(facts[key] in row.answer for key in row.keys.split(", ")), row.item
        assert "{" not in row.answer


@pytest.mark.parametrize("key", KNOWN)
def test_each_fact_alone_fills_no_item_that_needs_another(key):
    for made in (stard, claim):
        table = made({key: "x"})
        assert table.loc[table["status"] == "filled", "keys"].isin([key]).all()
        lacking = table[table["keys"].str.split(", ").map(lambda keys: key in keys) & (table["status"] != "filled")]
        assert all(key not in answer.removeprefix("Lacks ").removesuffix(".").split(", ")
                   for answer in lacking["answer"])


def test_a_row_of_roc_answers_what_it_can():
    facts = facts_of_roc(roc(measured(), cutoff=38))
    assert facts["auc"] == pytest.approx(28 / 30) and facts["n_analysed"] == 11 and facts["n_missing"] == 1
    assert [facts[name] for name in ("true_positive", "false_negative", "true_negative", "false_positive")] == [
        5, 1, 4, 1]
    assert "cutoff_prespecified" not in facts  # only the author knows
    table = stard(facts).set_index("item")
    assert table.index[table["status"] == "filled"].tolist() == ["23", "24"]
    assert (table.loc[["23", "24"], "where"] == "computed").all()
    assert table.loc["23", "answer"] == ("IIM: 6, 5 at or above the cutoff 38, 1 below. HC: 5, 1 at or above, 4 "
                                         "below.")
    for said in ("0.9333 ", "0.8333 ", "0.8 ", "95 %", "DeLong", "Clopper–Pearson"):
        assert said in table.loc["24", "answer"], said
    assert table.loc["12a", "answer"] == "Lacks cutoff_rationale, cutoff_prespecified."
    assert claim(facts).set_index("item").loc["38", "answer"] == table.loc["24", "answer"]


def test_a_cutoff_by_youden_was_not_set_beforehand():
    facts = facts_of_roc(roc(measured()).iloc[0]) | {"cutoff_rationale": "highest Youden index"}
    row = stard(facts).set_index("item").loc["12a"]
    assert row["answer"] == ("Cutoff 34.5 (Youden, midpoint); reason: highest Youden index; set before the data were "
                             "seen: no.")
    assert row["where"] == "stated by the author"


def test_what_roc_could_not_find_stays_open():
    facts = facts_of_roc(roc(measured().assign(t2_ms=35.0)))
    assert not {"cutoff", "sensitivity", "true_positive", "false_negative", "auc_low"} & set(facts)
    table = stard(facts).set_index("item")
    assert (table["status"] == TO_WRITE).all() and "auc_low" in table.loc["24", "answer"]


def test_facts_are_written_out():
    facts = {"software": "mrmyo", "versions": {"mrmyo": "0.1.0", "numpy": "2.4.6"}, "hardware": ["CPU", "no GPU"],
             "funding": "None. ", "initialisation": "random {uniform}", "seed": np.int64(2026)}
    for given in (facts, pd.Series(facts), pd.DataFrame([facts])):
        answers = claim(given).set_index("item")["answer"]
        assert answers["23"] == "mrmyo (mrmyo 0.1.0, numpy 2.4.6). Hardware: CPU, no GPU."
        assert answers["44"] == "None." and answers["24"] == "random {uniform}. Seed: 2026."


def test_not_applicable_is_the_authors_word():
    table = claim({"ensemble": "not applicable", "registration": "Not applicable.", "seed": "not applicable",
                   "initialisation": "weights of another model"}).set_index("item")
    assert (table.loc[["27", "34"], "status"] == "not applicable").all()
    assert (table.loc[["27", "34"], "where"] == "stated by the author").all()
    assert table.loc["24", "answer"] == "weights of another model. Seed: not applicable."
    assert (table["status"] == "not applicable").sum() == 2


@pytest.mark.parametrize(("facts", "match"), [
    ({"sensitvity": 0.9}, r"\['sensitvity'\].*'sensitivity'"), ({"AUC": 0.9, "xyzzyq": 1}, "checklist_facts"),
    ({3: 0.9}, r"\['3'\]"), ([("auc", 1)], "Found a list"), (pd.DataFrame({"auc": [0.8, 0.9]}), "2 rows"),
    (pd.DataFrame({"auc": []}), "0 rows"), (None, "NoneType"),
])
def test_refusals(facts, match):
    for made in (stard, claim):
        with pytest.raises(StatsError, match=match):
            made(facts)


def test_refusals_of_other_rows_than_of_roc():
    with pytest.raises(StatsError, match=r"no \['cutoff'\]"):
        facts_of_roc(roc(measured()).drop(columns="cutoff"))
    with pytest.raises(StatsError, match="2 rows"):
        facts_of_roc(pd.concat([roc(measured())] * 2))
    with pytest.raises(StatsError, match="Found a float"):
        facts_of_roc(0.9)


@pytest.mark.parametrize(("options", "known"), [
    ({}, True), ({"cutoff": "closest"}, True), ({"cutoff": "cost", "cost_ratio": 0.5, "prevalence": 0.3}, True),
    ({"cutoff": "specificity", "min_specificity": 0.8}, True), ({"cutoff": 38}, False),
], ids=["youden", "closest", "cost", "specificity", "given"])
def test_no_cutoff_that_a_rule_chose_was_set_beforehand(options, known):
    facts = facts_of_roc(roc(measured(), **options))
    assert facts.get("cutoff_prespecified", "left to the author") == (False if known else "left to the author")
