# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What RViz is shown of the cell: what stands, and the items where they are."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('visualization_msgs')

from cell_harness import CELL, CellHarness, make_capture  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor.nodes.base import priority  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.panel.cell_markers import (  # noqa: E402
    camera_info,
    item_markers,
    still_markers,
    transforms,
)
from stl_conveyor.nodes.panel.cell_view import CellView  # noqa: E402
from stl_conveyor.panel.items import Outcome, Stroke  # noqa: E402
from stl_conveyor.panel.live_cell import LiveCell  # noqa: E402
from stl_conveyor.run.plan import process_plan  # noqa: E402
from stl_conveyor.run.processes import Supervisor  # noqa: E402
from stl_conveyor.sim.layout import bin_extent, vertical_field_of_view  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
S = 10**9
LANE = CELL.lanes[1]


def cell_at(seconds):
    """Return what is drawn of an item so long after its capture, undecided and to a lane."""
    live = LiveCell(CELL, now_ns=lambda: round((100 + seconds) * S))
    live.take_capture(100 * S, 1, 101 * S, None)
    yield item_markers(live, round((100 + seconds) * S), 0.1)
    outcome = Outcome(LANE.name, 'nut', 0.9, 2, 0.04, False, 0, '', 100 * S, 0.1, 0.2, 250)
    live.take_outcome(100 * S, 1, outcome)
    yield item_markers(live, round((100 + seconds) * S), 0.1)
    live.take_stroke(100 * S, Stroke(2, 0.0, 'no confirmation'))
    yield item_markers(live, round((100 + seconds) * S), 0.1)


def of(markers, namespace):
    return [m for m in markers if m.ns == namespace]


def place(marker):
    return marker.pose.position.x, marker.pose.position.y


def test_an_item_is_where_the_belt_has_carried_it_and_says_its_lane():
    undecided, decided, _ = cell_at(0.5)
    (cube,), (same,) = of(undecided, 'item'), of(decided, 'item')
    assert place(cube) == pytest.approx((CELL.camera.x + 0.5 * CELL.belt.speed, 0.0), abs=1e-3)
    assert not of(undecided, 'item_text') and place(same) == place(cube)
    (text,) = of(decided, 'item_text')
    assert text.text == f'{LANE.name} nut' and text.type == Marker.TEXT_VIEW_FACING
    assert (cube.color.r, cube.color.g) != (same.color.r, same.color.g)
    assert 0 < cube.lifetime.nanosec < S


def test_an_item_that_was_pushed_lies_in_its_bin_and_one_that_was_not_stays_on_the_belt():
    seconds = (LANE.diverter_x - CELL.camera.x) / CELL.belt.speed + 0.2
    _, pushed, missed = cell_at(seconds)
    (x0, x1), (y0, y1) = bin_extent(CELL, LANE)
    (cube,) = of(pushed, 'item')
    assert x0 < place(cube)[0] < x1 and y0 < place(cube)[1] < y1
    (cube,) = of(missed, 'item')
    assert place(cube)[1] == 0.0
    # A pusher for each lane; the one of this lane is out beyond the middle of the belt.
    out = [pusher.pose.position.y < 0 for pusher in of(pushed, 'pusher')]
    assert out == [lane is LANE for lane in CELL.lanes]
    assert not any(pusher.pose.position.y < 0 for pusher in of(missed, 'pusher'))


def test_what_stands_is_drawn_once_with_a_number_of_its_own():
    still = still_markers(CELL)
    assert len({(m.ns, m.id) for m in still}) == len(still)
    assert [m.text for m in of(still, 'lane')] == [*(x.name for x in CELL.lanes), CELL.reject_lane]
    assert {m.header.frame_id for m in still} == {'cell'}
    belt = of(still, 'cell')[0]
    assert (belt.scale.x, belt.scale.y) == (CELL.belt.end - CELL.belt.start, CELL.belt.width)


def test_the_camera_sees_what_the_description_says():
    info = camera_info(CELL)
    assert (info.width, info.height) == (CELL.camera.image_width, CELL.camera.image_height)
    angle = 2 * math.atan(info.height / 2 / info.k[4])
    assert angle == pytest.approx(vertical_field_of_view(CELL))


def turned(vector, rotation):
    """Return a vector of a child frame in its parent."""
    axis = np.array([rotation.x, rotation.y, rotation.z])
    across = np.cross(axis, vector)
    return vector + 2 * (rotation.w * across + np.cross(axis, across))


def test_the_camera_looks_down_on_the_belt_and_its_pictures_lie_along_it():
    link, optical, beam = transforms(CELL, 'eye')
    assert [(t.header.frame_id, t.child_frame_id) for t in (link, optical, beam)] == [
        ('cell', 'camera_link'),
        ('camera_link', 'eye'),
        ('cell', 'break_beam_link'),
    ]
    place = link.transform.translation
    assert (place.x, place.y, place.z) == (CELL.camera.x, 0.0, CELL.camera.height)
    assert beam.transform.translation.x == CELL.break_beam.x

    def in_cell(vector):
        inner = turned(np.array(vector, float), optical.transform.rotation)
        return turned(inner, link.transform.rotation)

    # Of a picture: x to the right, y downwards, z away from the camera (REP 103).
    assert in_cell([0, 0, 1]) == pytest.approx([0, 0, -1], abs=1e-12)
    assert abs(in_cell([1, 0, 0])) == pytest.approx([0, 1, 0], abs=1e-12)
    # The light barrier looks down, too.
    assert turned(np.array([1.0, 0, 0]), beam.transform.rotation) == pytest.approx(
        [0, 0, -1], abs=1e-12
    )


class Transforms:
    """In place of tf2_msgs/TFMessage, which wheels of ROS 2 have not."""

    def __init__(self, transforms):
        self.transforms = transforms


class FramesKept(CellView):
    """Keeps what it would publish of frames."""

    def publish_on(self, topic, *rest, **options):
        if topic != 'tf_static':
            return super().publish_on(topic, *rest, **options)
        self.kept = []
        return SimpleNamespace(msg_type=Transforms, publish=self.kept.append)


def test_the_frames_are_told_once_for_each_description(tmp_path):
    with CellHarness([NodeSpec(FramesKept)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('cell_view')
        cell.wait(lambda: node.kept, 30, 'the frames are told')
        node.live.use(replace(CELL), 'another', (), None)
        cell.wait(lambda: len(node.kept) == 2, 30, 'they are told anew')
        frames = [[t.child_frame_id for t in told.transforms] for told in node.kept]
        assert frames == [['camera_link', 'camera_optical_frame', 'break_beam_link']] * 2


@pytest.mark.skipif(find_spec('tf2_msgs') is not None, reason='tf2_msgs is installed')
def test_without_the_message_of_frames_the_cell_is_drawn_and_that_is_said(capfd):
    with CellHarness([NodeSpec(CellView)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        cell.wait_diagnostic('cell_view', 'OK')
    assert 'tf_static: where camera and light barrier stand is not told' in capfd.readouterr().err


@pytest.mark.skipif(find_spec('tf2_msgs') is None, reason='needs tf2_msgs')
def test_a_late_viewer_gets_the_frames():
    from tf2_msgs.msg import TFMessage

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with CellHarness([NodeSpec(CellView)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        seen = []
        cell.probe.create_subscription(TFMessage, 'tf_static', seen.append, latched)
        cell.wait(lambda: seen, 30, 'the frames are told')
        assert len(seen[0].transforms) == 3


def own_autogroup():
    """Return whether the kernel groups processes by sessions, and these can be told apart."""
    enabled = Path('/proc/sys/kernel/sched_autogroup_enabled')
    return enabled.exists() and enabled.read_text().strip() == '1' and priority._has_autogroup()


@pytest.mark.skipif(not own_autogroup(), reason='no autogroups here')
def test_who_looks_on_gives_way_to_those_that_sort(tmp_path):
    with CellHarness([], watched=('/diagnostics',)) as cell, Supervisor(tmp_path) as supervisor:
        plan = process_plan('cell_view', {}, ROOT / 'config' / 'panel.yaml')
        domain = {'ROS_DOMAIN_ID': str(cell.domain_id)}
        supervisor.start(replace(plan, environment=domain))
        cell.wait_diagnostic('cell_view', 'OK', timeout=60)
        group = Path(f'/proc/{supervisor.pid("cell_view")}/autogroup').read_text()
        assert group.strip().endswith('nice 10')


def test_a_late_viewer_gets_the_cell_and_the_camera():
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with CellHarness([NodeSpec(CellView, {'rate': 20.0})], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        capture = make_capture(3, cell.now_ns(), np.zeros((160, 160, 3), np.uint8))
        cell.publisher('capture', timeout=30).publish(capture)
        cell.publisher('sort_outcome').publish(
            SortOutcome(header=capture.header, item_id=3, lane=LANE.name)
        )
        live = cell.runner.node('cell_view').live
        cell.wait(lambda: any(i.outcome for _, i in live.on_belt()), 30, 'the item is known')
        seen = {}
        for kind, topic in ((MarkerArray, 'cell_markers'), (CameraInfo, 'camera/camera_info')):
            cell.probe.create_subscription(
                kind, topic, lambda message, topic=topic: seen.setdefault(topic, message), latched
            )
        cell.wait(lambda: len(seen) == 2, 30, 'both are shown')
        assert {m.ns for m in seen['cell_markers'].markers} >= {'cell', 'lane', 'pusher'}
        assert seen['camera/camera_info'].header.frame_id == 'camera_optical_frame'
