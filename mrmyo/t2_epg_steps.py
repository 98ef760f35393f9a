"""What the compiled loops of the stimulated-echo fit have in common: scaling, a step in cells, a meeting half-way.

NaN and infinity stay what they are: of all that is fast, only fused multiply-adds and reordered sums are allowed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["LANES", "NEAR", "OPTIONS", "cells", "meet", "scale_signals"]

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
LANES = 8  # echoes are filled up with zeros to a multiple of it, so that vectors hold them all
NEAR = 0.6  # in cells: a node this near is near enough


@njit(**OPTIONS)
def scale_signals(signal, scaled, peak):
    """Signals (n, m) over their largest echo into `scaled`, that into `peak`; NaN in `peak` where one is not finite."""
    n, m = signal.shape
    for v in range(n):
        most, finite = signal[v, 0], True
        for e in range(m):
            most = max(most, signal[v, e])
            finite &= np.isfinite(signal[v, e])
        peak[v] = most if finite else np.nan
        for e in range(m):
            scaled[v, e] = signal[v, e] / most


@njit(**OPTIONS)
def cells(step, bold, most):
    """How many nodes to go for a step in cells; none when it is near, at least one else."""
    if abs(step) <= NEAR:
        return 0
    cells = int(np.rint(bold * min(max(step, -most), most)))
    return cells if cells else (1 if step > 0 else -1)


@njit(**OPTIONS)
def meet(step_u, step_p, other_u, other_p, across_u, across_p):
    """Where two neighbouring nodes that send a voxel to each other agree: the share of the way to the other one.

    Noise and the curvature of the model make both steps too long; between the two the step along their line falls
    from one sign to the other, and is taken to do so evenly. 0 where it does not.

    Parameters
    ----------
    step_u, step_p : float
        The step from the one node, in cells.
    other_u, other_p : float
        The step from the other.
    across_u, across_p : int
        From the one to the other: -1, 0 or 1.
    """
    here = step_u * across_u + step_p * across_p
    there = other_u * across_u + other_p * across_p
    return here / (here - there) if here > 0 and there < 0 else here * 0
