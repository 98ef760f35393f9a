"""Lungs of the synthetic patients: antisynthetase syndrome (ASS) and the score of interstitial lung disease (ILD)."""

from __future__ import annotations

import numpy as np

from mrmyo.cohort_search import anneal, correlation_window, printed_range

__all__ = ["draw_lungs"]

N_ASS, N_OTHERS, N_UNSCORED = 8, 53, 3  # 53 others with a score: only 61 fit what is printed
TOTAL_ASS, TOTAL_OTHERS = 38, 112  # 4.75 of 8, 2.11 of 53; together 4.8 of the 31 with lung disease
PAIRS_ASS = (186, 8 * 56 - 186)  # in which a patient with ASS has the higher T2: Z .771 either way
RS = {"group means": ("-0.226", "0.080"), "as printed": ("0.226", "0.080")}
# how many of the eight have lung disease is not printed; the definition of the syndrome speaks for most
N_ASS_WITH_ILD = (8, 8, 7, 6)


def draw_lungs(rng, t2_ms, ild, *, variant, case):
    """Who has ASS, and the ILD score of everyone but three.

    Parameters
    ----------
    rng : numpy.random.Generator
    t2_ms : array of shape (64,)
    ild : array of bool, shape (64,)
    variant : {"group means", "as printed"}
    case : int
        The patient of Fig. 3, who has no ASS.

    Returns
    -------
    (numpy.ndarray of bool, dict) or None
        Who has ASS; ``ild_severity``, ``ild_extent_percent``, ``ild_extent``, ``ild_score``, missing for three without
        lung disease. None where no draw met all that is printed.
    """
    n_ild = int(rng.choice(N_ASS_WITH_ILD))
    scores = _draw_scores(rng, n_ild)
    if scores is None:
        return None
    ass = _choose_ass(rng, t2_ms, ild, n_ild, case)
    if ass is None:
        return None
    score = _place_scores(rng, np.asarray(t2_ms), ild, ass, scores, correlation_window(*RS[variant], 61))
    return None if score is None else (ass, _grades(rng, score))


def _draw_scores(rng, n_ild):
    """Scores of those with lung disease, with ASS and of the others, that print the means, the SD and Z = 2.556."""
    from mrmyo.stats.groups import rank_sum_test

    low, high = printed_range("1.6")
    for _ in range(50):
        draws = np.clip(np.round(rng.normal(4.8, 1.7, (40_000, 31))), 2, 8)
        with_ass, others = draws[:, :n_ild], draws[:, n_ild:]
        good = (with_ass.sum(axis=1) == TOTAL_ASS) & (others.sum(axis=1) == TOTAL_OTHERS)
        for row in draws[good & (draws.std(axis=1, ddof=1) > low) & (draws.std(axis=1, ddof=1) < high)]:
            first = np.r_[row[:n_ild], np.zeros(N_ASS - n_ild)]
            second = np.r_[row[n_ild:], np.zeros(N_OTHERS - 31 + n_ild)]
            _, z, p = rank_sum_test(first, second)
            if f"{z:.3f} {p:.3f}" == "2.556 0.011":
                return row[:n_ild], row[n_ild:]
    return None


def _choose_ass(rng, t2_ms, ild, n_ild, case):
    from scipy.stats import rankdata

    ranks, pairs = rankdata(t2_ms), rng.choice(PAIRS_ASS)
    may = np.arange(64) != case

    def cost(chosen):
        return abs(ranks[chosen].sum() - N_ASS * (N_ASS + 1) / 2 - pairs) / 5

    def step(rng, chosen):
        chosen, i = chosen.copy(), rng.integers(N_ASS)
        alike = np.setdiff1d(np.flatnonzero(may & (ild == ild[chosen[i]])), chosen)
        chosen[i] = rng.choice(alike)
        return chosen

    start = np.r_[rng.choice(np.flatnonzero(may & ild), n_ild, replace=False),
                  rng.choice(np.flatnonzero(may & ~ild), N_ASS - n_ild, replace=False)]
    found = anneal(rng, start, cost, step, n_steps=5_000)
    return None if found is None else np.isin(np.arange(64), found)


def _place_scores(rng, t2_ms, ild, ass, scores, window):
    """The scores among those with lung disease, and who has none, so that the printed correlation holds."""
    from scipy.stats import spearmanr

    score = np.zeros(64)
    score[ild & ass], score[ild & ~ass] = (rng.permutation(part) for part in scores)
    score[rng.choice(np.flatnonzero(~ild & ~ass), N_UNSCORED, replace=False)] = np.nan
    alike = [np.flatnonzero(ild & ass), np.flatnonzero(ild & ~ass), np.flatnonzero(~ild & ~ass)]
    chances = np.array([len(part) for part in alike]) / sum(map(len, alike))

    def off(score):
        known = ~np.isnan(score)
        r = spearmanr(t2_ms[known], score[known]).statistic
        return 0 if window[0] < r < window[1] else abs(r - sum(window) / 2)

    now = off(score)
    for _ in range(3_000):
        if now == 0:
            return score
        i, j = rng.choice(alike[rng.choice(3, p=chances)], 2, replace=False)
        other = score.copy()
        other[i], other[j] = score[j], score[i]
        then = off(other)
        if then < now:
            score, now = other, then
    return None


def _grades(rng, score):
    """Severity and extent that add up to the score, and an extent in percent within its grade."""
    severity, known = np.full(score.shape, np.nan), ~np.isnan(score)
    half = score[known] / 2 + rng.choice([-0.5, 0, 0.5], known.sum()) * (score[known] > 2)
    severity[known] = np.clip(np.floor(half + rng.random(known.sum()) * 0.99), score[known] - 4, score[known] - 1)
    severity[known] = np.clip(severity[known], 0, 4)
    extent = score - severity
    least, most = np.array([0, 10, 26, 51, 76]), np.array([0, 24, 49, 74, 95])  # no shared end of two grades
    percent = np.full(score.shape, np.nan)
    grade = extent[known].astype(int)
    percent[known] = rng.integers(least[grade], most[grade] + 1)
    return {"ild_severity": severity, "ild_extent_percent": percent, "ild_extent": extent, "ild_score": score}
