"""The network behind :mod:`mrmyo.segmentation`. Apart, so that PyTorch is imported only when one is built."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

__all__ = ["VNet"]


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

    def forward(self, x):
        """(batch, 1, x, y) images in, (batch, n_classes, x, y) logits out."""
        x = self.blocks[0](self.first(x))
        skips = []
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            skips.append(x)
            x = block(torch.relu(down(x)))
        for up, merge, skip in reversed(list(zip(self.up, self.merge, skips, strict=True))):
            x = merge(torch.relu(up(x) + skip))
        return self.last(x)
