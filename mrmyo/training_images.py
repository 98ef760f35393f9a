"""Random-contrast images of random thighs, for :mod:`mrmyo.training`.

A section is cut from a thigh of :mod:`mrmyo.anatomy`, moved, shown through the complex water–fat model |W + exp(iφ) F|
with random properties of every tissue, shaded as by a surface coil, blurred and made noisy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import ndimage

from mrmyo.anatomy import TISSUES, Section, cut_thigh, draw_thigh
from mrmyo.labels import FEMUR, MUSCLES
from mrmyo.segmentation import N_CLASSES, PIXEL_MM, normalise

__all__ = ["draw_batch", "draw_image", "draw_section", "render_section"]

AIR, SKIN, SUBCUTANEOUS, FASCIA, MUSCLE, INTERMUSCULAR, CORTEX, MARROW, ARTERY, VEIN = range(len(TISSUES))
SIZE = 160  # pixels each way; at inference the network sees more air
SOURCE_MM = 0.8  # grid on which the anatomy is cut
SOURCE = 320
FINE = 3  # points each way within a pixel, for partial volume
REUSE = 4  # images shown of one section
NEGATIVES = 0.08  # share of sections that are no thigh


def draw_image(rng) -> tuple[np.ndarray, np.ndarray]:
    """Draw one training section.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    image : numpy.ndarray
        (160, 160) float32 magnitude at 1.25 mm, x medially and y forwards, of arbitrary scale.
    labels : numpy.ndarray
        (160, 160) uint8: 0 background, 1–13 the muscles as on the left, 14 femur. A pixel is muscle when at least half
        of it is; of the other thigh, should it be in view, nothing is labelled.
    """
    return render_section(rng, draw_section(rng))


def draw_section(rng) -> Section:
    """Cut one random thigh, healthy to heavily diseased, at a random level; now and then something that is no thigh."""
    grid = (np.arange(SOURCE) - (SOURCE - 1) / 2) * SOURCE_MM
    if rng.random() < NEGATIVES:
        return _no_thigh(rng, *np.meshgrid(grid, grid, indexing="ij"))
    disease = rng.uniform(0, 1) * (rng.random() < 0.7)
    size = np.clip(np.exp(rng.normal(np.log(0.97), 0.12)), 0.7, 1.25)
    fat_mm = float(np.clip(np.exp(rng.normal(np.log(11), 0.5)), 3, 32))
    thigh = draw_thigh(rng, size=size, fat_mm=fat_mm, disease=disease)
    if rng.random() < 0.35:  # dystrophies and late myositis: some muscles partly or mostly fat
        fat = np.where(rng.random(thigh.fat_fraction.size) < rng.uniform(0, 0.7),
                       rng.beta(1, 1.5, thigh.fat_fraction.size), thigh.fat_fraction)
        thigh = replace(thigh, fat_fraction=fat)
    spare = int(np.clip(SOURCE / 2 - (100 * size + 1.35 * fat_mm) / SOURCE_MM, 0, SOURCE / 4))  # air, not worth cutting
    near = grid[spare:SOURCE - spare]
    section = cut_thigh(thigh, rng.uniform(-0.5, 2.1), *np.meshgrid(near, near, indexing="ij"))
    if rng.random() < 0.45:
        section = _wasted(rng, section)
    return Section(*(np.pad(part, spare) for part in
                     (section.labels, section.tissue, section.fat_fraction, section.oedema)))


def _wasted(rng, section):
    """Some muscles shrunk from all sides, fat in the room that they leave: so wasted muscles lie in real thighs."""
    parts = [part.copy() for part in (section.labels, section.tissue, section.fat_fraction, section.oedema)]
    share, most = rng.uniform(0.2, 1.0), rng.uniform(0.1, 0.6)
    for value, box in enumerate(ndimage.find_objects(section.labels, max_label=len(MUSCLES)), start=1):
        if box is None or rng.random() > share:
            continue
        depth = ndimage.distance_transform_edt(np.pad(section.labels[box] == value, 1))[1:-1, 1:-1]
        gone = (depth > 0) & (depth < rng.uniform(0, most) * depth.max())
        for part, fill in zip(parts, (0, INTERMUSCULAR, 0.88, 0), strict=True):
            part[box][gone] = fill
    return Section(*parts)


def _no_thigh(rng, x, y):
    """A limb or trunk that is no thigh: random bellies and odd bones in an odd outline, nothing labelled."""
    angle = np.arctan2(y, x)
    half = rng.uniform(35, 150, 2) if rng.random() < 0.6 else np.full(2, rng.uniform(40, 70))
    wobble = 1 + sum(rng.normal(0, 0.06) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    depth = (wobble - np.hypot(x / half[0], y / half[1])) * half.min()
    fields = ndimage.zoom(rng.normal(size=(rng.integers(3, 7), 9, 9)), (1, SOURCE / 9, SOURCE / 9), order=1)
    top = np.partition(fields, -2, axis=0)[-2:]
    tissue = np.where(top[1] - top[0] > rng.uniform(0.1, 0.5), MUSCLE, INTERMUSCULAR).astype(np.uint8)
    tissue[depth < rng.uniform(2, 30)] = SUBCUTANEOUS
    tissue[depth < 1.6] = SKIN
    for _ in range(rng.integers(0, 4)):
        at = rng.uniform(-0.7, 0.7, 2) * half
        r = np.hypot(x - at[0], (y - at[1]) * rng.uniform(0.6, 1.5))
        outer = rng.uniform(5, 45)
        tissue[(r < outer) & (depth > 0)] = CORTEX
        tissue[(r < outer - rng.uniform(1, 4)) & (depth > 0)] = MARROW
    tissue[depth < 0] = AIR
    fat = np.array([0, 0.1, 0.93, 0.1, rng.beta(0.6, 4), 0.88, 0, 0.92, 0, 0], np.float32)[tissue]
    return Section(np.zeros(x.shape, np.uint8), tissue, fat, np.zeros(x.shape, np.float32))


def _affine(rng, *, turn=0.3):
    """A random turn, size and shear: (2, 2), from image to section."""
    a = rng.normal(0, turn)
    rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    stretch = np.diag(np.exp(rng.normal(0, 0.06, 2)))
    return rotation @ stretch @ np.array([[1, rng.normal(0, 0.06)], [0, 1]])


def render_section(rng, section: Section) -> tuple[np.ndarray, np.ndarray]:
    """Show a section from a random place in a random contrast; returns what `draw_image` returns."""
    n = SIZE * FINE
    grid = ((np.arange(n) - (n - 1) / 2) * PIXEL_MM / FINE).astype(np.float32)
    solid = section.tissue != AIR
    centre = (np.array(ndimage.center_of_mass(solid)) - (SOURCE - 1) / 2) * SOURCE_MM
    shift = rng.normal(0, 7.0, 2)
    index = _gather(_affine(rng).astype(np.float32), centre, shift, grid)
    tissue = section.tissue.ravel()[index]
    labels = np.where(section.labels == FEMUR["left"], N_CLASSES - 1, section.labels).astype(np.uint8).ravel()[index]
    other = tissue == AIR
    if rng.random() < 0.65:  # the other thigh, mirrored, beside it
        reach = np.ptp(np.flatnonzero(solid.any(1))) * SOURCE_MM * rng.uniform(0.95, 1.05)
        gap = rng.uniform(-6, 10) if rng.random() < 0.6 else rng.uniform(0, 70)
        away = shift + np.array([reach + gap, rng.normal(0, 6)])
        index = np.where(other, _gather(_affine(rng, turn=0.15) @ np.diag([-1.0, 1.0]), centre, away, grid), index)
    elif rng.random() < 0.3:  # an arm beside the thigh
        reach = np.ptp(np.flatnonzero(solid.any(1))) * SOURCE_MM
        away = shift - np.array([reach * rng.uniform(0.7, 0.85), rng.normal(0, 30)])
        index = np.where(other, _gather(_affine(rng) / rng.uniform(0.25, 0.4), centre, away, grid), index)
    tissue, fat, oedema = (a.ravel()[index] for a in (section.tissue, section.fat_fraction, section.oedema))
    muscle = section.labels.ravel()[index] % FEMUR["left"]
    if rng.random() < 0.06:  # cut off by the field of view
        x = np.tile(grid[:, None], n) * rng.choice([-1, 1]) if rng.random() < 0.5 else np.tile(grid, (n, 1))
        gone = x > rng.uniform(25, 90)
        tissue, labels = np.where(gone, AIR, tissue), np.where(gone, 0, labels)
        fat = np.where(gone, 0, fat)
    water, fat_signal = _signals(rng, tissue, muscle, fat, oedema)
    return _acquire(rng, water, fat_signal), _majority(labels)


def _gather(matrix, centre, shift, grid):
    """For every fine point of the image, the flat index of its point in the section (a corner, air, outside)."""
    x, y = grid - np.float32(shift[0]), grid - np.float32(shift[1])
    where = []
    for row, c in zip(matrix.astype(np.float32), centre, strict=True):
        at = np.add.outer(row[0] * x, row[1] * y) + np.float32(c)
        where.append(np.rint(at / np.float32(SOURCE_MM) + np.float32((SOURCE - 1) / 2)).astype(np.int32))
    inside = (where[0] >= 0) & (where[0] < SOURCE) & (where[1] >= 0) & (where[1] < SOURCE)
    return np.where(inside, where[0] * SOURCE + where[1], 0)


def _blocks(fine):
    """Mean over the fine points of each pixel."""
    return fine.reshape(SIZE, FINE, SIZE, FINE).mean((1, 3), dtype=np.float32)


def _majority(labels):
    """One label a pixel: the commonest muscle where at least half is muscle, femur where at least half is bone."""
    pixel = np.repeat(np.arange(SIZE), FINE)
    flat = (pixel[:, None] * SIZE + pixel) * N_CLASSES + labels
    counts = np.bincount(flat.ravel(), minlength=SIZE * SIZE * N_CLASSES).reshape(SIZE, SIZE, N_CLASSES)
    muscles = counts[..., 1:-1]
    half = FINE * FINE / 2
    named = np.where(muscles.sum(-1) >= half, muscles.argmax(-1) + 1, 0)
    return np.where(counts[..., -1] >= half, N_CLASSES - 1, named).astype(np.uint8)


def _signals(rng, tissue, muscle, fat, oedema):
    """Water and fat signal (160, 160) each, with a random weight of every tissue; that of healthy muscle is near 1."""
    u = rng.uniform
    water = np.array([0, u(0.4, 1.5), u(0.5, 1.5), u(0.05, 0.6), 1, u(0.6, 1.8), u(0, 0.08), u(0.4, 1.5),
                      u(0, 2.5) * (rng.random() < 0.6), u(0.2, 3.0)], np.float32)
    bright = np.exp(u(np.log(0.4), np.log(6.0)))  # fat against muscle, T1w to a late echo
    fats = np.full(len(TISSUES), bright, np.float32) * np.exp(rng.normal(0, 0.08, len(TISSUES)))
    mode = rng.random()
    if mode < 0.14:  # fat-suppressed, STIR-like, or the water image
        fats *= u(0, 0.3) / bright
    elif mode < 0.22:  # the fat image
        water *= u(0, 0.15)
    elif mode < 0.32:  # any contrast whatever
        water, fats = np.exp(rng.normal(0, 0.8, (2, len(TISSUES))))
        water[AIR], fats[AIR], water[CORTEX] = 0, 0, 0.1 * water[CORTEX]
    gain = np.exp(rng.normal(0, rng.choice([0.03, 0.15]), len(MUSCLES) + 1)).astype(np.float32)
    swelling = rng.choice([u(-0.2, 0.4), u(0.2, 1.8)])
    shown = (1 - fat) * water.astype(np.float32)[tissue]
    in_muscle = tissue == MUSCLE
    shown = np.where(in_muscle, shown * gain[muscle] * (1 + np.float32(swelling) * oedema), shown)
    if rng.random() < 0.2:  # subcutaneous oedema: reticular water in the fat
        wet = ndimage.zoom(rng.normal(size=(24, 24)), tissue.shape[0] / 24, order=1) > u(0.5, 2.0)
        shown = shown + (wet & (tissue == SUBCUTANEOUS)) * np.float32(u(0.2, 1.0))
    return _blocks(shown), _blocks(fat * fats.astype(np.float32)[tissue])


def _smooth_field(rng, amplitude):
    """A smooth random field over the image with about the SD asked for: a few cosines each way."""
    waves = np.cos(np.outer(np.pi * (np.arange(SIZE) + 0.5) / SIZE, np.arange(4)))
    return (waves @ rng.normal(0, amplitude / 2.5, (4, 4)) @ waves.T).astype(np.float32)


def _acquire(rng, water, fat):
    """The magnitude image: echo phase, resolution, coil shading, complex noise."""
    mode = rng.random()
    phase = 0.0 if mode < 0.65 else np.pi if mode < 0.85 else rng.uniform(0, np.pi)
    signal = water + fat * np.exp(1j * (phase + _smooth_field(rng, 0.15)))
    axes = np.linspace(-1, 1, SIZE, dtype=np.float32)
    bias = (rng.normal(0, 0.25) * axes[:, None] + rng.normal(0, 0.25) * axes + _smooth_field(rng, rng.uniform(0, 0.2)))
    if rng.random() < 0.25:  # a coil element close by
        spot = rng.uniform(-1.1, 1.1, 2)
        gap = (axes[:, None] - spot[0]) ** 2 + (axes - spot[1]) ** 2
        bias = bias + rng.uniform(0.3, 1.5) * np.exp(-gap / rng.uniform(0.1, 0.6))
    signal = signal * np.exp(bias)
    present = np.abs(signal[water + fat > 0.05])
    level = np.median(present) if present.size else 1.0
    noise = level / np.exp(rng.uniform(np.log(4), np.log(80)))
    blur = np.maximum(rng.uniform(0.7, 1.7) * np.array([1, rng.choice([1, 1, 1.67])])[rng.permutation(2)], 0)
    sigma = np.sqrt(np.maximum(blur**2 - 0.8**2, 0)) / 2.355 / PIXEL_MM * rng.choice([0.7, 1.0, 1.3])
    grain = np.sqrt(np.maximum(blur**2 - PIXEL_MM**2, 0)) / 2.355 / PIXEL_MM
    image = np.zeros((SIZE, SIZE), np.float32)
    for part in (signal.real, signal.imag):
        speckle = rng.normal(size=part.shape).astype(np.float32)
        if grain.max() > 0.2:
            speckle = ndimage.gaussian_filter(speckle, grain)
        part = ndimage.gaussian_filter(part, sigma) if sigma.max() > 0.1 else part
        image += (part + noise * speckle / speckle.std()) ** 2
    image = np.sqrt(image)
    return (image / image.max()) ** np.float32(np.exp(rng.normal(0, 0.15)))


@lru_cache(maxsize=64)
def _section(seed, number):
    return draw_section(np.random.default_rng([seed, 0, number]))


def draw_batch(seed, step, batch_size) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 1, x, y), normalised, and labels (n, x, y) of one training step, whoever asks.

    Cutting costs more than showing, so every section is shown in `REUSE` successive steps, but only once in each.
    """
    rng = np.random.default_rng([seed, 1, step])
    first = step * max(batch_size // REUSE, 1)
    shown = [render_section(rng, _section(seed, first + i)) for i in range(batch_size)]
    images, labels = (np.stack(part) for part in zip(*shown, strict=True))
    return normalise(images)[:, None], labels
