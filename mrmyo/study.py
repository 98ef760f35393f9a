"""From a folder of DICOM to rows of T2.

The stages read, segment, align, fit and measure are cached by a hash of what goes into them, so that a corrected mask
or a changed option reruns only what lies downstream.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from mrmyo.dicom import read_dicom
from mrmyo.labels import is_muscle
from mrmyo.measure import quality_flags, t2_by_muscle
from mrmyo.nifti import NiftiError, read_nifti, read_t2map, write_nifti, write_t2map
from mrmyo.provenance import file_digest, record
from mrmyo.registration import align
from mrmyo.settings import Settings, write_settings
from mrmyo.study_stages import Stages, write_json
from mrmyo.t2 import T2Maps, fit_t2
from mrmyo.volume import Volume, same_grid

__all__ = ["StudyError", "load_maps", "process_study"]

REVIEWED = "labels_reviewed.nii.gz"
# map: file name, how it is written (maps of times in seconds, as BIDS has it) and read
MAPS = {"t2_ms": ("T2map.nii.gz", write_t2map, read_t2map), "t2_std_ms": ("T2std.nii.gz", write_t2map, read_t2map),
        "s0": ("S0map.nii.gz", write_nifti, read_nifti), "residual": ("residual.nii.gz", write_nifti, read_nifti),
        "status": ("status.nii.gz", write_nifti, read_nifti)}


class StudyError(ValueError):
    """A study that lacks what is needed."""


def process_study(folder, out_dir, labels=None, *, subject=None, model=None, settings: Settings | None = None,
                  progress=True):
    """Measure one study: read, segment, align, fit, measure.

    Parameters
    ----------
    folder : path
        DICOM files of one study, in any subfolders.
    out_dir : path
        Receives masks and maps as NIfTI, ``rows.csv``, ``study.json`` and ``quality.html``. Run again, it redoes only
        the stages whose inputs changed.
    labels : Volume or path, optional
        A reviewed mask on the grid of the structural image, in place of the automatic one. It is kept in `out_dir` and
        counts in later runs too, until another is given or ``labels="automatic"`` sets it aside.
    subject : str, optional
        The key that the rows carry; the name of `out_dir` when None. Nothing of the DICOM identity is used.
    model : path, optional
        A segmentation model; the shipped one when None.
    settings : Settings, optional
    progress : bool

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle (see `mrmyo.t2_by_muscle`) with subject, session, T2 model and mask version.

    Raises
    ------
    DicomError, StudyError, RegistrationError, SegmentationError
        When the study cannot be measured; what was finished before stays.
    """
    settings = settings or Settings()
    model = model or settings.segmentation_model
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out)
    series = read_dicom(folder)
    role = _structural_role(series, settings)
    _check_one_study(series, role)
    files = {name: file_digest(series.files(name)) for name in (role, "multi_echo")}
    structural = series.volume(role)
    echoes = lru_cache(lambda: series.volume("multi_echo"))  # read when a stage first needs them

    stages.run("read", files[role], ["structural.nii.gz"], lambda: write_nifti(structural, out / "structural.nii.gz"))
    mask, made_from, mask_name = _mask(stages, structural, files[role], labels, model, progress)
    aligned = stages.run("align", [made_from, files], ["mask.nii.gz", "labels_t2.nii.gz", "alignment.json"],
                         lambda: _align(out, mask, structural, echoes()))
    fitted = stages.run(
        "fit",
        [files["multi_echo"], settings.t2_model],
        ["fit.json", *(file for file, _, _ in MAPS.values())],
        lambda: _fit(out, echoes(), settings),
    )
    facts = {
        "subject": subject or out.name,
        "session": settings.session,
        "t2_model": settings.t2_model,
        "mask": mask_name,
    }
    stages.run("measure", [aligned, fitted, facts], ["rows.csv", "study.json", "quality.html"],
               lambda: _measure(out, facts, settings, {"files": files, "structural": role}))
    return _read_rows(out)


def _read_rows(out):
    import pandas as pd

    return pd.read_csv(out / "rows.csv", dtype={"subject": str, "session": str})


def _structural_role(series, settings):
    """The first role of the settings that the study has; refuses a study without one, or without echoes."""
    roles = set(series.loc[series.readable, "role"])
    structural = next((role for role in settings.segment_on if role in roles), None)
    if structural is None or "multi_echo" not in roles:
        problems = [f"series {row.series}: {row.problem}" for row in series[~series.readable].itertuples()]
        raise StudyError(
            f"Found series with the roles {sorted(roles)}; expected a multi-echo spin-echo series and one of "
            f"{list(settings.segment_on)} to draw the mask on. "
            + (f"These could not be read: {'; '.join(problems)}." if problems else "Check that the folder is complete.")
        )
    return structural


def _check_one_study(series, role):
    """Refuses a mask and echoes that come from two studies, perhaps of two patients."""
    chosen = [series[(series.role == name) & series.readable].study for name in (role, "multi_echo")]
    if len(set().union(*map(set, chosen))) > 1:
        raise StudyError(
            f"Found the {role} and multi_echo series in {series.study.nunique()} studies (by StudyInstanceUID), "
            "which may be of different patients; expected one study. Give each study a folder of its own."
        )


def _mask(stages, structural, structural_key, labels, model, progress):
    """The mask, the hash of how it came about, and the name that the rows carry for it."""
    kept = stages.folder / REVIEWED
    if isinstance(labels, str) and labels == "automatic":
        if kept.exists():
            os.replace(kept, kept.with_name("labels_set_aside.nii.gz"))
    elif labels is not None or kept.exists():
        reviewed = labels if isinstance(labels, Volume) else read_nifti(kept if labels is None else labels)
        if not same_grid(reviewed, structural):
            raise StudyError(
                f"The mask has shape {reviewed.shape}, the structural image {structural.shape}, or they lie apart; "
                "expected a mask drawn on this study's structural image (structural.nii.gz)."
            )
        is_muscle(reviewed.array)  # refuses values that the table does not know
        key = hashlib.sha256(np.ascontiguousarray(reviewed.array.astype(np.uint8))).hexdigest()[:16]
        if labels is not None:
            write_nifti(reviewed.with_array(reviewed.array.astype(np.uint8)), kept)
        return reviewed, key, f"reviewed {key[:8]}"
    from mrmyo.segmentation import model_hash, segment

    path = stages.folder / "labels_structural.nii.gz"
    made_by = model_hash(model)
    if stages.changed_by_hand("segment", [path.name]) and _is_readable(path):
        raise StudyError(
            f"{path.name} was changed since mrmyo wrote it. To measure with it, copy it elsewhere and give it as "
            "labels (--labels); to have it made anew, delete it. Nothing was overwritten."
        )
    key = stages.run("segment", [structural_key, made_by], [path.name],
                     lambda: write_nifti(segment(structural, model=model, progress=progress), path))
    return read_nifti(path), key, f"automatic {made_by[:8]}"


def _is_readable(path):
    try:
        read_nifti(path)
    except NiftiError:
        return False  # cut short: it is no one's work
    return True


def _align(out, mask, structural, multi_echo):
    alignment = align(mask, moving=structural, fixed=multi_echo)
    write_nifti(mask, out / "mask.nii.gz")  # the one that counted, automatic or reviewed
    write_nifti(alignment.labels, out / "labels_t2.nii.gz")
    write_json({**alignment.report, "transform": alignment.transform.tolist()}, out / "alignment.json")


def _fit(out, multi_echo, settings):
    maps = fit_t2(multi_echo, model=settings.t2_model)
    for name, (file, write, _) in MAPS.items():
        write(maps.volume(name), out / file)
    write_json({"model": maps.model, "echo_times_ms": list(maps.echo_times_ms)}, out / "fit.json")


def load_maps(out_dir) -> T2Maps:
    """The T2 maps that `process_study` left in a folder."""
    out = Path(out_dir)
    facts = json.loads((out / "fit.json").read_text())
    volumes = {name: read(out / file) for name, (file, _, read) in MAPS.items()}
    return T2Maps(**{name: volume.array for name, volume in volumes.items()}, model=facts["model"],
                  echo_times_ms=tuple(facts["echo_times_ms"]), affine=volumes["t2_ms"].affine)


def _measure(out, facts, settings, inputs):
    """Rows, flags, provenance and the page; ``rows.csv`` is written last."""
    from mrmyo.figures.pages import write_quality_page

    maps, labels = load_maps(out), read_nifti(out / "labels_t2.nii.gz")
    rows = t2_by_muscle(maps, labels)
    for position, (name, value) in enumerate(facts.items()):
        rows.insert(position, name, value)
    alignment = json.loads((out / "alignment.json").read_text())
    flags = quality_flags(rows, coverage=alignment["coverage"])
    study = {**facts, "flags": flags, "alignment": alignment, "inputs": inputs, "provenance": record()}
    write_settings(settings, out / "settings.toml")
    write_quality_page(
        out / "quality.html",
        rows=rows,
        flags=flags,
        facts=study,
        t2=maps.volume("t2_ms"),
        labels_t2=labels,
        structural=read_nifti(out / "structural.nii.gz"),
        mask=read_nifti(out / "mask.nii.gz"),
    )
    write_json(study, out / "study.json")
    partial = out / ".rows.csv"
    rows.to_csv(partial, index=False, float_format="%.4f")
    os.replace(partial, out / "rows.csv")
