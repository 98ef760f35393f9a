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
    assert f"rs {r:.3f}" in ax.texts[0].get_text() and "p = 0.003" in ax.texts[0].get_text()
    assert ax.get_xlabel() == "CK (U/L), n = 62" and ax.get_ylabel() == "T2 (ms)" and ax.get_xscale() == "log"
    assert len(ax.collections[0].get_offsets()) == 62 and ax.lines[0].get_xdata()[0] == 195
    assert "synthetic" in ax.get_title().lower()


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
