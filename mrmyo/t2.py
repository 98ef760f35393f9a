"""From multi-echo signals to T2 maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["MODELS", "STATUS", "T2_BOUNDS_MS", "SignalError", "T2Maps", "fit_t2"]

MODELS = ("mono",)
STATUS = ("fitted", "at bound", "low signal", "not finite", "outside mask")
FITTED, AT_BOUND, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK = range(5)
T2_BOUNDS_MS = (5.0, 400.0)
LOW_SIGNAL_SIGMAS = 5.0
LONGEST_ECHO_MS = 2000.0
CHUNK = 1 << 13  # voxels fitted at a time: few enough to stay in the cache


class SignalError(ValueError):
    """A signal, its echo times or an option that cannot be fitted."""


@dataclass(frozen=True)
class T2Maps:
    """What a fit gives, each map shaped like the voxels that went in.

    Parameters
    ----------
    t2_ms, s0 : numpy.ndarray of float32
        T2 in ms, and the signal at echo time 0; NaN wherever ``status`` is not 0.
    t2_std_ms : numpy.ndarray of float32
        Standard deviation of T2 by the Cramér-Rao bound, from the given noise or else from the residual.
    residual : numpy.ndarray of float32
        Root mean square of signal minus fit over the echoes, in units of the signal.
    status : numpy.ndarray of uint8
        Index into :data:`STATUS`.
    model : str
    echo_times_ms : tuple of float
    b1, fat_fraction : numpy.ndarray, optional
        None for a model without them.
    affine : numpy.ndarray, optional
        Of the Volume that was fitted; None for a bare array.
    """

    t2_ms: np.ndarray
    s0: np.ndarray
    t2_std_ms: np.ndarray
    residual: np.ndarray
    status: np.ndarray
    model: str
    echo_times_ms: tuple[float, ...]
    b1: np.ndarray | None = None
    fat_fraction: np.ndarray | None = None
    affine: np.ndarray | None = None

    def volume(self, name: str = "t2_ms") -> Volume:
        """One map as a Volume, for saving, showing or resampling.

        Raises
        ------
        SignalError
            When there is no map of that name, or the fit was of a bare array, which knows no place.
        """
        maps = [k for k, v in vars(self).items() if isinstance(v, np.ndarray) and k != "affine"]
        if name not in maps:
            raise SignalError(f"Found no map {name!r} in a {self.model} fit; there are {', '.join(maps)}.")
        if self.affine is None:
            raise SignalError("These maps come from an array and know no place; fit a Volume instead.")
        return Volume(getattr(self, name), self.affine)


def fit_t2(
    signal, echo_times_ms=None, *, model="mono", sigma=None, fat_fraction=None, b1=None, mask=None,
) -> T2Maps:
    """Fit T2 in every voxel.

    Parameters
    ----------
    signal : Volume or array_like, (..., n_echoes)
        Magnitudes, at least 3 echoes. A Volume brings its echo times.
    echo_times_ms : sequence of float, optional
        Ascending, in milliseconds; needed for an array.
    model : {"mono"}
        One exponential without an offset, ``s0 * exp(-TE / T2)``, all echoes alike.
    sigma : float or array_like, optional
        SD of the noise in the signal, one or one per voxel: gives ``t2_std_ms`` and the threshold for low signal.
        The fit itself is the same without.
    fat_fraction, b1 : optional
        For models that use them; the mono-exponential does not.
    mask : array_like of bool, or Volume, optional
        Fit only where True.

    Returns
    -------
    T2Maps
        A voxel that could not be fitted is NaN with a status: ``at bound`` where the best T2 is not between 5 and
        400 ms (no decay, or noise), ``low signal`` where the largest echo is not above 5 sigma (without sigma: not
        above 0), ``not finite`` where an echo is NaN or infinite.

    Raises
    ------
    SignalError
        When the signal, the echo times, the mask or an option makes no sense.
    GridError
        When a mask given as a Volume lies on another grid.

    Notes
    -----
    Least squares by variable projection (Golub and Pereyra, SIAM J Numer Anal 1973;10:413): the best s0 for a given R2
    is known, which leaves a search along R2 alone. It starts from the best of a grid and ends by Newton steps that fall
    back to bisection, so it cannot diverge. No logarithm is taken: noise in late echoes does not bias it as it does a
    straight line through logarithms. The noise floor of magnitudes is not modelled and lengthens T2: for 34 ms and
    echoes from 10 to 100 ms by 0.1 ms at a signal-to-noise ratio of 70 at echo time 0, 0.4 ms at 40, 2 ms at 20.
    Each voxel is fitted on its own: neighbours do not matter.
    """
    _check_model(model, fat_fraction, b1)
    affine = signal.affine if isinstance(signal, Volume) else None
    array, times = _check_signal(signal, echo_times_ms)
    shape = array.shape[:-1]
    chosen = _check_mask(mask, signal, shape).ravel()
    flat, noise = array.reshape(-1, array.shape[-1]), _check_sigma(sigma, shape)

    maps = np.full((4, flat.shape[0]), np.nan, dtype=np.float32)
    status = np.full(flat.shape[0], OUTSIDE_MASK, dtype=np.uint8)
    voxels = np.flatnonzero(chosen)
    for start in range(0, voxels.size, CHUNK):
        part = voxels[start : start + CHUNK]
        status[part], maps[:, part] = _fit_chunk(
            flat[part].astype(np.float64), np.array(times), None if noise is None else noise[part]
        )
    t2_ms, s0, t2_std_ms, residual = (m.reshape(shape) for m in maps)
    return T2Maps(t2_ms, s0, t2_std_ms, residual, status.reshape(shape), model, times, affine=affine)


def _fit_chunk(signal, times, noise):
    """Status (n,) and the maps T2, s0, SD of T2, residual (4, n) of signals (n, n_echoes)."""
    peak = signal.max(axis=1)
    status = np.full(len(signal), FITTED, dtype=np.uint8)
    status[~(peak > (0.0 if noise is None else LOW_SIGNAL_SIGMAS * noise))] = LOW_SIGNAL
    status[~np.isfinite(signal).all(axis=1)] = NOT_FINITE
    maps = np.full((4, len(signal)), np.nan)
    good = np.flatnonzero(status == FITTED)
    if not good.size:
        return status, maps
    scale = peak[good]
    data = signal[good] / scale[:, None]  # any unit of signal gives the same arithmetic
    r2, inside = _search_r2(data, times)
    status[good[~inside]] = AT_BOUND
    good, data, scale, r2 = good[inside], data[inside], scale[inside], r2[inside]

    decay = np.exp(-r2[:, None] * times)
    sums = (decay * decay) @ np.stack([times**0, times, times**2], axis=1)
    s0 = (decay * data).sum(axis=1) / sums[:, 0]
    left = ((data - s0[:, None] * decay) ** 2).sum(axis=1)
    variance = left / (len(times) - 2) if noise is None else (noise[good] / scale) ** 2
    information = s0**2 * (sums[:, 2] - sums[:, 1] ** 2 / sums[:, 0])  # of R2, with s0 unknown
    maps[:, good] = 1 / r2, s0 * scale, np.sqrt(variance / information) / r2**2, np.sqrt(left / len(times)) * scale
    return status, maps


def _search_r2(data, times, n_grid=32, max_steps=60):
    """The R2 that explains most of each signal, and whether it lies inside the bounds.

    With p = sum(s e) and q = sum(e e), e = exp(-R2 TE), the sum of squares left over is least where h = p / sqrt(q) is
    largest, hence where g = p' q - p q' / 2 falls through 0.
    """
    grid = np.geomspace(1 / T2_BOUNDS_MS[1], 1 / T2_BOUNDS_MS[0], n_grid)
    basis = np.exp(-grid[:, None] * times)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    best = (data @ basis.T).argmax(axis=1)
    low, high, r2 = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, n_grid - 1)], grid[best]
    powers = np.stack([times**0, -times, times**2], axis=1)  # derivatives of e by R2
    powers_squared = np.stack([times**0, -2 * times, 4 * times**2], axis=1)
    active = np.arange(len(data))
    for _ in range(max_steps):
        x, d = r2[active], data[active]
        decay = np.exp(-x[:, None] * times)
        p, p1, p2 = ((d * decay) @ powers).T
        q, q1, q2 = ((decay * decay) @ powers_squared).T
        slope, curve = p1 * q - 0.5 * p * q1, p2 * q + 0.5 * p1 * q1 - 0.5 * p * q2
        rising = slope > 0
        low[active] = np.where(rising, x, low[active])
        high[active] = np.where(rising, high[active], x)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = x - slope / curve
        trusted = (curve < 0) & (step > low[active]) & (step < high[active])
        r2[active] = np.where(trusted, step, 0.5 * (low[active] + high[active]))
        active = active[np.abs(r2[active] - x) > 1e-10 * x]
        if not active.size:
            break
    # A search that runs into either end of the grid has found no T2; neither has one whose best s0 is not positive.
    edge = 1e-6
    inside = (r2 > grid[0] * (1 + edge)) & (r2 < grid[-1] * (1 - edge))
    inside &= (data * np.exp(-r2[:, None] * times)).sum(axis=1) > 0
    return r2, inside


def _check_model(model, fat_fraction, b1):
    if model not in MODELS:
        raise SignalError(f"Found model {model!r}; this version has {', '.join(map(repr, MODELS))}.")
    for name, value in (("fat_fraction", fat_fraction), ("b1", b1)):
        if value is not None:
            raise SignalError(f"Found {name} with the {model} model, which does not use it; leave {name} out.")


def _check_signal(signal, echo_times_ms):
    array, times = signal, echo_times_ms
    if isinstance(signal, Volume):
        array, own = signal.array, signal.echo_times_ms
        times = own if times is None else tuple(np.asarray(times, dtype=float).ravel())
        if own is not None and times != own:
            raise SignalError(f"Found echo times {times} beside the Volume's own {own}; leave echo_times_ms out.")
        if array.ndim != 4:
            raise SignalError(f"Found a Volume without echoes, shape {array.shape}; expected (i, j, k, n_echoes).")
    array = np.asarray(array)
    if times is None:
        raise SignalError("Found no echo times; give echo_times_ms (--echo-times), one per echo in milliseconds.")
    times = np.asarray(times, dtype=float)
    if array.dtype.kind not in "iuf":
        raise SignalError(f"Found a signal of type {array.dtype}; expected real magnitudes, as of numpy.abs.")
    if array.ndim == 0 or times.ndim != 1 or array.shape[-1] != times.size:
        raise SignalError(f"Found {times.size} echo times for shape {array.shape}; echoes go on the last axis.")
    if times.size < 3:
        raise SignalError(f"Found {times.size} echoes; a fit that can tell how good it is needs at least 3.")
    if not np.isfinite(times).all() or times[0] <= 0 or np.any(np.diff(times) <= 0):
        raise SignalError(f"Found echo times {times.tolist()} ms; expected positive, ascending, each once.")
    if times[-1] < 1:
        raise SignalError(f"Found echo times up to {times[-1]:g} ms, which look like seconds; multiply them by 1000.")
    if times[-1] > LONGEST_ECHO_MS:
        raise SignalError(
            f"Found echo times up to {times[-1]:g} ms; expected at most {LONGEST_ECHO_MS:g}. A BIDS sidecar tells "
            "EchoTime in seconds: perhaps it holds milliseconds, or they were multiplied by 1000 once too often."
        )
    return array, tuple(times.tolist())


def _check_mask(mask, signal, shape):
    if mask is None:
        return np.ones(shape, dtype=bool)
    if isinstance(mask, Volume):
        if isinstance(signal, Volume) and not same_grid(mask, signal):
            raise GridError(f"Found a mask {mask.shape} on another grid than the signal {shape}; resample it first.")
        mask = mask.array
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise SignalError(f"Found a mask of shape {mask.shape} for voxels of shape {shape}; they must be the same.")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise SignalError("Found a mask with values other than 0 and 1; for labels use mrmyo.labels.is_muscle(labels).")
    return mask.astype(bool)


def _check_sigma(sigma, shape):
    if sigma is None:
        return None
    sigma = np.asarray(sigma, dtype=float)
    if sigma.shape not in ((), shape) or not np.all(sigma > 0):
        raise SignalError(f"Found sigma of shape {sigma.shape}; expected one value above 0, or one per voxel {shape}.")
    return np.broadcast_to(sigma, shape).ravel()
