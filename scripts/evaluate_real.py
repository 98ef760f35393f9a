"""Score a model on the real development image: ``python scripts/evaluate_real.py [--model FILE] [--real FOLDER]``.

The image is ``thigh_dixon`` (one patient, muscular dystrophy; 16 slices 24 mm apart; its labels are a network's output
and name eleven muscles). It is read as water, fat, their sum and their absolute difference (opposed-phase), each
alone, and the sum with the difference and the fat beside it, as `mrmyo.process_study` takes a Dixon series. Dice is per
muscle, the mean of the two sides; HD95 is in the plane, the mean over the slices in which both masks have the muscle.
Of our labels only those of the eleven muscles count, so the unlabelled adductors and the gluteals cannot cost anything.

`leg_stacks` and the calf series, which have no labels, tell how many slices without a thigh are painted all the same,
and how many of thighs are left empty. Slices between knee and thigh are not asked about.

With ``--label-maps PATH --hold-out K`` the model is also scored on the maps of that fifth of the persons, in random
contrast. ``--pictures FOLDER`` draws every slice with both outlines: look at them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nibabel
import numpy as np

from mrmyo import evaluate, read_nifti
from mrmyo.evaluation_values import BUILT_IN, convert
from mrmyo.labels import MUSCLES, RIGHT_OFFSET
from mrmyo.measure import WHOLE_MUSCLE
from mrmyo.segmentation import SegmentationError, load_model, segment
from mrmyo.volume import Volume

NAMED = [row[1] for row in MUSCLES if row[1] in BUILT_IN["thigh11"].values()]
BESIDE = {"together": ("water + fat", "opposed", "fat")}  # the first is what the mask is drawn on
RANGES = {"mid-thigh": range(3, 10), "all": range(0, 16)}


def read(folder):
    """{contrast: Volume}, and the reference in values of `mrmyo.label_table`."""
    water, fat = (read_nifti(folder / f"{name}.nii.gz") for name in ("water", "fat"))
    w, f = (volume.array.astype(np.float32) for volume in (water, fat))
    contrasts = {"water": w, "fat": f, "water + fat": w + f, "opposed": np.abs(w - f)}
    reference = convert(read_nifti(folder / "labels_machine.nii.gz"), BUILT_IN["thigh11"])
    return {name: water.with_array(array) for name, array in contrasts.items()}, reference


def score(found, reference, slices):
    """Dice by muscle, whole muscle of the eleven, and the mean in-plane HD95."""
    parts = [volume.with_array(volume.array[..., slices]) for volume in (found, reference)]
    rows = evaluate(*parts, only=NAMED, n_levels=1)
    muscles = rows[rows.muscle != WHOLE_MUSCLE]
    by_name = muscles.groupby("abbreviation").dice.mean()
    dice = {name: by_name[name] for name in NAMED}
    n_both = muscles.n_slices - muscles.n_missed_slices
    far = (muscles.hd95_in_plane_mm * n_both).sum() / n_both.sum()  # every slice of every muscle counts once
    return dice | {"mean": np.mean(list(dice.values())), "worst": min(dice.values()),
                   "whole": rows[(rows.muscle == WHOLE_MUSCLE) & (rows.side == "both")].dice.item(), "HD95": far}


def draw(volume, found, reference, path):
    """All slices: the image, our labels in colour, the reference as red lines."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 4, figsize=(24, 14))
    for k, ax in enumerate(axes.flat):
        ax.axis("off")
        if k >= found.shape[2]:
            continue
        cut = slice(110, 400) if found.shape[1] == 512 else slice(None)
        image, ours, theirs = (part[:, cut, k].T for part in (volume.array, found % RIGHT_OFFSET, reference))
        ax.imshow(image, cmap="gray", vmax=np.percentile(image, 99.5))
        ax.imshow(np.ma.masked_where((ours == 0) | (ours > 13), ours), cmap="tab20", vmin=1, vmax=20, alpha=0.4)
        for value in np.unique(theirs[theirs > 0]):
            ax.contour(theirs == value, [0.5], colors="r", linewidths=0.6)
        ax.set_title(f"slice {k}", fontsize=8)
    figure.tight_layout(pad=0.2)
    figure.savefig(path, dpi=55)
    plt.close(figure)


def stacks_without_labels(folder):
    """Name, Volume, slices through no thigh, slices through thighs."""
    known = (("Join_4", range(0, 27), ()), ("Join_5", range(0, 3), range(9, 31)), ("Join_6", (), range(31)))
    for name, none, thigh in known:
        image = nibabel.load(folder / "leg_stacks" / f"{name}.nii.gz")
        yield name, Volume(np.asarray(image.dataobj, np.float32), image.affine), none, thigh
    calf = nibabel.load(folder / "calf_multiecho_nifti" / "T2data.nii.gz")
    signal = np.asarray(calf.dataobj, np.float32).reshape(*calf.shape[:2], -1, order="F")
    yield "calf", Volume(signal[..., 0:13 * 17:17], calf.affine), range(13), ()


def scope(model, folder, pictures):
    """One line per stack: how many slices were painted that should not be, and the other way round."""
    for name, volume, none, thigh in stacks_without_labels(folder):
        try:
            found = segment(volume, model, progress=False).array
        except SegmentationError:  # no thigh in the whole stack
            found = np.zeros(volume.shape, np.uint8)
        painted = (found > 0).any((0, 1))
        print(f"{name}: painted {painted[list(none)].sum()} of {len(none)} slices without a thigh, "
              f"{painted[list(thigh)].sum()} of {len(thigh)} with thighs", flush=True)
        if pictures:
            every = np.linspace(0, found.shape[2] - 1, min(16, found.shape[2])).astype(int)
            draw(Volume(volume.array[..., every], volume.affine), found[..., every].astype(int),
                 np.zeros_like(found[..., every]), pictures / f"{name}.png")


def held_out(model, label_maps, fifth):
    """One line: the eleven muscles on maps of persons left out."""
    from mrmyo.training import FOLDS
    from mrmyo.training_anatomy import build_library
    from mrmyo.training_maps import fold_of, read_stacks
    from mrmyo.training_scores import score_sections

    stacks = read_stacks(label_maps)
    left = [s for s, fold in zip(stacks, fold_of(stacks, FOLDS), strict=True) if fold == fifth]
    library = build_library(left, parametric=0, negatives=0, progress=False)
    scores = score_sections(model.network, library, n=256)
    row = {name: scores["muscle_dice"][name] for name in NAMED}
    row |= {"mean": scores["mean_of_11"], "worst": scores["worst"], "whole": scores["whole_muscle"], "HD95": np.nan}
    print(f"{'maps held out, fifth ' + str(fifth):24s}" + "".join(f"{value:7.2f}" for value in row.values()))


def main():
    """Print one table: a row per contrast and range of slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--real", type=Path, default=Path(os.environ.get("MRMYO_REAL_DATA", "../shared/real")))
    parser.add_argument("--label-maps")
    parser.add_argument("--hold-out", type=int)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    volumes, reference = read(options.real / "thigh_dixon")
    model = load_model(options.model)
    print(f"model {model.hash}")
    head = [*NAMED, "mean", "worst", "whole", "HD95"]
    print(f"{'':24s}" + "".join(f"{h:>7s}" for h in head))
    for contrast in [*volumes, *BESIDE]:
        volume, *beside = (volumes[name] for name in BESIDE.get(contrast, (contrast,)))
        found = segment(volume, model, progress=False, beside=beside)
        for name, slices in RANGES.items():
            row = score(found, reference, list(slices))
            print(f"{contrast + ', ' + name:24s}" + "".join(f"{row[h]:7.2f}" for h in head), flush=True)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            picture = options.pictures / f"{contrast.replace(' + ', '_')}.png"
            draw(volume, found.array.astype(int), reference.array, picture)
    scope(model, options.real, options.pictures)
    if options.hold_out is not None:
        held_out(model, options.label_maps, options.hold_out)


if __name__ == "__main__":
    main()
