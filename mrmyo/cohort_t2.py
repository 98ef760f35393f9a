"""T2 of the synthetic subjects, and which of the patients have interstitial lung disease (ILD)."""

from __future__ import annotations

import numpy as np

from mrmyo.cohort_search import anneal, printed_range

__all__ = ["CASE_T2_MS", "CUTOFF_MS", "T2_DECIMALS", "VARIANTS", "draw_control_t2", "draw_patient_t2"]

VARIANTS = ("group means", "as printed")
CUTOFF_MS = 36.4
CASE_T2_MS = 41.0  # of the patient of Fig. 3, in the whole thigh
T2_DECIMALS = 2  # of a millisecond

# The printed targets. Where a range of values prints alike, the patients' target is one that the printed means and SDs
# with and without lung disease allow as well.
T2_IIM_MEAN, T2_IIM_SD = 47.38, 8.97
T2_HC_MEAN, T2_HC_SD = 33.9, 0.9
# Two patients lie among the controls, below 6 and below 3 of the 10: 9 of 640 pairs in the wrong order, AUC 631/640.
CONTROLS_ABOVE = (6, 3)
HIGHEST = (68.0, 72.0)

N_ILD, N_WITHOUT = 31, 33
WITH, WITHOUT = ("45.3", "6.5"), ("49.3", "10.5")  # printed mean and SD
# of the 31 × 33 pairs those in which the patient with lung disease has the higher T2; p is .118 either way
PAIRS_ILD_HIGHER = {"group means": 395, "as printed": N_ILD * N_WITHOUT - 395}


def draw_control_t2(rng):
    """Ten sorted T2 values with the printed mean and SD, room for two patients among them, and none too high.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray or None
        In milliseconds; None where no draw met all.
    """
    for _ in range(10_000):
        z = np.sort(rng.standard_normal(10))
        t2 = np.round(T2_HC_MEAN + T2_HC_SD * (z - z.mean()) / z.std(ddof=1), T2_DECIMALS)
        if 35.2 <= t2[-1] <= 35.6 and t2[0] >= 32.2 and np.diff(t2).min() >= 0.04 and _gaps(t2).min() >= 0.2:
            return t2
    return None


def draw_patient_t2(rng, controls, *, variant):
    """T2 of 64 patients, whose Youden cutoff falls midway between two subjects at 36.4 ms, and who has lung disease.

    Parameters
    ----------
    rng : numpy.random.Generator
    controls : array of shape (10,)
        Sorted, in milliseconds.
    variant : {"group means", "as printed"}
        With lung disease T2 is lower in most pairs of patients, or higher. The printed means are met in both; in the
        second T2 lies in two heaps, without which it could not rank higher with lung disease and be lower in the mean.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray of bool) or None
        T2 in ascending order, in milliseconds, and who has lung disease; None where no draw met all.
    """
    fixed = _lowest_three(controls)
    return (_one_heap if variant == "group means" else _two_heaps)(rng, fixed)


def _gaps(controls):
    return np.array([controls[10 - above] - controls[9 - above] for above in CONTROLS_ABOVE])


def _lowest_three(controls):
    """Two patients midway between two controls each, and the one that makes the cutoff midway to the highest."""
    low = [(controls[9 - above] + controls[10 - above]) / 2 for above in CONTROLS_ABOVE]
    return np.round([*low, 2 * CUTOFF_MS - controls[-1]], T2_DECIMALS)


def _one_heap(rng, fixed):
    """Skewed to the right; the mean is met by scaling, the SD by a power. Then the choice of those with ILD."""
    from scipy.optimize import brentq

    mean_of_rest = (64 * T2_IIM_MEAN - fixed.sum()) / 61

    def stretch(z, power):
        z = z**power
        return np.concatenate([fixed, fixed[2] + (mean_of_rest - fixed[2]) * z / z.mean()])

    def excess_sd(power, z):
        return stretch(z, power).std(ddof=1) - T2_IIM_SD

    def step(rng, state):
        return state[0], _swapped(rng, state[1])

    for _ in range(10_000):
        z = np.sort(rng.gamma(1.6, size=61))
        if excess_sd(0.3, z) > 0 or excess_sd(3.0, z) < 0:
            continue
        t2 = np.round(stretch(z, brentq(excess_sd, 0.3, 3.0, args=(z,))), T2_DECIMALS)
        if HIGHEST[0] <= t2[-1] <= HIGHEST[1] and t2[3] - t2[2] >= 0.3 and len(np.unique(t2)) == 64:
            t2[3 + np.argmin(np.abs(t2[3:] - CASE_T2_MS))] = CASE_T2_MS
            t2, apart = np.sort(t2), rng.spawn(1)[0]  # the search leaves the stream of the values as it was
            return anneal(apart, (t2, apart.permutation(64) < N_ILD), lambda state: _cost(*state, "group means"), step,
                          n_steps=30_000)
    return None


def _two_heaps(rng, fixed):
    """Most patients without ILD below those with it, and some far above; values and choice found together."""
    n_high = int(rng.integers(8, 11))
    lowest, case = fixed[2] + 0.3, 3

    def step(rng, state):
        t2, ild = state
        if rng.random() < 0.3:
            return t2, _swapped(rng, ild)
        t2, i = t2.copy(), rng.integers(case + 1, 64)
        t2[i] = np.round(np.clip(t2[i] + rng.normal(0, 1.5), lowest, HIGHEST[1]), T2_DECIMALS)
        return t2, ild

    def cost(state):
        t2, ild = state
        high = max(HIGHEST[0] - t2.max(), 0)
        return _cost(t2, ild, "as printed") + high + _miss(t2, "47.4", "9.0") + 64 - len(np.unique(t2))

    rest = np.concatenate([rng.normal(43.3, 2.2, N_WITHOUT - n_high), rng.normal(65.5, 3.0, n_high),
                           rng.normal(46.6, 4.0, 60 - N_WITHOUT)])
    t2 = np.concatenate([fixed, [CASE_T2_MS], np.round(np.clip(rest, lowest, HIGHEST[1]), T2_DECIMALS)])
    found = anneal(rng, (t2, np.r_[[True] * 4, [False] * N_WITHOUT, [True] * (N_ILD - 4)]), cost, step, n_steps=60_000)
    if found is None:
        return None
    order = np.argsort(found[0])
    return found[0][order], found[1][order]


def _swapped(rng, ild):
    ild = ild.copy()
    i, j = rng.choice(np.flatnonzero(ild)), rng.choice(np.flatnonzero(~ild))
    ild[i], ild[j] = False, True
    return ild


def _cost(t2_ms, ild, variant):
    """How far T2 by lung disease is from printing as in the paper, and from its p."""
    pairs = (t2_ms[ild][:, None] > t2_ms[~ild]).sum()
    off = abs(int(pairs) - PAIRS_ILD_HIGHER[variant]) / 5
    return off + _miss(t2_ms[ild], *WITH) + _miss(t2_ms[~ild], *WITHOUT)


def _miss(values, mean, sd):
    """How far a mean and an SD are from printing as given, in tenths of a millisecond."""
    miss = 0.0
    for found, printed in ((values.mean(), mean), (values.std(ddof=1), sd)):
        low, high = printed_range(printed)
        miss += max(low + 0.002 - found, found - high + 0.002, 0) / 0.1
    return miss
