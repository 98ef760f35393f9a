"""Statistics: a DataFrame in, a tidy DataFrame out."""

from __future__ import annotations

from mrmyo.stats.agreement import bland_altman
from mrmyo.stats.columns import StatsError
from mrmyo.stats.correlation import correlation_power, partial_spearman, spearman
from mrmyo.stats.diagnostic import roc, roc_points
from mrmyo.stats.groups import adjust_p, equivalence, hodges_lehmann, mann_whitney
from mrmyo.stats.raters import icc, repeatability, weighted_kappa
from mrmyo.stats.roc_more import compare_roc, partial_auc, predictive_values, roc_stability
from mrmyo.stats.scores import bohan_peter, eular_acr, ild_score

__all__ = [
    "StatsError", "adjust_p", "bland_altman", "bohan_peter", "compare_roc", "correlation_power", "equivalence",
    "eular_acr", "hodges_lehmann", "icc", "ild_score", "mann_whitney", "partial_auc", "partial_spearman",
    "predictive_values", "repeatability", "roc", "roc_points", "roc_stability", "spearman", "weighted_kappa",
]
