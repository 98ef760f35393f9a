"""Statistics: a DataFrame in, a tidy DataFrame out."""

from __future__ import annotations

from mrmyo.stats.agreement import bland_altman
from mrmyo.stats.checklists import claim, facts_of_roc, stard
from mrmyo.stats.clusters import cluster_bootstrap
from mrmyo.stats.columns import StatsError
from mrmyo.stats.correlation import correlation_power, partial_spearman, spearman
from mrmyo.stats.diagnostic import roc, roc_points
from mrmyo.stats.groups import adjust_p, equivalence, hodges_lehmann, mann_whitney
from mrmyo.stats.models import ancova, mixed_model
from mrmyo.stats.noise import verdict_flips
from mrmyo.stats.raters import icc, repeatability, weighted_kappa
from mrmyo.stats.roc_adjusted import adjusted_roc, adjusted_roc_points
from mrmyo.stats.roc_more import compare_roc, partial_auc, predictive_values, roc_stability
from mrmyo.stats.scores import bohan_peter, eular_acr, ild_score
from mrmyo.stats.tables import table_one, table_one_values

__all__ = [
    "StatsError", "adjust_p", "adjusted_roc", "adjusted_roc_points", "ancova", "bland_altman", "bohan_peter", "claim",
    "cluster_bootstrap", "compare_roc", "correlation_power", "equivalence", "eular_acr", "facts_of_roc",
    "hodges_lehmann", "icc", "ild_score", "mann_whitney", "mixed_model", "partial_auc", "partial_spearman",
    "predictive_values", "repeatability", "roc", "roc_points", "roc_stability", "spearman", "stard", "table_one",
    "table_one_values", "verdict_flips", "weighted_kappa",
]
