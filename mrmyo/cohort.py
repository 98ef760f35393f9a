"""The synthetic cohort: 64 patients and 10 controls who never lived, with the statistics that the paper prints.

Only summary numbers of the paper go in; no subject here corresponds to any person.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mrmyo.cohort_findings import draw_course, draw_diagnosis, draw_enzymes
from mrmyo.cohort_lungs import draw_lungs
from mrmyo.cohort_search import order_by_correlation
from mrmyo.cohort_t2 import CASE_T2_MS, VARIANTS, draw_control_t2, draw_patient_t2

__all__ = ["CohortError", "load_cohort", "load_repeats", "load_reviews", "make_cohort", "pick_subjects", "write_cohort"]

SEED = 2022
N_DRAWS = 60  # of a part of the cohort, before a seed is given up
CASE_AGE, CASE_LESION_T2_MS = 52, 44.9  # of the patient of Fig. 3; 44.9 ms stands in the caption, 41.0 in the text
RS_AGE_RANGE = (0.0906, 0.0908)  # prints .091 with p .476 (Spearman, n = 64)
COLUMNS = (
    "subject", "group", "age", "sex", "t2_ms", "subtype", "certainty", "antibody", "duration_months", "treatment",
    "biopsy", "ck_u_l", "alt_u_l", "ast_u_l", "ldh_u_l", "ild", "ild_severity", "ild_extent_percent", "ild_extent",
    "ild_score", "t2_lesion_ms",
)


class CohortError(ValueError):
    """A cohort cannot be made, found or sampled as asked."""


def make_cohort(*, seed: int = SEED, variant: str = "group means"):
    """Draw the 74 synthetic subjects.

    Parameters
    ----------
    seed : int
        The same seed gives the same table. Every seed meets the printed statistics.
    variant : {"group means", "as printed"}
        The printed correlation of T2 with the ILD score is positive, though T2 is lower in the mean with lung disease.
        "group means" has it negative, and so gives up its sign; "as printed" has it positive and gives up nothing, but
        T2 must lie in two heaps for that.

    Returns
    -------
    pandas.DataFrame
        One row per subject: ``subject`` ("SYN-IIM-01", …), ``group`` ("IIM" or "HC"), ``age`` (whole years), ``sex``
        ("F" or "M"), ``t2_ms`` (the apparent mono-exponential T2 of whole thigh muscle, in milliseconds), and of the
        patients ``subtype``, ``certainty``, ``antibody``, ``duration_months``, ``treatment``, ``biopsy``, ``ck_u_l``,
        ``alt_u_l``, ``ast_u_l``, ``ldh_u_l`` (missing for two), ``ild``, ``ild_severity``, ``ild_extent_percent``,
        ``ild_extent``, ``ild_score`` (missing for three), ``t2_lesion_ms`` (of the patient of Fig. 3 only).

    Raises
    ------
    CohortError
        When the variant is unknown, or a seed meets the printed statistics in none of its many draws.
    """
    import pandas as pd

    _file_of(variant)  # refuses another
    rng = np.random.default_rng(seed)
    for _ in range(N_DRAWS):
        controls = draw_control_t2(rng)
        drawn = None if controls is None else draw_patient_t2(rng, controls, variant=variant)
        if drawn is not None:
            break
    else:
        raise CohortError(f"No draw of seed {seed} met the printed T2; try another seed.")
    order = rng.permutation(64)
    t2_ms, ild = drawn[0][order], drawn[1][order]
    case = int(np.flatnonzero(t2_ms == CASE_T2_MS)[0])
    age = order_by_correlation(rng, _ages(rng, 64, 19, 72, 44.3, 14.0), t2_ms, RS_AGE_RANGE)
    controls, age_hc = rng.permutation(controls), _ages(rng, 10, 25, 63, 36.6, 11.0)
    sex, sex_hc = (rng.permutation(["M"] * men + ["F"] * women) for men, women in ((26, 38), (1, 9)))
    if sex[case] == "M":  # a woman, by the caption
        other = np.flatnonzero(sex == "F")[0]
        sex[[case, other]] = sex[[other, case]]
    found = {"age": _age_of_case(rng, age, t2_ms, case), "sex": sex, "t2_ms": t2_ms} | _findings(
        rng, t2_ms, ild, variant, case)
    patients = pd.DataFrame({"subject": _names("IIM", 64), "group": "IIM", **found})
    healthy = pd.DataFrame({"subject": _names("HC", 10), "group": "HC", "age": age_hc, "sex": sex_hc,
                            "t2_ms": controls})
    return pd.concat([patients, healthy], ignore_index=True)[list(COLUMNS)]


def _names(group, n):
    return [f"SYN-{group}-{i:02d}" for i in range(1, n + 1)]


def _age_of_case(rng, age, t2_ms, case):
    """The ages with the one that is printed of the patient of Fig. 3 in its place, and the correlation as it was."""
    age = age.copy()
    nearest = int(np.argmin(np.abs(age - CASE_AGE)))
    beside = int(rng.choice(np.setdiff1d(np.flatnonzero((age > 20) & (age < 71)), [nearest, case])))
    age[beside] += age[nearest] - CASE_AGE  # the mean stays
    age[nearest] = age[case]
    age[case] = CASE_AGE
    return order_by_correlation(rng, age, t2_ms, RS_AGE_RANGE, fixed=[case])


def _findings(rng, t2_ms, ild, variant, case):
    """All that is known of the patients besides age, sex and T2; each part is drawn until it meets what is printed."""
    def until_met(draw, *arguments, **options):
        for _ in range(N_DRAWS):
            if (found := draw(rng, *arguments, **options)) is not None:
                return found
        raise CohortError(f"{draw.__name__} met the printed statistics in none of {N_DRAWS} draws; try another seed.")

    ass, lungs = until_met(draw_lungs, t2_ms, ild, variant=variant, case=case)
    enzymes = until_met(draw_enzymes, t2_ms, case=case)
    course = until_met(draw_course, t2_ms)
    lesion = np.where(np.arange(64) == case, CASE_LESION_T2_MS, np.nan)
    return {**draw_diagnosis(rng, ass, ild, enzymes["ck_u_l"], t2_ms, case=case), **course, **enzymes,
            "ild": np.where(ild, "ILD", "no ILD"), **lungs, "t2_lesion_ms": lesion}


def load_cohort(*, variant: str = "group means"):
    """The synthetic cohort that comes with mrmyo (``data_synthetic/``).

    Parameters
    ----------
    variant : {"group means", "as printed"}
        As for :func:`make_cohort`.

    Returns
    -------
    pandas.DataFrame
        As :func:`make_cohort` returns it.

    Raises
    ------
    CohortError
        When the variant is unknown, or the file is neither beside the package nor inside it.
    """
    return _read(_file_of(variant), "make the table with make_cohort()")


def load_repeats():
    """Every muscle of some synthetic patients at three visits, measured through the pipeline (``repeats.csv``).

    Returns
    -------
    pandas.DataFrame
        One row per subject, visit ("first", "again": the same tissues in another scan; "treated": with 0.7 of the
        oedema's excess of T2), side and muscle: those of ``rows.csv`` that matter, and ``t2_true_ms``, of whole muscle.
        ``scripts/repeat_scans.py`` made it.

    Raises
    ------
    CohortError
        When the file is not there.
    """
    return _read("repeats.csv", "make it with scripts/repeat_scans.py")


def load_reviews():
    """What a simulated reader changed in the automatic masks of these patients, and in their T2 (``reviews.csv``).

    Returns
    -------
    pandas.DataFrame
        One row per subject: strokes, voxels_changed_percent and muscle_changed_percent (of the mask's voxels: any
        label, or muscle or none), t2_automatic_ms, t2_reviewed_ms, t2_true_ms (whole muscle).

    Raises
    ------
    CohortError
        When the file is not there.
    """
    return _read("reviews.csv", "make it with scripts/repeat_scans.py")


def _read(name, remedy):
    import pandas as pd

    package = Path(__file__).resolve().parent
    places = [package / "data_synthetic" / name, package.parent / "data_synthetic" / name]
    for path in places:
        if path.is_file():
            return pd.read_csv(path, keep_default_na=False, na_values=[""])  # the word "none" is an answer
    raise CohortError(f"Found no {name} at {places[0]} or {places[1]}. Reinstall mrmyo, or {remedy}.")


def write_cohort(path=None, *, seed: int = SEED, variant: str = "group means") -> Path:
    """Make the cohort anew and write it as CSV; without a path, over the one in a checkout's ``data_synthetic/``."""
    folder = Path(__file__).resolve().parent.parent / "data_synthetic"
    path = folder / _file_of(variant) if path is None else Path(path)
    if not path.parent.is_dir():
        raise CohortError(f"Found no folder {path.parent} to write the cohort to. Make it, or give another path.")
    table = make_cohort(seed=seed, variant=variant)
    partial = path.with_name(f".{path.name}")
    table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    os.replace(partial, path)
    return path


def _file_of(variant):
    if variant not in VARIANTS:
        raise CohortError(f"Found variant={variant!r}; expected one of {', '.join(VARIANTS)}.")
    return "cohort.csv" if variant == VARIANTS[0] else f"cohort_{variant.replace(' ', '_')}.csv"


def pick_subjects(cohort, n: int):
    """A small cohort like the large one: n subjects, in proportion from each group, spread over its T2 quantiles.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``group`` and ``t2_ms``, one row per subject.
    n : int
        How many subjects; from 2 on, at least one of each group (of 74, n = 8 gives 7 patients and 1 control).

    Returns
    -------
    pandas.DataFrame
        The chosen rows in the order of the cohort. The same call chooses the same subjects.

    Raises
    ------
    CohortError
        When n is below 1 or above the number of subjects, or a column is missing.
    """
    missing = [name for name in ("group", "t2_ms") if name not in cohort.columns]
    if missing:
        raise CohortError(f"Found no column {missing}; expected a cohort table such as load_cohort() returns.")
    if not 1 <= n <= len(cohort):
        raise CohortError(f"Found n = {n}; expected 1 to {len(cohort)}, the number of subjects in the cohort.")
    cohort = cohort.reset_index(drop=True)
    sizes = cohort["group"].value_counts()  # largest group first
    counts = {}
    left_to_pick, left_to_share = int(n), len(cohort)
    for group, size in sizes[::-1].items():
        share = int(np.floor(left_to_pick * size / left_to_share + 0.5))
        share = max(share, 1) if n >= len(sizes) else share
        counts[group] = min(share, size)
        left_to_pick, left_to_share = left_to_pick - counts[group], left_to_share - size
    chosen = []
    for group, count in counts.items():
        ordered = cohort[cohort["group"] == group].sort_values("t2_ms", kind="stable").index
        # the middles of `count` equal slices of the sorted group
        chosen += [ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)]
    return cohort[cohort.index.isin(chosen)].reset_index(drop=True)


def _ages(rng, n, youngest, oldest, mean, sd):
    """Whole years with the given extremes whose mean is the given one as nearly as n allows."""
    ages = np.clip(np.round(rng.normal(mean, sd, n)), youngest + 1, oldest - 1).astype(int)
    ages[:2] = youngest, oldest
    while surplus := int(ages.sum() - round(n * mean)):
        i, step = rng.integers(2, n), -int(np.sign(surplus))
        if youngest < ages[i] + step < oldest:
            ages[i] += step
    return rng.permutation(ages)


if __name__ == "__main__":
    for each in VARIANTS:
        write_cohort(variant=each)
