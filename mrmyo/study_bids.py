"""The images and results of one visit of a cohort, brought to its BIDS dataset."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

from mrmyo.bids import ROLES, VERSION, remove_files, visit_files, write_visit
from mrmyo.dicom import read_dicom
from mrmyo.nifti import read_nifti, read_t2map
from mrmyo.provenance import file_digest
from mrmyo.settings import Settings
from mrmyo.study_series import choose_series
from mrmyo.study_stages import Stages, write_json

__all__ = ["remove_bids_visit", "write_bids_visit"]

WRITTEN = "bids.json"  # in the study's own folder: the dataset knows no place for it
_OURS = re.compile(r"(derivatives/mrmyo/)?sub-\w+/ses-\w+/anat/[\w-]+\.nii\.gz", re.ASCII)


def write_bids_visit(folder, out_dir, root, *, subject: str, session: str, settings: Settings) -> None:
    """Write one measured study into a BIDS dataset, unless it is there already.

    Parameters
    ----------
    folder : path
        The study's DICOM.
    out_dir : path
        What `process_study` left.
    root : path
        The dataset.
    subject, session : str
        Keys.
    settings : Settings
        As for `process_study`.
    """
    out, root = Path(out_dir), Path(root).resolve()
    series = read_dicom(folder, roles=dict(settings.roles))
    chosen = choose_series(series, settings)
    rows = _of_the_study(series[series.readable], chosen)
    rows = rows[rows.role.isin(ROLES) & ((rows.role == "multi_echo") == (rows.n_echoes > 1))]
    digests = [file_digest(series.files(key)) for key in rows.key]
    grids = [(role, series.grid(key)) for role, key in zip(rows.role, rows.key, strict=True)]
    drawn_on = [i for i, key in enumerate(rows.key) if key in chosen.structural]
    fitted = list(rows.key).index(chosen.t2) if chosen.t2_source == "echoes" else None
    fit = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    results = [out / name for name in ("T2map.nii.gz", "labels_t2.nii.gz", "mask.nii.gz")]
    files = visit_files(subject, session, grids, fitted)

    def make():
        t2, labels_t2, mask = read_t2map(results[0]), read_nifti(results[1]), read_nifti(results[2])
        images = [(role, grid, partial(series.volume, key))
                  for (role, grid), key in zip(grids, rows.key, strict=True)]
        before = _written(out)
        write_json(sorted({*before, *files}), out / WRITTEN)  # before the first: a kill leaves none unlisted
        write_visit(root, subject, session, images, t2=t2, labels_t2=labels_t2, mask=mask, drawn_on=drawn_on,
                    fitted=fitted, method={"EstimationAlgorithm": fit["model"]})
        remove_files(root, sorted({*before} - {*files}))  # of an earlier run, which saw other series
        write_json(files, out / WRITTEN)

    made_from = [VERSION, subject, session, list(zip(rows.role, digests, strict=True)), drawn_on, fitted,
                 file_digest(results), fit]
    Stages(out).run("bids", made_from, [str(root / file) for file in files], make)


def remove_bids_visit(out_dir, root) -> bool:
    """Remove what `write_bids_visit` wrote of a study into a dataset; whether there was anything."""
    out = Path(out_dir)
    files = _written(out)
    remove_files(root, files)
    (out / WRITTEN).unlink(missing_ok=True)
    return bool(files)


def _of_the_study(rows, chosen):
    """The series of the patient and study that was measured: a folder may hold others beside them."""
    measured = rows[rows.key == chosen.t2]
    for column in ("study", "patient"):
        if column in rows:
            rows = rows[rows[column].isin(measured[column])]
    return rows


def _written(out):
    """The images in the dataset that are mrmyo's own, of this visit; nothing else there is ever removed."""
    try:
        files = json.loads((out / WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [file for file in files if _OURS.fullmatch(file)]
