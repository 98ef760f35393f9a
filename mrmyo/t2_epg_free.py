"""The compiled loop for the commonest case of the stimulated-echo fit: no fat, B1 free, least squares."""

from __future__ import annotations

import numpy as np
from numba import njit

from mrmyo.t2_epg_kernels import NEAR, OPTIONS, cells

__all__ = ["fit_free"]


@njit(**OPTIONS)
def fit_free(signal, table, inverse, variance, axes, centroids, middle, out, good):
    """Gauss-Newton from node to node with a ready inverse at each. What is not `good` is left to `fit_table`.

    Parameters
    ----------
    signal : (n, m) float32
    table : (n_u, n_p, 3, m) float32
        As for `fit_table`.
    inverse : (n_u, n_p + 1, m, 4) float32
        Signals to amplitude, amplitude times du, and times dp; the fourth is a filler, for vectors of four. The last p
        stands for the first one, held: B1 is 1 and not asked for.
    variance : (n_u, n_p + 1, 2) float32
        Of du and dp, for unit amplitude and noise.
    axes : (4,) float64
    centroids : (n_u,) float32
        Where the middle of the decay lies, in echoes, at every u and at the p numbered `middle`: it grows with T2.
    out, good
        As for `fit_table`, but `good` is bool.
    """
    n, m = signal.shape
    n_u, n_p = table.shape[:2]
    u0, hu, p0, hp = axes
    hu32, hp32 = np.float32(hu), np.float32(hp)
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    for v in range(n):
        good[v] = False
        total, moment, peak = zero, zero, zero
        for e in range(m):
            y = signal[v, e]
            total += y
            moment += np.float32(e) * y
            peak = max(peak, y)
        at = moment / total
        if not (total > 0 and 0 < at < m and peak < 1e15):
            continue
        low, high = 0, n_u - 1
        while high - low > 1:
            mid = (low + high) // 2
            if centroids[mid] < at:
                low = mid
            else:
                high = mid
        i, j = low, middle
        a, du, dp, sound = zero, zero, zero, False
        for look in range(10):
            a, x1, x2 = zero, zero, zero
            for e in range(m):
                y = signal[v, e]
                a += inverse[i, j, e, 0] * y
                x1 += inverse[i, j, e, 1] * y
                x2 += inverse[i, j, e, 2] * y
            if not a > 0:
                break
            du, dp = x1 / a / hu32, x2 / a / hp32
            if not (abs(du) < 1e6 and abs(dp) < 1e6):
                break
            if abs(du) <= NEAR and abs(dp) <= NEAR:
                sound = True
                break
            bold = one if look < 4 else half
            ni, nj = i + cells(du, bold, 12), j + cells(dp, bold, 6)
            if ni < 0 or ni >= n_u or (nj >= n_p and j == n_p - 1):
                break
            if j < n_p:
                j = n_p if nj < 0 and j == 0 else min(max(nj, 0), n_p - 1)
            i = ni
        if sound and j + dp < 0 and j < n_p:  # just beyond perfect pulses: once more, held there
            j, dp, a, x1 = n_p, zero, zero, zero
            for e in range(m):
                a += inverse[i, j, e, 0] * signal[v, e]
                x1 += inverse[i, j, e, 1] * signal[v, e]
            du = x1 / a / hu32
        if not sound or (j < n_p and j + dp > n_p - 1) or i + du <= 0 or i + du >= n_u - 1 or not abs(du) < 2:
            continue
        k = j
        if j == n_p:
            j, dp = 0, zero
        du *= hu32
        dp *= hp32
        left = zero
        for e in range(m):
            gap = signal[v, e] - a * (table[i, j, 0, e] + du * table[i, j, 1, e] + dp * table[i, j, 2, e])
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
