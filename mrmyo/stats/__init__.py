"""Statistics: a DataFrame in, a tidy DataFrame out."""

from __future__ import annotations

from mrmyo.stats.agreement import bland_altman
from mrmyo.stats.columns import StatsError
from mrmyo.stats.diagnostic import roc, roc_points
from mrmyo.stats.groups import mann_whitney

__all__ = ["StatsError", "bland_altman", "mann_whitney", "roc", "roc_points"]
