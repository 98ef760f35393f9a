"""What each part of the training is worth: ``python scripts/ablate.py OUT [--steps N] [--real FOLDER] [--only NAME]``.

Small networks are trained for equally many images, each without one part, and scored on the real development image
(as in `evaluate_real.py`; this is a look at it for every network) and, in random contrast, on the maps of a fifth of
the persons, on whom none was trained. Small and short: they tell parts that matter from parts that do not, and are
worse than the shipped model. Too short tells nothing: after 400 steps all score 0 to 0.3, 1,500 take half an hour each
on one core. ``OUT/ablation.csv`` holds a row per network and ``OUT/ablation.png`` shows them; a network that is there
already is not trained again, so that several may run side by side (``--only``) and be gathered by a last call.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import evaluate_real
import numpy as np
import pandas as pd

from mrmyo import training, training_images
from mrmyo.segmentation import KIND, N_CLASSES, build_network, load_model, segment
from mrmyo.segmentation_network import read_weights
from mrmyo.training_anatomy import build_library
from mrmyo.training_maps import fold_of, read_stacks
from mrmyo.training_scores import score_sections

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
    try:
        for part in before:
            setattr(training_images, part, changes.get(part, before[part]))
        training.KIND = changes.get("kind", KIND)
        training.loss_of = one_head_loss if training.KIND == PLAIN else LOSS
        training.score_sections = lambda *_, **__: {}  # all are scored alike, below
        given = maps if changes.get("maps", True) else None
        return training.train(out, label_maps=given, hold_out=0 if given else None, leave_out=SEEN if given else (),
                              steps=steps, seed=seed, channels=CHANNELS, blended=changes.get("blended", False))
    finally:
        for part, value in before.items():
            setattr(training_images, part, value)
        training.KIND, training.loss_of, training.score_sections = KIND, LOSS, score_sections


LOSS = training.loss_of


def is_trained(path, steps):
    """Whether a model is there and had all its steps."""
    return path.exists() and load_model(path).card["training"]["steps_done"] == steps


def left_out(label_maps):
    """Sections of the persons on whom `train` with ``hold_out=0`` does not train."""
    stacks = [stack for stack in read_stacks(label_maps) if stack.subject not in SEEN]
    left = [stack for stack, fold in zip(stacks, fold_of(stacks, training.FOLDS), strict=True) if fold == 0]
    return build_library(left, parametric=0, negatives=0, progress=False)


class Scoped:
    """A network as `score_sections` asks for it: a plain one tells no scope, and takes everything for a thigh."""

    def __init__(self, path, made):
        self.network = build_network(channels=made["channels"], kind=made["kind"]).eval()
        self.network.load_state_dict(read_weights(path))

    def probabilities(self, images):
        """As `ThighNet.probabilities`."""
        if hasattr(self.network, "probabilities"):
            return self.network.probabilities(images)
        return self.network(images).softmax(1), images.new_ones(len(images))


def score(path, volumes, reference, held):
    """{what: Dice} of a model: every contrast of the real image and all together, and the persons left out."""
    model, row = load_model(path), {}
    for contrast in [*volumes, *evaluate_real.BESIDE]:
        volume, *beside = (volumes[name] for name in evaluate_real.BESIDE.get(contrast, (contrast,)))
        found = segment(volume, model, progress=False, beside=beside)
        for span, slices in evaluate_real.RANGES.items():
            scores = evaluate_real.score(found, reference, list(slices))
            row |= {f"{contrast}, {span}, {part}": round(float(scores[part]), 3) for part in ("mean", "worst", "whole")}
    scores = score_sections(Scoped(path, model.card["architecture"]), held)
    return row | {f"people left out, {part}": scores[name] for part, name in (
        ("mean", "mean_of_11"), ("worst", "worst"), ("whole", "whole_muscle"))}


def draw(rows, path):
    """One line per network: mid-thigh Dice of every contrast of the real image, and that of the persons left out."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    marks = {"water": "o", "fat": "s", "water + fat": "D", "opposed": "^", "together": "P"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.42 * len(rows) + 1.5), sharey=True, width_ratios=(3, 2))
    heights = np.arange(len(rows))[::-1]
    for contrast, mark in marks.items():
        axes[0].plot(rows[f"{contrast}, mid-thigh, mean"], heights, mark, label=contrast, alpha=0.8)
    axes[1].plot(rows["people left out, mean"], heights, "ko", label="mean of eleven")
    axes[1].plot(rows["people left out, worst"], heights, "kx", label="worst muscle")
    axes[0].set_yticks(heights, rows.variant)
    for ax, title in zip(axes, ("A real patient's mid-thigh, mean of eleven", "Persons left out, random contrast"),
                         strict=True):
        ax.set(xlabel="Dice", title=title)
        ax.grid(axis="x", alpha=0.3)
        ax.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    """Train what is missing, score it, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, default=Path(os.environ.get("MRMYO_REAL_DATA", "../shared/real")))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    maps, paths = options.real / "thigh_labels", {}
    for name in options.only:
        paths[name] = options.out / name.replace(" ", "_") / f"{training.NAME}.safetensors"
        if not is_trained(paths[name], options.steps):
            train(paths[name].parent, name, maps, options.steps, options.seed)
    volumes, reference = evaluate_real.read(options.real / "thigh_dixon")
    held = left_out(maps)
    rows = pd.DataFrame([{"variant": name, "images": load_model(path).card["training"]["images"],
                          **score(path, volumes, reference, held)} for name, path in paths.items()])
    rows.to_csv(options.out / "ablation.csv", index=False)
    draw(rows, options.out / "ablation.png")
    print(rows.set_index("variant").T.to_string())


if __name__ == "__main__":
    main()
