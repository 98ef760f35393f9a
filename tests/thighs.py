"""Synthetic images of drawn anatomies for the tests of segmentation; apart, so that several files can share them."""

from __future__ import annotations

import numpy as np

from mrmyo.anatomy import SUBCUTANEOUS, draw_anatomy
from mrmyo.volume import Volume

WATER = np.array([0, 0.8, 0.8, 0.3, 1, 1, 0.03, 0.8, 0.2, 1.8])  # by tissue, as in mrmyo.anatomy


def draw_thighs(seed, *, muscle_is_fat=False, **options):
    """An in-phase-like image of a synthetic pair, and its true labels (an array).

    With `muscle_is_fat` all muscle is as bright as the fat under the skin.
    """
    rng = np.random.default_rng(seed)
    usual = {"sex": "M", "level": 0.75, "length_mm": 50, "spacing_mm": (1.3, 1.3, 10.0)}
    anatomy = draw_anatomy(rng, **{**usual, **options})
    labels, fat = anatomy.labels.array, anatomy.fat_fraction.array
    image = (1 - fat) * WATER[anatomy.tissue.array] * (1 + 0.5 * anatomy.oedema.array) + 2.2 * fat
    if muscle_is_fat:
        image[(labels > 0) & (labels < 40)] = np.median(image[anatomy.tissue.array == SUBCUTANEOUS])
    image = np.hypot(image + rng.normal(0, 0.05, image.shape), rng.normal(0, 0.05, image.shape))
    return Volume(image.astype(np.float32), anatomy.labels.affine), labels


def reorient(volume, axes, flips):
    """The same voxels at the same places, stored in another order."""
    array, affine = np.transpose(volume.array, axes), volume.affine[:, [*axes, 3]].copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    return Volume(array, affine)


def dice(a, b):
    """Overlap of two masks."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())
