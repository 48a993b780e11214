# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What every training of a policy on histories has: the network, its optimiser, checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.policy.history import HistoryFormat
from stl_conveyor_lab.papers.dqn import make_network
from stl_conveyor_lab.papers.simulate import IntegerBucket
from stl_conveyor_lab.papers.tasks import Task


class HistoryTrainer(ABC):
    """A network over one task or many, which `iterate` of a method trains.

    Attributes:
        layout: What the network sees.
        knots: Relative levels of the outputs; None is one output for each level (one bucket only).
        plan: How long and how wide to train.
        iteration: How many were made.
    """

    plan: Any

    def __init__(
        self,
        layout: HistoryFormat,
        knots: NDArray[Any] | None,
        draw: Callable[[np.random.Generator], Sequence[Task]],
        plan: Any,
        log: Callable[[str], None] = print,
    ) -> None:
        """Begin with a network that knows nothing.

        Args:
            draw: Draws tasks; what for, the method says.
        """
        self.layout, self.knots, self.plan = layout, knots, plan
        self._draw, self._log = draw, log
        torch.manual_seed(plan.seed)
        self._generator = np.random.default_rng(plan.seed)
        if knots is None:
            task = draw(np.random.default_rng(0))[0]
            bucket = IntegerBucket.of(task.rate, task.depth)
            outputs = bucket.full + 1 - bucket.cost
        else:
            outputs = len(knots)
        self.network = make_network(layout.size, outputs, plan.width, plan.depth)
        self._optimizer = torch.optim.Adam(self.network.parameters(), plan.learning_rate)
        self.iteration = 0

    def save(self, path: Path) -> None:
        """Write a checkpoint; what was drawn or solved before is not in it."""
        torch.save(
            {
                'network': self.network.state_dict(),
                'optimizer': self._optimizer.state_dict(),
                'iteration': self.iteration,
                'torch': torch.get_rng_state(),
                **self._own_state(),
            },
            path,
        )

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state['network'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.iteration = state['iteration']
        torch.set_rng_state(state['torch'])
        self._take_up(state)

    @abstractmethod
    def iterate(self) -> float:
        """Train for one iteration; return its mean squared error."""

    def _own_state(self) -> dict[str, Any]:
        """Return what a method adds to a checkpoint."""
        return {}

    def _take_up(self, state: dict[str, Any]) -> None:
        """Take a method's own from a checkpoint."""
