"""T2 of water under stimulated echoes, with B1 free, known or smooth, and with a fat fraction from Dixon images.

A table of extended phase graphs holds the signal and its derivatives by T2 and B1; a voxel goes from node to node of it
by Gauss-Newton steps (:mod:`mrmyo.t2_epg_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mrmyo.epg import SliceProfile, epg_signal
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

T2_RANGE_MS = (10.0, 300.0)
B1_RANGE = (0.45, 1.2)
N_T2, N_B1 = 200, 61
MIDDLE = N_B1 // 4  # the p that the quick fit begins from
NARROW = 1e-4  # for derivatives by differences
STARTS_MS, STARTS_B1 = (20.0, 30.0, 42.0, 60.0, 90.0, 150.0), (0.58, 0.72, 0.85, 0.97)
WIDE_SD = 0.25  # with a slice profile B1 beyond the turning point of the signal is told only by what is plausible


@dataclass(frozen=True)
class EpgAssumptions:
    """What the stimulated-echo fit takes for known. Every field can be wrong; `benchmarks/t2.py` tells by how much.

    Parameters
    ----------
    t1_ms : float
        T1 of muscle water: 1412 ms at 3 T (Stanisz et al., Magn Reson Med 2005;54:507).
    profile : SliceProfile, optional
        Flip angles over the slice; None for hard pulses.
    fat_t2_ms, fat_t1_ms : float
        Of fat in the echo train: 133 and 371 ms at 3 T (Gold et al., Am J Roentgenol 2004;183:343, subcutaneous fat).
        :func:`calibrate_fat` measures the first.
    residual_fat : float
        How much of the fat's signal the series still shows beside water's: 1 without fat suppression.
    """

    t1_ms: float = 1412.0
    profile: SliceProfile | None = None
    fat_t2_ms: float = 133.0
    fat_t1_ms: float = 371.0
    residual_fat: float = 1.0


@dataclass(frozen=True)
class _Table:
    """Signals at the nodes. `p` is B1 with a profile, and without one (1 - B1)²: hard pulses depend on nothing else."""

    water: np.ndarray
    fat: np.ndarray
    axes: np.ndarray
    starts: np.ndarray
    hard: bool
    inverse: np.ndarray
    variance: np.ndarray

    def to_p(self, b1):
        return (1 - b1) ** 2 if self.hard else b1

    def to_b1(self, p):
        return 1 - np.sqrt(np.maximum(p, 0)) if self.hard else p

    def sd_to_p(self, b1, sd):
        return 2 * np.maximum(np.abs(1 - b1), sd / 2) * sd if self.hard else sd + 0 * b1

    def sd_to_b1(self, p, sd_p):
        with np.errstate(invalid="ignore"):  # infinite where B1 is free
            return sd_p / (2 * np.sqrt(np.maximum(p, np.maximum(sd_p / 4, 1e-6)))) if self.hard else sd_p


@lru_cache(maxsize=16)
def _table(step_ms, n_echoes, skipped, assumptions) -> _Table:
    """The table for a train of which the first `skipped` echoes are not used."""
    hard = assumptions.profile is None
    u = np.linspace(*np.log(T2_RANGE_MS), N_T2)
    low, high = ((0.0, (1 - B1_RANGE[0]) ** 2) if hard else B1_RANGE)
    p = np.linspace(low, high, N_B1)
    to_b1 = (lambda p: 1 - np.sqrt(p)) if hard else (lambda p: p)

    def train(t2_ms, p, t1_ms):
        signal = epg_signal(t2_ms, t1_ms=t1_ms, b1=to_b1(p), echo_spacing_ms=step_ms, n_echoes=n_echoes + skipped,
                            profile=assumptions.profile)
        return signal[..., skipped:]

    def by_p(t2_ms, t1_ms):
        if hard:  # at p = 0 there is one side only
            ahead = [train(t2_ms, p + k * NARROW, t1_ms) for k in range(3)]
            return (4 * ahead[1] - 3 * ahead[0] - ahead[2]) / (2 * NARROW)
        inside = np.clip(p, low + NARROW, high - NARROW)
        return (train(t2_ms, inside + NARROW, t1_ms) - train(t2_ms, inside - NARROW, t1_ms)) / (2 * NARROW)

    t2 = np.exp(u)[:, None]
    grow = np.exp(NARROW)
    by_u = (train(t2 * grow, p, assumptions.t1_ms) - train(t2 / grow, p, assumptions.t1_ms)) / (2 * NARROW)
    water = np.stack([train(t2, p, assumptions.t1_ms), by_u, by_p(t2, assumptions.t1_ms)], axis=2)
    fat_t2, fat_t1 = assumptions.fat_t2_ms, assumptions.fat_t1_ms
    fat = assumptions.residual_fat * np.stack([train(fat_t2, p, fat_t1), by_p(fat_t2, fat_t1)], axis=1)
    axes = np.array([u[0], u[1] - u[0], p[0], p[1] - p[0]])
    at = [np.abs(u - np.log(t)).argmin() for t in STARTS_MS]
    starts = np.array([(i, np.abs(to_b1(p) - b).argmin()) for b in STARTS_B1 for i in at])
    inverse, variance = _inverses(water)
    return _Table(water.astype(np.float32), fat.astype(np.float32), axes, starts, hard, inverse, variance)


def _inverses(water):
    """Per node, what turns a signal into amplitude, a du and a dp, and the variances of du and dp for unit noise.

    The last p stands for the first one with dp held at 0.
    """
    n_u, n_p, _, n_echoes = water.shape
    inverse, variance = np.zeros((n_u, n_p + 1, n_echoes, 4)), np.zeros((n_u, n_p + 1, 2))
    for where, parts, n in ((slice(0, n_p), water, 3), (slice(n_p, None), water[:, :1, :2], 2)):
        gram = np.linalg.inv(np.einsum("upae,upbe->upab", parts, parts))
        inverse[:, where, :, :n] = np.einsum("upab,upbe->upea", gram, parts)
        variance[:, where, : n - 1] = gram.diagonal(axis1=2, axis2=3)[..., 1:]
    return inverse.astype(np.float32), variance.astype(np.float32)


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
    table = _table(step, len(times), skipped, assumptions)
    n = len(signal)
    plain = sigma is None and fat_fraction is None and b1 is None and table.hard
    if device is None:
        out, status = np.full((6, n), np.nan, np.float32), np.full(n, FITTED, dtype=np.uint8)
        rest = _fit_free(signal, table, out) if plain else np.arange(n)
        if rest.size:
            options = (None if value is None else value[rest] for value in (sigma, fat_fraction, b1))
            out[:, rest], status[rest] = _fit_rest(signal[rest], table, *options, b1_sd)
    else:
        from mrmyo.t2_torch_epg import fit_epg_on

        known = _prior(table, b1, b1_sd, n)
        out, status = fit_epg_on(device, signal, table, *known, n_first=len(STARTS_MS), sigma=sigma,
                                 fat_fraction=fat_fraction, centroids=_centroids(table) if plain else None,
                                 middle=MIDDLE)
    out[5] = table.sd_to_b1(out[4], out[5])
    out[4] = table.to_b1(out[4])
    return dict(zip(("t2_ms", "s0", "t2_std_ms", "residual", "b1", "b1_std"), out, strict=True)) | {"status": status}


def _fit_free(signal, table, out):
    """Write what the fast loop is sure of; the indices of all other voxels."""
    from mrmyo.t2_epg_free import fit_free

    good = np.empty(len(signal), dtype=bool)
    fit_free(np.ascontiguousarray(signal, dtype=np.float32), table.water, table.inverse, table.variance, table.axes,
             _centroids(table), MIDDLE, out, good)
    rest = np.flatnonzero(~good)
    out[:, rest] = np.nan
    return rest


def _centroids(table):
    """Where the middle of the decay lies, in echoes, at every u and the middle p."""
    waters = np.maximum(table.water[:, MIDDLE, 0], 0)
    return (waters @ np.arange(waters.shape[1], dtype=np.float32)) / waters.sum(axis=1)


def _fit_rest(signal, table, sigma, fat_fraction, b1, b1_sd):
    """The slower loop, which knows fat, noise and what is known of B1, and says why a voxel could not be fitted."""
    from mrmyo.t2_epg_kernels import fit_table
    from mrmyo.t2_rician import ratio_table

    n = len(signal)
    status = np.full(n, FITTED, dtype=np.uint8)
    noise = np.zeros(n, np.float32) if sigma is None else sigma.astype(np.float32)
    peak = signal.max(axis=1)
    status[~(peak > LOW_SIGNAL_SIGMAS * noise)] = LOW_SIGNAL
    status[~np.isfinite(signal).all(axis=1)] = NOT_FINITE
    share = np.zeros(n) if fat_fraction is None else np.clip(fat_fraction, 0, 1)
    status[(status == FITTED) & ~np.isfinite(share)] = NOT_FINITE
    prior, prior_sd = _prior(table, b1, b1_sd, n)
    at = np.flatnonzero(status == FITTED)
    scale = peak[at].astype(np.float64)  # any unit of signal gives the same arithmetic
    found, code = np.empty((6, at.size), np.float32), np.empty(at.size, np.uint8)
    fit_table(np.ascontiguousarray(signal[at] / scale[:, None], dtype=np.float32),
              (noise[at] / scale).astype(np.float32), share[at].astype(np.float32), prior[at], prior_sd[at],
              table.water, table.fat, table.axes, table.starts, len(STARTS_MS), ratio_table(), found, code)
    status[at[code != 0]] = AT_BOUND
    out = np.full((6, n), np.nan, np.float32)
    out[:, at[code == 0]] = found[:, code == 0]
    out[[1, 3]] *= peak.astype(np.float32)
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


def _prior(table, b1, b1_sd, n):
    """B1 as it is known, in the coordinate of the table; infinite SD where it is not."""
    if b1 is None:
        if table.hard:
            return np.zeros(n, np.float32), np.full(n, np.inf, np.float32)
        return np.full(n, 1.0, np.float32), np.full(n, WIDE_SD, np.float32)
    known = np.isfinite(b1)
    at = np.where(known, np.clip(b1, *B1_RANGE), 1.0)
    at = np.where(at > 1, 2 - at, at) if table.hard else at  # a hard pulse of more than 180 degrees acts as one of less
    sd = np.where(known, table.sd_to_p(at, b1_sd), np.inf if table.hard else WIDE_SD)
    return table.to_p(at).astype(np.float32), sd.astype(np.float32)


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
