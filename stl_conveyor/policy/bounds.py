# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What no policy can pass: unlimited burst, clairvoyance, and knowledge of the hidden state."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from stl_conveyor.policy.scenarios import CorrelatedRewards, Scenario, Sequences
from stl_conveyor.policy.simulate import IntegerBucket


def unlimited_burst(sequences: Sequences, rate: Fraction, depth: Fraction) -> np.ndarray:
    """
    Return the reward per item [S] of spending all tokens of a sequence on its best items.

    The published lower bound of the loss: the rate binds, the order does not.
    """
    n_items, n_sequences = sequences.rewards.shape
    result = np.empty(n_sequences)
    for s in range(n_sequences):
        time = int(sequences.intervals[:-1, s].sum())
        tokens = min(n_items, int(depth + rate * time))
        best = np.partition(sequences.rewards[:, s], n_items - tokens)[n_items - tokens:]
        result[s] = best[best > 0].sum(dtype=np.float64) / n_items
    return result


def clairvoyant(sequences: Sequences, bucket: IntegerBucket) -> np.ndarray:
    """Return the most reward per item [S] that fits the bucket, the whole sequence known."""
    n_items, n_sequences = sequences.rewards.shape
    cost, gain, full = bucket.cost, bucket.gain, bucket.full
    worth = np.zeros((full + 1, n_sequences))
    filled = np.empty_like(worth)
    levels = np.arange(full + 1)[:, None]
    for t in range(n_items - 1, -1, -1):
        interval = sequences.intervals[t]
        if (interval == interval[0]).all():
            gained = min(gain * int(interval[0]), full)
            filled[: full + 1 - gained] = worth[gained:]
            filled[full + 1 - gained:] = worth[full]
        else:
            target = np.minimum(levels + gain * interval.astype(np.int32), full)
            filled = np.take_along_axis(worth, target, axis=0)
        worth = filled.copy()
        np.maximum(worth[cost:], sequences.rewards[t] + filled[: full + 1 - cost],
                   out=worth[cost:])
    return worth[full] / n_items


_SWEEPS_PER_POLICY = 10


@dataclass(frozen=True, eq=False)
class HiddenStateSolution:
    """
    Optimum of a policy that is told the hidden state.

    gain        reward per item; ``gain_bounds`` enclose it
    marginal    float64 [K, A, M + 1 - P]: worth of a token, after an offload at level P + j,
                with the location in bin k (of K, in rank) and the arrivals in state a
    """

    gain: float
    gain_bounds: 'tuple[float, float]'
    marginal: np.ndarray


def told_hidden_state(
    scenario: Scenario,
    pool: np.ndarray,
    bucket: IntegerBucket,
    locations: int = 100,
    sweeps: int = 20000,
    tolerance: float = 2e-6,
) -> HiddenStateSolution:
    """
    Solve for the policy that knows the location L and the state of the arrivals.

    pool [K] sorted metrics. L is one of ``locations`` equally spaced ranks. Relative value
    iteration with half steps, the policy improved in every tenth; stops when the bounds on the
    gain are ``tolerance`` apart.
    """
    source = scenario.rewards or CorrelatedRewards(1.0, 0.0)
    if source.spread == 1.0:
        locations = 1
    reset = 1.0 if locations == 1 else source.reset
    arrivals = scenario.arrivals
    if arrivals is None:
        intervals, change = (1,), np.ones((1, 1))
    else:
        intervals = (1, arrivals.slow_interval)
        leave, back = arrivals.leave_per_item
        change = np.array([[1 - leave, leave], [back, 1 - back]])
    pool = np.asarray(pool, dtype=np.float64)
    size = pool.size
    first = np.floor((np.arange(locations) + 0.5) / locations * size).astype(int)
    first = first if locations > 1 else np.zeros(1, dtype=int)
    length = max(1, round(source.spread * size))
    # Two turns of the pool: a window is one run of indices, wrapped or not.
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([pool, pool]))])
    end = first + length
    low_end, high_end = np.minimum(end, size)[:, None, None], end[:, None, None]
    start = first[:, None, None]

    def tail(threshold):
        """Return P(x >= threshold) and E[x; x >= threshold] at each location, [K, A, levels]."""
        place = np.searchsorted(pool, threshold)
        begin = np.minimum(np.maximum(place, start), low_end)
        mass = (low_end - begin).astype(float)
        moment = sums[low_end] - sums[begin]
        top = np.maximum(high_end, size)
        begin = np.minimum(size + place, top)
        wrapped = high_end > size
        mass += np.where(wrapped, top - begin, 0)
        moment += np.where(wrapped, sums[top] - sums[begin], 0.0)
        return mass / length, moment / length

    cost, gain, full = bucket.cost, bucket.gain, bucket.full
    levels = np.arange(full + 1)
    targets = [np.minimum(levels + gain * interval, full) for interval in intervals]
    worth = np.zeros((locations, len(intervals), full + 1))
    low = high = 0.0
    for sweep in range(sweeps):
        mixed = worth if reset == 1.0 and locations == 1 else (
            (1 - reset) * worth + reset * worth.mean(axis=0, keepdims=True)
        )
        after = np.einsum('ab,kbn->kan', change, mixed)
        keep = np.stack([after[:, a, target] for a, target in enumerate(targets)], axis=1)
        marginal = keep[:, :, cost:] - keep[:, :, : full + 1 - cost]
        improve = sweep % _SWEEPS_PER_POLICY == 0
        if improve:
            mass, moment = tail(marginal)
        swept = keep.copy()
        swept[:, :, cost:] += moment - mass * marginal
        if improve:
            difference = swept - worth
            low, high = float(difference.min()), float(difference.max())
        worth = (worth + swept) / 2
        worth -= worth[0, 0, 0]
        if improve and high - low < tolerance:
            break
    return HiddenStateSolution((low + high) / 2, (low, high), marginal)
