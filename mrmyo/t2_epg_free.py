"""The compiled loop for the commonest case of the stimulated-echo fit: no fat, B1 free, least squares."""

from __future__ import annotations

import numpy as np
from numba import njit

from mrmyo.t2_epg_steps import NEAR, OPTIONS, cells, meet

__all__ = ["fit_free"]

BLOCK = 256  # voxels that go a step together: the processor need not wait for the one before it starts the next
LOOKUPS = 10


@njit(**OPTIONS)
def fit_free(signal, table, inverse, variance, axes, basis, corner, nearest, out, good):
    """Gauss-Newton from node to node with a ready inverse at each. What is not `good` is left to `fit_table`.

    Parameters
    ----------
    signal : (n, m) float32
    table : (n_u, n_p, 3, k * LANES) float32
        As for `fit_table`.
    inverse : (n_u, n_p + 1, 3, k * LANES) float32
        Signals to amplitude, amplitude times du, and times dp, in cells. The last p stands for the first one, held: B1
        is 1 and not asked for.
    variance : (n_u, n_p + 1, 2) float32
        Of du and dp, not in cells, for unit amplitude and noise.
    axes : (4,) float64
    basis : (6, k * LANES) float32
        Sums over the echoes; the first three tell most of a decay.
    corner : (2, 2) float32
        Of the second and the third over the first: least value, and cells per unit, of the map `nearest`.
    nearest : (s, s) int32
        The node to begin from, i * n_p + j.
    out, good
        As for `fit_table`, but `good` is bool.
    """
    n, m = signal.shape
    n_u, n_p, _, width = table.shape
    u0, hu, p0, hp = axes
    hu32, hp32 = np.float32(hu), np.float32(hp)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    last = np.float32(nearest.shape[0] - 1)
    y = np.zeros((BLOCK, width), np.float32)
    at, old = np.empty((BLOCK, 2), np.int64), np.empty((BLOCK, 2), np.int64)
    found = np.empty((BLOCK, 3), np.float32)  # amplitude, du, dp of the last look
    active, sound = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.bool_)
    for start in range(0, n, BLOCK):
        count, n_active = min(BLOCK, n - start), 0
        for b in range(count):
            peak = zero
            for e in range(m):
                y[b, e] = signal[start + b, e]
                peak = max(peak, y[b, e])
            a, x1, x2 = zero, zero, zero
            for e in range(width):
                a += basis[0, e] * y[b, e]
                x1 += basis[1, e] * y[b, e]
                x2 += basis[2, e] * y[b, e]
            begun = a > 0 and 1e-15 < peak < 1e15  # beyond, squares leave single precision
            x1, x2 = (x1 / a - corner[0, 0]) * corner[0, 1], (x2 / a - corner[1, 0]) * corner[1, 1]
            x1 = min(max(x1, zero), last) if begun else zero
            x2 = min(max(x2, zero), last) if begun else zero
            node = nearest[int(x1 + half), int(x2 + half)]
            at[b, 0], at[b, 1], old[b, 0] = node // n_p, node % n_p, -9
            sound[b] = False
            active[n_active] = b
            n_active += begun
        for look in range(LOOKUPS):
            kept, bold = 0, one if look < 4 else half
            for q in range(n_active):
                b = active[q]
                i, j = at[b, 0], at[b, 1]
                a, x1, x2 = zero, zero, zero
                for e in range(width):
                    a += inverse[i, j, 0, e] * y[b, e]
                    x1 += inverse[i, j, 1, e] * y[b, e]
                    x2 += inverse[i, j, 2, e] * y[b, e]
                du, dp = x1 / a, x2 / a
                sane = a > 0 and abs(du) < 1e6 and abs(dp) < 1e6
                du, dp = du if sane else zero, dp if sane else zero
                near = abs(du) <= NEAR and abs(dp) <= NEAR
                ni, nj = i + cells(du, bold, 12), j + cells(dp, bold, 6)
                within = 0 <= ni < n_u and (nj < n_p or j != n_p - 1)
                nj = n_p if j == n_p or (nj < 0 and j == 0) else min(max(nj, 0), n_p - 1)
                if ni == old[b, 0] and nj == old[b, 1] and abs(ni - i) <= 1 and abs(nj - j) <= 1:
                    t = np.float32(meet(du, dp, found[b, 1], found[b, 2], ni - i, nj - j))
                    if t > 0:
                        a += t * (found[b, 0] - a)
                        du += t * (np.float32(ni - i) + found[b, 1] - du)
                        dp += t * (np.float32(nj - j) + found[b, 2] - dp)
                        near = True
                go = sane and not near and within
                sound[b] = sane and near
                found[b, 0], found[b, 1], found[b, 2] = a, du, dp
                old[b, 0], old[b, 1] = i, j
                at[b, 0], at[b, 1] = ni if go else i, nj if go else j
                active[kept] = b
                kept += go
            n_active = kept
            if n_active == 0:
                break
        for b in range(count):
            v = start + b
            i, j = at[b, 0], at[b, 1]
            a, du, dp = found[b, 0], found[b, 1], found[b, 2]
            good[v] = False
            if not sound[b]:
                continue
            if j + dp < 0 and j < n_p:  # just beyond perfect pulses: once more, held there
                j, dp, a, x1 = n_p, zero, zero, zero
                for e in range(width):
                    a += inverse[i, j, 0, e] * y[b, e]
                    x1 += inverse[i, j, 1, e] * y[b, e]
                du = x1 / a
            if (j < n_p and j + dp > n_p - 1) or i + du <= 0 or i + du >= n_u - 1 or not abs(du) < 2:
                continue
            k = j
            if j == n_p:
                j, dp = 0, zero
            du *= hu32
            dp *= hp32
            left = zero
            for e in range(width):
                gap = y[b, e] - a * (table[i, j, 0, e] + du * table[i, j, 1, e] + dp * table[i, j, 2, e])
                left += gap * gap
            noise = left / np.float32(m - 3)
            t_fit = np.float32(np.exp(u0 + i * hu + du))
            out[0, v] = t_fit
            out[1, v] = a
            out[2, v] = t_fit * np.sqrt(noise * variance[i, k, 0]) / a
            out[3, v] = np.sqrt(left / np.float32(m))
            out[4, v] = p0 + j * hp + dp
            out[5, v] = np.sqrt(noise * variance[i, k, 1]) / a
            good[v] = True
