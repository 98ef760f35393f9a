"""Statistics: a DataFrame in, a tidy DataFrame out."""

from __future__ import annotations

from mrmyo.stats.agreement import bland_altman
from mrmyo.stats.columns import StatsError
from mrmyo.stats.correlation import correlation_power, partial_spearman, spearman
from mrmyo.stats.diagnostic import roc, roc_points
from mrmyo.stats.groups import mann_whitney

__all__ = ["StatsError", "bland_altman", "correlation_power", "mann_whitney", "partial_spearman", "roc", "roc_points",
           "spearman"]
