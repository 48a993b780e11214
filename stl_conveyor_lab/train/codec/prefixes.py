# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Prefixes of random length: what the edge holds of an image of which a part has arrived."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.transform import device_analysis
from stl_conveyor_lab.train.codec.fit import quantise, spec_values, symbol_bits
from stl_conveyor_lab.train.codec.recipe import PACKET_BYTES, LengthRange

#: What the frame of a packet costs, about.
FRAME_BYTES = 6


class PrefixSampler(nn.Module):
    """What the decoder would hold of images of which only a part has arrived, in torch."""

    matrix: Tensor
    mean: Tensor
    step: Tensor
    shrink: Tensor
    spatial: Tensor
    spatial_inverse: Tensor
    offset: Tensor
    scaled_offset: Tensor
    rank: Tensor
    bits: Tensor

    def __init__(self, spec: CodecSpec, symbol_bits: np.ndarray) -> None:
        """Take the codec and the estimated bits f32[G, ALPHABET] of each group's symbols."""
        super().__init__()
        patch, grid, groups = spec.patch, spec.grid, spec.groups
        planes = spec.shrink.shape[1]
        self.patch, self.grid, self.groups, self.planes = patch, grid, groups, planes
        self.limit = 94
        register = self.register_buffer
        weights, weight_scale = device_analysis(spec)
        scaled = weights * weight_scale / spec.finest_step[:, None]
        register('matrix', torch.from_numpy(np.ascontiguousarray(scaled.T)).float())
        register('mean', torch.from_numpy(spec.mean))
        register('step', torch.from_numpy(spec.plane_step.T.copy()))
        register('shrink', torch.from_numpy(spec.shrink.transpose(1, 0, 2).copy()))
        rank = np.full((planes, spec.channels, grid * grid), groups, np.int64)
        for g in range(groups):
            at = (
                int(spec.group_plane[g]),
                int(spec.group_channel[g]),
                spec.order.positions[spec.group_region[g]],
            )
            rank[at] = g
        register('spatial', torch.from_numpy(spec.spatial))
        register('spatial_inverse', torch.from_numpy(spec.spatial_inverse))
        register('offset', torch.from_numpy(spec.offset))
        register('scaled_offset', torch.from_numpy(spec.offset / spec.finest_step[:, None]))
        register('rank', torch.from_numpy(rank))
        register(
            'bits',
            torch.from_numpy(
                np.concatenate([symbol_bits, np.zeros((1, symbol_bits.shape[1]))])
            ).float(),
        )

    def quantise(self, images: Tensor) -> Tensor:
        """Return integers [N, K, positions] (float32) of images u8[N, S, S, 3]."""
        count = len(images)
        cut = images.reshape(count, self.grid, self.patch, self.grid, self.patch * 3)
        patches = cut.transpose(2, 3).reshape(count, self.grid**2, -1).float() / 255
        values = ((patches - self.mean) @ self.matrix).transpose(1, 2) - self.scaled_offset
        banded = len(self.spatial)
        if banded:
            values = torch.cat(
                [
                    torch.einsum('cij,ncj->nci', self.spatial, values[:, :banded]),
                    values[:, banded:],
                ],
                1,
            )
        return values.round().clamp(-self.limit, self.limit)

    def split(self, quantised: Tensor) -> tuple[Tensor, Tensor]:
        """Return (symbols, joined integers) [N, planes, K, positions], coarsest first."""
        symbols, joined, value = [], [], quantised
        for _ in range(self.planes - 1):
            joined.append(value)
            coarser = torch.floor((value + 1) / 3)
            symbols.append(value - 3 * coarser)
            value = coarser
        symbols.append(value)
        joined.append(value)
        return torch.stack(symbols[::-1], 1), torch.stack(joined[::-1], 1)

    def cumulative_bytes(self, symbols: Tensor) -> Tensor:
        """Return the estimated bytes [N, groups] up to and including each group."""
        index = symbols.long() + 3
        cost = self.bits[self.rank[None].expand_as(index), index]
        total = torch.zeros(len(symbols), self.groups + 1, device=symbols.device)
        total.scatter_add_(
            1, self.rank.reshape(1, -1).expand(len(symbols), -1), cost.reshape(len(symbols), -1)
        )
        return total[:, : self.groups].cumsum(1) / 8

    def decode(self, joined: Tensor, known: Tensor) -> Tensor:
        """Return latents [N, K, grid, grid] from joined integers and what is known."""
        value = torch.zeros_like(joined[:, 0])
        chain = torch.ones_like(known[:, 0])
        for plane in range(self.planes):
            chain = chain & known[:, plane]
            here = joined[:, plane]
            shift = torch.where(
                here.abs() == 1, self.shrink[plane, :, 0, None], self.shrink[plane, :, 1, None]
            )
            point = (here - here.sign() * shift) * self.step[plane][:, None]
            value = torch.where(chain, point, value)
        banded = len(self.spatial)
        if banded:
            maps = torch.einsum('cij,nci->ncj', self.spatial_inverse, value[:, :banded])
            value = torch.cat([maps, value[:, banded:]], 1)
        return (value + self.offset).reshape(len(value), -1, self.grid, self.grid)

    def forward(
        self,
        images: Tensor,
        lengths: Tensor,
        loss: Tensor | None = None,
        packet_bytes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (latents, bytes received) for prefixes of about `lengths` bytes f32[N].

        `loss` f32[N] is the probability that a packet of `packet_bytes` f32[N] is lost.
        """
        if packet_bytes is None:
            packet_bytes = torch.full_like(lengths, 512.0)
        symbols, joined = self.split(self.quantise(images))
        total = self.cumulative_bytes(symbols)
        here = total <= lengths[:, None]
        if loss is not None:
            packet = (total / packet_bytes[:, None]).long().clamp_max(63)
            draw = torch.rand(len(images), 64, device=total.device) >= loss[:, None]
            here = here & torch.gather(draw, 1, packet)
        size = torch.diff(total, dim=1, prepend=torch.zeros_like(total[:, :1]))
        received = (size * here).sum(1)
        received = received + FRAME_BYTES * torch.ceil(received / packet_bytes)
        here = torch.cat([here, torch.zeros_like(here[:, :1])], 1)
        known = here[:, self.rank.reshape(-1)].reshape(len(images), *self.rank.shape)
        return self.decode(joined, known), received


def prefix_sampler(spec: CodecSpec, images: np.ndarray) -> PrefixSampler:
    """Return the PrefixSampler of a codec; what symbols cost is measured on images."""
    sample = images[np.random.default_rng(0).permutation(len(images))[:512]]
    return PrefixSampler(
        spec, symbol_bits(spec, quantise(spec_values(spec, sample), spec.finest_step))
    )


def draw_lengths(rng: np.random.Generator, count: int, recipe: LengthRange) -> np.ndarray:
    """Return `count` lengths in bytes, from `shortest` to `longest`."""
    share = rng.random(count) ** recipe.lengthen
    return np.exp(math.log(recipe.shortest) + share * math.log(recipe.longest / recipe.shortest))


def draw_prefixes(
    rng: np.random.Generator, count: int, recipe: LengthRange, device: torch.device
) -> list[Tensor]:
    """Return lengths, rates of loss and bytes of a packet, each f32[count]."""
    drawn = (
        draw_lengths(rng, count, recipe),
        np.where(rng.random(count) < 0.25, rng.uniform(0.05, 0.4, count), 0),
        rng.choice(PACKET_BYTES, count),
    )
    return [torch.from_numpy(part).float().to(device) for part in drawn]
