"""Whole subjects resampled: intervals for statistics of tables with many rows of each."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pandas as pd

from mrmyo.stats.columns import StatsError, require_columns, require_count, require_share
from mrmyo.stats.models import _one_each

__all__ = ["cluster_bootstrap"]


def cluster_bootstrap(table, statistic, *, subject="subject", strata=None, n_resamples=2000, level=0.95,
                      seed=0) -> pd.DataFrame:
    """The interval of any statistic of a table with several rows per subject: whole subjects are resampled.

    Parameters
    ----------
    table : pandas.DataFrame
        Any number of rows per subject; rows without a subject (or a stratum) are left out and counted.
    statistic : callable
        Takes such a table and returns a number, or a Series or dict of numbers by name. In a resample subjects keep all
        their rows and are numbered anew, so that one drawn twice counts as two.
    subject : str
    strata : str, optional
        A column that is constant within subjects, such as "group": of each stratum as many are drawn as it has.
    n_resamples, level, seed

    Returns
    -------
    pandas.DataFrame
        One row per statistic: statistic (its name, or "statistic"), estimate (of all subjects), low, high (percentiles,
        Efron and Tibshirani, An Introduction to the Bootstrap, 13.3, Field and Welsh, J R Stat Soc B 2007; 69:369; not
        BCa, so short of few subjects), n_subjects, n_rows, n_missing, n_resamples, n_failed (resamples in which the
        statistic was not finite or raised StatsError, left out of the percentiles), method, note.

    Raises
    ------
    StatsError
        When there are fewer than three subjects, a stratum varies within one, the statistic is never finite, returns
        nothing or no number, or an option is out of range.
    """
    needed = [subject] if strata is None else [subject, strata]
    require_columns(table, *needed)
    require_share("level", level)
    require_count("n_resamples", n_resamples)
    frame = table[table[needed].notna().all(axis=1).to_numpy()].reset_index(drop=True)
    codes, ids = pd.factorize(frame[subject])
    if len(ids) < 3:
        raise StatsError(f"Found {len(ids)} subjects; expected three at least.")
    of_subject = np.zeros(len(ids), int) if strata is None else pd.factorize(_one_each(frame, codes, strata))[0]
    pools = [np.flatnonzero(of_subject == stratum) for stratum in range(of_subject.max() + 1)]
    sizes = np.bincount(codes)
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # a degenerate resample is counted instead
        warnings.simplefilter("ignore", RuntimeWarning)
        estimates = _answers(statistic, frame.copy())  # a statistic may write in its table
        drawn = np.full((n_resamples, len(estimates)), np.nan)
        for found in drawn:
            chosen = np.concatenate([rng.choice(pool, len(pool)) for pool in pools])
            sample = frame.take(np.concatenate([rows_of[one] for one in chosen])).reset_index(drop=True)
            sample[subject] = np.repeat(np.arange(len(chosen)), sizes[chosen])
            with contextlib.suppress(StatsError):
                answer = _answers(statistic, sample)
                found[:] = [answer.get(name, np.nan) for name in estimates]
    drawn[np.isinf(drawn)] = np.nan
    failed = np.isnan(drawn).sum(axis=0).tolist()
    never = [name for name, count in zip(estimates, failed, strict=True) if count == n_resamples]
    if never:
        raise StatsError(f"Found no finite {never} in {n_resamples} resamples; try the statistic on the table itself.")
    lows, highs = np.nanpercentile(drawn, [50 * (1 - level), 50 * (1 + level)], axis=0).tolist()
    notes = ["fewer than 20 subjects: percentiles come out a little short"] * (len(ids) < 20)
    notes += ["a stratum of one subject does not vary"] * (min(map(len, pools)) == 1)
    return pd.DataFrame([{
        "statistic": name, "estimate": estimate, "low": lows[j], "high": highs[j], "n_subjects": len(ids),
        "n_rows": len(frame), "n_missing": len(table) - len(frame), "n_resamples": n_resamples, "n_failed": failed[j],
        "method": f"percentiles of resampled subjects{'' if strata is None else f' within {strata}'}, {level:.0%}",
        "note": "; ".join(notes + [f"{failed[j]} resamples gave no number and are left out"] * (failed[j] > 0)),
    } for j, (name, estimate) in enumerate(estimates.items())])


def _answers(statistic, table):
    """What a statistic returns, by name, as floats."""
    answer = statistic(table)
    answer = answer if isinstance(answer, (dict, pd.Series)) else {"statistic": answer}
    if not len(answer):
        raise StatsError("Found a statistic without any number; expected one, or a Series or dict of them.")
    try:
        return {name: float(number) for name, number in answer.items()}
    except (TypeError, ValueError):
        raise StatsError("Found a statistic that is no number; expected one, or a Series or dict of them.") from None
