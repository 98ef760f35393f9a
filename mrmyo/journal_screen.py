"""Label maps as a reader sees them, slice by slice, and the voxels that differ between two of them as runs.

On the screen a slice shows the patient's right on its left and what leads forwards or upwards at its top (sagittal
slices: what leads forwards on its left). The journal of a review counts slices, rows and columns in this order,
whatever the order of the axes in the file.
"""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np

from mrmyo.volume import Volume, to_canonical

__all__ = [
    "COLUMNS", "apply_runs", "changed_runs", "from_screen", "pack", "runs_where", "screen_affine", "screen_view",
    "slice_places", "to_screen", "unpack",
]

COLUMNS = ("slice", "start", "length", "old", "new")  # of a table of runs; start counts row by row within the slice


def screen_view(volume: Volume) -> np.ndarray:
    """A view (not a copy) of a 3-D volume's array, shaped (n_slices, n_rows, n_columns) as on the screen."""
    canonical = to_canonical(volume)
    return np.moveaxis(canonical.array, canonical.slice_axis, 0).transpose(0, 2, 1)[:, ::-1, ::-1]


def to_screen(volume: Volume) -> np.ndarray:
    """The array of a 3-D volume in the order of the screen, as a copy."""
    return np.array(screen_view(volume), order="C")


def from_screen(screen, like: Volume) -> Volume:
    """A volume on the grid of another, in its order of axes, from an array in the order of the screen."""
    made = like.with_array(np.zeros(like.shape, screen.dtype), echo_times_ms=None)
    screen_view(made)[...] = screen
    return made


def screen_affine(volume: Volume) -> np.ndarray:
    """(4, 4): from (slice, row, column, 1) on the screen to RAS positions in mm."""
    canonical = to_canonical(volume)
    axis = canonical.slice_axis
    first, second = (other for other in range(3) if other != axis)
    turn = np.zeros((4, 4))
    turn[axis, 0] = turn[3, 3] = 1
    for place, other in ((1, second), (2, first)):  # both run backwards
        turn[other, place], turn[other, 3] = -1, canonical.shape[other] - 1
    return canonical.affine @ turn


def slice_places(volume: Volume) -> tuple[int, np.ndarray]:
    """The axis of the file along which the slices of the screen lie, and the index there of each of them."""
    import nibabel

    order = nibabel.io_orientation(volume.affine)
    axis = int(np.flatnonzero(order[:, 0] == to_canonical(volume).slice_axis)[0])
    places = np.arange(volume.shape[axis])
    return axis, places if order[axis, 1] > 0 else places[::-1]


def runs_where(mask) -> np.ndarray:
    """Where a flat boolean array is True: rows of start and length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(mask, bool).ravel(), [False]])))
    return np.column_stack([edges[::2], edges[1::2] - edges[::2]])


def changed_runs(old, new, *, first_slice: int = 0) -> np.ndarray:
    """What leads from one label map on the screen to another: a row for each run of one old and one new value.

    Parameters
    ----------
    old, new : numpy.ndarray
        (n_slices, n_rows, n_columns), uint8.
    first_slice : int
        The number of their first slice.

    Returns
    -------
    numpy.ndarray
        int32, (n_runs, 5), in the order of `COLUMNS`.
    """
    size = old[0].size
    a, b = (np.asarray(part, np.uint8).reshape(-1) for part in (old, new))
    here = np.flatnonzero(a != b)
    if not here.size:
        return np.zeros((0, 5), np.int32)
    breaks = (np.diff(here) > 1) | (np.diff(a[here]) != 0) | (np.diff(b[here]) != 0) | (np.diff(here // size) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    lengths = np.diff(np.concatenate([starts, [here.size]]))
    at = here[starts]
    return np.column_stack([first_slice + at // size, at % size, lengths, a[at], b[at]]).astype(np.int32)


def apply_runs(screen, runs, *, backwards: bool = False) -> None:
    """Change a label map on the screen in place by runs, or take them back.

    Raises
    ------
    ValueError
        When the runs do not lie in the map, or it does not hold what they start from; nothing is changed then.
    """
    from_column, to_column = (4, 3) if backwards else (3, 4)
    flat, size = screen.reshape(-1), screen[0].size
    runs = np.asarray(runs)
    if runs.size and not (
        (runs[:, :3] >= 0).all() and (runs[:, 0] < len(screen)).all() and (runs[:, 1] + runs[:, 2] <= size).all()
    ):
        raise ValueError("Found runs of voxels that lie outside the mask.")
    first = runs[:, 0].astype(np.int64) * size + runs[:, 1]
    before_each = np.concatenate([[0], np.cumsum(runs[:, 2])])
    where = np.repeat(first - before_each[:-1], runs[:, 2]) + np.arange(before_each[-1])
    if (flat[where] != np.repeat(runs[:, from_column], runs[:, 2])).any():
        raise ValueError("Found a mask that does not hold the values from which the entry starts.")
    flat[where] = np.repeat(runs[:, to_column], runs[:, 2])


def pack(array) -> str:
    """An array's bytes, compressed, as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode()


def unpack(text: str, dtype, shape) -> np.ndarray:
    """What `pack` made into text.

    Raises
    ------
    ValueError
        When the text is none, or of another size.
    """
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype).reshape(shape).copy()
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"Found packed voxels that cannot be read: {error}") from error
