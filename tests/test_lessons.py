"""The pictures that teach show what the library computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib import pyplot as plt

from mrmyo import lessons


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def legend(ax):
    return {text.get_text().split(":")[0]: text.get_text() for text in ax.get_legend().get_texts()}


def test_only_the_model_that_knows_of_fat_finds_the_water():
    told = legend(lessons.decay_and_fits(t2_ms=35.0, b1=0.8, fat=0.2, snr=80.0))
    means = {name: float(re.search(r": ([\d.]+) ±", text)[1]) for name, text in told.items() if "±" in text}
    assert means["EPG and fat"] == pytest.approx(35, abs=0.5)
    assert means["one exponential"] > means["EPG"] > 38
    few = lessons.decay_and_fits(n_echoes=6, spacing_ms=14.0, snr=20.0)
    assert "simulated" in few.get_title()


def test_apparent_t2_moves_with_b1_and_fat_and_water_t2_does_not():
    ax = lessons.apparent_and_water(t2_ms=35.0)
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    assert np.ptp(lines["apparent, 0% fat"]) > 5
    assert (lines["apparent, 30% fat"] > lines["apparent, 10% fat"] + 5).all()
    water = [line.get_ydata() for line in ax.get_lines() if line.get_linewidth() == 2.5]
    assert len(water) == 4 and np.abs(np.array(water) - 35).max() < 0.1


def test_the_share_of_a_second_exponential_is_less_certain_than_itself():
    ax = lessons.two_exponentials()
    assert min(line.get_ydata().min() for line in ax.get_lines() if len(line.get_ydata()) == 25) > 0.5
    better = lessons.two_exponentials(n_echoes=64, spacing_ms=5.0, snr=500.0)
    assert min(line.get_ydata().min() for line in better.get_lines() if len(line.get_ydata()) == 25) < 0.01
