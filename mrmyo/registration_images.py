"""Images as SimpleITK wants them, ready for registration: one channel, shading off, the body told from the air.

SimpleITK's positions are LPS, as DICOM's are; a flip of two axes on both sides, and nothing of it leaves this room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from scipy import ndimage

from mrmyo.volume import Volume

__all__ = ["FLIP", "body_mask", "one_thread", "single_channel", "to_image", "unshaded"]

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS and back
AIR = 0.06  # of the brightest percentile; noise and suppressed fat lie below
N4_VOXEL_MM, N4_ITERATIONS = 8.0, (20, 20, 10)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let SimpleITK use one thread: the sums of several differ in their last digits from run to run."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def single_channel(volume: Volume) -> Volume:
    """The mean over the echoes of a multi-echo volume; any other volume as it is, in float32."""
    array = volume.array.mean(axis=3) if volume.array.ndim == 4 else volume.array
    array = np.nan_to_num(np.asarray(array, np.float32), posinf=0, neginf=0)
    return volume.with_array(array, echo_times_ms=None)


def to_image(volume: Volume, array=None):
    """A 3-D volume, or another array on its grid, as a SimpleITK image."""
    import SimpleITK

    array = volume.array if array is None else array
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    affine, spacing = FLIP @ volume.affine, volume.spacing_mm
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def body_mask(volume: Volume) -> np.ndarray:
    """Which voxels of a 3-D volume hold the body, holes filled slice by slice: an array of bool."""
    axis = volume.slice_axis
    in_plane = np.where(np.arange(3) == axis, 0, 3.0 / volume.spacing_mm)
    smooth = ndimage.gaussian_filter(np.asarray(volume.array, np.float32), in_plane)
    mask = smooth > AIR * max(float(np.percentile(smooth, 99)), 1e-12)
    for inside in np.moveaxis(mask, axis, 0):
        inside[:] = ndimage.binary_fill_holes(inside)
    return mask


def unshaded(volume: Volume, mask) -> np.ndarray:
    """The voxels of a 3-D volume with the shading of the coils taken off by N4 (Tustison 2010, as in SimpleITK).

    Shading that differs between two series pulls their registration towards it: by half a millimetre and more.
    """
    import SimpleITK

    image = to_image(volume, np.maximum(volume.array, 1e-6 * max(float(volume.array.max()), 1e-6)))
    coarse = [max(int(N4_VOXEL_MM / s), 1) for s in volume.spacing_mm]
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    n4.Execute(SimpleITK.Shrink(image, coarse), SimpleITK.Shrink(to_image(volume, mask.astype(np.uint8)), coarse))
    field = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    return (volume.array / np.exp(field)).astype(np.float32)
