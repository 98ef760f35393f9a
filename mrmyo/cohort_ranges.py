"""What the printed numbers leave open: the same statistic over many cohorts, each of which satisfies all of them.

A range is no interval and no finding: it is what the printed numbers alone allow, as far as the search looks.
"""

from __future__ import annotations

import numpy as np

from mrmyo.cohort import load_cohort, make_cohort
from mrmyo.cohort_findings import ENZYMES
from mrmyo.cohort_t2 import CUTOFF_MS
from mrmyo.progress import each

__all__ = ["draw_cohorts", "open_statistics", "ranges"]


def draw_cohorts(n: int = 50, *, variant: str = "group means", n_jobs: int = -1, progress: bool = True):
    """Many cohorts that satisfy every printed number that can hold.

    Parameters
    ----------
    n : int
        How many, from the seeds 1 to n.
    variant : {"group means", "as printed"}
        As for `mrmyo.cohort.make_cohort`.
    n_jobs : int
        Cohorts at a time; -1 for as many as there are processors.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        As `mrmyo.cohort.make_cohort` returns them, one below the other, after a column ``seed``.
    """
    import pandas as pd

    drawn = each(_draw, [(seed, variant) for seed in range(1, n + 1)], label="synthetic cohorts", n_jobs=n_jobs,
                 show=progress)
    return pd.concat(drawn, ignore_index=True)


def _draw(seed, variant):
    table = make_cohort(seed=seed, variant=variant)
    table.insert(0, "seed", seed)
    return table


def open_statistics(cohort):
    """Statistics of a cohort that the paper does not print and its numbers do not determine.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With the columns of `mrmyo.load_cohort`.

    Returns
    -------
    pandas.DataFrame
        statistic (in words), value, p (NaN where there is no test).
    """
    import pandas as pd

    from mrmyo import stats

    cohort = cohort.assign(ass=(cohort.subtype == "ASS") * 1, male=(cohort.sex == "M") * 1)
    patients = cohort[cohort.group == "IIM"]
    by = stats.adjusted_roc(cohort, covariates=["age", "male"], n_resamples=20).iloc[0]
    ratio = stats.ancova(cohort, covariates=["age", "sex"], reference="HC").iloc[0]
    rows = [("AUC, adjusted for age and sex", by.adjusted_auc, np.nan),
            ("ratio of T2, patients ÷ controls, adjusted for age and sex", ratio.ratio, ratio.p)]
    for name, x, covariates in (
            ("rs of T2 and CK, free of age and sex", "ck_u_l", ["age", "male"]),
            ("rs of T2 and CK, free of the duration", "ck_u_l", ["duration_months"]),
            ("rs of T2 and CK, free of the other enzymes", "ck_u_l", ["alt_u_l", "ast_u_l", "ldh_u_l"]),
            ("rs of T2 and duration, free of age and sex", "duration_months", ["age", "male"]),
            ("rs of T2 and ILD score, free of ASS", "ild_score", ["ass"])):
        row = stats.partial_spearman(patients, x=x, y="t2_ms", covariates=covariates).iloc[0]
        rows.append((name, row.r, row.p))
    both = patients[patients.subtype != "ASS"]
    treated = patients.assign(treatment=patients.treatment.map({"untreated": "a", "relapsed on treatment": "b"}))
    for name, table, group in (("T2 of DM − of PM (ms)", both, "subtype"),
                               ("T2 of untreated − of relapsed (ms)", treated, "treatment"),
                               ("T2 of women − of men (ms)", patients, "sex")):
        shift = stats.hodges_lehmann(table, value="t2_ms", group=group).iloc[0]
        rows.append((name, shift["shift"], stats.mann_whitney(table, value="t2_ms", group=group).p.item()))
    rows.append(("rs of CK and LDH", *stats.spearman(patients, x="ck_u_l", y="ldh_u_l").loc[0, ["r", "p"]]))
    normal = patients[np.all([patients[name] <= limits[3] for name, limits in ENZYMES.items()], axis=0)]
    rows += [("patients whose four enzymes are normal", len(normal), np.nan),
             (f"of these with T2 ≥ {CUTOFF_MS} ms", (normal.t2_ms >= CUTOFF_MS).sum(), np.nan),
             ("patients with ASS who have ILD, of 8", (patients[patients.ass == 1].ild == "ILD").sum(), np.nan)]
    return pd.DataFrame(rows, columns=["statistic", "value", "p"])


def ranges(cohorts):
    """How far each of the open statistics wanders over cohorts that all satisfy the printed numbers.

    Parameters
    ----------
    cohorts : pandas.DataFrame
        Of `draw_cohorts`.

    Returns
    -------
    pandas.DataFrame
        statistic, n_cohorts, lowest, median, highest, p_lowest, p_highest, n_significant (cohorts with p < 0.05),
        shipped (of the cohort that comes with mrmyo).
    """
    import pandas as pd

    found = pd.concat([open_statistics(one) for _, one in cohorts.groupby("seed")], ignore_index=True)
    shipped = open_statistics(load_cohort()).set_index("statistic").value
    by = found.groupby("statistic", sort=False)
    table = by.value.agg(n_cohorts="size", lowest="min", median="median", highest="max")
    table["p_lowest"], table["p_highest"] = by.p.min(), by.p.max()
    table["n_significant"] = by.p.agg(lambda p: (p < 0.05).sum()).where(table.p_lowest.notna())
    return table.assign(shipped=shipped).reset_index()
