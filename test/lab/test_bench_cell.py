# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The statistics of the cell benchmark, against numbers worked out by hand and by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from run_examples import CELL, FULL, summary_of  # noqa: E402

from stl_conveyor.assess.scoring import Quantiles, slack_ms  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.run.assess import RunResult  # noqa: E402
from stl_conveyor.run.settings import RunSettings  # noqa: E402
from stl_conveyor_lab.bench.cell.sorting import (  # noqa: E402
    WARM_UP,
    ItemOutcomes,
    bootstrap,
    device_times,
    hindsight_share,
    marks,
    outcomes,
    plot_shares,
    print_table,
    recovered,
    share,
    sorting_rows,
    stranger_times,
)
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

flags = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=7)


@given(flags)
def test_hindsight_is_the_best_of_all_choices(items):
    local, strong, offloaded = np.array(items).T
    best = max(
        np.where(np.isin(np.arange(len(local)), chosen), strong, local).mean()
        for chosen in combinations(range(len(local)), int(offloaded.sum()))
    )
    # a choice may leave an item out where the strong model would do harm
    assert hindsight_share(local, strong, offloaded) >= best
    gains = int((strong & ~local).sum())
    assert hindsight_share(local, strong, offloaded) == pytest.approx(
        (local.sum() + min(gains, offloaded.sum())) / len(local)
    )


def test_shares_have_wilsons_interval():
    estimate = share(np.arange(100) < 80)
    assert estimate.value == 0.8
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96
    assert (estimate.low, estimate.high) == (
        pytest.approx(0.7112, abs=1e-4),
        pytest.approx(0.8666, abs=1e-4),
    )


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
    values = [
        rows[name].value
        for name in (
            'local only',
            'ours',
            'hindsight, same number of items',
            'strong on everything',
        )
    ]
    assert values == sorted(values)
    assert rows['part of hindsight recovered'].value > 0.9
    assert all(e.low <= e.value <= e.high for e in rows.values())


def test_nothing_scored_is_nothing_measured():
    with pytest.raises(ConfigError):
        ItemOutcomes(*[np.zeros(0, bool)] * 5)


def test_everything_is_measured_and_written(tiny_models, tmp_path, capsys):
    records = tuple(
        replace(
            FULL,
            stamp_ns=k + 1,
            serial=k + 1,
            rest_lane='A' if k % 4 else 'B',
            action=replace(FULL.action, lane='A' if k % 4 else 'B'),
        )
        for k in range(12)
    )
    summary = summary_of(
        records, latency_ms={'overhead': Quantiles.of([8.0, 9.0])}, slack_ms=slack_ms(records)
    )
    strong = {r.stamp_ns: ('hex_nut_m8', 0.9) for r in records}
    crops = {r.stamp_ns: image for r, image in zip(records, tiny_images(12, 16)[0])}
    result = RunResult(summary, records, crops, strong)
    rows = sorting_rows(outcomes(records, strong, CELL))
    device = device_times(tiny_models, list(crops.values()), RunSettings())
    assert rows['local only'].value == 0 and rows['ours'].value == 0.75
    assert 0 < device.weak.p50 < device.total.p50
    assert device.strangers.n == 0  # the folder tells none
    found = {mark.name: mark for mark in marks(summary, rows, device)}
    assert found['middleware and Python p99, ms'].met
    assert found['part of hindsight recovered'].met
    print_table(result, rows, device)
    text = capsys.readouterr().out
    assert 'hindsight' in text and 'missed deadlines' in text and 'encoder' in text
    plot_shares(tmp_path / 'sorting.png', rows)
    assert (tmp_path / 'sorting.png').stat().st_size > 1000


def test_telling_strangers_is_timed_in_pairs():
    folder = ModelFolder(share_path('models/items'))
    images = [image[np.newaxis] for image in tiny_images(8, 16, folder.image_size)[0]]
    found = stranger_times(folder, images)
    assert len(found) == 8 - WARM_UP and np.isfinite(found).all()


def test_what_was_not_measured_is_no_mark_met(tiny_models):
    records = (FULL,)
    rows = sorting_rows(outcomes(records, {}, CELL))  # the strong model was not asked
    summary = summary_of(records, latency_ms={'overhead': Quantiles.of([])})
    device = device_times(tiny_models, list(tiny_images(2, 16)[0]), RunSettings())
    found = {mark.name: mark.met for mark in marks(summary, rows, device)}
    assert not found['part of hindsight recovered']
    assert not found['middleware and Python p99, ms']
    assert not found['telling strangers beside the weak model, ms']
