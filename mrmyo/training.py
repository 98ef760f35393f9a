"""Trains the network on sections of random thighs in random contrast: no image of a person is needed.

Images and initial weights follow from a seed and the number of the step, so an interrupted training resumes; on the CPU
to the very same weights. On a GPU images are drawn there too; on the CPU worker processes draw them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrmyo.segmentation import CROP, KIND, N_CLASSES, PIXEL_MM, build_network, load_model, model_hash
from mrmyo.segmentation_network import has_bfloat16, read_weights
from mrmyo.training_anatomy import build_library
from mrmyo.training_images import draw_batch
from mrmyo.training_maps import fold_of, read_stacks
from mrmyo.training_scores import score_sections

__all__ = ["draw_batch", "loss_of", "train"]

CHANNELS = (24, 48, 64, 96, 128, 160)
SIZES, SHARES = (128, 160, 192), (0.15, 0.55, 0.3)  # pixels; at inference a slice is cut to what its thigh needs
NAME = "thigh_vnet"
FOLDS = 5


class _Stream:
    """Steps to batches, for worker processes: `stream[step]` depends on the seed and the step alone."""

    def __init__(self, library, seed, batch_size, blended):
        self.library, self.seed, self.batch_size, self.blended = library, seed, batch_size, blended

    def __getitem__(self, step):
        return _draw(self.library, self.seed, step, self.batch_size, self.blended)


def _draw(library, seed, step, batch_size, blended, device="cpu"):
    """One batch; of blended people in one of several sizes."""
    batch = draw_batch(library, seed, step, batch_size, blended=blended, device=device)
    return _cut(batch, seed, step) if blended else batch


def _cut(batch, seed, step):
    """The middle of the images of a batch, in one of several sizes."""
    size = np.random.default_rng([seed, step, 1]).choice(SIZES, p=SHARES)
    low = (CROP - size) // 2
    middle = slice(low, low + size)
    return *(part[..., middle, middle] for part in batch[:3]), batch[3]


def loss_of(out, labels, tissue, scope):
    """Cross-entropy of the tissue, of the name within muscle, and of the scope, plus soft Dice of what is present.

    Soft Dice is over the whole batch, on the product of the probabilities of muscle and name.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    tissues, names, in_scope = (part.float() for part in out)
    muscle, counts = tissue == 1, (tissue >= 0)[:, None]
    entropy = cross_entropy(tissues, tissue, ignore_index=-100)
    inside = cross_entropy(names, torch.where(muscle, labels - 1, -100), ignore_index=-100, reduction="sum")
    inside = inside / muscle.sum().clamp_min(1)
    share = tissues.softmax(1)
    probability = torch.cat([share[:, 1:2] * names.softmax(1), share[:, 2:3]], 1)
    truth = labels[:, None] == torch.arange(1, N_CLASSES, device=labels.device)[:, None, None]
    probability = probability * counts
    overlap = (probability * truth).sum((0, 2, 3))
    size = truth.sum((0, 2, 3))
    dice = (2 * overlap + 1) / (probability.sum((0, 2, 3)) + size + 1)
    dice = (dice * (size > 0)).sum() / (size > 0).sum().clamp_min(1)
    return entropy + 0.5 * inside + 1 - dice + 0.1 * binary_cross_entropy_with_logits(in_scope, scope)


def _rate(step, steps, peak):
    """One cycle: up over the first twentieth, then down along a cosine."""
    rise = max(steps // 20, 1)
    if step < rise:
        return peak * (step + 1) / rise
    return float(peak * 0.5 * (1 + np.cos(np.pi * (step - rise) / (steps - rise))))


def train(out, *, label_maps=None, leave_out=(), blended=False, start=None, hold_out=None, steps=6000, seed=0,
          batch_size=16, peak_rate=2e-3, channels=CHANNELS, workers=1, device=None, minutes=None, resume=True,
          progress=True):
    """Train a network on random images, from scratch, from another model, or from where an earlier call stopped.

    Parameters
    ----------
    out : path
        Folder for ``thigh_vnet.safetensors`` with its card ``.json``, ``curve.csv`` and ``checkpoint.pt``.
    label_maps : path, optional
        Folder of label maps (or the .npz made of it); without it the parametric anatomy is all there is.
    leave_out : sequence of str
        Persons of the maps (``THIGH_061``) on whom not to train, such as one whose image the model will be scored on.
    blended : bool
        Show thighs between those of two people, in crops of several sizes. The shipped model did without.
    start : path, optional
        A model file whose weights to begin with; it must have these `channels`.
    hold_out : int, optional
        Leave out this fifth of the persons, 0 to 4, and score the model on their maps when done.
    steps, batch_size : int
        Length of the training, and fresh images a step.
    seed : int
        Images and initial weights follow from it.
    peak_rate : float
        Learning rate at the top of the cycle.
    channels : sequence of int
        Width of every resolution.
    workers : int
        Processes that draw images on the CPU; 0 draws them here. The result does not depend on it.
    device : str, optional
        A GPU where there is one.
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
    import torch

    out = Path(out)
    begun = {} if start is None else _card_of(start, out, leave_out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings = {"steps": steps, "seed": seed, "batch_size": batch_size, "peak_rate": peak_rate,
                "channels": list(channels), "label_maps": label_maps is not None, "hold_out": hold_out,
                "leave_out": sorted(leave_out), "blended": blended,
                "start": None if start is None else model_hash(start)}
    state = _begin(out / "checkpoint.pt" if resume else None, settings, device, start)
    library, held, state["data"] = _libraries(label_maps, leave_out, hold_out, seed, progress)
    if begun:
        state["data"] += f" Begun with the weights of {begun['name']} ({settings['start']}): {begun['data']}"
    batches = _batches(library, seed, batch_size, blended, range(state["step"], steps), workers, device)
    _run(out, state, batches, settings, minutes, progress)
    scores = {}
    if held is not None:
        network = build_network(channels=channels, kind=KIND).to(device).eval()
        network.load_state_dict(state["average"])
        scores = {f"held-out maps (fifth {hold_out}), random contrast": score_sections(network, held, device=device)}
    return _save(out, state, settings, scores)


def _run(out, state, batches, settings, minutes, progress):
    """Step after step until the batches or the time run out; `state` goes along."""
    from time import monotonic

    from tqdm.auto import tqdm

    began = saved = monotonic()
    steps = settings["steps"]
    bar = tqdm(total=steps, initial=state["step"], desc="Training", unit="step", disable=not progress, mininterval=2)
    for step, batch in enumerate(batches, start=state["step"]):
        rate = _rate(step, steps, settings["peak_rate"])
        state["curve"].append((step, rate, _descend(state, batch, rate)))
        _average(state, min(0.998, (step + 1) / (step + 10)))
        state["step"] = step + 1
        if step % 20 == 0:
            _settle(state)
            bar.set_postfix(loss=f"{np.mean([row[2] for row in state['curve'][-50:]]):.3f}", refresh=False)
        bar.update()
        stop = minutes is not None and monotonic() - began > 60 * minutes
        if stop or monotonic() - saved > 60:
            _save(out, state, settings)
            saved = monotonic()
        if stop:
            break
    bar.close()


def _libraries(label_maps, leave_out, hold_out, seed, progress):
    """The sections to train on, those held out (or None), and what the card says of the data."""
    stacks = [] if label_maps is None else read_stacks(label_maps)
    people = {stack.subject for stack in stacks}
    if unknown := set(leave_out) - people:
        raise ValueError(f"Found no {', '.join(sorted(unknown))} to leave out among the label maps; expected some of "
                         f"{', '.join(sorted(people)) or 'none, for there are no maps'}.")
    stacks = [stack for stack in stacks if stack.subject not in leave_out]
    kept, left = stacks, []
    if hold_out is not None:
        fold = fold_of(stacks, FOLDS)
        kept, left = ([s for s, f in zip(stacks, fold, strict=True) if (f == hold_out) == out] for out in (False, True))
    data = "Synthetic sections in random contrast; no image of a person."
    if kept:
        n_maps, n_people = len({s.name.split("/")[0] for s in kept}), len({s.subject for s in kept})
        data += (f" Anatomy: {n_maps} label maps of {n_people} persons (the public ones: Apache-2.0), completed, and "
                 "mrmyo.anatomy.")
    held = build_library(left, seed=seed, parametric=0, negatives=0, progress=progress) if left else None
    return build_library(kept, seed=seed, progress=progress), held, data


def _card_of(start, out, leave_out):
    """The card of the model to start from; an error where the new card could not be true."""
    start = Path(start)
    if start.resolve().parent == out.resolve():
        raise ValueError(f"The model to start from, {start.name}, lies in the folder that the training writes to; "
                         "expected another folder.")
    card = load_model(start).card
    if "data" not in card:
        raise ValueError(f"The card of {start.name} tells no data; expected a model of `mrmyo train`.")
    if seen := set(leave_out) - set(card.get("training", {}).get("leave_out", ())):
        raise ValueError(f"The model to start from did not leave out {', '.join(sorted(seen))}; expected one trained "
                         "without them, or none.")
    return card


def _batches(library, seed, batch_size, blended, steps, workers, device):
    """Batch after batch: drawn on the GPU, or by worker processes."""
    import torch
    from torch.utils.data import DataLoader

    if device.type == "cpu":
        stream = _Stream(library, seed, batch_size, blended)
        return DataLoader(stream, batch_size=None, sampler=steps, num_workers=workers)
    there = replace(library, fields=torch.as_tensor(library.fields).to(device))
    return (_draw(there, seed, step, batch_size, blended, device) for step in steps)


def _begin(checkpoint, settings, device, start=None):
    """Network, averaged weights, optimiser, curve and step: new, with a model's weights, or from the checkpoint."""
    import torch

    torch.manual_seed(settings["seed"])
    torch.backends.cudnn.benchmark = True
    network = build_network(channels=settings["channels"], kind=KIND).to(device).train()
    if start is not None:
        try:
            network.load_state_dict(read_weights(start))
        except RuntimeError as error:
            raise ValueError(f"The model to start from has other layers than {settings['channels']} asks for; expected "
                             f"the same channels. Name those of its card. ({error})") from error
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2, fused=device.type == "cuda")
    state = {"network": network, "optimiser": optimiser, "curve": [], "step": 0,
             "average": {name: value.clone() for name, value in network.state_dict().items()}}
    if checkpoint is None or not checkpoint.exists():
        return state
    saved = torch.load(checkpoint, weights_only=True, map_location=device)
    if saved["settings"] != settings:
        raise ValueError(f"The checkpoint in {checkpoint.parent} was made with {saved['settings']}; "
                         f"expected {settings}. Use another folder, the same settings, or resume=False.")
    network.load_state_dict(saved["network"])
    optimiser.load_state_dict(saved["optimiser"])
    return state | {"average": saved["average"], "curve": [tuple(row) for row in saved["curve"]],
                    "step": saved["step"]}


def _descend(state, batch, rate):
    """One step of AdamW in bfloat16; returns the loss, still on its device."""
    import torch

    network, optimiser = state["network"], state["optimiser"]
    for group in optimiser.param_groups:
        group["lr"] = rate
    images, labels, tissue, scope = batch
    # a CPU that only imitates bfloat16 is slower with it
    fast = images.device.type != "cpu" or has_bfloat16()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
        out = network(images.to(memory_format=torch.channels_last))
    loss = loss_of(out, labels, tissue, scope)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.detach()


def _average(state, decay):
    import torch

    own, new = [], []
    for name, value in state["network"].state_dict().items():
        if value.is_floating_point():
            own.append(state["average"][name])
            new.append(value)
        else:
            state["average"][name].copy_(value)
    torch._foreach_lerp_(own, new, 1 - decay)


def _settle(state):
    """Losses to plain numbers: asking a GPU for every one at once would keep it waiting."""
    state["curve"][-21:] = [(step, rate, float(loss)) for step, rate, loss in state["curve"][-21:]]


def _save(out, state, settings, scores=None):
    """Checkpoint, weights in half precision, card and curve, each put in place at once."""
    import torch
    from safetensors.torch import save

    _settle(state)
    checkpoint = {name: state[name] for name in ("average", "curve", "step")} | {
        "network": state["network"].state_dict(), "optimiser": state["optimiser"].state_dict(), "settings": settings}
    torch.save(checkpoint, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    weights = save({name: value.half().cpu().contiguous() if value.is_floating_point() else value.cpu()
                    for name, value in state["average"].items()})
    _replace(out / f"{NAME}.safetensors", weights)
    card = {
        "name": NAME, "sha256": hashlib.sha256(weights).hexdigest(),
        "architecture": {"kind": KIND, "channels": settings["channels"], "classes": N_CLASSES,
                         "parameters": sum(p.numel() for p in state["network"].parameters())},
        "input": {"pixel_mm": PIXEL_MM, "crop": CROP, "frame": "left thigh, x medially, y forwards"},
        "training": {**settings, "steps_done": state["step"], "images": state["step"] * settings["batch_size"],
                     "torch": torch.__version__},
        "data": state["data"], "scores": scores or {},
    }
    _replace(out / f"{NAME}.json", json.dumps(card, indent=2).encode())
    rows = io.StringIO(newline="")
    csv.writer(rows).writerows([("step", "learning_rate", "loss"), *state["curve"]])
    _replace(out / "curve.csv", rows.getvalue().encode())
    return out / f"{NAME}.safetensors"


def _replace(path, content):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
