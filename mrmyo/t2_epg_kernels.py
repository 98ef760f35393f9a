"""The compiled loop of the stimulated-echo fit, for every case. Apart, so that numba is imported only when it is used.

``fit_table.py_func`` is the form that is not compiled, for tests. NaN and infinity stay what they are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mrmyo.t2_epg_steps import NEAR, OPTIONS, cells, meet

__all__ = ["fit_table"]

LOOKUPS = 20  # at most; most voxels need three
NARROW = 0.1


@njit(**OPTIONS)
def _explained(y, f, table, fat, i, j, weight, prior, axes):
    """How much of a signal's energy a node explains, less what B1 costs where it is known."""
    top, below = 0.0, 0.0
    for e in range(y.size):
        w = (1 - f) * table[i, j, 0, e] + f * fat[j, 0, e]
        top += w * y[e]
        below += w * w
    away = axes[2] + j * axes[3] - prior
    return (top * abs(top) / below) - (weight * away * away if weight > 0 else 0.0)


@njit(**OPTIONS)
def _climb(y, f, table, fat, i, j, j_held, weight, prior, axes):
    """The node that explains most, from neighbour to neighbour, and the peak of the parabola through those around it.

    Returns node and steps: i, j, du, dp. With `j_held` not negative j stays there.
    """
    n_u, n_p = table.shape[:2]
    if j_held >= 0:
        j = j_held
    here = _explained(y, f, table, fat, i, j, weight, prior, axes)
    for _ in range(400):
        best, bi, bj = here, i, j
        for di in range(-1, 2):
            for dj in range(-1, 2):
                if j_held >= 0 and dj != 0:
                    continue
                ni, nj = i + di, j + dj
                if 0 <= ni < n_u and 0 <= nj < n_p:
                    value = _explained(y, f, table, fat, ni, nj, weight, prior, axes)
                    if value > best:
                        best, bi, bj = value, ni, nj
        if bi == i and bj == j:
            break
        i, j, here = bi, bj, best
    ci, cj = min(max(i, 1), n_u - 2), min(max(j, 1), n_p - 2)
    e = np.empty((3, 3))
    for di in range(3):
        for dj in range(3):
            e[di, dj] = _explained(y, f, table, fat, ci + di - 1, cj + dj - 1 if j_held < 0 else j, weight, prior, axes)
    gu, guu = 0.5 * (e[2, 1] - e[0, 1]), e[2, 1] - 2 * e[1, 1] + e[0, 1]
    du, dp = -gu / guu, 0.0
    if j_held < 0:
        gp, gpp = 0.5 * (e[1, 2] - e[1, 0]), e[1, 2] - 2 * e[1, 1] + e[1, 0]
        gup = 0.25 * (e[2, 2] - e[2, 0] - e[0, 2] + e[0, 0])
        det = guu * gpp - gup * gup
        if det > 0 and guu < 0:
            du, dp = (gup * gp - gpp * gu) / det, (gup * gu - guu * gp) / det
        dp = min(max(cj + dp, max(j - NEAR, 0.0)), min(j + NEAR, n_p - 1.0)) - j
    du = min(max(ci + du, i - NEAR), i + NEAR) - i if guu < 0 else 0.0
    return i, j, du * axes[1], dp * axes[3]


@njit(**OPTIONS)
def fit_table(signal, sigma, share, prior, prior_sd, table, fat, axes, starts, n_first, basis, ratio, out, good):
    """Gauss-Newton from node to node of a table, for all voxels.

    At a node the model is linear in its amplitude a, a du and a dp: u is log T2, p the coordinate of B1. The best of
    the three names the next node; at the last node the steps lie within half a cell and are the answer. Voxels do not
    know of each other.

    Parameters
    ----------
    signal : (n, m) float32
    sigma : (n,) float32
        SD of the noise; 0 where unknown: then noise is taken from the residual, and magnitudes for signals.
    share : (n,) float32
        Fat over water plus fat, times what is left of fat by suppression.
    prior, prior_sd : (n,) float32
        What is known of p: SD 0 holds p where it is, infinity leaves it free.
    table : (n_u, n_p, 3, k * LANES) float32
        Water: signal, derivative by u, by p; beyond the m echoes zeros.
    fat : (n_p, 2, k * LANES) float32
        Fat: signal, derivative by p.
    axes : (4,) float64
        First value and step of u, and of p.
    starts : (k, 2) int64
        Nodes to begin from; the one that explains most of the signal is taken.
    n_first : int
        How many of them have the first p: these are enough where p is known.
    basis : (6, k * LANES) float32
        Sums over the echoes that leave a few thousandths of the energy of any signal of water or fat out: by them is
        told what a start explains.
    ratio : (r, 2) float64
        Table of `mrmyo.t2_rician`.
    out : (6, n) float32, written
        T2, s0, SD of T2, residual, p, SD of p.
    good : (n,) uint8, written
        0 fitted, 1 at a bound, 2 no fit.
    """
    n, m = signal.shape
    n_u, n_p = table.shape[:2]
    u0, hu, p0, hp = axes
    r_scale, r_last = 1.0 / ratio[1, 0], ratio.shape[0] - 2
    width, n_starts = table.shape[3], starts.shape[0]
    y, g, gu, gp = np.zeros((4, width), np.float32)
    zero, one = np.float32(0), np.float32(1)
    first, tops = np.zeros((15, n_starts), np.float32), np.empty(n_starts, np.float32)
    for s in range(n_starts):
        for e in range(m):
            w, x = table[starts[s, 0], starts[s, 1], 0, e], fat[starts[s, 1], 0, e]
            for k in range(6):
                first[k, s] += basis[k, e] * w
                first[6 + k, s] += basis[k, e] * x
            first[12, s] += w * w
            first[13, s] += 2 * w * x
            first[14, s] += x * x
    for v in range(n):
        for e in range(m):
            y[e] = signal[v, e]
        f = share[v]
        held = prior_sd[v] == 0
        bounded = prior_sd[v] < 1e6
        near = prior_sd[v] < NARROW  # known well enough to begin from there
        k_held = min(max(int(np.rint((prior[v] - p0) / hp)), 0), n_p - 1) if bounded else 0
        best, i, j = -1.0, 0, 0
        if near:
            for s in range(n_first):
                value = _explained(y, f, table, fat, starts[s, 0], k_held, 0.0, zero, axes)
                if value > best:
                    best, i, j = value, starts[s, 0], k_held
        else:
            x0, x1, x2, x3, x4, x5 = zero, zero, zero, zero, zero, zero
            for e in range(width):
                x0 += basis[0, e] * y[e]
                x1 += basis[1, e] * y[e]
                x2 += basis[2, e] * y[e]
                x3 += basis[3, e] * y[e]
                x4 += basis[4, e] * y[e]
                x5 += basis[5, e] * y[e]
            rest = one - f
            for s in range(n_starts):
                water = x0 * first[0, s] + x1 * first[1, s] + x2 * first[2, s]
                water += x3 * first[3, s] + x4 * first[4, s] + x5 * first[5, s]
                lipid = x0 * first[6, s] + x1 * first[7, s] + x2 * first[8, s]
                lipid += x3 * first[9, s] + x4 * first[10, s] + x5 * first[11, s]
                top = rest * water + f * lipid
                below = rest * (rest * first[12, s] + f * first[13, s]) + f * f * first[14, s]
                tops[s] = top * max(top, zero) / below
            for s in range(n_starts):
                if tops[s] > best:
                    best, i, j = tops[s], starts[s, 0], starts[s, 1]
        good[v] = 2
        if not best > 0:
            continue
        a, du, dp, converged = 0.0, 0.0, 0.0, False
        c00, c01, c02, c11, c12, c22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        noise = sigma[v]
        turns = 0
        fixed_p = held
        lam = 0.0
        old_i, old_j, old_a, old_u, old_p = -9, 0, 0.0, 0.0, 0.0  # the node before, and what it gave, in cells
        for look in range(LOOKUPS):
            a00, a01, a02, a11, a12, a22 = zero, zero, zero, zero, zero, zero
            t0, t1, t2 = zero, zero, zero
            for e in range(width):
                w0, w1, w2 = table[i, j, 0, e], table[i, j, 1, e], table[i, j, 2, e]
                if f > 0:
                    w0 = (one - f) * w0 + f * fat[j, 0, e]
                    w1 = (one - f) * w1
                    w2 = (one - f) * w2 + f * fat[j, 1, e]
                g[e], gu[e], gp[e] = w0, w1, w2
                a00 += w0 * w0
                a01 += w0 * w1
                a02 += w0 * w2
                a11 += w1 * w1
                a12 += w1 * w2
                a22 += w2 * w2
                t0 += w0 * y[e]
                t1 += w1 * y[e]
                t2 += w2 * y[e]
            here = p0 + j * hp
            c00, c01, c02, c11, c12, c22 = a00, a01, a02, a11, a12, a22
            s2 = t2
            if bounded and not held:
                # noise against amplitude says what the prior weighs; unknown noise: a hundredth of the signal
                amp = a if a > 0 else t0 / a00
                rel = noise / amp if noise > 0 else 0.01
                lam = (rel / prior_sd[v]) ** 2
                c22 = a22 + lam
                s2 = t2 + lam * (prior[v] - here) * amp
            if fixed_p:
                # p does not move from where it is held: within its cell, the model moves along with it
                shift = (prior[v] - here) if held else dp
                shift = min(max(shift, -0.5 * hp), 0.5 * hp)
                a00, a01, t0 = zero, zero, zero
                for e in range(width):
                    w = g[e] + np.float32(shift) * gp[e]
                    a00 += w * w
                    a01 += w * gu[e]
                    t0 += w * y[e]
                det = a00 * c11 - a01 * a01
                a = (c11 * t0 - a01 * t1) / det
                du = (a00 * t1 - a01 * t0) / det / a
                dp = shift
                c00, c01 = a00, a01
            else:
                d01 = c01 / c00
                d02 = c02 / c00
                e11, e12, e22 = c11 - d01 * c01, c12 - d01 * c02, c22 - d02 * c02
                b1, b2 = t1 - d01 * t0, s2 - d02 * t0
                det = e11 * e22 - e12 * e12
                x1, x2 = (e22 * b1 - e12 * b2) / det, (e11 * b2 - e12 * b1) / det
                a = (t0 - c01 * x1 - c02 * x2) / c00
                du, dp = x1 / a, x2 / a
            if not (a > 0 and abs(du) < 1e6 and abs(dp) < 1e6):
                break
            bold = 1.0 if look < 5 else 0.5 if look < 12 else 0.3  # the valley is curved: long steps can go in circles
            ni = i + cells(du / hu, bold, 12)
            nj = j if fixed_p else j + cells(dp / hp, bold, 6)
            ni, nj = min(max(ni, 0), n_u - 1), min(max(nj, 0), n_p - 1)
            if not fixed_p and ((j == 0 and here + dp < p0) or (j == n_p - 1 and here + dp > p0 + (n_p - 1) * hp)):
                fixed_p, dp = True, 0.0  # beyond the last p: hold it there and let the others settle
                i, old_i = ni, -9
                continue
            if ni == old_i and nj == old_j and abs(ni - i) <= 1 and abs(nj - j) <= 1:
                t = meet(du / hu, dp / hp, old_u, old_p, ni - i, nj - j)
                if t > 0:
                    a += t * (old_a - a)
                    du += t * ((ni - i + old_u) * hu - du)
                    dp += t * ((nj - j + old_p) * hp - dp)
                    if not fixed_p:
                        dp = min(max(dp, p0 - here), p0 + (n_p - 1) * hp - here)
                    ni, nj = i, j
            if ni == i and nj == j:
                if noise == 0 or turns >= 4:
                    converged = True
                    break
                # magnitudes to what the likelihood of Rician noise takes for signals, then once more
                turns += 1
                old_i = -9
                for e in range(width):
                    g[e] += np.float32(du) * gu[e] + np.float32(dp) * gp[e]
                for e in range(m):
                    mu = a * g[e]
                    z = signal[v, e] * mu / (noise * noise)
                    at = z * r_scale
                    if at <= 0:
                        y[e] = 0
                    elif at < r_last:
                        k = int(at)
                        y[e] = signal[v, e] * (ratio[k, 1] + (at - k) * (ratio[k + 1, 1] - ratio[k, 1]))
                    else:
                        y[e] = signal[v, e] * (1.0 - 0.5 / z - 0.125 / (z * z))
            else:
                old_i, old_j, old_a, old_u, old_p = i, j, a, du / hu, dp / hp
            i, j = ni, nj
        if not converged:
            # noise bends the valley so much that the linear model goes in circles: climb node by node, then a parabola
            weight = 0.0 if held or not bounded else ((noise if noise > 0 else 0.01 * np.sqrt(best)) / prior_sd[v]) ** 2
            i, j, du, dp = _climb(y, f, table, fat, i, j, k_held if held else -1, weight, prior[v], axes)
            c00, c01, c02, c11, c12, c22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            a00, t0 = zero, zero
            for e in range(width):
                w0 = (one - f) * table[i, j, 0, e] + f * fat[j, 0, e]
                w1 = (one - f) * table[i, j, 1, e]
                w2 = (one - f) * table[i, j, 2, e] + f * fat[j, 1, e]
                g[e], gu[e], gp[e] = w0, w1, w2
                w = w0 + np.float32(du) * w1 + np.float32(dp) * w2
                a00 += w * w
                t0 += w * y[e]
                c00 += w0 * w0
                c01 += w0 * w1
                c02 += w0 * w2
                c11 += w1 * w1
                c12 += w1 * w2
                c22 += w2 * w2
            a = t0 / a00
            if not a > 0:
                continue
            c22 += weight / (a * a)
        left = zero
        for e in range(width):
            w = g[e] + np.float32(du) * gu[e] + np.float32(dp) * gp[e]
            gap = y[e] - np.float32(a) * w
            left += gap * gap
        t_fit = np.exp(u0 + i * hu + du)
        variance = noise * noise if noise > 0 else left / (m - (2 if fixed_p else 3))
        e11 = c11 - c01 * c01 / c00
        if held or (fixed_p and not bounded):
            unit, unit_p = 1.0 / e11, 0.0
        else:
            e12, e22 = c12 - c01 * c02 / c00, c22 - c02 * c02 / c00
            det = e11 * e22 - e12 * e12
            unit, unit_p = e22 / det, e11 / det
        out[0, v] = t_fit
        out[1, v] = a
        out[2, v] = t_fit * np.sqrt(variance * unit) / a
        out[3, v] = np.sqrt(left / m)
        out[4, v] = p0 + j * hp + dp
        out[5, v] = np.sqrt(variance * unit_p) / a
        low, high = u0, u0 + (n_u - 1) * hu
        good[v] = 0 if low < u0 + i * hu + du < high else 1
