"""Where the thighs are, for :mod:`mrmyo.segmentation`: the body, the valley between the thighs, the middle of each."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["SegmentationError", "find_body", "find_centres", "find_sides", "side_source"]

COARSE_MM = 2.6


class SegmentationError(ValueError):
    """The image cannot be segmented, or the model file is not one."""


def _otsu(values):
    """The threshold that separates two classes best (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middle = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return edges[1 + int(np.nanargmax(between))]


def find_body(stack, spacing):
    """Where the body is, slice by slice: the large connected regions above Otsu's threshold, holes filled.

    Found on pixels of 2 to 4 mm, which is fine enough to place a thigh and several times faster than finer ones.
    """
    n, factor = stack.shape, np.maximum(np.rint(COARSE_MM / spacing), 1).astype(int)
    if (factor > 1).any():
        filled = np.pad(stack, [(0, 0), *((0, -size % f) for size, f in zip(n[1:], factor, strict=True))], mode="edge")
        blocks = filled.reshape(n[0], -1, factor[0], filled.shape[2] // factor[1], factor[1]).mean((2, 4))
        body = find_body(blocks, spacing * factor)
        return body.repeat(factor[0], 1).repeat(factor[1], 2)[:, :n[1], :n[2]]
    smooth = ndimage.gaussian_filter(stack, (0, *(2.0 / spacing)))
    bright = np.percentile(smooth, 99.5, axis=(1, 2))
    if bright.max() <= 0 or np.ptp(stack) == 0:
        raise SegmentationError("Found no body: the image is constant. Expected axial slices through the thighs.")
    # each slice on its own scale, for coils fade along the body; but an empty one must not be blown up
    root = np.sqrt(np.clip(smooth / np.maximum(bright, 0.2 * bright.max())[:, None, None], 0, 1))
    body = root > _otsu(root)
    for plane in body:
        plane[:] = ndimage.binary_fill_holes(plane)
        parts, n = ndimage.label(plane)
        area = np.bincount(parts.ravel(), minlength=n + 1) * spacing.prod()
        area[0] = 0
        plane[:] = (area >= max(0.3 * area.max(), 1000.0))[parts]  # arms, hands and specks are smaller
    if not body.any():
        raise SegmentationError("Found no body: no region of at least 10 cm² stands out. "
                                "Expected axial slices through the thighs.")
    return body


def find_sides(body, canonical):
    """{side: first and last column of its thigh, per slice}, from the valley between the thighs.

    Two thighs are much wider than deep, or leave a gap; one thigh is neither.
    """
    spacing = canonical.spacing_mm
    area = ndimage.gaussian_filter1d(body.sum(2).astype(float), 4.0 / spacing[0], axis=1)  # (slice, column)
    profile = area.mean(0)
    columns = np.flatnonzero(body.any((0, 2)))
    first, last = columns[[0, -1]]
    n = area.shape[1]
    width = (last - first + 1) * spacing[0]
    depth = np.median([np.ptp(np.flatnonzero(plane.any(0))) + 1 for plane in body if plane.any()]) * spacing[1]
    centre = slice(first + round(0.3 * (last - first)), first + round(0.7 * (last - first)) + 1)
    valley = centre.start + int(profile[centre].argmin())
    peaks = min(profile[:valley + 1].max(), profile[valley:].max())
    if profile[valley] > 0.75 * peaks or (width < 1.35 * depth and profile[valley] > 0.2 * peaks):
        whole = np.tile([0, n], (len(body), 1))
        return {_lone_side(canonical, 0.5 * (first + last)): whole}
    # each slice may shift its own valley a little, smoothly from slice to slice
    near = np.arange(max(valley - round(25 / spacing[0]), 0), min(valley + round(25 / spacing[0]) + 1, n))
    cost = area[:, near] / max(peaks, 1e-6) + (0.3 * (near - valley) * spacing[0] / 25) ** 2
    cut = near[ndimage.gaussian_filter1d(cost, 1.0, axis=0).argmin(1)]
    # column indices grow towards the patient's right, so the left thigh has the lower ones
    return {"left": np.stack([np.zeros_like(cut), cut], 1), "right": np.stack([cut, np.full_like(cut, n)], 1)}


def _laterality(canonical):
    given = [canonical.meta.get(keyword) for keyword in ("ImageLaterality", "Laterality", "FrameLaterality")]
    return next(({"L": "left", "R": "right"}[side] for side in given if side in ("L", "R")), None)


def side_source(canonical, sides) -> str:
    """How left and right are known: ``two thighs``, ``laterality`` (of the headers) or ``position`` in the scanner."""
    if len(sides) == 2:
        return "two thighs"
    return "laterality" if _laterality(canonical) else "position"


def _lone_side(canonical, column):
    if side := _laterality(canonical):
        return side
    middle = [column, *(0.5 * (n - 1) for n in canonical.shape[1:]), 1.0]
    return "left" if (canonical.affine @ middle)[0] < 0 else "right"


def find_centres(body, sides, spacing):
    """{side: (n_slices, 2) centroid in mm from the first voxel}, smooth along the stack."""
    centres = {}
    for side, columns in sides.items():
        own = np.arange(body.shape[1])
        found = np.full((len(body), 2), np.nan)
        for k, plane in enumerate(body):
            mask = plane & ((own >= columns[k, 0]) & (own < columns[k, 1]))[:, None]
            if mask.sum() * spacing.prod() > 1000:
                found[k] = np.array(ndimage.center_of_mass(mask)) * spacing
        known = np.flatnonzero(np.isfinite(found[:, 0]))
        if known.size:
            filled = np.stack([np.interp(np.arange(len(body)), known, found[known, a]) for a in (0, 1)], 1)
            centres[side] = ndimage.gaussian_filter1d(filled, 1.0, axis=0, mode="nearest")
    return centres
