"""Scatter plots with their correlation, and ranges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from mrmyo import figures
from mrmyo.cohort import load_cohort


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_scatter_tells_correlation_n_and_limit():
    patients = load_cohort().query("group == 'IIM'")
    ax = figures.rank_scatter(patients, x="ck_u_l", log_x=True, limit=195, synthetic=True)
    r = stats.spearmanr(patients.ck_u_l, patients.t2_ms, nan_policy="omit").statistic
    words = " ".join(text.get_text() for text in ax.texts)
    assert f"rs {r:.3f}" in words and "p = 0.003" in words and "limit of normal" in words
    assert ax.get_xlabel() == "CK (U/L), n = 62" and ax.get_ylabel() == "T2 (ms)" and ax.get_xscale() == "log"
    assert len(ax.collections[0].get_offsets()) == 62 and ax.lines[0].get_xdata()[0] == 195
    assert "synthetic" in ax.get_title().lower()
    narrow = figures.rank_scatter(patients, x="ldh_u_l", log_x=True)
    narrow.figure.draw_without_rendering()
    shown = [text.get_text() for text in narrow.get_xticklabels() if text.get_text()]
    assert {"200", "500", "1000"} <= set(shown)


def test_groups_are_named_with_their_n_and_a_constant_has_no_correlation():
    patients = load_cohort().query("group == 'IIM'")
    ax = figures.rank_scatter(patients, x="ild_score", by="ild")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ILD (n = 31)", "no ILD (n = 30)"]
    assert "−0.226" in ax.texts[0].get_text()  # a minus, not a hyphen
    flat = figures.rank_scatter(patients.assign(ck_u_l=3.0), x="ck_u_l")
    assert "constant" in flat.texts[0].get_text()


def test_ranges_reach_from_lowest_to_highest():
    table = pd.DataFrame({"statistic": ["rs one", "rs two", "n three"], "lowest": [-0.2, 0.1, 1], "median": [0, 0.2, 2],
                          "highest": [0.2, 0.4, 3], "n_cohorts": 50})
    ax = figures.range_chart(table, where="rs", zero=0)
    segments = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    assert segments == pytest.approx(np.array([[-0.2, 0.2], [0.1, 0.4]]))
    assert "50 cohorts" in ax.get_title() and "not a finding" in ax.get_title()
    with pytest.raises(figures.FigureError, match="begins with"):
        figures.range_chart(table, where="AUC")


def changes(**columns):
    return pd.DataFrame({"side": ["left", "right", "both"], "abbreviation": ["VL", "VL", "ALL"],
                         "change": [-2.0, -0.1, -1.5], "smallest_change": [0.5, 0.5, 0.2],
                         "beyond": [True, False, True], "n_repeated": [24, 24, 12]}).assign(**columns)


def test_changes_stand_beside_what_is_chance():
    ax = figures.change_chart(changes())
    bars = [(bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert np.array(bars) == pytest.approx(np.array([(-0.5, 1.0), (-0.2, 0.4)]))
    assert "12 repeats or more" in ax.get_xlabel()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["VL", "ALL"]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "left, 1 of 1 beyond chance" in words and "right, 0 of 1 beyond chance" in words
    assert "repeats" not in figures.change_chart(changes(n_repeated=0, smallest_change=np.nan)).get_xlabel()


def test_patients_stand_on_top_the_most_involved_first():
    table = pd.DataFrame({"subject": ["a", "a", "b", "b", "c", "c"], "control": [False] * 4 + [True] * 2,
                          "abbreviation": ["VL", "RF"] * 3, "excess": [0.5, 1.0, 8.0, 9.0, 2.0, 2.0], "n_controls": 4})
    ax = figures.involvement_map(table)
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(np.array([[8.0, 9.0], [0.5, 1.0], [2.0, 2.0]]))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["patients\n(n = 2)", "controls\n(n = 1)"]
    assert not [text for text in ax.figure.findobj(plt.Text) if text.get_text() in ("a", "b")]  # nobody is named
    with pytest.raises(figures.FigureError, match="three controls"):
        figures.involvement_map(table.assign(excess=np.nan))
