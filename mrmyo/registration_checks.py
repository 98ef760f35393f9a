"""What makes an alignment doubtful: a series cut off, muscle beyond the field of view, a mask that does not fit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrmyo.labels import is_muscle, label_table
from mrmyo.registration_images import body_mask, single_channel
from mrmyo.volume import Volume

__all__ = ["LEAST_CONTRAST", "border_contrast", "cut_off", "outside"]

CUT_OFF = 0.03
RIM_MM = 5.0
LEAST_CONTRAST = 0.3  # masks on their own image have 0.45 and more, those of another patient 0.38 at most, 0.12 mostly
LEAST_RIM = 500


def border_contrast(image: Volume, labels: Volume) -> float:
    """How well a muscle mask fits its image: whether 5 mm on both sides of its border differ in brightness.

    Parameters
    ----------
    image, labels : Volume
        On one grid.

    Returns
    -------
    float
        |2 AUC - 1| of the brightness of muscle along its border against that of other tissue along it: 1 where each
        muscle voxel is darker (or brighter) than each other one, 0 where they are alike, as under a mask of another
        patient. NaN where the border is too short to tell.
    """
    from scipy.stats import mannwhitneyu

    body, muscle = body_mask(single_channel(image)), is_muscle(labels.array)
    table = label_table()
    bone = np.isin(labels.array, table.value[~table.is_muscle])
    axis = labels.slice_axis
    spacing = np.delete(labels.spacing_mm, axis)
    inside, beside = np.zeros_like(muscle), np.zeros_like(muscle)
    parts = [np.moveaxis(array, axis, 0) for array in (muscle, inside, beside)]
    for mask, within, without in zip(*parts, strict=True):
        if mask.any() and not mask.all():
            within[:] = mask & (ndimage.distance_transform_edt(mask, sampling=spacing) <= RIM_MM)
            without[:] = ~mask & (ndimage.distance_transform_edt(~mask, sampling=spacing) <= RIM_MM)
    one, other = image.array[inside], image.array[beside & body & ~bone]
    if min(one.size, other.size) < LEAST_RIM:
        return float("nan")
    step = max(one.size // 50_000, 1)
    one, other = one[::step], other[::step]
    return float(abs(2 * mannwhitneyu(one, other).statistic / (one.size * other.size) - 1))


def cut_off(moving: Volume, fixed: Volume, transform) -> list[str]:
    """A flag where part of the body that `fixed` shows lies beside the field of view of `moving`."""
    fixed = single_channel(fixed)
    index = _index(fixed, moving, np.array(np.nonzero(body_mask(fixed))), transform)
    axis = moving.slice_axis
    inside = (index > -0.5) & (index < np.array(moving.shape)[:, None] - 0.5)
    in_slab = inside[axis]
    beside = 1 - inside[:, in_slab].all(axis=0).mean() if in_slab.any() else 0.0
    return [f"{beside:.0%} of the body in the T2 images lies beside the structural image's field of view: it may be "
            "cut off"] if beside > CUT_OFF else []


def outside(labels: Volume, fixed: Volume, transform) -> list[str]:
    """A flag where part of the muscle of a mask lies beside the field of view of `fixed`."""
    middle = np.linalg.inv(transform[len(transform) // 2] if np.ndim(transform) == 3 else transform)
    index = _index(labels, fixed, np.array(np.nonzero(is_muscle(labels.array))), middle)
    inside = (index > -0.5) & (index < np.array(fixed.shape)[:, None] - 0.5)
    in_slab = inside[fixed.slice_axis]
    beside = 1 - inside[:, in_slab].all(axis=0).mean() if in_slab.any() else 0.0
    return [f"{beside:.0%} of the muscle lies beside the T2 images' field of view: they may be cut off"] \
        if beside > CUT_OFF else []


def _index(volume, other, places, transform):
    """Where voxels of one volume lie in another, as indices of that."""
    matrices = np.linalg.inv(other.affine) @ transform @ volume.affine
    points = np.vstack([places, np.ones(places.shape[1])])
    if matrices.ndim == 2:
        return (matrices @ points)[:3]
    return np.einsum("nab,bn->an", matrices[places[volume.slice_axis]], points)[:3]
