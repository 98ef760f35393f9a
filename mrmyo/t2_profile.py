"""Which slice profile a multi-echo series was made with, told from its echoes; vendors do not say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrmyo.epg import epg_signal, slice_profile
from mrmyo.t2_epg import EpgAssumptions, fit_epg
from mrmyo.t2_inputs import SignalError, uniform_step

__all__ = ["RATIOS", "choose_profile", "profile_named"]

RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4)  # refocusing slice over excitation slice
N_POSITIONS = 11
MOST, LEAST = 6000, 500  # voxels
PARTS = 3  # of the range of B1, so that no ratio can hide in the mean


def choose_profile(signal, times, sigma, *, assumptions=None):
    """The slice profile that leaves the least systematic residual, B1 being free.

    Refocusing pulses are wider than the excitation by an unknown factor, which moves T2 by some milliseconds. With a
    wrong factor the mean residual of many voxels keeps a pattern over the echoes; with the right one it is noise.
    Candidates are hard pulses and Hann-windowed sinc pulses (time-bandwidth 4) of several width ratios.

    Parameters
    ----------
    signal : numpy.ndarray, (n, n_echoes)
        Muscle with little fat, at least 500; means of neighbours tell far more than single voxels.
    times : tuple of float
    sigma : float
        SD of the noise.
    assumptions : EpgAssumptions, optional
        What else is assumed.

    Returns
    -------
    EpgAssumptions
        With the profile that was found.
    pandas.DataFrame
        A row per candidate: ``profile``, ``residual`` (root mean square of the mean residual, as a share of the signal
        at echo time 0), ``t2_ms``, ``b1`` (medians), ``chosen``.

    Raises
    ------
    SignalError
        When there are too few voxels.
    """
    import pandas as pd

    assumptions = assumptions or EpgAssumptions()
    signal = signal[np.isfinite(signal).all(axis=1)]
    if len(signal) < LEAST:
        raise SignalError(f"Found {len(signal)} voxels of lean muscle; a slice profile can be told from {LEAST} or "
                          "more. State one in EpgAssumptions.")
    signal = signal[:: max(len(signal) // MOST, 1)].astype(np.float64)
    made = _candidates()
    rows = []
    for name, profile in made.items():
        found = fit_epg(signal, times, sigma=np.full(len(signal), sigma),
                        assumptions=replace(assumptions, profile=profile))
        ok = found["status"] == 0
        left = _systematic(signal[ok], times, sigma, profile, assumptions, found, ok)
        t2_ms, b1 = (float(np.nanmedian(found[value])) for value in ("t2_ms", "b1"))
        rows.append({"profile": name, "residual": left, "t2_ms": t2_ms, "b1": b1})
    table = pd.DataFrame(rows)
    best = int(table.residual.argmin())
    table["chosen"] = np.arange(len(table)) == best
    return replace(assumptions, profile=list(made.values())[best]), table


def profile_named(name: str):
    """The candidate of that name in the table of `choose_profile`; None for hard pulses."""
    return _candidates()[name]


def _candidates():
    profiles = {r: slice_profile(n_positions=N_POSITIONS, refocusing_width_ratio=r) for r in RATIOS}
    return {"hard pulses": None, **{f"sinc, ratio {r:g}": profile for r, profile in profiles.items()}}


def _systematic(signal, times, sigma, profile, assumptions, found, ok):
    """The root mean square, over echoes and parts of the range of B1, of the mean residual; NaN for too few voxels."""
    if ok.sum() < LEAST // 2:
        return np.nan
    t2, b1, s0 = (found[name][ok].astype(float) for name in ("t2_ms", "b1", "s0"))
    step = uniform_step(times)
    skipped = round(times[0] / step - 1)
    model = s0[:, None] * epg_signal(t2, t1_ms=assumptions.t1_ms, b1=b1, echo_spacing_ms=step, profile=profile,
                                     n_echoes=len(times) + skipped)[:, skipped:]
    gaps = (signal - np.sqrt(model**2 + sigma**2)) / s0[:, None]  # the mean magnitude, but for the last per cents
    groups = np.array_split(np.argsort(b1), PARTS)
    return float(np.sqrt(np.mean([gaps[group].mean(axis=0) ** 2 for group in groups])))
