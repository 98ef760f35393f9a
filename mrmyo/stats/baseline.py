"""What the groups of a baseline table differ by: p of numbers and of categories, each by the test that fits."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from mrmyo.stats.groups import METHOD, rank_sum_test

__all__ = ["count_levels", "p_of_groups"]

MOST_TABLES = 1_000_000  # gone through by Fisher's exact test


def count_levels(parts, levels):
    """How often each level occurs in each group, (n_levels, n_groups)."""
    return np.array([[int((part == level).sum()) for part in parts] for level in levels])


def p_of_groups(parts, levels):
    """p, the test's name and a note."""
    with_value = [part for part in parts if part.size]
    if len(with_value) < 2:
        return np.nan, "", "fewer than two groups with a value: no test"
    p, test, note = _of(with_value, levels)
    without = f"tested without {len(parts) - len(with_value)} of {len(parts)} groups, which have no value"
    notes = [*([without] if test and len(with_value) < len(parts) else []), *([note] if note else [])]
    return p, test, "; ".join(notes)


def _of(parts, levels):
    if levels:
        return _test_of_counts(count_levels(parts, levels))
    if np.ptp(np.concatenate(parts)) == 0:
        return np.nan, "", "all values are equal: no test"
    if len(parts) == 2:
        return rank_sum_test(*parts)[2], f"{METHOD}, no continuity correction", ""
    return float(stats.kruskal(*parts).pvalue), f"Kruskal–Wallis, ties corrected, {len(parts) - 1} df", ""


def _test_of_counts(counts):
    if len(counts) < 2:
        return np.nan, "", "one level only: no test"
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    doubtful = (expected < 5).mean() > 0.2 or expected.min() < 1
    if doubtful or counts.shape == (2, 2):
        p = _fisher(counts)
        if p is not None:
            return p, "Fisher's exact test", ""
    chi2 = ((counts - expected) ** 2 / expected).sum()
    df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return (float(stats.chi2.sf(chi2, df)), f"Pearson's chi-squared, no continuity correction, {df} df",
            "expected counts are small: p of chi-squared is approximate" if doubtful else "")


def _fisher(counts):
    """p of Fisher's test as Freeman and Halton (Biometrika 1951; 38:141) widened it; None where tables are too many."""
    totals = np.sort(counts.sum(axis=1))
    left, logs, k = counts.sum(axis=0)[None, :], np.zeros(1), counts.shape[1]
    for total in totals[:-1]:  # the largest level takes what the others leave
        if (int(total) + 1) ** (k - 1) > MOST_TABLES:
            return None
        most = np.indices([int(total) + 1] * (k - 1)).reshape(k - 1, -1).T
        ways = np.column_stack([most, total - most.sum(axis=1)])
        ways = ways[ways[:, -1] >= 0]
        if len(left) * len(ways) > MOST_TABLES:
            return None
        rest = left[:, None, :] - ways[None, :, :]
        possible = (rest >= 0).all(axis=2)
        logs = (logs[:, None] - special.gammaln(ways + 1).sum(axis=1))[possible]
        left = rest[possible]
    logs = logs - special.gammaln(left + 1).sum(axis=1)
    shares = np.exp(logs - logs.max())
    rare = logs <= -special.gammaln(counts + 1).sum() + 1e-7  # ties with the observed table count, as in R
    return float(min(shares[rare].sum() / shares.sum(), 1))
