# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Learn the value of a token from the oracle, the optimum that knows the hidden state.

In the simulator the hidden state of each item is known (location, state of the arrivals), and
the value of a token to a policy that knows it is solved for exactly
(``papers.bounds.solve_oracle``). Regression of that value on the history gives its mean over
all that the history leaves open: which scenario it is, and in what state. The samples carry no
noise of future items, need no play of the present policy, and let the process change in the
middle of a sequence: the history must tell.

A wrong value costs nothing while it stays on the same side of the item's reward. Errors
therefore count most where the two are close. The weight depends on what the network sees and
says, not on the oracle's value, so that the mean stays what is learned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import RewardScale
from stl_conveyor_lab.papers.bounds import solve_oracle
from stl_conveyor_lab.papers.histories import history_of
from stl_conveyor_lab.papers.scenarios import Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket
from stl_conveyor_lab.papers.tasks import Task
from stl_conveyor_lab.train.policies.history_trainer import HistoryTrainer


@dataclass(frozen=True)
class OraclePlan:
    """How long and how wide to train.

    width, depth of the network

    Attributes:
        iterations: Rounds of new sequences; each makes rows / batch gradient steps.
        rows: Histories learned from in a round, each once.
        batch: Histories in one step.
        tasks: Most tasks that are solved in all; each round solves ``fresh`` new ones.
        chosen: Tasks that play in a round.
        sequences: Of each task in a round.
        items: Length of a sequence.
        locations: Bins of the location.
        focus: Distance of reward and value within which errors count most, in rewards (in their
            95th percentiles for the universal network).
        elsewhere: How much other errors count, 0..1.
    """

    iterations: int = 60
    rows: int = 65536
    batch: int = 1024
    tasks: int = 400
    fresh: int = 3
    chosen: int = 32
    sequences: int = 3
    items: int = 2500
    locations: int = 24
    focus: float = 0.2
    elsewhere: float = 0.25
    learning_rate: float = 1e-3
    width: int = 160
    depth: int = 3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Solved:
    """Scenarios that follow each other at one bucket, and the values [K, A, outputs] in each."""

    tasks: tuple[Task, ...]
    values: tuple[NDArray[Any], ...]
    unit: float
    scale: RewardScale
    constants: NDArray[Any]


def values_at_knots(marginal: NDArray[Any], knots: NDArray[Any] | None) -> NDArray[Any]:
    """Read values [K, A, levels] at relative levels, float32 [K, A, outputs]; None keeps all."""
    levels = marginal.shape[2]
    if knots is None:
        return marginal.astype(np.float32)
    place = np.asarray(knots) * (levels - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, levels - 1)
    part = place - low
    return ((1 - part) * marginal[..., low] + part * marginal[..., high]).astype(np.float32)


class OracleTrainer(HistoryTrainer):
    """Regression on the value that the oracle gives a token.

    The tasks that are drawn together have the same bucket and pool; their scenarios follow each
    other in a sequence.
    """

    plan: OraclePlan

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `HistoryTrainer`."""
        super().__init__(*arguments, **named)
        self._begun = 0
        self._bank: list[_Solved] = []

    def _take_up(self, state: dict[str, Any]) -> None:
        # With other tasks.
        self._begun = self.iteration
        self._generator = np.random.default_rng((self.plan.seed, self.iteration))

    def _solve(self) -> _Solved:
        tasks = tuple(self._draw(self._generator))
        scale = RewardScale(Distribution.of(tasks[0].pool))
        unit = scale.unit if self.layout.universal else 1.0
        bucket = IntegerBucket.of(tasks[0].rate, tasks[0].depth)
        values = tuple(
            values_at_knots(
                solve_oracle(
                    task.scenario, task.pool, bucket, self.plan.locations, tolerance=1e-5
                ).marginal
                / unit,
                self.knots,
            )
            for task in tasks
        )
        constants = self.layout.constants(scale, tasks[0].rate, tasks[0].depth)
        return _Solved(tasks, values, unit, scale, constants)

    def _rows(
        self, solved: _Solved, count: int
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Draw ``count`` histories, their values, and the rewards in the unit of the values."""
        plan, generator = self.plan, self._generator
        parts = len(solved.tasks)
        ends = np.sort(generator.uniform(0.1, 0.9, parts - 1)) * plan.items
        lengths = np.diff([0, *ends.astype(int), plan.items])
        rewards, intervals, values = [], [], []
        for task, value, length in zip(solved.tasks, solved.values, lengths):
            sequences, hidden = task.scenario.draw_with_states(
                task.pool, int(length), plan.sequences, generator
            )
            bins = len(value)
            location = np.minimum((hidden.locations * bins).astype(int), bins - 1)
            rewards.append(sequences.rewards)
            intervals.append(sequences.intervals)
            values.append(value[location, hidden.arrivals])
        whole = Sequences(np.concatenate(rewards), np.concatenate(intervals))
        arrays = history_of(whole, self.layout, solved.scale)
        s = generator.integers(0, plan.sequences, count)
        t = generator.integers(0, plan.items, count)
        return (
            arrays.pick(s, t, solved.constants),
            np.concatenate(values)[t, s],
            (whole.rewards[t, s] / solved.unit).astype(np.float32),
        )

    def iterate(self) -> float:
        """Make one round; return its mean squared error."""
        plan = self.plan
        start = time.perf_counter()
        rounds = self.iteration - self._begun + 1
        while len(self._bank) < min(plan.tasks, rounds * plan.fresh + plan.chosen):
            self._bank.append(self._solve())
        solved = time.perf_counter() - start
        order = self._generator.permutation(len(self._bank))[: plan.chosen]
        drawn = [self._rows(self._bank[i], plan.rows // len(order)) for i in order]
        inputs, wanted, rewards = (
            torch.from_numpy(np.concatenate(parts)) for parts in zip(*drawn)
        )
        playing = time.perf_counter() - start - solved
        shuffled = torch.from_numpy(self._generator.permutation(len(inputs)))
        batches = shuffled.split(plan.batch)
        errors = []
        for step, batch in enumerate(batches):
            done = (self.iteration + step / len(batches)) / plan.iterations
            for parameters in self._optimizer.param_groups:
                parameters['lr'] = plan.learning_rate * (
                    0.5 * (1 + float(np.cos(np.pi * min(1.0, done)))) + 0.002
                )
            value = self.network(inputs[batch])
            squared = (value - wanted[batch]) ** 2
            with torch.no_grad():
                apart = (rewards[batch][:, None] - value) / plan.focus
                weight = plan.elsewhere + (1 - plan.elsewhere) * torch.exp(-apart * apart)
            loss = (weight * squared).sum() / weight.sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            errors.append((float(squared.detach().mean()), float(loss.detach())))
        self.iteration += 1
        error, weighted = np.mean(errors, axis=0).tolist()
        self._log(
            f'round {self.iteration}: squared error {error:.5f}, where it matters '
            f'{weighted:.5f}, {len(self._bank)} tasks, '
            f'{solved:.1f} s solving, {playing:.1f} s playing, '
            f'{time.perf_counter() - start:.1f} s in all'
        )
        return error
