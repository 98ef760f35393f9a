"""Magnitudes with Rician noise: what they tell of the signal beneath, as tables."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["information_table", "ratio_table", "rician_mean"]


@lru_cache(maxsize=1)
def ratio_table(last=60.0, step=0.005) -> np.ndarray:
    """I1(z) / I0(z), by which a magnitude is multiplied in the likelihood's derivative: rows of (z, ratio).

    The modified Bessel functions are SciPy's. Beyond the table 1 - 1 / 2z - 1 / 8z² is good to 1e-6.
    """
    from scipy.special import ive

    z = np.arange(0.0, last + step, step)
    return np.stack([z, ive(1, z) / ive(0, z)], axis=1)


@lru_cache(maxsize=1)
def information_table(last=12.0, step=0.02) -> np.ndarray:
    """What one magnitude tells of the signal mu beneath it, noise being 1: rows of (mu, Fisher information, mean).

    The information is the integral of (m I1/I0(m mu) - mu)² over the Rician density of m; 1 where the noise is small,
    0 where there is no signal. Beyond the table it is 1 - 1 / 2 mu², to 1e-4.
    """
    from scipy.special import ive

    mu = np.arange(0.0, last + step, step)
    m = np.linspace(0.0, last + 10.0, 2001)
    z = m * mu[:, None]
    density = m * np.exp(-0.5 * (m - mu[:, None]) ** 2) * ive(0, z)
    score = m * (ive(1, z) / ive(0, z)) - mu[:, None]
    information = np.trapezoid(score**2 * density, m, axis=1)
    return np.stack([mu, information, rician_mean(mu)], axis=1)


def rician_mean(mu) -> np.ndarray:
    """The mean magnitude of a signal `mu` in noise of SD 1: sqrt(pi / 2) for no signal, mu + 1 / 2 mu for much."""
    from scipy.special import ive

    z = np.asarray(mu, dtype=float) ** 2 / 4
    return np.sqrt(np.pi / 2) * ((1 + 2 * z) * ive(0, z) + 2 * z * ive(1, z))
