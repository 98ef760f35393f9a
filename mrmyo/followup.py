"""One patient again: which muscles changed by more than chance, which are involved, and where to take a biopsy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mrmyo.stats import StatsError, repeatability
from mrmyo.stats.columns import require_columns, require_share

__all__ = ["biopsy_sites", "change_by_muscle", "involvement"]

WHERE = ["side", "muscle", "abbreviation"]
USUAL_SITES = ("VL", "VM", "RF")  # where thighs are usually biopsied
LEAST_CONTROLS = 3


def change_by_muscle(before, after, repeats, *, value="t2_ms", level=0.95):
    """How much every muscle changed, beside the smallest change that is more than chance.

    Parameters
    ----------
    before, after : pandas.DataFrame
        Rows of `mrmyo.t2_by_muscle` or ``rows.csv`` of one patient, at two visits.
    repeats : pandas.DataFrame
        Such rows of several subjects, each measured twice or more while nothing changed, with ``subject``.
    value : str
    level : float

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle that both visits have: side, muscle, abbreviation, before, after, change (after
        minus before), smallest_change (the repeatability coefficient of that muscle; each side of each subject has
        repeats of its own), n_repeated, beyond (whether the change is larger), method.

    Raises
    ------
    StatsError
        When a column is missing, a muscle comes twice in a visit, or the level is out of range.
    """
    require_share("level", level)
    for table in (before, after):
        require_columns(table, *WHERE, value)
        twice = int(table.duplicated(["side", "muscle"]).sum())
        if twice:
            raise StatsError(f"Found {twice} muscles that come twice in one visit; expected one patient and one visit.")
    require_columns(repeats, "subject", *WHERE, value)
    both = before[[*WHERE, value]].merge(after[["side", "muscle", value]], on=["side", "muscle"],
                                         suffixes=("_before", "_after"))
    one_side = repeats.side != "both"  # of both sides together the error is smaller: they have repeats of their own
    smallest = pd.DataFrame([(*where, *_smallest(rows, value, level))
                             for where, rows in repeats.groupby([one_side, "muscle"])],
                            columns=["one_side", "muscle", "smallest_change", "n_repeated", "method"])
    table = both.rename(columns={f"{value}_before": "before", f"{value}_after": "after"}).assign(
        one_side=both.side != "both").merge(smallest, on=["one_side", "muscle"], how="left")
    table.insert(5, "change", table.after - table.before)
    table["beyond"] = table.change.abs() > table.smallest_change
    table["n_repeated"] = table.n_repeated.fillna(0).astype(int)
    return table[[*WHERE, "before", "after", "change", "smallest_change", "n_repeated", "beyond", "method"]]


def _smallest(rows, value, level):
    own = rows.subject.astype(str) + " " + rows.side.astype(str)
    try:
        found = repeatability(pd.DataFrame({"subject": own, value: rows[value]}), score=value, level=level).iloc[0]
    except StatsError:
        return np.nan, 0, "no repeats"
    return found.coefficient, int(found.n_subjects), f"1.96 √2 within-subject SD, {found.method}"


def involvement(rows, *, controls, value="t2_ms"):
    """T2 of every muscle of every subject beside that of the controls: how far above, and in their spread.

    Median and median deviation of the controls, for a mask that failed in one of them must not hide a muscle.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of `mrmyo.process_cohort` or ``tables/rows.csv``.
    controls : sequence of str
        Subjects that are healthy.
    value : str

    Returns
    -------
    pandas.DataFrame
        One row per subject and muscle (mean of its sides): subject, control (whether it is one), muscle, abbreviation,
        the value, control_median, control_sd (1.4826 times the median deviation), n_controls, excess (value less
        median), z (excess in control_sd); both NaN with fewer than three controls.

    Raises
    ------
    StatsError
        When a column is missing, or none of the controls is among the rows.
    """
    require_columns(rows, "subject", *WHERE, value)
    muscles = rows[(rows.side != "both") & (rows.abbreviation != "ALL") & rows[value].notna()]
    mean = muscles.groupby(["subject", "muscle", "abbreviation"], as_index=False, sort=False)[value].mean()
    mean.insert(1, "control", mean.subject.isin(list(controls)))
    healthy = mean[mean.control]
    if healthy.empty:
        raise StatsError("Found none of the controls among the rows; expected their names as in the column 'subject'.")
    of_muscle = healthy.groupby("muscle")[value]
    off = (healthy[value] - of_muscle.transform("median")).abs()
    normal = pd.DataFrame({"control_median": of_muscle.median(), "n_controls": of_muscle.size(),
                           "control_sd": 1.4826 * off.groupby(healthy.muscle).median()})
    table = mean.merge(normal.reset_index(), on="muscle", how="left")
    table["excess"] = (table[value] - table.control_median).where(table.n_controls >= LEAST_CONTROLS)
    table["z"] = (table.excess / table.control_sd).where(table.control_sd > 0)
    return table


def biopsy_sites(rows, *, n=5, max_fat_fraction=0.5, min_ml=20.0, value="t2_ms"):
    """Muscles in which a biopsy would most likely meet inflammation: long T2, not replaced by fat, large enough.

    For research use only: it knows nothing of vessels, nerves, skin, or of whoever holds the needle. A mask that took
    in fat or a vessel makes a T2 as long as inflammation does: look at the mask of whatever it names.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of `mrmyo.t2_by_muscle` or ``rows.csv`` of one patient and one visit.
    n : int
        How many to give.
    max_fat_fraction : float
        Muscles with more are left out, for a biopsy would find fat; only where the rows have ``fat_fraction``.
    min_ml : float
        Smaller ones are left out: a few wrong voxels change their T2 most.
    value : str

    Returns
    -------
    pandas.DataFrame
        rank, side, muscle, abbreviation, the value, volume_ml, fat_fraction (NaN where unknown), usual_site (vastus
        lateralis, vastus medialis or rectus femoris).

    Raises
    ------
    StatsError
        When a column is missing, a muscle comes twice, or no muscle is left.
    """
    require_columns(rows, *WHERE, value, "volume_ml")
    if rows.duplicated(["side", "muscle"]).any():
        raise StatsError("Found muscles that come twice; expected the rows of one patient and one visit.")
    table = rows.assign(fat_fraction=rows.fat_fraction if "fat_fraction" in rows else np.nan)
    named = ~table.abbreviation.isin(["ALL", "OTH", "MUS"]) & (table.side != "both") & table[value].notna()
    fit = named & (table.volume_ml >= min_ml) & ~(table.fat_fraction > max_fat_fraction)
    if not fit.any():
        raise StatsError(f"Found no named muscle of at least {min_ml:g} ml with a T2 and at most "
                         f"{max_fat_fraction:.0%} fat; there is no site to rank.")
    best = table[fit].sort_values(value, ascending=False, kind="stable").head(n).reset_index(drop=True)
    best.insert(0, "rank", np.arange(1, len(best) + 1))
    best["usual_site"] = best.abbreviation.isin(USUAL_SITES)
    return best[["rank", *WHERE, value, "volume_ml", "fat_fraction", "usual_site"]]
