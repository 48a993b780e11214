# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What no policy can pass: unlimited burst, clairvoyance, and an oracle of the hidden state.

In a known scenario, what a table of thresholds earns in the long run needs no sampling either:
``exact_gain`` solves for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket


def unlimited_burst(sequences: Sequences, rate: Fraction, depth: Fraction) -> NDArray[Any]:
    """Return the reward per item [S] of spending all tokens of a sequence on its best items.

    The published lower bound of the loss: the rate binds, the order does not.
    """
    n_items, n_sequences = sequences.rewards.shape
    result = np.empty(n_sequences)
    for s in range(n_sequences):
        time = int(sequences.intervals[:-1, s].sum())
        tokens = min(n_items, int(depth + rate * time))
        best = np.partition(sequences.rewards[:, s], n_items - tokens)[n_items - tokens :]
        result[s] = best[best > 0].sum(dtype=np.float64) / n_items
    return result


def clairvoyant(sequences: Sequences, bucket: IntegerBucket) -> NDArray[Any]:
    """Return the most reward per item [S] that fits the bucket, the whole sequence known."""
    n_items, n_sequences = sequences.rewards.shape
    cost, gain, full = bucket.cost, bucket.gain, bucket.full
    values = np.zeros((full + 1, n_sequences))
    filled = np.empty_like(values)
    levels = np.arange(full + 1)[:, None]
    for t in range(n_items - 1, -1, -1):
        interval = sequences.intervals[t]
        if (interval == interval[0]).all():
            gained = min(gain * int(interval[0]), full)
            filled[: full + 1 - gained] = values[gained:]
            filled[full + 1 - gained :] = values[full]
        else:
            target = np.minimum(levels + gain * interval.astype(np.int32), full)
            filled = np.take_along_axis(values, target, axis=0)
        values = filled.copy()
        np.maximum(
            values[cost:], sequences.rewards[t] + filled[: full + 1 - cost], out=values[cost:]
        )
    return values[full] / n_items


# The criterion is the long-run average; so close to one it changes no gain within 1e-9, and the
# equations stay regular for every bucket.
_DISCOUNT = 1.0 - 1e-9
_LEAST_RESET = 1e-6
_MAX_POLICIES = 60


@dataclass(frozen=True, eq=False)
class HiddenStateSolution:
    """Optimum of the oracle, a policy that knows the hidden state.

    Attributes:
        gain: Reward per item; ``gain_bounds`` enclose it.
        marginal: float64 [K, A, M + 1 - P]: value of a token, after an offload at level P + j,
            with the location in bin k (of K, in rank) and the arrivals in state a.
    """

    gain: float
    gain_bounds: tuple[float, float]
    marginal: NDArray[Any]


class _HiddenStateProcess:
    """Items, hidden state and bucket as one Markov chain: location k, arrivals a, level n.

    The location moves only by being drawn anew. Between two draws each location is a chain of its
    own over (a, n), so that the values follow from K systems of A (M + 1) equations, and one more
    for their mean.
    """

    def __init__(
        self,
        scenario: Scenario,
        pool: NDArray[Any],
        bucket: IntegerBucket,
        locations: int,
        discount: float = _DISCOUNT,
    ):
        source = scenario.rewards or CorrelatedRewards(1.0, 0.0)
        if source.spread == 1.0:
            locations = 1
        self.locations = locations
        self._reset = 1.0 if locations == 1 else max(source.reset, _LEAST_RESET)
        arrivals = scenario.arrivals
        if arrivals is None:
            intervals, self._change = [1], np.ones((1, 1))
        else:
            intervals = [1, arrivals.slow_interval]
            leave, back = arrivals.leave_per_item
            self._change = np.array([[1 - leave, leave], [back, 1 - back]])
        self._discount = discount
        pool = np.asarray(pool, dtype=np.float64)
        size = pool.size
        first = np.floor((np.arange(locations) + 0.5) / locations * size).astype(int)
        first = first if locations > 1 else np.zeros(1, dtype=int)
        self._pool, self._length = pool, max(1, round(source.spread * size))
        # Two turns of the pool: a window is one run of indices, wrapped or not.
        self._sums = np.concatenate([[0.0], np.cumsum(np.concatenate([pool, pool]))])
        self._start = first[:, None, None]
        self._end = self._start + self._length
        self._cost, self._full = bucket.cost, bucket.full
        levels = np.arange(bucket.full + 1)
        self._targets = [
            np.minimum(levels + bucket.gain * interval, bucket.full) for interval in intervals
        ]
        self.states = len(intervals)
        self.shape = (locations, self.states, bucket.full + 1)

    def tail(self, threshold: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return P(x >= threshold) and E[x; x >= threshold] at each location, [K, A, levels]."""
        size, sums = self._pool.size, self._sums
        place = np.searchsorted(self._pool, threshold)
        low_end = np.minimum(self._end, size)
        begin = np.minimum(np.maximum(place, self._start), low_end)
        mass = (low_end - begin).astype(float)
        moment = sums[low_end] - sums[begin]
        top = np.maximum(self._end, size)
        begin = np.minimum(size + place, top)
        wrapped = self._end > size
        mass += np.where(wrapped, top - begin, 0)
        moment += np.where(wrapped, sums[top] - sums[begin], 0.0)
        return mass / self._length, moment / self._length

    def after(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the expected value when an item has been kept, [K, A, M + 1]."""
        mixed = (1 - self._reset) * values + self._reset * values.mean(axis=0, keepdims=True)
        moved = np.einsum('ab,kbn->kan', self._change, mixed)
        return self._discount * np.stack(
            [moved[:, a, target] for a, target in enumerate(self._targets)], axis=1
        )

    def evaluate(self, mass: NDArray[Any], moment: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Solve for what a policy earns.

        Args:
            mass, moment: [K, A, M + 1 - P], share and reward of the items that it offloads, from
                one token upwards. Returns the gain per item and the values [K, A, M + 1].
        """
        cost, n_levels = self._cost, self._full + 1
        size = self.states * n_levels
        # Where each state (a, n) goes when the item is kept: [A (M + 1), A (M + 1)].
        stay_at = np.zeros((self.states, n_levels, self.states, n_levels))
        for a, target in enumerate(self._targets):
            for b in range(self.states):
                stay_at[a, np.arange(n_levels), b, target] = self._change[a, b]
        spend_at = np.zeros_like(stay_at)
        spend_at[:, cost:] = stay_at[:, : n_levels - cost]
        keep, spend = stay_at.reshape(size, size), spend_at.reshape(size, size)
        offloaded = np.zeros(self.shape)
        offloaded[:, :, cost:] = mass
        earned = np.zeros(self.shape)
        earned[:, :, cost:] = moment
        # h_k = e_k - g + T_k ((1 - reset) h_k + reset mean(h))
        stay, reset = (1 - self._reset) * self._discount, self._reset * self._discount
        alone = np.empty((self.locations, size))
        to_mean = np.zeros((size, size))
        through = np.empty((self.locations, size, size), dtype=np.float32 if size > 900 else float)
        for k in range(self.locations):
            share = offloaded[k].reshape(size, 1)
            step = (1 - share) * keep + share * spend
            if self.locations == 1:
                alone[k], through[k] = earned[k].ravel(), reset * step
            else:
                solved = np.linalg.solve(
                    np.eye(size) - stay * step,
                    np.concatenate([earned[k].reshape(size, 1), reset * step], axis=1),
                )
                alone[k], through[k] = solved[:, 0], solved[:, 1:]
            to_mean += through[k] / self.locations
        per_draw = 1.0 / (1.0 - stay)  # items between two draws: what the gain is taken for
        equations = np.eye(size) - to_mean
        equations[:, 0] = per_draw
        mean = np.linalg.solve(equations, alone.mean(axis=0))
        gain, mean[0] = float(mean[0]), 0.0
        values = alone - gain * per_draw + through @ mean
        return gain, values.reshape(self.shape)


def exact_gain(
    scenario: Scenario,
    pool: NDArray[Any],
    bucket: IntegerBucket,
    thresholds: NDArray[Any],
    locations: int = 200,
) -> float:
    """Solve for what thresholds by level earn per item in the long run, without sampling.

    Args:
        scenario: What drives the items.
        pool: float64 [K], metrics of items, sorted.
        bucket: The bucket.
        thresholds: float64 [M + 1].
        locations: Equally spaced ranks that the location is one of.

    Returns:
        The reward per item.
    """
    process = _HiddenStateProcess(scenario, pool, bucket, locations)
    asked = np.broadcast_to(
        np.asarray(thresholds, dtype=float)[bucket.cost :],
        (process.locations, process.states, bucket.full + 1 - bucket.cost),
    )
    return process.evaluate(*process.tail(asked))[0]


def solve_oracle(
    scenario: Scenario,
    pool: NDArray[Any],
    bucket: IntegerBucket,
    locations: int = 100,
    tolerance: float = 1e-7,
    discount: float = _DISCOUNT,
) -> HiddenStateSolution:
    """Solve for the policy that knows the location L and the state of the arrivals.

    Policy iteration starts from the thresholds for i.i.d. items.

    Args:
        scenario: What drives the items.
        pool: float64 [K], metrics of items, sorted.
        bucket: The bucket.
        locations: Equally spaced ranks that L is one of.
        tolerance: The iteration stops when the bounds on the gain are so close.
        discount: Below one, the chance that there is another item.

    Returns:
        The gain and the value of a token by hidden state and level.
    """
    process = _HiddenStateProcess(scenario, pool, bucket, locations, discount)
    cost, full = bucket.cost, bucket.full
    first = solve_mdp(
        Fraction(bucket.gain, cost),
        Fraction(full, cost),
        Distribution.of(pool),
        scenario.intervals,
        min_steps_per_token=cost,
    ).thresholds[cost:]
    marginal = np.broadcast_to(first, (process.locations, process.states, full + 1 - cost))
    low = high = 0.0
    for _ in range(_MAX_POLICIES):
        gain, values = process.evaluate(*process.tail(marginal))
        keep = process.after(values)
        marginal = keep[:, :, cost:] - keep[:, :, : full + 1 - cost]
        mass, moment = process.tail(marginal)
        swept = keep
        swept[:, :, cost:] += moment - mass * marginal
        difference = swept - values
        low, high = float(difference.min()), float(difference.max())
        if high - low < tolerance:
            break
    return HiddenStateSolution((low + high) / 2, (low, high), marginal)
