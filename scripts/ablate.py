"""What each part of the training is worth: ``python scripts/ablate.py OUT [--steps N] [--real FOLDER] [--only NAME]``.

Small networks are trained for equally many images, each without one part, and scored on the real development image
(as in `evaluate_real.py`; this is a look at it for every network) and on the maps of a fifth of the persons, who were
left out. Small and short: they tell parts that matter from parts that do not, and are worse than the shipped model.
Too short tells nothing: after 400 steps all score 0 to 0.3. Several thousand need a GPU or a night.
``OUT/ablation.csv`` holds a row per network; a network that is there already is not trained again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import evaluate_real
import numpy as np
import pandas as pd

from mrmyo import training, training_images
from mrmyo.segmentation import KIND, N_CLASSES, load_model, segment

CHANNELS = (16, 32, 48, 64, 96)
PLAIN = "2-D V-Net"
SEEN = ("THIGH_061",)  # very likely the person of the development image
VARIANTS = {
    "all parts": {},
    "real maps only": {"SHARE": {"map": 0.88, "parametric": 0.0, "negative": 0.12}},
    "parametric anatomy only": {"maps": False},
    "people blended": {"blended": True},
    "no opposed phase": {"PHASES": (1.0, 0.0)},
    "no negatives": {"SHARE": {"map": 0.82, "parametric": 0.18, "negative": 0.0}},
    "one head": {"kind": PLAIN},
}


def one_head_loss(logits, labels, tissue, scope):
    """Cross-entropy over background, muscles and bone in one, plus soft Dice as `mrmyo.training.loss_of` has it."""
    import torch
    from torch.nn.functional import cross_entropy

    logits, counts = logits.float(), tissue >= 0
    probability = logits.softmax(1)[:, 1:] * counts[:, None]
    truth = labels[:, None] == torch.arange(1, N_CLASSES)[:, None, None]
    overlap, size = (probability * truth).sum((0, 2, 3)), truth.sum((0, 2, 3))
    dice = (2 * overlap + 1) / (probability.sum((0, 2, 3)) + size + 1)
    dice = (dice * (size > 0)).sum() / (size > 0).sum().clamp_min(1)
    return cross_entropy(logits, torch.where(counts, labels, -100), ignore_index=-100) + 1 - dice


def train(out, name, maps, steps, seed):
    """The model file of one variant."""
    changes = VARIANTS[name]
    before = {part: getattr(training_images, part) for part in ("SHARE", "PHASES")}
    scoring = training.score_sections
    try:
        for part in before:
            setattr(training_images, part, changes.get(part, before[part]))
        training.KIND = changes.get("kind", KIND)
        training.loss_of = one_head_loss if training.KIND == PLAIN else LOSS
        if training.KIND == PLAIN:
            training.score_sections = lambda *_, **__: {}  # it asks for a scope, which a plain network does not tell
        given = maps if changes.get("maps", True) else None
        return training.train(out, label_maps=given, hold_out=0 if given else None, leave_out=SEEN if given else (),
                              steps=steps, seed=seed, channels=CHANNELS, blended=changes.get("blended", False))
    finally:
        for part, value in before.items():
            setattr(training_images, part, value)
        training.KIND, training.loss_of, training.score_sections = KIND, LOSS, scoring


LOSS = training.loss_of


def main():
    """Train what is missing, score it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, default=Path(os.environ.get("MRMYO_REAL_DATA", "../shared/real")))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    volumes, reference = evaluate_real.read(options.real / "thigh_dixon")
    table = options.out / "ablation.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    for name in [name for name in options.only if name not in {row["variant"] for row in rows}]:
        path = train(options.out / name.replace(" ", "_"), name, options.real / "thigh_labels", options.steps,
                     options.seed)
        model = load_model(path)
        row = {"variant": name, "steps": options.steps}
        for contrast, volume in volumes.items():
            found = segment(volume, model, progress=False)
            for span, slices in evaluate_real.RANGES.items():
                scores = evaluate_real.score(found, reference, slices)
                row |= {f"{contrast}, {span}, {part}": round(float(scores[part]), 3) for part in ("mean", "whole")}
        held = next(iter(model.card["scores"].values()), None) or {}
        row["people left out, mean"] = held.get("mean_of_11", np.nan)
        rows.append(row)
        pd.DataFrame(rows).to_csv(table, index=False)
    print(pd.DataFrame(rows).set_index("variant").T.to_string())


if __name__ == "__main__":
    main()
