"""Clinical scores and classes, each by its published definition. For research use only, not for diagnosis.

Columns of findings hold True, False or nothing. What is not known counts as absent, as the definitions have it, and is
counted: such a class is the least that the patient can have.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mrmyo.stats.columns import StatsError, numbers, require_columns, values_in_words

__all__ = ["bohan_peter", "eular_acr", "ild_score"]

# Lundberg et al., Ann Rheum Dis 2017; 76:1955, table 2: points without and with a muscle biopsy
EULAR_ACR = {
    "weakness_upper": (0.7, 0.7), "weakness_lower": (0.8, 0.5), "neck_flexors_weaker": (1.9, 1.6),
    "legs_proximal_weaker": (0.9, 1.2), "heliotrope_rash": (3.1, 3.2), "gottron_papules": (2.1, 2.7),
    "gottron_sign": (3.3, 3.7), "dysphagia": (0.7, 0.6), "anti_jo_1": (3.9, 3.8), "enzymes_elevated": (1.3, 1.4),
}
BIOPSY = {"endomysial_infiltration": 1.7, "perimysial_infiltration": 1.2, "perifascicular_atrophy": 1.9,
          "rimmed_vacuoles": 3.1}
ONSET = {"18 to 39": (1.3, 1.5), "40 and older": (2.1, 2.2)}
CONSTANT = (5.33, 6.49)
CLASSES = ((7.5, 8.7, "definite"), (5.5, 6.7, "probable"), (5.3, 6.5, "possible"))
SKIN = ("heliotrope_rash", "gottron_papules", "gottron_sign")
WEAK = ("weakness_upper", "weakness_lower", "neck_flexors_weaker", "legs_proximal_weaker")


def ild_score(table, *, severity="ild_severity", extent_percent="ild_extent_percent", below_10=1,
              endpoint="upper") -> pd.DataFrame:
    """The paper's score of interstitial lung disease in CT: severity (0 to 4) and extent (0 to 4) added.

    Its grades of the extent are 0 (none), 10 to 25, 25 to 50, 50 to 75 and 75 to 100 %. They leave out what is above 0
    and below 10 %, and 25, 50 and 75 % are in two; both has to be decided.

    Parameters
    ----------
    table : pandas.DataFrame
    severity, extent_percent : str
        Columns: whole numbers 0 to 4, and 0 to 100.
    below_10 : {1, 0, None}
        The grade of an extent above 0 and below 10 %; None leaves the score missing.
    endpoint : {"upper", "lower"}
        Whether 25, 50 and 75 % are in the higher or the lower of their two grades.

    Returns
    -------
    pandas.DataFrame
        The table with ``ild_extent``, ``ild_score`` (missing where a part is) and ``ild_note``, which tells where the
        definition had to be filled in.

    Raises
    ------
    StatsError
        When a column is missing, holds no numbers or some outside its range, or an option is unknown.
    """
    if below_10 not in (0, 1, None) or endpoint not in ("upper", "lower"):
        raise StatsError(f"Found below_10={below_10!r}, endpoint={endpoint!r}; expected 1, 0 or None, and 'upper' or "
                         "'lower'.")
    require_columns(table, severity, extent_percent)
    grade, percent = numbers(table, severity), numbers(table, extent_percent)
    for name, values, most in ((severity, grade, 4), (extent_percent, percent, 100)):
        known = values[~np.isnan(values)]
        if (known < 0).any() or (known > most).any() or (name == severity and (known % 1 > 0).any()):
            raise StatsError(f"Column {name!r} holds values outside 0 to {most}"
                             f"{' or between whole grades' if name == severity else ''}.")
    edges = [10, 25, 50, 75]
    extent = np.searchsorted(edges, percent, side="right" if endpoint == "upper" else "left").astype(float)
    extent[percent == 10] = 1  # the lower end of the first grade, in any case
    gap = (percent > 0) & (percent < 10)
    extent[gap] = np.nan if below_10 is None else below_10
    extent[np.isnan(percent)] = np.nan
    shared = np.isin(percent, edges[1:])
    notes = np.where(gap, "extent between 0 and 10 %, which no grade covers",
                     np.where(shared, "extent at the end of two grades", ""))
    return table.assign(ild_extent=extent, ild_score=grade + extent, ild_note=notes)


def bohan_peter(table, *, weakness="weakness", biopsy="biopsy", enzymes="enzymes", emg="emg",
                rash="rash") -> pd.DataFrame:
    """Dermatomyositis and polymyositis by Bohan and Peter (N Engl J Med 1975; 292:344 and 403).

    Parameters
    ----------
    table : pandas.DataFrame
        One row per patient; the exclusions of the criteria are left to whoever made it.
    weakness, biopsy, enzymes, emg, rash : str
        Columns of findings: symmetrical proximal weakness, biopsy of myositis, elevated muscle enzymes,
        electromyography of myositis, the rash of dermatomyositis.

    Returns
    -------
    pandas.DataFrame
        The table with ``bohan_peter`` ("definite DM", "probable PM", …, "not classified"), ``bohan_peter_met`` (of the
        four findings of muscle) and ``bohan_peter_unknown`` (findings that are not known).

    Raises
    ------
    StatsError
        When a column is missing or holds something else than True, False and nothing.
    """
    names = [weakness, biopsy, enzymes, emg, rash]
    found, unknown = _findings(table, names)
    met, rashes = found[:, :4].sum(axis=1), found[:, 4]
    by_met = {True: {4: "definite DM", 3: "definite DM", 2: "probable DM", 1: "possible DM"},
              False: {4: "definite PM", 3: "probable PM", 2: "possible PM"}}
    classes = [by_met[bool(skin)].get(int(count), "not classified") for count, skin in zip(met, rashes, strict=True)]
    return table.assign(bohan_peter=classes, bohan_peter_met=met.astype(int), bohan_peter_unknown=unknown)


def eular_acr(table, *, age_at_onset="age_at_onset", biopsied="biopsied", finger_flexors="finger_flexors_weak",
              treatment_failed="treatment_failed") -> pd.DataFrame:
    """The 2017 EULAR/ACR score for inflammatory myopathies, without or with a muscle biopsy, and the subgroup.

    Lundberg et al., Ann Rheum Dis 2017; 76:1955. For when no better explanation of the symptoms exists.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per patient with a column for every item: the keys of `EULAR_ACR`, and those of `BIOPSY` where somebody
        was biopsied.
    age_at_onset : str
        Years.
    biopsied : str
        Whether the points with biopsy count for a patient.
    finger_flexors, treatment_failed : str
        For inclusion body myositis; columns that may be missing.

    Returns
    -------
    pandas.DataFrame
        The table with ``eular_acr_score``, ``eular_acr_probability`` (of a myopathy, 0 to 1), ``eular_acr_class``
        ("definite", "probable", "possible", "no"), ``eular_acr_subgroup`` (DM, ADM, PM or IMNM, IBM, JDM, juvenile
        other; empty below "probable") and ``eular_acr_unknown`` (items that are not known).

    Raises
    ------
    StatsError
        When a column is missing, or holds what it should not.
    """
    require_columns(table, age_at_onset, biopsied, *EULAR_ACR)
    age = numbers(table, age_at_onset)
    if ((age[~np.isnan(age)] < 0) | (age[~np.isnan(age)] > 120)).any():
        raise StatsError(f"Column {age_at_onset!r} holds ages outside 0 to 120 years.")
    found, unknown = _findings(table, list(EULAR_ACR))
    has_biopsy = _findings(table, [biopsied])[0][:, 0].astype(int)
    points = np.array(list(EULAR_ACR.values()))
    score = np.array([items @ points[:, column] for items, column in zip(found, has_biopsy, strict=True)])
    adult = np.where(age >= 40, 1, np.where(age >= 18, 0, -1))
    onset = np.array(list(ONSET.values()))
    score += np.where(adult >= 0, onset[np.maximum(adult, 0), has_biopsy], 0.0)
    tissue = np.zeros((len(table), len(BIOPSY)), bool)
    if has_biopsy.any():
        require_columns(table, *BIOPSY)
        tissue, missing = _findings(table, list(BIOPSY))
        score += np.where(has_biopsy == 1, tissue @ np.array(list(BIOPSY.values())), 0.0)
        unknown = unknown + np.where(has_biopsy == 1, missing, 0)
    score = np.round(score, 1)
    probability = 1 / (1 + np.exp(np.array(CONSTANT)[has_biopsy] - score))
    classes = np.full(len(table), "no", dtype=object)
    for bare, with_biopsy, name in reversed(CLASSES):
        classes[score >= np.where(has_biopsy == 1, with_biopsy, bare)] = name
    items = list(EULAR_ACR)
    skin, weak = (found[:, [items.index(name) for name in names]].any(axis=1) for names in (SKIN, WEAK))
    inclusion = (has_biopsy == 1) & tissue[:, list(BIOPSY).index("rimmed_vacuoles")]
    if finger_flexors in table.columns and treatment_failed in table.columns:
        inclusion |= _findings(table, [finger_flexors, treatment_failed])[0].all(axis=1)
    groups = np.where(age < 18, np.where(skin, "JDM", "juvenile other"),
                      np.where(skin, np.where(weak, "DM", "ADM"), np.where(inclusion, "IBM", "PM or IMNM")))
    groups = np.where(np.isin(classes, ["definite", "probable"]) & ~np.isnan(age), groups, "")
    return table.assign(eular_acr_score=score, eular_acr_probability=probability, eular_acr_class=classes,
                        eular_acr_subgroup=groups, eular_acr_unknown=unknown + np.isnan(age))


def _findings(table, names):
    """Columns of findings as booleans, (n_rows, n_names), and how many in each row are not known."""
    require_columns(table, *names)
    columns = []
    for name in names:
        column = table[name]
        bad = [value for value in column.dropna().unique().tolist() if value not in (True, False)]
        if bad:
            raise StatsError(f"Column {name!r} holds {values_in_words(column, bad)}; expected True, False or nothing.")
        columns.append(column.astype(object).where(column.notna(), None))  # no pd.NA, which is neither true nor false
    known = np.array([column.notna().to_numpy(bool) for column in columns]).T
    found = np.array([column.eq(True).to_numpy(bool) for column in columns]).T
    return found, (~known).sum(axis=1)
