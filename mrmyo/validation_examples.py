"""Real public images, where there are any: to see a network on what it was not made for.

They lie in the folder that the environment variable ``MRMYO_REAL_DATA`` names, each with its licence beside it; none is
part of mrmyo.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mrmyo.labels import RIGHT_OFFSET, is_muscle, label_table
from mrmyo.measure import dice, dice_by_muscle
from mrmyo.nifti import read_nifti
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["dice_by_contrast", "dice_by_slice", "find_real_data", "list_real_data", "mean_by_muscle",
           "read_label_map", "read_thigh_example", "take_slices"]

VARIABLE = "MRMYO_REAL_DATA"
# position: value in the public maps (1 sartorius, 2 rectus femoris, 3 vastus lateralis, …)
TO_MRMYO = np.array([0, 5, 4, 1, 3, 2, 7, 6, 11, 10, 9, 12], np.uint8)
WHAT = {
    "thigh_dixon": "Dixon water and fat of both thighs, one patient with muscular dystrophy; labels by a network",
    "thigh_labels": "label maps of both thighs, eleven muscles, by a network; no images",
    "leg_stacks": "three stations of water images of both legs, knee to groin; no labels",
    "calf_multiecho_nifti": "multi-echo spin echo of both calves; no labels",
    "knee_multiecho_dicom_ge": "multi-echo spin echo of a knee, DICOM",
    "dicom_variety": "DICOM series of several makers, good and bad",
}
LICENCES = {"Apache License": "Apache-2.0", "MIT License": "MIT", "Redistribution and use in source": "BSD",
            "Permission is hereby granted, free of charge": "MIT"}


def find_real_data() -> tuple[Path | None, str]:
    """The folder of real public images, and a sentence on it.

    Returns
    -------
    folder : pathlib.Path or None
        What ``MRMYO_REAL_DATA`` names (a relative path is looked for from here and from the checkout); None where
        there is none.
    note : str
        What was found, or what to do to see real images.
    """
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None, (f"No real images here: {VARIABLE} is not set. Set it to a folder of them to see more; all that "
                      "is synthetic works without.")
    for place in (Path(named), Path(__file__).resolve().parent.parent / named):
        if place.is_dir():
            folders = sorted(part.name for part in place.iterdir() if part.is_dir())
            return place.resolve(), f"Real public images: {', '.join(folders)}."
    return None, f"No real images here: {VARIABLE} names a folder that does not exist. Correct it to see more."


def list_real_data(folder):
    """What the folder of real public images holds, and under which licences.

    Parameters
    ----------
    folder : path

    Returns
    -------
    pandas.DataFrame
        One row per subfolder: ``folder``, ``what`` it is, ``licence``, ``n_files``, ``size_mb``.
    """
    import pandas as pd

    rows = []
    for place in sorted(part for part in Path(folder).iterdir() if part.is_dir()):
        files = [path for path in place.rglob("*") if path.is_file() and path.name != "LICENSE"]
        rows.append({"folder": place.name, "what": WHAT.get(place.name, ""), "licence": _licence(place / "LICENSE"),
                     "n_files": len(files), "size_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1)})
    return pd.DataFrame(rows, columns=["folder", "what", "licence", "n_files", "size_mb"])


def _licence(path):
    text = path.read_text(errors="replace") if path.is_file() else ""
    known = next((name for words, name in LICENCES.items() if words in text), "see its LICENSE" if text else "not told")
    if known == "BSD":
        return "BSD-3-Clause" if "Neither the name" in " ".join(text.split()) else "BSD-2-Clause"
    return known


def read_label_map(path) -> Volume:
    """A public label map of eleven muscles in the values of `mrmyo.label_table`.

    The file uses one value for both sides; left and right follow from the affine: what lies on the left of the middle
    of all labels is left.

    Parameters
    ----------
    path : path
        A NIfTI file with values 0 to 11 (1 sartorius, 2 rectus femoris, 3 vastus lateralis, …).

    Returns
    -------
    Volume

    Raises
    ------
    ValueError
        When the file holds other values, or none but 0.
    """
    found = read_nifti(path)
    values = np.unique(found.array)
    if not np.isin(values, np.arange(TO_MRMYO.size)).all() or values.max() == 0:
        raise ValueError(f"Found the label values {values[:14].tolist()} in {Path(path).name}; expected 0 to "
                         f"{TO_MRMYO.size - 1}, the muscles of the public maps. Use read_nifti for other label maps.")
    named = TO_MRMYO[found.array.astype(int)]
    grid = np.indices(named.shape, sparse=True)
    x = sum(found.affine[0, a] * grid[a] for a in range(3)) + np.zeros(named.shape)
    right = x > x[named > 0].mean()  # RAS+: x grows to the patient's right
    return found.with_array(np.where((named > 0) & right, named + RIGHT_OFFSET, named).astype(np.uint8))


def read_thigh_example(folder) -> tuple[dict[str, Volume], Volume]:
    """The real Dixon images of both thighs and the labels that came with them.

    Parameters
    ----------
    folder : path
        With ``water.nii.gz``, ``fat.nii.gz`` and ``labels_machine.nii.gz``.

    Returns
    -------
    images : dict of Volume
        water, fat, in-phase (water + fat) and opposed-phase (their absolute difference); the last two are computed.
    reference : Volume
        Values of `mrmyo.label_table`. A network's output, not the truth.
    """
    folder = Path(folder)
    water, fat = (read_nifti(folder / f"{name}.nii.gz") for name in ("water", "fat"))
    reference = read_label_map(folder / "labels_machine.nii.gz")
    w, f = (volume.array.astype(np.float32) for volume in (water, fat))
    arrays = {"water": w, "fat": f, "in-phase": w + f, "opposed-phase": np.abs(w - f)}
    return {name: water.with_array(array) for name, array in arrays.items()}, reference


def take_slices(volume: Volume, first: int, last: int) -> Volume:
    """The slices `first` to `last`, both included, as they lie in the array; every voxel keeps its place.

    Raises
    ------
    GridError
        When the stack does not have these slices.
    """
    n, axis = volume.shape[volume.slice_axis], volume.slice_axis
    if not 0 <= first <= last < n:
        raise GridError(f"Found slices {first} to {last}; expected some within 0 to {n - 1}.")
    start = np.eye(4)
    start[axis, 3] = first
    kept = np.take(volume.array, range(first, last + 1), axis=axis)
    return volume.with_array(kept, affine=volume.affine @ start)


def _only_named(labels, reference):
    """The labels without the muscles that the reference does not name, which cannot be wrong."""
    return labels.with_array(np.where(np.isin(labels.array, np.unique(reference.array)), labels.array, 0))


def dice_by_contrast(found, reference: Volume, *, slices=None):
    """Dice of every muscle that the reference names, for labels drawn on several images of one grid.

    Parameters
    ----------
    found : mapping of str to Volume
        Labels by the name of the image that they were drawn on.
    reference : Volume
    slices : (int, int), optional
        The first and the last slice that count.

    Returns
    -------
    pandas.DataFrame
        Columns contrast, side, muscle, abbreviation, dice; 'whole muscle' is the union of the named muscles.

    Raises
    ------
    GridError
        When a label map lies on another grid.
    """
    import pandas as pd

    tables = []
    for name, labels in found.items():
        pair = [_only_named(labels, reference), reference]
        if slices is not None:
            pair = [take_slices(part, *slices) for part in pair]
        tables.append(dice_by_muscle(*pair).assign(contrast=name))
    table = pd.concat(tables, ignore_index=True)
    return table[["contrast", "side", "muscle", "abbreviation", "dice"]]


def mean_by_muscle(volume: Volume, labels: Volume, *, name: str, slices=None):
    """The mean of any map within every muscle, such as the fat fraction.

    Parameters
    ----------
    volume, labels : Volume
        On one grid; NaN does not count.
    name : str
        Of the column of means.
    slices : (int, int), optional
        The first and the last slice that count.

    Returns
    -------
    pandas.DataFrame
        Columns side, muscle, abbreviation, and the means.
    """
    import pandas as pd

    if not same_grid(volume, labels):
        raise GridError(f"Found an image of shape {volume.shape} and labels of shape {labels.shape}, or at other "
                        "places; expected one grid.")
    if slices is not None:
        volume, labels = (take_slices(part, *slices) for part in (volume, labels))
    table = label_table()
    inside = {e: volume.array[labels.array == e.value] for e in table[table.is_muscle].itertuples()}
    rows = [{"side": e.side, "muscle": e.name, "abbreviation": e.abbreviation, name: float(np.nanmean(values))}
            for e, values in inside.items() if np.isfinite(values).any()]
    return pd.DataFrame(rows, columns=["side", "muscle", "abbreviation", name])


def dice_by_slice(labels: Volume, reference: Volume):
    """How well two masks agree in every slice of every side: to find the best and the worst.

    Parameters
    ----------
    labels, reference : Volume
        On one grid.

    Returns
    -------
    pandas.DataFrame
        Columns slice (along the slice axis of the array), side, ``dice`` (mean over the muscles that the reference
        names there), ``dice_whole`` (of their union); slices in which the reference names none are left out.
    """
    import pandas as pd

    if not same_grid(labels, reference):
        raise GridError(f"Found masks of shape {labels.shape} and {reference.shape}, or at other places; expected one "
                        "grid.")
    labels = _only_named(labels, reference)
    ours, theirs = (np.moveaxis(part.array, part.slice_axis, 0) for part in (labels, reference))
    table = label_table()
    rows = []
    for k in range(len(theirs)):
        for side in ("left", "right"):
            values = table.value[table.is_muscle & (table.side == side)]
            there = [value for value in values if (theirs[k] == value).any()]
            if there:
                pair = [is_muscle(part[k]) & np.isin(part[k], values) for part in (ours, theirs)]
                rows.append({"slice": k, "side": side, "dice_whole": dice(*pair),
                             "dice": float(np.mean([dice(ours[k] == v, theirs[k] == v) for v in there]))})
    return pd.DataFrame(rows, columns=["slice", "side", "dice", "dice_whole"])
