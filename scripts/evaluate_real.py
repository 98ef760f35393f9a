"""Score a model on the real development image: ``python scripts/evaluate_real.py [--model FILE] [--real FOLDER]``.

The image is ``thigh_dixon`` (one patient, muscular dystrophy; 16 slices 24 mm apart; its labels are a network's output
and name eleven muscles). It is read as water, fat, their sum and their absolute difference (opposed-phase). Dice is per
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
from scipy import ndimage

from mrmyo.labels import MUSCLES, RIGHT_OFFSET
from mrmyo.segmentation import SegmentationError, load_model, segment
from mrmyo.volume import Volume

TO_MRMYO = np.array([0, 5, 4, 1, 3, 2, 7, 6, 11, 10, 9, 12])  # position: value in the public maps
NAMED = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
RANGES = {"mid-thigh": range(3, 10), "all": range(0, 16)}


def read(folder):
    """{contrast: Volume} and the reference in values of `mrmyo.label_table`."""
    water, fat, labels = (nibabel.load(folder / f"{name}.nii.gz") for name in ("water", "fat", "labels_machine"))
    w, f = (np.asarray(image.dataobj, np.float32) for image in (water, fat))
    contrasts = {"water": w, "fat": f, "water + fat": w + f, "opposed": np.abs(w - f)}
    volumes = {name: Volume(array, water.affine) for name, array in contrasts.items()}
    reference = TO_MRMYO[np.asarray(labels.dataobj).astype(int)]
    x = (np.indices(reference.shape, dtype=np.float32) * water.affine[0, :3, None, None, None]).sum(0)
    right = x > x[reference > 0].mean()  # RAS+: the patient's right has the greater x
    return volumes, np.where((reference > 0) & right, reference + RIGHT_OFFSET, reference)


def dice(a, b):
    """Overlap of two masks; NaN where both are empty."""
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else np.nan


def hd95(a, b, spacing):
    """95th percentile of the distances between the outlines of two 2-D masks, both ways, in mm."""
    edges = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    far = [ndimage.distance_transform_edt(~e, sampling=spacing) for e in edges]
    return float(np.percentile(np.concatenate([far[1][edges[0]], far[0][edges[1]]]), 95))


def score(found, reference, slices, spacing):
    """Dice by muscle, whole muscle of the eleven, and the mean in-plane HD95."""
    found, reference = found[..., slices], reference[..., slices]
    sides = (0, RIGHT_OFFSET)
    rows = {MUSCLES[v - 1][1]: np.nanmean([dice(found == v + s, reference == v + s) for s in sides]) for v in NAMED}
    values = [v + s for v in NAMED for s in sides]
    far = [hd95(found[..., k] == v, reference[..., k] == v, spacing) for v in values for k in range(found.shape[2])
           if (found[..., k] == v).any() and (reference[..., k] == v).any()]
    return rows | {"mean": np.mean(list(rows.values())), "worst": min(rows.values()),
                   "whole": dice(np.isin(found, values), reference > 0), "HD95": float(np.mean(far))}


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
    row = {name: scores["muscle_dice"][name] for name in (MUSCLES[v - 1][1] for v in NAMED)}
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
    head = [*(MUSCLES[v - 1][1] for v in NAMED), "mean", "worst", "whole", "HD95"]
    print(f"{'':24s}" + "".join(f"{h:>7s}" for h in head))
    for contrast, volume in volumes.items():
        found = segment(volume, model, progress=False).array.astype(int)
        for name, slices in RANGES.items():
            row = score(found, reference, list(slices), volume.spacing_mm[:2])
            print(f"{contrast + ', ' + name:24s}" + "".join(f"{row[h]:7.2f}" for h in head), flush=True)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            draw(volume, found, reference, options.pictures / f"{contrast.replace(' + ', '_')}.png")
    scope(model, options.real, options.pictures)
    if options.hold_out is not None:
        held_out(model, options.label_maps, options.hold_out)


if __name__ == "__main__":
    main()
