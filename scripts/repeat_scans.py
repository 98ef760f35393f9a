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
    subject, t2_ms = row["subject"], row["t2_ms"]
    treated = HEALTHY_T2_MS + LEFT_OF_EXCESS * (t2_ms - HEALTHY_T2_MS)
    visits = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for number, (visit, target) in enumerate((("first", None), ("again", None), ("treated", treated))):
            study, out, truth_dir = (folder / f"{name}-{number}" for name in ("study", "out", "truth"))
            truth = simulate_study(row, study, truth_dir, visit=number, t2_ms=target)
            rows = process_study(study, out, subject=subject, progress=False)
            visits.append(rows[COLUMNS].assign(subject=subject, visit=visit, t2_true_ms=truth["t2_apparent_ms"]))
        first, truth_dir = folder / "out-0", folder / "truth-0"
        inputs = review_inputs(first)
        session = Session(inputs["volume"], inputs["labels"], inputs["journal"])
        strokes = simulated_reader(session, read_nifti(truth_dir / "labels_in_phase.nii.gz"), reviewer="first", seed=1)
        session.close()
        before = read_nifti(first / "labels_structural.nii.gz").array
        reviewed = process_study(folder / "study-0", first, inputs["journal"], subject=subject, progress=False)
        after = read_nifti(first / "labels_structural.nii.gz").array
    automatic, true = visits[0], visits[0].t2_true_ms.iloc[0]
    review = {"subject": subject, "strokes": strokes,
              "voxels_changed_percent": 100 * float((before != after).sum() / (before > 0).sum()),
              "muscle_changed_percent": 100 * float(((before > 0) != (after > 0)).sum() / (before > 0).sum()),
              "t2_automatic_ms": _whole(automatic), "t2_reviewed_ms": _whole(reviewed), "t2_true_ms": true}
    return pd.concat(visits), review


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
