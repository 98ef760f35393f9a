"""The bars of an audit reach over the numbers of subjects that fit."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from mrmyo import figures


def test_bars_cover_the_numbers_that_fit():
    table = pd.DataFrame({"claim": ["a", "b", "c"], "consistent": [True, False, True],
                          "n_consistent": ["63–64", "59, 61–62, 300", ""]})
    ax = figures.consistent_n(table, limits=(55, 70), printed=64)
    bars = sorted((round(bar.get_x() + 0.45), round(bar.get_x() + bar.get_width() - 0.45)) for bar in ax.patches)
    assert bars == [(59, 59), (61, 62), (63, 64)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.lines[0].get_xdata()[0] == 64
    plt.close(ax.figure)
    with pytest.raises(figures.FigureError, match="nothing to draw"):
        figures.consistent_n(table.tail(1))
