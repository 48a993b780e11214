# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure reward estimates, byte budgets and policies on recorded items of the cell's own models.

The items were classified by the weak model and sent through the codec at every byte budget
(``stl_conveyor_lab.data.streams``); none was fitted on. Sequences are permutations of them, and
each policy of a comparison plays the same ones through the node's own bucket. Intervals are 95 %,
paired, over items: each item's mean gain over the sequences is one value, so that they hold for
other items, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import OVERHEAD_BYTES
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import (
    Distribution,
    Policy,
    PolicyInput,
    PolicySettings,
    RewardEstimator,
    TokenBucket,
)
from stl_conveyor.policy.for_cell import load_budgets, make_cell_policy
from stl_conveyor_lab.data.recorded_streams import RecordedStreams
from stl_conveyor_lab.data.streams import PACKET_BYTES, load_streams
from stl_conveyor_lab.papers.scenarios import TwoStateArrivals
from stl_conveyor_lab.train.reward.comparison import compare_metrics

RATES = ('0.05', '0.1', '0.25')
DEPTH = Fraction(4)
ARRIVALS = {'steady': None, 'intervals 1 and 3': TwoStateArrivals.published(3, 0.01)}
CONTENDERS = (
    # name in the tables, policy, byte budgets
    ('constant threshold', 'threshold', False),
    ('MDP, all or nothing', 'mdp', False),
    ('one for all, all or nothing', 'adaptive', False),
    ('MDP, byte budgets', 'mdp', True),
    ('one for all, byte budgets', 'adaptive', True),
)
REFERENCE = 'one for all, all or nothing'


def interval_over_items(values: NDArray[Any]) -> tuple[float, float]:
    """Return the mean of values [N], one for each item, and half its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(values.size))


class RecordedItems:
    """Items with what each classifier said, and the streams of each.

    Raises:
        ConfigError: For a file that has no such arrays.
    """

    def __init__(self, path: Path, estimator: RewardEstimator):
        try:
            with np.load(path) as arrays:
                probabilities = arrays['probabilities']
                self.weak = arrays['weak_correct'].astype(bool)
                self.edge = arrays['edge_correct'].astype(bool)
                posteriors = arrays['posteriors'] if 'posteriors' in arrays.files else None
                self.streams = load_streams(arrays)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f'{path} lacks classifier results ({error}); record them with '
                'python -m stl_conveyor_lab.data.streams'
            ) from error
        self.metrics = {
            'entropy': getattr(estimator, 'entropy', estimator).expected_rewards(probabilities)
        }
        if estimator.kind != 'entropy':
            self.metrics[estimator.kind] = estimator.expected_rewards(probabilities, posteriors)
        self.rewards = self.metrics[estimator.kind]


def calibration(items: RecordedItems, parts: int = 10) -> dict[str, list[dict]]:
    """Compare expected with actual rewards in tenths of the items, by expected reward."""
    actual = items.edge.astype(float) - items.weak
    result = {}
    for name, metric in items.metrics.items():
        rows = []
        for part in np.array_split(np.argsort(metric, kind='stable'), parts):
            mean, half = interval_over_items(actual[part])
            rows.append({'expected': float(metric[part].mean()), 'actual': mean, 'ci95': half})
        result[name] = rows
    return result


def play(
    policy: Policy,
    expected: NDArray[Any],
    order: NDArray[Any],
    intervals: NDArray[Any],
    rate: Fraction,
    nominal_bytes: int,
    outcomes: Mapping[int, tuple[NDArray[Any], NDArray[Any]]],
    weak: NDArray[Any],
) -> tuple[NDArray[Any], dict]:
    """Play the items once, in an order [N], through the node's bucket.

    Returns the gain in accuracy of each item [N], and what was sent.

    Args:
        intervals: Int [N], time units after each item.
        outcomes: By budget: bytes used [N] and whether the answer is right [N].
    """
    bucket = TokenBucket(rate, DEPTH, 1, nominal_bytes, start_ns=0)
    policy.reset()
    gains = np.zeros(order.size)
    sent = {'offloads': 0, 'bytes': 0, 'messages': 0}
    now, before = 0, float('nan')
    for i, interval in zip(order.tolist(), intervals.tolist()):
        bucket.advance(now)
        decision = policy.decide(
            PolicyInput(float(expected[i]), bucket.available, bucket.denominator, now, before)
        )
        if decision.offload:
            budget = round(decision.share * nominal_bytes)
            reservation = bucket.reserve(budget)
            if reservation is not None:
                used, right = (values[i] for values in outcomes[budget])
                bucket.settle(reservation, int(used))
                policy.settled(int(used) / nominal_bytes)
                gains[i] = float(right) - float(weak[i]) if used else 0.0
                sent['offloads'] += 1
                sent['bytes'] += int(used)
                sent['messages'] += -(-int(used) // PACKET_BYTES)
        before = interval
        now += interval
    return gains, sent


def compare_policies(
    items: RecordedItems,
    estimator: RewardEstimator,
    folder: ModelFolder,
    sequences: int,
    seed: int,
) -> list[dict]:
    """Let all contenders play at each rate, with each arrival process."""
    table = load_budgets(folder, 'adaptive')
    if table is None or not items.streams:
        return []
    outcomes = {
        budget: recorded.stop(budget, table.stop_score)
        for budget, recorded in items.streams.items()
    }
    rows = []
    for arrivals_name, arrivals in ARRIVALS.items():
        for rate in map(Fraction, RATES):
            row = _play_all(items, estimator, table, outcomes, rate, arrivals, sequences, seed)
            rows.append({'arrivals': arrivals_name, 'rate': float(rate), 'policies': row})
    return rows


def _play_all(items, estimator, table, outcomes, rate, arrivals, sequences, seed):
    generator = np.random.default_rng(seed)
    count = items.weak.size
    settings = PolicySettings(
        rate=rate,
        depth=DEPTH,
        intervals=Distribution.of([1.0]) if arrivals is None else arrivals.distribution,
    )
    whole = outcomes[table.nominal_bytes][0]
    gains = {name: np.zeros(count) for name, _, _ in CONTENDERS}
    sent = {name: {'offloads': 0, 'bytes': 0, 'messages': 0} for name, _, _ in CONTENDERS}
    policies = {
        name: make_cell_policy(
            policy,
            PolicySettings(
                rate=settings.rate,
                depth=settings.depth,
                intervals=settings.intervals,
                costs=Distribution.of([float(whole.mean()) / table.nominal_bytes]),
            ),
            estimator,
            table if budgets else None,
        )
        for name, policy, budgets in CONTENDERS
    }
    for _ in range(sequences):
        order = generator.permutation(count)
        intervals = (
            np.ones(count, dtype=int)
            if arrivals is None
            else (arrivals.intervals(count, 1, generator)[:, 0].astype(int))
        )
        for name, policy in policies.items():
            gained, used = play(
                policy,
                items.rewards,
                order,
                intervals,
                rate,
                table.nominal_bytes,
                outcomes,
                items.weak,
            )
            gains[name] += gained / sequences
            for key, value in used.items():
                sent[name][key] += value / (sequences * count)
    row = {}
    for name in policies:
        difference, half = interval_over_items(gains[name] - gains[REFERENCE])
        row[name] = {
            'loss': float(1 - items.weak.mean() - gains[name].mean()),
            'gain': float(gains[name].mean()),
            'difference': -difference,
            'ci95': half,
            'offloaded': sent[name]['offloads'],
            'payload_bytes': sent[name]['bytes'],
            'wire_bytes': sent[name]['bytes'] + OVERHEAD_BYTES * sent[name]['messages'],
        }
    return row


def accuracy_by_bytes(streams: Mapping[int, RecordedStreams]) -> list[dict]:
    """Return the edge's accuracy with each byte budget, and the bytes used."""
    rows = []
    for budget, recorded in streams.items():
        used, right = recorded.stop(budget, 1.1)
        mean, half = interval_over_items(right.astype(float))
        rows.append(
            {'budget': budget, 'bytes': float(used.mean()), 'accuracy': mean, 'ci95': half}
        )
    return rows


def measure_items(
    models: Path | None, data: Path | None, sequences: int = 12, seed: int = 0
) -> dict:
    """Measure on the cell's own models.

    Loss per item when the best share r of the items by each metric is offloaded, and the part of
    the gap between entropy and perfect knowledge that the learned metric closes; calibration; what
    byte budgets win. Without ``data`` (.npz as for ``stl_conveyor_lab.train.reward.fit``) there is
    only what the fit measured on items left out; nothing where no reward.json is.
    """
    if models is None or not (models / 'reward.json').is_file():
        return {}
    if data is None:
        content = json.loads((models / 'reward.json').read_text(encoding='utf-8'))
        return {'metrics': content.get('measured', {})}
    folder = ModelFolder(models)
    estimator = RewardEstimator.load(folder.path('reward'))
    items = RecordedItems(data, estimator)
    return {
        'metrics': compare_metrics(
            items.metrics, items.weak, items.edge, np.random.default_rng(seed)
        ),
        'calibration': calibration(items),
        'bytes': accuracy_by_bytes(items.streams),
        'policies': compare_policies(items, estimator, folder, sequences, seed),
    }
