"""The mask on the T2 map while it is edited: carried by the alignment, moved by hand, and how well it lies there."""

from __future__ import annotations

import numpy as np

from mrmyo.journal_review import POSE
from mrmyo.journal_screen import screen_affine, slice_places, to_screen
from mrmyo.labels import carry, is_muscle
from mrmyo.measure import dice
from mrmyo.registration_checks import border_fit
from mrmyo.registration_images import body_mask
from mrmyo.volume import GridError, Volume

__all__ = ["LIMITS", "T2Side", "moved"]

LIMITS = (30.0, 30.0, 30.0, 15.0)  # mm, mm, mm and degrees: beyond them it is no correction


def moved(transform, pose, centre) -> np.ndarray:
    """An alignment with the mask moved on the T2 map by hand.

    Parameters
    ----------
    transform : numpy.ndarray
        (4, 4) or (n_slices, 4, 4), from RAS positions in mm in the T2 images to positions in the structural image.
    pose : sequence of float
        In the order of `mrmyo.journal_review.POSE`: how far to the patient's right, forwards and upwards in mm, and the
        turn in degrees about the axis that leads upwards, counted so that what lies to the right goes forwards.
    centre : sequence of float
        The point that the turn leaves where it is, in mm in the T2 images.

    Returns
    -------
    numpy.ndarray
        Shaped as `transform`.
    """
    angle = np.radians(pose[3])
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = np.asarray(centre, dtype=float)
    motion[:3, 3] = centre - motion[:3, :3] @ centre + np.asarray(pose[:3], dtype=float)
    return np.asarray(transform, dtype=float) @ np.linalg.inv(motion)  # where a moved voxel came from


class T2Side:
    """A T2 map beside the mask that is edited.

    Parameters
    ----------
    t2 : Volume
        T2 in ms; NaN where there is none.
    labels : Volume
        The mask that the review began with: the turn is about the middle of its muscle.
    transform : numpy.ndarray, optional
        As for `moved`; the identity (by the headers alone) when None.
    image : Volume, optional
        On the grid of the map (S0), with the edges that the mask's border should meet, and the air around the body,
        which is not shown; the map itself when None.
    """

    def __init__(self, t2: Volume, labels: Volume, *, transform=None, image: Volume | None = None):
        if t2.array.ndim != 3:
            raise GridError(f"The T2 map has 3 axes; found shape {t2.array.shape}. Pass the map, not the echoes.")
        self.t2 = t2
        self.transform = np.eye(4) if transform is None else np.asarray(transform, dtype=float)
        shown = t2.array.astype(np.float32)
        if image is not None:
            shown = np.where(body_mask(image), shown, np.nan)  # what noise in the air was fitted with is not looked at
        self.screen = to_screen(t2.with_array(shown))
        self.affine = screen_affine(t2)
        self._image = image or t2.with_array(np.nan_to_num(np.clip(t2.array, 0, 150)).astype(np.float32))
        self._middle = self.transform[len(self.transform) // 2] if self.transform.ndim == 3 else self.transform
        places = np.array(np.nonzero(is_muscle(labels.array)))
        middle = places.mean(axis=1) if places.size else (np.array(labels.shape) - 1) / 2
        self.centre = (np.linalg.inv(self._middle) @ labels.affine @ np.append(middle, 1))[:3]
        start = carry(labels, t2, transform=self.transform)
        self._start, self.start = start.array, to_screen(start)

    def labels(self, labels: Volume, pose) -> Volume:
        """The mask on the T2 grid."""
        return carry(labels, self.t2, transform=moved(self.transform, pose, self.centre))

    def slice_labels(self, screen, affine, index: int, pose) -> np.ndarray:
        """The mask in one slice of the map on the screen, (n_rows, n_columns): quick enough to follow every stroke.

        Parameters
        ----------
        screen, affine : numpy.ndarray
            The mask in the order of the screen, and `mrmyo.journal_screen.screen_affine` of it.
        index : int
        pose : sequence of float
        """
        axis, places = slice_places(self.t2)
        place, transform = places[index], moved(self.transform, pose, self.centre)
        step = np.eye(4)
        step[axis, 3] = place
        grid = Volume(self.t2.array.take([place], axis), self.t2.affine @ step, meta=self.t2.meta)
        one = transform[place] if transform.ndim == 3 else transform
        # only the slices of the mask that this one can meet: the rest would be gone through for nothing
        ends = np.array([[i, j, k, 1] for i in (-1, grid.shape[0]) for j in (-1, grid.shape[1])
                         for k in (-1, grid.shape[2])])
        met = (np.linalg.inv(affine) @ one @ grid.affine @ ends.T)[0]
        first, last = (int(np.clip(value, 0, len(screen) - 1)) for value in (np.floor(met.min()), np.ceil(met.max())))
        shift = np.eye(4)
        shift[0, 3] = first
        near = Volume(screen[first:last + 1], affine @ shift)
        return to_screen(carry(near, grid, transform=one))[0]

    def from_structural(self, pose, affine) -> np.ndarray:
        """(4, 4): from (slice, row, column, 1) of the structural image on the screen to that of the map."""
        middle = moved(self._middle, pose, self.centre)
        return np.linalg.inv(np.linalg.inv(affine) @ middle @ self.affine)

    def overlap(self, carried: Volume) -> dict:
        """How a mask lies on the T2 map.

        Returns
        -------
        dict
            ``covered``, the share of its muscle with a T2; ``t2_ms``, the mean there; ``border_fit`` (see
            `mrmyo.registration_checks.border_fit`); ``dice_start``, with the mask as the review began. NaN as None.
        """
        muscle = is_muscle(carried.array)
        values = self.t2.array[muscle]
        fitted = np.isfinite(values)
        found = {
            "covered": fitted.mean() if values.size else np.nan,
            "t2_ms": values[fitted].mean(dtype=float) if fitted.any() else np.nan,
            "border_fit": border_fit(self._image, carried),
            "dice_start": dice(muscle, is_muscle(self._start)),
        }
        return {key: round(float(value), 4) if np.isfinite(value) else None for key, value in found.items()}


assert len(LIMITS) == len(POSE)
