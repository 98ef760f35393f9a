"""What can be checked of printed numbers: one function for every kind of claim."""

from __future__ import annotations

import math
import re

import numpy as np
from scipy import stats

from mrmyo.stats.correlation import p_of_correlation
from mrmyo.stats.groups import _u_counts

__all__ = ["FEW", "KEYS", "KINDS", "MOST_N", "AuditError", "window"]

MOST_N = 400  # up to here an n that fits is looked for
FEW, MOST_EXACT = 10, 2500  # below so many subjects p may be exact; up to so many pairs U's distribution is counted


class AuditError(ValueError):
    """A claim that cannot be checked as it is written."""


def window(text) -> tuple[float, float]:
    """The values that a printed number stands for: what rounds to it, with both ends; of a bound, all that it allows.

    Examples
    --------
    >>> window("0.376"), window("<0.001"), window("48 %")
    ((0.3755, 0.3765), (0.0, 0.001), (47.5, 48.5))
    """
    if isinstance(text, float):
        raise AuditError(f"Found the number {text!r}; expected it as text, with its decimals: '0.30' is not '0.3'.")
    found = re.fullmatch(r"\s*([<>≤≥]?)\s*([-−+]?)\s*(\d*\.?\d+)\s*%?\s*", str(text))
    if not found:
        raise AuditError(f"Found {text!r}; expected a number as it is printed, such as '0.376', '-.12' or '<0.001'.")
    bound, sign, digits = found.groups()
    value = float(digits) * (-1 if sign in ("-", "−") else 1)
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
    if bound:
        return (0.0, value) if bound in "<≤" else (value, math.inf)
    slack = 1e-12 * max(abs(value), 1)  # of what lies on the edge in decimals, not in binary
    return round(value - half, 12) - slack, round(value + half, 12) + slack


def _overlap(a, b):
    return a[0] <= b[1] and b[0] <= a[1]


def _words(low, high):
    low, high = (f"{value:.4g}" for value in (low, high))
    return low if low == high else f"{low} to {high}"


def _correlation(claim):
    """r and n give p."""
    r, p = window(claim["r"]), window(claim["p"])
    if max(map(abs, r)) > 1.01:
        raise AuditError(f"Found r = {claim['r']!r}; expected −1 to 1.")
    low, high = (min(abs(r[0]), abs(r[1])) if r[0] * r[1] > 0 else 0.0, min(max(abs(r[0]), abs(r[1])), 1.0))

    def fits(n):
        return n >= 3 and _overlap((p_of_correlation(high, n), p_of_correlation(low, n)), p)

    fitting, found, told = _with_n(claim, fits, lambda n: _words(p_of_correlation(high, n), p_of_correlation(low, n)))
    if not fitting and claim.get("n") and int(claim["n"]) < FEW:
        return True, f"{found} by Student's t; not doubted, for p of so few may be exact", told
    return fitting, found, told


def _mean(claim):
    """The mean of n whole numbers, in steps of `step` (1), is a whole number over n (GRIM)."""
    low, high = window(claim["mean"])
    step = float(claim.get("step") or 1)

    def fits(n):
        return math.floor(high * n / step) * step >= low * n - 1e-9

    def found(n):
        total = round((low + high) / 2 * n / step) * step
        return f"{total:g} / {n} = {total / n:.4g}"

    return _with_n(claim, fits, found)


def _percentage(claim):
    """A count of n in percent."""
    count, low_high = int(claim["count"]), window(claim["percent"])

    def fits(n):
        return count <= n and _overlap((100 * count / n, 100 * count / n), low_high)

    return _with_n(claim, fits, lambda n: f"{100 * count / n:.4g} %")


def _sum(claim):
    """Parts make a total."""
    low, high = (sum(part) for part in zip(*(window(part) for part in claim["parts"]), strict=True))
    total = window(claim["total"])
    exact = all("." not in str(part) for part in [*claim["parts"], claim["total"]])
    if exact:  # counts do not round
        value = sum(int(part) for part in claim["parts"])
        return value == int(claim["total"]), str(value), ""
    return _overlap((low, high), total), _words(low, high), ""


def _same(claim):
    """One quantity, printed more than once."""
    ranges = [window(value) for value in claim["values"]]
    fits = all(_overlap(a, b) for a in ranges for b in ranges)
    return fits, " and ".join(map(str, claim["values"])), ""


def _normal_p(claim):
    """z gives a two-sided p."""
    z, p = window(claim["z"]), window(claim["p"])
    low, high = sorted(2 * stats.norm.sf(abs(value)) for value in z)
    return _overlap((low, high), p), _words(low, high), ""


def _mann_whitney(claim):
    """U of two groups gives z and p, without ties; so a p (or z) needs a U, a whole number or a half."""
    n_1, n_2 = int(claim["n_1"]), int(claim["n_2"])
    middle, spread = n_1 * n_2 / 2, math.sqrt(n_1 * n_2 * (n_1 + n_2 + 1) / 12)
    u = np.arange(0, middle + 0.25, 0.5)
    if "z" not in claim and "p" not in claim:
        raise AuditError("a mann-whitney needs p or z, or there is nothing to check")
    kinds = {"without continuity correction": (middle - u) / spread,
             "with continuity correction": np.clip(middle - u - 0.5, 0, None) / spread}
    found = []
    for name, z in kinds.items():
        fits = np.ones(u.size, bool)
        if "z" in claim:
            low, high = sorted(map(abs, window(claim["z"])))
            fits &= (z >= low) & (z <= high)
        if "p" in claim:
            low, high = window(claim["p"])
            p = 2 * stats.norm.sf(z)
            fits &= (p >= low) & (p <= high)
        if fits.any():
            found.append(f"U {_words(u[fits].min(), u[fits].max())} {name}")
    if "z" not in claim and n_1 * n_2 <= MOST_EXACT:
        counts = np.cumsum(_u_counts(n_1, n_2))
        exact = np.minimum(2 * counts / counts[-1], 1)[: int(middle) + 1]
        low, high = window(claim["p"])
        fits = np.flatnonzero((exact >= low) & (exact <= high))
        if fits.size:
            found.append(f"U {_words(fits.min(), fits.max())} exactly")
    return bool(found), "; ".join(found) or "no U, even with halves for ties", ""


def _combined(claim):
    """Means and SDs of groups give those of all."""
    groups = [(int(n), window(mean), window(sd)) for n, mean, sd in claim["groups"]]
    n = sum(size for size, *_ in groups)
    means = [sum(size * mean[end] for size, mean, _ in groups) / n for end in (0, 1)]
    rng = np.random.default_rng(0)
    corners = rng.random((4000, 2, len(groups)))  # within the rounding of every group
    corners[: 2**min(2 * len(groups), 10)] = rng.integers(0, 2, corners[: 2**min(2 * len(groups), 10)].shape)
    mean, sd = (np.array([part[which][0] + share * (part[which][1] - part[which][0])
                          for part, share in zip(groups, corners[:, which - 1].T, strict=True)]) for which in (1, 2))
    sizes = np.array([size for size, *_ in groups])[:, None]
    centre = (sizes * mean).sum(axis=0) / n
    spread = np.sqrt(((sizes - 1) * sd**2 + sizes * (mean - centre) ** 2).sum(axis=0) / (n - 1))
    fits = _overlap(means, window(claim["mean"])) and (
        "sd" not in claim or _overlap((spread.min(), spread.max()), window(claim["sd"])))
    return fits, f"mean {_words(*means)}, SD {_words(spread.min(), spread.max())}", ""


def _auc(claim):
    """The area is a share of pairs, counted in halves."""
    low, high = window(claim["auc"])
    if "%" in str(claim["auc"]) or not -0.01 <= low <= 1:
        raise AuditError(f"Found auc = {claim['auc']!r}; expected 0 to 1.")
    pairs = int(claim["n_1"]) * int(claim["n_2"])
    first, last = math.ceil(2 * low * pairs), math.floor(2 * min(high, 1) * pairs)
    found = f"{_words(first / 2, last / 2)} of {pairs} pairs" if first <= last else f"no number of {pairs} pairs"
    return first <= last, found, ""


def _within(claim):
    """A number lies within limits."""
    value, low, high = window(claim["value"]), window(claim["low"]), window(claim["high"])
    return value[1] >= low[0] and value[0] <= high[1], f"{claim['low']} to {claim['high']}", ""


def _largest(claim):
    """One of n values lies at most SD (n − 1) / √n above their mean (Samuelson, J Am Stat Assoc 1968; 63:1522)."""
    n, mean, sd = int(claim["n"]), window(claim["mean"]), window(claim["sd"])
    most = mean[1] + sd[1] * (n - 1) / math.sqrt(n)
    return most >= window(claim["value"])[0], f"{most:.4g} at most", ""


def _below(claim):
    """All of n values lie below a limit; the largest is at least SD / √(n − 1) above their mean."""
    n, mean, sd = int(claim["n"]), window(claim["mean"]), window(claim["sd"])
    least = mean[0] + sd[0] * math.sqrt((n - 1) / n) / math.sqrt(n - 1)  # sd with n - 1, the bound with n
    return least <= window(claim["limit"])[1], f"the largest is {least:.4g} at least", ""


def _with_n(claim, fits, found):
    """The verdict at the printed n, and every n that would make the claim consistent."""
    consistent = [n for n in range(2, MOST_N + 1) if fits(n)]
    told = _spans(consistent)
    if claim.get("n") in (None, ""):
        return bool(consistent), "", told
    n = int(claim["n"])
    return fits(n), found(n), told


def _spans(values):
    """[59, 60, 61, 64] as "59–61, 64"."""
    spans = []
    for value in values:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)


def _product(claim):
    """Factors make a product."""
    value = math.prod(float(part) for part in claim["parts"])
    low, high = window(claim["total"])
    return low <= value <= high, f"{value:g}", ""


def _ratio(claim):
    """Two counts make a ratio."""
    first, second = (int(part) for part in claim["parts"])
    low, high = window(claim["ratio"])
    return low <= second / first <= high, f"{second / first:.4g}", ""


def _same_total(claim):
    """Two ways to split people give one total of whole numbers (as GRIM, with what the other split allows)."""

    def totals(groups, n):
        found = {0}
        for size, mean in groups:
            size = n if size is None else int(size)
            low, high = window(mean)
            these = range(math.ceil(low * size - 1e-9), math.floor(high * size + 1e-9) + 1)
            found = {one + other for one in found for other in these}
        return found

    left, right = claim["left"], claim["right"]
    is_open = any(size is None for size, _ in [*left, *right])
    fitting = {n: totals(left, n) & totals(right, n) for n in (range(1, MOST_N + 1) if is_open else [0])}
    fitting = {n: common for n, common in fitting.items() if common}
    found = "; ".join(f"total {_spans(sorted(common))}" + (f" of {n}" if is_open else "")
                      for n, common in list(fitting.items())[:4])
    return bool(fitting), found or "no total", _spans(sorted(fitting)) if is_open else ""


def _direction(claim):
    """A correlation and a difference of means of the same two things point the same way (no proof: a strong hint)."""
    r, more, less = window(claim["r"]), window(claim["more"]), window(claim["less"])
    step = more[0] - less[1], more[1] - less[0]
    fits = not (r[0] > 0 > step[1] or r[1] < 0 < step[0])
    return fits, f"difference {_words(*step)}, r of the {'same' if fits else 'other'} sign", ""


def _cover(claim):
    """Grades cover a scale, each part of it once."""
    low, high = float(claim["low"]), float(claim["high"])
    ranges = sorted((float(a), float(b)) for a, b in claim["ranges"])
    trouble, reached = [], low
    for a, b in ranges:
        if a > reached:
            trouble.append(f"{reached:g} to {a:g} in none")
        elif a == reached and a > low and b > a:
            trouble.append(f"{a:g} in two")
        elif a < reached:
            trouble.append(f"{a:g} to {min(b, reached):g} in two")
        reached = max(reached, b)
    if reached < high:
        trouble.append(f"{reached:g} to {high:g} in none")
    return not trouble, "; ".join(trouble) or "each part once", ""


KINDS = {"correlation": _correlation, "mean of whole numbers": _mean, "percentage": _percentage, "sum": _sum,
         "same": _same, "z and p": _normal_p, "mann-whitney": _mann_whitney, "combined": _combined, "auc": _auc,
         "within": _within, "largest": _largest, "below": _below, "product": _product, "ratio": _ratio,
         "same total": _same_total, "direction": _direction, "cover": _cover}


KEYS = {"correlation": "r p n", "mean of whole numbers": "mean n step", "percentage": "percent count n",
        "sum": "parts total", "same": "values", "z and p": "z p", "mann-whitney": "n_1 n_2 z p",
        "combined": "groups mean sd", "auc": "auc n_1 n_2", "within": "value low high",
        "largest": "n mean sd value", "below": "n mean sd limit", "product": "parts total",
        "ratio": "parts ratio", "same total": "left right", "direction": "r more less", "cover": "ranges low high"}
