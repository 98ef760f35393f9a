"""How the images of one series stack up: one even, untilted grid of slices × echoes, or a refusal that says why not."""

from __future__ import annotations

import numpy as np

__all__ = ["POSITION_TOLERANCE_MM", "DicomError", "arrange", "echo_times", "plane_of"]

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
    n_slices = int(slice_of.max()) + 1
    cells = [[[] for _ in times] for _ in range(n_slices)]
    for image, k in zip(images, slice_of, strict=True):
        if "EchoTime" not in image and len(times) > 1:
            raise DicomError("some images lack EchoTime where others have several; export the series with it")
        echo = int(np.argmin(np.abs(times - image["EchoTime"]))) if "EchoTime" in image else 0
        cells[k][echo].append(image)
    counts = np.array([[len(cell) for cell in row] for row in cells])
    if (counts == 0).any():
        per_echo = ", ".join(f"{time:g} ms: {n}" for time, n in zip(times, (counts > 0).sum(axis=0), strict=True))
        raise DicomError(
            f"missing slices at some echoes: of {n_slices} slice positions found {per_echo}; expected every slice at "
            "every echo time. Export the whole series again"
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
