"""T2 of water under stimulated echoes, with B1 free, known or smooth, and with a fat fraction from Dixon images.

A table of extended phase graphs holds the signal and its derivatives by T2 and B1 (:mod:`mrmyo.t2_epg_table`); a voxel
goes from node to node of it by Gauss-Newton steps (:mod:`mrmyo.t2_epg_kernels`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrmyo.epg import epg_signal
from mrmyo.t2_epg_table import B1_RANGE, STARTS_MS, EpgAssumptions, known_b1, make_table
from mrmyo.t2_inputs import (
    AT_BOUND,
    FITTED,
    LOW_SIGNAL,
    LOW_SIGNAL_SIGMAS,
    NOT_FINITE,
    SignalError,
    uniform_step,
)

__all__ = ["B1_RANGE", "EpgAssumptions", "calibrate_fat", "fat_bias", "fit_epg", "notes_on", "smooth_b1",
           "water_train"]

def fit_epg(signal, times, *, sigma=None, fat_fraction=None, b1=None, b1_sd=0.0, assumptions=None, device=None):
    """Fit voxels.

    Parameters
    ----------
    signal : numpy.ndarray, (n, n_echoes)
    times : tuple of float
        Echo times in ms, multiples of their spacing.
    sigma, fat_fraction : numpy.ndarray, (n,), optional
    b1 : numpy.ndarray, (n,), optional
        B1 where it is known; free where NaN.
    b1_sd : float
        How well it is known; 0 for exactly.
    assumptions : EpgAssumptions, optional
    device : torch.device, optional
        Where to fit with PyTorch; None for the compiled loops.

    Returns
    -------
    dict of numpy.ndarray
        ``t2_ms``, ``s0``, ``t2_std_ms``, ``residual``, ``b1``, ``b1_std`` (float32, NaN where not fitted), ``status``.
    """
    assumptions = assumptions or EpgAssumptions()
    step, skipped = _train_of(times)
    table = make_table(step, len(times), skipped, assumptions)
    n = len(signal)
    plain = sigma is None and fat_fraction is None and b1 is None and table.hard
    if device is None:
        out, status = np.full((6, n), np.nan, np.float32), np.full(n, FITTED, dtype=np.uint8)
        rest = _fit_free(signal, table, out) if plain else np.arange(n)
        if rest.size == n:
            out, status = _fit_rest(signal, table, sigma, fat_fraction, b1, b1_sd)
        elif rest.size:
            out[:, rest], status[rest] = _fit_rest(signal[rest], table, None, None, None, 0.0)
    else:
        from mrmyo.t2_torch_epg import fit_epg_on

        known = known_b1(table, b1, b1_sd, n)
        out, status = fit_epg_on(device, signal, table, *known, n_first=len(STARTS_MS), sigma=sigma,
                                 fat_fraction=fat_fraction, plain=plain)
    out[5] = table.sd_to_b1(out[4], out[5])
    out[4] = table.to_b1(out[4])
    return dict(zip(("t2_ms", "s0", "t2_std_ms", "residual", "b1", "b1_std"), out, strict=True)) | {"status": status}


def _fit_free(signal, table, out):
    """Write what the fast loop is sure of; the indices of all other voxels."""
    from mrmyo.t2_epg_free import fit_free

    good = np.empty(len(signal), dtype=bool)
    fit_free(np.ascontiguousarray(signal, dtype=np.float32), table.water, table.inverse, table.variance, table.axes,
             table.basis, table.corner, table.nearest, out, good)
    rest = np.flatnonzero(~good)
    out[:, rest] = np.nan
    return rest


def _fit_rest(signal, table, sigma, fat_fraction, b1, b1_sd):
    """The slower loop, which knows fat, noise and what is known of B1, and says why a voxel could not be fitted."""
    from mrmyo.t2_epg_kernels import fit_table
    from mrmyo.t2_epg_steps import scale_signals
    from mrmyo.t2_rician import ratio_table

    n = len(signal)
    status = np.full(n, FITTED, dtype=np.uint8)
    noise = np.zeros(n, np.float32) if sigma is None else sigma.astype(np.float32)
    scaled, peak = np.empty(signal.shape, np.float32), np.empty(n)  # any unit of signal gives the same arithmetic
    narrow = signal.dtype.kind != "f" or signal.dtype.itemsize <= 4
    scale_signals(signal.astype(np.float32 if narrow else np.float64, copy=False), scaled, peak)
    status[~(peak > LOW_SIGNAL_SIGMAS * noise)] = LOW_SIGNAL
    status[np.isnan(peak)] = NOT_FINITE
    share = np.zeros(n, np.float32) if fat_fraction is None else np.clip(fat_fraction, 0, 1).astype(np.float32)
    status[(status == FITTED) & ~np.isfinite(share)] = NOT_FINITE
    prior, prior_sd = known_b1(table, b1, b1_sd, n)
    at = np.flatnonzero(status == FITTED)
    at = slice(None) if at.size == n else at
    columns = [np.ascontiguousarray(values[at]) for values in (scaled, noise, share, prior, prior_sd)]
    columns[1] = (columns[1] / peak[at]).astype(np.float32)
    found, code = np.empty((6, len(columns[1])), np.float32), np.empty(len(columns[1]), np.uint8)
    fit_table(*columns, table.water, table.fat, table.axes, table.starts, len(STARTS_MS), table.basis, ratio_table(),
              found, code)
    found[:, code != 0] = np.nan
    found[[1, 3]] *= peak[at].astype(np.float32)
    out = np.full((6, n), np.nan, np.float32)
    out[:, at], status[at] = found, np.where(code == 0, FITTED, AT_BOUND)
    return out, status


def _train_of(times):
    """The spacing of the echoes in ms, and how many come before the first that is used."""
    step = uniform_step(times)
    before = None if step is None else times[0] / step - 1
    if step is None or abs(before - round(before)) > 1e-3 or round(before) < 0:
        raise SignalError(f"Found echo times {[round(float(t), 3) for t in times]} ms; stimulated echoes are modelled "
                          "for trains whose echo times are multiples of their spacing. Use model='mono'.")
    if round(before) > 1:  # two T2 explain such a train equally well, ten milliseconds apart
        raise SignalError(f"Found a train that begins with echo {round(before) + 1}; stimulated echoes can be told "
                          "from T2 when the first or second echo is there. Use model='mono'.")
    return step, round(before)


def smooth_b1(maps, *, width_mm=10.0):
    """B1 over the voxels that were fitted, smoothed, for a second fit that takes it for known.

    Parameters
    ----------
    maps : dict or T2Maps
        With ``b1``, ``t2_ms`` and ``t2_std_ms`` of shape (x, y, z), and an ``affine``.
    width_mm : float
        Full width at half maximum of the Gaussian, within slices: the field of a body coil changes over centimetres.

    Returns
    -------
    numpy.ndarray, (x, y, z)
        NaN where nothing was fitted nearby. Voxels count by how well they tell B1.
    """
    from scipy import ndimage

    if maps.affine is None or maps.b1 is None or maps.b1.ndim != 3:
        raise SignalError('Found no B1 on a grid of three axes; b1="smooth" needs a Volume.')
    spacing = np.linalg.norm(maps.affine[:3, :3], axis=0)
    sigma = width_mm / 2.355 / spacing
    sigma[spacing.argmax()] = 0.0  # not across slices
    weight = np.where(np.isfinite(maps.b1), (maps.s0 / np.nanmax(maps.s0)) ** 2, 0.0)
    total = ndimage.gaussian_filter(weight, sigma)
    value = ndimage.gaussian_filter(np.where(weight > 0, maps.b1, 0.0) * weight, sigma)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 1e-9, value / total, np.nan)


def water_train(t2_ms, times, assumptions=None, *, b1=1.0) -> np.ndarray:
    """The echoes of water of one T2 per unit of magnetisation, of the trains that the fit takes for true."""
    assumptions = assumptions or EpgAssumptions()
    step, skipped = _train_of(times)
    return epg_signal(t2_ms, t1_ms=assumptions.t1_ms, b1=b1, echo_spacing_ms=step, n_echoes=len(times) + skipped,
                      profile=assumptions.profile)[..., skipped:]


def fat_bias(times, assumptions=None, *, t2_ms=35.0, b1=0.9):
    """By how much 10 % of fat lengthens T2 when the fit does not know of it, in ms, at these assumptions."""
    assumptions = assumptions or EpgAssumptions()
    parts = [water_train(t2, times, replace(assumptions, t1_ms=t1), b1=b1)
             for t2, t1 in ((t2_ms, assumptions.t1_ms), (assumptions.fat_t2_ms, assumptions.fat_t1_ms))]
    both = 0.9 * parts[0] + 0.1 * assumptions.residual_fat * parts[1]
    return float(fit_epg(both[None], times, assumptions=assumptions)["t2_ms"][0] - t2_ms)


def notes_on(times, assumptions, with_fat):
    """What a reader of the maps must know of this model, as a tuple of sentences."""
    assumptions = assumptions or EpgAssumptions()
    pulses = "hard pulses" if assumptions.profile is None else "a slice profile"
    notes = (f"stimulated echoes by the extended phase graph, T1 {assumptions.t1_ms:g} ms, {pulses}",)
    if with_fat:
        return (*notes, f"fat as given, T2 {assumptions.fat_t2_ms:g} ms, T1 {assumptions.fat_t1_ms:g} ms, of which "
                        f"{100 * assumptions.residual_fat:.3g} % is left by fat suppression")
    left = 100 * assumptions.residual_fat
    how = ", unless it is suppressed," if left == 100 else f", of which suppression leaves {left:.3g} %,"
    return (*notes, f"no fat fraction was given: T2 is that of water and fat together; each 10 % of fat{how} lengthen "
                    f"a T2 of 35 ms by about {fat_bias(times, assumptions):.1f} ms")


def calibrate_fat(signal, times, assumptions=None, *, muscle_s0=None, b1=None):
    """Fat's T2, and how much of its signal is left, from voxels of subcutaneous fat.

    Parameters
    ----------
    signal : array_like, (n, n_echoes)
        Voxels of subcutaneous fat; their mean decay is used.
    times : sequence of float
    assumptions : EpgAssumptions, optional
        What to change.
    muscle_s0 : float, optional
        Signal of muscle at echo time 0; with it `residual_fat` is measured too, as the ratio of the two.
    b1 : float, optional
        Where it is known.

    Returns
    -------
    EpgAssumptions
    """
    assumptions = assumptions or EpgAssumptions()
    mean = np.nanmean(np.asarray(signal, dtype=float), axis=0)
    found = fit_epg(mean[None], tuple(times), b1=None if b1 is None else np.array([b1]),
                    assumptions=replace(assumptions, t1_ms=assumptions.fat_t1_ms))
    t2 = float(found["t2_ms"][0])
    if not np.isfinite(t2):
        raise SignalError("Found no decay in these voxels of fat; choose others, or state fat_t2_ms yourself.")
    left = assumptions.residual_fat if muscle_s0 is None else float(found["s0"][0]) / float(muscle_s0)
    return replace(assumptions, fat_t2_ms=round(t2, 2), residual_fat=round(left, 4))
