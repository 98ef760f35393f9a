"""Reporting checklists filled from facts: STARD 2015 for diagnostic accuracy, CLAIM 2024 for AI in medical imaging.

The numbering and the sections are those of STARD 2015 (Bossuyt et al., BMJ 2015; 351:h5527), taken from reprints of its
table (BMJ Open 2016; 6:e012799, Res Integr Peer Rev 2016; 1:7) and a public transcript, and of the CLAIM 2024 update
(Tejani et al., Radiol Artif Intell 2024; 6:e240300), taken from two public transcripts that agree item by item. The
topics are told in our own words and are no substitute for the lists: read the original beside each answer.

Nothing is ever made up: an answer holds the facts given and no more, and an item that lacks one is left to the author.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mrmyo.stats.columns import StatsError

__all__ = ["checklist_facts", "claim", "facts_of_roc", "stard"]

STARD, CLAIM = "STARD 2015", "CLAIM 2024"
NOT_APPLICABLE = "not applicable"
COMPUTED = {
    "auc": "area under the ROC curve", "auc_low": "its lower limit", "auc_high": "its upper limit",
    "auc_method": "how the area's interval was found", "cutoff": "at or above which the index test is positive",
    "cutoff_method": "how the cutoff was found", "false_negative": "positives below the cutoff, a count",
    "false_positive": "negatives at or above the cutoff, a count", "model_hash": "SHA-256 of the weights",
    "n_analysed": "subjects analysed", "n_failed": "subjects whose measurement failed",
    "n_missing": "subjects without test or reference standard", "n_negative": "subjects without the target condition",
    "n_positive": "subjects with the target condition", "n_subjects": "subjects altogether",
    "negative": "name of the group without the target condition", "positive": "name of the group with it",
    "seed": "of random numbers", "sensitivity": "a share, 0 to 1", "sensitivity_high": "its upper limit",
    "sensitivity_low": "its lower limit", "software": "name of the program", "specificity": "a share, 0 to 1",
    "specificity_high": "its upper limit", "specificity_low": "its lower limit",
    "true_negative": "negatives below the cutoff, a count", "true_positive": "positives at or above it, a count",
    "uncertainty": "kind and level of the intervals", "versions": "of the program and what it rests on",
}
STATED = {
    "abstract": "where the abstract is, or what it holds", "acquisition": "scanner, sequence and its parameters",
    "adverse_events": "harm done by either test", "ai_technology": "kind of model, such as a convolutional network",
    "alternative_diagnoses": "what the negatives had", "annotators": "who, how trained",
    "availability": "of model and data", "background": "what is known", "baseline_by_partition": "who is in which part",
    "baseline_table": "where the table of participants is (`table_one`)", "code_url": "where the program is",
    "cutoff_prespecified": "whether the cutoff was set before the data were seen, true or false",
    "cutoff_rationale": "why this cutoff", "data_source": "where the data come from", "dates": "of recruitment",
    "deidentification": "how identities were removed", "design": "prospective or retrospective",
    "eligibility": "who could take part", "ensemble": "how models were joined", "estimand": "what exactly is estimated",
    "ethics": "committee and number of its vote", "explainability": "how answers of the model are explained",
    "external_testing": "on data of another source", "failure_analysis": "which cases went wrong and why",
    "flow_diagram": "where the diagram is", "funding": "who paid, and what they had to say",
    "hardware": "what it ran on",
    "identification": "how candidates were found", "implications": "what follows for practice",
    "indeterminate": "what became of results that decide nothing",
    "index_blinding": "what readers of the index test knew", "index_test": "what was measured, and how",
    "initialisation": "where the weights started", "intended_use": "what the test is for",
    "internal_testing": "on data of the same source", "limitations": "of the study",
    "metrics": "measures of performance",
    "missing_handling": "what became of missing results", "model_description": "architecture, input and output",
    "model_name": "name and version of the model", "model_selection": "how the final model was chosen",
    "objectives": "aims and hypotheses", "partition_level": "what parts of the data do not share",
    "partitions": "training, tuning and testing: how parted, how many", "performance": "of the model, in each part",
    "preprocessing": "of the images", "protocol": "where it is", "rater_variability": "between and within annotators",
    "reference_blinding": "what assessors of the reference standard knew",
    "reference_cutoff": "of the reference standard, why, and whether set beforehand",
    "reference_rationale": "why this reference standard", "reference_standard": "how it is known who is ill",
    "registration": "registry and number", "robustness": "analyses of sensitivity", "sample_size": "planned, and why",
    "sampling": "consecutive, random or by convenience", "setting": "where participants were found",
    "severity": "of the disease among the positives", "study_goal": "what the study is to achieve",
    "subset_selection": "which part of the data was used, and why", "test_annotation": "how the test set was annotated",
    "test_interval": "time and treatment between both tests", "title": "of the paper",
    "training": "how, with which settings",
    "training_data": "of what it was trained", "variability": "analyses of it, planned or not",
}
ROC = ("positive", "negative", "n_positive", "n_negative", "n_missing", "auc", "auc_low", "auc_high", "auc_method",
       "cutoff", "cutoff_method", "sensitivity", "sensitivity_low", "sensitivity_high", "true_positive", "specificity",
       "specificity_low", "specificity_high", "true_negative")


def stard(facts) -> pd.DataFrame:
    """The 30 items of STARD 2015 in 34 rows, filled as far as the facts go.

    Parameters
    ----------
    facts : dict, pandas.Series or pandas.DataFrame of one row
        What is known, by the keys of `checklist_facts`; None, NaN and empty texts count as not given. Lists and dicts
        are written out. An item is not applicable when all its facts are given as "not applicable".

    Returns
    -------
    pandas.DataFrame
        One row per item: item ("10a"), section, topic (in our words), answer (composed of the facts, or the facts that
        lack), where ("computed" when the program found all its facts, "stated by the author" when any is the author's
        word, "" without an answer), status ("filled", "to be written by the author" or "not applicable"), keys (the
        facts the item needs).

    Raises
    ------
    StatsError
        When the facts are of another kind, or a key is unknown; the nearest known ones are named.

    Notes
    -----
    STARD 2015: Bossuyt et al., BMJ 2015; 351:h5527. "computed" goes by the key: who gives the number of another program
    for ``auc`` answers for it.
    """
    return _filled(STARD, facts)


def claim(facts) -> pd.DataFrame:
    """The 44 items of the CLAIM 2024 update, filled as far as the facts go.

    Parameters
    ----------
    facts : dict, pandas.Series or pandas.DataFrame of one row
        As for `stard`, about the model: a ROC curve belongs here only when the model's output is what was tested.

    Returns
    -------
    pandas.DataFrame
        As of `stard`.

    Raises
    ------
    StatsError
        As `stard`.

    Notes
    -----
    CLAIM: Tejani et al., Radiol Artif Intell 2024; 6:e240300. The vote of the ethics committee has no item of its own;
    it is asked for with item 11.
    """
    return _filled(CLAIM, facts)


def checklist_facts() -> pd.DataFrame:
    """All facts that `stard` and `claim` know.

    Returns
    -------
    pandas.DataFrame
        One row per fact: fact (the key), meaning, where ("computed" or "stated by the author"), stard, claim (the items
        that need it).
    """
    rows = [{"fact": key, "meaning": meaning, "where": where} for known, where in (
        (COMPUTED, "computed"), (STATED, "stated by the author")) for key, meaning in known.items()]
    for row in rows:
        for column, name in (("stard", STARD), ("claim", CLAIM)):
            row[column] = ", ".join(item["item"] for item in _items(name) if row["fact"] in item["keys"].split())
    return pd.DataFrame(rows).sort_values("fact", ignore_index=True)


def facts_of_roc(row) -> dict:
    """The facts that one row of `mrmyo.stats.roc` holds.

    Parameters
    ----------
    row : dict, pandas.Series or pandas.DataFrame of one row
        As `mrmyo.stats.roc` returns it.

    Returns
    -------
    dict
        Facts for `stard` and `claim`; what is NaN is left out. Beside the row's numbers: n_analysed, false_negative,
        false_positive, uncertainty (how roc found its intervals), and, for a cutoff that a rule chose,
        cutoff_prespecified: false, for it was found in the data it is tested on. Whether a given cutoff was set
        beforehand is left to the author.

    Raises
    ------
    StatsError
        When the row is of another kind or lacks a column of roc.
    """
    given = _as_dict(row, "one row of mrmyo.stats.roc")
    missing = [name for name in ROC if name not in given]
    if missing:
        raise StatsError(f"Found no {missing}; expected one row as mrmyo.stats.roc returns it.")
    facts = {name: given[name] for name in ROC if not _absent(given[name])}
    for group, right, wrong in (("n_positive", "true_positive", "false_negative"),
                                ("n_negative", "true_negative", "false_positive")):
        if group in facts and right in facts:
            facts[wrong] = facts[group] - facts[right]
    if {"n_positive", "n_negative"} <= set(facts):
        facts["n_analysed"] = facts["n_positive"] + facts["n_negative"]
    if facts.get("cutoff_method", "given") != "given":
        facts["cutoff_prespecified"] = False
    if "auc_method" in facts:
        facts["uncertainty"] = (f"95 % confidence intervals: {facts['auc_method']} for the area, Clopper–Pearson for "
                                "sensitivity and specificity")
    return facts


def _filled(name, facts):
    facts = _checked(facts)
    rows = []
    for item in _items(name):
        keys = item["keys"].split()
        missing = [key for key in keys if key not in facts]
        row = {"item": item["item"], "section": item["section"], "topic": item["topic"], "where": ""}
        if missing:
            row |= {"answer": f"Lacks {', '.join(missing)}.", "status": "to be written by the author"}
        elif all(facts[key].lower() == NOT_APPLICABLE for key in keys):
            row |= {"answer": "Not applicable.", "where": "stated by the author", "status": NOT_APPLICABLE}
        else:
            row |= {"answer": item["template"].format_map(facts), "status": "filled",
                    "where": "computed" if set(keys) <= set(COMPUTED) else "stated by the author"}
        rows.append(row | {"keys": ", ".join(keys)})
    return pd.DataFrame(rows)[["item", "section", "topic", "answer", "where", "status", "keys"]]


def _items(name):
    table = pd.read_csv(Path(__file__).with_name("checklists.csv"), dtype=str, keep_default_na=False)
    return table[table["list"] == name].to_dict("records")


def _checked(facts):
    """The facts as text, without those not given."""
    given = _as_dict(facts, "a dict of facts")
    known = sorted([*COMPUTED, *STATED])
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        near = sorted({match for key in unknown for match in difflib.get_close_matches(key, known, n=3, cutoff=0.5)})
        nearest = f"the nearest known are {near[:8]}. " if near else ""
        raise StatsError(f"Found the facts {unknown[:8]}, which no checklist asks for; {nearest}checklist_facts() "
                         "lists all that are known.")
    return {key: _say(value) for key, value in given.items() if not _absent(value)}


def _as_dict(facts, expected):
    if isinstance(facts, pd.DataFrame):
        if len(facts) != 1:
            raise StatsError(f"Found a table of {len(facts)} rows; expected {expected}.")
        facts = facts.iloc[0]
    if not isinstance(facts, (Mapping, pd.Series)):
        raise StatsError(f"Found a {type(facts).__name__}; expected {expected}, or a table of one row.")
    return dict(facts.items())


def _absent(value):
    if isinstance(value, (str, list, tuple, Mapping, np.ndarray, pd.Series, pd.DataFrame)):
        return len(value) == 0 or (isinstance(value, str) and not value.strip())
    return bool(pd.isna(value))


def _say(value):
    """A fact as text: four digits of a number, and no full stop, which the sentence around it has."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_say(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple, np.ndarray, pd.Series)):
        return ", ".join(map(_say, value))
    return str(value).strip().removesuffix(".")
