"""Where to cut a score in two: the candidates, their sensitivity and specificity, and the rules that choose one."""

from __future__ import annotations

import numpy as np

from mrmyo.stats.columns import StatsError, is_number

__all__ = []

OPTIONS = {"youden": (), "closest": (), "cost": ("cost_ratio", "prevalence"), "specificity": ("min_specificity",)}


def _candidates(pos, neg, threshold):
    """Cutoffs in ascending order that split the sample in all possible ways, but for calling all or none positive."""
    observed = np.unique(np.concatenate([pos, neg]))
    return (observed[:-1] + observed[1:]) / 2 if threshold == "midpoint" else observed[1:]


def _rates(pos, neg, cuts):
    sensitivity = 1 - np.searchsorted(np.sort(pos), cuts, side="left") / pos.size
    specificity = np.searchsorted(np.sort(neg), cuts, side="left") / neg.size
    return sensitivity, specificity


def _check_cutoff(cutoff, options):
    """Refuse a cutoff that is neither a rule nor a number, and options that are missing, idle or out of range."""
    if is_number(cutoff):
        if not np.isfinite(cutoff):
            raise StatsError(f"Found cutoff={cutoff}; expected a finite number in the unit of the score, or 'youden'.")
        needed = ()
    elif isinstance(cutoff, str) and cutoff in OPTIONS:
        needed = OPTIONS[cutoff]
    else:
        raise StatsError(f"Found cutoff={cutoff!r}; expected {', '.join(map(repr, OPTIONS))} or a number in the unit "
                         "of the score.")
    missing = [name for name in needed if options[name] is None]
    if missing:
        raise StatsError(f"Found cutoff={cutoff!r} without {' and '.join(missing)}, which it needs; give a number.")
    idle = [name for name, value in options.items() if value is not None and name not in needed]
    if idle:
        rules = " or ".join(repr(rule) for rule, names in OPTIONS.items() if set(names) & set(idle))
        raise StatsError(f"Found {' and '.join(idle)} with cutoff={cutoff!r}, which has no use for it; leave it out or "
                         f"choose cutoff={rules}.")
    limits = {"cost_ratio": (0, np.inf, "above 0"), "prevalence": (0, 1, "above 0 and below 1"),
              "min_specificity": (0, np.nextafter(1, 2), "above 0 and at most 1")}
    for name in needed:
        low, high, words = limits[name]
        if not (is_number(options[name]) and low < options[name] < high):
            raise StatsError(f"Found {name}={options[name]!r}; expected a number {words}.")


def _cutoff(pos, neg, cutoff, threshold, options, notes):
    """The cutoff of a rule and the rule in words; NaN where calling everybody or nobody positive is as good."""
    if is_number(cutoff):
        return float(cutoff), "given"
    ratio, prevalence, least = (options[name] for name in ("cost_ratio", "prevalence", "min_specificity"))
    method = {
        "youden": lambda: "Youden", "closest": lambda: "closest to (0, 1)",
        "cost": lambda: f"least cost, a false positive {ratio:g} of a false negative, prevalence {prevalence:g}",
        "specificity": lambda: f"highest sensitivity at a specificity of at least {least:g}",
    }[cutoff]() + f", {threshold}"
    cuts = _candidates(pos, neg, threshold)
    if cuts.size == 0:
        return np.nan, method
    sensitivity, specificity = _rates(pos, neg, cuts)
    slack = 1e-12
    if cutoff == "youden":
        merit, trivial = sensitivity + specificity - 1, 0.0
        none, shared = "No cutoff does better than chance.", "share the highest Youden index"
    elif cutoff == "closest":
        merit, trivial = -((1 - sensitivity) ** 2 + (1 - specificity) ** 2), -1.0
        none, shared = "No cutoff is closer to (0, 1) than calling all or none positive.", "are equally close to (0, 1)"
    elif cutoff == "cost":
        weight = (1 - prevalence) / prevalence * ratio
        merit, trivial, slack = sensitivity - weight * (1 - specificity), max(0.0, 1 - weight), slack * max(1, weight)
        none = f"No cutoff costs less than calling {'everybody' if weight < 1 else 'nobody'} positive."
        shared = "cost the same"
    else:
        merit, trivial = np.where(specificity >= least - slack, sensitivity, 0.0), 0.0
        none = f"No cutoff with a specificity of at least {least:g} finds a positive."
        shared = "share the highest sensitivity at that specificity"
    best = np.flatnonzero(merit > merit.max() - slack)
    if merit.max() <= trivial + slack:
        notes.append(none)
        return np.nan, method
    # of cutoffs that find as many, the highest calls the fewest negatives positive
    chosen, which = (best[-1], "highest") if cutoff == "specificity" else (best[0], "lowest")
    if best.size > 1:
        notes.append(f"{best.size} cutoffs {shared}; the {which} is given.")
    if sensitivity[chosen] + specificity[chosen] - 1 <= slack and cutoff in ("closest", "specificity"):
        notes.append("The cutoff does no better than chance.")
    return float(cuts[chosen]), method
