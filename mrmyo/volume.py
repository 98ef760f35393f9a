"""The array that travels: voxels with a known place in the patient.

Inside mrmyo every position is RAS+ in millimetres (x grows to the right, y forwards, z upwards, as the patient
sees it), and every time is in milliseconds. DICOM's LPS exists only in :mod:`mrmyo.dicom`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

__all__ = [
    "GridError", "Volume", "axis_codes", "by_slice", "in_axis_order_of", "reformat", "resample", "resample_mean",
    "same_grid", "to_canonical",
]


class GridError(ValueError):
    """Two volumes do not share a grid, or a grid makes no sense."""


@dataclass(frozen=True)
class Volume:
    """Voxels, where they lie, and what is known of them.

    Parameters
    ----------
    array : numpy.ndarray
        Shaped (i, j, k), or (i, j, k, n_echoes) for a multi-echo series.
    affine : numpy.ndarray
        (4, 4): voxel index (i, j, k, 1) to RAS+ position in mm of the voxel's centre.
    echo_times_ms : tuple of float, optional
        One per echo, in milliseconds, ascending.
    meta : mapping
        Further facts by DICOM keyword in DICOM units (``{"RepetitionTime": 6690.0}``), never identities.

    Raises
    ------
    GridError
        When the affine is not an invertible (4, 4), the array not 3-D or 4-D, or the echo times do not
        match the last axis.
    """

    array: np.ndarray
    affine: np.ndarray
    echo_times_ms: tuple[float, ...] | None = None
    meta: Mapping = field(default_factory=dict)

    def __post_init__(self):
        array, affine = np.asarray(self.array), np.array(self.affine, dtype=float)
        if array.ndim not in (3, 4):
            raise GridError(f"A volume has 3 axes, or 4 with echoes; found shape {array.shape}.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GridError(f"The affine must be a finite, invertible (4, 4) matrix; found\n{affine}")
        if self.echo_times_ms is not None:
            times = tuple(float(t) for t in self.echo_times_ms)
            n_echoes = array.shape[3] if array.ndim == 4 else 1
            if len(times) != n_echoes:
                raise GridError(f"Found {len(times)} echo times for {n_echoes} echoes; give one per echo.")
            object.__setattr__(self, "echo_times_ms", times)
        affine.setflags(write=False)
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affine)

    def __repr__(self):
        size = " × ".join(map(str, self.array.shape))
        return f"<Volume {size}, {' × '.join(f'{step:.2f}' for step in self.spacing_mm)} mm, {axis_codes(self.affine)}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The spatial shape (i, j, k), echoes left out."""
        return self.array.shape[:3]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring voxel centres along i, j and k, in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def slice_axis(self) -> int:
        """The array axis along which slices are stacked: the one of the widest spacing, k when in doubt."""
        spacing = self.spacing_mm
        return int(np.argmax(spacing)) if spacing.max() > 1.05 * spacing[2] else 2

    def with_array(self, array, **changes) -> Volume:
        """The same place with other voxels."""
        return replace(self, array=array, **changes)

    def echo(self, index: int) -> Volume:
        """One echo of a multi-echo volume as a 3-D volume."""
        if self.array.ndim != 4:
            raise GridError(f"This volume has no echoes: its shape is {self.array.shape}.")
        times = None if self.echo_times_ms is None else (self.echo_times_ms[index],)
        return replace(self, array=self.array[..., index], echo_times_ms=times)


def axis_codes(affine) -> str:
    """The anatomical direction of each array axis, as in 'RAS' or 'LPI' (oblique axes: the nearest).

    The letters name where an axis leads: 'R' means that larger indices lie further to the patient's right.
    """
    import nibabel

    return "".join(nibabel.aff2axcodes(np.asarray(affine)))


def to_canonical(volume: Volume) -> Volume:
    """The volume with axes permuted and flipped so that i, j, k lead to Right, Anterior, Superior as nearly as may be.

    No voxel changes its value or its place; an oblique volume stays oblique.
    """
    import nibabel

    orientation = nibabel.io_orientation(volume.affine)
    array = nibabel.apply_orientation(volume.array, orientation)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(orientation, volume.shape)
    return volume.with_array(array, affine=affine)


def in_axis_order_of(volume: Volume, like: Volume) -> Volume:
    """The volume with axes permuted and flipped into the anatomical order of another's; no voxel changes its place.

    Viewers often save in an order of their own.
    """
    import nibabel
    from nibabel.orientations import inv_ornt_aff, ornt_transform

    turn = ornt_transform(nibabel.io_orientation(volume.affine), nibabel.io_orientation(like.affine))
    array = nibabel.apply_orientation(volume.array, turn)
    return volume.with_array(array, affine=volume.affine @ inv_ornt_aff(turn, volume.shape))


def same_grid(a: Volume, b: Volume, *, tolerance_mm: float = 0.01) -> bool:
    """Whether two volumes have the same shape and every corner voxel at the same place within the tolerance."""
    if a.shape != b.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape], indexing="ij")).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((a.affine - b.affine) @ corners)[:3].max() <= tolerance_mm)


def resample(volume: Volume, like: Volume, *, order: int = 1, fill: float = 0.0) -> Volume:
    """Sample a 3-D volume at the voxel centres of another, by position.

    Parameters
    ----------
    volume, like : Volume
        What to sample, and the grid to sample it on.
    order : int
        Spline order: 0 nearest neighbour (labels), 1 linear, 3 cubic.
    fill : float
        The value outside the field of view, which ends half a voxel beyond the outermost centres; within that half
        voxel the nearest centres count.
    """
    if volume.array.ndim != 3:
        raise GridError(f"Only 3-D volumes are resampled; found shape {volume.array.shape}. Take one echo first.")
    to_index = np.linalg.inv(volume.affine) @ like.affine
    array = ndimage.affine_transform(
        volume.array, to_index[:3, :3], to_index[:3, 3], output_shape=like.shape, order=order, mode="nearest",
        output=volume.array.dtype if order == 0 else np.float32,
    )
    # scipy's own filling begins at the outermost centres, where rounding then decides over a whole slice
    i, j, k = np.indices(like.shape, sparse=True)
    for (a, b, c, d), n in zip(to_index[:3], volume.shape, strict=True):
        place = a * i + b * j + c * k + d
        array[(place < -0.5 - 1e-6) | (place > n - 0.5 + 1e-6)] = fill
    return like.with_array(array, echo_times_ms=None, meta=volume.meta)


def resample_mean(volume: Volume, like: Volume, *, transform=None, samples=(2, 2, 2)) -> Volume:
    """The mean of a 3-D volume over each voxel of another grid, by linear interpolation at points within it.

    Parameters
    ----------
    volume, like : Volume
    transform : array, (4, 4) or (n_slices, 4, 4), optional
        From RAS positions in mm in `like` to positions in `volume`, as `mrmyo.align` gives it, of every slice of `like`
        where there are several; the identity when None.
    samples : tuple of int
        Points per voxel along i, j and k; along the slice axis within the slice thickness, not the gap.

    Returns
    -------
    Volume
        float32; NaN where any point of the voxel lies outside the field of view.
    """
    if np.ndim(transform) == 3:
        return by_slice(lambda grid, one: resample_mean(volume, grid, transform=one, samples=samples), like, transform)
    extent = np.ones(3)
    if thickness := like.meta.get("SliceThickness"):
        extent[like.slice_axis] = min(1.0, float(thickness) / like.spacing_mm[like.slice_axis])
    axes = [((np.arange(n) + 0.5) / n - 0.5) * e for n, e in zip(samples, extent, strict=True)]
    to_volume = np.eye(4) if transform is None else np.asarray(transform, dtype=float)
    total = np.zeros(like.shape)
    for offset in itertools.product(*axes):
        shift = np.eye(4)
        shift[:3, 3] = offset
        moved = Volume(like.array, to_volume @ like.affine @ shift, meta=like.meta)
        total += resample(volume, moved, fill=np.nan).array
    return Volume((total / np.prod(samples)).astype(np.float32), like.affine, meta=dict(volume.meta))


def by_slice(sample: Callable[[Volume, np.ndarray], Volume], like: Volume, transforms) -> Volume:
    """What `sample(grid, transform)` gives for every single slice of a grid and its own transform, put together."""
    axis, parts = like.slice_axis, []
    if len(transforms) != like.shape[axis]:
        raise GridError(f"Found {len(transforms)} transforms for {like.shape[axis]} slices; give one per slice.")
    for k, transform in enumerate(transforms):
        step = np.eye(4)
        step[axis, 3] = k
        parts.append(sample(Volume(like.array.take([k], axis), like.affine @ step, like.echo_times_ms, like.meta),
                            transform))
    return parts[0].with_array(np.concatenate([part.array for part in parts], axis), affine=like.affine)


def reformat(volume: Volume, *, plane: str = "axial", spacing_mm: float = 5.0) -> Volume:
    """Slices of another plane from a stack of thin ones, as a scanner reformats them (1 mm coronal → 5 mm axial).

    Each slice is the mean of what lies within its slab, voxels in part by their part, so that nothing finer than the
    slab comes back as an alias. The slabs follow the volume's own axes (an oblique stack stays oblique), fill its
    extent from the middle outwards, and leave out what at the ends does not fill one.

    Parameters
    ----------
    volume : Volume
        3-D; its voxels along the new slice direction no larger than the slab.
    plane : {"axial", "coronal", "sagittal"}
        Of the new slices: the volume's axis nearest to its normal becomes the last one.
    spacing_mm : float
        Thickness and distance of the new slices.

    Returns
    -------
    Volume
        float32; in plane its voxels are the old ones, slices lead to Superior, Anterior or Right.

    Raises
    ------
    GridError
        When the volume has echoes, the plane is unknown, or its voxels are too large or too few for a slab.
    """
    planes = {"sagittal": 0, "coronal": 1, "axial": 2}
    if plane not in planes:
        raise GridError(f"Found plane={plane!r}; expected one of {', '.join(planes)}.")
    if volume.array.ndim != 3:
        raise GridError(f"Only 3-D volumes are reformatted; found shape {volume.array.shape}. Take one echo first.")
    canonical = to_canonical(volume)
    axis = planes[plane]
    n, step = canonical.shape[axis], canonical.spacing_mm[axis]
    n_slabs = int(n * step / spacing_mm + 1e-6)
    if not 0 < step <= spacing_mm * (1 + 1e-6) or n_slabs < 1:
        raise GridError(
            f"Found {n} voxels of {step:.2f} mm along the new slices; expected voxels no larger than the slab of "
            f"{spacing_mm:g} mm, and at least one slab of them. A thick stack cannot be reformatted."
        )
    thickness = spacing_mm / step  # in voxels; voxel i reaches from i to i + 1
    edges = (n - n_slabs * thickness) / 2 + thickness * np.arange(n_slabs + 1)
    voxels = np.arange(n)
    shared = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    weights = np.clip(shared, 0, None) / thickness
    array = np.moveaxis(np.tensordot(canonical.array, weights.astype(np.float32), (axis, 1)), -1, axis)
    to_old = np.eye(4)
    to_old[axis, axis], to_old[axis, 3] = thickness, (edges[0] + edges[1] - 1) / 2
    order = [*(k for k in range(3) if k != axis), axis]
    facts = {"SliceThickness": float(spacing_mm), "SpacingBetweenSlices": float(spacing_mm)}
    return Volume(array.transpose(order).astype(np.float32, copy=False),
                  (canonical.affine @ to_old)[:, [*order, 3]], None, {**volume.meta, **facts})
