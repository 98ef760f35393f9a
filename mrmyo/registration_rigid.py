"""How a patient moved between two series, by the contents of the images: rigidly, and slice by slice in plane.

Mutual information within the body (Mattes 2003, as in SimpleITK), on images without shading, from coarse to fine. The
measure prefers where the moving image shows more (further up, thighs are thicker), so the last step is taken in both
directions, where that pull is opposite, and the middle of the two counts; how far they lie apart tells how sure it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrmyo.registration_images import FLIP, body_mask, one_thread, single_channel, to_image, unshaded
from mrmyo.volume import Volume, resample

__all__ = ["Motion", "find_motion", "find_slice_shifts", "turn_deg"]

BLUR_MM = (6.0, 3.0, 1.5)
BINS = 40
SAMPLES = 60_000
MOST_MM, MOST_DEG = 30.0, 15.0  # more is not a patient who moved, but a registration that went astray
MOST_APART_MM = 2.0
LEAST_VOXELS, LEAST_IN_SLICE = 2000, 400
SLICE_BLUR_MM, SLICE_BINS, MOST_SLICE_MM = 2.0, 24, 8.0


@dataclass(frozen=True)
class Motion:
    """What a registration found.

    Attributes
    ----------
    transform : numpy.ndarray
        (4, 4), from RAS positions in mm in the fixed image to positions in the moving one.
    apart_mm : float
        How far registration there and back lie from each other, at most, in the middle and 100 mm from it.
    before, after : float
        Mutual information with the identity and with the transform, in nats.
    problem : str
        Why it cannot be used; '' when it can.
    """

    transform: np.ndarray
    apart_mm: float = np.nan
    before: float = np.nan
    after: float = np.nan
    problem: str = ""


@one_thread()
def find_motion(moving: Volume, fixed: Volume) -> Motion:
    """The rigid motion of a patient between two series.

    Parameters
    ----------
    moving, fixed : Volume
        In one frame of reference; of several echoes the mean counts.

    Returns
    -------
    Motion
    """
    import SimpleITK

    fixed, moving = single_channel(fixed), single_channel(moving)
    masks = [body_mask(volume) for volume in (fixed, moving)]
    if any(m.sum() < LEAST_VOXELS or np.ptp(v.array[m]) == 0 for m, v in zip(masks, (fixed, moving), strict=True)):
        return Motion(np.eye(4), problem="there is too little in the images to go by")
    flat = [volume.with_array(unshaded(volume, mask)) for volume, mask in zip((fixed, moving), masks, strict=True)]
    within = [to_image(v, m.astype(np.uint8)) for v, m in zip(flat, masks, strict=True)]
    centre = (FLIP @ fixed.affine @ [*np.array(np.nonzero(masks[0])).mean(axis=1), 1])[:3]
    there = SimpleITK.Euler3DTransform()
    there.SetCenter(centre.tolist())
    try:
        for blur_mm in BLUR_MM:
            pair = [_blurred(volume, blur_mm) for volume in flat]
            _climb(*pair, within[0], there)
        back = SimpleITK.Euler3DTransform(there.GetInverse())
        _climb(*pair[::-1], within[1], back)
        found, apart_mm = _middle(_matrix(there), np.linalg.inv(_matrix(back)), FLIP[:3, :3] @ centre)
        before, after = (_similarity(*pair, within[0], _affine(matrix)) for matrix in (np.eye(4), found))
    except RuntimeError:  # too few samples of the mask fall into the moving image
        return Motion(np.eye(4), problem="the images share too little of the body")
    return Motion(found, apart_mm, before, after, _problem(found, apart_mm, before, after, centre))


@one_thread()
def find_slice_shifts(moving: Volume, fixed: Volume, transform) -> np.ndarray:
    """How far every slice of the fixed image still lies from the moving one in its plane, after a rigid transform.

    Parameters
    ----------
    moving, fixed : Volume
    transform : array, (4, 4)
        From positions in `fixed` to positions in `moving`.

    Returns
    -------
    numpy.ndarray
        (n_slices, 3) in RAS mm along `fixed`'s slice axis: what to add to positions in `fixed` before the transform.
        NaN where a slice has too little in it, or is not found within 8 mm.
    """
    fixed, moving = single_channel(fixed), single_channel(moving)
    axis = fixed.slice_axis
    beneath = resample(moving, fixed.with_array(fixed.array, affine=transform @ fixed.affine), fill=np.nan)
    known = np.isfinite(beneath.array)
    beneath = fixed.with_array(np.where(known, beneath.array, 0))
    mask = body_mask(fixed) & known
    pair = [unshaded(volume, mask) for volume in (fixed, beneath)] if mask.sum() >= LEAST_VOXELS else None
    shifts = np.full((fixed.shape[axis], 3), np.nan)
    for k in range(len(shifts)) if pair else ():
        images = [_slice_image(array.take(k, axis), fixed, axis) for array in pair]
        inside = mask.take(k, axis)
        if inside.sum() >= LEAST_IN_SLICE:
            in_plane = _slice_shift(*images, _slice_image(inside, fixed, axis, blur_mm=0))
            if np.abs(in_plane).max() <= MOST_SLICE_MM:
                directions = np.delete(fixed.affine[:3, :3] / fixed.spacing_mm, axis, axis=1)
                shifts[k] = directions @ in_plane
    return shifts


def _slice_image(array, volume, axis, blur_mm=SLICE_BLUR_MM):
    """One slice as a 2-D image whose axes are the array's, in mm."""
    import SimpleITK

    spacing = np.delete(volume.spacing_mm, axis)
    kind = np.float32 if blur_mm else np.uint8
    array = ndimage.gaussian_filter(array.astype(np.float32), blur_mm / spacing) if blur_mm else array
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T.astype(kind)))
    image.SetSpacing(spacing.tolist())
    return image


def _slice_shift(fixed, moving, within):
    """The shift in mm along both axes; infinite where none was found."""
    import SimpleITK

    transform = SimpleITK.TranslationTransform(2)
    method = _method(within, transform, bins=SLICE_BINS)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-2, 40, relaxationFactor=0.5)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        return np.full(2, np.inf)
    return np.array(transform.GetOffset())


def _problem(found, apart_mm, before, after, centre):
    shift = float(np.linalg.norm((found - np.eye(4))[:3] @ [*FLIP[:3, :3] @ centre, 1]))
    turn = turn_deg(found)
    if shift > MOST_MM or turn > MOST_DEG:
        return f"it went astray, to {shift:.0f} mm and {turn:.0f}°"
    if apart_mm > MOST_APART_MM:
        return f"there and back lie {apart_mm:.1f} mm apart"
    return "" if after > before else "the images did not become more alike"


def turn_deg(transform) -> float:
    """The angle of a rigid transform in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(np.asarray(transform)[:3, :3]) - 1) / 2, -1, 1))))


def _middle(one, other, centre):
    """The transform midway between two that are nearly the same, and how far they lie apart in mm."""
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_matrix([one[:3, :3], other[:3, :3]]).mean().as_matrix()
    to = ((one + other)[:3] @ [*centre, 1]) / 2
    middle = np.eye(4)
    middle[:3, :3], middle[:3, 3] = rotation, to - rotation @ centre
    points = np.vstack([centre[:, None] + 100 * np.c_[np.zeros(3), np.eye(3), -np.eye(3)], np.ones(7)])
    return middle, float(np.linalg.norm(((one - other) @ points)[:3], axis=0).max())


def _blurred(volume, blur_mm):
    in_plane = np.where(np.arange(3) == volume.slice_axis, 0, blur_mm / volume.spacing_mm)
    return to_image(volume, ndimage.gaussian_filter(volume.array, in_plane))


def _method(within, transform, *, share=1.0, bins=BINS):
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetMetricFixedMask(within)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, 1)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _climb(fixed, moving, within, transform):
    import SimpleITK

    n = SimpleITK.GetArrayViewFromImage(within).sum()
    method = _method(within, transform, share=min(SAMPLES / n, 1.0))
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 60, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(fixed, moving)


def _similarity(fixed, moving, within, transform):
    return -float(_method(within, transform).MetricEvaluate(fixed, moving))


def _matrix(transform):
    """A SimpleITK transform with a centre as a (4, 4) in RAS mm."""
    rotation, centre = np.array(transform.GetMatrix()).reshape(3, 3), np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - rotation @ centre
    return FLIP @ matrix @ FLIP


def _affine(matrix):
    import SimpleITK

    lps = FLIP @ matrix @ FLIP
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    return transform
