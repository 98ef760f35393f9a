"""Training images to look at: what the network was shown, what it makes of them, and what fat costs.

The images are those of :mod:`mrmyo.training_images`; but anatomy and contrast are drawn from two seeds here, so that a
thigh can keep its form while its contrast changes. PyTorch is imported when the first image is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrmyo.labels import FEMUR, MUSCLES
from mrmyo.measure import dice
from mrmyo.segmentation import N_CLASSES, PIXEL_MM, Model, load_model

__all__ = ["Gallery", "draw_contrasts", "draw_gallery", "gallery_library", "name_muscles", "score_gallery"]

APART_MM = 40.0  # sections this far apart are not interpolated between, which would take most of the time
LEAST_CM2 = 1.0
BATCH = 8


@dataclass(frozen=True)
class Gallery:
    """Training images with what is known of them.

    Attributes
    ----------
    images : numpy.ndarray
        (n, 192, 192) float32 at 1.25 mm, x medially and y forwards, normalised.
    labels : numpy.ndarray
        (n, 192, 192) uint8: values of `mrmyo.label_table` of a left thigh; 0 throughout where there is no thigh.
    fat : numpy.ndarray
        (n, 13) share of fat, 0 to 1, in each muscle; NaN where the section does not meet the muscle.
    kind : tuple of str
        Where each section is from: "map", "parametric" or "negative" (no thigh).
    """

    images: np.ndarray
    labels: np.ndarray
    fat: np.ndarray
    kind: tuple[str, ...]


def gallery_library(label_maps=None, *, maps=3, parametric=8, negatives=12, seed=0):
    """A few sections of each kind that training draws from.

    Parameters
    ----------
    label_maps : path, optional
        Folder of public label maps; without it the parametric anatomy and what is no thigh are all there is.
    maps : int
        How many of the label maps, spread over the folder; some sections of both thighs of each.
    parametric, negatives : int
        How many of each.
    seed : int

    Returns
    -------
    mrmyo.training_anatomy.Library

    Raises
    ------
    ValueError
        When the folder holds no label map.
    """
    from mrmyo.training_anatomy import build_library
    from mrmyo.training_maps import read_stacks

    stacks = [] if label_maps is None else [_thin(stack) for stack in read_stacks(label_maps, most=maps)]
    return build_library(stacks, seed=seed, parametric=parametric, negatives=negatives, workers=1, progress=False)


def _thin(stack):
    """The sections of a stack that lie at least `APART_MM` apart."""
    kept = [0]
    for k in range(1, len(stack.z_mm)):
        if stack.z_mm[k] - stack.z_mm[kept[-1]] >= APART_MM:
            kept.append(k)
    return replace(stack, labels=stack.labels[kept], z_mm=stack.z_mm[kept], level=stack.level[kept])


def draw_gallery(library, *, kind=None, n=12, anatomy=0, contrast=0, deform=1.0) -> Gallery:
    """Different sections, each in a contrast of its own.

    Parameters
    ----------
    library : Library
    kind : "map", "parametric" or "negative", optional
        Only sections of this kind; all kinds but "negative" when None.
    n : int
        How many images; a section may come twice where the library has fewer.
    anatomy : int
        Seed of the sections that are picked, of their deformation and of their disease.
    contrast : int
        Seed of everything about the image: weights of the tissues, phase of fat, coil, noise, what lies beside.
    deform : float
        0 shows the anatomy as it is in the library, 1 deformed as in training.

    Returns
    -------
    Gallery

    Raises
    ------
    ValueError
        When the library has no section of this kind.
    """
    from mrmyo.training_anatomy import KINDS

    if kind is not None and kind not in KINDS:
        raise ValueError(f"Found kind={kind!r}; expected one of {', '.join(map(repr, KINDS))}, or None.")
    wanted = (0, 1) if kind is None else (KINDS.index(kind),)
    among = np.flatnonzero(np.isin(library.kind, wanted))
    if not among.size:
        raise ValueError(f"Found no section of the kind {kind or 'map or parametric'} in this library; "
                         "build one that has some, or ask for another kind.")
    rng = np.random.default_rng([anatomy, 77])
    picked = rng.permutation(among)[:n] if n <= among.size else rng.choice(among, n)
    return _show(library, picked, _scene(library, picked, anatomy, deform), contrast)


def draw_contrasts(library, section, *, n=12, anatomy=0, contrast=0, deform=1.0) -> Gallery:
    """One section, deformed and diseased in one way, in many contrasts.

    Parameters
    ----------
    library : Library
    section : int
        Its index in the library.
    n, anatomy, contrast, deform
        As for :func:`draw_gallery`.

    Returns
    -------
    Gallery
    """
    from dataclasses import fields

    picked = np.array([section])
    scene = _scene(library, picked, anatomy, deform)
    repeated = {f.name: getattr(scene, f.name).expand(n, *getattr(scene, f.name).shape[1:]) for f in fields(scene)}
    return _show(library, np.repeat(picked, n), type(scene)(**repeated), contrast)


def _scene(library, picked, anatomy, deform):
    import torch

    from mrmyo.training_images import take_fields
    from mrmyo.training_scenes import Dice, draw_scene

    dice_ = Dice(anatomy, len(picked), torch.device("cpu"))
    with torch.no_grad():
        return draw_scene(dice_, take_fields(library, picked), deform=deform)


def _show(library, picked, scene, contrast):
    import torch

    from mrmyo.training_anatomy import KINDS
    from mrmyo.training_images import show
    from mrmyo.training_scenes import Dice

    negative = torch.as_tensor(library.kind[picked] == KINDS.index("negative"))
    high = torch.as_tensor(library.level[picked] > 1.4) | negative
    with torch.no_grad():
        images, labels, _, _ = show(Dice(contrast, len(picked), torch.device("cpu")), scene, negative, high)
    labels = labels.numpy()
    return Gallery(images[:, 0].numpy(), _values(labels), _fat_share(scene.fat.numpy(), labels),
                   tuple(KINDS[k] for k in library.kind[picked]))


def _values(classes):
    """Classes of the network (0 to 14) as values of a left thigh."""
    classes = np.asarray(classes).astype(np.uint8)
    return np.where(classes == N_CLASSES - 1, np.uint8(FEMUR["left"]), classes)


def _fat_share(fat, labels):
    share = np.full((len(labels), len(MUSCLES)), np.nan)
    for i, (amount, named) in enumerate(zip(fat, labels, strict=True)):
        for m in range(len(MUSCLES)):
            if (named == m + 1).any():
                share[i, m] = amount[named == m + 1].mean()
    return share


def name_muscles(images, *, model=None):
    """What the network makes of images that are already cut out and normalised, such as those of a `Gallery`.

    Parameters
    ----------
    images : array, (n, 192, 192)
    model : path, Model or None
        As for `mrmyo.segment`.

    Returns
    -------
    labels : numpy.ndarray
        (n, 192, 192) uint8, values of a left thigh; before anything is left empty or cleaned.
    scope : numpy.ndarray
        (n,) how likely each shows a section through a thigh.
    """
    import torch

    network = (model if isinstance(model, Model) else load_model(model)).network
    labels, scope = [], []
    for start in range(0, len(images), BATCH):
        batch = torch.as_tensor(np.asarray(images[start:start + BATCH], np.float32))[:, None]
        with torch.inference_mode():
            if hasattr(network, "probabilities"):
                probability, in_scope = network.probabilities(batch.to(memory_format=torch.channels_last))
            else:  # a plain V-Net does not tell
                probability, in_scope = network(batch).softmax(1), torch.ones(len(batch))
        labels.append(_values(probability.argmax(1).numpy()))
        scope.append(in_scope.numpy())
    return np.concatenate(labels), np.concatenate(scope)


def score_gallery(drawn: Gallery, labels):
    """Dice of every muscle in every image, beside the share of fat in it.

    Parameters
    ----------
    drawn : Gallery
    labels : array, (n, 192, 192)
        From :func:`name_muscles`.

    Returns
    -------
    pandas.DataFrame
        ``image``, ``kind``, ``muscle``, ``abbreviation``, ``fat_percent``, ``area_cm2`` and ``dice``; muscles of less
        than 1 cm² in the section are left out.
    """
    import pandas as pd

    rows = []
    for i, (truth, found) in enumerate(zip(drawn.labels, labels, strict=True)):
        for value, (name, short, _) in enumerate(MUSCLES, start=1):
            area = (truth == value).sum() * PIXEL_MM**2 / 100
            if area >= LEAST_CM2:
                rows.append({"image": i, "kind": drawn.kind[i], "muscle": name, "abbreviation": short,
                             "fat_percent": 100 * drawn.fat[i, value - 1], "area_cm2": area,
                             "dice": dice(found == value, truth == value)})
    return pd.DataFrame(rows)
