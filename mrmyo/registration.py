"""Labels from one series to another: by the DICOM headers, and by what the images show where the patient moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrmyo.labels import carry, is_muscle
from mrmyo.registration_checks import cut_off, outside
from mrmyo.registration_rigid import find_motion, find_slice_shifts, turn_deg
from mrmyo.volume import Volume, resample_mean, same_grid

__all__ = ["REFINEMENTS", "Alignment", "RegistrationError", "align"]

REFINEMENTS = ("off", "measure", "rigid", "slicewise")
LEAST_MM = 0.5  # what the registration may be off by: less than this is not told from nothing
MOVED_MM, TURNED_DEG = 5.0, 3.0


class RegistrationError(ValueError):
    """Two series that cannot be brought together."""


@dataclass(frozen=True)
class Alignment:
    """Labels on the grid of the fixed image, and how they came there.

    Attributes
    ----------
    labels : Volume
    transform : numpy.ndarray
        From RAS positions in mm in the fixed image to positions in the moving one: (4, 4), or (n_slices, 4, 4), one for
        each slice of the fixed image. `mrmyo.labels.carry` and `mrmyo.volume.resample_mean` take either.
    report : dict
        ``method``; ``coverage``, the share of the fixed image's slices that the moving image covers;
        ``n_slices_covered``; ``frame_of_reference``, 'same', 'different' or 'unknown'; ``refinement``, what became of
        it, in words; ``misalignment_mm``, the mean distance over muscle between where the headers put it and where the
        images show it, with ``rotation_deg`` and ``apart_mm`` (registration there against back), NaN where it was not
        measured; ``measured``, the rigid transform that was; ``similarity``, mutual information before and after, in
        nats; ``slices``, for every slice where its muscle is seen, from where the headers put it (``slice``,
        ``right_mm``, ``anterior_mm``, ``superior_mm``, ``distance_mm``), and what is left in plane, ``rest_mm``;
        ``flags``, in words.
    """

    labels: Volume
    transform: np.ndarray
    report: dict

    @property
    def inverse(self) -> np.ndarray:
        """From positions in the moving image to positions in the fixed one; of every slice where they differ."""
        return np.linalg.inv(self.transform)

    def carry(self, volume: Volume, like: Volume) -> Volume:
        """Another image of the moving series' place (a fat fraction) on the fixed grid `like`, by the same transform.

        The mean over each voxel, as in `mrmyo.volume.resample_mean`.
        """
        return resample_mean(volume, like, transform=self.transform)


def align(labels: Volume, *, moving: Volume, fixed: Volume, refine: bool | str = True, transform=None,
          ignore_frame_of_reference: bool = False) -> Alignment:
    """Carry labels drawn on one image to the grid of another.

    Parameters
    ----------
    labels : Volume
        Label values on the grid of `moving`.
    moving, fixed : Volume
        The image the labels were drawn on, and the one that they are wanted on (a multi-echo volume will do).
    refine : bool or {"off", "measure", "rigid", "slicewise"}
        "off" or False: by orientation and position in the headers alone. "rigid" or True: and by the rigid motion that
        the images show (see `mrmyo.registration_rigid`), unless it is within 0.5 mm, which cannot be told from none, or
        not to be trusted. "slicewise": and by what is left of 0.5 mm or more in the plane of single slices. "measure":
        measured as for "slicewise", and not applied.
    transform : array, (4, 4) or (n_slices, 4, 4), optional
        From positions in `fixed` to positions in `moving`, known from elsewhere (by hand); nothing is refined then.
    ignore_frame_of_reference : bool
        Align although the headers say that the patient was taken out of the scanner in between.

    Returns
    -------
    Alignment

    Raises
    ------
    RegistrationError
        When the labels are not on the grid of `moving`, the two images do not overlap, their frames of reference
        differ, or `refine` or `transform` is none.
    """
    how = {True: "rigid", False: "off"}.get(refine, refine)
    if how not in REFINEMENTS:
        raise RegistrationError(f"Found refine={refine!r}; expected True, False or one of {', '.join(REFINEMENTS)}.")
    _check_grids(labels, moving)
    relation = _frames(moving, fixed, ignore_frame_of_reference)
    covered = _covered_slices(moving, fixed)
    if not covered.any():
        raise RegistrationError(
            "The two series do not overlap: no slice of the fixed image lies within the moving one. Check that both "
            "belong to this study and the same part of the body."
        )
    report = {"method": "DICOM orientation", "coverage": float(covered.mean()), "n_slices_covered": int(covered.sum()),
              "frame_of_reference": relation, "refinement": "not asked for", "misalignment_mm": np.nan,
              "rotation_deg": np.nan, "apart_mm": np.nan, "measured": None, "slices": [], "flags": []}
    if transform is not None:
        transform, how = _checked(transform, fixed), "off"
        report |= {"method": "given transform",
                   "rotation_deg": turn_deg(transform if transform.ndim == 2 else transform[len(transform) // 2])}
    else:
        transform = np.eye(4)
    if how != "off":
        transform = _refined(labels, moving, fixed, how, report)
    found = carry(labels, fixed, transform=transform)
    report["flags"] += [*cut_off(moving, fixed, transform), *outside(labels, fixed, transform)]
    return Alignment(found, transform, report)


def _refined(labels, moving, fixed, how, report):
    """The transform that counts; what was found goes into the report."""
    motion = find_motion(moving, fixed)
    if motion.problem:
        report["refinement"] = f"not possible: {motion.problem}"
        report["flags"].append(f"the images of the two series could not be matched ({motion.problem}): do both show "
                               "this patient?")
        return np.eye(4)
    slices = _slice_table(labels, fixed, motion.transform)
    weights = [row.pop("n") for row in slices]
    distance = float(np.average([row["distance_mm"] for row in slices], weights=weights)) if any(weights) else 0.0
    applied = how != "measure" and distance >= LEAST_MM
    transform = motion.transform if applied else np.eye(4)
    word = "applied" if applied else "measured, not applied" if how == "measure" else \
        f"not applied: below {LEAST_MM} mm it cannot be told from none"
    report |= {"refinement": word, "misalignment_mm": distance, "rotation_deg": turn_deg(motion.transform),
               "apart_mm": motion.apart_mm, "measured": motion.transform.tolist(),
               "similarity": [motion.before, motion.after], "slices": slices}
    if applied:
        report["method"] = "rigid refinement"
    if distance > MOVED_MM:
        report["flags"].append(f"the patient moved by {distance:.1f} mm between the series")
    if report["rotation_deg"] > TURNED_DEG:
        report["flags"].append(f"the patient turned by {report['rotation_deg']:.1f}° between the series")
    if how in ("slicewise", "measure"):
        transform = _slicewise(moving, fixed, transform, motion.transform, how, report)
    return transform


def _slicewise(moving, fixed, transform, rigid, how, report):
    """One transform a slice where single slices lie aside; what is left in plane goes into the report."""
    shifts = find_slice_shifts(moving, fixed, rigid if how == "measure" else transform)
    rest = np.linalg.norm(shifts, axis=1)
    for row, distance in zip(report["slices"], rest, strict=True):
        row["rest_mm"] = round(float(distance), 3)
    aside = rest >= LEAST_MM  # not for NaN
    if how == "measure" or not aside.any():
        return transform
    report["method"] += f", {aside.sum()} slices moved in plane"
    steps = np.tile(np.eye(4), (len(rest), 1, 1))
    steps[aside, :3, 3] = shifts[aside]
    return transform @ steps


def _slice_table(labels, fixed, transform):
    """For every slice of `fixed` how far the muscle in it lies from where the headers put it, in the mean."""
    there = carry(labels, fixed, transform=transform, samples=(1, 1, 1))
    axis, rows = fixed.slice_axis, []
    muscle = is_muscle(there.array)
    middle = (np.array(fixed.shape) - 1) / 2
    for k in range(fixed.shape[axis]):
        places = np.array(np.nonzero(muscle.take([k], axis)))
        n = places.shape[1]
        if n == 0:  # no muscle: the middle of the slice
            places = middle[:, None].copy()
        places[axis] = k
        points = fixed.affine @ np.vstack([places, np.ones(places.shape[1])])
        steps = ((np.eye(4) - transform) @ points)[:3]  # from where the headers put it to where it is seen
        right, anterior, superior = steps.mean(axis=1)
        rows.append({"slice": k, "right_mm": right, "anterior_mm": anterior, "superior_mm": superior,
                     "distance_mm": np.linalg.norm(steps, axis=0).mean(), "rest_mm": np.nan, "n": n})
    return [{key: value if key in ("slice", "n") else round(float(value), 3) for key, value in row.items()}
            for row in rows]


def _check_grids(labels, moving):
    if not same_grid(labels, moving):
        raise RegistrationError(
            f"The labels have shape {labels.shape}, the image they belong to {moving.shape}, or they lie apart; "
            "expected one grid. Pass the image that the mask was drawn on."
        )


def _frames(moving, fixed, ignore):
    """How the frames of reference relate; refuses different ones."""
    frames = [volume.meta.get("FrameOfReferenceUID") for volume in (moving, fixed)]
    relation = "unknown" if None in frames else "same" if frames[0] == frames[1] else "different"
    if relation == "different" and not ignore:
        raise RegistrationError(
            "The two series have different frames of reference: the patient may have left the scanner in between, and "
            "positions cannot be compared. Check the study; to go on all the same, pass ignore_frame_of_reference=True."
        )
    return relation


def _checked(transform, fixed):
    matrix = np.asarray(transform, dtype=float)
    turn = matrix[..., :3, :3]
    if matrix.shape not in ((4, 4), (fixed.shape[fixed.slice_axis], 4, 4)) or not np.isfinite(matrix).all() or not (
            np.allclose(turn @ np.swapaxes(turn, -1, -2), np.eye(3), atol=1e-4) and (np.linalg.det(turn) > 0).all()):
        raise RegistrationError(f"Found a transform of shape {matrix.shape} that is no rigid motion; expected a (4, 4) "
                                "matrix of a rotation and a shift in mm, from positions in `fixed` to `moving`, or one "
                                "for each slice.")
    return matrix


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
