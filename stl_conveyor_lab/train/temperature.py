# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Temperature scaling (Guo et al., ICML 2017): a score becomes how often it is right."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def scaling_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy, by golden-section search.

    Args:
        logits: f32[N, C] of images that nothing was trained on.
        classes: i64[N], the true ones.
    """
    scores, truth = torch.from_numpy(logits), torch.from_numpy(classes)

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(scores / math.exp(log_temperature), truth))

    low, high, ratio = -2.5, 2.5, (math.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


class TemperatureScaled(nn.Module):
    """A classifier with its softmax at the temperature that fits the validation images."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, float(temperature)

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities [N, C]."""
        return torch.softmax(self.network(image) / self.temperature, 1)
