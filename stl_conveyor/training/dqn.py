# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Train offloading policies that look at history: the DQN of one bucket, and one for all buckets.

The network answers, from the history h of metrics (and inter-arrival times), the worth of a
token at every bucket level at once:

    w(h, n) = E[V(h', n') - V(h', n'') | h],   n' after keeping the token, n'' after spending it

which is the difference of the two Q-values of the published DQN (Qiu et al., "Adaptive Edge
Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022): offload when x >= w.

Fitted Q by coupled returns. Items do not depend on decisions, so along one sequence the return
of the present policy is known for *every* starting level by one backward recursion. Started from
n' and n'' and fed the same items, two buckets sooner or later hold the same level; from there on
their returns cancel. The difference is an unbiased sample of w with little variance, needs no
discount and no bootstrap, and regression on it is one exact step of policy iteration.

    python -m stl_conveyor.training.dqn --metrics FILE.csv --out DIR [--only NAME ...]

trains ``adaptive.onnx`` (one network for all buckets) and ``dqn_<cell>.onnx`` for the cells of the
published figures, from a CSV with a column "metric". Checkpoints lie beside them; a run that was
stopped goes on where it was.
"""

import argparse
from dataclasses import asdict, dataclass
from fractions import Fraction
import json
from pathlib import Path
import sys
import time

import numpy as np
import torch

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import history_of, HistoryArrays, HistoryFormat, RewardScale
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor.policy.scenarios import (
    CorrelatedRewards, Scenario, Sequences, TwoStateArrivals,
)
from stl_conveyor.policy.simulate import IntegerBucket, level_positions


@dataclass(frozen=True, eq=False)
class Task:
    """One bucket in one scenario; pool [K] are the metrics of the items, sorted."""

    scenario: Scenario
    rate: Fraction
    depth: Fraction
    pool: np.ndarray


@dataclass(frozen=True)
class TrainingPlan:
    """
    How long and how wide to train.

    iterations   steps of policy iteration; the first follows the i.i.d. MDP
    sequences    drawn anew for each iteration, shared out among the tasks
    items        length of a sequence
    tail         items at the end of a sequence whose returns are cut short and not learned
    replay       how many iterations' samples to learn from; the older ones followed older policies
    steps        gradient steps for each iteration
    batch        histories in one step
    width, depth of the network
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


def make_network(inputs: int, outputs: int, width: int, depth: int) -> torch.nn.Sequential:
    """Make the MLP: ``depth`` hidden layers of ``width`` ReLU units."""
    layers = []
    for _ in range(depth):
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU()]
        inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))


def coupled_returns(
    sequences: Sequences, bucket: IntegerBucket, worth: np.ndarray, final: np.ndarray
) -> np.ndarray:
    """
    Return samples of the worth of a token, float32 [S, T, M + 1 - P], at the levels P..M.

    worth  the policy that is followed, [S, T, M + 1 - P]: offload when the reward reaches it
    final  what a level is worth after the last item, [M + 1]
    """
    cost, gain, full = bucket.cost, bucket.gain, bucket.full
    n_items, n_sequences = sequences.rewards.shape
    returns = np.broadcast_to(final.astype(np.float32), (n_sequences, full + 1))
    samples = np.empty(worth.shape, dtype=np.float32)
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
        returns[:, cost:] = np.where(reward >= worth[:, t], reward + low, high)
        returns -= returns[:, :1].copy()  # keep float32 exact: only differences matter
    return samples


class Windows:
    """Histories of many sequences as batches of network input."""

    def __init__(self, arrays: HistoryArrays, constants: np.ndarray, window: int):
        self._series = torch.from_numpy(arrays.series).unfold(1, window, 1)
        self._gaps = None
        if arrays.intervals is not None:
            self._gaps = torch.from_numpy(arrays.intervals).unfold(1, window, 1)
        self._others = torch.from_numpy(arrays.others)
        self._constants = torch.from_numpy(constants)

    def __call__(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Input [B, size] of items t [B] of sequences s [B]."""
        parts = [self._series[s, t]]
        if self._gaps is not None:
            parts.append(self._gaps[s, t])
        parts.append(self._others[s, t])
        parts.append(self._constants.expand(len(s), -1))
        return torch.cat(parts, dim=1)


def worth_of(
    network: torch.nn.Module, windows: Windows, n_sequences: int, n_items: int,
    positions: np.ndarray, chunk: int = 16384,
) -> np.ndarray:
    """Worth of a token at every item and level, float32 [S, T, levels]."""
    result = np.empty((n_sequences * n_items, len(positions)), dtype=np.float32)
    read = torch.from_numpy(positions.T.copy())
    with torch.no_grad():
        for start in range(0, len(result), chunk):
            place = torch.arange(start, min(start + chunk, len(result)))
            s, t = torch.div(place, n_items, rounding_mode='floor'), place % n_items
            result[start: start + len(place)] = (network(windows(s, t)) @ read).numpy()
    return result.reshape(n_sequences, n_items, -1)


def windows_of(sequences: Sequences, layout: HistoryFormat, task: Task) -> Windows:
    """Lay out sequences of a task as network input."""
    scale = RewardScale(Distribution.of(task.pool))
    constants = layout.constants(scale, task.rate, task.depth)
    return Windows(history_of(sequences, layout, scale), constants, layout.window)


def unit_of(task: Task, layout: HistoryFormat) -> float:
    """Return what the network's outputs are multiplied by to give metrics."""
    return RewardScale(Distribution.of(task.pool)).unit if layout.universal else 1.0


class Trainer:
    """
    Policy iteration with one network, over one task or many.

    layout  what the network sees
    knots   relative levels of the outputs; None is one output for each level (one bucket only)
    draw    function of a random generator that draws the tasks of one iteration
    """

    def __init__(self, layout: HistoryFormat, knots, draw, plan: TrainingPlan, log=print):
        self.layout, self.knots, self.plan = layout, knots, plan
        self._draw, self._log = draw, log
        torch.manual_seed(plan.seed)
        self._generator = np.random.default_rng(plan.seed)
        if knots is not None:
            outputs = len(knots)
        else:
            task = draw(np.random.default_rng(0))[0]
            bucket = IntegerBucket.of(task.rate, task.depth)
            outputs = bucket.full + 1 - bucket.cost
        self.network = make_network(layout.size, outputs, plan.width, plan.depth)
        self._optimizer = torch.optim.Adam(self.network.parameters(), plan.learning_rate)
        self.iteration = 0
        self._replay = []

    def save(self, path: Path) -> None:
        """Write a checkpoint; the samples of earlier iterations are not in it."""
        torch.save(
            {'network': self.network.state_dict(), 'optimizer': self._optimizer.state_dict(),
             'iteration': self.iteration, 'generator': self._generator.bit_generator.state,
             'torch': torch.get_rng_state()}, path,
        )

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path, weights_only=False)
        self.network.load_state_dict(state['network'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.iteration = state['iteration']
        self._generator.bit_generator.state = state['generator']
        torch.set_rng_state(state['torch'])

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
                worth = np.broadcast_to(
                    solution.thresholds[bucket.cost:].astype(np.float32),
                    (each, plan.items, len(reader)),
                )
            else:
                worth = worth_of(self.network, windows, each, plan.items, reader * unit)
            samples = coupled_returns(sequences, bucket, worth, solution.values)
            samples = samples[:, : plan.items - plan.tail] / np.float32(unit)
            groups.append((windows, torch.from_numpy(reader.T.copy()), samples))
        return groups, each

    def iterate(self) -> float:
        """Make one step of policy iteration; return the mean squared error at its end."""
        plan = self.plan
        start = time.perf_counter()
        fresh, each = self._collect()
        self._replay = [*self._replay[max(0, len(self._replay) - plan.replay + 1):], fresh]
        groups = [group for drawn in self._replay for group in drawn]
        collected = time.perf_counter() - start
        mixed = min(len(groups), 32)
        part = plan.batch // mixed
        # Each iteration ends at a low rate, and later ones begin at a lower one.
        rate = plan.learning_rate * (1 - 0.8 * min(1.0, self.iteration / plan.iterations))
        errors = []
        for step in range(plan.steps):
            for parameters in self._optimizer.param_groups:
                parameters['lr'] = rate * (0.5 * (1 + np.cos(np.pi * step / plan.steps)) + 0.01)
            inputs, wanted = [], []
            for g in self._generator.permutation(len(groups))[:mixed]:
                windows, reader, samples = groups[g]
                s = self._generator.integers(0, each, part)
                t = self._generator.integers(0, plan.items - plan.tail, part)
                inputs.append(windows(torch.from_numpy(s), torch.from_numpy(t)))
                wanted.append((reader, torch.from_numpy(samples[s, t])))
            outputs = self.network(torch.cat(inputs)).split(part)
            loss = sum(
                ((output @ reader - target) ** 2).mean()
                for output, (reader, target) in zip(outputs, wanted)
            ) / mixed
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            errors.append(float(loss.detach()))
        self.iteration += 1
        error = float(np.mean(errors[-max(1, plan.steps // 5):]))
        self._log(
            f'iteration {self.iteration}: squared error {error:.5f}, '
            f'{collected:.0f} s playing, {time.perf_counter() - start:.0f} s in all'
        )
        return error


def export(
    network: torch.nn.Module, layout: HistoryFormat, knots: 'np.ndarray | None',
    path: Path, about: 'dict | None' = None,
) -> None:
    """Write the network as ONNX, with what the node must know in its metadata."""
    import onnx
    from onnx import helper, numpy_helper, TensorProto

    nodes, weights, name = [], [], 'history'
    linear = [module for module in network if isinstance(module, torch.nn.Linear)]
    for place, layer in enumerate(linear):
        for part, tensor in (('weight', layer.weight), ('bias', layer.bias)):
            weights.append(numpy_helper.from_array(
                tensor.detach().numpy().astype(np.float32), f'{part}{place}'
            ))
        out = 'worth' if place == len(linear) - 1 else f'sum{place}'
        nodes.append(helper.make_node(
            'Gemm', [name, f'weight{place}', f'bias{place}'], [out], transB=1
        ))
        name = out
        if place < len(linear) - 1:
            nodes.append(helper.make_node('Relu', [out], [f'relu{place}']))
            name = f'relu{place}'
    graph = helper.make_graph(
        nodes, 'worth_of_a_token',
        [helper.make_tensor_value_info('history', TensorProto.FLOAT, ['N', layout.size])],
        [helper.make_tensor_value_info(
            'worth', TensorProto.FLOAT, ['N', linear[-1].out_features]
        )],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    helper.set_model_props(model, {
        'layout': json.dumps(asdict(layout)),
        'knots': json.dumps(None if knots is None else [float(k) for k in knots]),
        'about': json.dumps(about or {}),
    })
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def load_metrics(path: Path) -> np.ndarray:
    """
    Read the column "metric" of a CSV file, sorted.

    Raises ConfigError when there is no such file or column.
    """
    try:
        header, *lines = path.read_text(encoding='utf-8').splitlines()
        column = header.split(',').index('metric')
        return np.sort(np.loadtxt(lines, delimiter=',', usecols=column, ndmin=1))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{path} is no table of metrics ({error}); give a CSV file with a column "metric"'
        ) from error


def published_cells(pool: np.ndarray) -> 'dict[str, Task]':
    """Return the cells of the published figures for which a DQN is trained."""
    cells = {}
    for spread, reset, buckets in (
        (0.1, 0.1, (('0.05', 4), ('0.1', 1), ('0.1', 4), ('0.1', 20), ('0.25', 4))),
        (0.1, 0.01, (('0.1', 4),)),
        (0.5, 0.01, (('0.1', 4),)),
    ):
        for rate, depth in buckets:
            scenario = Scenario(rewards=CorrelatedRewards(spread, reset))
            name = f'correlated_sp{spread}_rprob{reset}_r{rate}_b{depth}'
            cells[name] = Task(scenario, Fraction(rate), Fraction(depth), pool)
    for slow, buckets in (
        (3, (('0.05', 4), ('0.1', 4), ('0.25', 4))), (6, (('0.1', 4),)),
    ):
        for rate, depth in buckets:
            scenario = Scenario(arrivals=TwoStateArrivals.published(slow))
            name = f'arrivals_{slow}_r{rate}_b{depth}'
            cells[name] = Task(scenario, Fraction(rate), Fraction(depth), pool)
    return cells


# Relative levels of the universal network's outputs: tokens matter most when few are left.
UNIVERSAL_KNOTS = np.array(
    [0, 0.02, 0.05, 0.09, 0.14, 0.2, 0.28, 0.37, 0.48, 0.6, 0.73, 0.87, 1.0]
)
UNIVERSAL_LAYOUT = HistoryFormat(
    window=48, intervals=True, horizons=(4, 16, 64, 256, 1024), universal=True
)
UNIVERSAL_PLAN = TrainingPlan(
    iterations=16, sequences=256, items=2400, tail=250, replay=4, steps=1200, batch=1024,
    width=160, depth=3,
)
_RATES = ('1/20', '1/20', '1/15', '1/12', '1/10', '1/10', '1/8', '3/20', '1/6', '1/5', '1/4',
          '1/4', '3/10', '1/3', '2/5', '1/2')


class UniversalTasks:
    """
    Draws tasks of every kind: scenarios, buckets and distributions of rewards.

    pool    metrics of items that half of the tasks use
    count   tasks in one draw
    """

    def __init__(self, pool: np.ndarray, count: int = 64):
        self._pool = np.sort(pool)
        self._count = count

    def _rewards(self, generator):
        """Draw a pool: the given one, or a random rising curve of metrics."""
        if generator.random() < 0.5:
            return self._pool
        top, hard = generator.uniform(0.3, 1.0), generator.uniform(0.1, 1.0)
        rank = np.linspace(0, 1, 1001)
        bend = generator.uniform(0.5, 3.0)
        curve = np.clip((rank - (1 - hard)) / hard, 0, 1) ** bend
        return top * (0.97 * curve + 0.03 * rank)

    def __call__(self, generator: np.random.Generator) -> 'list[Task]':
        """Draw the tasks of one iteration."""
        tasks = []
        for _ in range(self._count):
            kind = generator.random()
            rewards = arrivals = None
            if kind < 0.70:
                spread = float(generator.choice([0.1, 0.2, 0.5, generator.random() ** 1.5]))
                reset = float(10 ** -generator.uniform(0, 3))
                rewards = CorrelatedRewards(spread, float(generator.choice([0.1, 0.01, reset])))
            if kind > 0.55:
                slow = int(generator.choice([3, 6]))
                leave = float(10 ** -generator.uniform(0.5, 3))
                arrivals = TwoStateArrivals.published(
                    slow, float(generator.choice([0.001, leave]))
                )
            depth = int(generator.choice([1, 2, 4, 4, generator.integers(1, 21)]))
            rate = Fraction(str(generator.choice(_RATES)))
            tasks.append(Task(
                Scenario(rewards, arrivals), rate, Fraction(depth), self._rewards(generator)
            ))
        return tasks


def train(trainer: Trainer, checkpoint: Path) -> float:
    """Train to the end of the plan, from the checkpoint if there is one; return the seconds."""
    if checkpoint.exists():
        trainer.resume(checkpoint)
    start = time.perf_counter()
    while trainer.iteration < trainer.plan.iterations:
        trainer.iterate()
        trainer.save(checkpoint)
    return time.perf_counter() - start


def main(arguments: 'list[str] | None' = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.training.dqn',
        description='Train offloading policies that look at history.',
    )
    parser.add_argument('--metrics', type=Path, required=True,
                        help='CSV with a column "metric": expected rewards of items')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--only', nargs='*', default=None,
                        help='names to train: adaptive, or cells (default: everything)')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        pool = load_metrics(options.metrics)
        cells = published_cells(pool)
        names = options.only if options.only is not None else ['adaptive', *cells]
        for name in names:
            if name != 'adaptive' and name not in cells:
                raise ConfigError(f'no cell {name!r}; there are adaptive, {", ".join(cells)}')
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)

    def log(line: str) -> None:
        print(line, flush=True)

    for name in names:
        log(name)
        if name == 'adaptive':
            layout, knots, about = UNIVERSAL_LAYOUT, UNIVERSAL_KNOTS, {}
            trainer = Trainer(layout, knots, UniversalTasks(pool), UNIVERSAL_PLAN, log)
            path = options.out / 'adaptive.onnx'
        else:
            task = cells[name]
            layout = HistoryFormat(intervals=task.scenario.arrivals is not None)
            knots, about = None, {'rate': str(task.rate), 'depth': str(task.depth)}
            trainer = Trainer(layout, knots, lambda generator, t=task: [t], TrainingPlan(), log)
            path = options.out / f'dqn_{name}.onnx'
        about['seconds'] = train(trainer, path.with_suffix('.pt'))
        export(trainer.network, layout, knots, path, about)
    return 0


if __name__ == '__main__':
    sys.exit(main())
