# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark of the edge."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor_lab.bench.edge.cells import SentItem  # noqa: E402
from stl_conveyor_lab.bench.edge.command import POOL, edge_plan, homes, longest_gap, parse, summary  # noqa: E402
from stl_conveyor_lab.bench.edge.fleet_simulation import FleetPlan, simulate  # noqa: E402
from stl_conveyor_lab.bench.edge.streams import Recorded, load, save  # noqa: E402

STREAM = Recorded((b'ab', b'c'), 0.25)


def item(cell=0, answers=(0.02,), answered_ns=0, withheld=False):
    return SentItem(
        cell,
        STREAM,
        10**9,
        None,
        None,
        answers=list(answers),
        answered_ns=answered_ns,
        withheld=withheld,
    )


def test_streams_are_those_that_were_saved_and_those_of_another_codec_are_refused(tmp_path):
    streams = [STREAM, Recorded((), -0.5), Recorded((b'', b'xyz'), 0.0)]
    save(tmp_path / 's.npz', streams, 2**63 + 1)
    assert load(tmp_path / 's.npz', 2**63 + 1) == streams
    with pytest.raises(ConfigError, match='record it anew'):
        load(tmp_path / 's.npz', 7)
    (tmp_path / 'odd.npz').write_bytes(b'odd')
    with pytest.raises(ConfigError, match='holds no recorded streams'):
        load(tmp_path / 'odd.npz', 7)


def test_an_item_is_late_if_it_was_sent_and_nothing_came_in_time():
    items = [item(answers=(0.01, 0.03)), item(answers=()), item(answers=(), withheld=True)]
    found = summary(3, items, 0.5, 1.2, 0.4)
    assert (found.items, found.withheld, found.late) == (3, 1, 1)
    assert found.answers == 1.0 and found.p50_ms == pytest.approx(20.0)
    assert found.p99_ms == pytest.approx(29.8)


def test_a_gap_is_that_of_one_cell():
    items = [item(0, answered_ns=at * 10**9) for at in (1, 2, 5)]
    items += [item(1, answered_ns=9 * 10**9), item(1, answers=(), answered_ns=0)]
    assert longest_gap(items) == 3.0


def test_every_cell_has_a_home_and_an_edge_that_joins_takes_some_of_each():
    before, after = homes(POOL, 300), homes((*POOL, 'd'), 300)
    assert sum(before.values()) == sum(after.values()) == 300
    assert all(0 < after[name] < before[name] for name in POOL)


def test_an_edge_is_started_with_its_cells_and_what_is_set(tmp_path):
    words = edge_plan('a', 2, tmp_path, ['workers=3']).arguments
    assert '__ns:=/hall/a' in words and 'cells:=[/line_0, /line_1]' in words
    assert 'workers:=3' in words and f'models_dir:={tmp_path}' in words
    with pytest.raises(ConfigError, match='NAME=VALUE'):
        edge_plan('a', 2, tmp_path, ['workers'])


def test_what_cannot_be_measured_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(['--cells', '0'])
    assert 'must be positive' in capsys.readouterr().err


def test_a_simulated_fleet_loses_only_what_its_dead_edge_had_until_the_standby_answers():
    plan = FleetPlan(cells=60, edges=3, rate=2.0, service=0.010)
    result = simulate(plan, seconds=20.0, seed=1)
    assert result.sent == pytest.approx(2 * 60 * 20, rel=0.02)
    assert result.late == result.late_after == 0.0
    # A second of six and three quarters, less what is young enough to wait for the standby.
    assert 0.0 < result.late_in_failure < 0.2
    assert 2 * plan.network + plan.service < result.p99 < 0.1
    assert simulate(plan, seconds=20.0, seed=1) == result


def test_a_simulated_fleet_that_is_too_small_is_late():
    result = simulate(FleetPlan(cells=60, edges=1, pool=1, service=0.02), seconds=10.0)
    # It is asked for twice what it can give, until it dies.
    assert result.late > 0.1 and result.busiest > 0.9
    assert result.late_after == 1.0  # there is nobody else
