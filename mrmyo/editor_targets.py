"""What a tool of the mask editor works on: one muscle, a compartment, all muscle of a thigh, or any label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from mrmyo.labels import label_table

__all__ = ["ANY", "EditError", "Target", "name_voxels", "target", "targets"]

ANY = "any"
SIDES = ("left", "right")
GROUPS = ("whole muscle", "anterior", "medial", "posterior")


class EditError(ValueError):
    """An edit that cannot be made; the mask stays as it was."""


@dataclass(frozen=True)
class Target:
    """Labels that a tool works on together.

    Attributes
    ----------
    key : str
        A label value as text ("1"), a group ("whole muscle") alone or with a side ("anterior left"), or `ANY`.
    name : str
    side : str
        "left", "right", or empty for both.
    values : tuple of int
    """

    key: str
    name: str
    side: str
    values: tuple[int, ...]

    @property
    def is_group(self) -> bool:
        """Whether voxels that are added have to be given one of several names."""
        return not self.key.isdigit()

    def within(self, labels) -> np.ndarray:
        """Where a label array holds any of the target's labels."""
        lookup = np.zeros(256, bool)
        lookup[list(self.values)] = True
        return lookup[labels]


@lru_cache(maxsize=1)
def targets() -> dict[str, Target]:
    """All targets by their key, groups first."""
    table = label_table()
    found = [Target(ANY, "any label", "", tuple(int(value) for value in table["value"]))]
    for group in GROUPS:
        for side in ("", *SIDES):
            here = table[table.is_muscle & ((table.side == side) | (not side))]
            here = here if group == GROUPS[0] else here[here.compartment == group]
            found.append(Target(f"{group} {side}".strip(), group, side, tuple(int(value) for value in here["value"])))
    found += [Target(str(row.value), row.name_, row.side, (int(row.value),))
              for row in table.rename(columns={"name": "name_"}).itertuples()]
    return {one.key: one for one in found}


def target(key) -> Target:
    """The target of a key.

    Raises
    ------
    EditError
        When there is none.
    """
    found = targets().get(str(key))
    if found is None:
        raise EditError(f"Found the label {key!r}; expected a value of mrmyo.label_table(), or a group and a side, as "
                        "'anterior left'. Nothing was changed.")
    return found


def name_voxels(screen, index: int, where, chosen: Target) -> np.ndarray:
    """Values for voxels that are added to a target in one slice.

    Parameters
    ----------
    screen : numpy.ndarray
        The mask, (n_slices, n_rows, n_columns).
    index : int
        The slice.
    where : numpy.ndarray
        Boolean, (n_rows, n_columns).
    chosen : Target

    Returns
    -------
    numpy.ndarray
        One value for every True of `where`: that of a single label; of a group, that of the nearest of its voxels in
        the slice, or in the nearest slice that has any. Whole muscle without any is unnamed muscle.

    Raises
    ------
    EditError
        When a group has no voxel in any slice to take names from.
    """
    if not chosen.is_group:
        return np.full(int(where.sum()), chosen.values[0], np.uint8)
    with_any = np.flatnonzero(chosen.within(screen).any(axis=(1, 2)))
    if with_any.size:
        nearest = screen[with_any[np.abs(with_any - index).argmin()]]
        rows, columns = ndimage.distance_transform_edt(~chosen.within(nearest), return_distances=False,
                                                       return_indices=True)
        return nearest[rows[where], columns[where]]
    if chosen.name == GROUPS[0] and chosen.side:
        return np.full(int(where.sum()), {"left": 40, "right": 41}[chosen.side], np.uint8)
    raise EditError(f"There is nothing of '{chosen.key}' in any slice to take names from: choose one muscle (or whole "
                    "muscle of one side) and draw that first.")
