"""Searches for numbers that print as asked: ranges of what rounds to a text, totals, orders and choices."""

from __future__ import annotations

import numpy as np

__all__ = ["anneal", "correlation_window", "order_by_correlation", "printed_range", "skewed_integers"]


def printed_range(text) -> tuple[float, float]:
    """The numbers that print as the text does: ("0.226" → 0.2255 to 0.2265)."""
    half = 0.5 * 10.0 ** -len(str(text).partition(".")[2])
    return float(text) - half, float(text) + half


def correlation_window(r, p, n) -> tuple[float, float]:
    """The rank correlations of n pairs that print as r and whose p by Student's t prints as p; low above high if none.

    Parameters
    ----------
    r, p : str
        As printed, with their decimals.
    n : int
    """
    from scipy import stats

    low, high = printed_range(str(r).lstrip("-−"))
    t = stats.t.isf(np.array(printed_range(p))[::-1] / 2, n - 2)
    by_p = t / np.sqrt(n - 2 + t**2)
    window = max(low, by_p[0]), min(high, by_p[1])
    return window if str(r)[0] not in "-−" else (-window[1], -window[0])


def skewed_integers(rng, n, *, low, high, total, spread=1.0, power=(0.05, 20.0)):
    """Whole numbers in ascending order, skewed to the right, with the given extremes and a total within a range.

    Parameters
    ----------
    rng : numpy.random.Generator
    n : int
    low, high : int
        The smallest and the largest of them.
    total : (float, float)
    spread : float
        SD of the logarithm of what they are stretched from.
    power : (float, float)
        Between which the stretch is sought.

    Returns
    -------
    numpy.ndarray or None
        None where the draw cannot be stretched to the total.
    """
    from scipy.optimize import brentq

    z = np.sort(np.exp(spread * rng.standard_normal(n)))
    z = (z - z[0]) / (z[-1] - z[0])
    middle = sum(total) / 2

    def excess(exponent):
        return (low + (high - low) * z**exponent).sum() - middle

    if excess(power[0]) < 0 or excess(power[1]) > 0:
        return None
    values = np.round(low + (high - low) * z ** brentq(excess, *power)).astype(int)
    while not total[0] <= values.sum() < total[1]:  # rounding left a few too many or too few
        step = 1 if values.sum() < middle else -1
        inner = np.flatnonzero((values[1:-1] + step > low) & (values[1:-1] + step < high)) + 1
        if not inner.size:
            return None
        values[rng.choice(inner)] += step
    return np.sort(values)


def order_by_correlation(rng, values, reference, window, *, fixed=(), n_steps=100_000):
    """The values in an order whose Spearman correlation with a reference lies in a window: a walk of improving swaps.

    Parameters
    ----------
    rng : numpy.random.Generator
    values, reference : array of shape (n,)
        The values in an order to begin with; most of it is kept.
    window : (float, float)
    fixed : sequence of int
        Positions that keep their value.
    n_steps : int

    Returns
    -------
    numpy.ndarray or None
        None where no such order was met.
    """
    from scipy.stats import rankdata

    x, y = rankdata(values), rankdata(reference)
    x, y = (x - x.mean()) / np.linalg.norm(x - x.mean()), (y - y.mean()) / np.linalg.norm(y - y.mean())
    order, (low, high) = np.arange(len(values)), window
    free = np.setdiff1d(order, fixed)
    target, rs = (low + high) / 2, x @ y
    for _ in range(n_steps):
        if low < rs < high:
            return np.asarray(values)[order]
        i, j = rng.choice(free, size=2, replace=False)
        moved = rs + (x[order[j]] - x[order[i]]) * (y[i] - y[j])
        if abs(moved - target) < abs(rs - target):
            order[i], order[j], rs = order[j], order[i], moved
    return None


def anneal(rng, state, cost, step, *, n_steps, warm=2.0):
    """Simulated annealing down to a cost of 0 (Kirkpatrick et al., Science 1983; 220:671).

    Parameters
    ----------
    rng : numpy.random.Generator
    state
        Where to begin.
    cost : callable
        Of a state; 0 when all is met.
    step : callable
        Of the generator and a state: a neighbouring state, a new object.
    n_steps : int
    warm : float
        The temperature at first; it falls in a straight line.

    Returns
    -------
    state or None
        None where no state of cost 0 was met.
    """
    now = cost(state)
    for k in range(n_steps):
        if now == 0:
            return state
        other = step(rng, state)
        then = cost(other)
        if then <= now or rng.random() < np.exp((now - then) / (warm * (1 - k / n_steps) + 1e-3)):
            state, now = other, then
    return state if now == 0 else None
