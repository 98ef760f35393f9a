"""Which mask of a study counts: the automatic one, one that somebody corrected, or what a review's journal holds."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrmyo.journal import JournalError, Review, image_hash, is_journal, mask_version, replay
from mrmyo.labels import is_muscle
from mrmyo.measure import trim_fat
from mrmyo.nifti import NiftiError, read_nifti, write_nifti
from mrmyo.provenance import digest, file_digest
from mrmyo.study_alignment import read_transform
from mrmyo.study_maps import load_maps
from mrmyo.study_masks import write_quality
from mrmyo.study_results import SLICE_QUALITY
from mrmyo.study_series import StudyError
from mrmyo.study_stages import write_json
from mrmyo.volume import Volume, in_axis_order_of, same_grid

__all__ = ["Mask", "choose_mask", "review_inputs"]

AUTOMATIC = "labels_structural.nii.gz"
REVIEWED = "labels_reviewed.nii.gz"
REVIEW = "review.jsonl"
DRAWN_ON = "reviewed_on.json"  # which image the reviewed mask belongs to, and which review it came from


@dataclass(frozen=True)
class Mask:
    """The mask that counts.

    Attributes
    ----------
    labels : Volume
    key : str
        A hash of how it came about.
    name : str
        What rows say of it: ``automatic`` and the model's hash, ``reviewed`` and the mask's version, or ``unreviewed``
        where the journal of the review holds nothing yet.
    journal, reviewer : str
        The identity of the journal with the entry that counted, and who changed or decided anything; empty without one.
    transform, before_hand : list or None
        The alignment with the mask moved on the T2 map by hand, where somebody did, and the one it was moved from.
    flags : tuple of str
    """

    labels: Volume
    key: str
    name: str
    journal: str = ""
    reviewer: str = ""
    transform: list | None = None
    before_hand: list | None = None
    flags: tuple[str, ...] = ()


def review_inputs(out_dir, *, second: bool = False) -> dict:
    """What `mrmyo.review` needs of a processed study: ``mrmyo.review(**review_inputs(OUT), reviewer="R1")``.

    Parameters
    ----------
    out_dir : path
        As `mrmyo.process_study` left it.
    second : bool
        For a second reader, who begins with the automatic mask too and does not see what the first one did.

    Returns
    -------
    dict
        ``volume``, ``labels`` (the automatic mask; None where a review was begun, which goes on with its own), ``t2``,
        ``transform`` and ``journal``, ``review.jsonl`` or ``review-second.jsonl`` in the folder.
    """
    out = Path(out_dir)
    journal = out / ("review-second.jsonl" if second else REVIEW)
    return {"volume": read_nifti(out / "structural.nii.gz"), "journal": journal, "t2": load_maps(out),
            "labels": None if is_journal(journal) else read_nifti(out / AUTOMATIC),
            "transform": read_transform(out, before_hand=True)}


def choose_mask(stages, structural: Volume, structural_key, labels, model, progress, *, beside=(),
                fat_fraction=None) -> Mask:
    """The mask that counts; an automatic one is made where there is none.

    Parameters
    ----------
    stages : Stages
    structural : Volume
    structural_key
        What it and its further contrasts are known by.
    labels, model, progress
        As for `mrmyo.process_study`.
    beside : sequence of Volume
        The further contrasts.
    fat_fraction : callable, optional
        Gives the fat fraction on the grid of `structural`, to trim an automatic mask with; or None.
    """
    kept = stages.folder / REVIEWED
    review, told = _review_of(labels, structural)
    if isinstance(labels, str) and labels == "automatic":
        if kept.exists():
            os.replace(kept, kept.with_name("labels_set_aside.nii.gz"))
        kept.with_name(DRAWN_ON).unlink(missing_ok=True)
    elif labels is not None or kept.exists():
        if review is not None:
            labels = review.labels
        reviewed = labels if isinstance(labels, Volume) else read_nifti(kept if labels is None else labels)
        reviewed = in_axis_order_of(reviewed, structural)
        if not same_grid(reviewed, structural):
            whose = "The mask that an earlier run left in the output folder" if labels is None else "The mask"
            raise StudyError(
                f"{whose} has {_grid_words(reviewed)}, the structural image {_grid_words(structural)}; expected a mask "
                "drawn on this study's structural image (structural.nii.gz). Give another, or --labels automatic."
            )
        if labels is None:
            told = _check_drawn_on(kept, structural)
        is_muscle(reviewed.array)  # refuses values that the table does not know
        key = mask_version(reviewed.array)
        if labels is not None:
            write_nifti(reviewed.with_array(reviewed.array.astype(np.uint8)), kept)
        write_json({"mask": file_digest([kept]), "structural": _image_digest(structural), "review": told},
                   kept.with_name(DRAWN_ON))
        word = "unreviewed" if told.get("journal", "").endswith(":0") else "reviewed"
        return Mask(reviewed, key, f"{word} {key[:8]}", **{**told, "flags": tuple(told.get("flags", ()))})
    from mrmyo.segmentation import model_hash

    path = stages.folder / AUTOMATIC
    made_by = model_hash(model)
    if stages.changed_by_hand("segment", [path.name]) and _is_readable(path):
        raise StudyError(
            f"{path.name} was changed since mrmyo wrote it. To measure with it, copy it elsewhere and give it as "
            "labels (--labels); to have it made anew, delete it. Nothing was overwritten."
        )
    key = stages.run("segment", [structural_key, made_by], [path.name, SLICE_QUALITY],
                     lambda: _segment(structural, model, progress, path, beside, fat_fraction))
    return Mask(read_nifti(path), key, f"automatic {made_by[:8]}", flags=_unused(stages.folder / REVIEW))


def _unused(path):
    """A flag where an accepted review lies in the folder and does not count."""
    try:
        review = replay(path) if is_journal(path) else None
    except JournalError:
        return ()
    accepted = review is not None and review.decision["decision"] == "accepted" and review.decision["stands"]
    flag = f"{path.name} holds an accepted review that was not used: give it as labels (--labels)"
    return (flag,) if accepted else ()


def _review_of(labels, structural) -> tuple[Review | None, dict]:
    """The review that a journal (or an open editor) leads to, and what the rows say of it."""
    path = getattr(labels, "journal", labels)
    if isinstance(path, Volume | None) or not is_journal(path):
        return None, {}
    review = replay(path)
    if review.header["image"] not in ("", image_hash(structural)):
        raise StudyError(
            "This journal is of a review on another image than this study's structural one (another study, or another "
            "series of it). If its mask fits all the same, give its voxels (a Volume or a NIfTI file) as labels."
        )
    decision = review.decision
    if decision["decision"] == "rejected" and decision["stands"]:
        raise StudyError(
            f"The mask of this journal was rejected by {decision['reviewer']}. Correct and accept it first, or give "
            "its voxels (a Volume or a NIfTI file) as labels."
        )
    flags = []
    if decision["decision"] != "accepted" or not decision["stands"]:
        word = decision["decision"] if decision["stands"] else "not decided" if decision["decision"] == "open" else \
            f"{decision['decision']}, but changed since"
        flags.append(f"the reviewed mask was not accepted ({word})")
    if review.transform is not None:
        flags.append("the mask was moved on the T2 map by hand, by "
                     + ", ".join(f"{value:g}" for value in review.pose[:3])
                     + f" mm (right, forwards, up) and {review.pose[3]:g}°")
    return review, {"journal": f"{review.header['id']}:{review.revision}", "reviewer": "; ".join(review.reviewers),
                    "transform": review.transform, "before_hand": review.before_hand if review.transform else None,
                    "flags": flags}


def _segment(structural, model, progress, path, beside, fat_fraction):
    """The automatic mask, and beside it what is known of its slices (before their fat is trimmed)."""
    from mrmyo.segmentation import segment

    labels = segment(structural, model=model, progress=progress, beside=beside)
    write_quality(labels, path.with_name(SLICE_QUALITY))
    share = None if fat_fraction is None else fat_fraction()
    write_nifti(labels if share is None else trim_fat(labels, share), path)


def _check_drawn_on(kept, structural):
    """Refuse a mask that was kept for another image; one that came into the folder since then is of this image.

    Gives what is known of its review, if the mask is still what that led to.
    """
    try:
        noted = json.loads(kept.with_name(DRAWN_ON).read_text())
    except (OSError, ValueError):
        return {}  # laid there by hand, or kept by an earlier version
    if noted.get("mask") == file_digest([kept]) and noted.get("structural") != _image_digest(structural):
        raise StudyError(
            f"{kept.name} was drawn on another structural image than this study's (another study, or another series "
            "of it). To measure with it all the same, give it as labels (--labels); for the automatic mask, move it "
            "out of the folder. Nothing was overwritten."
        )
    return (noted.get("review") or {}) if noted.get("mask") == file_digest([kept]) else {}


def _image_digest(volume):
    """A hash of voxels and place."""
    voxels = hashlib.sha256(np.ascontiguousarray(volume.array, dtype=np.float32)).hexdigest()
    return digest(voxels, np.round(volume.affine, 3).tolist())


def _grid_words(volume):
    first = ", ".join(f"{value:.1f}" for value in volume.affine[:3, 3])
    return f"{' × '.join(map(str, volume.shape))} voxels from ({first}) mm"


def _is_readable(path):
    try:
        read_nifti(path)
    except NiftiError:
        return False  # cut short: it is no one's work
    return True
