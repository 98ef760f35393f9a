"""Scan synthetic patients twice on one day and again after treatment, and have a simulated reader correct the masks.

    python scripts/repeat_scans.py [--subjects 12] [--jobs -1] [--out data_synthetic]

Writes repeats.csv (every muscle at every visit) and reviews.csv (automatic against corrected masks). Nobody was
scanned and nobody read: see data_synthetic/README.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import pandas as pd

from mrmyo.cohort import load_cohort, pick_subjects
from mrmyo.editor_session import Session
from mrmyo.lessons_review import simulated_reader
from mrmyo.nifti import read_nifti
from mrmyo.progress import each
from mrmyo.simulation import simulate_study
from mrmyo.study import process_study
from mrmyo.study_review import review_inputs

HEALTHY_T2_MS = 33.9  # the controls' mean
LEFT_OF_EXCESS = 0.7  # what treatment leaves of T2 beyond the healthy one
COLUMNS = ["side", "muscle", "abbreviation", "t2_ms", "water_t2_ms", "fat_fraction", "volume_ml"]


def scan_and_review(row):
    """The rows of all three visits of one subject, and what a simulated reader changed at the first."""
    treated = HEALTHY_T2_MS + LEFT_OF_EXCESS * (row["t2_ms"] - HEALTHY_T2_MS)
    with tempfile.TemporaryDirectory() as folder:
        visits = [scan(row, Path(folder), visit, number, target)
                  for number, (visit, target) in enumerate((("first", None), ("again", None), ("treated", treated)))]
        return pd.concat(visits), review(row["subject"], Path(folder), visits[0])


def scan(row, folder, visit, number, target):
    """The rows of one visit, measured through the pipeline."""
    study, out, truth_dir = (folder / f"{name}-{number}" for name in ("study", "out", "truth"))
    truth = simulate_study(row, study, truth_dir, visit=number, t2_ms=target)
    rows = process_study(study, out, subject=row["subject"], progress=False)
    return rows[COLUMNS].assign(subject=row["subject"], visit=visit, t2_true_ms=truth["t2_apparent_ms"])


def review(subject, folder, automatic):
    """What a simulated reader changed in the automatic mask of the first visit, and in its T2."""
    out, truth_dir = folder / "out-0", folder / "truth-0"
    inputs = review_inputs(out)
    session = Session(inputs["volume"], inputs["labels"], inputs["journal"])
    strokes = simulated_reader(session, read_nifti(truth_dir / "labels_in_phase.nii.gz"), reviewer="first", seed=1)
    session.close()
    reviewed = process_study(folder / "study-0", out, inputs["journal"], subject=subject, progress=False)
    before, after = (read_nifti(out / name).array for name in ("labels_structural.nii.gz", "mask.nii.gz"))
    of_mask = 100 / float((before > 0).sum())
    return {"subject": subject, "strokes": strokes, "voxels_changed_percent": of_mask * (before != after).sum(),
            "muscle_changed_percent": of_mask * ((before > 0) != (after > 0)).sum(),
            "t2_automatic_ms": _whole(automatic), "t2_reviewed_ms": _whole(reviewed),
            "t2_true_ms": automatic.t2_true_ms.iloc[0]}


def _whole(rows):
    return float(rows[(rows.muscle == "whole muscle") & (rows.side == "both")].t2_ms.iloc[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data_synthetic")
    options = parser.parse_args()
    patients = load_cohort().query("group == 'IIM'")
    rows = pick_subjects(patients, options.subjects).to_dict("records")
    done = each(scan_and_review, [(row,) for row in rows], label="patients", n_jobs=options.jobs)
    repeats = pd.concat([visits for visits, _ in done])[["subject", "visit", *COLUMNS, "t2_true_ms"]]
    for name, table in (("repeats", repeats), ("reviews", pd.DataFrame([review for _, review in done]))):
        partial = options.out / f".{name}.csv"
        table.to_csv(partial, index=False, float_format="%.4g", lineterminator="\n")
        os.replace(partial, options.out / f"{name}.csv")


if __name__ == "__main__":
    main()
