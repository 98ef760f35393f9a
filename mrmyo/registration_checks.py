"""What makes an alignment doubtful: a series cut off, muscle beyond the field of view, a mask that does not fit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrmyo.labels import is_muscle
from mrmyo.registration_images import body_mask, single_channel
from mrmyo.volume import Volume

__all__ = ["LEAST_FIT", "border_fit", "cut_off", "outside"]

CUT_OFF = 0.03
ALONG_MM, BESIDE_MM, EDGE_BLUR_MM = 1.5, (3.0, 8.0), 1.0
LEAST_FIT = 0.15  # 74 synthetic masks on their own images: 0.23 and more; on those of others: 0.1 at most, 0 mostly
LEAST_RIM = 500


def border_fit(image: Volume, labels: Volume) -> float:
    """How well a muscle mask fits its image: whether the image has edges along its border more than beside it.

    Parameters
    ----------
    image, labels : Volume
        On one grid.

    Returns
    -------
    float
        2 AUC - 1 of the in-plane gradient along the border (1.5 mm, or a voxel) against that 3 to 8 mm from it: 1 where
        every voxel of the border has the stronger edge, 0 where edges and border have nothing to do with each other,
        as with the mask of another patient. Brightness itself does not count: oedema makes muscle as bright as fat.
        NaN where the border is too short to tell.
    """
    from scipy.stats import mannwhitneyu

    image = single_channel(image)
    body, muscle, axis = body_mask(image), is_muscle(labels.array), labels.slice_axis
    spacing = np.delete(labels.spacing_mm, axis)
    smooth = ndimage.gaussian_filter(image.array, np.where(np.arange(3) == axis, 0, EDGE_BLUR_MM / labels.spacing_mm))
    along, beside = [], []
    for picture, mask, inside in zip(*(np.moveaxis(part, axis, 0) for part in (smooth, muscle, body)), strict=True):
        if mask.any() and not mask.all():
            edges = np.hypot(*np.gradient(picture, *spacing))
            away_mm = ndimage.distance_transform_edt(mask, sampling=spacing)
            away_mm += ndimage.distance_transform_edt(~mask, sampling=spacing)
            along.append(edges[inside & (away_mm <= max(ALONG_MM, spacing.max()))])
            beside.append(edges[inside & (away_mm > BESIDE_MM[0]) & (away_mm <= BESIDE_MM[1])])
    one, other = (np.concatenate(part) if part else np.zeros(0) for part in (along, beside))
    if min(one.size, other.size) < LEAST_RIM:
        return float("nan")
    step = max(one.size // 50_000, 1)
    one, other = one[::step], other[::step]
    return float(2 * mannwhitneyu(one, other).statistic / (one.size * other.size) - 1)


def cut_off(moving: Volume, fixed: Volume, transform) -> list[str]:
    """A flag where part of the body that `fixed` shows lies beside the field of view of `moving`."""
    fixed = single_channel(fixed)
    beside = _beside(fixed, body_mask(fixed), moving, transform)
    return [f"{beside:.0%} of the body in the T2 images lies beside the structural image's field of view: it may be "
            "cut off"] if beside > CUT_OFF else []


def outside(labels: Volume, fixed: Volume, transform) -> list[str]:
    """A flag where part of the muscle of a mask lies beside the field of view of `fixed`."""
    middle = np.linalg.inv(transform[len(transform) // 2] if np.ndim(transform) == 3 else transform)
    beside = _beside(labels, is_muscle(labels.array), fixed, middle)
    return [f"{beside:.0%} of the muscle lies beside the T2 images' field of view: they may be cut off"] \
        if beside > CUT_OFF else []


def _beside(volume, mask, other, transform):
    """The share of a mask, of what lies between the first and the last slice of another volume, that is not in it."""
    index = _index(volume, other, np.array(np.nonzero(mask)), transform)
    inside = (index > -0.5) & (index < np.array(other.shape)[:, None] - 0.5)
    in_slab = inside[other.slice_axis]
    return 1 - inside[:, in_slab].all(axis=0).mean() if in_slab.any() else 0.0


def _index(volume, other, places, transform):
    """Where voxels of one volume lie in another, as indices of that."""
    matrices = np.linalg.inv(other.affine) @ transform @ volume.affine
    points = np.vstack([places, np.ones(places.shape[1])])
    if matrices.ndim == 2:
        return (matrices @ points)[:3]
    return np.einsum("nab,bn->an", matrices[places[volume.slice_axis]], points)[:3]
