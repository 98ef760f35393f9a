"""Real label maps of thighs, read for :mod:`mrmyo.training`: a stack of sections per thigh, each as a left thigh.

The maps are those of ``../shared/real/thigh_labels`` (29 maps, 11 muscles, labels only, Apache-2.0). A folder of them
is read with nibabel; `write_stacks` keeps what matters in one small .npz file, readable where nibabel is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.labels import MUSCLES

__all__ = ["FIELD_MM", "Stack", "fold_of", "read_stacks", "write_stacks"]

TO_MRMYO = np.array([0, 5, 4, 1, 3, 2, 7, 6, 11, 10, 9, 12], np.uint8)  # position: value in the public maps
SHORT_HEAD = [row[1] for row in MUSCLES].index("BFS") + 1
FIELD_MM = 224  # sections are FIELD_MM pixels of one millimetre each way
LEAST_AREA_MM2 = 1800  # below this a section is the frayed end of a network's output
MANY_MUSCLES = 4


@dataclass(frozen=True)
class Stack:
    """One thigh of one label map.

    `labels` is (n, 224, 224) uint8 at 1 mm, values of a left thigh, x medially and y forwards; `z_mm` grows towards the
    hip; `level` is 0 at the middle of the short head of biceps femoris and 1 at its upper end.
    """

    name: str
    labels: np.ndarray
    z_mm: np.ndarray
    level: np.ndarray

    @property
    def subject(self) -> str:
        """The person: several maps of one person share it."""
        return self.name.split("/")[0].split("_")[0] if self.name.startswith("HV") else self.name[:9]


def fold_of(stacks, folds) -> np.ndarray:
    """The fold, 0 to `folds` − 1, of every stack: all maps and both thighs of a person share one."""
    people = sorted({stack.subject for stack in stacks})
    return np.array([people.index(stack.subject) % folds for stack in stacks])


def read_stacks(path, *, most=None) -> list[Stack]:
    """Read a folder of NIfTI label maps, or the .npz file that `write_stacks` made of one.

    Parameters
    ----------
    path : path
    most : int, optional
        Only so many maps of a folder, spread over it; all when None.

    Raises
    ------
    ValueError
        When the folder holds no label map, or a map has values other than 0 to 11.
    """
    path = Path(path)
    if path.suffix == ".npz":
        held = np.load(path)
        names = held["names"].tolist()
        return [Stack(name, *(held[f"{part}_{i}"] for part in ("labels", "z_mm", "level")))
                for i, name in enumerate(names)]
    files = sorted(path.glob("*.nii.gz"))
    if not files:
        raise ValueError(f"Found no label map (*.nii.gz) in {path}; expected those of thigh_labels.")
    if most is not None:
        files = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, most).round().astype(int))]
    return [stack for file in files for stack in _thighs(file)]


def write_stacks(stacks, path) -> Path:
    """Write stacks to one compressed .npz file (about 1 MB for 29 maps)."""
    parts = {f"{part}_{i}": getattr(stack, part) for i, stack in enumerate(stacks)
             for part in ("labels", "z_mm", "level")}
    np.savez_compressed(path, names=np.array([stack.name for stack in stacks]), **parts)
    return Path(path)


def _thighs(file):
    """The two stacks of one map."""
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(file))
    found = np.asarray(image.dataobj).astype(int)
    if found.min() < 0 or found.max() >= TO_MRMYO.size:
        raise ValueError(f"Found label values up to {found.max()} in {file.name}; expected 0 to {TO_MRMYO.size - 1}.")
    labels, zoom = TO_MRMYO[found], np.array(image.header.get_zooms()[:3])
    columns = (labels > 0).sum((1, 2)).astype(float)
    middle = (columns * np.arange(columns.size)).sum() / columns.sum()
    low, high = (int(middle + sign * 40 / zoom[0]) for sign in (-1, 1))
    split = low + int(np.argmin(ndimage.uniform_filter1d(columns[low:high], 7)))
    z_mm = np.arange(labels.shape[2]) * zoom[2]
    for side, thigh in (("L", labels[:split]), ("R", labels[split:][::-1])):
        stack = _stack(f"{file.name.removesuffix('.nii.gz')}/{side}", thigh, zoom, z_mm)
        if stack is not None:
            yield stack


def _stack(name, thigh, zoom, z_mm):
    """Resampled to 1 mm about the middle of the muscles, frayed sections left out; None without a short head."""
    pixel = zoom[0] * zoom[1]
    head = np.flatnonzero((thigh == SHORT_HEAD).sum((0, 1)) * pixel > 60)
    if head.size < 3:
        return None
    level = (z_mm - z_mm[head].mean()) / (0.5 * (head[-1] - head[0] + 1) * zoom[2])
    many = [np.sum(np.bincount(thigh[..., k].ravel(), minlength=13)[1:] * pixel > 40) for k in range(thigh.shape[2])]
    kept = np.flatnonzero(((thigh > 0).sum((0, 1)) * pixel > LEAST_AREA_MM2) & (np.array(many) >= MANY_MUSCLES))
    where = np.argwhere(thigh[..., kept] > 0)[:, :2]
    centre = 0.5 * (where.min(0) + where.max(0))
    offsets = np.arange(FIELD_MM) - (FIELD_MM - 1) / 2
    index = [np.rint(c + offsets / z).astype(int) for c, z in zip(centre, zoom, strict=False)]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, thigh.shape, strict=False)]
    taken = thigh[np.ix_(*(np.clip(i, 0, n - 1) for i, n in zip(index, thigh.shape, strict=False)), kept)]
    taken = taken * (inside[0][:, None] & inside[1])[..., None]
    return Stack(name, np.moveaxis(taken, 2, 0).astype(np.uint8), z_mm[kept].astype(np.float32),
                 level[kept].astype(np.float32))
