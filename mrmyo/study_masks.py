"""Masks of single images as files, with what is known of every slice: what ``mrmyo segment`` writes."""

from __future__ import annotations

from pathlib import Path

from mrmyo.files import replacing
from mrmyo.nifti import write_nifti
from mrmyo.segmentation import flag_lines, segment, segment_with_probability, slice_quality
from mrmyo.segmentation_quality import KEY

__all__ = ["NOTHING_TOLD", "output_names", "stem_of", "write_mask", "write_quality"]

NOTHING_TOLD = "this model tells nothing of its slices: look at every one"


def stem_of(path) -> str:
    """The name of a NIfTI file without its ending."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")


def output_names(images, out, beside=()) -> list[Path]:
    """Where the label map of every image goes: `out` itself for one image, files in the folder `out` for several.

    Raises
    ------
    ValueError
        When two images would share a name, an output is an input, its name is no NIfTI's, or several images are given
        further contrasts, which are of one.
    """
    if beside and len(images) > 1:
        raise ValueError(f"Found {len(images)} images and further contrasts beside them; expected the one image whose "
                         "contrasts they are.")
    out = Path(out)
    if len(images) == 1:
        names = [out]
    else:
        # folders of DICOM may be called after patients
        names = [out / f"{f'image-{number:02d}' if image.is_dir() else stem_of(image)}_labels.nii.gz"
                 for number, image in enumerate(images, start=1)]
    for image, name in zip(images, names, strict=True):
        if not name.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"Cannot write {name.name}: expected a name that ends in .nii or .nii.gz.")
        if name.resolve() == image.resolve():
            raise ValueError(f"The output {name.name} is the input itself, which would be lost. Give another name.")
    given = {image.resolve() for image in (*images, *beside)}
    if lost := sorted({name.name for name in names if name.resolve() in given}):
        raise ValueError(f"The output {', '.join(lost)} is one of the images, which would be lost. Give another "
                         "folder, or leave the label maps out of the images.")
    twice = sorted({name.name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Found images of the same name, whose masks would both be {twice[0]}; expected different "
                         "ones. Segment them one at a time.")
    return names


def write_quality(labels, path):
    """Write the table of `mrmyo.segmentation.slice_quality` of fresh labels as CSV, and return it.

    The labels of a network that tells nothing of its slices give a table without rows.
    """
    import pandas as pd

    quality = slice_quality(labels) if KEY in labels.meta else pd.DataFrame(columns=["slice", "side", "flag"])
    with replacing(path) as partial:
        quality.to_csv(partial, index=False)
    return quality


def write_mask(volume, path, *, model=None, passes=1, beside=(), probability=False, progress=True):
    """Segment an image; write the labels, NAME_quality.csv beside them, and, when asked for, NAME_probability.nii.gz
    and NAME_entropy.nii.gz.

    Parameters
    ----------
    volume : Volume
    path : path
        Of the label map.
    model, passes, beside, progress
        As for `mrmyo.segment`.
    probability : bool

    Returns
    -------
    labels : Volume
    lines : list of str
        Which slices to look at, and why.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in ("probability", "entropy"):  # of an earlier run, perhaps with another model
        path.with_name(f"{stem_of(path)}_{name}.nii.gz").unlink(missing_ok=True)
    if probability:
        found = segment_with_probability(volume, model, progress, passes=passes, beside=beside)
        labels = found.labels
        for name in ("probability", "entropy"):
            write_nifti(getattr(found, name), path.with_name(f"{stem_of(path)}_{name}.nii.gz"))
    else:
        labels = segment(volume, model, progress, passes=passes, beside=beside)
    quality = write_quality(labels, path.with_name(f"{stem_of(path)}_quality.csv"))
    write_nifti(labels, path)
    return labels, flag_lines(quality) if len(quality) else [NOTHING_TOLD]
