"""What a reader of an evaluation must know of the references: one side only, slices left out."""

from __future__ import annotations

from mrmyo.evaluation import EvaluationError
from mrmyo.measure import WHOLE_MUSCLE

__all__ = ["remarks"]

N_NAMED = 8  # cases named in a remark


def remarks(rows) -> list[str]:
    """In words, what makes the numbers of references mean something else than they seem to.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.evaluate`, of one or many cases (column ``subject``).

    Returns
    -------
    list of str
        Of references with muscle on one side only beside labels of both, and of references with empty slices between
        their lowest and their highest; empty where there are none.

    Raises
    ------
    EvaluationError
        When the rows do not have the columns.
    """
    needed = ("side", "muscle", "level", "n_slices", "n_gap_slices", "n_extra_slices", "other_side_ml")
    if missing := [name for name in needed if name not in rows]:
        raise EvaluationError(f"Found no column {missing}; expected the rows of mrmyo.evaluate.")
    if "subject" not in rows:
        rows = rows.assign(subject="the only case")
    n = rows.subject.nunique()
    rows = rows[rows.level == "all"]
    found = []
    one = rows[(rows.side == "both") & (rows.other_side_ml > 0)]
    if len(one):
        sides = {name: " ".join(part.side[part.side != "both"].unique()) for name, part in rows.groupby("subject")}
        found.append(
            f"The reference has muscle on one side only in {len(one)} of {n} {_cases(n)}: "
            + _listed(f"{row.subject} ({sides[row.subject]}; the mask has {row.other_side_ml:.3g} ml on the other)"
                      for row in one.itertuples())
            + ". The other side is left out, as neither error nor gain; whole muscle of both is this side alone."
        )
    gaps = rows[rows.n_gap_slices > 0]
    if len(gaps):
        # the widest gap of a case; of equal ones that of the whole muscle, which tells most
        gaps = gaps.assign(whole=gaps.muscle == WHOLE_MUSCLE).sort_values(
            ["n_gap_slices", "whole"], ascending=False, kind="stable").drop_duplicates("subject").sort_values("subject")
        found.append(
            f"The reference has empty slices between its lowest and its highest in {len(gaps)} of {n} {_cases(n)}: "
            + _listed(f"{row.subject} ({row.muscle}, {row.side}: empty in {row.n_gap_slices} of "
                      f"{row.n_slices + row.n_gap_slices})" for row in gaps.itertuples())
            + ". What the mask has there counts as extra and lowers Dice. If the reference was drawn on some slices "
              "only, set the mask to 0 in the others, and evaluate again."
        )
    return found


def _cases(n):
    return "case" if n == 1 else "cases"


def _listed(parts):
    parts = list(parts)
    return ", ".join(parts[:N_NAMED]) + (" …" if len(parts) > N_NAMED else "")
