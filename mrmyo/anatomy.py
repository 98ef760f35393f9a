"""Random but plausible thighs with known truth.

A thigh is drawn once (`draw_thigh`) and can then be cut at any level (`cut_thigh`): every muscle is a small mixture of
Gaussians whose parameters glide along the thigh, and a point belongs to the muscle that is likeliest there. The
shape table beside this file holds averages that ``scripts/fit_anatomy.py`` measured on published label maps of 29
thighs (Apache-2.0); size, outline, subcutaneous fat, place, girth and atrophy of each muscle, septa, vessels, fat
replacement and oedema are random.

The frame of a thigh is that of a left one: x leads medially, y forwards, both in mm from the middle of the muscle
compartment. `level` is 0 at the middle of the short head of biceps femoris (distal third) and 1 at its upper end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrmyo.anatomy_shapes import read_shapes
from mrmyo.labels import FEMUR, MUSCLES, RIGHT_OFFSET
from mrmyo.volume import Volume

__all__ = ["TISSUES", "Anatomy", "Section", "Thigh", "cut_thigh", "draw_anatomy", "draw_thigh"]

TISSUES = ("air", "skin", "subcutaneous fat", "fascia", "muscle", "intermuscular fat", "cortical bone", "marrow",
           "artery", "vein")
AIR, SKIN, SUBCUTANEOUS, FASCIA, MUSCLE, INTERMUSCULAR, CORTEX, MARROW, ARTERY, VEIN = range(len(TISSUES))
N_MUSCLES = len(MUSCLES)
LEVEL_RANGE = (-0.6, 2.2)
FIELD_ZOOM = 3
HALF_SHORT_HEAD_MM = 96.0  # half the length of the short head of biceps femoris, the unit of `level`


@dataclass(frozen=True)
class Thigh:
    """Everything random about one thigh. Drawn by `draw_thigh`, read by `cut_thigh`; nothing here depends on a grid."""

    scale: float  # size relative to the average
    mm_per_level: float
    components: np.ndarray  # (n_levels, n_components, 6): weight, x, y, var x, cov, var y
    waves: np.ndarray  # (n_waves, 6): the smooth deformation, amplitude x and y, wave vector, phase
    outline: np.ndarray  # (4,): random harmonics of the muscle outline
    fat_mm: np.ndarray  # (4,): subcutaneous fat, mean and harmonics
    septum_mm: float
    femur_mm: float
    fat_fraction: np.ndarray  # (n_muscles + 1,): intramuscular fat by label value
    oedema: np.ndarray  # (n_muscles + 1,): involvement by label value, 0 to 1
    fascial_oedema: float
    texture: np.ndarray  # coarse random field, for patches
    jitter: np.ndarray  # places of the vessels


@dataclass(frozen=True)
class Section:
    """One cut: arrays shaped like the points asked for. `labels` are those of a left thigh, 51 the femur."""

    labels: np.ndarray
    tissue: np.ndarray
    fat_fraction: np.ndarray
    oedema: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """Both thighs on one fine grid. `oedema` runs from 0 to 1.3; `fat_fraction` is the share of fat."""

    labels: Volume
    tissue: Volume
    fat_fraction: Volume
    oedema: Volume


def draw_thigh(rng, *, size=1.0, fat_mm=12.0, disease=0.0) -> Thigh:
    """Draw one thigh.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : float
        Scale of the muscle compartment; 1 is the average of the label maps.
    fat_mm : float
        Mean thickness of the subcutaneous fat in mm.
    disease : float
        0 healthy to 1 severe: governs atrophy and fat replacement. Oedema is drawn either way; how much it lengthens
        T2 is up to the scanner.

    Returns
    -------
    Thigh
    """
    classes, components = read_shapes()[4], read_shapes()[5].copy()
    atrophy = np.where(rng.random(N_MUSCLES + 1) < 0.25 * disease, rng.uniform(0.2, 1.0, N_MUSCLES + 1) * disease, 0.0)
    shift = rng.normal(0, 0.03, (N_MUSCLES + 1, 2))
    stretch = np.exp(rng.normal(0, 0.08, N_MUSCLES + 1))
    weight = np.exp(rng.normal(0, 0.25, N_MUSCLES + 1) - 1.2 * atrophy)
    weight[0] = np.exp(rng.normal(-0.1, 0.25))
    components[..., 0] *= weight[classes]
    components[..., 1:3] += shift[classes]
    components[..., 3:] *= (stretch * (1 - 0.25 * atrophy))[classes][:, None]
    wavelength = rng.uniform(50, 140, 6)
    direction = rng.normal(size=(6, 3))
    direction *= (2 * np.pi / wavelength / np.linalg.norm(direction, axis=1))[:, None]
    waves = np.column_stack([rng.normal(0, 1.1, (6, 2)), direction, rng.uniform(0, 2 * np.pi, 6)])
    fat_fraction = 0.02 + 0.02 * rng.random(N_MUSCLES + 1) + 0.5 * disease * rng.beta(0.6, 6, N_MUSCLES + 1)
    oedema = np.clip(rng.beta(1.2, 0.8, N_MUSCLES + 1), 0.05, 1.0)
    return Thigh(
        scale=size,
        mm_per_level=HALF_SHORT_HEAD_MM * rng.normal(1, 0.06),
        components=components,
        waves=waves,
        outline=rng.normal(0, 0.012, 4),
        fat_mm=np.array([fat_mm, 0.25 * fat_mm * rng.uniform(0.5, 1.2), *rng.normal(0, 0.08 * fat_mm, 2)]),
        septum_mm=rng.uniform(0.5, 1.3),
        femur_mm=13.5 * size**0.5 * rng.normal(1, 0.05),
        fat_fraction=fat_fraction,
        oedema=oedema,
        fascial_oedema=rng.uniform(0, 1),
        texture=_draw_texture(rng),
        jitter=rng.normal(0, 1, (8, 2)),
    )


def _draw_texture(rng):
    """A periodic random field of unit SD, `FIELD_ZOOM` samples between independent knots."""
    knots = rng.normal(size=(12, 12, 12)).astype(np.float32)
    texture = ndimage.zoom(knots, FIELD_ZOOM, order=3, mode="grid-wrap", grid_mode=True)
    return texture / texture.std()


def _field(thigh, x, y, z, *, period_mm):
    """A smooth random field of about unit SD at the points, with blobs about `period_mm` / 2 across."""
    points = np.stack([x, y, np.full_like(x, z)]) * (2 * FIELD_ZOOM / period_mm)
    return ndimage.map_coordinates(thigh.texture, points, order=1, mode="grid-wrap")


def _scores(components, classes, x, y):
    """Log density of every class at the points: (n_points, n_muscles + 1)."""
    density = np.zeros((N_MUSCLES + 1, x.size), np.float32)
    for value, (w, mx, my, sxx, sxy, syy) in zip(classes, components.astype(np.float32), strict=True):
        if w < 1e-5:
            continue
        det = sxx * syy - sxy * sxy
        dx, dy = x - mx, y - my
        density[value] += w / np.sqrt(det) * np.exp(-0.5 * (syy * dx * dx - 2 * sxy * dx * dy + sxx * dy * dy) / det)
    return np.log(density + 1e-12)


def _level_row(thigh, level):
    """Radius in mm, outline harmonics, femur place and mixture components at one level."""
    levels, radius, outline, femur, _, _ = read_shapes()
    position = float(np.interp(level, levels, np.arange(levels.size)))
    low = min(int(position), levels.size - 2)
    t = position - low
    r, o, f, c = ((1 - t) * a[low] + t * a[low + 1] for a in (radius, outline, femur, thigh.components))
    return r * thigh.scale, o, f, c


def cut_thigh(thigh: Thigh, level: float, x_mm, y_mm) -> Section:
    """Cut a thigh at one level.

    Parameters
    ----------
    thigh : Thigh
    level : float
        Where along the thigh, between -0.6 (above the knee) and 2.2 (below the groin).
    x_mm, y_mm : array
        Points of one regular grid, shaped (i, j), x medially and y forwards.

    Returns
    -------
    Section
        Arrays shaped like `x_mm`.
    """
    if not LEVEL_RANGE[0] <= level <= LEVEL_RANGE[1]:
        raise ValueError(f"Found level {level:.2f}; the anatomy covers {LEVEL_RANGE[0]} (knee) to {LEVEL_RANGE[1]}.")
    z = level * thigh.mm_per_level
    radius, harmonics, femur_at, components = _level_row(thigh, level)
    step = float(abs(x_mm[1, 0] - x_mm[0, 0])) or 1.0
    phase = (
        np.tensordot(np.stack([x_mm, y_mm, np.full_like(x_mm, z)], -1), thigh.waves[:, 2:5].T, 1) + thigh.waves[:, 5]
    )
    wave = np.sin(phase)
    x, y = x_mm + wave @ thigh.waves[:, 0], y_mm + wave @ thigh.waves[:, 1]

    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    order = np.arange(harmonics.size)
    fundamental = np.exp(1j * np.multiply.outer(angle + np.pi, order)) * np.where(order, 2, 1)
    edge = radius * ((fundamental @ harmonics).real + 0.02 + sum(
        a * np.cos((k + 2) * angle + k) for k, a in enumerate(thigh.outline)))
    thickness = thigh.fat_mm[0] - thigh.fat_mm[1] * np.sin(angle + 0.4) + thigh.fat_mm[2] * np.cos(2 * angle)
    thickness = np.maximum(thickness + thigh.fat_mm[3] * np.sin(2 * angle), 3.0)

    tissue = np.full(x.shape, AIR, np.uint8)
    tissue[distance < edge + thickness] = SKIN
    tissue[distance < edge + thickness - 1.6] = SUBCUTANEOUS
    tissue[distance < edge + 0.9] = FASCIA
    inside = distance < edge
    labels = np.zeros(x.shape, np.uint8)
    tissue[inside], labels[inside], muscle_edge = _fill_compartment(thigh, components, x, y, radius, inside, step)
    _add_femur(thigh, femur_at * radius, level, x, y, tissue, labels)
    _add_vessels(thigh, level, radius, x, y, edge + thickness, tissue, labels)
    fat, oedema = _add_disease(thigh, labels, tissue, x_mm, y_mm, z, edge - distance, muscle_edge)
    return Section(labels, tissue, fat, oedema)


def _fill_compartment(thigh, components, x, y, radius, inside, step):
    """Tissue and labels of the points inside the fascia, and how near (0 to 1) each muscle point is to its border."""
    unit = [(c[inside] / radius).astype(np.float32) for c in (x, y)]
    scores = _scores(components, read_shapes()[4], *unit)
    best = scores.argmax(0)
    top = np.partition(scores, -2, axis=0)[-2:]
    margin = np.zeros(x.shape, np.float32)
    margin[inside] = top[1] - top[0]
    slope = np.hypot(*np.gradient(margin, step)) + 1e-3
    border_mm = margin / slope  # to first order, how far the next class is
    is_muscle = (best > 0) & (border_mm[inside] > 0.5 * thigh.septum_mm)
    return np.where(is_muscle, MUSCLE, INTERMUSCULAR), np.where(is_muscle, best, 0), np.exp(-border_mm / 3.0)


def _add_femur(thigh, centre, level, x, y, tissue, labels):
    """Shaft of cortex and fatty marrow, widening to thin-walled condyles towards the knee."""
    flare = max(0.0, 0.2 - level)
    outer = thigh.femur_mm * (1 + 1.1 * flare)
    cortex = max(5.2 - 5.0 * flare, 1.5)
    r = np.hypot((x - centre[0]) / (1 + 0.25 * flare), y - centre[1])
    tissue[r < outer] = CORTEX
    tissue[r < outer - cortex] = MARROW
    labels[r < outer] = FEMUR["left"]


def _add_vessels(thigh, level, radius, x, y, skin_edge, tissue, labels):
    """Femoral artery and vein under the sartorius, the great saphenous vein in the subcutaneous fat, perforators."""
    t = np.clip((level + 0.3) / 2.0, 0, 1)
    hunter = radius * np.array([0.33 + 0.05 * t, -0.05 + 0.42 * t]) + thigh.jitter[0]
    angle = 0.15 + 0.5 * t + 0.1 * thigh.jitter[1, 0]
    here = np.abs(np.arctan2(y, x) - angle) < 0.06
    reach = (np.median(skin_edge[here]) if here.any() else 2 * radius) - 0.5 * thigh.fat_mm[0]
    places = [(hunter, 3.0, ARTERY), (hunter + [2.5, -6.5], 3.4, VEIN),
              (reach * np.array([np.cos(angle), np.sin(angle)]), 1.7, VEIN),
              (radius * np.array([-0.18, -0.12]) + 2 * thigh.jitter[2], 1.6, VEIN),
              (radius * np.array([0.02, -0.35]) + 2 * thigh.jitter[3], 2.2, INTERMUSCULAR)]
    for (cx, cy), r, kind in places:
        gap = np.hypot(x - cx, y - cy)
        sheath = (gap < r + 1.5) & (tissue != CORTEX) & (tissue != MARROW) & (tissue != AIR)
        tissue[sheath & (tissue == MUSCLE)] = INTERMUSCULAR
        labels[sheath] = 0
        tissue[(gap < r) & sheath] = kind


def _add_disease(thigh, labels, tissue, x, y, z, depth_mm, muscle_edge):
    """Fat fraction and oedema of every point."""
    full = np.array([0, 0.1, 0.93, 0.1, 0, 0.88, 0.0, 0.92, 0.0, 0.0], np.float32)
    fat = full[tissue]
    muscle = tissue == MUSCLE
    value = np.where(muscle, labels, 0)
    streaks = _field(thigh, x, y, z, period_mm=9.0)
    fat = np.where(muscle, thigh.fat_fraction[value] * np.exp(0.45 * streaks), fat)
    patches = 1 / (1 + np.exp(-3 * (_field(thigh, y, x, z, period_mm=40.0) + 2.2 * thigh.oedema[value] - 1.0)))
    rim = thigh.fascial_oedema * np.maximum(np.exp(-np.maximum(depth_mm, 0) / 4.0), 0.6 * muscle_edge)
    oedema = np.where(muscle, np.clip(0.25 * thigh.oedema[value] + 0.75 * patches + 0.35 * rim, 0, 1.3), 0)
    return np.clip(fat, 0, 0.97).astype(np.float32), oedema.astype(np.float32)


def draw_anatomy(rng, *, sex="F", disease=0.0, level=0.75, length_mm=174.0, spacing_mm=(0.9, 0.9, 3.0),
                 field_mm=(416.0, 231.0)) -> Anatomy:
    """Draw two thighs side by side on a fine grid.

    Parameters
    ----------
    rng : numpy.random.Generator
    sex : {'F', 'M'}
        Women's thighs are drawn smaller with thicker subcutaneous fat.
    disease : float
        See `draw_thigh`.
    level : float
        The level at the middle of the stack; see the module's text.
    length_mm, spacing_mm, field_mm
        Extent along the body, voxel size, and in-plane extent of the grid.

    Returns
    -------
    Anatomy
        Volumes in RAS+ with the origin midway between the thighs at the middle of the stack.
    """
    size = {"F": 0.92, "M": 1.0}[sex] * np.exp(rng.normal(0, 0.05)) * (1 - 0.06 * disease)
    fat_mm = np.exp(rng.normal(np.log({"F": 15.0, "M": 8.0}[sex]), 0.3))
    thighs = {
        side: draw_thigh(
            rng, size=size * np.exp(rng.normal(0, 0.012)), fat_mm=fat_mm * np.exp(rng.normal(0, 0.04)), disease=disease
        )
        for side in ("left", "right")
    }
    shared = thighs["left"]  # the two sides of one person resemble each other
    thighs["right"] = _resemble(thighs["right"], shared)
    shape = [round(f / s) for f, s in zip((*field_mm, length_mm), spacing_mm, strict=True)]
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    i, j, k = (affine[a, 3] + np.arange(n) * spacing_mm[a] for a, n in enumerate(shape))
    half = 0.5 * rng.uniform(0.0, 6.0) + 1.06 * 68 * size + 0.95 * fat_mm
    half = min(half, 0.25 * field_mm[0])
    lift = rng.normal(0, 3, 2)
    parts = [np.zeros(shape, t) for t in (np.uint8, np.uint8, np.float32, np.float32)]
    for side, sign in (("left", 1), ("right", -1)):
        # the left thigh lies at negative x, and its medial direction is +x
        columns = np.flatnonzero(i * sign <= 0)
        x, y = np.meshgrid(i[columns] * sign + half, j + lift[int(sign > 0)], indexing="ij")
        for index, z in enumerate(k):
            section = cut_thigh(thighs[side], float(np.clip(level + z / shared.mm_per_level, *LEVEL_RANGE)), x, y)
            labels = section.labels
            if side == "right":
                labels = np.where((labels > 0) & (labels <= N_MUSCLES), labels + RIGHT_OFFSET, labels)
                labels = np.where(labels == FEMUR["left"], FEMUR["right"], labels)
            for part, array in zip(parts, (labels, section.tissue, section.fat_fraction, section.oedema), strict=True):
                part[columns, :, index] = array
    return Anatomy(*(Volume(part, affine) for part in parts))


def _resemble(other: Thigh, thigh: Thigh, *, share=0.7) -> Thigh:
    """`other` moved most of the way towards `thigh`: mild asymmetry instead of two strangers."""
    from dataclasses import replace

    mean = {name: share * getattr(thigh, name) + (1 - share) * getattr(other, name)
            for name in ("components", "outline", "fat_mm", "septum_mm", "femur_mm", "fat_fraction", "oedema",
                         "fascial_oedema", "mm_per_level")}
    return replace(other, **mean)
