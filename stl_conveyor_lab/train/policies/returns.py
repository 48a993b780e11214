# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fitted Q by coupled returns: policy iteration with samples that need no bootstrap.

Items do not depend on decisions, so along one sequence the return of the present policy is known
for *every* starting level by one backward recursion. Started from n' and n'' and fed the same
items, two buckets sooner or later hold the same level; from there on their returns cancel. The
difference is an unbiased sample of the value of a token with little variance, needs no discount,
and regression on it is one exact step of policy iteration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.scenarios import Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket, level_positions
from stl_conveyor_lab.train.policies.history_trainer import HistoryTrainer
from stl_conveyor_lab.train.policies.windows import token_values, unit_of, windows_of


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how wide to train.

    width, depth of the network

    Attributes:
        iterations: Steps of policy iteration; the first follows the i.i.d. MDP.
        sequences: Drawn anew for each iteration, shared out among the tasks.
        items: Length of a sequence.
        tail: Items at the end of a sequence whose returns are cut short and not learned.
        replay: How many iterations' samples to learn from; the older ones followed older policies.
        steps: Gradient steps for each iteration.
        batch: Histories in one step.
    """

    iterations: int = 4
    sequences: int = 128
    items: int = 2500
    tail: int = 300
    replay: int = 1
    steps: int = 1200
    batch: int = 1024
    learning_rate: float = 1e-3
    width: int = 64
    depth: int = 5
    seed: int = 0


def coupled_returns(
    sequences: Sequences, bucket: IntegerBucket, values: NDArray[Any], final: NDArray[Any]
) -> NDArray[Any]:
    """Return samples of the value of a token, float32 [S, T, M + 1 - P], at the levels P..M.

    Args:
        values: The policy that is followed, [S, T, M + 1 - P]: offload when the reward reaches it.
        final: Value of a level after the last item, [M + 1].
    """
    cost, gain, full = bucket.cost, bucket.gain, bucket.full
    n_items, n_sequences = sequences.rewards.shape
    returns = np.broadcast_to(final.astype(np.float32), (n_sequences, full + 1))
    samples = np.empty(values.shape, dtype=np.float32)
    levels = np.arange(full + 1)
    for t in range(n_items - 1, -1, -1):
        interval = sequences.intervals[t].astype(np.int32)
        if (interval == interval[0]).all():
            filled = returns[:, np.minimum(levels + gain * interval[0], full)]
        else:
            target = np.minimum(levels + gain * interval[:, None], full)
            filled = np.take_along_axis(returns, target, axis=1)
        low, high = filled[:, : full + 1 - cost], filled[:, cost:]
        samples[:, t] = high - low
        reward = sequences.rewards[t][:, None]
        returns = filled.copy()
        returns[:, cost:] = np.where(reward >= values[:, t], reward + low, high)
        returns -= returns[:, :1].copy()  # keep float32 exact: only differences matter
    return samples


class Trainer(HistoryTrainer):
    """Policy iteration; the tasks that are drawn together are those of one iteration."""

    plan: TrainingPlan

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `HistoryTrainer`."""
        super().__init__(*arguments, **named)
        self._replay: list[list[tuple]] = []

    def _own_state(self) -> dict[str, Any]:
        return {'generator': self._generator.bit_generator.state}

    def _take_up(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state['generator']

    def _collect(self):
        """Play each task; return (windows, reader of the outputs, samples) of each, and S."""
        plan = self.plan
        tasks = self._draw(self._generator)
        each = max(1, plan.sequences // len(tasks))
        groups = []
        for task in tasks:
            bucket = IntegerBucket.of(task.rate, task.depth)
            sequences = task.scenario.draw(task.pool, plan.items, each, self._generator)
            reader = level_positions(bucket, self.knots)
            windows = windows_of(sequences, self.layout, task)
            unit = unit_of(task, self.layout)
            solution = solve_mdp(
                task.rate, task.depth, Distribution.of(task.pool), task.scenario.intervals
            )
            if self.iteration == 0:
                values = np.broadcast_to(
                    solution.thresholds[bucket.cost :].astype(np.float32),
                    (each, plan.items, len(reader)),
                )
            else:
                values = token_values(self.network, windows, each, plan.items, reader * unit)
            samples = coupled_returns(sequences, bucket, values, solution.values)
            samples = samples[:, : plan.items - plan.tail] / np.float32(unit)
            groups.append((windows, torch.from_numpy(reader.T.copy()), samples))
        return groups, each

    def iterate(self) -> float:
        """Make one step of policy iteration; return the mean squared error at its end."""
        plan = self.plan
        start = time.perf_counter()
        fresh, each = self._collect()
        self._replay = [*self._replay[max(0, len(self._replay) - plan.replay + 1) :], fresh]
        groups = [group for drawn in self._replay for group in drawn]
        collected = time.perf_counter() - start
        mixed = min(len(groups), 32)
        part = plan.batch // mixed
        # Each iteration ends at a low rate, and later ones begin at a lower one.
        rate = plan.learning_rate * (1 - 0.8 * min(1.0, self.iteration / plan.iterations))
        errors = []
        for step in range(plan.steps):
            for parameters in self._optimizer.param_groups:
                parameters['lr'] = rate * (
                    0.5 * (1 + float(np.cos(np.pi * step / plan.steps))) + 0.01
                )
            inputs, wanted = [], []
            for g in self._generator.permutation(len(groups))[:mixed]:
                windows, reader, samples = groups[g]
                s = self._generator.integers(0, each, part)
                t = self._generator.integers(0, plan.items - plan.tail, part)
                inputs.append(windows(torch.from_numpy(s), torch.from_numpy(t)))
                wanted.append((reader, torch.from_numpy(samples[s, t])))
            outputs = self.network(torch.cat(inputs)).split(part)
            loss = (
                sum(
                    ((output @ reader - target) ** 2).mean()
                    for output, (reader, target) in zip(outputs, wanted)
                )
                / mixed
            )
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            errors.append(float(loss.detach()))
        self.iteration += 1
        error = float(np.mean(errors[-max(1, plan.steps // 5) :]))
        self._log(
            f'iteration {self.iteration}: squared error {error:.5f}, '
            f'{collected:.0f} s playing, {time.perf_counter() - start:.0f} s in all'
        )
        return error
