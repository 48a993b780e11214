# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The published DQN: fitted Q-iteration with a target network and a discount.

Qiu et al., "Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022.
State: the last 96 metrics (and inter-arrival times), and the tokens. Because items do not depend
on decisions, one transition of the history serves every bucket level at once; the network tells
for all levels what the level is worth after this item's decision,

    U(h, n') = E[max(U(h+, f(n')), x+ + U(h+, f(n' - P)))] * discount,

with n' the tokens after the decision and f the arrival of tokens until the next item; so
Q(h, n, keep) = U(h, n), Q(h, n, offload) = x + U(h, n - P), and the worth of a token is the
difference. Targets come from a copy of the network that follows in steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stl_conveyor.policy.history import HistoryFormat
from stl_conveyor_lab.papers.simulate import IntegerBucket
from stl_conveyor_lab.train.policies.windows import Task, make_network, windows_of


@dataclass(frozen=True)
class FittedQPlan:
    """How long to train.

    Attributes:
        iterations: Rounds of new sequences; each copies the network ``copies`` times.
        sequences, items: Drawn for each round.
        copies: Of the network to the one that gives the targets, in a round.
        steps: Gradient steps between two copies.
        discount: For each item.
    """

    iterations: int = 12
    sequences: int = 64
    items: int = 2500
    copies: int = 12
    steps: int = 60
    batch: int = 1024
    discount: float = 0.99
    learning_rate: float = 1e-3
    width: int = 64
    depth: int = 5
    seed: int = 0


class FittedQ:
    """Train the published network for one task; ``network`` gives the worth of a token."""

    knots = None

    def __init__(self, layout: HistoryFormat, task: Task, plan: FittedQPlan, log=print):
        self.layout, self.plan = layout, plan
        self._task, self._log = task, log
        self._bucket = IntegerBucket.of(task.rate, task.depth)
        torch.manual_seed(plan.seed)
        self._generator = np.random.default_rng(plan.seed)
        outputs = self._bucket.full + 1
        self._values = make_network(layout.size, outputs, plan.width, plan.depth)
        self._targets = make_network(layout.size, outputs, plan.width, plan.depth)
        self._targets.load_state_dict(self._values.state_dict())
        self._optimizer = torch.optim.Adam(self._values.parameters(), plan.learning_rate)
        self.iteration = 0

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        torch.save(
            {
                'values': self._values.state_dict(),
                'targets': self._targets.state_dict(),
                'optimizer': self._optimizer.state_dict(),
                'iteration': self.iteration,
            },
            path,
        )

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, weights_only=False)
        self._values.load_state_dict(state['values'])
        self._targets.load_state_dict(state['targets'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.iteration = state['iteration']
        self._generator = np.random.default_rng((self.plan.seed, self.iteration))

    @property
    def network(self) -> torch.nn.Sequential:
        """Return the worth of a token at the levels P..M: differences of the values."""
        cost = self._bucket.cost
        last = self._values[-1]
        worth = torch.nn.Linear(last.in_features, last.out_features - cost)
        with torch.no_grad():
            worth.weight.copy_(last.weight[cost:] - last.weight[:-cost])
            worth.bias.copy_(last.bias[cost:] - last.bias[:-cost])
        return torch.nn.Sequential(*self._values[:-1], worth)

    def iterate(self) -> float:
        """Make one round; return the mean squared error of its last fit."""
        plan, bucket, task = self.plan, self._bucket, self._task
        start = time.perf_counter()
        sequences = task.scenario.draw(task.pool, plan.items, plan.sequences, self._generator)
        windows = windows_of(sequences, self.layout, task)
        rewards = torch.from_numpy(sequences.rewards.T.copy())
        intervals = torch.from_numpy(sequences.intervals.T.astype(np.int64))
        levels = torch.arange(bucket.full + 1)
        error = 0.0
        for copy in range(plan.copies):
            done = (self.iteration + copy / plan.copies) / plan.iterations
            for parameters in self._optimizer.param_groups:
                parameters['lr'] = plan.learning_rate * (0.5 * (1 + np.cos(np.pi * done)) + 0.01)
            for _ in range(plan.steps):
                s = torch.from_numpy(self._generator.integers(0, plan.sequences, plan.batch))
                t = torch.from_numpy(self._generator.integers(0, plan.items - 1, plan.batch))
                with torch.no_grad():
                    later = self._targets(windows(s, t + 1))
                    filled = torch.clamp(
                        levels + bucket.gain * intervals[s, t][:, None], max=bucket.full
                    )
                    keep = later.gather(1, filled)
                    spend = rewards[s, t + 1][:, None] + later.gather(
                        1, torch.clamp(filled - bucket.cost, min=0)
                    )
                    payable = filled >= bucket.cost
                    target = plan.discount * torch.where(payable, torch.maximum(keep, spend), keep)
                loss = torch.nn.functional.mse_loss(self._values(windows(s, t)), target)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                error = float(loss.detach())
            self._targets.load_state_dict(self._values.state_dict())
        self.iteration += 1
        self._log(
            f'round {self.iteration}: squared error {error:.5f}, '
            f'{time.perf_counter() - start:.0f} s'
        )
        return error
