"""How the images of one series stack up: one even, untilted grid of slices × echoes, or a refusal that says why not."""

from __future__ import annotations

import numpy as np

__all__ = [
    "ECHO_TIME_TOLERANCE_MS", "MIN_SLICES", "POSITION_TOLERANCE_MM", "DicomError", "apart", "arrange", "coverage",
    "echo_times", "plane_of",
]

POSITION_TOLERANCE_MM = 0.05  # every slice must lie this near to its place on a straight, even, untilted stack
CORNER_TOLERANCE_MM = 0.1  # the far corners of two slices may differ by this much through spacing or orientation
ECHO_TIME_TOLERANCE_MS = 0.01
MIN_SLICES = 3  # with two, a missing slice between them could not be noticed
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class DicomError(ValueError):
    """A DICOM folder or series that cannot be read or written as asked."""


def echo_times(images) -> tuple[float, ...]:
    """The different echo times of the images, ascending, in ms."""
    times = []
    for time in sorted(image["EchoTime"] for image in images if "EchoTime" in image):
        if not times or time - times[-1] > ECHO_TIME_TOLERANCE_MS:
            times.append(float(time))
    return tuple(times)


def plane_of(orientation) -> str:
    """The anatomical plane of ImageOrientationPatient, 'oblique' when its normal is 30° or more off every axis."""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    nearest = int(np.argmax(normal))
    return ("sagittal", "coronal", "axial")[nearest] if normal[nearest] > np.cos(np.radians(30)) else "oblique"


def coverage(affine, shape) -> tuple[float, float]:
    """Lowest and highest RAS z over the edges of the voxels, in mm; NaNs without an affine."""
    if affine is None:
        return (np.nan, np.nan)
    ends = [np.array([-0.5, n - 0.5]) * step for n, step in zip(shape, affine[2, :3], strict=True)]
    low, high = (affine[2, 3] + sum(pick(end) for end in ends) for pick in (np.min, np.max))
    return (round(float(low), 3), round(float(high), 3))


def apart(one, n_one, other, n_other, *, declared=False) -> bool:
    """Whether two stacks are stations of their own rather than pieces of one stack.

    Pieces are interleaved (slices of one between those of the other, over more than half their length) or follow each
    other on one line with a gap of some whole slices. `declared` stacks (StackID) may leave a gap.
    """
    normals = [affine[:3, 2] / np.linalg.norm(affine[:3, 2]) for affine in (one, other)]
    if abs(normals[0] @ normals[1]) < np.cos(np.radians(1)):
        return True
    ends = [sorted(normals[0] @ (affine[:3, 3] + k * affine[:3, 2]) for k in (0, n - 1))
            for affine, n in ((one, n_one), (other, n_other))]
    common = min(ends[0][1], ends[1][1]) - max(ends[0][0], ends[1][0])
    if common > 0.5 * min(end[1] - end[0] for end in ends):
        return False
    step = np.linalg.norm(one[:3, 2])
    shift = other[:3, 3] - one[:3, 3]
    aside = np.linalg.norm(shift - (shift @ normals[0]) * normals[0])
    on_line = aside < 1 and abs(-common / step - round(-common / step)) < 0.02
    same_step = abs(step - np.linalg.norm(other[:3, 2])) < POSITION_TOLERANCE_MM
    return declared or not (on_line and same_step and common < -1.5 * step)


def arrange(images):
    """Order the images of one series by slice and echo.

    Parameters
    ----------
    images : list of dict
        Headers: Rows, Columns, PixelSpacing, ImageOrientationPatient, ImagePositionPatient, EchoTime.

    Returns
    -------
    tuple
        The images as a list over slices of lists over echoes; and the (4, 4) affine from (column, row, slice) to RAS+.

    Raises
    ------
    DicomError
        Naming everything that keeps the images from being one volume.
    """
    across, down = _in_plane(images)
    normal = np.cross(across / np.linalg.norm(across), down / np.linalg.norm(down))
    positions = np.array([image["ImagePositionPatient"] for image in images])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    new_slice = np.diff(heights[order], prepend=-np.inf) > POSITION_TOLERANCE_MM
    slice_of = np.empty(len(images), dtype=int)
    slice_of[order] = np.cumsum(new_slice) - 1

    stack = _slices_by_echoes(images, slice_of)
    places = np.array([echoes[0]["ImagePositionPatient"] for echoes in stack])
    problems = _stack_problems(places, normal)
    step = (places[-1] - places[0]) / max(len(places) - 1, 1)
    strays = np.abs(positions - (places[0] + slice_of[:, None] * step)).max()
    if not problems and strays > POSITION_TOLERANCE_MM:
        problems = [f"slices lie {strays:.2f} mm off a straight stack; expected at most {POSITION_TOLERANCE_MM} mm"]
    if problems:
        raise DicomError("; ".join(problems))
    affine = np.eye(4)
    affine[:3] = np.column_stack([across, down, step, places[0]])
    return stack, _LPS_TO_RAS @ affine


def _in_plane(images):
    """The steps from column to column and from row to row in mm (LPS), the same for every image."""
    needed = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Columns", "Rows")
    for key in needed:
        missing = sum(key not in image for image in images)
        if missing:
            raise DicomError(f"no geometry: {missing} of {len(images)} images lack {key}; export the series with it")
    sizes = sorted({(image["Columns"], image["Rows"]) for image in images})
    if len(sizes) > 1:
        raise DicomError(f"inconsistent matrix: found columns × rows {sizes}; expected one size")
    orientations = np.array([image["ImageOrientationPatient"] for image in images]).reshape(-1, 2, 3)
    spacings = np.array([image["PixelSpacing"] for image in images])
    positions = np.array([image["ImagePositionPatient"] for image in images])
    if not all(np.isfinite(values).all() for values in (orientations, spacings, positions)) or min(sizes[0]) < 1:
        raise DicomError("no usable geometry: found positions, spacings or a matrix that are not finite or not above 0")
    if spacings.min() <= 0 or np.abs(orientations @ orientations.transpose(0, 2, 1) - np.eye(2)).max() > 1e-3:
        raise DicomError("no usable geometry: expected positive pixel spacing, orthonormal row and column directions")
    edges = orientations * spacings[:, ::-1, None] * np.array(sizes[0])[:, None]
    if np.abs(edges - edges[0]).max() > CORNER_TOLERANCE_MM:
        normals = np.cross(orientations[:, 0], orientations[:, 1])
        angle = np.degrees(np.arccos(np.clip(normals @ normals[0], -1, 1).min()))
        planes = sorted({plane_of(image["ImageOrientationPatient"]) for image in images})
        raise DicomError(
            f"mixed planes or pixel spacings: slice normals up to {angle:.1f}° apart ({', '.join(planes)}), "
            f"pixel spacings {sorted({tuple(row) for row in np.round(spacings, 4).tolist()})} mm; expected parallel "
            "slices of one field of view. Export each plane as its own series"
        )
    return edges[0] / np.array(sizes[0])[:, None]


def _slices_by_echoes(images, slice_of):
    times = np.array(echo_times(images) or (np.nan,))
    numbers = {image["EchoNumbers"] for image in images if "EchoNumbers" in image}
    n_slices = int(slice_of.max()) + 1
    cells = [[[] for _ in times] for _ in range(n_slices)]
    for image, k in zip(images, slice_of, strict=True):
        if "EchoTime" not in image and np.isfinite(times[0]):
            raise DicomError("some images lack EchoTime where others have it; export the series with it")
        echo = int(np.argmin(np.abs(times - image["EchoTime"]))) if "EchoTime" in image else 0
        cells[k][echo].append(image)
    counts = np.array([[len(cell) for cell in row] for row in cells])
    if (counts == 0).any():
        per_echo = ", ".join(f"{time:g} ms: {n}" for time, n in zip(times, (counts > 0).sum(axis=0), strict=True))
        raise DicomError(
            f"missing slices at some echoes: of {n_slices} slice positions found {per_echo}; expected every slice at "
            "every echo time. Export the whole series again"
        )
    if counts.max() == counts.min() > 1 and len(times) == 1:
        found = f"all have {times[0]:g} ms" if np.isfinite(times[0]) else "none has an EchoTime"
        if len(numbers) > 1 or not np.isfinite(times[0]):
            raise DicomError(
                f"echo times absent or equal: up to {counts.max()} images share one slice position and {found}; "
                "expected one echo time each, or one image a position. Export the series with EchoTime"
            )
    if counts.max() > 1:
        raise DicomError(
            f"duplicated positions: up to {counts.max()} images share one slice position and echo time ({len(images)} "
            f"images at {n_slices} positions); expected one each. Repeats in time or diffusion weightings are no volume"
        )
    return [[cell[0] for cell in row] for row in cells]


def _stack_problems(places, normal):
    if len(places) < MIN_SLICES:
        return [f"too few slices: found {len(places)}, expected at least {MIN_SLICES} to know that none is missing"]
    problems = []
    gaps = np.diff(places, axis=0)
    along = gaps @ normal
    uneven = np.abs(np.cumsum(along) - np.arange(1, len(gaps) + 1) * along.mean()).max()
    if uneven > POSITION_TOLERANCE_MM:
        problems.append(
            f"uneven slice spacing: gaps from {along.min():.3f} to {along.max():.3f} mm; expected equal gaps (slices "
            f"within {POSITION_TOLERANCE_MM} mm of their place). A slice may be missing; export the series again"
        )
    aside = gaps - along[:, None] * normal
    if np.linalg.norm(aside, axis=1).max() > POSITION_TOLERANCE_MM:
        tilt = np.degrees(np.arctan2(np.linalg.norm(aside, axis=1), along)).max()
        problems.append(
            f"gantry tilt: slices step up to {tilt:.1f}° off their normal; expected a step along it (within "
            f"{POSITION_TOLERANCE_MM} mm). Resample the series on an untilted grid first"
        )
    return problems
