"""The printed numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mrmyo.paper import PaperError, printed, printed_figures

SOURCE = Path(__file__).resolve().parents[2] / "shared" / "paper" / "figures.csv"


def test_every_row_has_an_id_and_a_text():
    table = printed_figures()
    assert table["id"].tolist() == [f"N{i:03d}" for i in range(1, 188)]
    assert (table["text"] != "").all()


@pytest.mark.skipif(not SOURCE.is_file(), reason="the restated source table is not beside the checkout")
def test_no_row_differs_from_the_source():
    source = pd.read_csv(SOURCE, dtype=str, keep_default_na=False).rename(columns={"value": "text"})
    table = printed_figures()
    columns = [name for name in source.columns if name != "n"]
    pd.testing.assert_frame_equal(table[columns], source[columns])
    assert table["n"].astype("string").fillna("").tolist() == source["n"].tolist()


def test_text_keeps_the_decimals_and_value_is_its_number():
    row = printed_figures().set_index("id").loc["N102"]
    assert (row["text"], row["value"], row["unit"], row["n"]) == ("9.0", 9.0, "ms", 64)


def test_bounds_and_dates_have_no_value():
    table = printed_figures()
    assert set(table.loc[table["value"].isna(), "text"]) == {"<0.001", "<0.05", "<0.01", "2016-11", "2019-07", "1:1.5"}


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        (("T2", "IIM", "mean"), 47.4), (("T2", "HC", "sd"), 0.9), (("AUC", "IIM vs HC", "auc"), 0.986),
        (("T2 cutoff", "IIM vs HC", "cutoff"), 36.4),  # printed three times, alike
    ],
)
def test_printed(asked, value):
    assert printed(*asked) == value


def test_printed_refuses_what_is_absent_and_says_what_is_there():
    with pytest.raises(PaperError, match=r"'IIM', 'mean'"):
        printed("T2", "IIM", "median")


def test_printed_refuses_a_bound():
    with pytest.raises(PaperError, match=r"<0\.001"):
        printed("T2 IIM vs HC", "IIM vs HC", "p")


def test_printed_refuses_two_different_numbers(monkeypatch):
    two = pd.DataFrame({"id": ["A", "B"], "quantity": "q", "group": "g", "statistic": "s", "text": ["1", "2"],
                        "value": [1.0, 2.0]})
    monkeypatch.setattr("mrmyo.paper.printed_figures", lambda: two)
    with pytest.raises(PaperError, match="expected one number"):
        printed("q", "g", "s")
