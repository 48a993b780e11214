# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure policies, networks and bounds in the cells of the published figures.

All policies of a cell see the same sequences. What thresholds by level earn in the long run
(baseline, MDP) is solved for exactly, and the unlimited burst is the mean of the best items that
the rate can carry; they are played all the same, to check both ways of getting the number. What
takes longer (belief, networks, clairvoyant) plays ``part_sequences`` others of ``part_items``
items, after as many to begin with as buckets take from full to what they mostly hold, and
histories to fill: its loss is the MDP's exact one plus the paired difference to the MDP there.
Intervals are 95 %, over sequences.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy import Distribution, PolicySettings
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor.policy.thresholds import ConstantThresholdPolicy
from stl_conveyor_lab.bench.policy.points import FigurePoint
from stl_conveyor_lab.bench.policy.rows import (
    ORACLE,
    CamerasRow,
    Loss,
    PointRow,
    SharedLoss,
    TraceRow,
)
from stl_conveyor_lab.papers.belief import play_belief
from stl_conveyor_lab.papers.bounds import clairvoyant, exact_gain, solve_oracle, unlimited_burst
from stl_conveyor_lab.papers.cameras import ARRANGEMENTS, merged, play_cameras
from stl_conveyor_lab.papers.learned import play_network
from stl_conveyor_lab.papers.scenarios import (
    CorrelatedRewards,
    Scenario,
    Sequences,
    TwoStateArrivals,
    load_trace,
)
from stl_conveyor_lab.papers.simulate import IntegerBucket, play_tables

WEAK_LOSS = 0.2985  # the one fitted constant of the published curves
WARM_UP = 1000  # items that the slow policies play before counting begins
LOCATIONS = 60  # bins of the hidden location
TRACE_LOCATIONS = 500  # the same for a single sequence, which is cheap
# Published sequences: name, scenario they were drawn from; (r, b) is (0.1, 4).
TRACES = (
    ('Fig7a', Scenario(rewards=CorrelatedRewards(0.1, 0.01))),
    ('Fig10a', Scenario(arrivals=TwoStateArrivals.published(3))),
)
LABELS = {
    'lower_bound': 'unlimited burst',
    'clairvoyant': 'clairvoyant',
    ORACLE: 'told hidden state',
    'baseline': 'constant threshold',
    'mdp': 'MDP (i.i.d.)',
    'belief': 'belief filter + DP',
    'dqn': 'DQN (one per cell)',
    'adaptive': 'one network for all',
}
BOUNDS = ('lower_bound', 'clairvoyant', ORACLE)


def half_interval(values: NDArray[Any]) -> float:
    """Return half the 95 % interval of the mean of independent values."""
    from scipy import stats

    if len(values) < 2:
        return float('nan')
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


@dataclass(frozen=True)
class Effort:
    """How much to play."""

    items: int
    sequences: int
    part_items: int
    part_sequences: int
    seed: int


class Networks:
    """Trained networks of the model folder, by what they serve."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def dqn(self, point: FigurePoint) -> str | None:
        """Return the path of the DQN of a point, if one was trained."""
        return self._find(f'dqn_{point.name}.onnx')

    @property
    def adaptive(self) -> str | None:
        """Return the path of the network for all buckets, if there is one."""
        return self._find('adaptive.onnx')

    def _find(self, name: str) -> str | None:
        path = self._folder / name if self._folder is not None else None
        return str(path) if path is not None and path.is_file() else None


def draw_sequences(scenario: Scenario, pool: NDArray[Any], effort: Effort) -> Sequences:
    """Draw the sequences of a scenario that policies with an exact solution play."""
    return scenario.draw(
        pool, effort.items, effort.sequences, np.random.default_rng(_seed(scenario, effort))
    )


def draw_part(scenario: Scenario, pool: NDArray[Any], effort: Effort) -> Sequences:
    """Draw the sequences of a scenario that the slow policies play, warm-up and all."""
    generator = np.random.default_rng([_seed(scenario, effort), 1])
    return scenario.draw(pool, WARM_UP + effort.part_items, effort.part_sequences, generator)


def _seed(scenario: Scenario, effort: Effort) -> int:
    return zlib.crc32(repr(scenario).encode()) ^ effort.seed


def compared(mdp_loss: float, gains: NDArray[Any], mdp: NDArray[Any]) -> Loss:
    """Return the loss of a policy by its paired difference to the MDP.

    Args:
        mdp_loss: Loss of the MDP, exact.
        gains: float64 [S], reward per item of the policy.
        mdp: float64 [S], reward per item of the MDP on the same sequences.

    Returns:
        The loss and the difference, with their intervals.
    """
    difference = gains - mdp
    return Loss(
        loss=mdp_loss - float(difference.mean()),
        ci95=half_interval(difference),
        difference=-float(difference.mean()),
        difference_ci95=half_interval(difference),
    )


def solved(gain: float, played: NDArray[Any]) -> Loss:
    """Return the loss that was solved for, beside that of sequences that were played.

    Args:
        gain: Reward per item, exact.
        played: float64 [S], reward per item of the sequences.

    Returns:
        Both losses.
    """
    return Loss(
        loss=WEAK_LOSS - gain,
        ci95=0.0,
        played=WEAK_LOSS - float(played.mean()),
        played_ci95=half_interval(played),
    )


def best_share(pool: NDArray[Any], share: float) -> float:
    """Return the mean, over all items, of what the best ``share`` of a sorted pool brings."""
    if share >= 1:
        return float(np.maximum(pool, 0).mean())
    place = (1 - share) * pool.size
    whole = int(np.ceil(place))
    partly = (whole - place) * pool[whole - 1] if whole else 0.0
    return float((pool[whole:].sum() + partly) / pool.size)


def measure_points(
    points: list[FigurePoint], pool: NDArray[Any], effort: Effort
) -> list[PointRow]:
    """Measure points of one scenario on the same sequences, all but the networks.

    Args:
        points: Of one scenario.
        pool: float64 [K], metrics of items, sorted.
        effort: How much to play.

    Returns:
        A row for each point: what was played beside what was solved for, else the difference to
        the MDP.
    """
    scenario = points[0].scenario
    sequences, part = (draw(scenario, pool, effort) for draw in (draw_sequences, draw_part))
    rewards = Distribution.of(pool)
    buckets = [IntegerBucket.of(point.rate, point.depth) for point in points]
    solutions = [
        solve_mdp(point.rate, point.depth, rewards, scenario.intervals).thresholds
        for point in points
    ]
    baselines = [
        np.full(
            bucket.full + 1,
            ConstantThresholdPolicy(
                PolicySettings(
                    rate=point.rate,
                    depth=point.depth,
                    rewards=rewards,
                    intervals=scenario.intervals,
                )
            ).threshold,
        )
        for bucket, point in zip(buckets, points)
    ]
    mdp, _ = play_tables(sequences, buckets, solutions)
    baseline, _ = play_tables(sequences, buckets, baselines)
    mdp_part, _ = play_tables(part, buckets, solutions, WARM_UP)
    mdp_whole, _ = play_tables(part, buckets, solutions)
    oracles = [solve_oracle(scenario, pool, bucket, LOCATIONS, 1e-6) for bucket in buckets]
    belief, _ = play_belief(scenario, pool, part, buckets, oracles, WARM_UP)
    rows = []
    for c, point in enumerate(points):
        exact = {
            name: exact_gain(scenario, pool, buckets[c], tables[c], LOCATIONS)
            for name, tables in (('mdp', solutions), ('baseline', baselines))
        }
        mdp_loss = WEAK_LOSS - exact['mdp']
        measured = {
            'mdp': solved(exact['mdp'], mdp[c]),
            'baseline': solved(exact['baseline'], baseline[c]),
            'lower_bound': solved(
                best_share(pool, float(point.rate) * scenario.intervals.mean),
                unlimited_burst(sequences, point.rate, point.depth),
            ),
            'belief': compared(mdp_loss, belief[c], mdp_part[c]),
            'clairvoyant': compared(mdp_loss, clairvoyant(part, buckets[c]), mdp_whole[c]),
            ORACLE: Loss(WEAK_LOSS - oracles[c].gain),
        }
        rows.append(
            PointRow(
                figure=point.figure,
                panel=point.panel,
                x=point.x,
                name=point.name,
                rate=str(point.rate),
                depth=str(point.depth),
                published=point.published,
                measured=measured,
            )
        )
    return rows


def measure_networks(
    rows: list[PointRow],
    points: list[FigurePoint],
    pool: NDArray[Any],
    networks: Networks,
    effort: Effort,
) -> list[PointRow]:
    """Measure networks at points of one scenario, where a file is new.

    Args:
        rows: What has been measured at the points.
        points: Of one scenario.
        pool: float64 [K], metrics of items, sorted.
        networks: What was trained.
        effort: How much to play.

    Returns:
        The rows with what is new in them; ``rows`` itself where nothing is.
    """
    wanted: dict[tuple[str, str, str], list[int]] = {}
    for place, (row, point) in enumerate(zip(rows, points)):
        for policy, path in (('dqn', networks.dqn(point)), ('adaptive', networks.adaptive)):
            if path is not None:
                digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
                if row.networks.get(policy) != digest:
                    wanted.setdefault((policy, path, digest), []).append(place)
    if not wanted:
        return rows
    rows = list(rows)
    scenario = points[0].scenario
    part = draw_part(scenario, pool, effort)
    rewards = Distribution.of(pool)
    for (policy, path, digest), places in wanted.items():
        buckets = [(points[place].rate, points[place].depth) for place in places]
        gains, _ = play_network(path, part, buckets, rewards, WARM_UP)
        mdp, _ = play_tables(
            part,
            [IntegerBucket.of(*bucket) for bucket in buckets],
            [solve_mdp(*bucket, rewards, scenario.intervals).thresholds for bucket in buckets],
            WARM_UP,
        )
        for place, gain, reference in zip(places, gains, mdp):
            row = rows[place]
            loss = compared(row.measured['mdp'].loss, gain, reference)
            rows[place] = row.with_loss(policy, loss).with_network(policy, digest)
    return rows


def measure_traces(reference: Path, pool: NDArray[Any], networks: Networks) -> list[TraceRow]:
    """Sum the metrics that each policy offloads on the published sequences, at (0.1, 4)."""
    rate, depth = Fraction(1, 10), Fraction(4)
    bucket = IntegerBucket.of(rate, depth)
    rewards = Distribution.of(pool)
    rows = []
    for name, scenario in TRACES:
        path = reference / f'{name}_trace.csv'
        if not path.is_file():
            continue
        sequences, recorded = load_trace(path)
        n_items = len(sequences.rewards)
        metrics = sequences.rewards[:, 0].astype(float)
        sums = {
            'published_dqn': float(metrics[recorded[:, 0]].sum()),
            'published_mdp': float(metrics[recorded[:, 1]].sum()),
        }
        sums['clairvoyant'] = float(clairvoyant(sequences, bucket)[0] * n_items)
        intervals = Distribution.of(sequences.intervals[:, 0])
        solution = solve_mdp(rate, depth, rewards, scenario.intervals)
        sums['mdp'] = float(
            play_tables(sequences, [bucket], [solution.thresholds])[0][0, 0] * n_items
        )
        oracle = solve_oracle(scenario, pool, bucket, TRACE_LOCATIONS)
        earned, decisions = play_belief(scenario, pool, sequences, [bucket], [oracle])
        sums['belief'] = float(earned[0, 0] * n_items)
        played = {'belief': decisions[0]}
        point = FigurePoint('trace', 0, 0, scenario, rate, depth, {})
        for policy, network in (('dqn', networks.dqn(point)), ('adaptive', networks.adaptive)):
            if network is not None:
                earned, (played[policy],) = play_network(
                    network, sequences, [(rate, depth)], rewards
                )
                sums[policy] = float(earned[0, 0] * n_items)
        rows.append(
            TraceRow(
                trace=name,
                items=n_items,
                mean_interval=intervals.mean,
                sums=sums,
                offloads={policy: int(done.sum()) for policy, done in played.items()},
                bucket_kept={
                    policy: within_bucket(done[:, 0], sequences.intervals[:, 0], bucket)
                    for policy, done in played.items()
                },
            )
        )
    return rows


def measure_drift(pool: NDArray[Any], networks: Networks, effort: Effort) -> dict[str, Loss]:
    """Let the process change every quarter of a sequence, at (0.1, 4).

    The quarters are correlated (0.1, 0.1), i.i.d., correlated (0.1, 0.01), two-state arrivals
    (1 and 6). No policy knows; the DQN was trained for the first quarter.
    """
    quarters = (
        Scenario(rewards=CorrelatedRewards(0.1, 0.1)),
        Scenario(),
        Scenario(rewards=CorrelatedRewards(0.1, 0.01)),
        Scenario(arrivals=TwoStateArrivals.published(6)),
    )
    rate, depth = Fraction(1, 10), Fraction(4)
    generator = np.random.default_rng(effort.seed + 77)
    drawn = [
        scenario.draw(pool, effort.part_items // 4, effort.part_sequences, generator)
        for scenario in quarters
    ]
    sequences = Sequences(
        np.concatenate([one.rewards for one in drawn]),
        np.concatenate([one.intervals for one in drawn]),
    )
    bucket = IntegerBucket.of(rate, depth)
    rewards = Distribution.of(pool)
    intervals = Distribution.of(sequences.intervals.ravel())
    mdp, _ = play_tables(
        sequences, [bucket], [solve_mdp(rate, depth, rewards, intervals).thresholds]
    )
    mdp_loss = WEAK_LOSS - float(mdp.mean())
    measured = {
        'mdp': Loss(mdp_loss, difference=0.0, difference_ci95=0.0),
        'clairvoyant': compared(mdp_loss, clairvoyant(sequences, bucket), mdp[0]),
    }
    point = FigurePoint('drift', 0, 0, quarters[0], rate, depth, {})
    for policy, path in (('dqn', networks.dqn(point)), ('adaptive', networks.adaptive)):
        if path is not None:
            gains, _ = play_network(path, sequences, [(rate, depth)], rewards)
            measured[policy] = compared(mdp_loss, gains[0], mdp[0])
    return measured


def measure_cameras(pool: NDArray[Any], effort: Effort) -> list[CamerasRow]:
    """Share the network between 1 to 8 cameras with correlated rewards, at (0.1, 4) each."""
    rate, depth = Fraction(1, 10), Fraction(4)
    scenario = Scenario(rewards=CorrelatedRewards(0.1, 0.1))
    rewards = Distribution.of(pool)
    rows = []
    for count in (1, 2, 4, 8):
        generator = np.random.default_rng(effort.seed + count)
        items = np.stack(
            [
                scenario.draw(
                    pool, effort.part_items // 2, effort.part_sequences, generator
                ).rewards
                for _ in range(count)
            ],
            axis=1,
        )
        gains = {
            arrangement: play_cameras(items, rate, depth, rewards, arrangement)[0].mean(axis=0)
            for arrangement in ARRANGEMENTS
        }
        bound = clairvoyant(merged(items), IntegerBucket.of(rate, depth * count))
        rows.append(
            CamerasRow(
                count,
                {
                    name: SharedLoss(
                        loss=WEAK_LOSS - float(gain.mean()),
                        difference_to_isolated=-float((gain - gains['isolated']).mean()),
                        difference_ci95=half_interval(gain - gains['isolated']),
                    )
                    for name, gain in {**gains, 'clairvoyant, shared': bound}.items()
                },
            )
        )
    return rows


def within_bucket(decisions: NDArray[Any], intervals: NDArray[Any], bucket: IntegerBucket) -> bool:
    """Return whether decisions never overdraw the bucket."""
    level = bucket.full
    for offload, interval in zip(decisions, intervals):
        level -= bucket.cost * int(offload)
        if level < 0:
            return False
        level = min(bucket.full, level + bucket.gain * int(interval))
    return True
