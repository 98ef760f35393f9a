"""Fit how well a slice is segmented from what the network tells of it: ``python scripts/fit_quality.py``.

    python scripts/fit_quality.py --library FILE | --label-maps FOLDER [--model FILE] [--real FOLDER] [--out FILE]

Images of random contrast and disease are drawn from label maps and parametric anatomy and segmented, and the Dice of
their whole muscle is regressed (least squares on its logit) on `mrmyo.segmentation_quality.predictors`. Every other map
is held out: the rank correlation printed is theirs. The coefficients go to a small JSON file, by default the one beside
the shipped model; run this again for other weights (three minutes on one core).

``--library`` is a pickle of (stacks, library), as `mrmyo.training_maps.read_stacks` and
`mrmyo.training_anatomy.build_library` return them; without it they are made from ``--label-maps``. Load no pickle of
others.
``--real`` adds the slices of thigh_dixon, against labels that are themselves a network's.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import special, stats

from mrmyo.files import replacing
from mrmyo.labels import MUSCLES
from mrmyo.segmentation import MODEL_PATH, load_model
from mrmyo.segmentation_crops import PIXEL_MM, probabilities
from mrmyo.segmentation_quality import PREDICTORS, expected_dice, features_of, predictors

BATCH = 16
LEAST_PIXELS = 300  # of true muscle: 5 cm²


def read_library(options):
    """The sections to draw from."""
    from mrmyo.training_anatomy import build_library
    from mrmyo.training_maps import read_stacks

    if options.library:
        return pickle.loads(options.library.read_bytes())[1]
    return build_library(read_stacks(options.label_maps) if options.label_maps else [], seed=77, negatives=0)


def measure(network, library, among, *, n, seed):
    """Features (dict of arrays) and true whole-muscle Dice of n random images of these sections."""
    from mrmyo.training_images import draw_batch

    rows, truth = [], []
    for step in range(-(-n // BATCH)):
        images, labels, _, _ = draw_batch(library, seed, step, BATCH, among=among)
        images = images[:, 0].numpy()
        found, scope, air = probabilities(network, images)
        known = features_of(found, images, air)
        known |= {"scope": scope, "muscle_cm2": known["muscle_pixels"] * PIXEL_MM**2 / 100}
        best = found.argmax(1).numpy()
        mask = (best > 0) & (best <= len(MUSCLES))
        true = ((labels > 0) & (labels <= len(MUSCLES))).numpy()
        both, total = (mask & true).sum((1, 2)), mask.sum((1, 2)) + true.sum((1, 2))
        keep = (true.sum((1, 2)) > LEAST_PIXELS) & (mask.sum((1, 2)) > 0)
        truth.append((2 * both / np.maximum(total, 1))[keep])
        rows.append({name: values[keep] for name, values in known.items()})
        print(f"\r{(step + 1) * BATCH} of {n}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}, np.concatenate(truth)


def fit(known, dice):
    """Coefficients by name: least squares on the logit of Dice."""
    usual = {name: float(np.nanmedian(known[name])) for name in ("like_fat", "entropy", "sureness")}
    x = predictors(known, usual)
    y = special.logit(np.clip(dice, 0.05, 0.995))
    values, *_ = np.linalg.lstsq(x, y, rcond=None)
    return {"coefficients": dict(zip(PREDICTORS, values.round(5).tolist(), strict=True)),
            "usual": {name: round(value, 4) for name, value in usual.items()}}


def agreement(expected, dice):
    """Rank correlation, mean absolute error, and the share of slices below 0.8 that are expected below 0.85."""
    poor = dice < 0.8
    return {"n": len(dice), "rank_correlation": round(float(stats.spearmanr(expected, dice)[0]), 3),
            "mean_absolute_error": round(float(np.abs(expected - dice).mean()), 4),
            "n_below_0.8": int(poor.sum()),
            "of_them_expected_below_0.85": round(float((expected[poor] < 0.85).mean()), 3) if poor.any() else None,
            "others_expected_below_0.85": round(float((expected[~poor] < 0.85).mean()), 3)}


def real_slices(folder, model):
    """Expected and reached Dice of every slice and side of thigh_dixon that is not left empty."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from evaluate_real import NAMED, read

    from mrmyo.labels import label_table
    from mrmyo.measure import dice
    from mrmyo.segmentation import segment, slice_quality

    table = label_table()
    named = table[table.abbreviation.isin(NAMED)]

    volumes, reference = read(folder / "thigh_dixon")
    expected, reached = [], []
    for volume in volumes.values():
        labels = segment(volume, model, progress=False)
        for row in slice_quality(labels).query("not empty").itertuples():
            values = named.value[named.side == row.side]
            ours, theirs = (np.isin(part.array[..., row.slice], values) for part in (labels, reference))
            if theirs.any() and ours.any():
                expected.append(row.expected_dice)
                reached.append(dice(ours, theirs))
    return np.array(expected), np.array(reached)


def main():
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--label-maps", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("-n", type=int, default=640, help="images to fit on; half as many are held out")
    options = parser.parse_args()
    model = load_model(options.model)
    library = read_library(options)
    thigh = library.kind < 2
    odd = np.where(library.stack >= 0, library.stack % 2, np.arange(len(library.stack)) % 2) == 1
    known, dice = measure(model.network, library, np.flatnonzero(thigh & ~odd), n=options.n, seed=424242)
    made = fit(known, dice)
    held, truth = measure(model.network, library, np.flatnonzero(thigh & odd), n=options.n // 2, seed=434343)
    made["held_out"] = agreement(expected_dice(held, made), truth)
    made["fitted"] = agreement(expected_dice(known, made), dice)
    for name in ("sureness", "entropy", "like_fat", "muscle_cm2", "scope"):
        rho = stats.spearmanr(held[name], truth, nan_policy="omit")[0]
        print(f"{name} alone, held out: rank correlation {rho:.2f}")
    print(json.dumps(made, indent=1))
    made |= {"model": model.hash, "made_by": "scripts/fit_quality.py",
             "estimates": "Dice of the whole muscle of a slice and side"}
    out = options.out or options.model.with_name(f"{options.model.stem}_quality.json")
    with replacing(out) as partial:
        partial.write_text(json.dumps(made, indent=1) + "\n")
    print(f"written to {out}")
    if options.real:
        expected, reached = real_slices(options.real, replace(model, formula=made))
        print("thigh_dixon:", json.dumps(agreement(expected, reached)))
        made["thigh_dixon"] = agreement(expected, reached)
        with replacing(out) as partial:
            partial.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
