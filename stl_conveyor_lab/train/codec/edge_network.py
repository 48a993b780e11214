# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's network: from the coefficients that arrived to calibrated probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stl_conveyor.codec.transform import device_analysis
from stl_conveyor.errors import ModelFileError

#: log2(1 + bytes) at which the byte-dependent weights have their knots.
BYTE_KNOTS = np.arange(5, 13, dtype=np.float32)
#: Blocks of EfficientNet-Lite0 up to the last one at a 1/8 scale; the costliest to train.
EARLY_BLOCKS = 5
#: The first block at a 1/32 scale; the branch from the latents joins behind it.
JOIN_BLOCK = 11
#: What the frame of a packet costs, about.
FRAME_BYTES = 6
#: Side in pixels of the cells in which a decoded image is restored.
CELL = 8
RESTORE_LAYERS = 4
#: Names of the exported network's inputs.
EDGE_INPUTS = ('latents', 'bytes_received', 'side', 'has_side')


def _folded(convolution, norm):
    """Return a convolution (after its padding) that includes its frozen batch norm."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    padding = getattr(getattr(convolution, 'static_padding', None), 'padding', (0, 0, 0, 0))
    left, right, top, bottom = (padding,) * 4 if isinstance(padding, int) else padding
    even = left == right == top == bottom
    result = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        convolution.stride,
        left if even else 0,
        groups=convolution.groups,
    )
    result.weight.data = (convolution.weight * scale[:, None, None, None]).detach().clone()
    result.bias.data = (norm.bias - norm.running_mean * scale).detach().clone()
    return result if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), result)


class FoldedBlock(nn.Module):
    """An inverted residual block without batch norm."""

    def __init__(self, block):
        super().__init__()
        self.expand = (
            _folded(block._expand_conv, block._bn0)
            if block._block_args.expand_ratio != 1
            else None
        )
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)
        arguments = block._block_args
        stride = arguments.stride if isinstance(arguments.stride, int) else arguments.stride[0]
        self.skip = (
            block.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters
        )

    def forward(self, inputs):
        """Return the block's output."""
        x = inputs
        if self.expand is not None:
            x = functional.relu6(self.expand(x))
        x = self.project(functional.relu6(self.depthwise(x)))
        return x + inputs if self.skip else x


class FoldedTrunk(nn.Module):
    """EfficientNet-Lite0 with its batch norms folded: smaller, faster to fine-tune."""

    def __init__(self, network):
        """Take an efficientnet_lite_pytorch network."""
        super().__init__()
        self.stem = _folded(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(FoldedBlock(block) for block in network._blocks)
        self.head = _folded(network._conv_head, network._bn1)
        self.classifier = nn.Linear(network._fc.in_features, network._fc.out_features)
        self.classifier.load_state_dict(network._fc.state_dict())

    def forward(self, pixels, late=None, early_gradient=True):
        """Return logits [N, C] and pooled features [N, 1280] of (image - 127) / 128.

        `late` is added behind the first block at a 1/32 scale. Without `early_gradient` the
        blocks at the larger scales are not trained, which saves most of the time.
        """
        with torch.set_grad_enabled(early_gradient and torch.is_grad_enabled()):
            x = functional.relu6(self.stem(pixels))
            for block in self.blocks[:EARLY_BLOCKS]:
                x = block(x)
        for number, block in enumerate(self.blocks[EARLY_BLOCKS:], EARLY_BLOCKS):
            x = block(x)
            if number == JOIN_BLOCK and late is not None:
                x = x + late
        pooled = functional.relu6(self.head(x)).mean((2, 3))
        return self.classifier(pooled), pooled


def load_exported(trunk, path):
    """Put the weights of an exported strong.onnx into a FoldedTrunk.

    The file has its batch norms folded too, so its convolutions, in the order in which they are
    computed, are the trunk's.

    Raises:
        ModelFileError: When they are not.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    values.update(
        {
            node.output[0]: values[node.input[0]]
            for node in graph.node
            if node.op_type == 'Cast' and node.input[0] in values
        }
    )
    theirs = [node for kind in ('Conv', 'Gemm') for node in graph.node if node.op_type == kind]
    ours = [
        layer
        for kind in (nn.Conv2d, nn.Linear)
        for layer in trunk.modules()
        if isinstance(layer, kind)
    ]
    shapes = [
        [list(values[name].dims) for name in node.input[1:] if name in values] for node in theirs
    ]
    if shapes != [[list(layer.weight.shape), list(layer.bias.shape)] for layer in ours]:
        raise ModelFileError(
            f'{path} is no EfficientNet-Lite0 of these classes: give the '
            'strong.pt that training left, or another model folder'
        )
    with torch.no_grad():
        for node, layer in zip(theirs, ours):
            for name, parameter in zip(node.input[1:], (layer.weight, layer.bias)):
                parameter.copy_(
                    torch.from_numpy(numpy_helper.to_array(values[name]).astype(np.float32))
                )
    return trunk


def load_strong(path, classes, image_size):
    """Return a FoldedTrunk from a checkpoint of EfficientNet-Lite0, or from its strong.onnx.

    A checkpoint is a state dict; the weights of an exported file are rounded to half precision.
    """
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(
        'efficientnet-lite0', num_classes=classes, image_size=image_size
    )
    if Path(path).suffix == '.onnx':
        return load_exported(FoldedTrunk(network.eval()), path)
    state = torch.load(path, map_location='cpu', weights_only=True)
    state = {
        key.removeprefix('module.').removeprefix('trunk.'): value for key, value in state.items()
    }
    network.load_state_dict(state)
    return FoldedTrunk(network.eval())


def byte_features(received):
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

    def __init__(self, patch, width):
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
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, image, received):
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

    def __init__(self, trunk, spec, width=256, mirror=False, restore=0):
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
        late = trunk.blocks[JOIN_BLOCK].project.out_channels
        stride = max(1, spec.grid * 32 // spec.image_size)
        self.branch = nn.Sequential(
            nn.Conv2d(channels + len(BYTE_KNOTS), width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1),
            nn.ReLU(),
            nn.Conv2d(width, late, 1),
        )
        nn.init.zeros_(self.branch[-1].weight)
        nn.init.zeros_(self.branch[-1].bias)
        knots = len(BYTE_KNOTS)
        self.temperature = nn.Parameter(torch.zeros(knots))
        self.fused_temperature = nn.Parameter(torch.zeros(knots))
        self.side_weight = nn.Parameter(torch.full((knots,), 0.5))

    def image(self, latents):
        """Return the decoded image f32[N, 3, S, S], before it is restored."""
        return functional.conv_transpose2d(latents, self.synthesis, stride=self.patch) + self.mean

    def restored(self, image, received):
        """Return a decoded image f32[N, 3, S, S] as it is classified."""
        return image if self.restoration is None else self.restoration(image, received)

    def logits(self, latents, received, early_gradient=True, image=None):
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

    def fuse(self, logits, received, log_side, has_side):
        """Return calibrated logits from the network's and the side information's."""
        told = byte_features(received)
        alone = torch.exp(told @ self.temperature)[:, None] * logits
        fused = (
            torch.exp(told @ self.fused_temperature)[:, None] * logits
            + (told @ self.side_weight)[:, None] * log_side
        )
        return alone + has_side[:, None] * (fused - alone)

    def forward(self, latents, bytes_received, side, has_side):
        """Return probabilities f32[N, C]."""
        logits, _ = self.logits(latents, bytes_received)
        log_side = torch.log(side.clamp_min(1e-5))
        return torch.softmax(self.fuse(logits, bytes_received, log_side, has_side), 1)


class PrefixSampler(nn.Module):
    """What the decoder would hold of images of which only a part has arrived, in torch."""

    def __init__(self, spec, symbol_bits):
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

    def quantise(self, images):
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

    def split(self, quantised):
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

    def cumulative_bytes(self, symbols):
        """Return the estimated bytes [N, groups] up to and including each group."""
        index = symbols.long() + 3
        cost = self.bits[self.rank[None].expand_as(index), index]
        total = torch.zeros(len(symbols), self.groups + 1, device=symbols.device)
        total.scatter_add_(
            1, self.rank.reshape(1, -1).expand(len(symbols), -1), cost.reshape(len(symbols), -1)
        )
        return total[:, : self.groups].cumsum(1) / 8

    def decode(self, joined, known):
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

    def forward(self, images, lengths, loss=None, packet_bytes=None):
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
