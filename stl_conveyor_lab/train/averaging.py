# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Averages of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def running_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential average of the weights, to be updated after each step.

    In the first steps it forgets faster, by the (1 + n) / (10 + n) of TensorFlow's
    ExponentialMovingAverage: a constant .99 would hold, after 100 steps, a third of the weights
    that the training began with.
    """

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return average + (1 - min(decay, float(1 + count) / float(10 + count))) * (
            current - average
        )

    return AveragedModel(network, avg_fn=update, use_buffers=True)


def average_of_steps(
    network: nn.Module, optimiser: torch.optim.Optimizer, decay: float
) -> AveragedModel:
    """Return the running average of a network, which follows each step of its optimiser."""
    average = running_average(network, decay)
    optimiser.register_step_post_hook(lambda *_: average.update_parameters(network))
    return average


@torch.no_grad()
def blend(tuned: nn.Module, start: nn.Module, share: float) -> None:
    """Move the weights of a tuned network by `share` (0..1) of the way back to those at its start.

    Keeps more of what the start knew beyond the images it was tuned on (Wortsman et al., Robust
    fine-tuning of zero-shot models, CVPR 2022).
    """
    for weight, first in zip(tuned.parameters(), start.parameters(), strict=True):
        weight.lerp_(first.to(weight.device), share)
