"""Signals and bounds for the T2 benchmark that share no code with the fits: spins followed one by one, and the Fisher
information of Rician magnitudes by numerical integration."""

from __future__ import annotations

import numpy as np
from scipy import special

TIMES = np.arange(1, 11) * 10.0
N_SPINS = 64  # a crusher spreads them evenly; exact for trains of up to 31 pulses


def spin_train(t2_ms, b1, *, t1_ms=1412.0, flips=None, n_echoes=10, spacing_ms=10.0):
    """Echoes of isochromats, (n, n_echoes), per unit of magnetisation.

    Excitation about x, refocusing about y (CPMG); crushers dephase each spin equally before and after each pulse. With
    `flips`, a function of B1 that returns (weight, excitation, refocusing) in radians for each position, the slice is
    summed over; without, hard pulses of 90 and 180 degrees times B1.
    """
    t2, b1 = np.broadcast_arrays(np.asarray(t2_ms, float), np.asarray(b1, float))
    positions = [(1.0, np.pi / 2 * b1, np.pi * b1)] if flips is None else flips(b1)
    return sum(weight * _one_position(t2, t1_ms, excitation, refocusing, n_echoes, spacing_ms)
               for weight, excitation, refocusing in positions)


def _one_position(t2, t1, excitation, refocusing, n_echoes, spacing_ms):
    e2 = np.exp(-spacing_ms / 2 / t2)[:, None]
    e1 = np.exp(-spacing_ms / 2 / np.broadcast_to(t1, t2.shape))[:, None]
    phase = 2 * np.pi * (np.arange(N_SPINS) + 0.5) / N_SPINS
    turn = np.exp(1j * phase)
    across = np.broadcast_to((-1j * np.sin(excitation))[:, None], (len(t2), N_SPINS)).astype(complex)
    along = np.broadcast_to(np.cos(excitation)[:, None], across.shape).astype(float)
    cosine, sine = np.cos(refocusing)[:, None], np.sin(refocusing)[:, None]
    echoes = []
    for _ in range(n_echoes):
        across, along = across * turn * e2, 1 - (1 - along) * e1
        x, y = across.real, across.imag
        x, along = cosine * x + sine * along, cosine * along - sine * x  # about y
        across, along = (x + 1j * y) * turn * e2, 1 - (1 - along) * e1
        echoes.append(-across.imag.mean(axis=1))
    return np.stack(echoes, axis=1)


def magnitudes(signal, sigma, seed):
    """Rician magnitudes."""
    rng = np.random.default_rng(seed)
    return np.hypot(signal + sigma * rng.standard_normal(signal.shape), sigma * rng.standard_normal(signal.shape))


def rician_information(amplitude):
    """Fisher information of one Rician magnitude about its amplitude, in units of the noise, by integration."""
    r = np.linspace(0, 1, 4001)[1:]
    values = []
    for a in np.linspace(0, 12, 241):
        grid = r * (a + 9)
        log_p = np.log(grid) - (grid - a) ** 2 / 2 + np.log(special.ive(0, a * grid))
        score = grid * special.ive(1, a * grid) / special.ive(0, a * grid) - a
        values.append(np.trapezoid(np.exp(log_p) * score**2, grid))
    return np.interp(amplitude, np.linspace(0, 12, 241), values, right=1.0)


def bound(model, parameters, sigma, *, prior=None, which=0, step=1e-4):
    """The Cramér-Rao SD of one parameter for each voxel.

    `model` maps parameters (n, p) to signals (n, n_echoes); `prior` holds the SDs that are known beforehand (infinite
    for none), whose information is added.
    """
    centre = model(parameters)
    slopes = []
    for k in range(parameters.shape[1]):
        h = step * np.maximum(np.abs(parameters[:, k]), 1e-2)
        up, down = parameters.copy(), parameters.copy()
        up[:, k] += h
        down[:, k] -= h
        slopes.append((model(up) - model(down)) / (2 * h)[:, None])
    slopes = np.stack(slopes, axis=-1) / sigma
    fisher = np.einsum("nea,ne,neb->nab", slopes, rician_information(centre / sigma), slopes)
    if prior is not None:
        fisher = fisher + np.diag(1 / np.asarray(prior, float) ** 2)
    return np.sqrt(np.linalg.inv(fisher)[:, which, which])
