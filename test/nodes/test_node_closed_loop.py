# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""All nodes over real DDS around a cell without physics: pictures in, strokes out, scored."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import GUARDED  # noqa: E402
from fake_cell import FakeCell  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_domains import own_domain_id  # noqa: E402

from stl_conveyor.assess.latency import stage_latencies  # noqa: E402
from stl_conveyor.assess.scoring import score  # noqa: E402
from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.nodes.base.health import NodeHealth  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.device.cell_guard import CellGuard  # noqa: E402
from stl_conveyor.nodes.device.encoder import EncoderNode  # noqa: E402
from stl_conveyor.nodes.device.local_classifier import LocalClassifier  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor.nodes.link.link_emulator import LinkEmulator  # noqa: E402
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor  # noqa: E402
from stl_conveyor.nodes.simulation.cell_simulator import CellSimulator  # noqa: E402
from stl_conveyor.run.assess import read_passages, read_readout  # noqa: E402
from stl_conveyor.run.plan import READERS  # noqa: E402
from stl_conveyor.sim.paced_cell import LONGEST_LAG, Pace  # noqa: E402
from stl_conveyor_lab.train.tiny import class_colours  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
CELL = CellDescription.load(ROOT / 'config' / 'cell.yaml')
ITEMS = 6
# So early that a loaded machine is not a failure.


class ColouredCell(FakeCell):
    """Shows each class in the colour by which the tiny models know it."""

    def picture(self, item):
        image = super().picture(item)
        colours = class_colours(len(self.cell.classes))
        y, x = image.shape[0] // 2, image.shape[1] // 2
        image[y - 40 : y + 40, x - 40 : x + 40] = np.round(
            255 * colours[self.cell.classes.index(item.class_id)]
        )
        return image


class FakeSimulator(CellSimulator):
    """The node around the fake cell."""

    def make_cell(self, description, plan):
        return ColouredCell(description, plan, self.settings.seed, self.settings.time_unit)


def run_loop(models, folder, seed=3, simulated_time=False, **simulator):
    """Run a few items to their end; return the monitor's records, its crops, and the strokes."""
    folder.mkdir(exist_ok=True)
    common = {'models_dir': str(models)}
    if simulated_time:
        simulator = {**simulator, 'publish_clock': True}
    specs = [
        NodeSpec(
            FakeSimulator,
            {
                'items': ITEMS,
                'seed': seed,
                'belt_running': False,
                'log_path': str(folder / 'camera.csv'),
                **simulator,
            },
            group='cell',
        ),
        NodeSpec(Camera, {}, group='device'),
        NodeSpec(LocalClassifier, common, group='device'),
        NodeSpec(
            OffloadPolicy,
            {
                **common,
                'policy': 'always',
                'rate': 100.0,
                'depth': 100.0,
                'time_unit': 0.5,
                **GUARDED,
            },
            group='device',
        ),
        NodeSpec(EncoderNode, {**common, **GUARDED}, group='device'),
        NodeSpec(
            LinkEmulator,
            {'link': 'none', 'seed': seed, 'log_path': str(folder / 'link.csv')},
            group='link',
        ),
        NodeSpec(EdgeClassifier, common, group='edge'),
        NodeSpec(Actuator, GUARDED, group='actuator'),
        NodeSpec(CellGuard, group='guard'),
        NodeSpec(CellMonitor, {'display': 'none', 'keep_crops': True}, group='monitor'),
    ]
    if simulated_time:
        specs[1:] = [
            replace(spec, parameters={**spec.parameters, 'use_sim_time': True})
            for spec in specs[1:]
        ]
    name = 'loop'
    specs = [replace(spec, namespace=name) for spec in specs]

    def connected(node, publisher):
        topic = publisher.topic_name.removeprefix(f'/{name}/')
        return publisher.get_subscription_count() >= READERS.get(node.get_name(), {}).get(topic, 0)

    with NodeRunner(specs, domain_id=own_domain_id()) as runner:
        monitor, simulator_node = runner.node('cell_monitor'), runner.nodes[0]
        wait(
            monitor,
            lambda: (
                all(n.is_active for n in runner.nodes)
                # while the belt is held, simulated time stands still, and so does the link
                and (simulated_time or runner.node('offload_policy').edge_alive)
                and all(connected(n, p) for n in runner.nodes[:-1] for p in n.open_publishers)
            ),
            30,
            'connection',
        )
        simulator_node.set_parameters([Parameter('belt_running', value=True)])
        wait(
            monitor,
            lambda: monitor.board.rested == ITEMS and monitor.board.acted == ITEMS,
            40,
            lambda: f'{monitor.board.records} {monitor.troubles}',
        )
        fired = list(simulator_node._cell.fired)
        return monitor.board.records, dict(monitor.crops), fired


def wait(monitor, condition, seconds, what):
    """Wait for a condition that is looked at after each message that the monitor hears."""
    end = time.monotonic() + seconds
    while True:
        monitor.news.clear()
        if condition():
            return
        left = end - time.monotonic()
        assert left > 0, what() if callable(what) else what
        # Some of what is waited for, no message tells.
        monitor.news.wait(min(left, 0.25))


@pytest.fixture(scope='module')
def loop(tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp('loop')
    return (*run_loop(tiny_models, folder), folder)


def test_every_item_gets_one_outcome_in_time(loop):
    records, _, _, _ = loop
    result = score(records, CELL)
    assert result.items == result.captures == result.outcomes == ITEMS
    assert result.unacted == result.repeated_outcomes == result.missed_deadlines == 0
    assert all(r.action.slack > 0 for r in records)


def test_items_rest_where_they_were_sent(loop):
    records, _, fired, _ = loop
    assert [r.rest_lane for r in records] == [r.action.lane for r in records]
    assert len(fired) == sum(r.action.lane != CELL.reject_lane for r in records)


def test_the_edge_answers_and_the_models_know_their_colours(loop):
    records, _, _, _ = loop
    result = score(records, CELL)
    # on a loaded machine an answer may come too late; most do not
    assert result.offloaded == ITEMS and result.edge_answers >= ITEMS // 2
    assert result.edge_class_correct == result.edge_answers
    assert result.correct == result.outcome_correct >= ITEMS - 1
    assert result.bytes_sent == sum(r.transfer.bytes for r in records) > 0


def test_stamps_are_spaced_as_planned(loop):
    records, _, _, _ = loop
    gaps = {b.stamp_ns - a.stamp_ns for a, b in zip(records, records[1:])}
    assert gaps == {500_000_000}


def test_latency_is_accounted_for(loop):
    records, _, _, folder = loop
    stages = stage_latencies(
        records, read_readout(folder / 'camera.csv'), read_passages(folder / 'link.csv')
    )
    assert stages['overhead'].n == ITEMS
    assert stages['overhead'].p01 > 0
    assert stages['capture_to_edge'].p50 > stages['link'].p50 > 30


def test_same_seed_same_run(loop, tiny_models, tmp_path):
    records, crops, _, _ = loop
    again, crops_again, _ = run_loop(tiny_models, tmp_path)

    def what(records, crops):
        return [
            (
                r.serial,
                r.class_id,
                hashlib.sha256(crops[r.stamp_ns].tobytes()).hexdigest(),
                r.local.class_id,
                r.local.score,
                r.decision.offload,
                r.decision.expected_reward,
                r.action.lane,
            )
            for r in records
        ]

    assert what(records, crops) == what(again, crops_again)


def test_the_cell_runs_on_simulated_time(tiny_models, tmp_path):
    records, _, _ = run_loop(tiny_models, tmp_path, simulated_time=True, real_time_factor=0.7)
    assert all(0 < r.stamp_ns < 60 * 10**9 for r in records)
    result = score(records, CELL)
    assert result.items == result.outcomes == ITEMS
    assert result.missed_deadlines == result.unacted == 0
    assert [r.rest_lane for r in records] == [r.action.lane for r in records]


@pytest.mark.parametrize('behind, said', [(LONGEST_LAG - 0.05, 0), (LONGEST_LAG + 0.05, 1)])
def test_a_simulation_that_catches_up_is_not_said_to_be_too_slow(behind, said):
    """Only one that was held leaves items less time, and runs slower than the clock."""
    warned = []
    pace = Pace(10.0, 0.0, behind, 0.0, 0, 0, False)
    node = SimpleNamespace(
        is_active=True,
        watch_log=lambda _: None,
        _log_file=None,
        _paced=SimpleNamespace(pace=lambda: pace, error=None),
        health=NodeHealth(),
        warn=lambda name, message: warned.append(name),
    )
    CellSimulator.refresh_health(node)
    assert warned == ['too_slow'] * said
