# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Train offloading policies that look at history: one network for all buckets, or for one.

    python -m stl_conveyor_lab.train.policies --metrics FILE.csv --out DIR [--only NAME ...]
        [--method oracle|returns] [--start FILE.onnx] [--rounds N] [--seed N]
        [--learning-rate RATE]

trains ``adaptive.onnx`` (one network for all buckets) and ``dqn_<cell>.onnx`` for the cells of the
published figures, from a CSV with a column "metric". The methods are those of the modules
``oracle`` and ``returns``; ``stl_conveyor_lab.papers.dqn`` trains the cells as published.
Checkpoints lie beside the networks; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.policy.history import HistoryFormat
from stl_conveyor_lab.papers.policy_file import export, load_weights
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, TwoStateArrivals
from stl_conveyor_lab.papers.simulate import IntegerBucket
from stl_conveyor_lab.papers.tasks import Task, load_metrics, published_tasks
from stl_conveyor_lab.train.policies.history_trainer import HistoryTrainer
from stl_conveyor_lab.train.policies.oracle import OraclePlan, OracleTrainer
from stl_conveyor_lab.train.policies.returns import Trainer, TrainingPlan

# Relative levels of the universal network's outputs: tokens matter most when few are left.
UNIVERSAL_KNOTS = np.array(
    [0, 0.02, 0.05, 0.09, 0.14, 0.2, 0.28, 0.37, 0.48, 0.6, 0.73, 0.87, 1.0]
)
UNIVERSAL_LAYOUT = HistoryFormat(
    window=48, intervals=True, horizons=(4, 16, 64, 256, 1024), universal=True
)
UNIVERSAL_ORACLE = OraclePlan(
    iterations=300,
    rows=131072,
    tasks=600,
    fresh=2,
    chosen=40,
    sequences=2,
    items=5000,
    locations=48,
)
UNIVERSAL_RETURNS = TrainingPlan(
    iterations=16,
    sequences=256,
    items=2400,
    tail=250,
    replay=4,
    steps=1200,
    batch=1024,
    width=192,
    depth=3,
)
CELL_ORACLE = OraclePlan(
    iterations=60,
    rows=131072,
    tasks=1,
    fresh=1,
    chosen=1,
    sequences=48,
    locations=100,
    width=64,
    depth=5,
)
_RATES = (
    '1/20',
    '1/20',
    '1/15',
    '1/12',
    '1/10',
    '1/10',
    '1/10',
    '1/8',
    '3/20',
    '1/6',
    '1/5',
    '1/4',
    '1/4',
    '3/10',
    '1/3',
    '2/5',
    '1/2',
    '1/2',
    '2/3',
    '3/4',
    '1',
    '3/2',
)
_MAX_EQUATIONS = 420  # of a task with correlated rewards: it takes some seconds to solve


class UniversalTasks:
    """Draws tasks of every kind: scenarios, buckets and distributions of rewards.

    Attributes:
        pool: Metrics of items that half of the tasks use.
        changes: Scenarios that follow each other at one bucket.
    """

    def __init__(self, pool: NDArray[Any], changes: int = 2):
        self._pool = np.sort(pool)
        self._changes = changes

    def _rewards(self, generator):
        """Draw a pool: the given one, or a random rising curve of metrics."""
        if generator.random() < 0.5:
            return self._pool
        top, hard = generator.uniform(0.3, 1.0), generator.uniform(0.1, 1.0)
        rank = np.linspace(0, 1, 1001)
        bend = generator.uniform(0.5, 3.0)
        curve = np.clip((rank - (1 - hard)) / hard, 0, 1) ** bend
        return top * (0.97 * curve + 0.03 * rank)

    @staticmethod
    def _bucket(generator):
        """Draw r and b; b may be half a token above a whole number, as after refunds."""
        depth = Fraction(
            int(
                generator.choice(
                    [1, 2, 4, 4, 4, *generator.integers(1, 21, 2), generator.integers(10, 21)]
                )
            )
        )
        if generator.random() < 0.2:
            depth += Fraction(1, 2)
        return Fraction(str(generator.choice(_RATES))), depth

    @staticmethod
    def _scenario(generator):
        """Draw correlated rewards, two-state arrivals, both or neither."""
        kind = generator.random()
        rewards = arrivals = None
        if kind < 0.62:
            spread = float(
                generator.choice(
                    [0.0, 0.1, 0.1, 0.2, 0.5, generator.random() ** 1.5, generator.random()]
                )
            )
            reset = float(10 ** -generator.uniform(0, 3))
            rewards = CorrelatedRewards(spread, float(generator.choice([0.1, 0.01, reset])))
        if 0.50 < kind < 0.93:
            slow = int(generator.choice([3, 6, 3, 6, 2, 4, 10]))
            leave = float(10 ** -generator.uniform(0.0, 3))
            if slow in (3, 6) and generator.random() < 0.7:
                arrivals = TwoStateArrivals.published(
                    slow, min(float(generator.choice([0.001, leave])), 1.0)
                )
            else:
                back = float(10 ** -generator.uniform(0.0, 3))
                arrivals = TwoStateArrivals(slow, leave, back)
        return Scenario(rewards, arrivals)

    def __call__(self, generator: np.random.Generator) -> list[Task]:
        """Draw scenarios for one bucket and one pool."""
        rate, depth = self._bucket(generator)
        pool = self._rewards(generator)
        tasks: list[Task] = []
        while len(tasks) < self._changes:
            scenario = self._scenario(generator)
            bucket = IntegerBucket.of(rate, depth)
            states = 1 if scenario.arrivals is None else 2
            if scenario.rewards is None or states * bucket.full <= _MAX_EQUATIONS:
                tasks.append(Task(scenario, rate, depth, pool))
        return tasks


def train(trainer: HistoryTrainer, checkpoint: Path, keep_every: int = 1) -> float:
    """Train to the end of the plan, from the checkpoint if there is one; return the seconds.

    Args:
        keep_every: Iterations between two checkpoints.
    """
    if checkpoint.exists():
        trainer.resume(checkpoint)
    start = time.perf_counter()
    while trainer.iteration < trainer.plan.iterations:
        trainer.iterate()
        if trainer.iteration % keep_every == 0:
            trainer.save(checkpoint)
    trainer.save(checkpoint)
    return time.perf_counter() - start


def make_trainer(name: str, method: str, pool: NDArray[Any], task: Task | None, log, **plan):
    """Make the trainer of a network, and what is to be written with it.

    Args:
        task: The one that it shall serve; None for all.
        plan: Fields of the method's plan that are not to be as usual.

    Raises:
        ConfigError: For a method that it is not trained by.
    """
    if task is None:
        tasks = UniversalTasks(pool)
        if method == 'oracle':
            return OracleTrainer(
                UNIVERSAL_LAYOUT, UNIVERSAL_KNOTS, tasks, replace(UNIVERSAL_ORACLE, **plan), log
            ), {}
        if method == 'returns':

            def several(generator):
                return [tasks(generator)[0] for _ in range(64)]

            return Trainer(
                UNIVERSAL_LAYOUT, UNIVERSAL_KNOTS, several, replace(UNIVERSAL_RETURNS, **plan), log
            ), {}
        raise ConfigError(f'{name} is trained by the methods oracle and returns, not {method}')
    layout = HistoryFormat(intervals=task.scenario.arrivals is not None)
    about = {'rate': str(task.rate), 'depth': str(task.depth)}

    def only(_):
        return [task]

    if method == 'oracle':
        return OracleTrainer(layout, None, only, replace(CELL_ORACLE, **plan), log), about
    if method == 'returns':
        return Trainer(layout, None, only, TrainingPlan(**plan), log), about
    raise ConfigError(f'{name} is trained by the methods oracle and returns, not {method}')


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.train.policies',
        description='Train offloading policies that look at history.',
    )
    parser.add_argument(
        '--metrics',
        type=Path,
        required=True,
        help='CSV with a column "metric": expected rewards of items',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--only',
        nargs='*',
        default=None,
        help='names to train: adaptive, or cells (default: everything)',
    )
    parser.add_argument(
        '--method',
        choices=('oracle', 'returns'),
        default='oracle',
        help='see the modules of these names; the published one is stl_conveyor_lab.papers.dqn',
    )
    parser.add_argument(
        '--start', type=Path, default=None, help='exported network whose weights to begin with'
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=None,
        dest='iterations',
        help='of training (default: as the method plans)',
    )
    parser.add_argument('--seed', type=int, default=None)
    parser.add_argument('--learning-rate', type=float, default=None)
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    def log(line: str) -> None:
        print(line, flush=True)

    try:
        pool = load_metrics(options.metrics)
        cells = published_tasks(pool)
        names = options.only if options.only is not None else ['adaptive', *cells]
        for name in names:
            if name != 'adaptive' and name not in cells:
                raise ConfigError(f'no cell {name!r}; there are adaptive, {", ".join(cells)}')
        options.out.mkdir(parents=True, exist_ok=True)
        plan = {
            key: getattr(options, key)
            for key in ('iterations', 'seed', 'learning_rate')
            if getattr(options, key) is not None
        }
        for name in names:
            log(name)
            trainer, about = make_trainer(name, options.method, pool, cells.get(name), log, **plan)
            if options.start is not None:
                load_weights(trainer.network, options.start)
            stem = 'adaptive' if name == 'adaptive' else f'dqn_{name}'
            path = options.out / f'{stem}.onnx'
            about['method'] = options.method
            worked = time.process_time()
            about['seconds'] = train(trainer, path.with_suffix('.pt'), keep_every=5)
            about['cpu_seconds'] = time.process_time() - worked
            export(trainer.network, trainer.layout, trainer.knots, path, about)
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
