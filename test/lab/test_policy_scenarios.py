# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The published scenarios: their statistics, their reproducibility, recorded sequences."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.papers.scenarios import (
    CorrelatedRewards,
    Scenario,
    TwoStateArrivals,
    load_trace,
)

POOL = np.linspace(0, 1, 1000)


def test_same_seed_same_sequences():
    """The generator alone decides."""
    scenario = Scenario(CorrelatedRewards(0.2, 0.05), TwoStateArrivals())
    one, two = (scenario.draw(POOL, 50, 3, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one.rewards, two.rewards)
    np.testing.assert_array_equal(one.intervals, two.intervals)
    told, hidden = scenario.draw_with_states(POOL, 50, 3, np.random.default_rng(4))
    np.testing.assert_array_equal(told.rewards, one.rewards)
    np.testing.assert_array_equal(hidden.arrivals == 0, told.intervals == 1)


@pytest.mark.parametrize(('spread', 'reset'), [(0.1, 0.1), (0.3, 0.02), (0.0, 0.2), (1.0, 0.5)])
def test_location_reset(spread, reset):
    """Ranks stay within the spread of a location, redrawn with the given probability."""
    ranks, location = CorrelatedRewards(spread, reset).ranks(20000, 20, np.random.default_rng(0))
    assert 0 <= ranks.min() and ranks.max() < 1
    assert np.mod(ranks - location + 1e-6, 1).max() <= spread + 1e-5
    moved = np.abs(np.diff(location, axis=0)) > 0
    assert moved.mean() == pytest.approx(reset, abs=0.01)
    # Uniform over the pool in the long run.
    assert ranks.mean() == pytest.approx(0.5, abs=0.05)
    change = np.abs(np.diff(ranks, axis=0))
    change = np.minimum(change, 1 - change)
    # Without a reset the change is below the spread; with one it is uniform on 0..0.5.
    far = (change > spread).mean()
    assert far == pytest.approx(reset * max(0.0, 1 - 2 * spread), abs=0.01)


@pytest.mark.parametrize('slow', [3, 6])
def test_two_state_arrivals(slow):
    """Intervals, their shares and the lengths of stays are those of the chain."""
    arrivals = TwoStateArrivals.published(slow, 0.05)
    intervals = arrivals.intervals(20000, 30, np.random.default_rng(1))
    assert set(np.unique(intervals)) == {1, slow}
    assert (intervals == 1).mean() == pytest.approx(arrivals.fast_share, abs=0.01)
    assert intervals.mean() == pytest.approx(arrivals.distribution.mean, rel=0.02)
    leave, back = arrivals.leave_per_item
    left = (intervals[1:] == slow) & (intervals[:-1] == 1)
    assert left.sum() / (intervals[:-1] == 1).sum() == pytest.approx(leave, rel=0.05)
    assert back == pytest.approx(1 - (1 - arrivals.leave_slow) ** slow)


def test_iid_is_steady():
    """Without rewards' and arrivals' processes items are i.i.d., one per time unit."""
    sequences = Scenario().draw(POOL, 5000, 4, np.random.default_rng(2))
    assert (sequences.intervals == 1).all()
    correlation = np.corrcoef(sequences.rewards[1:, 0], sequences.rewards[:-1, 0])[0, 1]
    assert abs(correlation) < 0.05


@pytest.mark.parametrize(
    'make',
    [
        lambda: CorrelatedRewards(1.5, 0.1),
        lambda: CorrelatedRewards(0.1, -1),
        lambda: TwoStateArrivals(0),
        lambda: TwoStateArrivals(3, 0.0, 0.1),
    ],
)
def test_impossible_settings(make):
    """Values out of range are refused."""
    with pytest.raises(ConfigError):
        make()


def test_trace(tmp_path):
    """A recorded sequence gives its metrics, intervals and decisions."""
    path = tmp_path / 'trace.csv'
    path.write_text('time,metric,off_first,off_second\n0,0.25,1,0\n1,0.5,0,1\n4,0.75,1,1\n')
    sequences, decisions = load_trace(path)
    np.testing.assert_allclose(sequences.rewards[:, 0], [0.25, 0.5, 0.75])
    assert sequences.intervals[:, 0].tolist() == [1, 3, 1]
    assert decisions.tolist() == [[True, False], [False, True], [True, True]]


@pytest.mark.parametrize('text', ['', 'time,metric\n0,x\n', 'time,metric\n0,1\n0,1\n'])
def test_bad_trace(tmp_path, text):
    """What is no trace is refused with the columns that it needs."""
    path = tmp_path / 'trace.csv'
    path.write_text(text)
    with pytest.raises(ConfigError, match='columns'):
        load_trace(path)
    with pytest.raises(ConfigError):
        load_trace(tmp_path / 'none.csv')
