"""A MONAI network for mrmyo, as an example: ``python scripts/train_monai_example.py OUT [--label-maps PATH]``.

A small MONAI UNet learns for some minutes to name the muscles of one left thigh, at 2.5 mm, from the synthetic
random-contrast sections of :mod:`mrmyo.training_images`. OUT receives it in two forms, each with its description for
``mrmyo segment --model``: ``example_torchscript.toml`` with ``example.ts``, ``example_safetensors.toml`` with
``example.safetensors``. It is there to show how a network of one's own is brought (docs/other_models.md), and is not
good: the shipped network saw some hundred times as many images.

``--score`` runs an existing OUT through `mrmyo.segment` on a synthetic study and on the real development image
``thigh_dixon`` (one patient; the labels are a network's output), beside the shipped network. ``--pictures`` draws both.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch.utils.data import DataLoader

from mrmyo import read_dicom, read_nifti, segment
from mrmyo.files import replacing
from mrmyo.labels import MUSCLES, RIGHT_OFFSET, is_muscle
from mrmyo.measure import dice
from mrmyo.training_anatomy import build_library
from mrmyo.training_images import draw_batch
from mrmyo.training_maps import read_stacks
from mrmyo.volume import to_canonical

N_CLASSES = len(MUSCLES) + 2  # background, the muscles, femur
ARGUMENTS = {"spatial_dims": 2, "in_channels": 1, "out_channels": N_CLASSES, "channels": [16, 32, 64, 96],
             "strides": [2, 2, 2], "num_res_units": 1, "norm": "batch"}
BATCH = 8
POOL = 400  # batches that are kept and shown again: drawing one takes longer than learning from it
ELEVEN = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)
TO_MRMYO = np.array([0, 5, 4, 1, 3, 2, 7, 6, 11, 10, 9, 12])  # position: value in the public maps


class _Stream:
    """Draws batch after batch, for the process that does so."""

    def __init__(self, library, seed):
        self.library, self.seed = library, seed

    def __getitem__(self, step):
        torch.set_num_threads(1)
        images, labels, _, _ = draw_batch(self.library, self.seed, step, BATCH)
        return coarser(images, labels)


def coarser(images, labels):
    """Images (n, 1, 192, 192) and labels (n, 192, 192) at half the resolution; the commonest label wins."""
    shares = torch.nn.functional.one_hot(labels, N_CLASSES).movedim(3, 1).float()
    pooled = torch.nn.functional.avg_pool2d
    return pooled(images, 2), pooled(shares, 2).argmax(1)


def zscore(images):
    """Each image (n, 1, x, y) with mean 0 and standard deviation 1, as the description promises."""
    mean, deviation = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp_min(1e-6)


def learn(network, batches, *, minutes=None, steps=None, seed=0):
    """Train on batches (images, labels) as they come, again and again, until the time or the steps are over.

    Returns the loss of every step. A new batch is waited for only when the pool grows too old.
    """
    from monai.losses import DiceCELoss

    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    rng, pool, losses, began = np.random.default_rng(seed), [], [], monotonic()
    network.train()
    source = iter(batches)
    while (done := (monotonic() - began) / (60 * minutes) if steps is None else len(losses) / steps) < 1:
        if (len(losses) % 3 == 0 or not pool) and (new := next(source, None)) is not None:
            pool = [*pool, new][-POOL:]
        images, labels = pool[-1 if len(losses) % 3 == 0 else rng.integers(len(pool))]
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * min(1.0, (len(losses) + 1) / 20) * 0.5 * (1 + np.cos(np.pi * done))
        loss = loss_of(network(zscore(images)), labels[:, None])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if len(losses) % 25 == 0:
            print(f"step {len(losses)}, {len(pool)} batches drawn, loss {np.mean(losses[-25:]):.3f}", flush=True)
    return losses


def save(network, out, *, trained):
    """The network as TorchScript and as safetensors with its arguments, a description beside each."""
    from safetensors.torch import save_file

    network.eval()
    with replacing(out / "example.ts") as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), partial)
    with replacing(out / "example.safetensors") as partial:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, partial)
    names = [short for _, short, _ in MUSCLES] + ["FEM"]
    common = ['name = "MONAI UNet, example"', f'version = "{trained}"', 'license = "BSD-3-Clause; research use only"',
              "dimension = 2", 'orientation = "RAS"', "spacing_mm = [2.5, 2.5]", 'sees = "one left thigh"',
              'normalise = "zscore"', "multiple = 8", 'output = "logits"']
    labels = ["", "[labels]", '0 = "background"', *(f'{i} = "{name}"' for i, name in enumerate(names, start=1))]
    network_lines = ["", "[network]", 'class = "UNet"', "[network.arguments]",
                     *(f"{name} = {json.dumps(value)}" for name, value in ARGUMENTS.items())]
    for kind, weights, more in (("torchscript", "example.ts", []),
                                ("safetensors", "example.safetensors", network_lines)):
        lines = [f'kind = "{kind}"', f'weights = "{weights}"', *common, *labels, *more]
        with replacing(out / f"example_{kind}.toml") as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def train(out, *, label_maps, minutes, seed):
    """Train from scratch and write OUT."""
    from monai.networks.nets import UNet

    library = build_library([] if label_maps is None else read_stacks(label_maps), seed=seed, workers=1)
    torch.manual_seed(seed)
    network = UNet(**ARGUMENTS)
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters", flush=True)
    batches = DataLoader(_Stream(library, seed), batch_size=None, sampler=range(10**6), num_workers=1)
    losses = learn(network, batches, minutes=minutes, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    save(network, out, trained=f"{len(losses)} steps of {BATCH} sections, seed {seed}")
    print(f"{len(losses)} steps, last loss {np.mean(losses[-25:]):.3f}", flush=True)


def studies(real):
    """Name, image, true labels, ranges of slices: a control and a patient, synthetic, then the real image."""
    from mrmyo import load_cohort, simulate_study

    for subject in ("SYN-HC-03", "SYN-IIM-20"):
        row = load_cohort().query("subject == @subject").iloc[0].to_dict()
        with tempfile.TemporaryDirectory() as folder:
            simulate_study(row, Path(folder, "study"), Path(folder, "truth"))
            image = read_dicom(Path(folder, "study")).volume("in_phase")
            truth = read_nifti(Path(folder, "truth", "labels_in_phase.nii.gz"))
        yield f"synthetic {subject}", image, truth.array, {"all slices": slice(None)}
    water, fat, reference = (read_nifti(real / "thigh_dixon" / f"{name}.nii.gz")
                             for name in ("water", "fat", "labels_machine"))
    named = TO_MRMYO[reference.array.astype(int)]
    x = (np.indices(named.shape, dtype=np.float32) * water.affine[0, :3, None, None, None]).sum(0)
    truth = np.where((named > 0) & (x > x[named > 0].mean()), named + RIGHT_OFFSET, named)
    whole = water.with_array(water.array.astype(np.float32) + fat.array.astype(np.float32))
    yield "thigh_dixon", whole, truth, {"mid-thigh": slice(4, 9), "all slices": slice(None)}


def score(out, real, pictures):
    """One line per study, slices and model: Dice of the whole muscle, and the mean of the eleven muscles."""
    models = {"shipped": None, "MONAI torchscript": out / "example_torchscript.toml",
              "MONAI safetensors": out / "example_safetensors.toml"}
    for study, image, truth, ranges in studies(real):
        known = sorted(set(np.unique(truth)) & {v + o for v in ELEVEN for o in (0, RIGHT_OFFSET)})
        for name, model in models.items():
            found = segment(image, model, progress=False).array
            counted = found if study.startswith("synthetic") else np.where(np.isin(found, known), found, 0)
            for where, slices in ranges.items():
                a, b = counted[..., slices], truth[..., slices]
                each = np.mean([dice(a == v, b == v) for v in known])
                print(f"{study:20s} {where:10s} {name:18s} whole muscle {dice(is_muscle(a), is_muscle(b)):.3f}  "
                      f"mean of eleven {each:.3f}", flush=True)
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                draw(image, found, truth, pictures / f"{study}_{name}.png".replace(" ", "_"))


def draw(image, found, truth, path):
    """Eight slices as radiologists look at them: the labels in colour, the outline of the true muscle in red."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    image, found, truth = (to_canonical(image.with_array(part)).array[::-1] for part in (image.array, found, truth))
    colour = np.where(found > 50, len(MUSCLES) + 1, found % RIGHT_OFFSET)
    figure, axes = plt.subplots(2, 4, figsize=(24, 9))
    for k, ax in zip(np.linspace(0, found.shape[2] - 1, 8).astype(int), axes.flat, strict=True):
        ax.imshow(image[..., k].T, cmap="gray", vmax=np.percentile(image[..., k], 99.5), origin="lower")
        ax.imshow(np.ma.masked_where(colour[..., k].T == 0, colour[..., k].T), cmap="tab20", vmin=0, vmax=19, alpha=0.4,
                  origin="lower", interpolation="nearest")
        if (outline := is_muscle(truth[..., k])).any():
            ax.contour(outline.T, [0.5], colors="r", linewidths=0.7)
        ax.set_title(f"slice {k}")
        ax.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=50)
    plt.close(figure)


def main():
    """Train, or score what was trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--label-maps", help="a folder of public label maps; without: drawn anatomy alone")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score", action="store_true", help="score an existing OUT in place of training")
    parser.add_argument("--real", type=Path, default=Path(os.environ.get("MRMYO_REAL_DATA", "../shared/real")))
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if options.score:
        score(options.out, options.real, options.pictures)
    else:
        train(options.out, label_maps=options.label_maps, minutes=options.minutes, seed=options.seed)


if __name__ == "__main__":
    main()
