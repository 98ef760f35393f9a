"""Random-contrast images of random thighs, many at a time and on any device, for :mod:`mrmyo.training`.

The scenes of :mod:`mrmyo.training_scenes` are shown through the complex water–fat model |W + exp(iφ) F| with random
properties of every tissue: T1- and T2-weighted, in and out of phase, water, fat, fat-suppressed. Then come the other
thigh or an arm, the shading of a surface coil, resolution, noise, ghosts, wrap and metal.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from mrmyo.labels import MUSCLES
from mrmyo.segmentation import PIXEL_MM
from mrmyo.training_anatomy import UNITS_MM
from mrmyo.training_blends import blend, find_partners
from mrmyo.training_scenes import SIZE, TISSUES, Dice, draw_scene, grid_mm, place, smooth_noise

__all__ = ["draw_batch", "normalise_batch", "show", "take_fields"]

SKIN, SUBCUTANEOUS, FASCIA, MUSCLE, INTERMUSCULAR, CORTEX, MARROW, VESSEL = range(len(TISSUES))
SHARE = {"map": 0.72, "parametric": 0.16, "negative": 0.12}
PHASES = (0.6, 0.23)  # shares of the images whose fat is in phase and opposed; the rest lies between


def draw_batch(library, seed, step, batch_size, *, device="cpu", deform=1.0, blended=False, among=None):
    """The images, labels and scope of one training step, whoever asks.

    Parameters
    ----------
    library : Library
    seed, step, batch_size : int
        The batch follows from them (and, in the last digits, from the kind of device).
    device : str or torch.device
    deform : float
        0 shows the anatomy as it is, for validation.
    blended : bool
        Most thighs lie between those of two people (:mod:`mrmyo.training_blends`).
    among : array of int, optional
        Take only these sections, all as likely.

    Returns
    -------
    images : torch.Tensor
        (n, 1, 192, 192) at 1.25 mm, x medially and y forwards, normalised as at inference.
    labels : torch.Tensor
        (n, 192, 192) int64: 0 background, 1–13 muscles, 14 femur. Of the other thigh nothing is labelled.
    tissue : torch.Tensor
        (n, 192, 192) int64: 0 air, 1 muscle, 2 bone, 3 fat and whatever else is inside the body; -100, which the loss
        leaves out, in the bellies of what is no thigh: they are muscle, but none that has a name here.
    scope : torch.Tensor
        (n,) 1 for a thigh, 0 for what is none.
    """
    rng = np.random.default_rng([seed, step])
    picked = _pick(library, rng, batch_size) if among is None else rng.choice(among, batch_size)
    order = np.sort(picked)
    fields = take_fields(library, order, device)
    negative = torch.as_tensor(library.kind[order] == 2, device=device)
    dice = Dice(int(rng.integers(2**62)), batch_size, torch.device(device))
    with torch.no_grad():
        if blended:
            fields = blend(dice, fields, take_fields(library, find_partners(library, order, rng), device))
        scene = draw_scene(dice, fields, deform=deform)
        high = torch.as_tensor(library.level[order] > 1.4, device=device) | negative
        return show(dice, scene, negative, high)


def take_fields(library, order, device="cpu"):
    """The fields (n, 15, x, y) of some sections of a library, in mm, on a device."""
    fields = library.fields[order if isinstance(library.fields, np.ndarray) else torch.as_tensor(order, device=device)]
    return torch.as_tensor(fields).to(device).float() * torch.as_tensor(UNITS_MM, device=device)[:, None, None]


def _pick(library, rng, n):
    """Indices of sections: kinds by their shares, among maps every stack as likely as any other."""
    present = [k for k in range(3) if (library.kind == k).any()]
    share = np.array(list(SHARE.values()))[present]
    kinds = rng.choice(present, n, p=share / share.sum())
    stacks = np.unique(library.stack[library.kind == 0])
    return np.array([rng.choice(np.flatnonzero(library.stack == rng.choice(stacks)) if k == 0
                                else np.flatnonzero(library.kind == k)) for k in kinds])


def show(dice, scene, negative, high):
    """Images, labels, tissue and scope of a batch of scenes, `high` ones near the hip; see `draw_batch`."""
    water, fat = _signals(dice, scene)
    labels = torch.where(negative[:, None, None], 0, scene.labels)
    tissue = torch.where(scene.body > 0.5, 3, 0)
    tissue = torch.where((labels > 0) & (labels <= len(MUSCLES)), 1, tissue)
    tissue = torch.where(labels > len(MUSCLES), 2, tissue)
    tissue = torch.where(negative[:, None, None] & (scene.labels > 0), -100, tissue)
    water, fat, body = _neighbour(dice, water, fat, scene.body)
    water, fat, body = _pelvis(dice, water, fat, body, high)
    tissue = torch.where((body > 0.5) & (tissue == 0), 3, tissue)
    hidden = _hidden(dice)
    water, fat = water * ~hidden, fat * ~hidden
    labels, tissue = torch.where(hidden, 0, labels), torch.where(hidden, 0, tissue)
    return normalise_batch(_acquire(dice, water, fat))[:, None], labels, tissue, (~negative).float()


def _signals(dice, scene):
    """Water and fat signal (n, x, y) with a random weight of every tissue; that of healthy muscle is near 1."""
    u, one = dice.uniform, (1, 1)
    zero = torch.zeros(dice.n, device=dice.device)
    rare = dice.chance(0.6).float()
    water = torch.stack([u(0.4, 1.5), u(0.03, 0.25), u(0.05, 0.8), zero + 1, u(0.03, 0.3), u(0, 0.08), u(0.02, 0.3),
                         u(0, 1.2) + rare * u(0, 2.2)], 1)
    bright = dice.log_uniform(0.4, 6.0, 1)  # fat against muscle, T1w to a late echo
    share = torch.tensor([0.1, 0.95, 0.1, 0.0, 0.92, 0.0, 0.95, 0.0], device=dice.device)
    fats = bright * share * torch.exp(0.08 * dice.normal(len(TISSUES)))
    mode = dice.uniform(0, 1, 1)
    suppressed, only_fat, any_ = mode < 0.28, (mode >= 0.28) & (mode < 0.41), (mode >= 0.41) & (mode < 0.45)
    fats = torch.where(suppressed, fats / bright * u(0, 0.45, 1), fats)
    water = torch.where(only_fat, water * u(0, 0.15, 1), water)
    water = torch.where(any_, torch.exp(0.8 * dice.normal(len(TISSUES))), water)
    bright = torch.where(suppressed, u(0, 0.45, 1), bright)
    gain = torch.exp(torch.where(dice.chance(0.5, 1), 0.03, 0.15) * dice.normal(len(MUSCLES)))
    swelling = torch.where(dice.chance(0.5), u(-0.2, 0.4), u(0.2, 1.8)).view(-1, *one)
    gain = torch.take_along_dim(gain[..., None, None], scene.name[:, None], 1)[:, 0]
    muscle = scene.shares[:, MUSCLE]
    lean = muscle * (1 - scene.fat) * gain * (1 + swelling * scene.oedema)
    water_image = torch.einsum("nc,ncxy->nxy", water, scene.shares) + water[:, MUSCLE, None, None] * (lean - muscle)
    lobules = 1 + u(0, 0.12, *one) * smooth_noise(dice, 1, (48, 60))[:, 0]
    fat_image = torch.einsum("nc,ncxy->nxy", fats, scene.shares) * lobules + bright[..., None] * muscle * scene.fat
    # subcutaneous oedema: reticular water in the fat; fascial oedema: water along the fascia
    wet = torch.sigmoid(6 * (smooth_noise(dice, 1, 40)[:, 0] - u(0.3, 2.0, *one))) * dice.chance(0.2, *one)
    along = torch.exp(-scene.depth.abs() / u(1.5, 5, *one)) * dice.chance(0.15, *one) * (1 - muscle) * scene.body
    return water_image + u(0.2, 1.2, *one) * (wet * scene.shares[:, SUBCUTANEOUS] + along), fat_image


def _neighbour(dice, water, fat, body):
    """The other thigh, mirrored, beside this one, or an arm: its signals where this one has none."""
    dev = dice.device
    line = grid_mm(dev)[:, 0, 0]
    solid = (body > 0.5).any(2)
    far = [torch.where(solid, line, -1e3).amax(1), torch.where(solid, line, 1e3).amin(1)]
    reach = (far[0] - far[1]).clamp_min(0)
    thigh, arm = dice.chance(0.65), dice.chance(0.12)
    gap = torch.where(dice.chance(0.6), dice.uniform(-6, 10), dice.uniform(0, 70))
    scale = torch.where(thigh, torch.ones_like(reach), dice.uniform(2.5, 4))
    middle = 0.5 * (far[0] + far[1])
    medial = far[0] + gap + 0.5 * reach
    lateral = far[1] - dice.uniform(0, 25) - 0.5 * reach / scale
    height = 6 * dice.normal() + torch.where(thigh, 0, 25 * dice.normal())
    centre = torch.stack([torch.where(thigh, medial, lateral), height], 1)
    matrix = place(dice, turn=0.12, stretch=0.04) * scale[:, None, None]
    at = torch.einsum("nab,nxyb->nxya", matrix, grid_mm(dev) - centre[:, None, None])
    at = at * torch.tensor([-1.0, 1.0], device=dev) + torch.stack([middle, torch.zeros_like(middle)], 1)[:, None, None]
    other = functional.grid_sample(torch.stack([water, fat, body], 1), at.flip(-1) / (SIZE * PIXEL_MM / 2),
                                   mode="bilinear", padding_mode="zeros", align_corners=False)
    free = (1 - body) * (thigh | arm).view(-1, 1, 1)
    return water + free * other[:, 0], fat + free * other[:, 1], torch.maximum(body, free * other[:, 2])


def _pelvis(dice, water, fat, body, high):
    """Near the hip the body goes on medially and behind: fat, muscles that have no name here, bone."""
    at = grid_mm(dice.device)
    there = dice.chance(torch.where(high, 0.55, 0.02)).view(-1, 1, 1)
    wave = 8 * smooth_noise(dice, 2, 5)
    band = torch.minimum(at[..., 0] - dice.uniform(-5, 40, 1, 1), dice.uniform(50, 95, 1, 1) - (
        at[..., 1] - dice.uniform(-20, 15, 1, 1) + wave[:, 0]).abs())
    more = torch.where(there, (0.5 + band / PIXEL_MM).clamp(0, 1), 0.0) * (1 - body)
    cells = smooth_noise(dice, 2, 14)
    belly = torch.sigmoid(10 * (cells[:, 0] - dice.uniform(-0.8, 0.8, 1, 1)))
    bone = torch.sigmoid(10 * (smooth_noise(dice, 1, 7)[:, 0] - dice.uniform(0.8, 2.5, 1, 1)))
    rim = 1 - 4 * (bone - 0.5).square()
    # as bright as the water and the fat of the thigh
    inside = body.sum((1, 2)).clamp_min(1)
    levels = [((part.square() * body).sum((1, 2)) / inside).sqrt()[:, None, None] * 1.3 for part in (water, fat)]
    wet = (belly * (1 - bone) * dice.uniform(0.3, 1, 1, 1) * (1 + 0.3 * cells[:, 1])).clamp_min(0)
    return (water + more * levels[0] * wet, fat + more * levels[1] * (1 - belly * (1 - bone)) * (1 - rim),
            torch.maximum(body, more))


def _hidden(dice):
    """Where nothing is seen: beyond the field of view, or in the void that metal leaves."""
    at = grid_mm(dice.device)
    side = torch.where(dice.chance(0.5), 1.0, -1.0).view(-1, 1, 1)
    along = torch.where(dice.chance(0.5, 1, 1), at[..., 0], at[..., 1]) * side
    cut = (along > dice.uniform(25, 95, 1, 1)) & dice.chance(0.07, 1, 1)
    spot = 35 * dice.normal(2)
    r = ((at - spot[:, None, None]) * torch.exp(0.2 * dice.normal(1, 1, 2))).norm(dim=-1)
    return cut | ((r < dice.uniform(6, 30, 1, 1)) & dice.chance(0.03, 1, 1))


def _blur(images, sigma):
    """Gaussian blur of images (n, c, x, y) by sigma (n, 2) in pixels."""
    n = len(images)
    reach = torch.arange(-4, 5, device=images.device)
    kernel = torch.exp(-0.5 * (reach / sigma.clamp_min(0.05)[..., None]) ** 2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    flat = functional.pad(images.transpose(0, 1), (4, 4, 4, 4), mode="reflect")
    flat = functional.conv2d(flat, kernel[:, 0].view(n, 1, 9, 1), groups=n)
    return functional.conv2d(flat, kernel[:, 1].view(n, 1, 1, 9), groups=n).transpose(0, 1)


def _bias(dice):
    """The coil's sensitivity: smooth, and bright near an element that lies close by."""
    at = grid_mm(dice.device) / (SIZE * PIXEL_MM / 2)
    slope = (at * 0.25 * dice.normal(1, 1, 2)).sum(-1) + smooth_noise(dice, 1, 4)[:, 0] * dice.uniform(0, 0.22, 1, 1)
    spot = dice.uniform(-1.1, 1.1, 1, 1, 2)
    near = torch.exp(-(at - spot).square().sum(-1) / dice.uniform(0.1, 0.6, 1, 1))
    return torch.exp(slope + dice.chance(0.35, 1, 1) * dice.uniform(0.3, 1.6, 1, 1) * near)


def _acquire(dice, water, fat):
    """The magnitude image: echo phase, coil, resolution, ghosts and wrap, complex noise."""
    mode = dice.uniform(0, 1, 1, 1)
    between = dice.uniform(0, torch.pi, 1, 1)
    phase = torch.where(mode < PHASES[0], 0.0, torch.where(mode < sum(PHASES), torch.pi, between))
    phase = phase + 0.2 * smooth_noise(dice, 1, 4)[:, 0]
    bias = _bias(dice)
    parts = torch.stack([water + fat * phase.cos(), fat * phase.sin()], 1) * bias[:, None]
    total = (water + fat) * bias
    level = total.sum((1, 2)) / (total > 0.05).sum((1, 2)).clamp_min(1)
    fwhm = dice.uniform(0.7, 1.7, 1) * torch.where(dice.chance(0.33, 2), 1.67, 1.0)
    sigma = (fwhm.square() - 0.64).clamp_min(0).sqrt() / 2.355 / PIXEL_MM * dice.uniform(0.7, 1.4, 1)
    noise = dice.normal(2, SIZE, SIZE)
    both = _blur(torch.cat([parts, noise], 1), torch.maximum(sigma, 0.25 * torch.ones_like(sigma)))
    speckle = both[:, 2:] / both[:, 2:].std((1, 2, 3), keepdim=True)
    parts = both[:, :2] + _ghosts(dice, both[:, :2])
    image = (parts + (level / dice.log_uniform(5, 100))[:, None, None, None] * speckle).square().sum(1).sqrt()
    peak = image.amax((1, 2), keepdim=True).clamp_min(1e-6)
    return (image / peak) ** torch.exp(0.15 * dice.normal(1, 1))


def _ghosts(dice, parts):
    """Shifted copies along one axis: faint ones from motion, or what wraps round from beyond the field of view."""
    ghost, wrap = dice.chance(0.08), dice.chance(0.03)
    shift = torch.where(ghost, dice.uniform(0.1, 0.5), dice.uniform(0.6, 0.8)) * SIZE
    index = (torch.arange(SIZE, device=dice.device) - shift.long()[:, None]) % SIZE
    rows = torch.take_along_dim(parts, index[:, None, :, None], 2)
    columns = torch.take_along_dim(parts, index[:, None, None, :], 3)
    moved = torch.where(dice.chance(0.5, 1, 1, 1), rows, columns)
    strength = ghost * dice.uniform(0.04, 0.25) + wrap * dice.uniform(0.3, 0.9)
    return strength.view(-1, 1, 1, 1) * moved


def normalise_batch(images):
    """`mrmyo.segmentation.normalise` for a batch of tensors (n, x, y)."""
    flat = images.reshape(len(images), -1)
    ordered = flat.sort(1).values
    count = flat.shape[1]
    threshold = 0.1 * ordered[:, int(0.99 * (count - 1))]
    below = (ordered <= threshold[:, None]).sum(1)
    at = below + (0.9 * (count - 1 - below)).long()
    scale = torch.take_along_dim(ordered, at.clamp(max=count - 1)[:, None], 1).clamp_min(1e-6)
    return (flat / scale).clamp_max(2.0).reshape(images.shape)
