"""What a T2 fit accepts, in which words it refuses, and the codes of its status."""

from __future__ import annotations

import numpy as np

from mrmyo.volume import GridError, Volume, same_grid

__all__ = [
    "AT_BOUND", "FITTED", "LOW_SIGNAL", "LOW_SIGNAL_SIGMAS", "NOT_FINITE", "OUTSIDE_MASK", "STATUS", "T2_BOUNDS_MS",
    "SignalError", "check_map", "check_mask", "check_sigma", "check_signal", "uniform_step",
]

STATUS = ("fitted", "at bound", "low signal", "not finite", "outside mask")
FITTED, AT_BOUND, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK = range(5)
T2_BOUNDS_MS = (5.0, 400.0)
LOW_SIGNAL_SIGMAS = 5.0
LONGEST_ECHO_MS = 2000.0


class SignalError(ValueError):
    """A signal, its echo times or an option that cannot be fitted."""


def uniform_step(times):
    """The spacing of the echoes in ms where it is the same for all, else None."""
    steps = np.diff(times)
    return float(steps.mean()) if np.ptp(steps) <= 1e-6 * steps.mean() else None


def check_map(value, name, shape, signal, low, high):
    """A map beside the signal, flat, in float64: an array or a Volume of the voxels' shape, or one number for all."""
    if isinstance(value, Volume):
        if isinstance(signal, Volume) and not same_grid(value, signal):
            raise GridError(f"Found {name} {value.shape} on another grid than the signal {shape}; resample it first.")
        value = value.array
    value = np.asarray(value, dtype=float)
    if value.shape not in ((), shape):
        raise SignalError(f"Found {name} of shape {value.shape}; expected one value, or one per voxel {shape}.")
    known = value[np.isfinite(value)]
    if known.size and not (known.min() >= low and known.max() <= high):
        raise SignalError(f"Found {name} from {known.min():g} to {known.max():g}; expected {low:g} to {high:g} "
                          "(NaN for unknown). Is it in per cent, or in degrees?")
    return np.broadcast_to(value, shape).ravel()


def check_signal(signal, echo_times_ms):
    """The signal as an array (..., n_echoes) and its echo times in ms; an error says what is wrong with them."""
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


def check_mask(mask, signal, shape):
    """The mask as booleans on the voxels' shape."""
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


def check_sigma(sigma, shape):
    """The SD of the noise, one per voxel and flat; None for none."""
    if sigma is None:
        return None
    sigma = np.asarray(sigma, dtype=float)
    if sigma.shape not in ((), shape) or not np.all(sigma > 0):
        raise SignalError(f"Found sigma of shape {sigma.shape}; expected one value above 0, or one per voxel {shape}.")
    return np.broadcast_to(sigma, shape).ravel()
