# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The networks of the weak and the strong classifier."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor_lab.train.lite0 import TRUNKS, FoldedBlock, FoldedTrunk, channels_last, lite


class WeakNet(nn.Module):
    """Depthwise-separable network on the crop at a quarter of its resolution, RGB in 0..1."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            )

        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            block(width, 2 * width, 1),
            block(2 * width, 4 * width, 2),
            block(4 * width, 4 * width, 1),
            block(4 * width, 6 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6 * width, classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        pixels = image.float().permute(0, 3, 1, 2) / 255.0
        return self.layers(functional.avg_pool2d(pixels, 4) - 0.3)


class FrontNet(nn.Module):
    """The first blocks of EfficientNet-Lite0 on the image at half its resolution.

    Up to the last block at a 1/16 scale, then one convolution 1x1 and a linear layer, both new:
    a sixth of the whole network's work at the whole resolution.
    """

    def __init__(self, classes: int, pretrained: bool = True, width: int = 384) -> None:
        super().__init__()
        trunk = FoldedTrunk(lite(classes, pretrained).eval())
        self.stem, self.blocks = trunk.stem, trunk.blocks[: trunk.join_block]
        last = cast(FoldedBlock, self.blocks[-1])
        self.head = nn.Conv2d(last.project.out_channels, width, 1)
        self.classifier = nn.Linear(width, classes)
        self.new_layers = (self.head, self.classifier)
        channels_last(self)

    def freeze(self, blocks: int) -> None:
        """Leave stem and first `blocks` as they are; 0 = none."""
        self.requires_grad_(True)
        for layer in (self.stem, *self.blocks[:blocks]) if blocks else ():
            layer.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        pixels = functional.avg_pool2d(image.float().permute(0, 3, 1, 2), 2)
        x = functional.relu6(self.stem((pixels - 127.0) / 128.0))
        for block in self.blocks:
            x = block(x)
        return self.classifier(functional.relu(self.head(x)).mean((2, 3)))


class StrongNet(nn.Module):
    """EfficientNet-Lite on the whole crop; `trunk` is the network of the PyPI package."""

    def __init__(self, classes: int, pretrained: bool = True, trunk: str = 'lite0') -> None:
        """Take a key of TRUNKS."""
        super().__init__()
        self.trunk = lite(classes, pretrained, trunk)
        channels_last(self)
        self._front: list[nn.Module] = []

    def freeze(self, blocks: int) -> None:
        """Leave the weights and statistics of stem and first `blocks` as they are; 0 = none."""
        self.requires_grad_(True)
        trunk = self.trunk
        self._front = [trunk._conv_stem, trunk._bn0, *trunk._blocks[:blocks]] if blocks else []
        for layer in self._front:
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> StrongNet:
        """Switch to training mode, all but the frozen front."""
        super().train(mode)
        for layer in self._front:
            layer.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        return self.trunk((image.float().permute(0, 3, 1, 2) - 127.0) / 128.0)

    def trunk_state(self) -> dict[str, Tensor]:
        """Return the state dict of `trunk`, as `lite0.load_strong` reads it."""
        return self.trunk.state_dict()


class FoldedStrongNet(nn.Module):
    """EfficientNet-Lite with its batch norms folded into the convolutions.

    A step takes half the time of StrongNet's; and with few images the statistics of ImageNet
    serve better than those of the batches.
    """

    def __init__(self, classes: int, pretrained: bool = True, trunk: str = 'lite0') -> None:
        """Take a key of TRUNKS."""
        super().__init__()
        self.trunk = FoldedTrunk(lite(classes, pretrained, trunk).eval())
        self.new_layers = (self.trunk.classifier,)
        channels_last(self)
        self._train_front = True

    def freeze(self, blocks: int) -> None:
        """Leave stem and first blocks as they are, the trunk's early ones; 0 = none."""
        early = self.trunk.early_blocks
        if blocks not in (0, early):
            raise ValueError(f'{blocks} blocks: freeze 0 or {early}')
        self._train_front = not blocks
        self.requires_grad_(True)
        for layer in (self.trunk.stem, *self.trunk.blocks[:early]):
            layer.requires_grad_(self._train_front)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [N, C] of uint8 or float images [N, S, S, 3] in 0..255."""
        return self._answer(image)[0]

    def pooled(self, image: Tensor) -> Tensor:
        """Return the features [N, 1280] that the last layer reads."""
        return self._answer(image)[1]

    def _answer(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (image.float().permute(0, 3, 1, 2) - 127.0) / 128.0
        return self.trunk(pixels, early_gradient=self._train_front)

    def trunk_state(self) -> dict[str, Tensor]:
        """Return a state dict of the PyPI package's network, as `lite0.load_strong` reads.

        Its batch norms add the biases and do nothing else.
        """
        network = lite(self.trunk.classifier.out_features, False, self.trunk.name)

        def put(convolution: Any, norm: Any, folded: Any) -> None:
            folded = folded[1] if isinstance(folded, nn.Sequential) else folded
            convolution.weight.data = folded.weight.detach().cpu().clone()
            norm.bias.data = folded.bias.detach().cpu().clone()
            norm.weight.data.fill_(1)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)

        put(network._conv_stem, network._bn0, self.trunk.stem)
        put(network._conv_head, network._bn1, self.trunk.head)
        for block, folded in zip(network._blocks, cast(Any, self.trunk.blocks)):
            if folded.expand is not None:
                put(block._expand_conv, block._bn0, folded.expand)
            put(block._depthwise_conv, block._bn1, folded.depthwise)
            put(block._project_conv, block._bn2, folded.project)
        network._fc.load_state_dict(
            {key: value.cpu() for key, value in self.trunk.classifier.state_dict().items()}
        )
        return network.state_dict()


#: The networks that start from EfficientNet-Lite, by their names in the recipes, which begin with
#: the trunk's; 'small' is WeakNet.
NETWORKS: dict[str, Callable[[int, bool], FrontNet | StrongNet | FoldedStrongNet]] = {
    'lite0_front': FrontNet,
    **{trunk: partial(StrongNet, trunk=trunk) for trunk in TRUNKS},
    **{f'{trunk}_folded': partial(FoldedStrongNet, trunk=trunk) for trunk in TRUNKS},
}
