# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The statistics of the cell benchmark, against numbers worked out by hand and by brute force."""
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from stl_conveyor.bench.cell import (  # noqa: E402
    bootstrap, hindsight_share, ItemOutcomes, recovered, share, sorting_rows)
from stl_conveyor.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.ros

flags = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=7)


@given(flags)
def test_hindsight_is_the_best_of_all_choices(items):
    local, strong, offloaded = np.array(items).T
    best = max(
        np.where(np.isin(np.arange(len(local)), chosen), strong, local).mean()
        for chosen in combinations(range(len(local)), int(offloaded.sum())))
    # a choice may leave an item out where the strong model would do harm
    assert hindsight_share(local, strong, offloaded) >= best
    gains = int((strong & ~local).sum())
    assert hindsight_share(local, strong, offloaded) == pytest.approx(
        (local.sum() + min(gains, offloaded.sum())) / len(local))


def test_shares_have_wilsons_interval():
    estimate = share(np.arange(100) < 80)
    assert estimate.value == 0.8
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96
    assert (estimate.low, estimate.high) == (
        pytest.approx(0.7112, abs=1e-4), pytest.approx(0.8666, abs=1e-4))


def test_recovered_by_hand():
    local = np.array([1, 1, 0, 0, 0, 0, 1, 0], bool)
    strong = np.ones(8, bool)
    offloaded = np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)  # one of the four was right already
    ours = local | offloaded
    assert hindsight_share(local, strong, offloaded) == 7 / 8
    assert recovered(local, ours, strong, offloaded) == pytest.approx(3 / 4)
    assert np.isnan(recovered(strong, strong, strong, offloaded))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        ours, local = rng.random(200) < 0.9, rng.random(200) < 0.75
        estimate = bootstrap(lambda a, b: a.mean(-1) - b.mean(-1), ours, local)
        covered += estimate.low <= 0.15 <= estimate.high
    assert 50 <= covered <= 60


def test_rows_are_in_order():
    rng = np.random.default_rng(2)
    local, strong = rng.random(400) < 0.75, rng.random(400) < 0.98
    offloaded = ~local & (rng.random(400) < 0.7)
    ours = np.where(offloaded, strong, local)
    rows = sorting_rows(ItemOutcomes(local, ours, ours, strong, offloaded))
    values = [rows[name].value for name in (
        'local only', 'ours', 'hindsight, same number of items', 'strong on everything')]
    assert values == sorted(values)
    assert rows['part of hindsight recovered'].value > 0.9
    assert all(e.low <= e.value <= e.high for e in rows.values())


def test_nothing_scored_is_nothing_measured():
    with pytest.raises(ConfigError):
        ItemOutcomes(*[np.zeros(0, bool)] * 5)
