"""The README's pictures from a finished reproduction: ``python scripts/make_pictures.py results docs``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from mrmyo import figures, read_nifti, workspace
from mrmyo.labels import is_muscle
from mrmyo.nifti import read_t2map
from mrmyo.volume import resample, to_canonical

PATIENT = "SYN-IIM-04"


def main(results, docs):
    """Draw the tour of one patient and take over the report's figures."""
    ws, docs = workspace(results), Path(docs)
    docs.mkdir(exist_ok=True)
    folder = ws.processed / PATIENT
    structural, mask = read_nifti(folder / "structural.nii.gz"), read_nifti(folder / "mask.nii.gz")
    t2, labels = read_t2map(folder / "T2map.nii.gz"), read_nifti(folder / "labels_t2.nii.gz")
    inside = to_canonical(t2.with_array(np.where(is_muscle(labels.array), t2.array, np.nan).astype(np.float32)))
    middle = inside.shape[2] // 2
    like = to_canonical(t2)
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 2.6), layout="constrained", width_ratios=[1, 1, 1.12])
    figures.overlay(resample(structural, like), slice_index=middle, ax=axes[0], title="in-phase", synthetic=True)
    on_t2 = resample(mask, like, order=0)
    figures.overlay(resample(structural, like), on_t2, slice_index=middle, ax=axes[1], title="mask", synthetic=True)
    figures.t2_map(inside, slice_index=middle, ax=axes[2], title="T2 map", synthetic=True)
    figure.savefig(docs / "tour.png", dpi=110, facecolor="white")
    for name in ("roc", "accuracy", "examples"):
        shutil.copy(ws.figures / f"{name}.png", docs / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
