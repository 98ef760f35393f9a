"""Random thighs in random states, many at a time and on any device, for :mod:`mrmyo.training_images`.

A scene starts from the distance fields of one section (:mod:`mrmyo.training_anatomy`): they are moved, deformed and
sampled on the image, every muscle is wasted, infiltrated with fat or swollen by chance, and what remains is turned into
shares of tissue per pixel. A share falls from 1 to 0 across a border over the width of a pixel, or over more where a
thick slice cuts the border obliquely: that is partial volume, without finer points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from mrmyo.labels import MUSCLES
from mrmyo.segmentation import PIXEL_MM
from mrmyo.training_anatomy import BONE, COMPARTMENT
from mrmyo.training_maps import FIELD_MM

__all__ = ["SIZE", "TISSUES", "Dice", "Scene", "draw_scene", "grid_mm", "place", "smooth_noise"]

SIZE = 192  # pixels each way, as at inference
N_MUSCLES = len(MUSCLES)
SAR = 5
VASTI = 3  # the first three muscles, between which no septum need be seen
SPARED, BEHIND = (4, 5), (6, 7, 8, 9, 10, 11, 12)  # sartorius and gracilis; adductors and hamstrings
TISSUES = ("skin", "subcutaneous fat", "fascia", "muscle", "intermuscular fat", "cortical bone", "marrow", "vessel")


@dataclass(frozen=True)
class Scene:
    """`shares` (n, 8, x, y) of `TISSUES`; `fat` and `oedema` (n, x, y) within muscle; `name` (n, x, y) the nearest
    muscle less one; `labels` (n, x, y): 0, muscles 1–13, 14 bone; `body` (n, x, y) the share that is not air; `depth`
    (n, x, y) in mm below the fascia."""

    shares: torch.Tensor
    fat: torch.Tensor
    oedema: torch.Tensor
    name: torch.Tensor
    labels: torch.Tensor
    body: torch.Tensor
    depth: torch.Tensor


class Dice:
    """Random numbers on one device, shaped (n, …) for the n images of a batch."""

    def __init__(self, seed, n, device):
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.n, self.device = n, device

    def uniform(self, low, high, *shape):
        """Between low and high."""
        return low + (high - low) * torch.rand(self.n, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape):
        """Mean 0, SD 1."""
        return torch.randn(self.n, *shape, generator=self.generator, device=self.device)

    def log_uniform(self, low, high, *shape):
        """Between low and high, as likely in every octave."""
        return torch.exp(self.uniform(float(torch.tensor(low).log()), float(torch.tensor(high).log()), *shape))

    def chance(self, p, *shape):
        """True with probability p (a number, or (n, …))."""
        return torch.rand(self.n, *shape, generator=self.generator, device=self.device) < p


def smooth_noise(dice, channels, cells, *, size=None):
    """Random fields (n, channels, x, y) of about unit SD with blobs about 1 / cells of the image; cells: one or two."""
    cells = (cells, cells) if isinstance(cells, int) else cells
    size = size or (SIZE, SIZE)
    coarse = dice.normal(channels, *cells)
    return 1.4 * functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def grid_mm(device):
    """Positions of the pixels in mm from the middle: (x, y, 2)."""
    line = (torch.arange(SIZE, device=device, dtype=torch.float32) - (SIZE - 1) / 2) * PIXEL_MM
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)


def place(dice, *, turn, stretch):
    """Random turn, size and shear: (n, 2, 2), from image to section."""
    a = turn * dice.normal()
    rotation = torch.stack([torch.stack([a.cos(), -a.sin()], -1), torch.stack([a.sin(), a.cos()], -1)], -2)
    s, shear = torch.exp(stretch * dice.normal(2)), 0.06 * dice.normal()
    one, zero = torch.ones_like(shear), torch.zeros_like(shear)
    return rotation @ torch.diag_embed(s) @ torch.stack([torch.stack([one, shear], -1), torch.stack([zero, one], -1)],
                                                         -2)


def _sample(dice, fields, deform):
    """The fields (n, 15, x, y) in mm on the image, and the positions (n, x, y, 2) from the middle of the section."""
    n = dice.n
    inside = (fields[:, COMPARTMENT] > 0).float()
    half = fields.shape[-1] / 2
    line = (torch.arange(fields.shape[-1], device=fields.device) + 0.5 - half) * (FIELD_MM / fields.shape[-1])
    mass = inside.sum((1, 2)).clamp_min(1)
    centre = torch.stack([(inside.sum(2) * line).sum(1), (inside.sum(1) * line).sum(1)], 1) / mass[:, None]
    matrix = place(dice, turn=0.25 * deform, stretch=0.09 * deform)
    shift = 9.0 * dice.normal(2)
    at = torch.einsum("nab,xynb->nxya", matrix, grid_mm(fields.device)[:, :, None] - shift)
    if deform:
        waves = smooth_noise(dice, 2, 6) * dice.uniform(0, 3.5, 1, 1, 1)
        ripples = smooth_noise(dice, 2, 18) * dice.uniform(0, 0.8, 1, 1, 1)
        at = at + (waves + ripples).movedim(1, -1)
    scaled = (at + centre[:, None, None]) * (2 / FIELD_MM)
    found = functional.grid_sample(fields, scaled.flip(-1), mode="bilinear", padding_mode="border",
                                   align_corners=False)
    beyond = (scaled.abs() - 1).clamp_min(0).norm(dim=-1) * (FIELD_MM / 2)
    found[:, COMPARTMENT] -= beyond
    found[:, :COMPARTMENT] -= beyond[:, None]
    size = matrix.det().abs().rsqrt().view(n, 1, 1, 1)
    return found * size, at, fields[:, :N_MUSCLES].amax((2, 3)).clamp_min(0.5) * size[:, :, 0, 0]


def _cover(distance, width):
    """The share of a pixel that lies inside a border at this distance."""
    return (0.5 + distance / width).clamp(0, 1)


def draw_scene(dice, fields, *, deform=1.0) -> Scene:
    """Draw the scene of every section of a batch.

    Parameters
    ----------
    dice : Dice
    fields : torch.Tensor
        (n, 15, 112, 112) signed distances in mm.
    deform : float
        0 leaves the anatomy as it is, but for its place.

    Returns
    -------
    Scene
    """
    column = (1, 1, 1)
    found, at, inradius = _sample(dice, fields, deform)
    ill = dice.chance(0.65).float()[:, None]
    width = PIXEL_MM * torch.where(dice.chance(0.5, *column), dice.uniform(1, 1.5, *column),
                                   dice.uniform(1, 3, *column))
    muscles = found[:, :N_MUSCLES]
    together = dice.chance(0.6, 1) & (torch.arange(N_MUSCLES, device=found.device) < VASTI)
    apart = (~together).float()
    if deform:
        muscles = muscles + smooth_noise(dice, N_MUSCLES, 22) * dice.uniform(0, 0.7, *column)
        wasted = dice.chance(dice.uniform(0, 0.9, 1), N_MUSCLES) * dice.uniform(0, 1, N_MUSCLES)
        wasted = wasted * dice.uniform(0, 0.6, 1)
        thinner = dice.uniform(0, 1.5, 1) * dice.chance(0.4, 1) * apart
        muscles = muscles - (ill * wasted * inradius + thinner)[..., None, None]
    bone = found[:, BONE]
    highest, order = muscles.topk(2, dim=1)
    value, second, name = highest[:, 0], highest[:, 1], order[:, 0]
    septum = dice.uniform(-0.8, 1.3, 1, 1).clamp_min(0)
    septum = torch.where((order < VASTI).all(1) & (apart[:, :1, None] == 0), 0.0, septum)
    in_bone = _cover(bone, PIXEL_MM)
    muscle = (_cover(value - septum / 2, width[:, 0]) + _cover(second - septum / 2, width[:, 0])).clamp(max=1)
    muscle = muscle * (1 - in_bone)
    depth = found[:, COMPARTMENT]
    body, skin = _outline(dice, depth, at)
    vessel = _vessels(dice, muscles[:, SAR - 1], bone, value, body, at) * (1 - muscle) * (1 - in_bone)
    compartment = _cover(depth, PIXEL_MM)
    fascia = (1 - depth.abs() / dice.uniform(0.6, 1.2, 1, 1)).clamp(0, 1) * 0.8
    wall = dice.uniform(2.5, 6.0, 1, 1) * (1 - 0.5 * dice.chance(0.2, 1, 1).float())
    marrow = _cover(bone - wall, PIXEL_MM)
    rest = (1 - muscle - in_bone - vessel).clamp_min(0)
    air = 1 - _cover(body, PIXEL_MM)
    shares = torch.stack([skin, rest * (1 - compartment) * (1 - fascia), rest * fascia, muscle,
                          rest * compartment * (1 - fascia), in_bone - marrow * in_bone, marrow * in_bone, vessel], 1)
    shares[:, 1] = (shares[:, 1] - skin).clamp_min(0)
    line = _epimysium(dice, value, second, septum)[:, None]
    shares = shares * (1 - line)
    shares[:, 2] += line[:, 0]
    shares = shares * (1 - air)[:, None]
    labels = torch.where(value > septum / 2, name + 1, torch.zeros_like(name))
    labels = torch.where(bone > 0, torch.full_like(labels, N_MUSCLES + 1), labels)
    labels = torch.where(body > 0, labels, torch.zeros_like(labels))
    relative = value / torch.take_along_dim(inradius[..., None, None], name[:, None], 1)[:, 0]
    fat = _fat(dice, ill, name, relative)
    return Scene(shares, fat, _oedema(dice, ill, name, value, depth), name, labels, 1 - air, depth)


def _epimysium(dice, value, second, septum):
    """The share of a thin sheet around every muscle: all that is seen of the border of one that has turned to fat."""
    width, strength = dice.uniform(0.5, 1.3, 1, 1), dice.uniform(0, 0.7, 1, 1) * dice.chance(0.6, 1, 1)
    broken = torch.sigmoid(4 * smooth_noise(dice, 1, 20)[:, 0] + dice.uniform(-1, 5, 1, 1))
    hidden = (septum == 0) & (second > -1) & dice.chance(0.5, 1, 1)
    return (1 - value.abs() / width).clamp(0, 1) * strength * broken * ~hidden


def _outline(dice, depth, at):
    """Distance to the skin's surface in mm, and the share that is skin. Fat is thicker on one side than the other."""
    angle = torch.atan2(at[..., 1], at[..., 0])
    thickness = dice.log_uniform(2.5, 38, 1, 1)
    around = 1 + sum(dice.uniform(0, a, 1, 1) * torch.cos(k * angle + dice.uniform(0, 6.3, 1, 1))
                     for k, a in ((1, 0.4), (2, 0.25), (3, 0.1)))
    body = depth + (thickness * around).clamp(1.5, 55)
    return body, (_cover(body, PIXEL_MM) - _cover(body - dice.uniform(0.8, 2.2, 1, 1), PIXEL_MM))


def _vessels(dice, sartorius, bone, value, body, at):
    """The share that is vessel or nerve: femoral artery and vein deep to the sartorius, some others anywhere in fat."""
    weight = [(field > 0).float() for field in (sartorius, bone)]
    deep, shallow = ((w[..., None] * at).sum((1, 2)) / w.sum((1, 2)).clamp_min(1)[:, None] for w in weight[::-1])
    seen = (weight[0].sum((1, 2)) > 0)[:, None]
    there = torch.where(seen, shallow + (deep - shallow) * dice.uniform(0.2, 0.5, 1), 40 * dice.normal(2))
    centres = torch.stack([there + 2 * dice.normal(2), there + 5 * dice.normal(2)] + [45 * dice.normal(2)] * 1
                          + [45 * dice.normal(2) for _ in range(4)], 1)
    radius = dice.uniform(1.0, 3.0, centres.shape[1])
    radius[:, :2] += 1.5
    out = torch.zeros_like(value)
    for i in range(centres.shape[1]):
        gap = radius[:, i, None, None] - (at - centres[:, i, None, None]).norm(dim=-1)
        out = torch.maximum(out, _cover(torch.minimum(torch.minimum(gap, -value), body - 2.5), PIXEL_MM))
    return out


def _of_name(table, name):
    """The entry of every pixel's muscle in (n, 13) tables."""
    return torch.take_along_dim(table[..., None, None], name[:, None], 1)[:, 0]


def _texture(dice):
    """Streaks, lobules and patches: a random mixture of noise, fine to coarse and longer one way than the other."""
    wide = (3 * SIZE // 2,) * 2  # room to turn
    mixture = dice.uniform(0, 1, 4, 1, 1) ** 2
    parts = torch.cat([smooth_noise(dice, 1, cells, size=wide) for cells in (130, (130, 46), (80, 30), 36)], 1)
    flat = (mixture * parts).sum(1, keepdim=True) / mixture.square().sum(1, keepdim=True).sqrt().clamp_min(0.2)
    at = torch.einsum("nab,xyb->nxya", place(dice, turn=2.0, stretch=0.1), grid_mm(dice.device))
    bent = at + 5 * smooth_noise(dice, 2, 8).movedim(1, -1)
    return functional.grid_sample(flat, bent.flip(-1) / (0.75 * SIZE * PIXEL_MM), padding_mode="reflection",
                                  align_corners=False)[:, 0]


def _fat(dice, ill, name, relative):
    """Share of fat within muscle: low in health; in illness from streaks to nearly all, muscle by muscle."""
    healthy = dice.uniform(-4.2, -2.6, N_MUSCLES)
    spread = dice.uniform(0.5, 2.5, 1)
    level = dice.uniform(-3.5, 0.3, 1) + spread * dice.normal(N_MUSCLES)
    struck = ill * dice.chance(dice.uniform(0.1, 1, 1), N_MUSCLES)
    logit = torch.where(struck > 0, level.clamp(-4, 3), healthy)
    pattern = _pattern(dice, ill)
    logit, struck = torch.where(pattern > -9, pattern, logit), torch.where(pattern > -9, 1.0, struck)
    amount = dice.uniform(0.2, 0.7, N_MUSCLES) + struck * dice.uniform(0, 2.5, N_MUSCLES)
    edge = struck * dice.chance(0.3, N_MUSCLES) * dice.uniform(-4, 4, N_MUSCLES)
    partly = struck * dice.uniform(0, 2.0, 1)
    fat = _of_name(logit, name) + _of_name(amount, name) * _texture(dice)
    fat = fat + _of_name(edge, name) * (0.5 - relative.clamp(0, 1))
    fat = fat + _of_name(partly, name) * smooth_noise(dice, 1, 7)[:, 0]
    return torch.sigmoid(fat).clamp(0, 0.985)


def _pattern(dice, ill):
    """Log odds of fat by muscle where a whole compartment is replaced, as in the dystrophies; -10 elsewhere.

    Behind, in front, or both; the sartorius and the gracilis are struck last.
    """
    groups = torch.zeros(3, N_MUSCLES, device=dice.device)
    groups[0, list(BEHIND)], groups[2, list(SPARED)] = 1, 1
    groups[1] = 1 - groups[0] - groups[2]
    chance = torch.tensor([0.85, 0.4, 0.15], device=dice.device)
    struck = (torch.rand(dice.n, 3, generator=dice.generator, device=dice.device) < chance).float() @ groups
    kept = struck * ill * dice.chance(0.45, 1) * dice.chance(0.88, N_MUSCLES)
    heavy = dice.uniform(-1.5, 3.2, 1) + dice.uniform(0.2, 1.2, 1) * dice.normal(N_MUSCLES)
    return torch.where(kept > 0, heavy.clamp(-3, 4), -10.0)


def _oedema(dice, ill, name, value, depth):
    """0 to about 1.3: whole muscles, patches, and a rim along fascia and septa."""
    whole = ill * dice.uniform(0, 1, 1) * dice.uniform(0, 1, N_MUSCLES)
    patches = torch.sigmoid(3 * (smooth_noise(dice, 1, 9)[:, 0] + dice.uniform(-3, 1, 1, 1)))
    rim = torch.exp(-torch.minimum(depth, value).clamp_min(0) / 3)
    return (_of_name(whole, name) + ill[..., None] * (0.7 * dice.uniform(0, 1, 1, 1) * patches
                                                      + 0.5 * dice.uniform(0, 1, 1, 1) * dice.chance(0.4, 1, 1) * rim))
