"""Thighs between those of two people, for :mod:`mrmyo.training`: few anatomies become many.

The public label maps show some twenty people. A network that sees only these learns them by heart: its Dice was 0.96 on
them and 0.85 on people left out. So most sections are blended with one of somebody else at the same level of the thigh:
every muscle glides from its place in the one to its place in the other and changes its form meanwhile.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from mrmyo.labels import MUSCLES

__all__ = ["BONE", "COMPARTMENT", "N_FIELDS", "N_MUSCLES", "STEP_MM", "between", "blend", "find_partners"]

N_MUSCLES = len(MUSCLES)
BONE, COMPARTMENT = N_MUSCLES, N_MUSCLES + 1  # positions after the muscles, which lie at their value minus one
N_FIELDS = N_MUSCLES + 2
STEP_MM = 2.0
NEAR = 0.15  # in units of `Library.level`
FASCIA_MM = 0.7  # the compartment reaches at least this far beyond every muscle


def find_partners(library, picked, rng) -> np.ndarray:
    """For every picked section one of another thigh at nearly the same level; the section itself where there is none.

    Parameters
    ----------
    library : Library
    picked : array of int
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Indices of sections, shaped like `picked`.
    """
    out = np.array(picked)
    for position, index in enumerate(picked):
        if library.kind[index] == 2:
            continue  # what is no thigh is random enough
        near = np.abs(library.level - library.level[index]) < NEAR
        near &= (library.kind == library.kind[index]) & ((library.stack != library.stack[index]) | (library.kind == 1))
        near[index] = False
        if near.any():
            out[position] = rng.choice(np.flatnonzero(near))
    return out


def blend(dice, ones, others):
    """Fields of people between `ones` and `others`, or a little beyond them.

    Parameters
    ----------
    dice : Dice
    ones, others : torch.Tensor
        (n, 15, x, y) signed distances in mm, of sections at the same level.

    Returns
    -------
    torch.Tensor
        (n, 15, x, y) in mm. The muscles need not be at the same share of the way, nor quite in their places.
    """
    whole = dice.uniform(-0.1, 0.8, 1) * dice.chance(0.8, 1)
    t = (whole + 0.15 * dice.normal(N_FIELDS) * (whole != 0)).clamp(-0.25, 1.25)
    jitter = dice.uniform(0, 1.2, 1, 1) / STEP_MM * dice.normal(N_FIELDS, 2)
    jitter[:, BONE:] = 0  # bone and fascia stay, so that the thigh does
    out = between(ones, others, t, jitter)
    muscles = out[:, :N_MUSCLES]  # people differ in how much of one muscle they have beside the others
    deepest = muscles.amax((2, 3)).clamp_min(0.5)
    larger = (dice.uniform(0, 1.4, 1) * dice.normal(N_MUSCLES)).clamp(-0.2 * deepest, 0.3 * deepest)
    out[:, :N_MUSCLES] = muscles + torch.where(deepest > 0.5, larger, 0.0)[..., None, None]
    out[:, COMPARTMENT] = torch.maximum(out[:, COMPARTMENT], out[:, :N_MUSCLES].amax(1) + FASCIA_MM)
    return out


def between(ones, others, t, jitter=0.0):
    """Every region on its way from its place and form in `ones` (t = 0) to those in `others` (t = 1).

    Parameters
    ----------
    ones, others : torch.Tensor
        (n, regions, x, y) signed distances, positive inside.
    t : torch.Tensor
        (n, regions) or (n, 1).
    jitter : torch.Tensor, optional
        (n, regions, 2) pixels by which the regions are moved besides.

    Returns
    -------
    torch.Tensor
        (n, regions, x, y). A region that only one of the two has shrinks on the way, and is gone half-way.
    """
    line = torch.arange(ones.shape[-1], device=ones.device, dtype=torch.float32)
    there = [(fields > 0).float() for fields in (ones, others)]
    count = [mask.sum((2, 3)) for mask in there]
    centre = [torch.stack([(mask.sum(3) * line).sum(2), (mask.sum(2) * line).sum(2)], -1) / c.clamp_min(1)[..., None]
              for mask, c in zip(there, count, strict=True)]
    both = (count[0] > 0) & (count[1] > 0)
    step = torch.where(both[..., None], centre[1] - centre[0], 0.0)
    moved = [_shift(ones, t[..., None] * step + jitter), _shift(others, (t[..., None] - 1) * step + jitter)]
    t, only = t[..., None, None], t.clamp(0, 1)[..., None, None]
    deepest = [fields.amax((2, 3), keepdim=True) for fields in (ones, others)]
    has_one, has_other, both = ((flag > 0)[..., None, None] for flag in (*count, both))
    out = torch.where(both, (1 - t) * moved[0] + t * moved[1], ones)
    out = torch.where(has_one & ~has_other, moved[0] - 2 * only * deepest[0], out)
    return torch.where(has_other & ~has_one, moved[1] - 2 * (1 - only) * deepest[1], out)


def _shift(fields, pixels):
    """Fields (n, c, x, y) moved by (n, c, 2) pixels; what comes in from beyond the edge is the edge."""
    n, c, size, _ = fields.shape
    matrix = torch.zeros(n * c, 2, 3, device=fields.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, :, 2] = -pixels.reshape(n * c, 2).flip(-1) * (2 / size)
    at = functional.affine_grid(matrix, (n * c, 1, size, size), align_corners=False)
    flat = functional.grid_sample(fields.reshape(n * c, 1, size, size), at, padding_mode="border", align_corners=False)
    return flat.view(n, c, size, size)
