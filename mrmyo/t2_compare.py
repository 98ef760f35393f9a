"""How far T2 depends on the model: the same voxels by every model, and what early echoes tell of stimulated ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrmyo.t2 import FITTED, SignalError, fit_t2
from mrmyo.t2_inputs import check_mask, check_signal

__all__ = ["compare_models", "echo_ratio"]


def echo_ratio(signal, echo_times_ms=None) -> np.ndarray:
    """The second echo squared over the first times the third: 1 for one exponential, more with stimulated echoes.

    The first echo lacks the stimulated echo that all later ones have, and the second has the largest one: no T2, no
    mixture of T2 values and no fat can bring the ratio above 1 (a sum of exponentials stays below).

    Parameters
    ----------
    signal : Volume or array_like, (..., n_echoes)
    echo_times_ms : sequence of float, optional
        Evenly spaced; needed for an array.

    Returns
    -------
    numpy.ndarray of float32, (...)
        NaN where one of the echoes is not above 0.
    """
    array, times = check_signal(signal, echo_times_ms)
    if not np.allclose(np.diff(times[:3]), times[1] - times[0]):
        raise SignalError(f"Found echo times {times[:3]} ms; expected the first three evenly spaced.")
    first, second, third = (array[..., k].astype(float) for k in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = second**2 / (first * third)
    usable = np.isfinite(ratio) & (first > 0) & (second > 0) & (third > 0)
    return np.where(usable, ratio, np.nan).astype(np.float32)


def compare_models(signal, echo_times_ms=None, *, mask=None, sigma=None, assumptions=None, fat_fraction=None, b1=None):
    """T2 of the same voxels by every model, to see how much of it is the model's.

    Parameters
    ----------
    signal : Volume or array_like, (..., n_echoes)
    echo_times_ms : sequence of float, optional
        Needed for an array.
    mask : array_like of bool, or Volume, optional
    sigma : float or "estimate", optional
        With it the noise floor is corrected for in all models but the first.
    assumptions : mrmyo.t2_epg.EpgAssumptions, optional
        Adds EPG with its slice profile to EPG with hard pulses.
    fat_fraction : array_like or Volume, optional
        Of the magnetisation; adds EPG with fat.
    b1 : optional
        As for `mrmyo.fit_t2`, for the models by EPG.

    Returns
    -------
    pandas.DataFrame
        A row per model: ``model``, ``t2_ms`` (mean over the voxels that this model fitted), ``t2_median_ms``,
        ``change_ms`` (mean difference to the first row, over voxels that both fitted), ``residual`` (median, as a share
        of the signal at echo time 0), ``n_voxels``, ``n_failed``, ``note`` (what the fit tells, or why there is none).
    """
    import pandas as pd

    array, times = check_signal(signal, echo_times_ms)
    chosen = check_mask(mask, signal, array.shape[:-1])
    base = {"echo_times_ms": echo_times_ms, "mask": mask}
    models = {"mono-exponential": {}}
    if sigma is not None:
        models["mono-exponential, noise floor corrected"] = {"sigma": sigma}
    if len(times) >= 4:
        models["mono-exponential, first echo left out"] = {"skip_first": True, "sigma": sigma}
    epg = {"model": "epg", "sigma": sigma, "b1": b1}
    hard = None if assumptions is None else replace(assumptions, profile=None)
    models["EPG, hard pulses"] = {**epg, "assumptions": hard}
    if assumptions is not None and assumptions.profile is not None:
        models["EPG, slice profile"] = {**epg, "assumptions": assumptions}
    if fat_fraction is not None:
        models["EPG and Dixon fat: water T2"] = {**epg, "assumptions": assumptions, "fat_fraction": fat_fraction}
    rows, first = [], None
    for name, options in models.items():
        try:
            maps = fit_t2(signal, **base, **options)
        except SignalError as error:
            rows.append({"model": name, "note": str(error)})
            continue
        first = maps if first is None else first
        fitted = maps.status == FITTED
        both = fitted & (first.status == FITTED)
        t2 = maps.t2_ms[fitted].astype(float)
        known = {"t2_ms": t2.mean(), "t2_median_ms": np.median(t2),
                 "residual": np.median(maps.residual[fitted] / maps.s0[fitted])} if t2.size else {}
        change = (maps.t2_ms[both] - first.t2_ms[both]).mean(dtype=float) if both.any() else np.nan
        rows.append({"model": name, **known, "change_ms": change, "n_voxels": t2.size,
                     "n_failed": int((chosen & ~fitted).sum()), "note": "; ".join(maps.notes)})
    columns = ["model", "t2_ms", "t2_median_ms", "change_ms", "residual", "n_voxels", "n_failed", "note"]
    return pd.DataFrame(rows).reindex(columns=columns)
