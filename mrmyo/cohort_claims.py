"""Every number that the paper prints, beside what a cohort gives for it."""

from __future__ import annotations

import numpy as np

from mrmyo.cohort_findings import ENZYMES
from mrmyo.cohort_t2 import CUTOFF_MS
from mrmyo.paper import printed_figures

__all__ = ["compare_sources", "verify_cohort"]

# what a variant gives up, and what no cohort can give
GIVEN_UP = {
    "group means": {"N126": "its sign: T2 is lower in the mean with lung disease, and so the correlation is negative"},
    "as printed": {},
}
CANNOT_HOLD = dict.fromkeys(("N148", "N156", "N164", "N172"),
                            "the four printed p follow from the printed correlations of 62 patients, not of 64")
REMARKS = {
    "N078": "12 definite, 14 probable and one who is left unclassified",
    "N113": "normal: not above the upper limit",
    "N116": "of the whole thigh", "N117": "of the lesion",
    "N131": {"as printed": "though T2 ranks higher with lung disease"},
}
PRINTED = {"N018": "0.080"}  # a digit that the table of numbers does not keep
# that depend on T2, each once
SHOWN = {"N101", "N102", "N103", "N104", "N105", "N106", "N010", "N011", "N012", "N140", "N141", "N146", "N147", "N154",
         "N155", "N162", "N163", "N170", "N171", "N178", "N179", "N112", "N114", "N126", "N018", "N127", "N128", "N129",
         "N130", "N131", "N135", "N116"}


def verify_cohort(cohort, *, variant: str = "group means"):
    """Hold a cohort against every number that the paper prints.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With the columns of `mrmyo.load_cohort`.
    variant : {"group means", "as printed"}
        As `mrmyo.cohort.make_cohort` takes it: what it gives up is called so.

    Returns
    -------
    pandas.DataFrame
        One row per printed number: id, section, quantity, group, statistic, printed, computed (as text with the printed
        decimals; empty where the number is none of the cohort's), verdict ("holds", "given up", "cannot hold", "fails",
        or "not of the cohort"), note.
    """
    import pandas as pd

    computed = _computed(cohort)
    table = printed_figures()[["id", "section", "quantity", "group", "statistic", "text"]]
    rows = []
    for row in table.rename(columns={"text": "printed"}).to_dict("records"):
        identity, value = row["id"], computed.get(row["id"])
        row["printed"] = PRINTED.get(identity, row["printed"])
        note = REMARKS.get(identity, "")
        note = note.get(variant, "") if isinstance(note, dict) else note
        if value is None:
            rows.append({**row, "computed": "", "verdict": "not of the cohort", "note": ""})
            continue
        text = _as_printed(value, row["printed"])
        if text == row["printed"]:
            verdict = "holds"
        elif identity in GIVEN_UP[variant]:
            verdict, note = "given up", GIVEN_UP[variant][identity]
        elif identity in CANNOT_HOLD:
            verdict, note = "cannot hold", CANNOT_HOLD[identity]
        else:
            verdict = "fails"
        rows.append({**row, "computed": text, "verdict": verdict, "note": note})
    return pd.DataFrame(rows)


def _as_printed(value, text):
    if isinstance(value, str):
        return value
    if text.startswith("<"):
        return text if value < float(text[1:]) else f"{value:.3f}"
    return f"{value:.{len(text.partition('.')[2])}f}"


def compare_sources(measured):
    """Every printed number that depends on T2, three times: printed, from the cohort table, and measured.

    Parameters
    ----------
    measured : pandas.DataFrame
        The cohort, or some of it, with ``t2_measured_ms``; what too few subjects cannot give is left empty.

    Returns
    -------
    pandas.DataFrame
        id, quantity, group, statistic, printed, table, measured (numbers), same_digits (whether the measured number
        prints as the table's does, with the printed decimals).
    """
    import pandas as pd

    from_table = _computed(measured)
    through = _computed(measured.assign(t2_ms=measured.t2_measured_ms))
    rows = []
    for row in printed_figures()[["id", "quantity", "group", "statistic", "text"]].to_dict("records"):
        text = row.pop("text")
        text = PRINTED.get(row["id"], text)
        if row["id"] in SHOWN and row["id"] in from_table and row["id"] in through:
            table, number = from_table[row["id"]], through[row["id"]]
            rows.append({**row, "printed": text, "table": table, "measured": number,
                         "same_digits": _as_printed(table, text) == _as_printed(number, text)})
    return pd.DataFrame(rows, columns=[
        "id", "quantity", "group", "statistic", "printed", "table", "measured", "same_digits"])


def _computed(cohort):
    """What the cohort gives, by the ids of the printed numbers; what it is too small for is left out."""
    patients, controls = cohort[cohort.group == "IIM"], cohort[cohort.group == "HC"]
    parts = (_counts(cohort, patients, controls), _of_t2(cohort, patients, controls), _of_enzymes(patients),
             _of_lungs(patients), _of_case(patients))
    return {identity: value for part in parts for ids, value in part.items() for identity in ids.split()
            if isinstance(value, str) or not np.isnan(value)}


def _row(statistic, *arguments, **options):
    """The row of a statistic, with NaN for everything where the table is too small for it."""
    from collections import defaultdict

    from mrmyo.stats import StatsError

    try:
        return statistic(*arguments, **options).iloc[0].to_dict()
    except StatsError:
        return defaultdict(lambda: np.nan)


def _counts(cohort, patients, controls):
    def count(name, answer):
        return (patients[name] == answer).sum()

    def certain(subtype, answer):
        return ((patients.subtype == subtype) & (patients.certainty == answer)).sum()

    age, months = patients.age, patients.duration_months
    men, women = count("sex", "M"), count("sex", "F")
    return {
        "N001 N073 N136 N142": len(patients), "N005 N024 N074": len(controls), "N072": len(cohort),
        "N002 N078": count("subtype", "DM"), "N003 N081": count("subtype", "PM"), "N004 N084": count("subtype", "ASS"),
        "N079": certain("DM", "definite"), "N080": certain("DM", "probable"),
        "N082": certain("PM", "definite"), "N083": certain("PM", "probable"),
        "N075": count("biopsy", "muscle"), "N076": count("biopsy", "skin"), "N077": count("biopsy", "muscle and skin"),
        "N085": men, "N086": women, "N087": f"1:{women / men:.1f}" if men else np.nan,
        "N088 N137": age.mean(), "N089 N138": age.min(), "N090 N139": age.max(),
        "N091 N143": months.mean(), "N092 N144": months.min(), "N093 N145": months.max(),
        "N094": count("treatment", "untreated"), "N095": count("treatment", "relapsed on treatment"),
        "N096": (controls.sex == "M").sum(), "N097": (controls.sex == "F").sum(),
        "N098": controls.age.mean(), "N099": controls.age.min(), "N100": controls.age.max(),
    }


def _of_t2(cohort, patients, controls):
    from mrmyo import stats

    curve = _row(stats.roc, cohort, score="t2_ms", group="group", positive="IIM")
    age = _row(stats.spearman, patients, x="age", y="t2_ms")
    months = _row(stats.spearman, patients, x="duration_months", y="t2_ms")
    return {
        "N101": patients.t2_ms.mean(), "N102": patients.t2_ms.std(), "N103": controls.t2_ms.mean(),
        "N104": controls.t2_ms.std(), "N006 N105": curve["p"], "N106 N107": curve["auc"],
        "N007 N010 N013": curve["cutoff"], "N008 N011 N014": 100 * curve["sensitivity"],
        "N009 N012 N015": 100 * curve["specificity"],
        "N140": age["r"], "N141": age["p"], "N146": months["r"], "N147": months["p"],
    }


def _of_enzymes(patients):
    from mrmyo import stats

    found, p_values = {}, []
    for first, name, text_id in ((148, "ck_u_l", "N108"), (156, "alt_u_l", "N109"), (164, "ast_u_l", "N110"),
                                 (172, "ldh_u_l", "N111")):
        values, rank = patients[name], _row(stats.spearman, patients, x=name, y="t2_ms")
        found |= {f"N{first}": values.notna().sum(), f"N{first + 2}": ENZYMES[name][3], f"N{first + 3}": values.mean(),
                  f"N{first + 4}": values.min(), f"N{first + 5}": values.max(), f"N{first + 6}": rank["r"],
                  f"N{first + 7}": rank["p"], text_id: rank["p"]}
        p_values.append(rank["p"])
    normal = patients[patients.ck_u_l <= ENZYMES["ck_u_l"][3]]
    seen = normal[normal.t2_ms >= CUTOFF_MS]
    return found | {"N016": max(p_values), "N112": len(seen), "N113": len(normal),
                    "N114": 100 * len(seen) / len(normal) if len(normal) else np.nan,
                    "N115": seen.biopsy.isin(["muscle", "muscle and skin"]).sum()}


def _of_lungs(patients):
    from mrmyo import stats

    ild, without = patients[patients.ild == "ILD"], patients[patients.ild == "no ILD"]
    by_ass = patients.assign(ass=np.where(patients.subtype == "ASS", "ASS", "others"))
    score = _row(stats.mann_whitney, by_ass, value="ild_score", group="ass")
    t2_by_ass = _row(stats.mann_whitney, by_ass, value="t2_ms", group="ass")
    rank = _row(stats.spearman, patients, x="ild_score", y="t2_ms")
    means = by_ass.groupby("ass").ild_score.mean().reindex(["ASS", "others"])
    return {
        "N121": len(ild), "N122 N185": 100 * len(ild) / len(patients) if len(patients) else np.nan,
        "N124": ild.ild_score.mean(), "N125": ild.ild_score.std(), "N126": rank["r"], "N018": rank["p"],
        "N127": without.t2_ms.mean(), "N128": without.t2_ms.std(), "N129": ild.t2_ms.mean(), "N130": ild.t2_ms.std(),
        "N131": _row(stats.mann_whitney, patients, value="t2_ms", group="ild")["p"], "N132": means["ASS"],
        "N133": means["others"], "N134": abs(score["z"]), "N017": score["p"], "N135": abs(t2_by_ass["z"]),
    }


def _of_case(patients):
    case = patients[patients.t2_lesion_ms.notna()]
    return {"N116": case.t2_ms.mean(), "N117": case.t2_lesion_ms.mean(), "N118": case.age.mean()}
