"""What a browser may send to a review: each part is checked, for a page can send anything."""

from __future__ import annotations

import numpy as np

from mrmyo.editor_t2 import LIMITS
from mrmyo.editor_targets import EditError

__all__ = ["check_comment", "check_index", "check_place", "check_pose", "check_reviewer", "check_voxels"]

LONGEST_NAME, LONGEST_COMMENT = 40, 2000


def check_index(value, n: int) -> int:
    """The number of a slice.

    Raises
    ------
    EditError
        As all checks here, when it is none.
    """
    if not _is_whole(value) or not 0 <= value < n:
        raise EditError(f"Found the slice {value!r}; expected 0 to {n - 1}. Nothing was changed.")
    return value


def check_place(value, shape):
    """Row and column of one voxel of a slice, or None."""
    if value is not None and not (isinstance(value, list) and len(value) == 2 and all(
            _is_whole(part) and 0 <= part < n for part, n in zip(value, shape, strict=True))):
        raise EditError(f"Found the place {value!r}; expected row and column of a voxel. Nothing was changed.")
    return value


def check_pose(value) -> list[float]:
    """How the mask is moved on the T2 map, in the order of `mrmyo.journal_review.POSE`."""
    if not isinstance(value, list) or len(value) != len(LIMITS) or any(
            isinstance(part, bool) or not isinstance(part, int | float) for part in value):
        raise EditError("Found a move that is none; expected four numbers. Nothing was changed.")
    pose = [round(float(part), 4) for part in value]
    if not np.isfinite(pose).all() or (np.abs(pose) > LIMITS).any():
        raise EditError("Found a move of the mask beyond 30 mm or 15°: check that both series are of this patient. "
                        "Nothing was changed.")
    return pose


def check_reviewer(value) -> str:
    """Who changes or decides something."""
    name = str(value).strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or not _is_text(name):
        raise EditError(f"Enter who you are (reviewer: a name or key of at most {LONGEST_NAME} characters); the "
                        "journal keeps who changed what. Nothing was changed.")
    return name


def check_comment(value) -> str:
    """What somebody says of a decision."""
    comment = str(value)
    if len(comment) > LONGEST_COMMENT or not _is_text(comment):
        raise EditError(f"The comment has more than {LONGEST_COMMENT} characters, or some that are none. Nothing was "
                        "changed.")
    return comment


def check_voxels(buffers, shape) -> np.ndarray:
    """The voxels of a drawn message, from pairs of start and length in one slice: boolean, (n_rows, n_columns)."""
    n = shape[0] * shape[1]
    if len(buffers) != 1 or len(bytes(buffers[0])) % 8:
        raise EditError("Found an edit without its voxels. Nothing was changed.")
    runs = np.frombuffer(buffers[0], np.uint32).reshape(-1, 2).astype(np.int64)
    if len(runs) > n or (runs[:, 0] + runs[:, 1] > n).any():
        raise EditError("Found an edit of voxels outside the slice. Nothing was changed.")
    steps = np.zeros(n + 1, np.int32)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs.sum(axis=1), -1)
    return (np.cumsum(steps[:-1]) > 0).reshape(shape)


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value):
    """Whether a word can be written down: half an emoji cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
