"""The synthetic cohort: 64 patients and 10 controls who never lived, with the statistics that the paper prints.

Only summary numbers of the paper go in; no subject here corresponds to any person.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["CohortError", "load_cohort", "make_cohort", "pick_subjects", "write_cohort"]

SEED = 2022
CUTOFF_MS = 36.4
T2_DECIMALS = 2  # of a millisecond

# The printed targets. Where a range of values prints alike, the patients' target is one that the printed means and SDs
# with and without lung disease (49.3 ± 10.5 of 33, 45.3 ± 6.5 of 31) allow as well.
T2_IIM_MEAN, T2_IIM_SD = 47.38, 8.97
T2_HC_MEAN, T2_HC_SD = 33.9, 0.9
RS_AGE_RANGE = (0.0906, 0.0908)  # prints .091 with p .476 (Spearman, n = 64)
# Two patients lie among the controls, below 6 and below 3 of the 10: 9 of 640 pairs in the wrong order, AUC 631/640.
CONTROLS_ABOVE = (6, 3)


class CohortError(ValueError):
    """A cohort cannot be made, found or sampled as asked."""


def make_cohort(*, seed: int = SEED):
    """Draw the 74 synthetic subjects.

    Parameters
    ----------
    seed : int
        The same seed gives the same table. Every seed meets the printed statistics.

    Returns
    -------
    pandas.DataFrame
        One row per subject: ``subject`` ("SYN-IIM-01", …), ``group`` ("IIM" or "HC"), ``age`` (whole years), ``sex``
        ("F" or "M"), ``t2_ms`` (the apparent mono-exponential T2 of whole thigh muscle, in milliseconds).

    Raises
    ------
    CohortError
        When a seed meets the printed statistics in none of its many draws.
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    controls = _control_t2(rng)
    patients = rng.permutation(_patient_t2(rng, controls))
    groups = (
        ("IIM", patients, _shuffle_to_rank_correlation(rng, _ages(rng, 64, 19, 72, 44.3, 14.0), patients), 26),
        ("HC", rng.permutation(controls), _ages(rng, 10, 25, 63, 36.6, 11.0), 1),
    )
    tables = []
    for name, t2_ms, age, n_male in groups:
        sex = rng.permutation(["M"] * n_male + ["F"] * (len(t2_ms) - n_male))
        subject = [f"SYN-{name}-{i:02d}" for i in range(1, len(t2_ms) + 1)]
        tables.append(pd.DataFrame({"subject": subject, "group": name, "age": age, "sex": sex, "t2_ms": t2_ms}))
    return pd.concat(tables, ignore_index=True)


def load_cohort():
    """The synthetic cohort that comes with mrmyo (``data_synthetic/cohort.csv``).

    Returns
    -------
    pandas.DataFrame
        As :func:`make_cohort` returns it.

    Raises
    ------
    CohortError
        When the file is neither beside the package nor inside it.
    """
    import pandas as pd

    package = Path(__file__).resolve().parent
    places = [package / "data_synthetic" / "cohort.csv", package.parent / "data_synthetic" / "cohort.csv"]
    for path in places:
        if path.is_file():
            return pd.read_csv(path)
    raise CohortError(
        f"Found no cohort.csv at {places[0]} or {places[1]}. Reinstall mrmyo, or make the table with make_cohort()."
    )


def write_cohort(path=None, *, seed: int = SEED) -> Path:
    """Make the cohort anew and write it as CSV; without a path, over the one in a checkout's ``data_synthetic/``."""
    path = Path(__file__).resolve().parent.parent / "data_synthetic" / "cohort.csv" if path is None else Path(path)
    if not path.parent.is_dir():
        raise CohortError(f"Found no folder {path.parent} to write the cohort to. Make it, or give another path.")
    make_cohort(seed=seed).to_csv(path, index=False, float_format=f"%.{T2_DECIMALS}f", lineterminator="\n")
    return path


def pick_subjects(cohort, n: int):
    """A small cohort like the large one: n subjects, in proportion from each group, spread over its T2 quantiles.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``group`` and ``t2_ms``, one row per subject.
    n : int
        How many subjects; from 2 on, at least one of each group (of 74, n = 8 gives 7 patients and 1 control).

    Returns
    -------
    pandas.DataFrame
        The chosen rows in the order of the cohort. The same call chooses the same subjects.

    Raises
    ------
    CohortError
        When n is below 1 or above the number of subjects, or a column is missing.
    """
    missing = [name for name in ("group", "t2_ms") if name not in cohort.columns]
    if missing:
        raise CohortError(f"Found no column {missing}; expected a cohort table such as load_cohort() returns.")
    if not 1 <= n <= len(cohort):
        raise CohortError(f"Found n = {n}; expected 1 to {len(cohort)}, the number of subjects in the cohort.")
    cohort = cohort.reset_index(drop=True)
    sizes = cohort["group"].value_counts()  # largest group first
    counts = {}
    left_to_pick, left_to_share = int(n), len(cohort)
    for group, size in sizes[::-1].items():
        share = int(np.floor(left_to_pick * size / left_to_share + 0.5))
        share = max(share, 1) if n >= len(sizes) else share
        counts[group] = min(share, size)
        left_to_pick, left_to_share = left_to_pick - counts[group], left_to_share - size
    chosen = []
    for group, count in counts.items():
        ordered = cohort[cohort["group"] == group].sort_values("t2_ms", kind="stable").index
        # the middles of `count` equal slices of the sorted group
        chosen += [ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)]
    return cohort[cohort.index.isin(chosen)].reset_index(drop=True)


def _control_t2(rng):
    """Ten sorted T2 values with the printed mean and SD, room for two patients among them, and none too high."""
    for _ in range(10_000):
        z = np.sort(rng.standard_normal(10))
        t2 = np.round(T2_HC_MEAN + T2_HC_SD * (z - z.mean()) / z.std(ddof=1), T2_DECIMALS)
        if 35.2 <= t2[-1] <= 35.6 and t2[0] >= 32.2 and np.diff(t2).min() >= 0.04 and _gaps(t2).min() >= 0.2:
            return t2
    raise CohortError("No draw of controls met the printed statistics; try another seed.")


def _gaps(controls):
    return np.array([controls[10 - above] - controls[9 - above] for above in CONTROLS_ABOVE])


def _patient_t2(rng, controls):
    """Sixty-four sorted T2 values, right-skewed, whose Youden cutoff falls midway between two subjects at 36.4 ms."""
    from scipy.optimize import brentq

    low = [(controls[9 - above] + controls[10 - above]) / 2 for above in CONTROLS_ABOVE]
    lowest = 2 * CUTOFF_MS - controls[-1]
    fixed = np.array([*low, lowest])
    mean_of_rest = (64 * T2_IIM_MEAN - fixed.sum()) / 61

    def stretch(z, power):  # the mean is met by scaling, the SD by the power
        z = z**power
        return np.concatenate([fixed, lowest + (mean_of_rest - lowest) * z / z.mean()])

    def excess_sd(power, z):
        return stretch(z, power).std(ddof=1) - T2_IIM_SD

    for _ in range(10_000):
        z = np.sort(rng.gamma(1.6, size=61))
        if excess_sd(0.3, z) > 0 or excess_sd(3.0, z) < 0:
            continue
        t2 = np.round(stretch(z, brentq(excess_sd, 0.3, 3.0, args=(z,))), T2_DECIMALS)
        if 68 <= t2[-1] <= 72 and t2[3] - t2[2] >= 0.3 and len(np.unique(t2)) == 64:
            return t2
    raise CohortError("No draw of patients met the printed statistics; try another seed.")


def _ages(rng, n, youngest, oldest, mean, sd):
    """Whole years with the given extremes whose mean is the given one as nearly as n allows."""
    ages = np.clip(np.round(rng.normal(mean, sd, n)), youngest + 1, oldest - 1).astype(int)
    ages[:2] = youngest, oldest
    while surplus := int(ages.sum() - round(n * mean)):
        i, step = rng.integers(2, n), -int(np.sign(surplus))
        if youngest < ages[i] + step < oldest:
            ages[i] += step
    return rng.permutation(ages)


def _shuffle_to_rank_correlation(rng, ages, t2_ms):
    """The ages in an order whose Spearman correlation with T2 prints as the paper's: a walk of improving swaps."""
    from scipy.stats import rankdata

    x, y = rankdata(ages), rankdata(t2_ms)
    x, y = (x - x.mean()) / np.linalg.norm(x - x.mean()), (y - y.mean()) / np.linalg.norm(y - y.mean())
    order, (low, high) = np.arange(len(ages)), RS_AGE_RANGE
    target = (low + high) / 2
    for _ in range(100_000):
        rs = x[order] @ y
        if low < rs < high:
            return ages[order]
        swapped = order.copy()
        i, j = rng.choice(len(ages), size=2, replace=False)
        swapped[[i, j]] = swapped[[j, i]]
        if abs(x[swapped] @ y - target) < abs(rs - target):
            order = swapped
    raise CohortError("No order of ages met the printed rank correlation; try another seed.")


if __name__ == "__main__":
    write_cohort()
