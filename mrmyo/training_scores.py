"""How well a network names the muscles of sections that it was not trained on, for :mod:`mrmyo.training`."""

from __future__ import annotations

import numpy as np

from mrmyo.labels import MUSCLES
from mrmyo.segmentation import N_CLASSES
from mrmyo.training_images import draw_batch

__all__ = ["score_sections"]

UNNAMED_IN_MAPS = ("AL", "OTH")


def score_sections(network, library, *, seed=99991, n=512, batch_size=32, device="cpu") -> dict:
    """Dice of every muscle over many sections in random contrast, their anatomy as it is in the library.

    Parameters
    ----------
    network : ThighNet
        In evaluation mode.
    library : Library
    n : int
        How many images.

    Returns
    -------
    dict
        ``muscle_dice`` by abbreviation, ``mean_of_11`` over the muscles that the real maps name, ``worst``,
        ``whole_muscle``, and ``in_scope``: the share of thighs that were taken for thighs.
    """
    import torch

    among = np.flatnonzero(library.kind < 2)
    counts = torch.zeros(3, N_CLASSES, dtype=torch.float64, device=device)
    whole, in_scope = torch.zeros(2, dtype=torch.float64, device=device), 0.0
    steps = -(-n // batch_size)
    for step in range(steps):
        images, labels, _, _ = draw_batch(library, seed, step, batch_size, device=device, deform=0.0, among=among)
        with torch.inference_mode():
            probability, scope = network.probabilities(images.to(memory_format=torch.channels_last))
        found = probability.argmax(1)
        for row, chosen in enumerate((found[found == labels], found, labels)):
            counts[row] += torch.bincount(chosen.flatten(), minlength=N_CLASSES)
        muscle = [(part > 0) & (part < N_CLASSES - 1) for part in (found, labels)]
        whole += torch.stack([2 * (muscle[0] & muscle[1]).sum(), muscle[0].sum() + muscle[1].sum()])
        in_scope += float((scope > 0.5).float().mean()) / steps
    dice = (2 * counts[0] / (counts[1] + counts[2]).clamp_min(1)).cpu().numpy()
    by_name = {row[1]: round(float(dice[value]), 3) for value, row in enumerate(MUSCLES, start=1)}
    named = [value for name, value in by_name.items() if name not in UNNAMED_IN_MAPS]
    return {"muscle_dice": by_name, "mean_of_11": round(float(np.mean(named)), 3), "worst": min(named),
            "whole_muscle": round(float(whole[0] / whole[1]), 3), "in_scope": round(in_scope, 3),
            "sections": steps * batch_size}
