"""Simulated readers: what two people might make of the same automatic mask, where the truth is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrmyo.editor_session import Session
from mrmyo.journal_screen import runs_where, to_screen
from mrmyo.volume import Volume, in_axis_order_of

__all__ = ["simulated_reader"]

BLUR_MM = 8.0  # over which a hand's slips are alike


def simulated_reader(session: Session, truth: Volume, *, reviewer: str, seed: int, slip_mm: float = 0.7,
                     bias_mm: float = 0.0) -> int:
    """Correct the mask of a review towards the truth, with slips of the hand, stroke by stroke through its journal.

    No person: the borders that this reader draws lie beside the true ones by a smooth random distance, those between
    muscles too.

    Parameters
    ----------
    session : Session
    truth : Volume
        The true labels on the grid of the image under review.
    reviewer : str
        The name in the journal; "simulated" comes before it.
    seed : int
    slip_mm : float
        Standard deviation of the distance between drawn and true borders, along each axis of the plane.
    bias_mm : float
        How far muscle is drawn too wide (negative: too narrow) against what lies beside it.

    Returns
    -------
    int
        How many strokes it took.
    """
    rng = np.random.default_rng(seed)
    review, spacing = session.review, np.linalg.norm(session.affine[:3, 1:3], axis=0)
    wanted = to_screen(in_axis_order_of(truth, review.base))
    strokes = 0
    for index, labels in enumerate(wanted):
        drawn = _drawn(labels, spacing, rng, slip_mm, bias_mm)
        for value in np.union1d(drawn, review.screen[index]):
            here = review.screen[index]
            erase = value == 0
            where = (drawn == 0) & (here > 0) if erase else (drawn == value) & (here != value)
            if where.any():
                strokes += 1
                session.handle({"kind": "edit", "op": f"{reviewer} {seed} {index} {value}", "base": review.revision,
                                "tool": "eraser" if erase else "brush", "slice": index,
                                "reviewer": f"simulated {reviewer}", "label": "any" if erase else str(int(value))},
                               [runs_where(where).astype(np.uint32).tobytes()], _refuse)
    session.handle({"kind": "decide", "op": f"{reviewer} {seed}", "base": review.revision, "decision": "accepted",
                    "comment": "a simulated reader", "reviewer": f"simulated {reviewer}"}, [], _refuse)
    return strokes


def _drawn(labels, spacing, rng, slip_mm, bias_mm):
    """Labels of one slice whose borders, also between muscles, lie beside the true ones by a smooth random distance."""
    if not labels.any():
        return labels

    def slips():
        smooth = ndimage.gaussian_filter(rng.normal(size=labels.shape), BLUR_MM / spacing, mode="wrap")
        return smooth * slip_mm / np.sqrt(2) / smooth.std()  # the outer border slips twice, below

    places = [np.clip(np.rint(axis + slips() / step).astype(int), 0, n - 1)
              for axis, step, n in zip(np.indices(labels.shape), spacing, labels.shape, strict=True)]
    drawn = labels[tuple(places)]
    half = spacing.mean() / 2  # the border lies between two voxels
    depth = np.where(drawn > 0, ndimage.distance_transform_edt(drawn > 0, sampling=spacing) - half,
                     half - ndimage.distance_transform_edt(drawn == 0, sampling=spacing))
    nearest = ndimage.distance_transform_edt(drawn == 0, return_distances=False, return_indices=True)
    return np.where(depth + slips() + bias_mm > 0, drawn[tuple(nearest)], 0)


def _refuse(told, _):
    """A session that refuses a simulated stroke is an error of the simulation."""
    if told["kind"] == "refused":
        raise ValueError(told["message"])
