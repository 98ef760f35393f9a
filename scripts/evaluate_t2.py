"""What a model's masks do to T2 on synthetic subjects: ``python scripts/evaluate_t2.py [--model FILE] [--subjects 4]``.

The subjects are drawn in proportion from the groups of the synthetic cohort, scanned once, and measured with the model;
their T2 maps are then read under the automatic and under the true mask. Prints one line per muscle beside the goals
(mean absolute difference of 0.35 ms for the whole muscle, 0.7 ms per muscle), and leaves in ``--out`` (default:
``results/mask_effect``) the rows, the summary and a figure for each model, by its hash. The DICOM stays there, so that
the next model takes only the measuring. The thighs are *in-distribution*: they come from the generator that the network
was trained on, with other seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import pandas as pd

from mrmyo import figures, load_cohort, process_study, simulate_study, workspace
from mrmyo.cohort import pick_subjects
from mrmyo.evaluation_summary import summarise
from mrmyo.files import replacing
from mrmyo.progress import each
from mrmyo.segmentation import load_model
from mrmyo.validation import GOAL_MUSCLE_MS, mask_effect, mask_tolerances


def one_subject(row, root, model):
    """Simulate unless that was done, measure, compare."""
    ws, subject = workspace(root), row["subject"]
    if not ((ws.truth / subject / "truth.json").is_file() and (ws.studies / subject).is_dir()):
        simulate_study(row, ws.studies / subject, ws.truth / subject)
    process_study(ws.studies / subject, ws.processed / subject, subject=subject, model=model, progress=False)
    return mask_effect(ws.processed / subject, ws.truth / subject)


def main():
    """Print the table, write rows, summary and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/mask_effect"))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    cohort = pick_subjects(load_cohort(), options.subjects)
    arguments = [(row, options.out, options.model) for row in cohort.to_dict("records")]
    rows = pd.concat(each(one_subject, arguments, label="synthetic subjects", n_jobs=options.jobs), ignore_index=True)
    found, name = mask_tolerances(rows), load_model(options.model).hash
    for kind, table in (("rows", rows), ("summary", found)):
        with replacing(options.out / f"{kind}_{name}.csv") as partial:
            table.to_csv(partial, index=False)
    shown = rows[(rows.abbreviation != "ALL") | (rows.side == "both")]
    ax = figures.muscle_strip(shown, value="delta_t2_ms", summary=summarise(rows), synthetic=True,
                              goal=(-GOAL_MUSCLE_MS, GOAL_MUSCLE_MS))
    with replacing(options.out / f"delta_t2_{name}.png") as partial:
        ax.figure.savefig(partial, dpi=160, facecolor="white", format="png")
    print(f"model {name}, {len(cohort)} synthetic subjects, T2 under the automatic less T2 under the true mask")
    print(found.drop(columns="muscle").to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
