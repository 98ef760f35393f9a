"""The shape table of the random thighs: averages of real label maps, and what those maps leave unnamed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

__all__ = ["read_shapes"]

# The maps name neither the adductor longus nor the gluteus maximus (here "other muscle"): value -> rows of
# level, area, x, y, variance x, covariance, variance y, placed by the gap that the maps leave there.
UNNAMED_IN_MAPS = {
    8: [(0.7, 1e-5, 0.28, 0.12, 0.010, 0.0, 0.004), (1.2, 0.040, 0.34, 0.20, 0.026, 0.002, 0.012),
        (1.6, 0.085, 0.42, 0.24, 0.050, 0.004, 0.024), (2.2, 0.110, 0.45, 0.24, 0.060, 0.004, 0.030)],
    13: [(1.6, 1e-5, -0.45, -0.85, 0.020, 0.0, 0.006), (2.2, 0.060, -0.42, -0.78, 0.080, -0.02, 0.020)],
}


@lru_cache(maxsize=1)
def read_shapes():
    """The shape table as arrays: levels, radius, outline harmonics, femur, component classes and parameters."""
    table = json.loads((Path(__file__).parent / "anatomy_shapes.json").read_text())["levels"]
    levels = np.array([float(key) for key in table])
    rows = list(table.values())
    radius = np.array([row["radius_mm"] for row in rows])
    # the maps leave out the proximal adductors, so their outline shrinks where a thigh does not
    radius = np.where(levels > 0.8, np.interp(levels, [0.8, 2.2], [radius[levels == 0.8][0], 72.0]), radius)
    outline = np.array([row["outline"] for row in rows]).view(complex)
    femur = np.array([row["femur"] for row in rows])
    femur[levels > 1.2] = [-0.22, 0.2]  # further up, the widest gap in the maps is no longer the femur
    classes, columns = [], []
    for value in sorted({int(v) for row in rows for v in row["muscles"]}):
        seen = [i for i, row in enumerate(rows) if str(value) in row["muscles"]]
        fitted = np.array([rows[i]["muscles"][str(value)] for i in seen])
        for c in range(fitted.shape[1]):
            column = np.column_stack([np.interp(levels, levels[seen], fitted[:, c, p]) for p in range(6)])
            column[np.setdiff1d(np.arange(levels.size), seen), 0] = 1e-6
            classes.append(value)
            columns.append(column)
    for value, placed in UNNAMED_IN_MAPS.items():
        placed = np.array(placed)
        column = np.column_stack([np.interp(levels, placed[:, 0], placed[:, p]) for p in range(1, 7)])
        column[levels < placed[0, 0] - 0.01, 0] = 1e-6
        classes.append(value)
        columns.append(column)
    gap = np.array(classes) == 0  # what the maps leave unnamed: fat, but further up mostly adductors
    components = np.stack(columns, axis=1)
    components[:, gap, 0] *= np.interp(levels, [0.8, 1.5], [1.0, 0.25])[:, None]
    return levels, radius, outline, femur, np.array(classes), components
