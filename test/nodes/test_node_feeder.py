# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell in Gazebo, closed loop over real DDS, with a stand-in for Gazebo and its bridge."""

from __future__ import annotations

import importlib.util
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, GUARDED, CellHarness, make_classification  # noqa: E402
from fake_cell import class_colour  # noqa: E402
from fake_gazebo import NEWEST, OLDEST, FakeEntities, FakeGazebo, Item, publishes_model_pose  # noqa: E402

from stl_conveyor.errors import MissingDependency  # noqa: E402
from stl_conveyor.msg import Actuation, Classification, ItemCapture, ItemTruth, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base import peers  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor  # noqa: E402
from stl_conveyor.nodes.simulation.feeder import Feeder  # noqa: E402
from stl_conveyor.nodes.simulation.gazebo_io import GazeboIo  # noqa: E402
from stl_conveyor.sim.arrivals import plan_items  # noqa: E402
from stl_conveyor.sim.gazebo.items import feed_pose, item_sdf  # noqa: E402
from stl_conveyor.vision.encodings import image_to_rgb  # noqa: E402

pytestmark = pytest.mark.ros

ITEMS = 8
BRIDGE = importlib.util.find_spec('ros_gz_interfaces') is not None
FACTOR = 0.7  # simulated seconds per second
# The stand-in's time goes on while a busy machine keeps the nodes from looking at its joints.
PATIENT = {'confirm_timeout': 5.0}


class GazeboCell:
    """Camera, actuator, monitor, feeder and gazebo_io around a stand-in for Gazebo."""

    def __init__(
        self, *, services=False, items=ITEMS, seed=1, factor=1.0, version=NEWEST, **parameters
    ):
        test = self

        class StandInFeeder(Feeder):
            def make_entities(self):
                return FakeEntities(test.gazebo)

        feeder = Feeder if services else StandInFeeder
        specs = [
            NodeSpec(
                kind, {'use_sim_time': True, 'diagnostics_period': 0.3, **settings}, group=group
            )
            for kind, settings, group in (
                (Actuator, {**GUARDED, **PATIENT}, 'actuator'),
                (Camera, {'trigger': 'beam'}, 'camera'),
                (CellMonitor, {'display': 'none'}, 'monitor'),
                (GazeboIo, PATIENT, 'io'),
                (
                    feeder,
                    {
                        'items': items,
                        'seed': seed,
                        'service_timeout': 10.0,
                        'wait_for': ('classification', 'sort_outcome', 'capture'),
                        **parameters,
                    },
                    'feeder',
                ),
            )
        ]
        self.harness = CellHarness(
            specs, watched=('capture', 'sort_outcome', '/diagnostics', 'actuation', 'item_truth')
        )
        self.gazebo = FakeGazebo(
            CELL, self.harness.runner.context, factor, services=services, version=version
        )
        self.answer = self.harness.probe.create_publisher(Classification, 'classification', 16)
        self.harness.probe.create_subscription(ItemCapture, 'capture', self._classify, 16)
        self.plan = plan_items(items, seed, CELL.classes)

    def __enter__(self):
        self.harness.__enter__()
        self.gazebo.__enter__()
        self.harness.wait_active()
        return self

    def __exit__(self, *arguments):
        self.gazebo.__exit__(*arguments)
        self.harness.__exit__(*arguments)

    @property
    def board(self):
        return self.harness.runner.node('cell_monitor').board

    def _classify(self, capture):
        """Answer as a classifier that errs never: a class is a colour."""
        crop = capture.crop
        image = image_to_rgb(
            crop.encoding, crop.height, crop.width, crop.step, crop.is_bigendian, crop.data
        ).astype(int)
        colours = np.array([class_colour(CELL, name) for name in CELL.classes])
        middle = image[70:90, 70:90].reshape(-1, 3)
        off = np.abs(middle[:, None] - colours).sum(axis=2)
        best = CELL.classes[
            int(
                np.bincount(
                    off.argmin(axis=1)[off.min(axis=1) < 5], minlength=len(colours)
                ).argmax()
            )
        ]
        self.answer.publish(
            make_classification(capture.item_id, to_ns(capture.header.stamp), best, score=0.9)
        )

    def truths(self, event):
        return [
            truth for truth in self.harness.heard.messages['item_truth'] if truth.event == event
        ]

    def wait_rested(self, count=None, timeout=60.0):
        count = len(self.plan) if count is None else count
        return self.harness.wait(
            lambda: (
                len(self.truths(ItemTruth.EVENT_RESTED)) >= count
                and self.truths(ItemTruth.EVENT_RESTED)
            ),
            timeout,
            f'rest of {count} items',
        )


@pytest.mark.parametrize(
    'services',
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not BRIDGE, reason='ros_gz_interfaces is not installed')
        ),
    ],
    ids=['stand-in', 'services'],
)
def test_every_item_is_fed_seen_pushed_and_judged_in_simulated_time(services):
    with GazeboCell(services=services, factor=FACTOR) as cell:
        rested = cell.wait_rested()
        harness = cell.harness
        harness.wait(lambda: len(harness.outcomes()) == ITEMS, 5, 'outcomes')
        # The items of the plan came, in its order and at its times.
        assert [name for _, _, name in cell.gazebo.spawned] == [i.class_id for i in cell.plan]
        times = [time_ns / 1e9 for time_ns, _, _ in cell.gazebo.spawned]
        for before, after in zip(range(ITEMS), range(1, ITEMS)):
            planned = 0.5 * (cell.plan[after].arrival - cell.plan[before].arrival)
            # On a busy machine one may be late, by the stand-in's clock; it never comes together
            # with the next one.
            assert planned - 0.4 <= times[after] - times[before] <= planned + 1.0
        # Each was captured where it was, and lies where its class belongs.
        seen = {truth.serial: truth for truth in cell.truths(ItemTruth.EVENT_CAPTURED)}
        stamps = {to_ns(o.header.stamp): o for o in harness.outcomes()}
        assert sorted(seen) == [item.serial for item in cell.plan]
        for truth in rested:
            item = cell.plan[truth.serial - 1]
            outcome = stamps[to_ns(truth.header.stamp)]
            assert truth.class_id == item.class_id == outcome.class_id
            assert truth.rest_lane == CELL.lane_of(item.class_id) == truth.lane == outcome.lane
            assert truth.header.stamp == seen[truth.serial].header.stamp
        assert not [o.slack for o in harness.outcomes() if o.missed]
        board = cell.board
        harness.wait(lambda: board.rested == ITEMS, 5, 'the monitor')
        assert board.exposed == ITEMS
        # Every stroke was confirmed by the joint, and on time.
        strokes = harness.heard.messages['actuation']
        assert [s.status for s in strokes] == [Actuation.STATUS_CONFIRMED] * ITEMS
        assert all(0 <= s.lateness < 0.1 and 0.1 < s.delay < 0.4 for s in strokes)
        # Nothing is left in the cell, and nothing was taken out twice for a pose that came late.
        harness.wait(lambda: not cell.gazebo.items, 5, 'an empty cell')
        end_ns = cell.gazebo.time_ns + 200_000_000
        harness.wait(lambda: cell.gazebo.time_ns > end_ns, 5, 'the last poses')
        assert not cell.gazebo.refused_removals


VERSIONS = [OLDEST, (8, 6), (8, 9), (8, 10), (8, 14), (9, 0), (9, 1), (9, 5), (10, 0), NEWEST]


@pytest.mark.parametrize('version', VERSIONS)
def test_every_version_of_gazebo_tells_where_the_items_are(version):
    item = plan_items(1, 1, CELL.classes)[0]
    model = ElementTree.fromstring(item_sdf(item, 1, 0)).find('model')
    assert publishes_model_pose(version, model)
    # The word that was in the way: without it most versions say nothing.
    model.find('plugin/publish_nested_model_pose').text = 'false'
    assert publishes_model_pose(version, model) == (
        version in [(8, 10), (8, 14), (9, 1), (9, 5), (10, 0), NEWEST]
    )


def test_an_item_is_fed_with_the_rules_of_the_oldest_gazebo():
    with GazeboCell(items=1, version=OLDEST) as cell:
        (rested,) = cell.wait_rested()
        assert rested.serial == cell.plan[0].serial
        assert len(cell.gazebo.spawned) == 1  # its poses came: it was not asked for again


def test_an_ordinary_stop_with_items_on_their_way_is_no_error():
    with CellHarness([NodeSpec(GazeboIo, {'use_sim_time': True})]) as harness:
        harness.wait_active()
        io = harness.runner.node('gazebo_io')
        outcome = SortOutcome(item_id=1, lane='C')
        outcome.header.stamp = to_stamp(10**9)
        harness.publisher('sort_outcome').publish(outcome)
        harness.wait(lambda: io._output._schedule.waiting == 1, 10, 'a stroke that waits')
    assert io.health.counted('strokes_dropped') == 0


def test_a_lost_request_is_repeated_and_what_an_earlier_feeder_left_is_taken_out():
    cell = GazeboCell(items=2, service_timeout=2.0)
    # Before anything runs: the first item may be asked for while the nodes still come up.
    cell.gazebo.lose_spawns = cell.gazebo.ignore_spawns = 1
    cell.gazebo.items['item_1'] = Item('hex_nut_m8', 0.5, -0.2, -0.1)
    with cell:
        rested = cell.wait_rested()
        assert sorted(truth.serial for truth in rested) == [1, 2]
        # What lay in the bin was no item of this run, and is gone.
        cell.harness.wait(lambda: not cell.gazebo.items, 5, 'an empty cell')
        assert set(cell.gazebo.refused_removals) == {
            'item_0'
        }  # of what was accepted and never came
        assert 'spawn_unanswered' in ' '.join(
            status.message for status in cell.harness.statuses('feeder')
        )


def test_items_wait_for_the_cell_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(peers, 'ORDINARY_NS', 0)  # what an ordinary start takes is not reported
    with GazeboCell(items=1, wait_for=('nobody',), wait_limit=4.0) as cell:
        cell.harness.wait_diagnostic('feeder', 'waiting for publishers of nobody')
        assert not cell.gazebo.spawned
        cell.wait_rested()


def test_an_item_that_the_camera_misses_is_known_to_have_passed_it():
    cell = GazeboCell(items=1)
    cell.gazebo.blind = True
    with cell:
        (rested,) = cell.wait_rested()
        (seen,) = cell.truths(ItemTruth.EVENT_CAPTURED)
        assert rested.rest_lane == CELL.reject_lane
        spawned_ns = cell.gazebo.spawned[0][0]
        way = CELL.camera.x - feed_pose(CELL, cell.plan[0], 1)[0][0]
        assert (to_ns(seen.header.stamp) - spawned_ns) / 1e9 == pytest.approx(
            way / CELL.belt.speed, abs=0.05
        )
        cell.harness.wait_diagnostic('feeder', 'item_not_captured')
        assert not cell.harness.outcomes()


@pytest.mark.skipif(BRIDGE, reason='ros_gz_interfaces is installed')
def test_without_the_bridges_messages_the_feeder_says_what_to_install():
    import rclpy
    from rclpy.context import Context

    context = Context()
    rclpy.init(context=context)
    node = Feeder(context=context, use_global_arguments=False)
    try:
        with pytest.raises(MissingDependency, match='ros_gz_interfaces.*ros-gz'):
            node.make_entities()
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
