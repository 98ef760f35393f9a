"""The sections that training images show: real label maps completed, the parametric anatomy, and what is no thigh.

Every section becomes fields of signed distance in mm, positive inside: one for each muscle, one for bone, and one for
the muscle compartment (the fascia). Distances can be interpolated between slices, deformed, eroded muscle by muscle and
sampled on any grid. The real maps name eleven muscles; femur, fascia, adductor longus and the other muscles of the
proximal thigh are completed here from the room that the maps leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay

from mrmyo.anatomy import MUSCLE, SUBCUTANEOUS, cut_thigh, draw_thigh
from mrmyo.labels import FEMUR
from mrmyo.progress import each
from mrmyo.training_blends import BONE, COMPARTMENT, N_FIELDS, N_MUSCLES, STEP_MM, between
from mrmyo.training_maps import FIELD_MM, Stack
from mrmyo.training_negatives import draw_negative

__all__ = ["BONE", "COMPARTMENT", "KINDS", "N_FIELDS", "STEP_MM", "Library", "build_library", "fields_of"]

SIZE = int(FIELD_MM / STEP_MM)
UNITS_MM = np.array([0.25] * (N_MUSCLES + 1) + [0.5], np.float32)  # of the stored bytes
BETWEEN_MM = 10.0  # sections are interpolated until they lie nearer than this
NEAREST_MM = 6.0  # and thinned until they lie this far apart
KINDS = ("map", "parametric", "negative")
SAR, AM, AL, OTHER = 5, 7, 8, 13
ROUND_THE_FEMUR = (1, 2, 3)
GRID = (np.arange(SIZE) - (SIZE - 1) / 2) * STEP_MM
X, Y = np.meshgrid(GRID, GRID, indexing="ij")


@dataclass(frozen=True)
class Library:
    """`fields` is (n, 15, 112, 112) int8 in `UNITS_MM`; `kind` and `stack` (−1: none) say where a section is from."""

    fields: np.ndarray
    kind: np.ndarray
    stack: np.ndarray
    level: np.ndarray


def fields_of(masks) -> np.ndarray:
    """Signed distances in mm, positive inside, of masks (n, 224, 224) at 1 mm, on the grid of 2 mm."""
    out = np.full((len(masks), SIZE, SIZE), -UNITS_MM[0] * 127, np.float32)
    for mask, field in zip(masks, out, strict=True):
        (box,) = ndimage.find_objects(mask.astype(np.uint8)) or (None,)
        if box is None:
            continue
        low = [max(s.start - 32, 0) // 2 * 2 for s in box]
        high = [min(s.stop + 33, FIELD_MM) // 2 * 2 for s in box]
        part = mask[low[0]:high[0], low[1]:high[1]]
        signed = ndimage.distance_transform_edt(part) - ndimage.distance_transform_edt(~part)
        signed -= 0.5 * np.sign(signed)
        coarse = signed.reshape(signed.shape[0] // 2, 2, -1, 2).mean((1, 3))
        field[low[0] // 2:high[0] // 2, low[1] // 2:high[1] // 2] = coarse
    return out


def _muscle_fields(labels):
    masks = np.stack([labels == value for value in range(1, N_MUSCLES + 1)])
    smooth = [ndimage.gaussian_filter(m.astype(np.float32), 0.8) > 0.5 if m.any() else m for m in masks]
    return fields_of(smooth)


def _hull(points):
    """Mask, on the grid of 2 mm, of the convex hull of points (n, 2) in mm."""
    corners = points[ConvexHull(points).vertices]
    return Delaunay(corners).find_simplex(np.stack([X, Y], -1)) >= 0


def _points(mask):
    return np.column_stack([X[mask], Y[mask]])


def _femur(muscles, level, rng):
    """Centre and radius: the largest circle in the hollow of the vasti."""
    near = (muscles[[v - 1 for v in ROUND_THE_FEMUR]] > 0).any(0)
    if near.sum() < 20:
        return None
    room = _hull(_points(near)) & ~(muscles > 0).any(0)
    depth = ndimage.distance_transform_edt(np.pad(room, 1))[1:-1, 1:-1] * STEP_MM
    i, j = np.unravel_index(depth.argmax(), depth.shape)
    flare = max(0.0, -level)
    most = rng.uniform(12.5, 15.5) + 14 * flare
    radius = min(depth[i, j] + rng.uniform(-1.5, 0.8), most)
    return (X[i, j], Y[i, j], radius) if radius > 5 else None


def _bellies(room, seeds, rng, gap_mm):
    """The room shared out among the seeds (Voronoi), with gaps: (n, 112, 112) fields in mm."""
    away = np.stack([np.hypot((X - x) * rng.uniform(0.8, 1.25), Y - y) for x, y in seeds])
    nearest = away.argmin(0)
    depth = [ndimage.distance_transform_edt(np.pad(room & (nearest == i), 1))[1:-1, 1:-1] * STEP_MM
             for i in range(len(seeds))]
    outside = [ndimage.distance_transform_edt(~(room & (nearest == i))) * STEP_MM for i in range(len(seeds))]
    return np.stack([ndimage.gaussian_filter(np.where(d > 0, d - 0.5 * STEP_MM, 0.5 * STEP_MM - o), 1.2) - gap_mm
                     for d, o in zip(depth, outside, strict=True)])


def _proximal(muscles, femur, outline, level, rng):
    """Adductor longus and other muscle, added to the fields, in the room between the named muscles and the fascia."""
    room = outline & ~(muscles > -rng.uniform(0.5, 2.5)).any(0)
    room &= np.hypot(X - femur[0], Y - femur[1]) > femur[2] + 3
    room = ndimage.binary_opening(room, iterations=2)
    am = muscles[AM - 1] > 0
    behind = Y[am].mean() if am.any() else femur[1] - 25
    front = room & (femur[0] + 6 < X) & (behind < Y)
    back = room & ~front & ((femur[1] > Y) | (femur[0] - 12 > X))
    zones = [(front, rng.integers(1, 3) if level < 1.8 else rng.integers(2, 6))]
    if level > 1.5 and rng.random() < min(1.0, level - 1.0):
        zones.append((back, rng.integers(1, 4)))
    for zone, n in zones:
        if zone.sum() < 30:
            continue
        spots = _points(zone)
        seeds = spots[rng.integers(0, len(spots), n)]
        order = np.argsort(-(seeds[:, 1] + 0.3 * seeds[:, 0]))
        for rank, field in enumerate(_bellies(zone, seeds[order], rng, rng.uniform(0.3, 3.5))):
            if rng.random() < 0.15:
                continue  # fat, or a muscle wasted altogether
            longus = zone is front and (rank == 0 or (rank == 1 and rng.random() < 0.4))
            value = AL if longus else OTHER
            muscles[value - 1] = np.maximum(muscles[value - 1], field)


def _complete(muscles, level, reference, rng):
    """All fields of a section of a map, or None where no femur can be placed.

    `reference` holds the outline and the femur of the section of the same thigh near its middle: further up the maps
    name only the muscles in front, and the thigh goes on behind them.
    """
    muscles = muscles.copy()
    femur = _femur(muscles, level, rng)
    if femur is None:
        return None
    named = muscles.max(0) > -1.5
    points = _points(named)
    if level > 1.2 and reference is not None:
        points = np.vstack([points, reference[0] - reference[1][:2] + femur[:2]])
    if level > 1.8:  # towards the buttock
        back = points[points[:, 1].argmin()] + [rng.uniform(-25, 15), -rng.uniform(0, 12 * (level - 1))]
        points = np.vstack([points, back])
    outline = _hull(np.clip(points, -FIELD_MM / 2, FIELD_MM / 2))
    compartment = (ndimage.distance_transform_edt(outline) - ndimage.distance_transform_edt(~outline)) * STEP_MM
    compartment = ndimage.gaussian_filter(compartment, rng.uniform(2, 4))  # fascia has no corners
    if level > 0.8 and rng.random() < 0.93:
        _proximal(muscles, femur, outline, level, rng)
    bone = femur[2] - np.hypot((X - femur[0]) / rng.uniform(0.92, 1.12), Y - femur[1])
    return np.concatenate([muscles, bone[None], np.maximum(compartment, muscles.max(0) + 0.7)[None]])


def _sections_of(stack: Stack, seed):
    """[(fields, level)] of one real thigh, interpolated along its length."""
    rng = np.random.default_rng(seed)
    kept = [0]
    for k in range(1, len(stack.z_mm)):
        if stack.z_mm[k] - stack.z_mm[kept[-1]] >= NEAREST_MM:
            kept.append(k)
    fields = [_muscle_fields(stack.labels[k]) for k in kept]
    z_mm, level = stack.z_mm[kept], stack.level[kept]
    middle = int(np.abs(level - 1.1).argmin())
    femur = _femur(fields[middle], level[middle], rng)
    reference = None if femur is None else (_points(fields[middle].max(0) > 0), np.array(femur))
    out = []
    for k, field in enumerate(fields):
        out.append((_complete(field, level[k], reference, rng), level[k]))
        gap = z_mm[k + 1] - z_mm[k] if k + 1 < len(fields) else 0
        n = int(np.ceil(gap / BETWEEN_MM)) if gap < 40 else 1
        for t in np.arange(1, n) / max(n, 1):
            here = (1 - t) * level[k] + t * level[k + 1]
            glided = between(*(torch.from_numpy(f[None]) for f in (field, fields[k + 1])), torch.full((1, 1), t))
            out.append((_complete(glided[0].numpy(), here, reference, rng), here))
    return [_bytes(field, level) for field, level in out if field is not None]


def _bytes(fields, level):
    return np.clip(np.rint(fields / UNITS_MM[:, None, None]), -127, 127).astype(np.int8), float(level)


def _parametric(seed):
    """One section of a thigh of `mrmyo.anatomy`."""
    rng = np.random.default_rng(seed)
    thigh = draw_thigh(rng, size=float(np.clip(np.exp(rng.normal(-0.03, 0.12)), 0.7, 1.2)), fat_mm=8.0,
                       disease=rng.uniform(0, 1) * (rng.random() < 0.5))
    level = rng.uniform(-0.55, 2.15)
    grid = np.arange(FIELD_MM) - (FIELD_MM - 1) / 2
    section = cut_thigh(thigh, level, *np.meshgrid(grid, grid, indexing="ij"))
    inside = fields_of([ndimage.binary_fill_holes(section.tissue > SUBCUTANEOUS), section.labels == FEMUR["left"]])
    muscles = _muscle_fields(np.where(section.tissue == MUSCLE, section.labels, 0))
    return [_bytes(np.concatenate([muscles, inside[1:], inside[:1]]), level)]


def _negative(seed):
    return [_bytes(draw_negative(np.random.default_rng(seed), X, Y, N_MUSCLES), 0.0)]


def build_library(stacks, *, seed=0, parametric=400, negatives=400, workers=-1, progress=True) -> Library:
    """Every section of the stacks, interpolated and completed, with random parametric ones and negatives.

    Parameters
    ----------
    stacks : sequence of Stack
        May be empty: then the parametric anatomy is all there is.
    parametric, negatives : int
        How many of each.
    workers : int
        Processes; -1 for as many as there are cores.

    Returns
    -------
    Library
    """
    jobs = [(0, stack, [seed, 0, i]) for i, stack in enumerate(stacks)]
    jobs += [(kind, None, [seed, kind, i]) for kind, n in ((1, parametric), (2, negatives)) for i in range(n)]
    found = each(_draw, jobs, label="Sections", n_jobs=workers, show=progress)
    rows = [(fields, job[0], job[2][2] if job[0] == 0 else -1, level)
            for job, sections in zip(jobs, found, strict=True) for fields, level in sections]
    fields, kind, stack, level = zip(*rows, strict=True)
    return Library(np.stack(fields), np.array(kind), np.array(stack), np.array(level, np.float32))


def _draw(kind, stack, seed):
    return _sections_of(stack, seed) if kind == 0 else (_parametric, _negative)[kind - 1](seed)
