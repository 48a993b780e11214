# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The published DQN in one file: fitted Q-iteration with a target network and a discount.

Qiu et al., "Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022.

    python -m stl_conveyor_lab.papers.dqn --metrics FILE.csv --out DIR [--only CELL ...]

trains ``dqn_<cell>.onnx`` for the buckets and scenarios of the published figures, from a CSV with
a column "metric". Each hyper-parameter of ``DqnSettings`` is an option. A checkpoint lies beside
each network; a run that was stopped goes on where it was.

State: the last 96 metrics (and inter-arrival times), and the tokens. Because items do not depend
on decisions, one transition of the history serves every bucket level at once; the network tells
for all levels the value of the level after this item's decision,

    U(h, n') = E[max(U(h+, f(n')), x+ + U(h+, f(n' - P)))] * discount,

with n' the tokens after the decision and f the arrival of tokens until the next item; so
Q(h, n, keep) = U(h, n), Q(h, n, offload) = x + U(h, n - P), and the value of a token is the
difference. Targets come from a copy of the network that follows in steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import HistoryFormat, RewardScale
from stl_conveyor_lab.papers.histories import history_of
from stl_conveyor_lab.papers.policy_file import export
from stl_conveyor_lab.papers.simulate import IntegerBucket
from stl_conveyor_lab.papers.tasks import Task, load_metrics, published_tasks


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={'help': meaning})


@dataclass(frozen=True)
class DqnSettings:
    """Hyper-parameters; the ``help`` of each field's metadata says what it is."""

    seed: int = _setting(0, 'of all randomness: weights, sequences and batches')
    window: int = _setting(96, 'metrics that the network sees, the present one included')
    width: int = _setting(64, 'units of a hidden layer')
    depth: int = _setting(5, 'hidden layers')
    iterations: int = _setting(12, 'rounds, each on new sequences')
    sequences: int = _setting(64, 'sequences of a round')
    items: int = _setting(2500, 'items of a sequence')
    copies: int = _setting(12, 'copies of the network to its targets, in a round')
    steps: int = _setting(60, 'gradient steps between two copies')
    batch: int = _setting(1024, 'histories of a gradient step')
    discount: float = _setting(0.99, 'discount for each item')
    learning_rate: float = _setting(1e-3, 'learning rate at the start; falls along a cosine')


def make_network(inputs: int, outputs: int, width: int, depth: int) -> torch.nn.Sequential:
    """Make the network: ``depth`` hidden layers of ``width`` ReLU units."""
    layers: list[torch.nn.Module] = []
    for _ in range(depth):
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU()]
        inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))


def token_values(levels: torch.nn.Sequential, cost: int) -> torch.nn.Sequential:
    """Turn the values of the levels 0..M into those of a token at the levels P..M.

    Args:
        levels: Network with M + 1 outputs; its last layer is linear.
        cost: Steps of a token, P.

    Returns:
        A network with M + 1 - P outputs, the differences.
    """
    last = levels[-1]
    assert isinstance(last, torch.nn.Linear)
    differences = torch.nn.Linear(last.in_features, last.out_features - cost)
    with torch.no_grad():
        differences.weight.copy_(last.weight[cost:] - last.weight[:-cost])
        differences.bias.copy_(last.bias[cost:] - last.bias[:-cost])
    return torch.nn.Sequential(*list(levels)[:-1], differences)


def layout_of(settings: DqnSettings, task: Task) -> HistoryFormat:
    """Return what the network sees: inter-arrival times only where they vary."""
    return HistoryFormat(settings.window, intervals=task.scenario.arrivals is not None)


def train(
    settings: DqnSettings,
    task: Task,
    checkpoint: Path | None = None,
    log: Callable[[str], object] = print,
) -> torch.nn.Sequential:
    """Train the network of one bucket in one scenario.

    Args:
        settings: The hyper-parameters.
        task: Scenario, bucket and metrics.
        checkpoint: File to write after each round, and to go on from where it exists.
        log: Takes a line for each round.

    Returns:
        The network: history [N, size] to the value of a token [N, M + 1 - P] at the levels P..M.
    """
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)

    bucket = IntegerBucket.of(task.rate, task.depth)
    layout = layout_of(settings, task)
    scale = RewardScale(Distribution.of(task.pool))
    constants = layout.constants(scale, task.rate, task.depth)
    size = (layout.size, bucket.full + 1, settings.width, settings.depth)
    values, targets = make_network(*size), make_network(*size)
    targets.load_state_dict(values.state_dict())
    optimizer = torch.optim.Adam(values.parameters(), settings.learning_rate)
    done = 0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        values.load_state_dict(state['values'])
        targets.load_state_dict(state['targets'])
        optimizer.load_state_dict(state['optimizer'])
        done = state['iteration']
        generator = np.random.default_rng((settings.seed, done))

    levels = torch.arange(bucket.full + 1)
    for iteration in range(done, settings.iterations):
        start = time.perf_counter()
        sequences = task.scenario.draw(task.pool, settings.items, settings.sequences, generator)
        histories = history_of(sequences, layout, scale)
        rewards = torch.from_numpy(sequences.rewards.T.copy())
        intervals = torch.from_numpy(sequences.intervals.T.astype(np.int64))
        error = 0.0
        for copy in range(settings.copies):
            progress = (iteration + copy / settings.copies) / settings.iterations
            for group in optimizer.param_groups:
                group['lr'] = settings.learning_rate * (
                    0.5 * (1 + float(np.cos(np.pi * progress))) + 0.01
                )
            for _ in range(settings.steps):
                s = generator.integers(0, settings.sequences, settings.batch)
                t = generator.integers(0, settings.items - 1, settings.batch)
                with torch.no_grad():
                    later = targets(torch.from_numpy(histories.pick(s, t + 1, constants)))
                    filled = torch.clamp(
                        levels + bucket.gain * intervals[s, t][:, None], max=bucket.full
                    )
                    keep = later.gather(1, filled)
                    spend = rewards[s, t + 1][:, None] + later.gather(
                        1, torch.clamp(filled - bucket.cost, min=0)
                    )
                    best = torch.where(filled >= bucket.cost, torch.maximum(keep, spend), keep)
                    target = settings.discount * best
                now = values(torch.from_numpy(histories.pick(s, t, constants)))
                loss = torch.nn.functional.mse_loss(now, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                error = float(loss.detach())
            targets.load_state_dict(values.state_dict())
        log(
            f'round {iteration + 1}: squared error {error:.5f}, '
            f'{time.perf_counter() - start:.0f} s'
        )
        if checkpoint is not None:
            torch.save(
                {
                    'values': values.state_dict(),
                    'targets': targets.state_dict(),
                    'optimizer': optimizer.state_dict(),
                    'iteration': iteration + 1,
                },
                checkpoint,
            )
    return token_values(values, bucket.cost)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.papers.dqn',
        description='Train the published DQN.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--metrics',
        type=Path,
        required=True,
        help='CSV with a column "metric": expected rewards of items',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--only', nargs='*', metavar='CELL', help='cells; None trains all')
    parser.add_argument('--threads', type=int, default=1, help='threads of torch')
    for item in fields(DqnSettings):
        parser.add_argument(
            f'--{item.name.replace("_", "-")}',
            type=type(item.default),
            default=item.default,
            help=item.metadata['help'],
        )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = DqnSettings(
        **{item.name: getattr(options, item.name) for item in fields(DqnSettings)}
    )
    try:
        tasks = published_tasks(load_metrics(options.metrics))
        names = tasks if options.only is None else options.only
        for name in names:
            if name not in tasks:
                raise ConfigError(f'no cell {name!r}; there are {", ".join(tasks)}')
        options.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            print(name, flush=True)
            task, path = tasks[name], options.out / f'dqn_{name}.onnx'
            start, worked = time.perf_counter(), time.process_time()
            network = train(
                settings, task, path.with_suffix('.pt'), lambda line: print(line, flush=True)
            )
            about = {
                'rate': str(task.rate),
                'depth': str(task.depth),
                'method': 'fitted-q',
                'seconds': time.perf_counter() - start,
                'cpu_seconds': time.process_time() - worked,
            }
            export(network, layout_of(settings, task), None, path, about)
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
