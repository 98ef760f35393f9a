"""Two exponentials per voxel, for teaching: at ten echoes up to 100 ms they fit everything and tell little."""

from __future__ import annotations

import numpy as np

from mrmyo.t2_inputs import (
    AT_BOUND,
    FITTED,
    LOW_SIGNAL,
    NOT_FINITE,
    OUTSIDE_MASK,
    SignalError,
    check_mask,
    check_signal,
)

__all__ = ["biexponential_bound", "fit_biexponential"]

RANGE_MS = (8.0, 400.0)
N_GRID = 36
APART = 1.15  # the two T2 values differ at least by this factor, or they are one
STEPS = 40
CHUNK = 20_000


def fit_biexponential(signal, echo_times_ms=None, *, sigma=None, mask=None):
    """Fit a short and a long T2 to every voxel by least squares, both amounts at least 0.

    Offered to show why it is not used: `biexponential_bound` tells how uncertain its parameters are, and
    `docs/t2.md` what becomes of them with noise.

    Parameters
    ----------
    signal : Volume or array_like, (..., n_echoes)
        At least 5 echoes.
    echo_times_ms : sequence of float, optional
        Needed for an array.
    sigma : float, optional
        SD of the noise, for the bounds; told from the residual without it.
    mask : array_like of bool, or Volume, optional

    Returns
    -------
    dict of numpy.ndarray
        ``t2_short_ms``, ``t2_long_ms``, ``long_share`` (of the signal at echo time 0), ``s0``, ``residual`` (root mean
        square), ``status`` (index into `mrmyo.t2.STATUS`; at bound where a T2 or an amount is at the end of its range,
        as where one exponential explains the voxel), and the Cramér-Rao SDs ``t2_short_std_ms``, ``t2_long_std_ms``,
        ``long_share_std``. NaN where `status` is not 0.

    Raises
    ------
    SignalError
        When signal or echo times make no sense.
    """
    array, times = check_signal(signal, echo_times_ms)
    if len(times) < 5:
        raise SignalError(f"Found {len(times)} echoes; two exponentials have four parameters and need at least 5.")
    shape = array.shape[:-1]
    chosen = check_mask(mask, signal, shape).ravel()
    flat = array.reshape(-1, array.shape[-1])
    names = ("t2_short_ms", "t2_long_ms", "long_share", "s0", "residual", "t2_short_std_ms", "t2_long_std_ms",
             "long_share_std")
    found = {name: np.full(len(flat), np.nan, np.float32) for name in names}
    status = np.full(len(flat), OUTSIDE_MASK, np.uint8)
    for start in range(0, len(flat), CHUNK):
        part = np.flatnonzero(chosen[start:start + CHUNK]) + start
        if part.size:
            values, status[part] = _fit(flat[part].astype(float), np.array(times), sigma)
            for name, value in zip(names, values.T, strict=True):
                found[name][part] = value
    return {**{name: value.reshape(shape) for name, value in found.items()}, "status": status.reshape(shape)}


def biexponential_bound(t2_short_ms, t2_long_ms, long_share, *, echo_times_ms, snr):
    """The least SDs that any unbiased fit of two exponentials can have (Cramér-Rao, Gaussian noise).

    Parameters
    ----------
    t2_short_ms, t2_long_ms, long_share, snr : float
        `snr` is the signal at echo time 0 over the SD of the noise.
    echo_times_ms : sequence of float

    Returns
    -------
    dict of float
        ``t2_short_std_ms``, ``t2_long_std_ms``, ``long_share_std``; and ``t2_std_ms``, what one exponential with the
        short T2 would have.
    """
    times = np.asarray(echo_times_ms, dtype=float)
    parameters = np.array([[1 - long_share, long_share, np.log(t2_short_ms), np.log(t2_long_ms)]])
    stds = _stds(parameters, times, np.array([1 / snr]))[0]
    alone = _jacobian(np.array([[1.0, 0.0, np.log(t2_short_ms), np.log(t2_long_ms)]]), times)[0][:, [0, 2]] * snr
    return {"t2_short_std_ms": float(stds[0]), "t2_long_std_ms": float(stds[1]), "long_share_std": float(stds[2]),
            "t2_std_ms": float(np.sqrt(np.linalg.inv(alone.T @ alone)[1, 1]) * t2_short_ms)}


def _fit(y, times, sigma):
    """Parameters with their SDs, one row a voxel, and the status."""
    usable = np.isfinite(y).all(axis=1)
    scale = np.where(usable, np.abs(np.where(np.isfinite(y), y, 0)).max(axis=1), 0.0)
    usable &= scale > 0
    data = y[usable] / scale[usable, None]
    status = np.where(np.isfinite(y).all(axis=1), LOW_SIGNAL, NOT_FINITE).astype(np.uint8)
    out = np.full((len(y), 8), np.nan)
    if not len(data):
        return out, status
    p = _refined(data, times, _from_grid(data, times))
    left = data - _model(p, times)
    rms = np.sqrt((left**2).mean(axis=1))
    noise = rms * np.sqrt(len(times) / (len(times) - 4)) if sigma is None else sigma / scale[usable]
    total = p[:, 0] + p[:, 1]
    low, high = np.log(RANGE_MS)
    inside = (p[:, 2] > low + 1e-3) & (p[:, 3] < high - 1e-3) & (p[:, 0] > 1e-3 * total) & (p[:, 1] > 1e-3 * total)
    inside &= p[:, 3] - p[:, 2] > 1.01 * np.log(APART)
    values = np.column_stack([np.exp(p[:, 2]), np.exp(p[:, 3]), p[:, 1] / total, total * scale[usable],
                              rms * scale[usable], _stds(p, times, noise)])
    values[~inside] = np.nan
    out[usable] = values
    status[usable] = np.where(inside, FITTED, AT_BOUND)
    return out, status


def _from_grid(y, times):
    """The best pair of a coarse grid: amounts (not negative) and logarithms of T2."""
    u = np.linspace(*np.log(RANGE_MS), N_GRID)
    decays = np.exp(-times[:, None] / np.exp(u))
    i, j = np.triu_indices(N_GRID, 2)
    a, b, ab = (decays[:, i] ** 2).sum(0), (decays[:, j] ** 2).sum(0), (decays[:, i] * decays[:, j]).sum(0)
    seen = y @ decays
    det = a * b - ab**2
    first = (b * seen[:, i] - ab * seen[:, j]) / det
    second = (a * seen[:, j] - ab * seen[:, i]) / det
    gain = np.where((first >= 0) & (second >= 0), first * seen[:, i] + second * seen[:, j], -np.inf)
    best = gain.argmax(axis=1)
    rows = np.arange(len(y))
    alone = (seen**2 / (decays**2).sum(0)).argmax(axis=1)
    p = np.column_stack([first[rows, best], second[rows, best], u[i[best]], u[j[best]]])
    no_pair = ~np.isfinite(gain[rows, best])  # one exponential, split in two
    single = seen[rows, alone] / (decays**2).sum(0)[alone]
    p[no_pair] = np.column_stack([0.5 * single, 0.5 * single, u[alone] - 0.1, u[alone] + 0.1])[no_pair]
    return p


def _refined(y, times, p):
    """Levenberg-Marquardt for all voxels together, within bounds."""
    damping = np.full(len(y), 1e-2)
    cost = ((y - _model(p, times)) ** 2).sum(axis=1)
    for _ in range(STEPS):
        jacobian = _jacobian(p, times)
        normal = np.einsum("nea,neb->nab", jacobian, jacobian)
        slope = np.einsum("nea,ne->na", jacobian, y - _model(p, times))
        diagonal = np.einsum("naa->na", normal)
        normal[:, range(4), range(4)] = diagonal * (1 + damping[:, None]) + 1e-12
        tried = _bounded(p + np.linalg.solve(normal, slope[..., None])[..., 0])
        now = ((y - _model(tried, times)) ** 2).sum(axis=1)
        better = now <= cost
        p, cost = np.where(better[:, None], tried, p), np.where(better, now, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e6)
    return p


def _bounded(p):
    low, high = np.log(RANGE_MS)
    short = np.clip(p[:, 2], low, high - np.log(APART))
    long = np.clip(p[:, 3], short + np.log(APART), high)
    return np.column_stack([np.maximum(p[:, 0], 0), np.maximum(p[:, 1], 0), short, long])


def _model(p, times):
    short, long = (np.exp(-times / np.exp(p[:, k])[:, None]) for k in (2, 3))
    return p[:, :1] * short + p[:, 1:2] * long


def _jacobian(p, times):
    """Derivatives by both amounts and both logarithms of T2, (n, n_echoes, 4)."""
    rates = [times / np.exp(p[:, k])[:, None] for k in (2, 3)]
    short, long = (np.exp(-rate) for rate in rates)
    return np.stack([short, long, p[:, :1] * short * rates[0], p[:, 1:2] * long * rates[1]], axis=-1)


def _stds(p, times, noise):
    """SDs of both T2 values in ms and of the long share, (n, 3)."""
    jacobian = _jacobian(p, times)
    covariance = np.linalg.pinv(np.einsum("nea,neb->nab", jacobian, jacobian), rcond=1e-13, hermitian=True)
    total = (p[:, 0] + p[:, 1])[:, None]
    share = np.concatenate([-p[:, 1:2], p[:, :1]], axis=1) / total**2
    share_variance = np.einsum("na,nab,nb->n", share, covariance[:, :2, :2], share)
    t2_variance = np.stack([covariance[:, k, k] * np.exp(2 * p[:, k]) for k in (2, 3)], axis=1)
    return noise[:, None] * np.sqrt(np.column_stack([t2_variance, share_variance]))
