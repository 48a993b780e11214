# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A running average of a network's weights that short trainings can use as well."""
from torch import nn
from torch.optim.swa_utils import AveragedModel


def running_average(network: nn.Module, decay: float) -> AveragedModel:
    """
    Return an exponential average of the weights, to be updated after each step.

    In the first steps it forgets faster, by the (1 + n) / (10 + n) of TensorFlow's
    ExponentialMovingAverage: a constant .99 would hold, after 100 steps, a third of the weights
    that the training began with.
    """
    def update(average, current, count):
        return average + (1 - min(decay, float(1 + count) / float(10 + count))) * (
            current - average)

    return AveragedModel(network, avg_fn=update, use_buffers=True)
