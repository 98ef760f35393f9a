"""Trains the V-Net on sections of random thighs in random contrast: no image of a person is needed.

Images and initial weights follow from a seed and the number of the step, so an interrupted training resumes to the very
same weights.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from mrmyo.segmentation import CHANNELS, CROP, N_CLASSES, PIXEL_MM, build_network
from mrmyo.training_images import draw_batch, draw_image

__all__ = ["draw_batch", "draw_image", "loss_of", "train"]


class _Stream:
    """Steps to batches, for worker processes: `stream[step]` depends on the seed and the step alone."""

    def __init__(self, seed, batch_size):
        self.seed, self.batch_size = seed, batch_size

    def __getitem__(self, step):
        import torch

        images, labels = draw_batch(self.seed, step, self.batch_size)
        return torch.from_numpy(images), torch.from_numpy(labels).long()


def loss_of(logits, labels):
    """Cross-entropy plus soft Dice over the classes that are present, both over the whole batch."""
    import torch

    logits = logits.float().movedim(1, -1).reshape(-1, logits.shape[1])  # no copy in channels_last
    labels = labels.reshape(-1)
    probability = logits.softmax(1)
    of_truth = probability.gather(1, labels[:, None])[:, 0]
    overlap = torch.zeros(logits.shape[1]).index_add(0, labels, of_truth)
    size = torch.bincount(labels, minlength=logits.shape[1])
    dice = (2 * overlap + 1) / (probability.sum(0) + size + 1)
    return 1 - torch.log(of_truth.clamp_min(1e-6)).mean() - dice[size > 0].mean()


def _rate(step, steps, peak):
    """One cycle: up over the first twentieth, then down along a cosine."""
    rise = max(steps // 20, 1)
    if step < rise:
        return peak * (step + 1) / rise
    return float(peak * 0.5 * (1 + np.cos(np.pi * (step - rise) / (steps - rise))))


def train(out, *, steps=6000, seed=0, batch_size=8, peak_rate=2e-3, workers=1, minutes=None, resume=True,
          progress=True):
    """Train a network on random images, from scratch or from where an earlier call stopped.

    Parameters
    ----------
    out : path
        Folder for ``thigh_vnet.safetensors`` with its card ``.json``, ``curve.csv`` and ``checkpoint.pt``.
    steps, batch_size : int
        Length of the training, and fresh images a step.
    seed : int
        Images and initial weights follow from it.
    peak_rate : float
        Learning rate at the top of the cycle.
    workers : int
        Processes that draw images; 0 draws them here. The result does not depend on it.
    minutes : float, optional
        Stop after this time with a checkpoint; call again to go on.
    resume : bool
        Go on from the checkpoint in `out`; False begins anew.

    Returns
    -------
    pathlib.Path
        The model file: of the averaged weights (exponential moving average) reached so far.

    Raises
    ------
    ValueError
        When the checkpoint in `out` was made with other settings.
    """
    from time import monotonic

    from torch.utils.data import DataLoader
    from tqdm.auto import tqdm

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {"steps": steps, "seed": seed, "batch_size": batch_size, "peak_rate": peak_rate}
    network, average, optimiser, curve, first = _begin(out / "checkpoint.pt" if resume else None, settings)
    batches = DataLoader(_Stream(seed, batch_size), batch_size=None, sampler=range(first, steps), num_workers=workers)
    began = saved = monotonic()
    bar = tqdm(total=steps, initial=first, desc="Training", unit="step", disable=not progress)
    step = first
    for step, (images, labels) in enumerate(batches, start=first):
        rate = _rate(step, steps, peak_rate)
        curve.append((step, rate, _descend(network, optimiser, images, labels, rate)))
        _average(average, network, min(0.995, (step + 1) / (step + 10)))
        bar.update()
        bar.set_postfix(loss=f"{np.mean([row[2] for row in curve[-50:]]):.3f}", refresh=False)
        step += 1
        stop = minutes is not None and monotonic() - began > 60 * minutes
        if stop or monotonic() - saved > 60:
            _save(out, (network, average, optimiser, curve, step), settings)
            saved = monotonic()
        if stop:
            break
    bar.close()
    return _save(out, (network, average, optimiser, curve, step), settings)


def _begin(checkpoint, settings):
    """Network, averaged weights, optimiser, curve and first step: new, or from the checkpoint."""
    import torch

    torch.manual_seed(settings["seed"])
    network = build_network().train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    if checkpoint is None or not checkpoint.exists():
        return network, average, optimiser, [], 0
    saved = torch.load(checkpoint, weights_only=True)
    if saved["settings"] != settings:
        raise ValueError(f"The checkpoint in {checkpoint.parent} was made with {saved['settings']}; "
                         f"expected {settings}. Use another folder, the same settings, or resume=False.")
    network.load_state_dict(saved["network"])
    optimiser.load_state_dict(saved["optimiser"])
    return network, saved["average"], optimiser, [tuple(row) for row in saved["curve"]], saved["step"]


def _descend(network, optimiser, images, labels, rate):
    """One step of AdamW in bfloat16; returns the loss."""
    import torch

    for group in optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images.to(memory_format=torch.channels_last))
    loss = loss_of(logits, labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def _average(average, network, decay):
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(out, state, settings):
    """Checkpoint, weights in half precision, card and curve, each put in place at once."""
    import torch
    from safetensors.torch import save

    network, average, optimiser, curve, step = state
    checkpoint = {"network": network.state_dict(), "average": average, "optimiser": optimiser.state_dict(),
                  "curve": curve, "step": step, "settings": settings}
    torch.save(checkpoint, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    weights = save({name: value.half().contiguous() if value.is_floating_point() else value
                    for name, value in average.items()})
    _replace(out / "thigh_vnet.safetensors", weights)
    card = {
        "name": "thigh_vnet", "sha256": hashlib.sha256(weights).hexdigest(),
        "architecture": {"kind": "2-D V-Net", "channels": list(CHANNELS), "classes": N_CLASSES,
                         "parameters": sum(p.numel() for p in network.parameters())},
        "input": {"pixel_mm": PIXEL_MM, "crop": CROP, "frame": "left thigh, x medially, y forwards"},
        "training": {**settings, "steps_done": step, "images": step * settings["batch_size"],
                     "torch": torch.__version__},
        "data": "synthetic sections of mrmyo.anatomy in random contrast; no image of a person",
    }
    _replace(out / "thigh_vnet.json", json.dumps(card, indent=2).encode())
    with open(out / "curve.csv", "w", newline="") as file:
        csv.writer(file).writerows([("step", "learning_rate", "loss"), *curve])
    return out / "thigh_vnet.safetensors"


def _replace(path, content):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def main(arguments=None):
    """``python -m mrmyo.training OUT --steps N --seed S``."""
    parser = argparse.ArgumentParser(prog="mrmyo train", description=train.__doc__.splitlines()[0])
    parser.add_argument("out")
    for name, kind in (("steps", int), ("seed", int), ("batch-size", int), ("workers", int), ("minutes", float)):
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS)
    train(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
