"""Lets a lab's own model take the place of ours in `mrmyo.segment`: TorchScript, a MONAI network, or a command.

A small file describes the model (:mod:`mrmyo.segmentation_description`, `docs/other_models.md`): which grid,
orientation and normalisation it wants, whether it sees both thighs or one left thigh at a time, and what its answers
mean. The image is brought to it, its answer is brought back and checked.

**What is safe.** A safetensors file holds numbers alone. A TorchScript file is a program: it cannot call Python, but
operators of PyTorch can read and write files (`torch.save` among them); archives whose code names one of those are
refused, which is a check and no guarantee. A pickle is never opened. A command is a program with all your rights. Take
descriptions and TorchScript from people you trust, like any program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mrmyo.labels import is_muscle, label_table, mirror
from mrmyo.progress import track
from mrmyo.segmentation_description import LEFT, Description, description_hash, is_description, read_description
from mrmyo.segmentation_runners import make_runner
from mrmyo.segmentation_sides import SegmentationError, find_body, find_centres, find_sides
from mrmyo.volume import Volume, in_axis_order_of

__all__ = ["OtherModel", "description_hash", "is_description", "label_with", "load_description", "told_of"]

BATCH = 8
ACROSS_MM = 15.0  # how far past the valley between the thighs a muscle may reach
MOST_ASTRAY = 0.1  # of the muscle may bear the name of the other side


@dataclass(frozen=True)
class OtherModel:
    """A lab's own model, ready for use: what its file says of it, how to run it, and a hash for provenance."""

    description: Description
    run: Callable
    hash: str

    @property
    def card(self) -> dict:
        """All that the description says, and name, version, license and kind for provenance."""
        return asdict(self.description)


@dataclass(frozen=True)
class _Block:
    """What the model sees at a time: the place (mm from the first voxel) of its voxels along x, y and z."""

    side: str | None  # None: both thighs
    at: tuple
    slices: range  # of the image, that the answer is for


def load_description(path) -> OtherModel:
    """Read a model description and load its model; it is kept, and loaded again only when a file has changed.

    Raises
    ------
    SegmentationError
        When the description or the weights are not what they should be (see `read_description`).
    """
    return _load(Path(path).resolve(), description_hash(path))


@lru_cache(maxsize=4)
def _load(path, digest):
    description = read_description(path)
    return OtherModel(description, make_runner(description), digest)


def told_of(path) -> dict:
    """Name, version, license, kind and hash of a described model, for the provenance of what it drew."""
    description = read_description(path)
    return {"hash": description_hash(path), **{key: getattr(description, key)
                                               for key in ("name", "version", "license", "kind")}}


def label_with(volume: Volume, canonical: Volume, model: OtherModel, progress=True) -> Volume:
    """Label the thighs of an image with a lab's own model; `mrmyo.segment` has checked the image.

    Parameters
    ----------
    volume, canonical : Volume
        The image, and the same from `to_canonical`.
    model : OtherModel
    progress : bool

    Returns
    -------
    Volume
        uint8 values of `mrmyo.label_table` on the grid of `volume`. Labels that name no side get the side of the valley
        between the thighs on which they lie. Nothing is cleaned, and no slice is left empty: that is the model's own
        affair. There is no `slice_quality` of them.

    Raises
    ------
    SegmentationError
        When the model fails, answers on another grid or with unknown values, finds no muscle, or names left what lies
        on the right.
    """
    description, spacing = model.description, canonical.spacing_mm
    stack = np.clip(np.moveaxis(canonical.array.astype(np.float32), 2, 0), 0, None)
    body = find_body(stack, spacing[:2])
    sides = find_sides(body, canonical)
    centres = find_centres(body, sides, spacing[:2])
    steps = _steps(description, spacing)
    blocks = _blocks(description, canonical, centres, steps)
    found = np.zeros(canonical.shape, np.uint8)  # position in description.labels
    best = np.zeros(canonical.shape, np.float32)
    right = _right_half(sides, canonical.shape)
    if description.sees == LEFT:
        right[:] = False  # a muscle may reach across the valley; each thigh says what is its own
    size = BATCH if description.dimension == 2 else 1
    for start in track(range(0, len(blocks), size), label="Segmenting", show=progress):
        group = blocks[start:start + size]
        cuts = [_cut(canonical, block, steps) for block in group]
        turned = [in_axis_order_of(cut, _oriented(description.orientation)) for cut in cuts]
        for block, cut, answer in zip(group, cuts, model.run(turned), strict=True):
            _paste((found, best, right), in_axis_order_of(answer, cut).array, block, spacing, steps, sides,
                   len(description.labels))
    labels = _values(description)[found, right.astype(int)]
    _check(description, labels, right, sides, spacing)
    out = in_axis_order_of(canonical.with_array(labels), volume)
    meta = {key: value for key, value in volume.meta.items() if key != "slice_quality"}
    return volume.with_array(np.ascontiguousarray(out.array), echo_times_ms=None, meta=meta)


def _oriented(codes):
    """A volume with the axes that the letters name, to be turned like."""
    import nibabel

    return Volume(np.zeros((2, 2, 2)), nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"),
                                            nibabel.orientations.axcodes2ornt(codes)), (2, 2, 2)))


def _steps(description, spacing):
    """Spacing in mm of what the model sees, along x, y and z."""
    steps = np.array(spacing, float)
    axes = [{"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}[letter] for letter in description.orientation]
    for axis, step in zip(axes, description.spacing_mm or (), strict=False):
        steps[axis] = step
    return steps


def _whole(n, step, new):
    """Places, `new` mm apart, that fill a line of n voxels from the middle outwards."""
    if new == step:
        return step * np.arange(n)
    m = max(round(n * step / new), 1)
    return (n - 1) / 2 * step + (np.arange(m) - (m - 1) / 2) * new


def _around(centre, step, new, length):
    """Places, `new` mm apart, of a crop of that length; on the voxels themselves where they are as far apart."""
    m = max(round(length / new), 1)
    if new == step:
        return step * (round(centre / step - (m - 1) / 2) + np.arange(m))
    return centre + (np.arange(m) - (m - 1) / 2) * new


def _blocks(description, canonical, centres, steps):
    """All that the model will see: each slice or the whole stack, of both thighs or of each."""
    spacing, (nx, ny, nz) = canonical.spacing_mm, canonical.shape
    depths = [(range(nz), _whole(nz, spacing[2], steps[2]))]
    if description.dimension == 2:
        depths = [(range(k, k + 1), spacing[2] * np.arange(k, k + 1)) for k in range(nz)]
    blocks = []
    for slices, z in depths:
        if description.sees != LEFT:
            at = (_whole(nx, spacing[0], steps[0]), _whole(ny, spacing[1], steps[1]), z)
            blocks.append(_Block(None, at, slices))
            continue
        for side, middle in centres.items():
            x, y = middle[slices.start:slices.stop].mean(0)
            at = (_around(x, spacing[0], steps[0], description.crop_mm),
                  _around(y, spacing[1], steps[1], description.crop_mm), z)
            blocks.append(_Block(side, at, slices))
    return blocks


def _line(places, n, step, new):
    """(len(places), n) weights that sample a line of n points, `step` apart, at places that are `new` apart.

    A triangle as wide as the coarser of the two: linear interpolation towards finer ones, smoothing towards coarser.
    Places outside the line get zero.
    """
    weights = np.clip(1 - np.abs(places[:, None] - step * np.arange(n)) / max(step, new), 0, None)
    inside = (places >= -0.5001 * step) & (places <= (n - 0.4999) * step)
    return (weights * inside[:, None] / np.maximum(weights.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def _cut(canonical, block, steps):
    """What the model sees of an image, in RAS order; a right thigh mirrored, and as if it stood in the middle."""
    image, spacing = canonical.array, canonical.spacing_mm
    for axis in (2, 1, 0):
        weights = _line(block.at[axis], image.shape[axis], spacing[axis], steps[axis])
        (used,) = np.nonzero(weights.any(0))
        image = np.take(image, used, axis).astype(np.float32, copy=False)
        image = np.moveaxis(np.tensordot(weights[:, used], image, (1, axis)), 0, axis)
    affine = np.diag([*steps, 1.0])
    if block.side is None:
        affine[:3, :3] = canonical.affine[:3, :3] / spacing * steps
        affine[:3, 3] = (canonical.affine @ [*(at[0] / s for at, s in zip(block.at, spacing, strict=True)), 1.0])[:3]
    else:
        affine[:3, 3] = [-(len(at) - 1) / 2 * step for at, step in zip(block.at, steps, strict=True)]
    return Volume(np.ascontiguousarray(image[::-1] if block.side == "right" else image), affine)


def _paste(into, answer, block, spacing, steps, sides, n_classes):
    """Bring an answer, probabilities or classes, back to the image: its likeliest class where it is the surest."""
    found, best, right = into
    answer = answer[::-1] if block.side == "right" else answer
    back = [_line(s * np.arange(n) - at[0], len(at), step, s)
            for n, at, s, step in zip(found.shape, block.at, spacing, steps, strict=True)]
    (rows,), (columns,) = (np.nonzero(weights.any(1)) for weights in back[:2])
    if not rows.size or not columns.size:
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    for k in block.slices:
        (used,) = np.nonzero(back[2][k])
        part = answer[:, :, used]
        if part.ndim == 3:  # classes
            part = part[..., None] == np.arange(n_classes)
        part = np.moveaxis(np.tensordot(part.astype(np.float32), back[2][k, used], (2, 0)), -1, 0)
        fine = back[0][box[0]] @ part @ back[1][box[1]].T
        winner, sure = fine.argmax(0), fine.sum(0) - fine[0]
        here = (*box, k)
        wins = (winner > 0) & (sure > best[here])
        if block.side is not None:
            low, high = sides[block.side][k]
            across = ACROSS_MM / spacing[0]
            column = np.arange(box[0].start, box[0].stop)
            wins &= ((column >= low - across) & (column < high + across))[:, None]
            sure = sure + 1e-3 * ((column >= low) & (column < high))[:, None]  # where both are as sure
            wins &= sure > best[here]
            right[here] = np.where(wins, block.side == "right", right[here])
        found[here] = np.where(wins, winner, found[here])
        best[here] = np.where(wins, sure, best[here])


def _right_half(sides, shape):
    """(x, y, slice): what lies on the right of the valley between the thighs, or belongs to a right thigh alone."""
    right = np.zeros(shape, bool)
    if "right" in sides:
        low = sides["right"][:, 0]
        right[:] = (np.arange(shape[0])[:, None] >= low)[:, None]
    return right


def _values(description):
    """(classes, 2) values of `mrmyo.label_table` for what lies on the left and on the right."""
    table = label_table()
    values = np.zeros((len(description.labels), 2), np.uint8)
    for row, (_, label) in zip(values, description.labels, strict=True):
        if isinstance(label, str):
            row[:] = [table.value[(table.abbreviation == label) & (table.side == side)].iloc[0]
                      for side in ("left", "right")]
        else:
            row[:] = label
            if description.sees == LEFT and label:
                row[1] = mirror(np.array(label, np.uint8))
    return values


def _check(description, labels, right, sides, spacing):
    """Refuse an answer without muscle, and one that names left what the geometry knows to be right."""
    if not is_muscle(labels).any():
        raise SegmentationError(f"{description.name} found no muscle in any of {labels.shape[2]} slices. Check the "
                                f"orientation ({description.orientation}), spacing and normalisation "
                                f"({description.normalise}) that its description states.")
    sided = [label for _, label in description.labels if not isinstance(label, str) and label]
    if description.sees == LEFT or not sided:
        return  # the sides come from the geometry
    reach = round(ACROSS_MM / spacing[0])
    inner = {"right": right, "left": ~right}
    if len(sides) == 2:  # well beyond the valley
        inner = {"right": right & np.roll(right, reach, 0), "left": ~right & ~np.roll(right, -reach, 0)}
    table = label_table()
    side_of = dict(zip(table.value, table.side, strict=True))
    named = {side: np.isin(labels, [v for v in sided if side_of[v] == side]) for side in ("left", "right")}
    astray = sum((named[a] & inner[b]).sum() for a, b in (("left", "right"), ("right", "left")))
    share = astray / max(sum(mask.sum() for mask in named.values()), 1)
    if share > MOST_ASTRAY:
        raise SegmentationError(f"{description.name} names the other side in {share:.0%} of its voxels: what lies "
                                "in the left thigh bears right labels, or the reverse. Check the orientation that its "
                                f"description states ({description.orientation}; left is the patient's left), or map "
                                "its labels to abbreviations, whose side follows the geometry.")
