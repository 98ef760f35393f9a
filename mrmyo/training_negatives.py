"""Sections that are no mid-thigh, for :mod:`mrmyo.training_anatomy`: calf, knee, pelvis, and anything else."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["draw_negative"]


def draw_negative(rng, x, y, n_muscles) -> np.ndarray:
    """Fields of one random section: bellies in an outline, with bones.

    Parameters
    ----------
    rng : numpy.random.Generator
    x, y : array
        The grid in mm, shaped (i, j).
    n_muscles : int
        Among how many fields the bellies are shared out.

    Returns
    -------
    numpy.ndarray
        (n_muscles + 2, i, j) signed distances in mm, positive inside: bellies, bone, compartment.
    """
    half, bones, n_bellies, gap_mm = rng.choice([_calf, _knee, _hip, _hip, _pelvis, _anything])(rng)
    angle = np.arctan2(y, x)
    wobble = 1 + sum(rng.normal(0, 0.05) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    outline = np.hypot(x / half[0], y / half[1]) < wobble
    step = float(x[1, 0] - x[0, 0])
    compartment = _signed(outline, step)
    bone = np.full(x.shape, -30.0)
    for cx, cy, rx, ry in bones:
        bone = np.maximum(bone, (1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * min(rx, ry))
    out = np.full((n_muscles + 2, *x.shape), -30.0)
    room = outline & (bone < -1)
    spots = np.argwhere(room)
    if n_bellies and len(spots) > 100:
        seeds = spots[rng.integers(0, len(spots), n_bellies)] * step
        away = np.stack([np.hypot((step * np.arange(len(x))[:, None] - a) * rng.uniform(0.6, 1.6),
                                  step * np.arange(x.shape[1]) - b) for a, b in seeds])
        away += 3 * ndimage.zoom(rng.normal(size=(7, 7)), np.array(x.shape) / 7, order=1)
        nearest = away.argmin(0)
        for i in range(n_bellies):
            field = _signed(room & (nearest == i), step) - gap_mm * rng.uniform(0.3, 1.5)
            out[i % n_muscles] = np.maximum(out[i % n_muscles], field)
    out[-2], out[-1] = bone, compartment
    return out


def _signed(mask, step):
    if not mask.any() or mask.all():
        return np.full(mask.shape, 30.0 if mask.all() else -30.0)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return step * (inside - outside - 0.5 * np.sign(inside - outside))


def _calf(rng):
    """Half axes of the outline, bones (x, y, half axes), number of bellies, gaps in mm."""
    half = rng.uniform(38, 60, 2)
    tibia = (rng.uniform(0, 0.45) * half[0], rng.uniform(0.1, 0.6) * half[1], *rng.uniform(11, 20, 2))
    fibula = (-rng.uniform(0.3, 0.7) * half[0], rng.uniform(-0.2, 0.4) * half[1], *np.full(2, rng.uniform(5, 9)))
    return half, [tibia, fibula], int(rng.integers(4, 9)), rng.uniform(0.3, 3)


def _knee(rng):
    half = rng.uniform(45, 65, 2)
    apart, size = rng.uniform(15, 26), rng.uniform(18, 30)
    bones = [(sign * apart, rng.normal(0, 6), size * rng.uniform(0.9, 1.1), size * rng.uniform(1.0, 1.4))
             for sign in (-1, 1)]
    bones.append((rng.normal(0, 4), rng.normal(0, 4), apart, 0.8 * size))
    if rng.random() < 0.6:
        bones.append((rng.normal(0, 8), half[1] * rng.uniform(0.7, 0.85), rng.uniform(14, 24), rng.uniform(7, 12)))
    return half, bones, int(rng.integers(0, 7)), rng.uniform(2, 8)


def _pelvis(rng):
    """Half of a pelvis: the field is filled, bones are large and many."""
    half = np.array([rng.uniform(85, 150), rng.uniform(75, 115)])
    bones = [(*rng.uniform(-0.7, 0.7, 2) * half, *rng.uniform(7, 32, 2)) for _ in range(rng.integers(1, 6))]
    return half, bones, int(rng.integers(6, 22)), rng.uniform(0.3, 4)


def _hip(rng):
    """The head or neck of the femur in its socket, the ischium or pubis, the buttock behind."""
    half = np.array([rng.uniform(75, 115), rng.uniform(70, 105)])
    head = rng.uniform(20, 28)
    x, y = rng.uniform(-0.35, 0.25) * half[0], rng.uniform(-0.15, 0.35) * half[1]
    bones = [(x, y, head, head * rng.uniform(0.85, 1.15))]
    if rng.random() < 0.6:  # neck and greater trochanter
        bones += [(x - 0.7 * head, y - 0.4 * head, 0.8 * head, 0.6 * head),
                  (x - 1.4 * head, y - 0.7 * head, 0.7 * head, 0.8 * head)]
    bones.append((x + head * rng.uniform(1.0, 1.5), y - head * rng.uniform(0.6, 1.8), *rng.uniform(8, 18, 2)))
    if rng.random() < 0.5:
        bones.append((x + head * rng.uniform(1.0, 2.0), y + head * rng.uniform(0.2, 1.0), *rng.uniform(6, 14, 2)))
    return half, bones, int(rng.integers(7, 16)), rng.uniform(0.3, 6)


def _anything(rng):
    """A trunk, an arm, a phantom: few rules."""
    half = rng.uniform(15, 140, 2)
    bones = [(*rng.uniform(-0.7, 0.7, 2) * half, *rng.uniform(4, 40, 2)) for _ in range(rng.integers(0, 4))]
    return half, bones, int(rng.integers(0, 12)), rng.uniform(0.2, 6)
