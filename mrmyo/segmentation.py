"""Names the muscles of the thigh: one small 2-D V-Net, one thigh at a time, in one canonical orientation.

The network sees every thigh as a left one, at 1.25 mm, with x leading medially and y forwards. Which thigh is the left
one is read from the affine alone, never from intensities. Model files are safetensors with a JSON model card beside
them, so that loading one runs no code. PyTorch is imported when the first network is built.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.labels import FEMUR, MUSCLES, RIGHT_OFFSET
from mrmyo.segmentation_adapters import OtherModel, description_hash, is_description, label_with, load_description
from mrmyo.segmentation_checks import check_image, check_thighs, stack_note
from mrmyo.segmentation_crops import CROP, N_CLASSES, PASSES, PIXEL_MM, SMALLEST, normalise, plan, run_network
from mrmyo.segmentation_quality import KEY, describe, flag_lines, left_empty, read_formula, slice_quality
from mrmyo.segmentation_sides import SegmentationError, find_body, find_centres, find_sides, side_source
from mrmyo.volume import Volume, in_axis_order_of, same_grid, to_canonical

__all__ = ["CROP", "KIND", "N_CLASSES", "PIXEL_MM", "Model", "Segmentation", "SegmentationError", "build_network",
           "flag_lines", "load_model", "model_hash", "normalise", "segment", "segment_with_probability",
           "slice_quality"]

MODEL_PATH = Path(__file__).parent / "models" / "thigh_vnet.safetensors"
CHANNELS = (16, 32, 48, 64, 96)
KIND = "2-D V-Net, three heads"


@dataclass(frozen=True)
class Model:
    """A network ready for use, its model card, the first twelve digits of the SHA-256 of its weights, and the formula
    of the Dice to expect."""

    network: object
    card: dict
    hash: str
    formula: dict = field(default_factory=read_formula)


@dataclass(frozen=True)
class Segmentation:
    """What `segment_with_probability` found: labels, probability of muscle, entropy, and the table of the slices."""

    labels: Volume
    probability: Volume
    entropy: Volume
    quality: object


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
    beside = [path.with_suffix(".json"), path.with_name(f"{path.stem}_quality.json")]
    return _load(path, model_hash(path), tuple(file.is_file() and file.stat().st_mtime_ns for file in beside))


@lru_cache(maxsize=4)
def _load(path, digest, _beside):
    from mrmyo.segmentation_network import fused, read_weights

    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise SegmentationError(f"Found no model card at {card_path}; expected it beside {path.name}.")
    try:
        card = json.loads(card_path.read_text())
        made = card["architecture"]
        network = build_network(channels=made["channels"], n_classes=made["classes"], kind=made["kind"])
        network.load_state_dict(read_weights(path))
    except Exception as error:  # safetensors, PyTorch and a card that is none have errors of their own
        raise SegmentationError(f"{path.name} does not hold the network that its card describes: {error}") from error
    return Model(fused(network), card, digest, read_formula(path.with_name(f"{path.stem}_quality.json"), digest))


def segment(volume: Volume, model=None, progress=True, *, passes=1, beside=()) -> Volume:
    """Label the muscles and the femur of one or both thighs.

    Parameters
    ----------
    volume : Volume
        A 3-D stack of axial magnitude images in any array order and of any contrast; several echoes: take one first.
    model : path, Model, OtherModel or None
        A .safetensors file with its card beside it, the description (.toml or .json) of another lab's model (see
        :mod:`mrmyo.segmentation_adapters`), or what `load_model` returned; None takes the shipped model.
    progress : bool
        Show a progress bar.
    passes : int
        1 to 5: how often every slice is segmented, turned and scaled a little, before the probabilities are averaged.
        On real images five passes gained 0.005 of Dice at most, for five times the time.
    beside : sequence of Volume
        Further contrasts of the same acquisition on the same grid, such as the opposed-phase and the fat image beside
        the in-phase one: the probabilities that the network finds on each are averaged. Where fat replaces muscle one
        contrast shows what another hides: on a real dystrophic thigh 0.84 of Dice mid-thigh, and 0.71 for the worst
        muscle, where the in-phase image alone gave 0.82 and 0.65, opposed-phase and fat alone 0.83 and 0.69, 0.71. Each
        takes as long as the first. Which slices show a thigh, and the Dice to expect, the first one tells; another
        does not count in a slice where it shows no thigh or far less muscle.

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
        When the stack is not axial, has echoes, NaN or many negative values, when no body or no thigh is found, or when
        the thighs are recognised far better with front and back exchanged.

    Notes
    -----
    A voxel is muscle when that is its likeliest class: septa and streaks of fat count as muscle where the voxel is
    mostly muscle, and nothing is filled in where it is not. The whole muscle is the union of the named muscles. Parts
    of a muscle (in 3-D) below a fifth of its largest are specks, and go to what lies nearest in their slice. A header
    that mirrors left and right cannot be noticed, for a pair of thighs looks the same mirrored.
    """
    return _segment(volume, model, passes, False, progress, beside)[0]


def segment_with_probability(volume: Volume, model=None, progress=True, *, passes=1, beside=()) -> Segmentation:
    """As `segment`, with how sure the network is.

    Parameters
    ----------
    volume, model, progress, passes, beside
        As for `segment`.

    Returns
    -------
    Segmentation
        ``labels`` as `segment` returns them; ``probability`` that a voxel is muscle and ``entropy`` of all classes
        (float32, 0 to 1), both before slices are left empty and specks cleaned, 0 away from the thighs;
        ``quality``, the table of `slice_quality`.
    """
    labels, probability, entropy = _segment(volume, model, passes, True, progress, beside)
    return Segmentation(labels, probability, entropy, slice_quality(labels))


def _segment(volume, model, passes, maps, progress, beside):
    """Labels and, when asked for, probability and entropy (else None) on the grid of the volume."""
    if passes not in range(1, len(PASSES) + 1):
        raise SegmentationError(f"Found passes={passes}; expected 1 to {len(PASSES)}.")
    canonical = to_canonical(volume)
    check_image(volume, canonical)
    others = [to_canonical(_on_grid_of(volume, other)) for other in beside]
    model = model if isinstance(model, Model | OtherModel) else load_model(model)
    if isinstance(model, OtherModel):
        if maps or passes > 1 or beside:
            raise SegmentationError("Found another lab's model, which tells only its labels; expected mrmyo's own for "
                                    "probabilities, several passes or several contrasts.")
        return [label_with(volume, canonical, model, progress), None, None]
    stacks = [np.clip(np.moveaxis(one.array.astype(np.float32), 2, 0), 0, None) for one in (canonical, *others)]
    stack = stacks[0]  # slices first
    spacing = canonical.spacing_mm[:2]
    body = find_body(stack, spacing)
    sides = find_sides(body, canonical)
    smallest = model.card.get("input", {}).get("smallest_crop", SMALLEST)
    jobs = plan(body, sides, find_centres(body, sides, spacing), spacing, smallest=smallest)
    found = run_network(model.network, stacks, spacing, jobs, sides, passes=passes, maps=maps, progress=progress)
    labels, scope = found.labels, found.scope
    check_thighs(model.network, stack, spacing, jobs, found)
    for side, out in left_empty(scope).items():
        labels[out] = np.where(_of_side(labels[out], side), 0, labels[out])
    for side in sides:
        _clean(labels, side)
    notes = [note for note in [stack_note(labels, canonical.spacing_mm[2])] if note]
    rows = describe(labels, spacing, scope, found.features, side_source(canonical, sides), formula=model.formula,
                    notes=notes)
    arrays = [None if array is None else _back(volume, canonical, np.moveaxis(array, 0, 2))
              for array in (labels, found.probability, found.entropy)]
    meta = {**volume.meta, KEY: _numbered(volume, canonical, rows)}
    return [None if array is None else volume.with_array(array, echo_times_ms=None, meta=known)
            for array, known in zip(arrays, (meta, volume.meta, volume.meta), strict=True)]


def _on_grid_of(volume, other):
    """Another contrast in the axis order of the first; an error where it is no image on the same grid."""
    other = in_axis_order_of(other, volume)
    if not same_grid(other, volume):
        shapes = [" × ".join(map(str, one.shape)) for one in (other, volume)]
        raise SegmentationError(f"Found another contrast of {shapes[0]} voxels that does not lie on the image of "
                                f"{shapes[1]}; expected the same grid. Leave it out, or resample it first.")
    try:
        check_image(other, to_canonical(other))
    except SegmentationError as error:
        raise SegmentationError(f"Another contrast beside the image cannot be used: {error} Or leave it out (in a "
                                "settings file: segment_beside = []).") from error
    return other


def _of_side(labels, side):
    """Where labels are of one side."""
    right = ((labels > RIGHT_OFFSET) & (labels <= RIGHT_OFFSET + len(MUSCLES))) | (labels == FEMUR["right"])
    return right if side == "right" else ~right


def _axes_of(volume, canonical):
    """Which canonical axis each axis of the input runs along, and which of the input's run backwards."""
    index = np.linalg.inv(canonical.affine) @ volume.affine
    axes = np.abs(index[:3, :3]).argmax(0)
    return axes, [axis for axis in range(3) if index[axes[axis], axis] < 0]


def _back(volume, canonical, array):
    """Undo `to_canonical`: the same voxels in the axis order of the input."""
    axes, flipped = _axes_of(volume, canonical)
    return np.ascontiguousarray(np.flip(np.transpose(array, axes), flipped))


def _numbered(volume, canonical, rows):
    """The rows with the numbers that the slices have in the input."""
    axes, flipped = _axes_of(volume, canonical)
    if list(axes).index(2) not in flipped:
        return rows
    last = canonical.shape[2] - 1
    return [{**row, "slice": last - row["slice"]} for row in reversed(rows)]


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
        # what lies nearest lies in the box of the islands or next to it
        rows, columns = (np.flatnonzero(islands[k].any(axis)) for axis in (1, 0))
        box = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
        nearest = ndimage.distance_transform_edt(islands[k][box], return_distances=False, return_indices=True)
        labels[k][box] = labels[k][box][tuple(nearest)]
