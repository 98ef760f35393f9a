"""The numbers printed in the paper that mrmyo reproduces, as data.

"Assessment of idiopathic inflammatory myopathy using a deep learning method for muscle T2 mapping segmentation".
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["PaperError", "printed", "printed_figures"]


class PaperError(ValueError):
    """The paper prints no such number, or no single one."""


def printed_figures():
    """Every number that the paper prints.

    Returns
    -------
    pandas.DataFrame
        One row per printed number: ``id``, ``section``, ``quantity``, ``group``, ``statistic``, ``text`` (as printed,
        with its decimals), ``value`` (the same as a float; NaN for a bound such as "<0.001", a date or a ratio),
        ``unit``, ``n`` (the sample size printed with it) and ``p`` (the p value printed with it, as text).
    """
    import pandas as pd

    table = pd.read_csv(Path(__file__).with_name("paper_figures.csv"), dtype=str, keep_default_na=False)
    table.insert(table.columns.get_loc("text") + 1, "value", pd.to_numeric(table["text"], errors="coerce"))
    table["n"] = pd.to_numeric(table["n"], errors="coerce").astype("Int64")
    return table


def printed(quantity: str, group: str, statistic: str) -> float:
    """One printed number, such as ``printed("T2", "IIM", "mean")``.

    Parameters
    ----------
    quantity, group, statistic : str
        As in the columns of :func:`printed_figures`.

    Raises
    ------
    PaperError
        When the paper prints no such number, prints different ones, or prints something that is no number.
    """
    table = printed_figures()
    rows = table[(table["quantity"] == quantity) & (table["group"] == group) & (table["statistic"] == statistic)]
    asked = f"quantity={quantity!r}, group={group!r}, statistic={statistic!r}"
    if rows.empty:
        near = table[table["quantity"] == quantity][["group", "statistic"]].drop_duplicates().to_numpy().tolist()
        hint = f"for this quantity it has (group, statistic) {near}" if near else "see printed_figures()['quantity']"
        raise PaperError(f"Found no printed number for {asked}; {hint}.")
    values = rows["value"].unique()
    if rows["value"].isna().any() or len(values) > 1:
        raise PaperError(
            f"Found {dict(zip(rows['id'], rows['text'], strict=True))} for {asked}; expected one number. "
            "Read the row you mean from printed_figures()."
        )
    return float(values[0])
