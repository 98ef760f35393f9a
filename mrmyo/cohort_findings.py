"""Diagnosis, course, biopsy, antibodies and serum enzymes of the synthetic patients."""

from __future__ import annotations

import numpy as np

from mrmyo.cohort_search import correlation_window, order_by_correlation, printed_range, skewed_integers
from mrmyo.cohort_t2 import CUTOFF_MS

__all__ = ["ENZYMES", "draw_course", "draw_diagnosis", "draw_enzymes"]

N_MEASURED = 62  # with enzymes; the only number at which all four printed p follow from the printed correlations
N_NORMAL_CK = 22  # not above 195 U/L
# mean, lowest, highest, upper limit of normal, rank correlation with T2 and its p, as printed; spread of the logarithms
ENZYMES = {
    "ck_u_l": ("1961", 15, 17156, 195, "0.376", "0.003", 1.4),
    "alt_u_l": ("90", 11, 536, 50, "0.306", "0.016", 0.9),
    "ast_u_l": ("110", 15, 742, 40, "0.345", "0.006", 1.0),
    "ldh_u_l": ("500", 143, 1675, 250, "0.307", "0.015", 0.6),
}
DURATION = ("22.2", 1, 144, "0.242", "0.054")
ANTIBODIES = {
    "ASS": ["Jo-1"] * 5 + ["PL-7", "PL-12", "EJ"],
    "DM": ["MDA5"] * 6 + ["Mi-2"] * 4 + ["TIF1-gamma"] * 4 + ["NXP2"] * 3 + ["SAE"] + ["none"] * 9,
    "PM": ["SRP"] * 5 + ["HMGCR"] * 4 + ["none"] * 20,
}


def draw_enzymes(rng, t2_ms, *, case):
    """Creatine kinase and three other enzymes of 62 patients, in U/L, none of the other two.

    Parameters
    ----------
    rng : numpy.random.Generator
    t2_ms : array of shape (64,)
    case : int
        The patient of Fig. 3, whose enzymes are normal.

    Returns
    -------
    dict of numpy.ndarray, or None
        One array by column name, NaN for two patients; None where no draw met all that is printed.
    """
    from scipy.stats import rankdata

    low_t2 = rng.permutation(np.flatnonzero(np.asarray(t2_ms) < CUTOFF_MS))  # one with normal CK, one without
    candidates = np.setdiff1d(np.arange(64), [case, *low_t2])
    measured = np.setdiff1d(np.arange(64), rng.choice(candidates, 64 - N_MEASURED, replace=False))
    of_t2 = (rankdata(t2_ms) - 32.5) / 18.5
    damage = 0.4 * of_t2 + np.sqrt(1 - 0.4**2) * rng.standard_normal(64)
    found = {}
    for name, (mean, low, high, normal, rs, p, spread) in ENZYMES.items():
        total = tuple(N_MEASURED * limit for limit in printed_range(mean))
        values = _ck_values(rng, total) if name == "ck_u_l" else skewed_integers(
            rng, N_MEASURED, low=low, high=high, total=total, spread=spread)
        if values is None:
            return None
        wanted = {case: True} | ({low_t2[0]: True, low_t2[1]: False} if name == "ck_u_l" else {})
        latent = 0.85 * damage + np.sqrt(1 - 0.85**2) * rng.standard_normal(64)
        order = _pinned_order(latent[measured], values <= normal, {int(np.searchsorted(measured, i)): is_normal
                                                                   for i, is_normal in wanted.items()})
        if order is None:
            return None
        placed = order_by_correlation(rng, values[order], np.asarray(t2_ms)[measured],
                                      correlation_window(rs, p, N_MEASURED),
                                      fixed=np.searchsorted(measured, list(wanted)), n_steps=20_000)
        if placed is None:
            return None
        found[name] = np.full(64, np.nan)
        found[name][measured] = placed
    return found


def _ck_values(rng, total):
    """Twenty-two not above the upper limit of normal, forty above it."""
    _, low, high, normal, *_, spread = ENZYMES["ck_u_l"]
    usual = np.clip(np.round(np.exp(rng.normal(4.4, 0.5, N_NORMAL_CK - 1))), 24, normal)
    usual = np.sort(np.r_[low, usual]).astype(int)
    rest = tuple(limit - usual.sum() for limit in total)
    raised = skewed_integers(rng, N_MEASURED - N_NORMAL_CK, low=normal + 1 + int(rng.integers(40)), high=high,
                             total=rest, spread=spread)
    return None if raised is None else np.concatenate([usual, raised])


def _pinned_order(latent, normal, wanted):
    """For ascending values, which goes where: by rank of `latent`, but normal or not where that is wanted."""
    rank = np.argsort(np.argsort(latent))
    for position, is_normal in wanted.items():
        if normal[rank[position]] != is_normal:
            fits = [i for i in range(len(rank)) if normal[rank[i]] == is_normal and i not in wanted]
            if not fits:
                return None
            other = min(fits, key=lambda i: abs(int(rank[i]) - int(rank[position])))
            rank[position], rank[other] = rank[other], rank[position]
    return rank


def draw_course(rng, t2_ms):
    """Duration of the disease in whole months, and who relapsed on treatment: mostly those who have it for long.

    Parameters
    ----------
    rng : numpy.random.Generator
    t2_ms : array of shape (64,)

    Returns
    -------
    dict of numpy.ndarray, or None
        ``duration_months`` and ``treatment``; None where no draw met what is printed.
    """
    mean, low, high, rs, p = DURATION
    months = skewed_integers(rng, 64, low=low, high=high, total=tuple(64 * limit for limit in printed_range(mean)))
    if months is None:
        return None
    months = order_by_correlation(rng, rng.permutation(months), t2_ms, correlation_window(rs, p, 64), n_steps=20_000)
    if months is None:
        return None
    relapsed = np.argsort(np.argsort(np.log(months) + rng.normal(0, 0.8, 64))) >= 37
    return {"duration_months": months, "treatment": np.where(relapsed, "relapsed on treatment", "untreated")}


def draw_diagnosis(rng, ass, ild, ck_u_l, t2_ms, *, case):
    """Subtype, certainty, biopsy and antibody.

    The patient of Fig. 3 is the one with dermatomyositis whom the printed counts leave unclassified. Definite
    polymyositis has a muscle biopsy, as its definition wants; anti-MDA5 goes with lung disease where it can.

    Parameters
    ----------
    rng : numpy.random.Generator
    ass, ild : array of bool, shape (64,)
    ck_u_l, t2_ms : array of shape (64,)
    case : int

    Returns
    -------
    dict of numpy.ndarray
        ``subtype``, ``certainty``, ``biopsy``, ``antibody``.
    """
    subtype = np.where(ass, "ASS", "PM").astype(object)
    rest = np.setdiff1d(np.flatnonzero(~ass), [case])
    subtype[np.r_[case, rng.choice(rest, 26, replace=False)]] = "DM"
    certainty = np.full(64, np.nan, dtype=object)
    normal_ck = (ck_u_l <= ENZYMES["ck_u_l"][3]) & (np.asarray(t2_ms) >= CUTOFF_MS)
    dm = rng.permutation(np.setdiff1d(np.flatnonzero(subtype == "DM"), [case]))
    certainty[dm[:12]], certainty[dm[12:]], certainty[case] = "definite", "probable", "unclassified"
    pm = rng.permutation(np.flatnonzero(subtype == "PM"))
    pm = pm[np.argsort(normal_ck[pm], kind="stable")]  # raised CK first
    certainty[pm[:14]], certainty[pm[14:]] = "definite", "probable"

    biopsy = np.full(64, "none", dtype=object)
    muscle = pm[:14]
    more = 6 - int(normal_ck[muscle].sum())  # six with normal CK had a muscle biopsy
    others = rng.permutation(np.setdiff1d(np.arange(64), [case, *muscle]))
    known = ~np.isnan(ck_u_l)
    muscle = np.r_[muscle, others[normal_ck[others]][:more], others[~normal_ck[others] & known[others]][:11 - more]]
    biopsy[muscle] = "muscle"
    free_dm = [i for i in dm if biopsy[i] == "none"]
    biopsy[free_dm[0]] = "skin"
    both = [i for i in dm if biopsy[i] == "muscle"] or list(muscle)
    biopsy[both[0]] = "muscle and skin"

    antibody = np.full(64, "none", dtype=object)
    for name, kinds in ANTIBODIES.items():
        who = rng.permutation(np.flatnonzero(subtype == name))
        who = who[np.argsort(~ild[who], kind="stable")] if name == "DM" else who
        antibody[who] = kinds if name == "DM" else rng.permutation(kinds)
    dm_rest = np.flatnonzero((subtype == "DM") & (antibody != "MDA5"))
    antibody[dm_rest] = rng.permutation(antibody[dm_rest])
    return {"subtype": subtype, "certainty": certainty, "biopsy": biopsy, "antibody": antibody}
