"""One exponential: least squares by variable projection, and maximum likelihood where the noise is known.

The best s0 for a given R2 is known in closed form (Golub and Pereyra, SIAM J Numer Anal 1973;10:413), which leaves a
search along R2 alone. Many voxels with evenly spaced echoes go through :mod:`mrmyo.t2_kernels`; what that is not sure
of, few voxels, and uneven echoes, through the search below, which cannot miss the best.
"""

from __future__ import annotations

import numpy as np

from mrmyo.t2_inputs import AT_BOUND, FITTED, LOW_SIGNAL, LOW_SIGNAL_SIGMAS, NOT_FINITE, T2_BOUNDS_MS, uniform_step

__all__ = ["fit_mono", "search_r2"]

CHUNK = 1 << 13  # voxels fitted at a time: few enough to stay in the cache
FEW = 4096  # below this, loading the compiled kernels takes longer than the fit


def fit_mono(signal, times, sigma=None, device=None):
    """Fit voxels.

    Parameters
    ----------
    signal : numpy.ndarray, (n, n_echoes)
    times : tuple of float
        Echo times in ms, ascending.
    sigma : numpy.ndarray, (n,), optional
        SD of the noise; with it the likelihood of Rician magnitudes is maximised, from the least squares on.
    device : torch.device, optional
        Where to fit with PyTorch; None for the compiled loops.

    Returns
    -------
    dict of numpy.ndarray
        ``t2_ms``, ``s0``, ``t2_std_ms``, ``residual`` (float32, NaN where not fitted) and ``status`` (uint8).
    """
    if device is not None:
        from mrmyo.t2_torch import fit_mono_on

        return fit_mono_on(device, signal, times, sigma)
    n, times = len(signal), np.array(times)
    maps = np.full((4, n), np.nan, dtype=np.float32)
    status = np.full(n, FITTED, dtype=np.uint8)
    step = uniform_step(times)
    rest = np.arange(n)
    if step is not None and n >= FEW:
        rest = _fit_fast(signal, times[0], step, maps)
    for start in range(0, rest.size, CHUNK):
        part = rest[start : start + CHUNK]
        status[part], maps[:, part] = _fit_chunk(signal[part].astype(np.float64), times)
    if sigma is not None:
        _refine(signal, times, sigma, status, maps)
    return dict(zip(("t2_ms", "s0", "t2_std_ms", "residual"), maps, strict=True)) | {"status": status}


def _fit_fast(signal, first_ms, step_ms, maps):
    """Write what the compiled kernel is sure of into the maps; the indices of all other voxels."""
    from mrmyo.t2_kernels import fit_uniform

    good = np.empty(len(signal), dtype=bool)
    bounds = np.exp(-step_ms / np.array(T2_BOUNDS_MS))
    fit_uniform(np.ascontiguousarray(signal, dtype=np.float32), float(first_ms), step_ms, bounds, *maps, good)
    return np.flatnonzero(~good)


def _refine(signal, times, sigma, status, maps):
    """Least squares to the maximum of the Rician likelihood, in place."""
    from mrmyo.t2_kernels import refine_rician
    from mrmyo.t2_rician import information_table, ratio_table

    low = (status != NOT_FINITE) & ~(signal.max(axis=1) > LOW_SIGNAL_SIGMAS * sigma)
    status[low], maps[:, low] = LOW_SIGNAL, np.nan
    found = np.flatnonzero(status == FITTED)
    answer, good = maps[:, found].astype(np.float64), np.empty(found.size, dtype=bool)
    refine_rician(signal[found].astype(np.float64), times, sigma[found], ratio_table(), information_table(), *answer,
                  good)
    good &= (answer[0] > T2_BOUNDS_MS[0]) & (answer[0] < T2_BOUNDS_MS[1])
    answer[:, ~good] = np.nan
    status[found[~good]] = AT_BOUND
    maps[:, found] = answer


def _fit_chunk(signal, times):
    """Status (n,) and the maps T2, s0, SD of T2, residual (4, n) of signals (n, n_echoes)."""
    peak = signal.max(axis=1)
    status = np.full(len(signal), FITTED, dtype=np.uint8)
    status[~(peak > 0)] = LOW_SIGNAL
    status[~np.isfinite(signal).all(axis=1)] = NOT_FINITE
    maps = np.full((4, len(signal)), np.nan)
    good = np.flatnonzero(status == FITTED)
    if not good.size:
        return status, maps
    scale = peak[good]
    data = signal[good] / scale[:, None]  # any unit of signal gives the same arithmetic
    r2, inside = search_r2(data, times)
    status[good[~inside]] = AT_BOUND
    good, data, scale, r2 = good[inside], data[inside], scale[inside], r2[inside]

    decay = np.exp(-r2[:, None] * times)
    sums = (decay * decay) @ np.stack([times**0, times, times**2], axis=1)
    s0 = (decay * data).sum(axis=1) / sums[:, 0]
    left = ((data - s0[:, None] * decay) ** 2).sum(axis=1)
    variance = left / (len(times) - 2)
    information = s0**2 * (sums[:, 2] - sums[:, 1] ** 2 / sums[:, 0])  # of R2, with s0 unknown
    maps[:, good] = 1 / r2, s0 * scale, np.sqrt(variance / information) / r2**2, np.sqrt(left / len(times)) * scale
    return status, maps


def search_r2(data, times, n_grid=32, max_steps=60):
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
