"""The T2 fits in PyTorch, on the CPU or a GPU. Apart, so that torch is imported only where a device is asked for.

Here: which device, batches, and the fit of one exponential; :mod:`mrmyo.t2_torch_epg` has the one under stimulated
echoes, :mod:`mrmyo.t2_torch_nodes` its table. The compiled loops are the reference, and every step here is theirs,
taken by all voxels of a batch at once. Voxels that have arrived leave the batch.
"""

from __future__ import annotations

import numpy as np
import torch

from mrmyo.t2_inputs import AT_BOUND, FITTED, LOW_SIGNAL, LOW_SIGNAL_SIGMAS, NOT_FINITE, T2_BOUNDS_MS, SignalError
from mrmyo.t2_rician import information_table, ratio_table

__all__ = ["batches", "check_device", "fit_mono_on", "join", "look_up", "pick", "ratio", "upload"]

BATCH = {"cpu": 1 << 15, "cuda": 1 << 18}  # voxels at a time: a cache full, and a GPU full in a few hundred megabytes
N_GRID, MOST_STEPS, MOST_SCORES = 32, 60, 60


def check_device(device) -> torch.device:
    """The device that was asked for; an error says which there are.

    Raises
    ------
    SignalError
        When there is no such device.
    """
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if str(device) in there:
        return torch.device(str(device))
    advice = "choose one of these, or leave device out for the compiled fit, which needs none"
    if str(device).startswith("cuda") and len(there) == 1:
        built = torch.version.cuda
        why = f"PyTorch {torch.__version__} is built without CUDA" if built is None else "it sees no GPU of NVIDIA's"
        advice = f"{why}: install one that has it on a machine with such a GPU, or leave device out"
    raise SignalError(f"Found device {str(device)!r}; available here: {', '.join(there)}. To go on, {advice}.")


def batches(n, device):
    """Slices of at most as many voxels as the device takes at a time."""
    size = BATCH[device.type]
    return [slice(start, start + size) for start in range(0, n, size)]


def upload(array, device) -> torch.Tensor:
    """An array as a tensor on the device: in single precision where that holds its type, else in double."""
    narrow = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    return torch.from_numpy(np.array(array, dtype=np.float32 if narrow else np.float64, order="C")).to(device)


def pick(state, which):
    """Those of the voxels whose numbers are given, of every tensor of a dict."""
    return {name: value.index_select(0, which) for name, value in state.items()}


def look_up(table, at):
    """Between the values of an evenly spaced table, at places in steps from 0 to below its last but one."""
    k = at.long()
    low = table[k]
    return low + (at - k) * (table[k + 1] - low)


def ratio(table, z):
    """I1(z) / I0(z) from `mrmyo.t2_rician.ratio_table` on a device, and 0 where z is not positive."""
    at, last = z / float(ratio_table()[1, 0]), len(table) - 2  # the step is read where no GPU need be waited for
    inside = look_up(table[:, 1], at.clamp(0, last))
    return torch.where(z > 0, torch.where(at < last, inside, 1 - 0.5 / z - 0.125 / (z * z)), 0)


def join(parts):
    """One dict of voxels from several."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.inference_mode()
def fit_mono_on(device, signal, times, sigma=None):
    """Fit voxels on a device; arguments and answer as of :func:`mrmyo.t2_mono.fit_mono`."""
    n = len(signal)
    maps, status = np.empty((4, n), np.float32), np.empty(n, np.uint8)
    te = torch.tensor(np.asarray(times), device=device)
    tables = [torch.tensor(t, device=device) for t in (ratio_table(), information_table())] if sigma is not None else []
    for part in batches(n, device):
        data = upload(signal[part], device).double()
        found, code = _fit_batch(data, te)
        if sigma is not None:
            _refine(data, te, torch.tensor(sigma[part], device=device), found, code, *tables)
        maps[:, part], status[part] = found.float().cpu().numpy(), code.cpu().numpy()
    return dict(zip(("t2_ms", "s0", "t2_std_ms", "residual"), maps, strict=True)) | {"status": status}


def _fit_batch(signal, times):
    """Least squares: the maps T2, s0, SD of T2, residual (4, n) in double precision, and the status."""
    peak = signal.amax(1)
    status = torch.full(peak.shape, FITTED, dtype=torch.uint8, device=signal.device)
    status[~(peak > 0)] = LOW_SIGNAL
    status[~signal.isfinite().all(1)] = NOT_FINITE
    maps = signal.new_full((4, len(signal)), torch.nan)
    good = (status == FITTED).nonzero()[:, 0]
    if not len(good):
        return maps, status
    scale = peak[good]
    data = signal[good] / scale[:, None]
    r2, inside = _search(data, times)
    status[good[~inside]] = AT_BOUND
    good, data, scale, r2 = good[inside], data[inside], scale[inside], r2[inside]

    decay = torch.exp(-r2[:, None] * times)
    sums = (decay * decay) @ torch.stack([times**0, times, times**2], 1)
    s0 = (decay * data).sum(1) / sums[:, 0]
    left = ((data - s0[:, None] * decay) ** 2).sum(1)
    variance = left / (len(times) - 2)
    information = s0**2 * (sums[:, 2] - sums[:, 1] ** 2 / sums[:, 0])
    std = torch.sqrt(variance / information) / r2**2
    maps[:, good] = torch.stack([1 / r2, s0 * scale, std, torch.sqrt(left / len(times)) * scale])
    return maps, status


def _search(data, times):
    """As :func:`mrmyo.t2_mono.search_r2`: the best of a grid, then Newton's steps kept within a bracket."""
    grid = torch.tensor(np.geomspace(1 / T2_BOUNDS_MS[1], 1 / T2_BOUNDS_MS[0], N_GRID), device=data.device)
    basis = torch.exp(-grid[:, None] * times)
    best = (data @ (basis / basis.norm(dim=1, keepdim=True)).T).argmax(1)
    r2 = grid[best]
    powers = torch.stack([times**0, -times, times**2], 1)
    powers_squared = torch.stack([times**0, -2 * times, 4 * times**2], 1)
    state = {"at": torch.arange(len(data), device=data.device), "x": r2.clone(), "data": data,
             "low": grid[(best - 1).clamp(min=0)], "high": grid[(best + 1).clamp(max=N_GRID - 1)]}
    for _ in range(MOST_STEPS):
        x = state["x"]
        decay = torch.exp(-x[:, None] * times)
        p, p1, p2 = ((state["data"] * decay) @ powers).unbind(1)
        q, q1, q2 = ((decay * decay) @ powers_squared).unbind(1)
        slope, curve = p1 * q - 0.5 * p * q1, p2 * q + 0.5 * p1 * q1 - 0.5 * p * q2
        rising = slope > 0
        state["low"], state["high"] = torch.where(rising, x, state["low"]), torch.where(rising, state["high"], x)
        step = x - slope / curve
        trusted = (curve < 0) & (step > state["low"]) & (step < state["high"])
        state["x"] = torch.where(trusted, step, 0.5 * (state["low"] + state["high"]))
        r2[state["at"]] = state["x"]
        moving = ((state["x"] - x).abs() > 1e-10 * x).nonzero()[:, 0]
        if not len(moving):
            break
        state = pick(state, moving)
    edge = 1e-6
    inside = (r2 > grid[0] * (1 + edge)) & (r2 < grid[-1] * (1 - edge))
    return r2, inside & ((data * torch.exp(-r2[:, None] * times)).sum(1) > 0)


def _refine(signal, times, sigma, maps, status, ratios, informed):
    """Least squares to the maximum of the Rician likelihood, in place."""
    low = (status != NOT_FINITE) & ~(signal.amax(1) > LOW_SIGNAL_SIGMAS * sigma)
    status[low] = LOW_SIGNAL
    maps[:, low] = torch.nan
    found = (status == FITTED).nonzero()[:, 0]
    if not len(found):
        return
    noise = sigma[found]
    y = signal[found] / noise[:, None]
    answer, good = _score(y, times, maps[1, found] / noise, 1 / maps[0, found], ratios, informed)
    answer[[1, 3]] *= noise
    good &= (answer[0] > T2_BOUNDS_MS[0]) & (answer[0] < T2_BOUNDS_MS[1])
    answer[:, ~good] = torch.nan
    status[found[~good]] = AT_BOUND
    maps[:, found] = answer


def _score(y, times, a, r, ratios, informed):
    """Fisher's scoring, as `mrmyo.t2_kernels.refine_rician`: T2, s0, SD of T2 and residual, and where it ended.

    `y` is in units of the noise, and so is the amplitude `a` to start from, at the rate `r`.
    """
    m_step, m_last = float(information_table()[1, 0]), len(informed) - 2
    good = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    final = y.new_full((5, len(y)), torch.nan)  # a, r, and the information on them
    state = {"at": torch.arange(len(y), device=y.device), "y": y, "a": a, "r": r}

    def of_mean(mu, column, beyond):
        at = mu / m_step
        return torch.where(at < m_last, look_up(informed[:, column], at.clamp(0, m_last)), beyond)

    for _ in range(MOST_SCORES):
        a, r = state["a"], state["r"]
        decay = torch.exp(-r[:, None] * times)
        mu = a[:, None] * decay
        gap = state["y"] * ratio(ratios, state["y"] * mu) - mu
        w, d1 = of_mean(mu, 1, 1 - 0.5 / (mu * mu)), -mu * times
        f00, f01, f11 = (w * decay * decay).sum(1), (w * decay * d1).sum(1), (w * d1 * d1).sum(1)
        g0, g1 = (gap * decay).sum(1), (gap * d1).sum(1)
        det = f00 * f11 - f01 * f01
        da, dr = (f11 * g0 - f01 * g1) / det, (f00 * g1 - f01 * g0) / det
        sane = (da.abs() < 1e12) & (dr.abs() < 1e12)
        a = a + torch.minimum(torch.maximum(da, -0.4 * a), 0.4 * a)
        r = r + torch.minimum(torch.maximum(dr, -0.4 * r), 0.4 * r)
        done = sane & (dr.abs() < 1e-7 * r) & (da.abs() < 1e-7 * a)
        at = state["at"][done]
        good[at] = True
        final[:, at] = torch.stack([a, r, f00, f01, f11])[:, done]
        moving = (sane & ~done).nonzero()[:, 0]
        if not len(moving):
            break
        state = pick(state | {"a": a, "r": r}, moving)

    # covariance of (s0, T2), and Box's second-order bias of T2: J Roy Stat Soc B 1971;33:171
    a, r, f00, f01, f11 = final
    f01, f11 = -f01 * r**2, f11 * r**4
    det = f00 * f11 - f01 * f01
    v01, v11 = -f01 / det, f00 / det
    decay, u = torch.exp(-r[:, None] * times), r[:, None] * times
    mu = (a[:, None] * decay).nan_to_num(1.0)  # no places in a table for those that have not ended
    w, mean = of_mean(mu, 1, 1 - 0.5 / (mu * mu)), of_mean(mu, 2, mu + 0.5 / mu)
    trace = 2 * (v01 * r)[:, None] * decay * u + (v11 * r**2)[:, None] * mu * (u * u - 2 * u)
    b0, b1 = (w * trace * decay).sum(1), (w * trace * mu * u).sum(1) * r
    sd = torch.sqrt(v11)
    bias = -0.5 * (v01 * b0 + v11 * b1)
    t2 = 1 / r - torch.minimum(torch.maximum(bias, -sd), sd)
    return torch.stack([t2, a, sd, torch.sqrt(((y - mean) ** 2).mean(1))]), good
