# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's network: from the coefficients that arrived to probabilities."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor_lab.train.lite0 import FoldedBlock, FoldedTrunk

#: log2(1 + bytes) at which the byte-dependent weights have their knots.
BYTE_KNOTS = np.arange(5, 13, dtype=np.float32)

#: Side in pixels of the cells in which a decoded image is restored.
CELL = 8

RESTORE_LAYERS = 4

#: Names of the exported network's inputs.
EDGE_INPUTS = ('latents', 'bytes_received', 'side', 'has_side')


def byte_features(received: Tensor) -> Tensor:
    """Return hat functions f32[N, len(BYTE_KNOTS)] of the number of bytes f32[N]."""
    position = torch.log2(1 + received).clamp(float(BYTE_KNOTS[0]), float(BYTE_KNOTS[-1]))
    knots = torch.from_numpy(BYTE_KNOTS).to(received.device)
    return functional.relu(1 - (position[:, None] - knots[None]).abs())


class Restoration(nn.Module):
    """Takes the edges of the patches out of a decoded image, and much of the noise.

    A residual network on cells of 8 x 8 pixels, one stack of channels for each: at 224 pixels
    with 96 channels .29 GMAC. It is told how many bytes arrived, and where in its patch a cell
    lies. It starts as nothing.
    """

    def __init__(self, patch: int, width: int) -> None:
        """Take the side of a patch in pixels; raises ValueError unless cells fill it."""
        super().__init__()
        if patch % CELL:
            raise ValueError(
                f'patches of {patch} pixels are not whole cells of {CELL}: use '
                'another --patch, or --restore 0'
            )
        pixels = 3 * CELL**2
        self.first = nn.Conv2d(pixels + len(BYTE_KNOTS), width, 1)
        self.place = nn.Parameter(torch.zeros(1, width, patch // CELL, patch // CELL))
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(RESTORE_LAYERS)
        )
        self.last = nn.Conv2d(width, pixels, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor, received: Tensor) -> Tensor:
        """Return the restored image of f32[N, 3, S, S], whole patches, and bytes f32[N]."""
        cells = functional.pixel_unshuffle(image, CELL)
        rows, columns = cells.shape[2:]
        told = byte_features(received)[:, :, None, None].expand(-1, -1, rows, columns)
        x = self.first(torch.cat([cells, told], 1)) + self.place.tile(
            1, 1, rows // self.place.shape[2], columns // self.place.shape[3]
        )
        for layer in self.layers:
            x = x + layer(functional.relu(x))
        return image + functional.pixel_shuffle(self.last(functional.relu(x)), CELL)


class EdgeNetwork(nn.Module):
    """Linear synthesis, restoration, the strong trunk, a branch from the latents, and fusion.

    Branch and restoration start as nothing. The side information enters as logarithms with a
    weight that depends on the bytes received; so does the temperature of the answer. With
    `mirror`, the trunk sees the decoded image and its mirror image, and answers with the mean of
    the logits; not while it is being trained, where images are mirrored at random.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        trunk: FoldedTrunk,
        spec: CodecSpec,
        width: int = 256,
        mirror: bool = False,
        restore: int = 0,
    ) -> None:
        """Take a FoldedTrunk and the CodecSpec whose latents come; `restore` is a width."""
        super().__init__()
        self.mirror = mirror
        patch, channels = spec.patch, spec.channels
        synthesis = spec.analysis.reshape(channels, patch, patch, 3).transpose(0, 3, 1, 2)
        self.patch = patch
        self.synthesis = nn.Parameter(
            torch.from_numpy(np.ascontiguousarray(synthesis)) * (255 / 128)
        )
        mean = spec.mean.reshape(patch, patch, 3).transpose(2, 0, 1)
        mean = np.tile(mean, (1, spec.grid, spec.grid))[None]
        self.register_buffer('mean', torch.from_numpy((mean * 255 - 127) / 128).float())
        scale = 1 / (spec.finest_step * 15)
        self.register_buffer('scale', torch.from_numpy(scale)[None, :, None, None])
        self.restoration = Restoration(patch, restore) if restore else None
        self.trunk = trunk
        late = cast(FoldedBlock, trunk.blocks[trunk.join_block]).project.out_channels
        stride = max(1, spec.grid * 32 // spec.image_size)
        self.branch = nn.Sequential(
            nn.Conv2d(channels + len(BYTE_KNOTS), width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1),
            nn.ReLU(),
            nn.Conv2d(width, late, 1),
        )
        for parameter in self.branch[-1].parameters():
            nn.init.zeros_(parameter)
        knots = len(BYTE_KNOTS)
        self.temperature = nn.Parameter(torch.zeros(knots))
        self.fused_temperature = nn.Parameter(torch.zeros(knots))
        self.side_weight = nn.Parameter(torch.full((knots,), 0.5))

    def image(self, latents: Tensor) -> Tensor:
        """Return the decoded image f32[N, 3, S, S], before it is restored."""
        return functional.conv_transpose2d(latents, self.synthesis, stride=self.patch) + self.mean

    def restored(self, image: Tensor, received: Tensor) -> Tensor:
        """Return a decoded image f32[N, 3, S, S] as it is classified."""
        return image if self.restoration is None else self.restoration(image, received)

    def logits(
        self,
        latents: Tensor,
        received: Tensor,
        early_gradient: bool = True,
        image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits without side information, and the pooled features.

        `image` is what `restored` gives, if it is known already.
        """
        told = byte_features(received)[:, :, None, None]
        told = told.expand(-1, -1, latents.shape[2], latents.shape[3])
        late = self.branch(torch.cat([(latents * self.scale).clamp(-6, 6), told], 1))
        if image is None:
            image = self.restored(self.image(latents), received)
        pixels = image.contiguous(memory_format=torch.channels_last)
        if self.mirror and not self.training:
            both, pooled = self.trunk(
                torch.cat([pixels, pixels.flip(3)]),
                torch.cat([late, late.flip(3)]),
                early_gradient,
            )
            halves = [
                half.mean(0)
                for half in (
                    both.reshape(2, -1, both.shape[1]),
                    pooled.reshape(2, -1, pooled.shape[1]),
                )
            ]
            return halves[0], halves[1]
        return self.trunk(pixels, late, early_gradient)

    def fuse(self, logits: Tensor, received: Tensor, log_side: Tensor, has_side: Tensor) -> Tensor:
        """Return logits at their temperature, from the network's and the side information's."""
        told = byte_features(received)
        alone = torch.exp(told @ self.temperature)[:, None] * logits
        fused = (
            torch.exp(told @ self.fused_temperature)[:, None] * logits
            + (told @ self.side_weight)[:, None] * log_side
        )
        return alone + has_side[:, None] * (fused - alone)

    def forward(
        self, latents: Tensor, bytes_received: Tensor, side: Tensor, has_side: Tensor
    ) -> Tensor:
        """Return probabilities f32[N, C]."""
        logits, _ = self.logits(latents, bytes_received)
        log_side = torch.log(side.clamp_min(1e-5))
        return torch.softmax(self.fuse(logits, bytes_received, log_side, has_side), 1)
