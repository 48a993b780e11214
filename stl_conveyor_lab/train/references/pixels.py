# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pixels of training images, and what the strong classifier says of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stl_conveyor_lab.train.lite0 import FoldedTrunk


def crops(images: np.ndarray, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` random squares u8[count, side, side, 3] of images, half of them mirrored."""
    result = np.empty((count, side, side, 3), np.uint8)
    for k in range(count):
        image = images[rng.integers(len(images))]
        top, left = rng.integers(0, image.shape[0] - side + 1, 2)
        result[k] = image[top : top + side, left : left + side]
        if rng.random() < 0.5:
            result[k] = result[k][:, ::-1]
    return result


def unit(images: np.ndarray) -> Tensor:
    """Return u8[N, S, S, 3] as f32[N, 3, S, S] in 0..1."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return pixels.contiguous(memory_format=torch.channels_last)


def trunk_pixels(pixels: Tensor) -> Tensor:
    """Return pixels in 0..1 as the trunk takes them."""
    return (pixels * 255 - 127) / 128


def answers(strong: FoldedTrunk, pixels: Tensor) -> Tensor:
    """Return the strong classifier's logits [N, C] of pixels f32[N, 3, S, S] in 0..1."""
    return strong(trunk_pixels(pixels))[0]
