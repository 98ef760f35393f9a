"""Names the muscles of the thigh: one small 2-D V-Net, one thigh at a time, in one canonical orientation.

The network sees every thigh as a left one, at 1.25 mm, with x leading medially and y forwards. Which thigh is the left
one is read from the affine alone, never from intensities. Model files are safetensors with a JSON model card beside
them, so that loading one runs no code. PyTorch is imported when the first network is built.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.labels import FEMUR, MUSCLES, RIGHT_OFFSET
from mrmyo.progress import track
from mrmyo.segmentation_adapters import OtherModel, description_hash, is_description, label_with, load_description
from mrmyo.segmentation_quality import KEY, SCOPE, describe, entropy_of, slice_quality
from mrmyo.segmentation_sides import SegmentationError, find_body, find_centres, find_sides, side_source
from mrmyo.volume import Volume, to_canonical

__all__ = ["Model", "SegmentationError", "build_network", "load_model", "model_hash", "normalise", "segment",
           "slice_quality"]

MODEL_PATH = Path(__file__).parent / "models" / "thigh_vnet.safetensors"
PIXEL_MM = 1.25
CROP = 192
N_CLASSES = len(MUSCLES) + 2  # background, the muscles by label value, femur
CHANNELS = (16, 32, 48, 64, 96)
KIND = "2-D V-Net, three heads"
BATCH = 8
ACROSS_MM = 15.0  # how far past the valley between the thighs a muscle may reach


@dataclass(frozen=True)
class Model:
    """A network ready for use, its model card, and the first twelve digits of the SHA-256 of its weights."""

    network: object
    card: dict
    hash: str


def build_network(*, channels=CHANNELS, n_classes=N_CLASSES, kind="2-D V-Net"):
    """An untrained network for (n, 1, 192, 192) normalised images: a plain V-Net, or that with three heads (`KIND`)."""
    import torch

    from mrmyo.segmentation_network import ThighNet, VNet

    if kind not in ("2-D V-Net", KIND):
        raise SegmentationError(f"Found a model card with the architecture {kind!r}; expected '2-D V-Net' or {KIND!r}.")
    network = ThighNet(tuple(channels), n_classes - 2) if kind == KIND else VNet(tuple(channels), n_classes)
    return network.to(memory_format=torch.channels_last)


def model_hash(path=None) -> str:
    """The first twelve digits of the SHA-256 of the weights, for provenance; of another lab's model (a description in
    .toml or .json) that of the description and the weights."""
    if is_description(path):
        return description_hash(path)
    path = MODEL_PATH if path is None else Path(path)
    if not path.is_file():
        raise SegmentationError(f"Found no model file at {path}; expected a .safetensors file and its .json card.")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def load_model(path=None) -> Model | OtherModel:
    """Load a model file (.safetensors) and the model card (.json) beside it; the shipped one when no path is given.

    The path of a description (.toml or .json) loads another lab's model: see :mod:`mrmyo.segmentation_adapters`.

    The loaded model is kept, and loaded again only when the file has changed.

    Raises
    ------
    SegmentationError
        When a file is missing, or the weights do not belong to the architecture that the card names.
    """
    if is_description(path):
        return load_description(path)
    path = MODEL_PATH if path is None else Path(path)
    return _load(path, model_hash(path))


@lru_cache(maxsize=4)
def _load(path, digest):
    from safetensors.torch import load_file

    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise SegmentationError(f"Found no model card at {card_path}; expected it beside {path.name}.")
    card = json.loads(card_path.read_text())
    try:
        made = card["architecture"]
        network = build_network(channels=made["channels"], n_classes=made["classes"], kind=made["kind"])
        network.load_state_dict({name: value.float() if value.is_floating_point() else value
                                 for name, value in load_file(path).items()})
    except (KeyError, RuntimeError) as error:
        raise SegmentationError(f"{path.name} does not hold the network that its card describes: {error}") from error
    return Model(network.eval(), card, digest)


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


def segment(volume: Volume, model=None, progress=True) -> Volume:
    """Label the muscles and the femur of one or both thighs.

    Parameters
    ----------
    volume : Volume
        A 3-D stack of axial slices in any array order and of any contrast; several echoes: take one first.
    model : path, Model, OtherModel or None
        A .safetensors file with its card beside it, the description (.toml or .json) of another lab's model (see
        :mod:`mrmyo.segmentation_adapters`), or what `load_model` returned; None takes the shipped model.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Volume
        uint8 values of `mrmyo.label_table` on the grid of the input. The patient's left has the lower values whatever
        the order of the array. A thigh that is alone is named by DICOM's laterality, or else by the side of the
        scanner's mid-plane on which it lies. Slices that show no thigh (pelvis, knee, calf) are left empty;
        `mrmyo.segmentation.slice_quality(labels)` says which, and which to look at first.

    Raises
    ------
    SegmentationError
        When the stack is not axial or has echoes, holds NaN, or no body or no thigh is found.
    """
    canonical = to_canonical(volume)
    _check(volume, canonical)
    model = model if isinstance(model, Model | OtherModel) else load_model(model)
    if isinstance(model, OtherModel):
        return label_with(volume, canonical, model, progress)
    stack = np.clip(np.moveaxis(canonical.array.astype(np.float32), 2, 0), 0, None)  # slices first
    spacing = canonical.spacing_mm[:2]
    body = find_body(stack, spacing)
    sides = find_sides(body, canonical)
    labels, scope, entropy = _name(stack, spacing, find_centres(body, sides, spacing), sides, model, progress)
    if scope.max() < 0.5:
        raise SegmentationError(f"Found no thigh: none of {len(scope)} slices looks like one through thighs (the "
                                f"likeliest {scope.max():.0%}). Expected axial slices between knee and hip, brighter "
                                "than the air around them.")
    labels[scope < SCOPE * scope.max()] = 0
    for side in sides:
        _clean(labels, side)
    rows = describe(labels, spacing, scope, entropy, side_source(canonical, sides))
    return _onto(volume, canonical, np.moveaxis(labels, 0, 2), rows)


def _check(volume, canonical):
    if volume.array.ndim != 3:
        raise SegmentationError(f"Found an array of shape {volume.array.shape}; expected three axes. "
                                "Take one echo first: volume.echo(0).")
    if not np.isfinite(volume.array).all():
        raise SegmentationError(f"Found {int((~np.isfinite(volume.array)).sum())} voxels that are NaN or infinite; "
                                "expected a finite image. Replace them first.")
    if canonical.slice_axis != 2:
        plane = ("sagittal", "coronal")[canonical.slice_axis]
        raise SegmentationError(f"Found {plane} slices, {canonical.spacing_mm[canonical.slice_axis]:.1f} mm apart; "
                                "expected axial ones. Segment an axial series and align its labels to this one.")
    extent = canonical.spacing_mm[:2] * canonical.shape[:2]
    if extent.min() < 80 or min(canonical.shape[:2]) < 32:
        raise SegmentationError(f"Found a field of view of {extent[0]:.0f} × {extent[1]:.0f} mm with "
                                f"{canonical.shape[:2]} pixels; expected at least 80 mm and 32 pixels each way.")


def _onto(volume, canonical, array, rows):
    """Undo `to_canonical`: the same voxels in the axis order of the input, and its numbers of slices in the rows."""
    index = np.linalg.inv(canonical.affine) @ volume.affine
    axes = np.abs(index[:3, :3]).argmax(0)  # which canonical axis each input axis runs along
    array = np.transpose(array, axes)
    flipped = [axis for axis in range(3) if index[axes[axis], axis] < 0]
    if list(axes).index(2) in flipped:
        last = canonical.shape[2] - 1
        rows = [{**row, "slice": last - row["slice"]} for row in reversed(rows)]
    return volume.with_array(np.ascontiguousarray(np.flip(array, flipped)), echo_times_ms=None,
                             meta={**volume.meta, KEY: rows})


def _weights(at_mm, n, step):
    """(len(at_mm), n) weights that sample a line of n pixels, `step` mm apart, at the positions.

    A triangle as wide as the coarser of the two grids: linear interpolation towards finer ones, smoothing towards
    coarser. Positions outside the line get zero.
    """
    width = max(step, abs(at_mm[1] - at_mm[0]))
    weights = np.clip(1 - np.abs(at_mm[:, None] - step * np.arange(n)) / width, 0, None)
    inside = (at_mm >= -0.5 * step) & (at_mm <= (n - 0.5) * step)
    return (weights * inside[:, None] / np.maximum(weights.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def _name(stack, spacing, centres, sides, model, progress):
    """The network on every slice of every thigh: uint8 labels shaped like the stack, how likely each slice is one
    through thighs, and {(slice, side): mean entropy}."""
    labels = np.zeros(stack.shape, np.uint8)
    jobs = [(k, side) for k in range(len(stack)) for side in centres]
    best = np.zeros(stack.shape, np.float32)  # the winner's probability that this is muscle or bone
    scope, entropy = np.zeros(len(stack)), {}
    offsets = (np.arange(CROP) - (CROP - 1) / 2) * PIXEL_MM
    columns = np.arange(stack.shape[1])
    for start in track(range(0, len(jobs), BATCH), label="Segmenting", show=progress):
        batch = jobs[start:start + BATCH]
        crops = []
        for k, side in batch:
            x, y = (_weights(c + offsets, n, s)
                    for c, n, s in zip(centres[side][k], stack.shape[1:], spacing, strict=True))
            crop = x @ stack[k] @ y.T
            crops.append(crop if side == "left" else crop[::-1])
        found, in_scope = _probabilities(model.network, normalise(np.stack(crops)))
        for (k, _), p in zip(batch, in_scope, strict=True):
            scope[k] += p / len(centres)
        across = ACROSS_MM / spacing[0]
        for (k, side), probability in zip(batch, found, strict=True):
            entropy[k, side] = entropy_of(probability)
            low, high = sides[side][k]
            own = (columns >= low - across) & (columns < high + across)
            _paste(labels[k], best[k], probability, centres[side][k], spacing, side, own)
    return labels, ndimage.correlate1d(scope, [0.25, 0.5, 0.25], mode="nearest"), entropy


def _probabilities(network, images):
    """(n, classes, 192, 192) probabilities as a torch tensor, and (n,) how likely each shows a thigh."""
    import torch

    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # twice as fast; one pixel in 5,000 differs
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        batch = torch.from_numpy(np.ascontiguousarray(images[:, None])).to(memory_format=torch.channels_last)
        if hasattr(network, "probabilities"):
            probability, scope = network.probabilities(batch)
            return probability.float(), scope.numpy()
        return network(batch).float().softmax(1), np.ones(len(images))


def _paste(labels, best, probability, centre, spacing, side, own):
    """Carry one crop's probabilities to its slice (`labels` and `best` are updated) and take the likeliest class."""
    import torch

    if side == "right":
        probability = probability.flip(1)
    boxes, maps = [], []
    seen = probability[0].numpy() < 0.9
    for axis in (0, 1):
        at = spacing[axis] * np.arange(labels.shape[axis]) - centre[axis] + (CROP - 1) / 2 * PIXEL_MM
        some = np.flatnonzero(seen.any(1 - axis)) * PIXEL_MM if seen.any() else [0, 0]
        near = (at >= max(some[0] - 3 * PIXEL_MM, 0)) & (at <= min(some[-1] + 3 * PIXEL_MM, (CROP - 1) * PIXEL_MM))
        inside = np.flatnonzero(near & (own if axis == 0 else True))
        if inside.size < 2:
            return
        boxes.append(slice(inside[0], inside[-1] + 1))
        maps.append(torch.from_numpy(_weights(at[inside], CROP, PIXEL_MM)))
    with torch.inference_mode():
        fine = maps[0] @ probability.contiguous() @ maps[1].T
        winner = fine.argmax(0).numpy()
        certainty = (1 - fine[0]).numpy()
    values = np.arange(N_CLASSES, dtype=np.uint8) + (np.uint8(RIGHT_OFFSET) if side == "right" else np.uint8(0))
    values[0], values[-1] = 0, FEMUR[side]
    box = tuple(boxes)
    wins = certainty > best[box]
    labels[box] = np.where(wins, values[winner], labels[box])
    best[box] = np.where(wins, certainty, best[box])


def _clean(labels, side):
    """Give the islands of each label (3-D parts below a fifth of its largest) to what lies nearest in their slice."""
    offset = RIGHT_OFFSET if side == "right" else 0
    islands = np.zeros(labels.shape, bool)
    boxes = ndimage.find_objects(labels)
    for value in [*range(1 + offset, len(MUSCLES) + 1 + offset), FEMUR[side]]:
        if value > len(boxes) or boxes[value - 1] is None:
            continue
        box = boxes[value - 1]
        parts, n = ndimage.label(labels[box] == value, structure=np.ones((3, 3, 3)))
        size = np.bincount(parts.ravel(), minlength=n + 1)
        size[0] = 0
        islands[box] |= (size < 0.2 * size.max())[parts] & (parts > 0)
    for k in np.flatnonzero(islands.any((1, 2))):
        nearest = ndimage.distance_transform_edt(islands[k], return_distances=False, return_indices=True)
        labels[k] = labels[k][tuple(nearest)]
