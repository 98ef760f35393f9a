"""The table of the stimulated-echo fit on a device, and what voxels ask of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import embedding_bag

from mrmyo.t2_rician import ratio_table

__all__ = ["Nodes", "echo_sums", "linear_model", "node_sums", "of_shares", "signal_sums", "to_nodes"]

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of signal, derivative by u, by p


@dataclass(frozen=True)
class Nodes:
    """A table of `mrmyo.t2_epg_table` on a device, echoes before parts: water (n_u * n_p, m, 3), fat (n_p, m, 2)."""

    water: torch.Tensor
    fat: torch.Tensor
    plain_water: torch.Tensor  # the signals alone, in double precision
    plain_fat: torch.Tensor
    sums: torch.Tensor  # (n_u * n_p, 3, 6): over the echoes, pairs of water, of water and fat, of fat
    inverse: torch.Tensor
    variance: torch.Tensor
    starts: torch.Tensor
    basis: torch.Tensor  # (m, 6) in single precision
    corner: torch.Tensor
    nearest: torch.Tensor
    ratios: torch.Tensor
    n_u: int
    n_p: int
    axes: tuple[float, float, float, float]
    with_fat: bool


def to_nodes(table, device, with_fat) -> Nodes:
    """The table on the device."""
    m, (n_u, n_p) = table.n_echoes, table.water.shape[:2]

    def rows(array):
        return torch.tensor(array[..., :m], device=device).transpose(-1, -2).contiguous()

    water, fat = rows(table.water).flatten(0, 1), rows(table.fat)
    w, f = water.double(), torch.zeros(n_p, m, 3, dtype=torch.float64, device=device)
    f[..., 0], f[..., 2] = fat[..., 0], fat[..., 1]  # fat has no derivative by u
    f = f.repeat(n_u, 1, 1)
    ww, wf, fw, ff = (torch.stack([(x[..., b] * y[..., c]).sum(1) for b, c in PAIRS], 1)
                      for x, y in ((w, w), (w, f), (f, w), (f, f)))
    variance = torch.tensor(table.variance, device=device).flatten(0, 1)
    others = (torch.tensor(array, device=device) for array in (table.corner, table.nearest, ratio_table()))
    return Nodes(water, fat, water[..., :1].double(), fat[..., :1].double(), torch.stack([ww, wf + fw, ff], 1),
                 rows(table.inverse).flatten(0, 1), variance, torch.tensor(table.starts, device=device),
                 rows(table.basis), *others, n_u, n_p, tuple(table.axes.tolist()), with_fat)


def echo_sums(rows, y, node):
    """Over the echoes, of signals (n, m) times the rows (nodes, m, parts) of the node of each: (n, parts).

    Looked up and added in one go, never in the reduced precision that matrix products may have on a GPU, and for each
    voxel the same in any batch.
    """
    m = y.shape[1]
    where = (node * m).int()[:, None] + torch.arange(m, dtype=torch.int32, device=y.device)
    return embedding_bag(where, rows.flatten(0, 1), per_sample_weights=y, mode="sum")


def signal_sums(state, i, j, nodes):
    """Of a node's signal with y, and with itself, in double precision: parabolas are of small differences."""
    f, y, node = state["f"], state["y"].double(), i * nodes.n_p + j
    top = echo_sums(nodes.plain_water, y, node)[:, 0]
    if not nodes.with_fat:
        return top, nodes.sums[:, 0, 0][node]
    fat = echo_sums(nodes.plain_fat, y, j)[:, 0]
    return (1 - f) * top + f * fat, of_shares(*nodes.sums[node, :, 0].unbind(1), f)


def of_shares(water, mixed, fat, f):
    """What sums over water, water with fat, and fat give for a share of fat."""
    g = 1 - f
    return g * g * water + g * f * mixed + f * f * fat


def node_sums(state, nodes):
    """Of signal and derivatives with y (three), and with each other (n, 6)."""
    f, node = state["f"], state["i"] * nodes.n_p + state["j"]
    t0, t1, t2 = echo_sums(nodes.water, state["y"], node).double().unbind(1)
    if not nodes.with_fat:
        return t0, t1, t2, nodes.sums[:, 0][node]
    fat, by_p = echo_sums(nodes.fat, state["y"], state["j"]).double().unbind(1)
    g = 1 - f
    return g * t0 + f * fat, g * t1, g * t2 + f * by_p, of_shares(*nodes.sums[node].unbind(1), f[:, None])


def linear_model(s, nodes):
    """The echoes of the linear model at its node, for unit amplitude."""
    rows = nodes.water[s["i"] * nodes.n_p + s["j"]]
    du, dp = (s[name].float()[:, None] for name in ("du", "dp"))
    model = rows[..., 0] + du * rows[..., 1] + dp * rows[..., 2]
    if not nodes.with_fat:
        return model
    fat, f = nodes.fat[s["j"]], s["f"].float()[:, None]
    return (1 - f) * model + f * (fat[..., 0] + dp * fat[..., 1])
