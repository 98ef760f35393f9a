"""The network behind :mod:`mrmyo.segmentation`. Apart, so that PyTorch is imported only when one is built."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn

__all__ = ["ThighNet", "VNet", "fused", "has_bfloat16", "read_weights"]


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself; where PyTorch imitates it, it takes twice the time.

    AVX-512 BF16 alone decides: some virtual machines announce AMX tiles and do not let them be used.
    """
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(ask and ask())


def read_weights(path) -> dict:
    """The weights of a .safetensors file in single precision, by name."""
    from safetensors.torch import load_file

    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}


class Block(nn.Module):
    """Two 3 × 3 convolutions and the way around them."""

    def __init__(self, n):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n, n, 3, padding=1, bias=False), nn.BatchNorm2d(n), nn.ReLU(inplace=True),
            nn.Conv2d(n, n, 3, padding=1, bias=False), nn.BatchNorm2d(n),
        )

    def forward(self, x):
        """(batch, n, x, y) in and out."""
        return torch.relu(self.body(x) + x)


class VNet(nn.Module):
    """V-Net (Milletari et al. 2016) in two dimensions: residual blocks, strided convolutions, skips that add.

    Parameters
    ----------
    channels : sequence of int
        Width of every resolution, finest first; each is half as fine as the one before.
    n_classes : int
    """

    def __init__(self, channels, n_classes):
        super().__init__()
        self.first = nn.Conv2d(1, channels[0], 5, padding=2)
        self.blocks = nn.ModuleList(Block(n) for n in channels)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(channels))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(channels))
        self.merge = nn.ModuleList(Block(n) for n in channels[:-1])
        self.last = nn.Conv2d(channels[0], n_classes, 1)

    def through(self, x):
        """What the deepest block and the last layer make of (batch, 1, x, y) images."""
        x = self.blocks[0](self.first(x))
        skips = []
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            skips.append(x)
            x = block(torch.relu(down(x)))
        deepest = x
        for up, merge, skip in reversed(list(zip(self.up, self.merge, skips, strict=True))):
            x = merge(torch.relu(up(x) + skip))
        return deepest, self.last(x)

    def forward(self, x):
        """(batch, 1, x, y) images in, (batch, n_classes, x, y) logits out."""
        return self.through(x)[1]


class ThighNet(VNet):
    """A V-Net with three heads: the tissue of a pixel, the name of a pixel of muscle, and whether this is a thigh.

    Parameters
    ----------
    channels : sequence of int
    n_names : int
        How many muscles.
    """

    n_tissues = 4  # air, muscle, bone, fat and the rest of the body

    def __init__(self, channels, n_names):
        super().__init__(channels, self.n_tissues + n_names)
        self.scope = nn.Linear(2 * channels[-1], 1)

    def forward(self, x):
        """(batch, 1, x, y) images in; logits (batch, 4, x, y), (batch, n_names, x, y) and (batch,) out."""
        deepest, last = self.through(x)
        pooled = torch.cat([deepest.mean((2, 3)), deepest.amax((2, 3))], 1)
        return last[:, :self.n_tissues], last[:, self.n_tissues:], self.scope(pooled)[:, 0]

    def probabilities(self, x):
        """(batch, n_names + 2, x, y) probabilities of background, muscles and bone; (batch,) that it is a thigh."""
        return self.parts(x)[:2]

    def parts(self, x):
        """As `probabilities`, and (batch, x, y) that it is air."""
        tissue, names, scope = self(x)
        tissue, names = tissue.float().softmax(1), names.float().softmax(1)
        probability = torch.cat([tissue[:, :1] + tissue[:, 3:], tissue[:, 1:2] * names, tissue[:, 2:3]], 1)
        return probability, scope.float().sigmoid(), tissue[:, 0]


def fused(network):
    """A copy for inference whose batch normalisation is folded into the convolutions before it: the same numbers to
    rounding, in four fifths of the time."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network = copy.deepcopy(network).eval()
    for block in [*network.blocks, *network.merge]:
        first, first_norm, relu, second, second_norm = block.body
        block.body = nn.Sequential(fuse_conv_bn_eval(first, first_norm), relu, fuse_conv_bn_eval(second, second_norm))
    return network.to(memory_format=torch.channels_last)
