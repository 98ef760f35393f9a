"""Measure the shape table of `mrmyo.anatomy` on real label maps: ``python scripts/fit_anatomy.py LABEL_MAPS OUT.json``.

The maps are those described in ``../shared/real/README.md`` (Apache-2.0; 29 thighs, 11 muscles). Only averages over
all of them leave this script: per level along the thigh, every muscle as a few Gaussians in a frame whose unit is the
radius of the muscle compartment, the mean outline as Fourier harmonics, and the mean place of the femur.

A level is the distance from the middle of the short head of the biceps femoris in units of half its length, so
that 0 lies in the distal third of the thigh and about 1.5 at its middle.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay

# values in the maps -> mrmyo values (left)
TO_MRMYO = {1: 5, 2: 4, 3: 1, 4: 3, 5: 2, 6: 7, 7: 6, 8: 11, 9: 10, 10: 9, 11: 12}
COMPONENTS = {1: 4, 2: 3, 3: 5, 4: 1, 5: 1, 6: 1, 7: 3, 9: 2, 10: 1, 11: 2, 12: 2, 0: 6}
LEVELS = np.round(np.arange(-0.6, 2.21, 0.2), 2)
N_HARMONICS = 5
SHORT_HEAD = 12


def read_sections(path):
    """Every thigh section of one map: level, labels (canonical: index i leads medially, j forwards), pixel size."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    lookup = np.zeros(64, int)
    for source, value in TO_MRMYO.items():
        lookup[source] = value
    labels = lookup[np.asarray(image.dataobj).astype(int)]
    zoom = np.array(image.header.get_zooms()[:3])
    columns = (labels > 0).sum((1, 2)).astype(float)
    middle = (columns * np.arange(columns.size)).sum() / columns.sum()
    low, high = int(middle - 40 / zoom[0]), int(middle + 40 / zoom[0])
    split = low + int(np.argmin(ndimage.uniform_filter1d(columns[low:high], 7)))
    for thigh in (labels[:split], labels[split:][::-1]):
        present = np.flatnonzero((thigh == SHORT_HEAD).sum((0, 1)) * zoom[0] * zoom[1] > 60)
        if present.size < 3:
            continue
        centre, half = 0.5 * (present[0] + present[-1]), 0.5 * (present[-1] - present[0] + 1)
        for k in range(thigh.shape[2]):
            if len(np.unique(thigh[..., k])) > 5:
                yield (k - centre) / half, thigh[..., k], zoom[:2]


def measure_section(labels, zoom, rng):
    """Outline, scale and femur of one section, and random points of every class in the normalised frame."""
    where = np.argwhere(labels > 0)
    corners = where[ConvexHull(where).vertices]
    inside = Delaunay(corners).find_simplex(np.argwhere(np.ones_like(labels)).astype(float)) >= 0
    inside = inside.reshape(labels.shape)
    centre = np.argwhere(inside).mean(0)
    radius = float(np.sqrt(inside.sum() * zoom.prod() / np.pi))
    angles = np.linspace(-np.pi, np.pi, 72, endpoint=False)
    steps = np.arange(0.3, 2.0, 0.01) * radius
    rays = centre[:, None, None] + np.stack([np.cos(angles), np.sin(angles)])[:, :, None] * steps / zoom[:, None, None]
    hits = ndimage.map_coordinates(inside.astype(float), rays, order=1)
    outline = steps[(hits > 0.5).sum(-1).clip(0, steps.size - 1)] / radius
    gap = ndimage.distance_transform_edt(inside & (labels == 0), sampling=zoom)
    deep = ndimage.distance_transform_edt(inside, sampling=zoom) > 0.33 * radius
    deep[int(centre[0] - 0.02 * radius / zoom[0]) :] = False  # the femur lies in the lateral half
    femur = np.array(np.unravel_index(np.argmax(gap * deep), labels.shape))
    points = {}
    for value in np.unique(labels[inside]):
        spots = np.argwhere(inside & (labels == value))
        take = spots[rng.integers(0, len(spots), 400)] + rng.uniform(-0.5, 0.5, (400, 2))
        points[int(value)] = ((take - centre) * zoom / radius, len(spots) / inside.sum())
    return radius, outline, (femur - centre) * zoom / radius, points


def fit_mixture(points, n, start, rng, n_iter=60):
    """A Gaussian mixture by expectation-maximisation; `start` keeps the components in order from level to level."""
    if start is None:
        means = points[rng.choice(len(points), n, replace=False)]
        covariances = np.repeat(np.cov(points.T)[None] / n, n, 0)
        weights = np.full(n, 1 / n)
    else:
        weights, means, covariances = (np.array(part) for part in start)
    for _ in range(n_iter):
        offset = points[:, None] - means
        inverse = np.linalg.inv(covariances)
        log_p = -0.5 * np.einsum("pni,nij,pnj->pn", offset, inverse, offset) - 0.5 * np.log(np.linalg.det(covariances))
        log_p += np.log(weights)
        share = np.exp(log_p - log_p.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        total = share.sum(0) + 1e-9
        weights = np.maximum(total / total.sum(), 0.02)
        weights /= weights.sum()
        means = share.T @ points / total[:, None]
        offset = points[:, None] - means
        covariances = np.einsum("pn,pni,pnj->nij", share, offset, offset) / total[:, None, None] + 4e-4 * np.eye(2)
    return weights, means, covariances


def main(folder, out):
    """Pool all sections by level, fit, write one JSON table."""
    rng = np.random.default_rng(2)
    sections = []
    for path in sorted(Path(folder).glob("*.nii.gz")):
        sections += [(level, measure_section(labels, zoom, rng)) for level, labels, zoom in read_sections(path)]
    levels = np.array([level for level, _ in sections])
    order = np.argsort(np.abs(LEVELS - 0.8))  # from the level where every muscle is seen outwards, both ways
    table, fitted = {}, {}
    for index in order:
        near = [s for level, s in sections if abs(level - LEVELS[index]) < 0.15]
        row = {"n": len(near), "radius_mm": float(np.median([s[0] for s in near]))}
        outline = np.mean([s[1] for s in near], axis=0)
        row["outline"] = np.round(np.fft.rfft(outline)[: N_HARMONICS + 1] / outline.size, 4).view(float).tolist()
        row["femur"] = np.round(np.median([s[2] for s in near], axis=0), 3).tolist()
        row["muscles"] = {}
        for value, n in COMPONENTS.items():
            clouds = [s[3][value] for s in near if value in s[3]]
            if len(clouds) < max(4, 0.4 * len(near)):
                continue
            points = np.concatenate([cloud for cloud, _ in clouds])
            area = float(np.mean([share for _, share in clouds]) * len(clouds) / len(near))
            neighbour = fitted.get((value, index - 1)) or fitted.get((value, index + 1))
            fitted[value, index] = fit_mixture(points, n, neighbour, rng)
            weights, means, covariances = fitted[value, index]
            row["muscles"][str(value)] = [
                np.round([area * w, *m, c[0, 0], c[0, 1], c[1, 1]], 4).tolist()
                for w, m, c in zip(weights, means, covariances, strict=True)
            ]
        table[f"{LEVELS[index]:.1f}"] = row
    table = dict(sorted(table.items(), key=lambda item: float(item[0])))
    Path(out).write_text(json.dumps({"n_sections": len(levels), "levels": table}, indent=None))


if __name__ == "__main__":
    main(*sys.argv[1:])
