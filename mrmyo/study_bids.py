"""The images and results of one visit of a cohort, brought to its BIDS dataset."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from mrmyo.bids import ROLES, VERSION, visit_files, write_visit
from mrmyo.dicom import read_dicom
from mrmyo.nifti import read_nifti, read_t2map
from mrmyo.provenance import file_digest
from mrmyo.settings import Settings
from mrmyo.study_stages import Stages

__all__ = ["write_bids_visit"]

NOT_DRAWN_ON = ("multi_echo", "t2_map", "b1_map")


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
    rows = series[series.readable & series.role.isin(ROLES)]
    rows = rows[(rows.role == "multi_echo") == (rows.n_echoes > 1)]
    digests = [file_digest(series.files(key)) for key in rows.key]
    grids = [(role, series.grid(key)) for role, key in zip(rows.role, rows.key, strict=True)]
    used = json.loads((out / "study.json").read_text(encoding="utf-8"))["inputs"]["files"]
    drawn_on = [digests.index(used[role]) for role in used if role not in NOT_DRAWN_ON and used[role] in digests]
    fitted = digests.index(used["multi_echo"]) if used.get("multi_echo") in digests else None
    fit = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    results = [out / name for name in ("T2map.nii.gz", "labels_t2.nii.gz", "mask.nii.gz")]

    def make():
        t2, labels_t2, mask = read_t2map(results[0]), read_nifti(results[1]), read_nifti(results[2])
        images = [(role, grid, partial(series.volume, key))
                  for (role, grid), key in zip(grids, rows.key, strict=True)]
        write_visit(root, subject, session, images, t2=t2, labels_t2=labels_t2, mask=mask, drawn_on=drawn_on,
                    fitted=fitted, method={"EstimationAlgorithm": fit["model"]})

    outputs = [str(root / file) for file in visit_files(subject, session, grids, fitted)]
    made_from = [VERSION, subject, session, list(zip(rows.role, digests, strict=True)), file_digest(results), fit]
    Stages(out).run("bids", made_from, outputs, make)
