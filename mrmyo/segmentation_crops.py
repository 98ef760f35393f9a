"""One thigh at a time through the network, for :mod:`mrmyo.segmentation`: crops out of slices, labels back into them.

Every crop is at 1.25 mm, as large as its thigh needs (a multiple of 32 pixels) and shows it as a left one. Crops of one
size go through the network together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy import ndimage

from mrmyo.labels import FEMUR, MUSCLES, RIGHT_OFFSET
from mrmyo.progress import track
from mrmyo.segmentation_quality import features_of

__all__ = ["CROP", "N_CLASSES", "PASSES", "PIXEL_MM", "SMALLEST", "Found", "Job", "normalise", "plan", "probabilities",
           "run_network", "sample"]

PIXEL_MM = 1.25
CROP = 192  # the largest
SMALLEST = 160  # at 128, slices of thighs were taken for none
N_CLASSES = len(MUSCLES) + 2  # background, the muscles by label value, femur
STEP = 32  # how often the network halves the resolution: 2 to the fifth
MARGIN_MM = 8.0  # around the body: padding begins beyond it
ACROSS_MM = 15.0  # how far past the valley between the thighs a muscle may reach
BATCH = 8
SEEN, LEAST_SHARE = 0.5, 0.4  # how likely another contrast must show a thigh, and how much of the first one's muscle
PASSES = ((0.0, 1.0), (6.0, 1.0), (-6.0, 1.0), (0.0, 1.08), (0.0, 0.93))  # turns in degrees and scales, in this order


@dataclass(frozen=True)
class Job:
    """A crop to make: of which slice and side, its middle in mm from the first voxel, and its size in pixels."""

    k: int
    side: str
    centre: tuple[float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class Found:
    """What the network says of a stack (slices, x, y): labels before cleaning; how likely each slice goes through the
    thigh of a {side}; what is known of every {(slice, side)}; and, when asked for, the probability of muscle and the
    entropy."""

    labels: np.ndarray
    scope: dict
    features: dict
    probability: np.ndarray | None
    entropy: np.ndarray | None


def normalise(images) -> np.ndarray:
    """Images (..., x, y) scaled so that the bright tissue of each lies near 1, cut off at 2; air-only images stay dim.

    The scale is the 90th percentile of the pixels above a tenth of the 99th: coil hot spots and noise hardly move it.
    """
    images = np.asarray(images, np.float32)
    flat = images.reshape(-1, images.shape[-2] * images.shape[-1])
    scaled = np.empty_like(flat)
    for row, out in zip(flat, scaled, strict=True):
        tissue = row[row > 0.1 * np.percentile(row, 99)]
        scale = np.percentile(tissue, 90) if tissue.size else 1.0
        np.minimum(row / (scale or 1.0), 2.0, out=out)
    return scaled.reshape(images.shape)


def plan(body, sides, centres, spacing, *, smallest=SMALLEST) -> list[Job]:
    """The crops of every slice and side: around the centroid, or beside it where the thigh's body and a margin would
    not fit; in steps of 32 pixels, at most 192.
    """
    jobs = []
    for side in centres:
        own = np.arange(body.shape[1])
        boxes = np.full((len(body), 2, 2), np.nan)  # slice, axis, low and high
        for k, plane in enumerate(body):
            mask = plane & ((own >= sides[side][k, 0]) & (own < sides[side][k, 1]))[:, None]
            for axis in (0, 1):
                filled = np.flatnonzero(mask.any(1 - axis))
                if filled.size:
                    boxes[k, axis] = filled[0] * spacing[axis], filled[-1] * spacing[axis]
        low = ndimage.minimum_filter1d(np.where(np.isnan(boxes[..., 0]), np.inf, boxes[..., 0]), 3, axis=0)
        high = ndimage.maximum_filter1d(np.where(np.isnan(boxes[..., 1]), -np.inf, boxes[..., 1]), 3, axis=0)
        for k in range(len(body)):
            centre, size = list(centres[side][k]), [smallest, smallest]
            for axis in (0, 1):
                a, b = low[k, axis] - MARGIN_MM, high[k, axis] + MARGIN_MM
                if not a < b:
                    continue  # no body
                size[axis] = int(np.clip(np.ceil((b - a) / PIXEL_MM / STEP) * STEP, smallest, CROP))
                half = 0.5 * size[axis] * PIXEL_MM
                if b - half <= a + half:
                    centre[axis] = float(np.clip(centre[axis], b - half, a + half))
            jobs.append(Job(k, side, tuple(centre), tuple(size)))
    return jobs


def _weights(at_mm, n, step):
    """(len(at_mm), n) weights that sample a line of n pixels, `step` mm apart, at the positions.

    A triangle as wide as the coarser of the two grids: linear interpolation towards finer ones, smoothing towards
    coarser. Positions outside the line get zero.
    """
    width = max(step, abs(at_mm[1] - at_mm[0]))
    weights = np.clip(1 - np.abs(at_mm[:, None] - step * np.arange(n)) / width, 0, None)
    inside = (at_mm >= -0.5 * step) & (at_mm <= (n - 0.5) * step)
    return (weights * inside[:, None] / np.maximum(weights.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def sample(plane, job, spacing) -> np.ndarray:
    """The crop of a slice (x, y) that a job asks for, as a left thigh, not normalised."""
    weights = [_weights(c + (np.arange(s) - (s - 1) / 2) * PIXEL_MM, n, step)
               for c, s, n, step in zip(job.centre, job.size, plane.shape, spacing, strict=True)]
    boxes = []
    for axis, w in enumerate(weights):  # only the part of the slice that is seen
        seen = np.flatnonzero(w.any(0))
        boxes.append(slice(seen[0], seen[-1] + 1) if seen.size else slice(0, 1))
        weights[axis] = w[:, boxes[-1]]
    crop = weights[0] @ plane[tuple(boxes)] @ weights[1].T
    return crop if job.side == "left" else crop[::-1]


def run_network(network, stacks, spacing, jobs, sides, *, passes=1, maps=False, progress=True) -> Found:
    """The network on every job, pasted into the stack (slices, x, y).

    Of several stacks, contrasts of one grid, the probabilities are averaged. What is a thigh, and how good the mask of
    a slice seems, the first one tells: the formula for that knows single images.
    """
    stack = stacks[0]
    labels = np.zeros(stack.shape, np.uint8)
    best = np.zeros(stack.shape, np.float32)  # the winner's probability that this is muscle or bone
    out = [np.zeros(stack.shape, np.float32) for _ in range(2)] if maps else [None, None]
    scope, features = {side: np.zeros(len(stack)) for side in sides}, {}
    across, columns = ACROSS_MM / spacing[0], np.arange(stack.shape[1])
    for batch in track(_batches(jobs), label="Segmenting", show=progress):
        images, (found, in_scope, air) = _see(network, stack, batch, spacing, passes)
        known = {**features_of(found, images, air), "in_scope": in_scope}
        found = _average(found, [_see(network, other, batch, spacing, passes) for other in stacks[1:]])
        for i, job in enumerate(batch):
            scope[job.side][job.k] = in_scope[i] if np.ptp(images[i]) else np.nan  # a blank slice tells nothing
            features[job.k, job.side] = {name: float(values[i]) for name, values in known.items()}
            low, high = sides[job.side][job.k]
            own = (columns >= low - across) & (columns < high + across)
            _paste(labels[job.k], best[job.k], [m if m is None else m[job.k] for m in out], found[i], job, spacing, own)
    return Found(labels, {side: _smooth(row) for side, row in scope.items()}, features, *out)


def _see(network, stack, batch, spacing, passes):
    """The images of the jobs of a batch, and what `probabilities` makes of them."""
    images = normalise(np.stack([sample(stack[job.k], job, spacing) for job in batch]))
    return images, probabilities(network, images, passes=passes)


def _average(found, others):
    """The mean of the probabilities (n, classes, x, y) over the contrasts.

    An image of another contrast that is blank, or noise, or in which no thigh is seen or much less muscle, does not
    count: it knows less than nothing of what it does not show.
    """
    import torch

    least = LEAST_SHARE * found[:, 1:-1].sum((1, 2, 3)).numpy()
    total, count = found.clone(), torch.ones(len(found), 1, 1, 1)
    for images, (more, in_scope, _) in others:
        shown = (np.ptp(images, axis=(1, 2)) > 0) & (in_scope > SEEN) & (more[:, 1:-1].sum((1, 2, 3)).numpy() > least)
        shown = torch.from_numpy(shown).float()[:, None, None, None]
        total, count = total + shown * more, count + shown
    return total / count


def _smooth(scope):
    """How likely each slice of one thigh is in scope, seen with its neighbours; blank ones (NaN) are not, and do not
    speak against theirs."""
    known = np.flatnonzero(np.isfinite(scope))
    if not known.size:
        return np.zeros(len(scope))
    filled = np.interp(np.arange(len(scope)), known, scope[known])
    return np.where(np.isfinite(scope), ndimage.correlate1d(filled, [0.25, 0.5, 0.25], mode="nearest"), 0.0)


def _batches(jobs):
    """Jobs of one size together, a few at a time."""
    ordered = sorted(jobs, key=lambda job: (job.size, job.k, job.side))
    groups = [list(group) for _, group in groupby(ordered, key=lambda job: job.size)]
    return [group[i:i + BATCH] for group in groups for i in range(0, len(group), BATCH)]


def probabilities(network, images, *, passes=1):
    """(n, classes, x, y) probabilities as a torch tensor, (n,) how likely each image shows a thigh, and the
    probability of air (n, x, y), None where the network does not tell.

    With several passes the images are turned and scaled a little, and what comes back is averaged.
    """
    import torch

    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(images[:, None]))
        parts = [_one_pass(network, batch, turn, scale) for turn, scale in PASSES[:passes]]
        if len(parts) == 1:
            return parts[0]
        return tuple(None if part[0] is None else sum(part) / len(parts) for part in zip(*parts, strict=True))


def _one_pass(network, batch, turn, scale):
    import torch

    from mrmyo.segmentation_network import has_bfloat16

    there = back = None
    if turn or scale != 1:
        there, back = (_grid(batch, sign * turn, scale**sign) for sign in (1, -1))
        batch = torch.nn.functional.grid_sample(batch, there, padding_mode="border", align_corners=False)
    batch = batch.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        if hasattr(network, "parts"):
            probability, scope, air = network.parts(batch)
        elif hasattr(network, "probabilities"):
            probability, scope, air = *network.probabilities(batch), None
        else:
            probability, scope, air = network(batch).float().softmax(1), torch.ones(len(batch)), None
    probability = probability.float()
    if back is not None:
        both = probability if air is None else torch.cat([probability, air[:, None]], 1)
        both = torch.nn.functional.grid_sample(both, back, padding_mode="border", align_corners=False)
        probability, air = both[:, :N_CLASSES], None if air is None else both[:, N_CLASSES]
    return probability, scope.float().numpy(), air


def _grid(batch, turn, scale):
    """The sampling grid that turns (degrees) and scales images about their middle, in millimetres."""
    import torch

    a, (h, w) = np.deg2rad(turn), batch.shape[2:]
    matrix = scale * np.array([[np.cos(a), -np.sin(a) * h / w], [np.sin(a) * w / h, np.cos(a)]])
    theta = torch.tensor(np.column_stack([matrix, [0, 0]]), dtype=torch.float32).expand(len(batch), 2, 3)
    return torch.nn.functional.affine_grid(theta, list(batch.shape), align_corners=False)


def _likeliest(probability):
    """`argmax` along the first axis of a tensor (classes, x, y), which takes PyTorch ten times as long."""
    import torch

    best, winner = probability[0], torch.zeros_like(probability[0], dtype=torch.uint8)
    for value in range(1, len(probability)):
        winner.masked_fill_(probability[value] > best, value)
        best = torch.maximum(best, probability[value])
    return winner.numpy()


def _paste(labels, best, maps, probability, job, spacing, own):
    """Carry one crop's probabilities to its slice and take the likeliest class; the arrays are updated."""
    import torch

    if job.side == "right":
        probability = probability.flip(1)
    boxes, weights = [], []
    seen = probability[0].numpy() < (0.995 if maps[0] is not None else 0.9)
    for axis in (0, 1):
        n = job.size[axis]
        at = spacing[axis] * np.arange(labels.shape[axis]) - job.centre[axis] + (n - 1) / 2 * PIXEL_MM
        some = np.flatnonzero(seen.any(1 - axis)) * PIXEL_MM if seen.any() else [0, 0]
        near = (at >= max(some[0] - 3 * PIXEL_MM, 0)) & (at <= min(some[-1] + 3 * PIXEL_MM, (n - 1) * PIXEL_MM))
        inside = np.flatnonzero(near & (own if axis == 0 else True))
        if inside.size < 2:
            return
        boxes.append(slice(inside[0], inside[-1] + 1))
        w = _weights(at[inside], n, PIXEL_MM)
        used = np.flatnonzero(w.any(0))
        some = slice(used[0], used[-1] + 1)
        weights.append(torch.from_numpy(np.ascontiguousarray(w[:, some])))
        probability = probability[:, some] if axis == 0 else probability[:, :, some]
    box = tuple(boxes)
    with torch.inference_mode():
        fine = weights[0] @ probability.contiguous() @ weights[1].T
        winner = _likeliest(fine)
        certainty = (1 - fine[0]).numpy()
        if maps[0] is not None:
            muscle = fine[1:len(MUSCLES) + 1].sum(0).numpy()
            p = fine.clamp_min(1e-6)
            spread = (-(p * p.log()).sum(0) / np.log(len(p))).numpy()
            for into, values in zip(maps, (muscle, spread), strict=True):
                into[box] = np.maximum(into[box], values)
    values = np.arange(N_CLASSES, dtype=np.uint8) + (np.uint8(RIGHT_OFFSET) if job.side == "right" else np.uint8(0))
    values[0], values[-1] = 0, FEMUR[job.side]
    wins = certainty > best[box]
    labels[box] = np.where(wins, values[winner], labels[box])
    best[box] = np.where(wins, certainty, best[box])
