"""Two simulated readers correct the automatic masks of ten synthetic subjects: how far they agree, and with the truth.

    python benchmarks/readers.py [--subjects 10] [--jobs 1] [--out readers.csv]

Nobody read these: each simulated reader draws the true borders with slips of 0.7 mm, the second a quarter of a
millimetre too wide. Every stroke goes through the journal.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import joblib
import pandas as pd

import mrmyo
from mrmyo.cohort import load_cohort, pick_subjects
from mrmyo.editor_session import Session
from mrmyo.journal import replay
from mrmyo.lessons_review import simulated_reader
from mrmyo.measure import dice
from mrmyo.nifti import read_nifti
from mrmyo.stats import bland_altman
from mrmyo.study_review import review_inputs

READERS = {"first": {"seed": 1, "bias_mm": 0.0}, "second": {"seed": 2, "bias_mm": 0.25}}


def read_twice(row):
    """The agreement of both readers on one subject."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        mrmyo.simulate_study(row, folder / "study", folder / "truth")
        mrmyo.process_study(folder / "study", folder / "out", subject=row["subject"], progress=False)
        truth = read_nifti(folder / "truth" / "labels_in_phase.nii.gz")
        strokes, journals = [], []
        for name, options in READERS.items():
            inputs = review_inputs(folder / "out", second=name == "second")
            session = Session(inputs["volume"], inputs["labels"], inputs["journal"])
            strokes.append(simulated_reader(session, truth, reviewer=name, **options))
            session.close()
            journals.append(inputs["journal"])
        table = mrmyo.reader_agreement(*journals, t2=inputs["t2"], transform=inputs["transform"])
        table.insert(0, "subject", row["subject"])
        true = truth.array > 0
        for number, journal in enumerate(journals, start=1):
            table[f"dice_true_{number}"] = dice(replay(journal).labels.array > 0, true)
            table[f"strokes_{number}"] = strokes[number - 1]
            table[f"journal_{number}_kb"] = journal.stat().st_size / 1000
        return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out")
    options = parser.parse_args()
    rows = pick_subjects(load_cohort(), options.subjects).to_dict("records")
    tables = joblib.Parallel(options.jobs, verbose=5)(joblib.delayed(read_twice)(row) for row in rows)
    table = pd.concat(tables, ignore_index=True)
    if options.out:
        table.to_csv(options.out, index=False)
    whole = table[table.muscle == "whole muscle"]
    shown = whole.drop(columns=["side", "muscle", "abbreviation", "reader_1", "reader_2"])
    print(shown.round(3).to_string(index=False))
    print(bland_altman(whole, measured="t2_2_ms", reference="t2_1_ms").round(3).T.to_string())
    muscles = table[table.muscle != "whole muscle"].groupby("abbreviation")
    print(muscles[["dice", "delta_t2_ms"]].agg(["mean", "std"]).round(3))


if __name__ == "__main__":
    main()
