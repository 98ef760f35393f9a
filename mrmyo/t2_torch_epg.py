"""The stimulated-echo fit in PyTorch: from node to node of the table, all voxels of a batch at once.

The same steps as the compiled loops of :mod:`mrmyo.t2_epg_free` and :mod:`mrmyo.t2_epg_kernels`, where they are
explained.
"""

from __future__ import annotations

import numpy as np
import torch

from mrmyo.t2_epg_free import LOOKUPS as FREE_LOOKUPS
from mrmyo.t2_epg_kernels import LOOKUPS, NARROW
from mrmyo.t2_epg_steps import NEAR
from mrmyo.t2_inputs import AT_BOUND, FITTED, LOW_SIGNAL, LOW_SIGNAL_SIGMAS, NOT_FINITE
from mrmyo.t2_torch import batches, join, pick, ratio, upload
from mrmyo.t2_torch_nodes import echo_sums, linear_model, node_sums, of_shares, signal_sums, to_nodes

__all__ = ["fit_epg_on"]

TURNS, MOST_CLIMBS = 4, 400


@torch.inference_mode()
def fit_epg_on(device, signal, table, prior, prior_sd, *, n_first, sigma=None, fat_fraction=None, plain=False):
    """Fit voxels on a device.

    Parameters
    ----------
    device : torch.device
    signal : numpy.ndarray, (n, m)
    table : mrmyo.t2_epg_table.Table
    prior, prior_sd : numpy.ndarray, (n,)
        As for `mrmyo.t2_epg_kernels.fit_table`.
    n_first : int
    sigma, fat_fraction : numpy.ndarray, (n,), optional
    plain : bool
        Try the quick way of `mrmyo.t2_epg_free.fit_free` first.

    Returns
    -------
    out : numpy.ndarray, (6, n) of float32
        T2, s0, SD of T2, residual, p, SD of p; NaN where not fitted.
    status : numpy.ndarray, (n,) of uint8
    """
    n, nodes = len(signal), to_nodes(table, device, fat_fraction is not None)
    out, status = np.empty((6, n), np.float32), np.empty(n, np.uint8)
    for part in batches(n, device):
        data = upload(signal[part], device)
        found = torch.full((6, len(data)), torch.nan, device=device)
        code = torch.full((len(data),), FITTED, dtype=torch.uint8, device=device)
        rest = torch.arange(len(data), device=device)
        if plain:
            rest = _free(data.float(), nodes, found)
        if len(rest):
            columns = (data.new_zeros(len(data)) if values is None else upload(values[part], device)
                       for values in (sigma, fat_fraction, prior, prior_sd))
            columns = (column.float()[rest] for column in columns)
            found[:, rest], code[rest] = _rest(data[rest].double(), nodes, n_first, *columns)
        out[:, part], status[part] = found.cpu().numpy(), code.cpu().numpy()
    return out, status


def _cells(step, bold, most):
    """As `mrmyo.t2_epg_steps.cells`."""
    far = torch.round(bold * step.clamp(-most, most))
    far = torch.where(far == 0, torch.where(step > 0, 1.0, -1.0).to(far), far)
    return torch.where(step.abs() <= NEAR, 0, far.nan_to_num()).long()


def _sums(signal, nodes):
    """Sums over the echoes, in full single precision; the first three tell most of a decay."""
    return (signal[..., None] * nodes.basis).sum(1)


def _meet(state, du, dp, across_u, across_p):
    """As `mrmyo.t2_epg_steps.meet`, from the step before in `state`; in cells."""
    here = du * across_u + dp * across_p
    there = state["old_u"] * across_u + state["old_p"] * across_p
    back = (across_u.abs() <= 1) & (across_p.abs() <= 1) & (here > 0) & (there < 0)
    return torch.where(back, here / (here - there), 0)


def _free(signal, nodes, out):
    """No fat, B1 free, least squares: write what is sure into `out`; the numbers of all other voxels."""
    n_u, n_p, m = nodes.n_u, nodes.n_p, signal.shape[1]
    u0, hu, p0, hp = nodes.axes
    total, second, third = _sums(signal, nodes)[:, :3].unbind(1)
    peak = signal.amax(1)
    begun = ((total > 0) & (peak > 1e-15) & (peak < 1e15)).nonzero()[:, 0]
    last = len(nodes.nearest) - 1
    cell = [((x[begun] / total[begun] - low) * scale).clamp(0, last).add(0.5).long()
            for x, (low, scale) in zip((second, third), nodes.corner, strict=True)]
    node = nodes.nearest[cell[0], cell[1]].long()
    zero = torch.zeros_like(total[begun])
    state = {"at": begun, "y": signal[begun], "i": node // n_p, "j": node % n_p, "old_i": node * 0 - 9,
             "old_j": node * 0, "old_a": zero, "old_u": zero, "old_p": zero}
    ended = []

    def solve(state):
        return echo_sums(nodes.inverse, state["y"], state["i"] * (n_p + 1) + state["j"]).unbind(1)

    for look in range(FREE_LOOKUPS):
        if not len(state["at"]):
            break
        a, x1, x2 = solve(state)
        i, j, du, dp = state["i"], state["j"], x1 / a, x2 / a
        sane = (a > 0) & (du.abs() < 1e6) & (dp.abs() < 1e6)
        near = (du.abs() <= NEAR) & (dp.abs() <= NEAR)
        bold = 1.0 if look < 4 else 0.5
        ni, nj = i + _cells(du, bold, 12), j + _cells(dp, bold, 6)
        within = (ni >= 0) & (ni < n_u) & ~((nj >= n_p) & (j == n_p - 1))
        nj = torch.where((j == n_p) | ((nj < 0) & (j == 0)), n_p, nj.clamp(0, n_p - 1))
        back = ~near & (ni == state["old_i"]) & (nj == state["old_j"])
        t = torch.where(back, _meet(state, du, dp, ni - i, nj - j), 0)
        near |= t > 0
        answer = {"a": a + t * (state["old_a"] - a), "du": du + t * (ni - i + state["old_u"] - du),
                  "dp": dp + t * (nj - j + state["old_p"] - dp)}
        answer |= {name: state[name] for name in ("at", "y", "i", "j")}
        ended.append(pick(answer, (sane & near).nonzero()[:, 0]))
        moved = state | {"i": ni, "j": nj, "old_i": i, "old_j": j, "old_a": a, "old_u": du, "old_p": dp}
        state = pick(moved, (sane & ~near & within).nonzero()[:, 0])

    sure = torch.zeros(len(signal), dtype=torch.bool, device=signal.device)
    if ended and sum(len(part["at"]) for part in ended):
        s = join(ended)
        beyond = (s["j"] < n_p) & (s["j"] + s["dp"].double() < 0)  # just beyond perfect pulses: once more, held there
        s["j"] = torch.where(beyond, n_p, s["j"])
        a, x1, _ = solve(s)
        s["a"], s["du"] = torch.where(beyond, a, s["a"]), torch.where(beyond, x1 / a, s["du"])
        along = s["i"] + s["du"].double()
        held = s["j"] == n_p
        bad = ~held & (s["j"] + s["dp"].double() > n_p - 1)
        bad |= (along <= 0) | (along >= n_u - 1) | ~(s["du"].abs() < 2)
        k = s["i"] * (n_p + 1) + s["j"]
        s["j"], s["dp"] = torch.where(held, 0, s["j"]), torch.where(held, 0, s["dp"])
        du, dp = s["du"] * hu, s["dp"] * hp
        rows = nodes.water[s["i"] * n_p + s["j"]]
        model = rows[..., 0] + du[:, None] * rows[..., 1] + dp[:, None] * rows[..., 2]
        left = ((s["y"] - s["a"][:, None] * model) ** 2).sum(1)
        noise = left / (m - 3)
        t2 = torch.exp(u0 + s["i"].double() * hu + du.double())
        var_u, var_p = nodes.variance[k].unbind(1)
        found = [t2, s["a"], t2 * torch.sqrt(noise * var_u) / s["a"], torch.sqrt(left / m),
                 p0 + s["j"].double() * hp + dp.double(), torch.sqrt(noise * var_p) / s["a"]]
        good = s["at"][~bad]
        out[:, good] = torch.stack([x.float() for x in found])[:, ~bad]
        sure[good] = True
    return (~sure).nonzero()[:, 0]


def _rest(signal, nodes, n_first, noise, share, prior, prior_sd):
    """As `mrmyo.t2_epg._fit_rest`, from signals in double precision: the answers (6, n) and the status."""
    peak = signal.amax(1)
    status = torch.full(peak.shape, FITTED, dtype=torch.uint8, device=signal.device)
    status[~(peak > LOW_SIGNAL_SIGMAS * noise)] = LOW_SIGNAL
    status[~signal.isfinite().all(1)] = NOT_FINITE
    status[(status == FITTED) & ~share.isfinite()] = NOT_FINITE
    at = (status == FITTED).nonzero()[:, 0]
    out = torch.full((6, len(signal)), torch.nan, device=signal.device)
    if not len(at):
        return out, status
    scale = peak[at]
    seen = (signal[at] / scale[:, None]).float()
    state = {"at": at, "y": seen, "seen": seen, "f": share[at].clamp(0, 1).double(),
             "noise": (noise[at] / scale).float().double(), "prior": prior[at].double(), "sd": prior_sd[at].double()}
    status[at] = AT_BOUND
    begun = _begin(state, nodes, n_first)
    settled, lost = _walk(begun, nodes) if len(begun["at"]) else (begun, begun)
    for part in (settled, _climb(lost, nodes) if len(lost["at"]) else lost):
        if len(part["at"]):
            at, answer, good = _answer(part, nodes)
            status[at[good]] = FITTED
            out[:, at[good]] = answer[:, good]
    out[[1, 3]] *= peak.float()
    return out, status


def _begin(state, nodes, n_first):
    """The node to begin from, of the ones proposed: the one that explains most."""
    u, p = nodes.starts.unbind(1)
    p0, hp = nodes.axes[2:]
    held, bounded = state["sd"] == 0, state["sd"] < 1e6
    k_held = torch.round((state["prior"] - p0) / hp).clamp(0, nodes.n_p - 1).long()
    k_held = torch.where(bounded, k_held, 0)
    f, node, sums = state["f"][:, None], u * nodes.n_p + p, _sums(state["y"], nodes).double()
    tell = nodes.basis.double()
    top = (1 - f) * (sums @ (nodes.plain_water[node, :, 0] @ tell).T)
    top = top + f * (sums @ (nodes.plain_fat[p, :, 0] @ tell).T)
    best, which = _gain(top, of_shares(*nodes.sums[node, :, 0].T, f)).max(1)
    i, j = u[which], p[which]
    near = (state["sd"] < NARROW).nonzero()[:, 0]  # known well enough to begin from there
    if len(near):
        part = {name: state[name][near] for name in ("y", "f")}
        j[near] = k_held[near]
        tops = [_gain(*signal_sums(part, first.expand_as(near), j[near], nodes)) for first in u[:n_first]]
        best[near], which = torch.stack(tops, 1).max(1)
        i[near] = u[which]
    zero = torch.zeros_like(best)
    state |= {"held": held, "bounded": bounded, "fixed": held, "k_held": k_held, "best": best, "i": i, "j": j,
              "a": zero, "du": zero, "dp": zero, "turns": torch.zeros_like(i), "c": zero[:, None].expand(-1, 6),
              "old_i": i * 0 - 9, "old_j": i * 0, "old_a": zero, "old_u": zero, "old_p": zero}
    return pick(state, (best > 0).nonzero()[:, 0])


def _gain(top, below):
    """Of a signal's energy, by what is no decay turned upside down."""
    return torch.where(top > 0, top * top / below, -1)


def _walk(s, nodes):
    """Gauss-Newton from node to node; the voxels that settle, and those that go in circles."""
    _, hu, p0, hp = nodes.axes
    n_u, n_p = nodes.n_u, nodes.n_p
    settled, lost = [], []
    for look in range(LOOKUPS):
        if not len(s["at"]):
            break
        i, j, noise, fixed = s["i"], s["j"], s["noise"], s["fixed"]
        t0, t1, t2, c = node_sums(s, nodes)
        c00, c01, c02, c11, c12, c22 = c.unbind(1)
        here = p0 + j.double() * hp
        amp = torch.where(s["a"] > 0, s["a"], t0 / c00)
        rel = torch.where(noise > 0, noise / amp, 0.01)
        lam = torch.where(s["bounded"] & ~s["held"], (rel / s["sd"]) ** 2, 0)
        s2 = t2 + lam * (s["prior"] - here) * amp
        # where p is held: within its cell, the model moves along with it
        shift = torch.where(s["held"], s["prior"] - here, s["dp"]).clamp(-0.5 * hp, 0.5 * hp)
        h00, h01, h0 = c00 + 2 * shift * c02 + shift * shift * c22, c01 + shift * c12, t0 + shift * t2
        det = h00 * c11 - h01 * h01
        a_held, x_held = (c11 * h0 - h01 * t1) / det, (h00 * t1 - h01 * h0) / det
        c22 = c22 + lam
        d01, d02 = c01 / c00, c02 / c00
        e11, e12, e22 = c11 - d01 * c01, c12 - d01 * c02, c22 - d02 * c02
        b1, b2 = t1 - d01 * t0, s2 - d02 * t0
        det = e11 * e22 - e12 * e12
        x1, x2 = (e22 * b1 - e12 * b2) / det, (e11 * b2 - e12 * b1) / det
        a = torch.where(fixed, a_held, (t0 - c01 * x1 - c02 * x2) / c00)
        du, dp = torch.where(fixed, x_held, x1) / a, torch.where(fixed, shift, x2 / a)
        c = torch.stack([torch.where(fixed, h00, c00), torch.where(fixed, h01, c01), c02, c11, c12, c22], 1)

        sane = (a > 0) & (du.abs() < 1e6) & (dp.abs() < 1e6)
        bold = 1.0 if look < 5 else 0.5 if look < 12 else 0.3
        ni = (i + _cells(du / hu, bold, 12)).clamp(0, n_u - 1)
        nj = torch.where(fixed, j, (j + _cells(dp / hp, bold, 6)).clamp(0, n_p - 1))
        beyond = ((j == 0) & (here + dp < p0)) | ((j == n_p - 1) & (here + dp > p0 + (n_p - 1) * hp))
        beyond &= ~fixed
        back = sane & ~beyond & (ni == s["old_i"]) & (nj == s["old_j"])
        t = torch.where(back, _meet(s, du / hu, dp / hp, ni - i, nj - j), 0)
        old = {"old_i": torch.where(beyond, -9, i), "old_j": j, "old_a": a, "old_u": du / hu, "old_p": dp / hp}
        a = a + t * (s["old_a"] - a)
        du, dp = du + t * ((ni - i + s["old_u"]) * hu - du), dp + t * ((nj - j + s["old_p"]) * hp - dp)
        dp = torch.where((t > 0) & ~fixed, torch.maximum(torch.minimum(dp, p0 + (n_p - 1) * hp - here), p0 - here), dp)
        ni, nj = torch.where(t > 0, i, ni), torch.where(t > 0, j, nj)
        there = sane & ~beyond & (ni == i) & (nj == j)
        done = there & ((noise == 0) | (s["turns"] >= TURNS))
        s |= {"a": a, "du": du, "dp": dp, "c": c}
        settled.append(pick(s, done.nonzero()[:, 0]))
        lost.append(pick(s, (~sane).nonzero()[:, 0]))
        s |= {"i": ni, "j": torch.where(beyond, j, nj), "dp": torch.where(beyond, 0, dp), "fixed": fixed | beyond}
        s |= old
        turned = (there & ~done).nonzero()[:, 0]
        if len(turned):  # magnitudes to what the likelihood of Rician noise takes for signals, then once more
            t = pick(s, turned)
            mu = t["a"][:, None] * linear_model(t, nodes)
            z = t["seen"] * mu / (t["noise"] ** 2)[:, None]
            y = t["seen"] * ratio(nodes.ratios, z)
            s["y"], s["turns"] = s["y"].index_copy(0, turned, y.float()), s["turns"] + (there & ~done)
            s["old_i"] = torch.where(there, -9, s["old_i"])
        s = pick(s, (sane & ~done).nonzero()[:, 0])
    return join(settled), join([*lost, s])


def _climb(s, nodes):
    """As `mrmyo.t2_epg_kernels._climb`, with the amplitude after it; those that still have none are left out."""
    _, hu, p0, hp = nodes.axes
    n_u, n_p, held = nodes.n_u, nodes.n_p, s["held"]
    rel = torch.where(s["noise"] > 0, s["noise"], 0.01 * torch.sqrt(s["best"])) / s["sd"]
    s["weight"] = torch.where(held | ~s["bounded"], 0, rel**2)

    def explained(s, i, j):
        top, below = signal_sums(s, i, j, nodes)
        return top * top.abs() / below - s["weight"] * (p0 + j.double() * hp - s["prior"]) ** 2

    s["j"] = torch.where(held, s["k_held"], s["j"])
    s["number"] = torch.arange(len(held), device=held.device)
    s["here"] = explained(s, s["i"], s["j"])
    part = {name: s[name] for name in ("number", "y", "f", "weight", "prior", "held", "i", "j", "here")}
    for _ in range(MOST_CLIMBS):
        if not len(part["number"]):
            break
        i, j, best, bi, bj = part["i"], part["j"], part["here"], part["i"], part["j"]
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                ni, nj = i + di, j + dj
                value = explained(part, ni.clamp(0, n_u - 1), nj.clamp(0, n_p - 1))
                better = (value > best) & (ni >= 0) & (ni < n_u) & (nj >= 0) & (nj < n_p)
                better &= ~part["held"] if dj else True
                best = torch.where(better, value, best)
                bi, bj = torch.where(better, ni, bi), torch.where(better, nj, bj)
        s["i"], s["j"] = s["i"].index_copy(0, part["number"], bi), s["j"].index_copy(0, part["number"], bj)
        climbed = ((bi != i) | (bj != j)).nonzero()[:, 0]
        part = pick(part | {"i": bi, "j": bj, "here": best}, climbed)

    i, j = s["i"], s["j"]
    ci, cj = i.clamp(1, n_u - 2), j.clamp(1, n_p - 2)
    e = [[explained(s, ci + di, torch.where(held, j, cj + dj)) for dj in (-1, 0, 1)] for di in (-1, 0, 1)]
    gu, guu = 0.5 * (e[2][1] - e[0][1]), e[2][1] - 2 * e[1][1] + e[0][1]
    gp, gpp = 0.5 * (e[1][2] - e[1][0]), e[1][2] - 2 * e[1][1] + e[1][0]
    gup = 0.25 * (e[2][2] - e[2][0] - e[0][2] + e[0][0])
    det = guu * gpp - gup * gup
    both = ~held & (det > 0) & (guu < 0)
    du = torch.where(both, (gup * gp - gpp * gu) / det, -gu / guu)
    dp = torch.where(both, (gup * gu - guu * gp) / det, 0)
    i, j = i.double(), j.double()
    dp = torch.minimum(torch.maximum(cj + dp, (j - NEAR).clamp(min=0)), (j + NEAR).clamp(max=n_p - 1)) - j
    du = torch.where(guu < 0, torch.minimum(torch.maximum(ci + du, i - NEAR), i + NEAR) - i, 0)
    s |= {"du": du * hu, "dp": torch.where(held, 0, dp) * hp}
    w = linear_model(s, nodes)
    a = (w * s["y"]).sum(1, dtype=torch.float64) / (w * w).sum(1, dtype=torch.float64)
    c = node_sums(s, nodes)[3].clone()
    c[:, 5] += s["weight"] / (a * a)
    return pick(s | {"a": a, "c": c}, (a > 0).nonzero()[:, 0])


def _answer(s, nodes):
    """Numbers of voxels, their answers (6, n), and which of them lie within bounds."""
    u0, hu, p0, hp = nodes.axes
    m, a, noise, fixed = s["y"].shape[1], s["a"], s["noise"], s["fixed"]
    left = ((s["y"] - a.float()[:, None] * linear_model(s, nodes)) ** 2).sum(1).double()
    u = u0 + s["i"].double() * hu + s["du"]
    t2 = torch.exp(u)
    variance = torch.where(noise > 0, noise * noise, left / (m - torch.where(fixed, 2, 3)))
    c00, c01, c02, c11, c12, c22 = s["c"].unbind(1)
    e11, e12, e22 = c11 - c01 * c01 / c00, c12 - c01 * c02 / c00, c22 - c02 * c02 / c00
    det = e11 * e22 - e12 * e12
    alone = s["held"] | (fixed & ~s["bounded"])
    unit, unit_p = torch.where(alone, 1 / e11, e22 / det), torch.where(alone, 0, e11 / det)
    answer = [t2, a, t2 * torch.sqrt(variance * unit) / a, torch.sqrt(left / m), p0 + s["j"].double() * hp + s["dp"],
              torch.sqrt(variance * unit_p) / a]
    return s["at"], torch.stack(answer).float(), (u > u0) & (u < u0 + (nodes.n_u - 1) * hu)
