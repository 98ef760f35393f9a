"""Compiled loops of the mono-exponential fit. Apart, so that numba is imported only when many voxels are fitted.

Each function is plain Python that numba compiles; ``fit_uniform.py_func`` is the form that is not, for tests. Fused
multiply-adds are allowed and nothing else that is fast: NaN and infinity must stay what they are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["fit_uniform", "refine_rician"]

BLOCK = 96  # voxels side by side: the compiler makes vectors of them, and they stay in the first cache
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**OPTIONS)
def fit_uniform(signal, first_ms, step_ms, x_bounds, t2, s0, std, residual, good):
    """Least squares of a x^n with x = exp(-step / T2), for all voxels; `good` where the answer can be relied upon.

    With p = sum(y x^n) and q = sum(x^2n) the best x is where g = p' q - p q' / 2 is 0 (see `mrmyo.t2_mono`). The search
    starts from the ratio of neighbouring echoes, goes by Newton's steps in single precision, and ends with one in
    double. A voxel is good when that last one was tiny, x lies within bounds, and the fit explains nine tenths of the
    signal's energy: then no other optimum can be better. All others are left to the slow and safe search.

    Parameters
    ----------
    signal : (n, m) float32
    first_ms, step_ms : float
    x_bounds : (2,) float64
    t2, s0, std, residual : (n,) float32, written
        T2, signal at echo time 0, SD of T2 from the residual, root mean square of the residual.
    good : (n,) bool, written
    """
    n, m = signal.shape
    odd = (m - 1) % 2
    low, high = np.float32(x_bounds[0]), np.float32(x_bounds[1])
    one, half, two, eight = np.float32(1), np.float32(0.5), np.float32(2), np.float32(8)
    tenth, per_echo, per_free = np.float32(0.1), np.float32(1 / m), np.float32(1 / (m - 2))
    lowest, highest = x_bounds[0] * 1.000001, x_bounds[1] * 0.999999
    y = np.empty((m, BLOCK), np.float32)
    x, p, p1, p2 = np.empty((4, BLOCK), np.float32)
    q, q1, q2, energy = np.empty((4, BLOCK), np.float32)
    curve, left, power = np.empty((3, BLOCK), np.float32)
    v64, d, d1, c, c1 = np.empty((5, BLOCK), np.float64)
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        for b in range(count):
            for e in range(m):
                y[e, b] = signal[start + b, e]
        for b in range(count, BLOCK):
            for e in range(m):
                y[e, b] = 0
        for b in range(BLOCK):
            p[b] = 0
            q[b] = 0
        for e in range(1, m):
            for b in range(BLOCK):
                p[b] += y[e, b] * y[e - 1, b]
                q[b] += y[e - 1, b] * y[e - 1, b]
        for b in range(BLOCK):
            energy[b] = q[b] + y[m - 1, b] * y[m - 1, b]
            x[b] = min(max(p[b] / q[b], low), high)
        for _ in range(4):  # two echoes a turn, by Horner's scheme: fewer loads and stores
            for b in range(BLOCK):
                p[b] = y[m - 1, b]
                p1[b] = 0
                p2[b] = 0
                q[b] = 1
                q1[b] = 0
                q2[b] = 0
            if odd:
                for b in range(BLOCK):
                    p1[b] = p[b]
                    p[b] = p[b] * x[b] + y[m - 2, b]
                    q1[b] = q[b]
                    q[b] = q[b] * x[b] * x[b] + one
            for e in range(m - 2 - odd, -1, -2):
                for b in range(BLOCK):
                    v = x[b]
                    z = v * v
                    a2 = p2[b] * v + p1[b]
                    a1 = p1[b] * v + p[b]
                    a0 = p[b] * v + y[e, b]
                    p2[b] = a2 * v + a1
                    p1[b] = a1 * v + a0
                    p[b] = a0 * v + y[e - 1, b]
                    a2 = q2[b] * z + q1[b]
                    a1 = q1[b] * z + q[b]
                    a0 = q[b] * z + one
                    q2[b] = a2 * z + a1
                    q1[b] = a1 * z + a0
                    q[b] = a0 * z + one
            for b in range(BLOCK):  # p2 and q2 are half of the second derivatives, those of q by x squared
                v = x[b]
                dq = two * v * q1[b]
                ddq = two * q1[b] + eight * v * v * q2[b]
                curve[b] = two * p2[b] * q[b] + half * p1[b] * dq - half * p[b] * ddq
                x[b] = min(max(v - (p1[b] * q[b] - half * p[b] * dq) / curve[b], low), high)
        for b in range(BLOCK):
            v64[b] = x[b]
            d[b] = y[m - 1, b]
            d1[b] = 0
            c[b] = 1
            c1[b] = 0
        if odd:
            for b in range(BLOCK):
                d1[b] = d[b]
                d[b] = d[b] * v64[b] + y[m - 2, b]
                c1[b] = c[b]
                c[b] = c[b] * v64[b] * v64[b] + 1.0
        for e in range(m - 2 - odd, -1, -2):
            for b in range(BLOCK):
                v = v64[b]
                z = v * v
                b1 = d1[b] * v + d[b]
                b0 = d[b] * v + y[e, b]
                d1[b] = b1 * v + b0
                d[b] = b0 * v + y[e - 1, b]
                b1 = c1[b] * z + c[b]
                b0 = c[b] * z + 1.0
                c1[b] = b1 * z + b0
                c[b] = b0 * z + 1.0
        for b in range(BLOCK):
            v = v64[b]
            dq = 2.0 * v * c1[b]
            slope = d1[b] * c[b] - 0.5 * d[b] * dq
            step = slope / curve[b]
            v64[b] = v - step
            # the information that unit amplitude and noise hold on x, the amplitude being unknown
            d1[b] = c1[b] + 2.0 * v * v * q2[b] - v * v * c1[b] * c1[b] / c[b]
            c[b] = d[b] / c[b] - slope / (c[b] * c[b]) * step + 0.5 * d[b] * dq / (c[b] * c[b]) * step
            c1[b] = abs(step) / v
            left[b] = 0
            x[b] = c[b]
            p[b] = v64[b]
            power[b] = 1
        for e in range(m):
            for b in range(BLOCK):
                gap = y[e, b] - x[b] * power[b]
                left[b] += gap * gap
                power[b] *= p[b]
        for b in range(count):
            d[b] = -step_ms / np.log(v64[b])  # a loop of its own, for it alone makes no vectors
        if first_ms == step_ms:
            for b in range(count):
                s0[start + b] = c[b] / v64[b]
        else:
            for b in range(count):
                s0[start + b] = c[b] * np.exp(first_ms / d[b])
        for b in range(count):
            t2[start + b] = d[b]
            residual[start + b] = np.sqrt(left[b] * per_echo)
            std[start + b] = d[b] * d[b] / (step_ms * v64[b] * c[b]) * np.sqrt(left[b] * per_free / d1[b])
        for b in range(count):
            good[start + b] = ((left[b] < tenth * energy[b]) & (c1[b] < 1e-5) & (curve[b] < 0) & (c[b] > 0)
                               & (v64[b] > lowest) & (v64[b] < highest))


@njit(**OPTIONS)
def refine_rician(signal, times, sigma, ratio, information, t2, s0, std, residual, good):
    """Maximum likelihood of magnitudes with Rician noise, by Fisher's scoring from the least-squares answer.

    Parameters
    ----------
    signal : (n, m) float64
    times : (m,) float64
    sigma : (n,) float64
    ratio : (k, 2) float64
    information : (k, 3) float64
        Tables of `mrmyo.t2_rician`, evenly spaced from 0.
    t2, s0, std, residual : (n,) float64, changed
        In: where to start. Out: the answer, less its second-order bias in `t2`, and the SD by the Cramér-Rao bound.
    good : (n,) bool, written
    """
    n, m = signal.shape
    r_scale, r_last = 1.0 / ratio[1, 0], ratio.shape[0] - 2
    i_scale, i_last = 1.0 / information[1, 0], information.shape[0] - 2
    decay = np.empty(m)
    for i in range(n):
        a, r, noise = s0[i] / sigma[i], 1.0 / t2[i], sigma[i]
        good[i] = False
        f00, f01, f11, det = 0.0, 0.0, 0.0, 0.0
        for _ in range(60):
            f00, f01, f11, g0, g1 = 0.0, 0.0, 0.0, 0.0, 0.0
            for e in range(m):
                decay[e] = np.exp(-r * times[e])
                mu, y = a * decay[e], signal[i, e] / noise
                z = y * mu
                at = z * r_scale
                if at <= 0:  # a magnitude is never negative; filtered images hold some all the same
                    share = 0.0
                elif at < r_last:
                    k = int(at)
                    share = ratio[k, 1] + (at - k) * (ratio[k + 1, 1] - ratio[k, 1])
                else:
                    share = 1.0 - 0.5 / z - 0.125 / (z * z)
                at = mu * i_scale
                if at < i_last:
                    k = int(at)
                    w = information[k, 1] + (at - k) * (information[k + 1, 1] - information[k, 1])
                else:
                    w = 1.0 - 0.5 / (mu * mu)
                gap = y * share - mu
                d1 = -mu * times[e]
                f00 += w * decay[e] * decay[e]
                f01 += w * decay[e] * d1
                f11 += w * d1 * d1
                g0 += gap * decay[e]
                g1 += gap * d1
            det = f00 * f11 - f01 * f01
            da, dr = (f11 * g0 - f01 * g1) / det, (f00 * g1 - f01 * g0) / det
            if not (abs(da) < 1e12 and abs(dr) < 1e12):
                break
            a += min(max(da, -0.4 * a), 0.4 * a)
            r += min(max(dr, -0.4 * r), 0.4 * r)
            if abs(dr) < 1e-7 * r and abs(da) < 1e-7 * a:
                good[i] = True
                break
        if not good[i]:
            continue
        # covariance of (s0, T2), and Box's second-order bias of T2: J Roy Stat Soc B 1971;33:171
        t = 1.0 / r
        f01, f11 = -f01 * r * r, f11 * r * r * r * r
        det = f00 * f11 - f01 * f01
        v01, v11 = -f01 / det, f00 / det
        b0, b1, left = 0.0, 0.0, 0.0
        for e in range(m):
            mu, u = a * decay[e], times[e] * r
            at = mu * i_scale
            w, mean = 1.0 - 0.5 / (mu * mu), mu + 0.5 / mu
            if at < i_last:
                k = int(at)
                w = information[k, 1] + (at - k) * (information[k + 1, 1] - information[k, 1])
                mean = information[k, 2] + (at - k) * (information[k + 1, 2] - information[k, 2])
            trace = 2.0 * v01 * decay[e] * u * r + v11 * mu * (u * u - 2.0 * u) * r * r
            b0 += w * trace * decay[e]
            b1 += w * trace * mu * u * r
            gap = signal[i, e] / noise - mean
            left += gap * gap
        sd = np.sqrt(v11)
        bias = -0.5 * (v01 * b0 + v11 * b1)
        t2[i] = t - min(max(bias, -sd), sd)
        s0[i] = a * noise
        std[i] = sd
        residual[i] = np.sqrt(left / m) * noise
