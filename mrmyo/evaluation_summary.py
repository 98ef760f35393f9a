"""Many cases of :mod:`mrmyo.evaluation` in few numbers: means with intervals, and agreement of volume and T2."""

from __future__ import annotations

import numpy as np

from mrmyo.evaluation import EvaluationError
from mrmyo.measure import WHOLE_MUSCLE

__all__ = ["MEAN_OF_MUSCLES", "by_subject", "limits_of_agreement", "summarise"]

MEAN_OF_MUSCLES = "mean of muscles"
MEAN_OF_SIDES = "mean of sides"
MEASURES = ("dice", "hd95_mm", "surface_distance_mm", "hd95_in_plane_mm", "surface_distance_in_plane_mm",
            "volume_error_ml", "volume_error_percent", "delta_t2_ms", "n_missed_slices", "n_extra_slices",
            "other_side_ml")
PAIRS = (("volume_ml", "reference_volume_ml"), ("t2_ms", "reference_t2_ms"))
FEW = 10  # below this the bootstrap's intervals are known to be too narrow


def by_subject(rows, measure: str):
    """One number per subject, muscle and level: the mean of the two sides.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.evaluate`, of one or many cases; the column ``subject`` tells them apart, without it all are one.
    measure : str
        A column of numbers.

    Returns
    -------
    pandas.DataFrame
        subject, side, muscle, abbreviation, level, the measure and ``n_parts_missing``. ``side`` is 'mean of sides' or,
        for the whole muscle of both thighs at once, 'both'. Rows of 'mean of muscles' hold the
        mean of a subject's muscles, each the mean of its sides.

    Notes
    -----
    A part, that is a muscle of one side, which the reference has but which has no number (a distance where `labels`
    missed it) is a missing part. A mean with a missing part is NaN: the mean of the parts that were found would be
    better for the missed one. Parts that only `labels` has are none of the reference's, and do not count here.
    """
    import pandas as pd

    if missing := [name for name in ("side", "muscle", "abbreviation", "level", measure) if name not in rows]:
        raise EvaluationError(f"Found no column {missing}; expected the rows of mrmyo.evaluate.")
    if "subject" not in rows:
        rows = rows.assign(subject="1")
    keys = ["subject", "muscle", "abbreviation", "level"]
    if (n := int(rows.duplicated([*keys, "side"]).sum())):
        raise EvaluationError(
            f"Found {n} rows that repeat a subject's side, muscle and level; expected one of each. Give every case "
            "its own subject, or average the visits of one first."
        )
    lost = rows[measure].isna()
    if "reference_volume_ml" in rows:
        lost &= rows.reference_volume_ml > 0
    rows = rows.assign(n_parts_missing=lost.astype(int))
    both = rows.side == "both"
    parts = [_means(rows[~both], keys, measure).assign(side=MEAN_OF_SIDES)]
    named = parts[0][parts[0].muscle != WHOLE_MUSCLE]
    if len(named):
        mean = _means(named, ["subject", "level"], measure)
        parts.append(mean.assign(muscle=MEAN_OF_MUSCLES, abbreviation="MEAN", side=MEAN_OF_SIDES))
    columns = ["subject", "side", "muscle", "abbreviation", "level", measure, "n_parts_missing"]
    parts.append(rows.loc[both, columns])
    return pd.concat([part[columns] for part in parts if len(part)], ignore_index=True)


def _means(rows, keys, measure):
    """Means of a measure, NaN where a part is missing, and how many are."""
    means = rows.groupby(keys, sort=False).agg({measure: "mean", "n_parts_missing": "sum"}).reset_index()
    means[measure] = means[measure].where(means.n_parts_missing == 0)
    return means


def summarise(rows, *, measures=None, n_boot: int = 2000, seed: int = 0):
    """Mean, median and 95 % interval over subjects, per muscle and level.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.evaluate`, of many cases, with a column ``subject``.
    measures : sequence of str, optional
        Which columns; without it, those of overlap, distance, volume, T2 and slices that there are.
    n_boot : int
        Resamples of the bootstrap.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row per side, muscle, level and measure: ``n`` subjects with a number, ``n_missing`` without (a distance
        is missing where one mask had nothing: read it beside the Dice, which is 0 there), ``n_parts_missing`` muscles
        of a side, over all subjects, that the reference has and that have no number, ``mean``, ``mean_low``,
        ``mean_high``, ``median``, ``sd``, ``minimum``, ``maximum``, ``mean_absolute``, and a ``note``.

    Notes
    -----
    A subject's number is the mean of the sides (:func:`by_subject`). A subject of whom a part is missing has none: it
    is left out of the mean of that muscle and of 'mean of muscles', and counted in ``n_missing``, so that no distance
    gets better by a muscle that was missed. Compare two methods on the subjects that both have.

    The interval is the percentile bootstrap over subjects (Efron and Tibshirani 1993, chapter 13): whole subjects are
    drawn, with all their sides, muscles and levels, so that what belongs together stays together. With two subjects or
    fewer there is none; with fewer than ten it is known to be too narrow, and the note says so.
    """
    import pandas as pd

    names = [name for name in MEASURES if name in rows] if measures is None else list(measures)
    if n_boot < 100:
        raise EvaluationError(f"Found n_boot={n_boot}; expected at least 100 resamples for an interval of 95 %.")
    keys = ["side", "muscle", "abbreviation", "level"]
    tables = []
    for measure in names:
        long = by_subject(rows, measure)
        order = long[keys].drop_duplicates().reset_index(drop=True)
        wide = long.pivot(index=keys, columns="subject", values=measure).reindex(pd.MultiIndex.from_frame(order))
        wide = wide[sorted(wide.columns, key=str)]  # the same draw whatever the order of the rows
        there = long.assign(there=True).pivot(index=keys, columns="subject", values="there").reindex(wide.index)
        n_rows = there[wide.columns].notna().to_numpy().sum(1)
        lost = long.groupby(keys, sort=False).n_parts_missing.sum().reindex(wide.index).to_numpy()
        tables.append(order.assign(measure=measure, **_statistics(wide.to_numpy(float), n_rows, lost, n_boot, seed)))
    return pd.concat(tables, ignore_index=True)


def _statistics(values, n_rows, n_lost, n_boot, seed):
    """Of a table with a row per cell and a column per subject."""
    known = np.isfinite(values)
    n, filled = known.sum(1), np.where(known, values, 0.0)
    n_subjects = values.shape[1]
    drawn = np.random.default_rng(seed).integers(n_subjects, size=(n_boot, n_subjects))
    times = np.stack([np.bincount(draw, minlength=n_subjects) for draw in drawn]).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(1) / n
        absolute = np.abs(filled).sum(1) / n
        sd = np.sqrt((np.where(known, values - mean[:, None], 0.0) ** 2).sum(1) / (n - 1))
        means = (times @ filled.T) / (times @ known.T)  # NaN where a draw holds no subject with a number
    low, high = np.full((2, n.size), np.nan)
    for i in np.flatnonzero(n > 2):
        low[i], high[i] = np.nanpercentile(means[:, i], [2.5, 97.5])
    pick = [row[one] if one.any() else np.array([np.nan]) for row, one in zip(values, known, strict=True)]
    notes = ["" if k >= FEW else f"{k} subjects: " + ("no interval" if k < 3 else "the interval is too narrow")
             for k in n]
    return {"n": n, "n_missing": n_rows - n, "n_parts_missing": n_lost, "mean": mean, "mean_low": low,
            "mean_high": high, "median": [np.median(part) for part in pick], "sd": np.where(n > 1, sd, np.nan),
            "minimum": [part.min() for part in pick], "maximum": [part.max() for part in pick],
            "mean_absolute": absolute, "note": notes}


def limits_of_agreement(rows, *, level: str = "all"):
    """Bias and limits of agreement of volume and T2 with the reference, per muscle, one pair per subject.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.evaluate`, of many cases.
    level : str

    Returns
    -------
    pandas.DataFrame
        ``quantity`` ('volume_ml', 't2_ms'), side, muscle, abbreviation, and the columns of
        `mrmyo.stats.bland_altman`. Volume and T2 of a muscle are a subject's means of the sides; a
        subject of whom a side is missing is left out, and counted.
    """
    import pandas as pd

    from mrmyo.stats import bland_altman

    rows = rows[rows.level == level]
    if not len(rows):
        raise EvaluationError(f"Found no rows of the level {level!r}; the rows of mrmyo.evaluate have at least 'all'.")
    keys = ["subject", "side", "muscle", "abbreviation", "level"]
    found = []
    for quantity, reference in PAIRS:
        if quantity not in rows:
            continue
        pairs = by_subject(rows, quantity).merge(by_subject(rows, reference), on=keys)
        for (side, muscle, short), part in pairs.groupby(keys[1:4], sort=False):
            if muscle != MEAN_OF_MUSCLES and part[[quantity, reference]].notna().all(axis=1).any():
                row = bland_altman(part, measured=quantity, reference=reference).drop(columns="group").iloc[0]
                found.append({"quantity": quantity, "side": side, "muscle": muscle, "abbreviation": short, **row})
    return pd.DataFrame(found)
