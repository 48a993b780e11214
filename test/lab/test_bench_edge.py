# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark of the edge."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from ros_domains import give_back, own_domain_id  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor_lab.bench.edge.cells import SentItem  # noqa: E402
from stl_conveyor_lab.bench.edge.command import (  # noqa: E402
    POOL,
    POOL_CELLS,
    PoolEvent,
    edge_plan,
    homes,
    parse,
    play_pool,
    pool_events,
    served_by,
    summary,
)
from stl_conveyor_lab.bench.edge.fleet_simulation import FleetPlan, simulate  # noqa: E402
from stl_conveyor_lab.bench.edge.streams import Recorded, load, save  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

STREAM = Recorded((b'ab', b'c'), 0.25)
SECOND = 10**9
# Of an item: so many that no loss of a moment takes all of them.
PACKETS = 6


def item(cell=0, answers=(0.02,), withheld=False):
    return SentItem(cell, STREAM, SECOND, None, None, answers=list(answers), withheld=withheld)


def pool_item(sent_s, *answered_s, cell=0, acknowledged=(1, 1), torn=0):
    """Return an item with a deadline of a second."""
    return SentItem(
        cell,
        STREAM,
        round((sent_s + 1) * SECOND),
        None,
        None,
        sent_ns=[round(sent_s * SECOND)],
        answers=[at - sent_s for at in answered_s],
        answered_ns=[round(at * SECOND) for at in answered_s],
        acknowledged=dict(enumerate(acknowledged)),
        torn=torn,
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


def test_items_belong_to_the_event_before_their_answer_or_before_it_is_too_late():
    happened = [('three edges', 0), ('a is killed', 10 * SECOND), ('a comes back', 15 * SECOND)]
    items = [
        pool_item(1, 1.5, 1.75),
        pool_item(9.75, 9.875, 11.5),  # its second answer is that of the standby
        pool_item(9.75, cell=1),  # lost with its edge
        pool_item(10.5, 11.25, cell=1, acknowledged=(1, 2), torn=1),
        pool_item(16, 16.125, cell=2),
    ]
    assert pool_events(happened, items) == (
        PoolEvent('three edges', 2, 0, 0, 16.125, 0, 0),
        PoolEvent('a is killed', 2, 1, 1, 6.125, 1, 1),
        PoolEvent('a comes back', 1, 0, 0, 1.125, 0, 0),
    )


def test_each_edge_serves_the_cells_whose_home_it_is():
    served = served_by(POOL, POOL_CELLS)
    assert sorted(sum(served.values(), [])) == sorted(f'line_{n}' for n in range(POOL_CELLS))
    assert [len(cells) for cells in served.values()] == list(homes(POOL, POOL_CELLS).values())


@pytest.mark.ros
def test_twelve_cells_lose_no_item_when_any_of_three_edges_dies_and_one_joins(
    tiny_models, tmp_path, monkeypatch, request
):
    domain_id = own_domain_id()
    request.addfinalizer(lambda: give_back(domain_id))
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
    folder = ModelFolder(tiny_models)
    images, _ = tiny_images(4, len(folder.labels))
    encoder = Encoder(folder)
    streams = [
        Recorded(encoder.encode(image, None, packet_bytes=20, max_bytes=20 * PACKETS).packets, 1.0)
        for image in images
    ]
    happened, items = play_pool(
        tiny_models,
        tmp_path,
        streams,
        rate=1.0,
        rest=0.5,
        settings=['satisfied_score=1.0'],
        # The standby keeps for ten seconds what the home has not answered.
        deadline=9.0,
    )
    assert [what for what, _ in happened] == [
        'three edges',
        *(f'{name} {what}' for name in POOL for what in ('is killed', 'comes back')),
        'd joins',
        'd says goodbye',
    ]
    assert {item.cell for item in items} == set(range(POOL_CELLS))
    assert not [item for item in items if item.is_late]
    # Whoever took an item up had all of it, but for what best effort lost on a busy machine.
    whole = [item for item in items if item.most_packets == len(item.stream.packets)]
    assert len(whole) > 0.9 * len(items)


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
