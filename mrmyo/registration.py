"""Labels from one series to another. First version: by the orientation and position in the DICOM headers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrmyo.labels import carry
from mrmyo.volume import Volume, same_grid

__all__ = ["Alignment", "RegistrationError", "align"]


class RegistrationError(ValueError):
    """Two series that cannot be brought together."""


@dataclass(frozen=True)
class Alignment:
    """Labels on the grid of the fixed image, and how they came there.

    Attributes
    ----------
    labels : Volume
    transform : numpy.ndarray
        (4, 4), from RAS positions in mm in the fixed image to positions in the moving one.
    report : dict
        ``method``; ``coverage``, the share of the fixed image's slices that the moving image covers;
        ``n_slices_covered``; ``frame_of_reference``, 'same', 'different' or 'unknown'.
    """

    labels: Volume
    transform: np.ndarray
    report: dict


def align(labels: Volume, *, moving: Volume, fixed: Volume, refine: bool = False,
          ignore_frame_of_reference: bool = False) -> Alignment:
    """Carry labels drawn on one image to the grid of another.

    Parameters
    ----------
    labels : Volume
        Label values on the grid of `moving`.
    moving, fixed : Volume
        The image the labels were drawn on, and the one that they are wanted on (a multi-echo volume will do).
    refine : bool
        Refinement by the images' contents comes with a later version; only False is accepted.
    ignore_frame_of_reference : bool
        Align although the headers say that the patient was taken out of the scanner in between.

    Returns
    -------
    Alignment

    Raises
    ------
    RegistrationError
        When the labels are not on the grid of `moving`, the two images do not overlap, or their frames of reference
        differ.
    """
    if refine:
        raise RegistrationError("Found refine=True; this version aligns by DICOM orientation only. Use refine=False.")
    if not same_grid(labels, moving):
        raise RegistrationError(
            f"The labels have shape {labels.shape}, the image they belong to {moving.shape}, or they lie apart; "
            "expected one grid. Pass the image that the mask was drawn on."
        )
    frames = [volume.meta.get("FrameOfReferenceUID") for volume in (moving, fixed)]
    relation = "unknown" if None in frames else "same" if frames[0] == frames[1] else "different"
    if relation == "different" and not ignore_frame_of_reference:
        raise RegistrationError(
            "The two series have different frames of reference: the patient may have left the scanner in between, and "
            "positions cannot be compared. Check the study; to go on all the same, pass ignore_frame_of_reference=True."
        )
    covered = _covered_slices(moving, fixed)
    if not covered.any():
        raise RegistrationError(
            "The two series do not overlap: no slice of the fixed image lies within the moving one. Check that both "
            "belong to this study and the same part of the body."
        )
    transform = np.eye(4)
    report = {"method": "DICOM orientation", "coverage": float(covered.mean()), "n_slices_covered": int(covered.sum()),
              "frame_of_reference": relation}
    return Alignment(carry(labels, fixed, transform=transform), transform, report)


def _covered_slices(moving, fixed):
    """Which slices of `fixed` have their middle within the slab of `moving`, and some part within its field of view.

    The middle of both thighs may well lie outside an image of one.
    """
    axis = fixed.slice_axis
    places = [np.linspace(0, n - 1, 9) for n in fixed.shape]
    places[axis] = np.arange(fixed.shape[axis])
    points = np.stack([*np.meshgrid(*places, indexing="ij"), np.ones([len(p) for p in places])])
    index = np.tensordot(np.linalg.inv(moving.affine) @ fixed.affine, np.moveaxis(points, axis + 1, 1), 1)[:3]
    shape = np.array(moving.shape)[:, None, None, None]
    inside = (index > -0.5) & (index < shape - 0.5)
    return inside[moving.slice_axis, :, 4, 4] & inside.all(axis=0).any(axis=(1, 2))
