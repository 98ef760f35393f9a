"""A cohort as a BIDS dataset: the images of each visit, and beside them what was computed (derivatives/mrmyo).

BIDS 1.10 has no suffix for Dixon images. Here each is what its contrast makes it (T1w, PDw or T2w), and ``rec-`` says
which one: in-phase, opposed-phase, water or fat. Every visit is a session, so that a second one moves no file of the
first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mrmyo.files import remove_leftovers, replacing
from mrmyo.labels import label_table
from mrmyo.nifti import write_nifti, write_t2map
from mrmyo.volume import Volume

__all__ = ["BidsError", "bids_label", "remove_files", "visit_files", "visit_names", "write_dataset", "write_visit"]

VERSION = "1.10.0"
DERIVATIVES = Path("derivatives", "mrmyo")
_DIXON = {"in_phase": "inphase", "opposed_phase": "opposedphase", "water": "water", "fat": "fat"}
_WEIGHTED = {"t1w": ("", "T1w"), "t2w": ("", "T2w"), "t2w_fs": ("Fatsat", "T2w"), "stir": ("Stir", "T2w")}
ROLES = ("multi_echo", *_DIXON, *_WEIGHTED)  # what has a place in BIDS
_README = """{title}

Thigh MRI for muscle T2, written by mrmyo {version} (research use only). Subjects are called by keys; no name, number,
birth date or date of a patient is here. Images are not changed in their place, size or values; they hold the thighs and
no face.

anat/*_echo-N_MESE: the multi-echo spin echo, an image for each echo. rec-inphase, rec-opposedphase, rec-water and
rec-fat: the images of one Dixon measurement, for which BIDS {bids} has no suffix. acq- tells the plane.
derivatives/mrmyo: T2 maps in seconds, and muscle masks (dseg, read with dseg.tsv).
{synthetic}"""


class BidsError(ValueError):
    """What cannot be said in BIDS."""


def bids_label(key: str, *, prefix: str = "sub-") -> str:
    """A key as BIDS allows it: letters and digits only, without the prefix.

    Raises
    ------
    BidsError
        When nothing is left of it.
    """
    label = re.sub(r"[^A-Za-z0-9]", "", str(key).removeprefix(prefix))
    if not label:
        raise BidsError(f"Found the key {key!r}; BIDS needs one with letters or digits.")
    return label


def visit_names(subject: str, session: str, grids: Sequence[tuple[str, Volume]]) -> list[str]:
    """The stem of the path of each image within the dataset, ``sub-…/ses-…/anat/sub-…_ses-…_…``.

    A multi-echo series has its stem once, with ``echo-{}`` in it.

    Parameters
    ----------
    subject, session : str
        Keys.
    grids : sequence of (role, Volume)
        Roles out of `ROLES`; the volumes' voxels are not looked at.
    """
    names = [_entities(role, grid) for role, grid in grids]
    count, number, stems = Counter(names), Counter(), []
    for middle, suffix in names:
        number[middle, suffix] += 1
        run = f"_run-{number[middle, suffix]}" if count[middle, suffix] > 1 else ""
        echo = "_echo-{}" if suffix == "MESE" else ""
        stems.append(f"{_place(subject, session)}{middle}{run}{echo}_{suffix}")
    return stems


def _place(subject, session):
    sub, ses = f"sub-{bids_label(subject)}", f"ses-{bids_label(session, prefix='ses-')}"
    return f"{sub}/{ses}/anat/{sub}_{ses}"


def _entities(role, grid):
    """Entities and suffix of an image."""
    normal = np.abs(grid.affine[:3, grid.slice_axis])
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    if role == "multi_echo":
        return f"_acq-{plane}", "MESE"
    if role in _WEIGHTED:
        kind, suffix = _WEIGHTED[role]
        return f"_acq-{plane}{kind}", suffix
    long_tr = (grid.meta.get("RepetitionTime") or 0) >= 1500
    long_te = bool(grid.echo_times_ms) and grid.echo_times_ms[0] >= 40
    suffix = ("T2w" if long_te else "PDw") if long_tr else "T1w"
    return f"_acq-{plane}Dixon_rec-{_DIXON[role]}", suffix


def visit_files(subject: str, session: str, grids: Sequence[tuple[str, Volume]], fitted: int | None) -> list[str]:
    """The images that `write_visit` writes, by their paths within the dataset; the last three are computed ones."""
    files = []
    for (role, grid), stem in zip(grids, visit_names(subject, session, grids), strict=True):
        n = grid.array.shape[3] if role == "multi_echo" else 1
        files += [f"{stem.format(echo)}.nii.gz" for echo in range(1, n + 1)]
    space = "orig" if fitted is None else "MESE"
    ends = (f"space-{space}_T2map", f"space-{space}_dseg", "space-structural_dseg")
    return files + [f"{DERIVATIVES}/{_place(subject, session)}_{end}.nii.gz" for end in ends]


def write_visit(root, subject: str, session: str, images: Sequence[tuple[str, Volume, Callable]], *,
                t2: Volume, labels_t2: Volume, mask: Volume, drawn_on: Sequence[int], fitted: int | None,
                method: Mapping) -> None:
    """Write the images and results of one visit.

    Parameters
    ----------
    root : path
        The dataset.
    subject, session : str
        Keys.
    images : sequence of (role, Volume, callable)
        Role, place, and a function that reads the Volume.
    t2, labels_t2, mask : Volume
        T2 map in ms, labels on its grid, and the mask on the structural image.
    drawn_on : sequence of int
        Which of the images the mask was drawn on.
    fitted : int, optional
        Which of them T2 was fitted to; None where the scanner made the map.
    method : mapping
        Further facts for the sidecar of the T2 map.
    """
    root, grids = Path(root), [(role, grid) for role, grid, _ in images]
    files = visit_files(subject, session, grids, fitted)
    for folder in {root / Path(file).parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    stems = visit_names(subject, session, grids)
    for (role, _, read), stem in zip(images, stems, strict=True):
        volume = read()
        if role != "multi_echo":
            write_nifti(volume, root / f"{stem}.nii.gz")
            continue
        for echo in range(volume.array.shape[3]):
            write_nifti(volume.echo(echo), root / f"{stem.format(echo + 1)}.nii.gz")
    scanned, drawn = (
        [f"bids:raw:{stems[i].format(1)}.nii.gz" for i in chosen]
        for chosen in ([] if fitted is None else [fitted], drawn_on)
    )
    on_t2, on_structural = _reference(scanned or drawn), _reference(drawn or scanned)
    facts = {**on_t2, "Sources": scanned, "SkullStripped": False, **method}  # BIDS wants this last one of thighs, too
    _with_facts(write_t2map, t2, root / files[-3], facts)
    _with_facts(write_nifti, labels_t2, root / files[-2], {**on_t2, "Sources": drawn})
    _with_facts(write_nifti, mask, root / files[-1], {**on_structural, "Sources": drawn})


def _reference(images):
    """All images of a visit share the scanner's coordinates: one of them tells where the voxels lie."""
    return {"SpatialReference": images[0]} if images else {}


def remove_files(root, files: Sequence[str]) -> None:
    """Remove images, with their sidecars, and the folders that are then empty; what else lies there stays.

    Parameters
    ----------
    root : path
        The dataset.
    files : sequence of str
        As of `visit_files`.
    """
    root = Path(root)
    for file in files:
        for name in (file, file.removesuffix(".nii.gz") + ".json"):
            (root / name).unlink(missing_ok=True)
    for anat in {(root / file).parent for file in files}:
        for folder in (anat, anat.parent, anat.parent.parent):  # the session's, and the subject's
            with suppress(OSError):
                folder.rmdir()


def _with_facts(write, volume, path, facts):
    """Write a NIfTI file whose sidecar holds further facts."""
    bare = volume.with_array(volume.array, meta={}, echo_times_ms=None)
    _write_json(facts, path.with_name(path.name.removesuffix(".nii.gz") + ".json"))
    write(bare, path)


def write_dataset(root, *, version: str) -> None:
    """Write what a dataset needs beside its images; participants are the subjects that have a folder."""
    root = Path(root)
    subjects = sorted(path.name for path in root.glob("sub-*") if any(path.rglob("*.nii.gz")))
    made_up = any(_is_synthetic(path) for subject in subjects for path in list((root / subject).rglob("*.json"))[:1])
    title = "Synthetic thigh MRI" if made_up else "Thigh MRI"
    generated = [{"Name": "mrmyo", "Version": version}]
    common = {"BIDSVersion": VERSION, "GeneratedBy": generated}
    (root / DERIVATIVES).mkdir(parents=True, exist_ok=True)
    _write_json({"Name": title, "DatasetType": "raw", **common}, root / "dataset_description.json")
    _write_json({"Name": f"{title}: muscle T2", "DatasetType": "derivative", **common,
                 "DatasetLinks": {"raw": "../.."}}, root / DERIVATIVES / "dataset_description.json")
    notice = "All or some of the data are synthetic: no patient was measured.\n" if made_up else ""
    text = _README.format(title=title, version=version, bids=VERSION, synthetic=notice)
    for folder in (root, root / DERIVATIVES):
        _write_text(text, folder / "README")
    _write_text("\n".join(["participant_id", *subjects]) + "\n", root / "participants.tsv")
    _write_json({"participant_id": {"Description": "Key of the subject; it tells nothing of the person"}},
                root / "participants.json")
    table = label_table()
    lines = [f"{e.value}\t{e.side} {e.name}\t{e.side[0].upper()}-{e.abbreviation}" for e in table.itertuples()]
    _write_text("\n".join(["index\tname\tabbreviation", "0\tbackground\tBG", *lines]) + "\n",
                root / DERIVATIVES / "dseg.tsv")


def _is_synthetic(path):
    return "synthetic" in str(json.loads(path.read_text(encoding="utf-8")).get("Manufacturer", "")).lower()


def _write_json(content, path):
    _write_text(json.dumps(content, indent=2) + "\n", path)


def _write_text(text, path):
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
