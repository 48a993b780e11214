# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Stands of hours, jogging, silent encoders and counters of PLCs, on the nodes over real DDS.

Time is simulated and goes from one thing that happens to the next, each when the node has done
the one before; so places are exact, and an hour takes no hour.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, make_capture, make_classification  # noqa: E402
from moving_belt import Counter, MovingBelt, beam_edges, encoder_steps, reports_of  # noqa: E402
from rclpy.clock import JumpThreshold  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from test_node_camera import CountingCamera, bright_centre, crop_of, frame, show  # noqa: E402

from stl_conveyor.hardware.inputs import GpioBreakBeam  # noqa: E402
from stl_conveyor.msg import Actuation, BeltState  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
MS = 1_000_000
SPEED = CELL.belt.speed
START_NS = 1000 * SECOND  # of the simulated time
CAPTURE_NS = 1 * SECOND
OUTPUT_A = 17
IMAGE = tiny_images(1, len(CELL.classes))[0][0]
COMMAND = 0.36 - SPEED * CELL.diverter.lead_time  # m past the camera, of diverter A's command


class Stepped:
    """A cell whose node lives in simulated time, which waits for it."""

    def __init__(self, cell, node):
        self.cell, self.node = cell, node
        self.changed = threading.Condition()
        self.jump = node.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(nanoseconds=1), min_backward=None, on_clock_change=False
            ),
            post_callback=lambda _: self.notify(),
        )
        self.clock = cell.publisher('/clock', Clock, readers=1)

    def notify(self):
        with self.changed:
            self.changed.notify_all()

    def wait(self, predicate, what):
        with self.changed:
            assert self.changed.wait_for(predicate, 30), f'{what}; {self.cell.complaints()}'

    def to(self, time_ns):
        """Let it be a time (ns since the start)."""
        time_ns += START_NS
        self.clock.publish(Clock(clock=to_stamp(time_ns)))
        self.wait(
            lambda: self.node.get_clock().now().nanoseconds >= time_ns, f'it is never {time_ns} ns'
        )


class SteppedActuator(Actuator):
    """An actuator that says when it has done something."""

    stepped = None

    def _on_clock_jump(self, jump_ns):
        """Take it for time that the test lets pass in one step."""

    def _told(self):
        if self.stepped is not None:
            self.stepped.notify()

    def _on_belt_state(self, message, stamp_ns):
        super()._on_belt_state(message, stamp_ns)
        self._told()

    def _act(self):
        super()._act()
        self._told()


class Sorting(Stepped):
    """An actuator with diverters on mock pins, a belt, and one item for lane A."""

    def __init__(self, cell, belt, pins=None, reliability=ReliabilityPolicy.RELIABLE):
        actuator = cell.runner.nodes[0]
        super().__init__(cell, actuator)
        actuator.stepped = self
        self.belt, self.strokes, self.reports = belt, [], 0
        self.captures = cell.publisher('capture', type(make_capture(1, 0, IMAGE)))
        self.answers = cell.publisher(
            'classification', type(make_classification(1, 0, CELL.classes[0]))
        )
        self.publisher = cell.probe.create_publisher(
            BeltState, 'belt_state', QoSProfile(depth=50, reliability=reliability)
        )
        cell.wait(lambda: self.publisher.get_subscription_count(), what='a reader of belt_state')
        self.schedule = getattr(actuator._output, '_schedule', None)
        if pins is not None:
            pin = pins.pin(OUTPUT_A)
            inner = pin._set_state

            def set_state(value):
                inner(value)
                if value:
                    now_ns = actuator.get_clock().now().nanoseconds - START_NS
                    self.strokes.append((now_ns, belt.place(now_ns) - belt.place(CAPTURE_NS)))

            pin._set_state = set_state
            timer = actuator._output._timer.timer
            timer.callback = self._stepping(timer.callback)

    def _stepping(self, callback):
        def call():
            callback()
            self.notify()

        return call

    def report(self, time_ns, position, speed, origin=0, state=BeltState.STATE_RUNNING):
        """Report the belt, and wait until the actuator has heard it."""
        self.to_next(time_ns)
        heard = self.node.health.counted('belt_reports')
        self.publisher.publish(
            BeltState(
                header=Header(stamp=to_stamp(START_NS + time_ns)),
                position=position,
                speed=speed,
                origin=origin,
                state=state if speed else BeltState.STATE_STOPPED,
            )
        )
        self.wait(
            lambda: self.node.health.counted('belt_reports') > heard, 'a report is not heard'
        )

    def to_next(self, time_ns):
        """Let it be a time, and before it each time at which something is due."""
        while self.schedule is not None:
            due_ns = self.schedule.next_ns()
            if due_ns is None or due_ns - START_NS > time_ns:
                break
            self.to(max(due_ns - START_NS, 0))
            self.wait(
                lambda due_ns=due_ns: (
                    self.schedule.next_ns() is None or self.schedule.next_ns() > due_ns
                ),
                'nothing is done that was due',
            )
        self.to(time_ns)

    def feed(self):
        """Let the item be captured and classified now."""
        stamp_ns = START_NS + CAPTURE_NS
        self.answers.publish(make_classification(1, stamp_ns, CELL.lane('A').classes[0]))
        self.captures.publish(make_capture(1, stamp_ns, IMAGE))
        self.wait(lambda: self.node.ledger.open_items or self.cell.outcomes(), 'no capture')
        self.wait(
            lambda: (
                self.node.health.counted('local.accepted')
                + self.node.health.counted('local.early_answer')
            ),
            'no answer',
        )

    def run(self, reports):
        """Report the belt; feed the item when its capture is past."""
        fed = False
        for time_ns, position, speed, origin in reports:
            if not fed and time_ns > CAPTURE_NS:
                self.to_next(CAPTURE_NS)
                self.feed()
                fed = True
            self.report(time_ns, position, speed, origin)

    def actuations(self):
        return self.cell.wait(lambda: self.cell.heard.of('actuation'), what='an actuation')


@contextmanager
def sorting(belt, pins=None, reliability=ReliabilityPolicy.RELIABLE, **parameters):
    given = {'use_sim_time': True, 'diagnostics_period': 0.1}
    if pins is not None:
        given.update(output='gpio', gpio_feedback_pins=[-1, -1, -1])
    spec = NodeSpec(SteppedActuator, {**given, **parameters})
    with CellHarness([spec], watched=('sort_outcome', 'actuation', '/diagnostics')) as cell:
        cell.wait_active()
        cell.connect('actuation' if pins is not None else 'sort_outcome')
        yield Sorting(cell, belt, pins, reliability)


def assert_pushed_in_place(line):
    ((_, moved),) = line.strokes
    assert moved == pytest.approx(COMMAND, abs=0.002)
    (told,) = line.actuations()
    assert (told.status, told.lane) == (Actuation.STATUS_CONFIRMED, 'A'), told.detail
    (outcome,) = line.cell.outcomes()
    assert outcome.lane == 'A' and not outcome.missed  # the decision does not wait


def test_emergency_stop_of_two_minutes_with_an_item_on_its_way(pins):
    belt = MovingBelt.of((SPEED, 1.4), (0.0, 120.0), (SPEED, 1.5))
    with sorting(belt, pins) as line:
        line.run(reports_of(belt, Counter(start=20.0), until_ns=round(100 * SECOND)))
        assert line.strokes == [] and not line.cell.heard.of('actuation')
        assert line.schedule.held == 1
        rest = [r for r in reports_of(belt, Counter(start=20.0)) if r[0] > 100 * SECOND]
        for time_ns, position, speed, origin in rest:
            line.report(time_ns, position, speed, origin)
        assert_pushed_in_place(line)


@pytest.mark.parametrize('origin', [0, 7])
def test_encoder_that_is_gone_and_started_again_in_a_stand_of_an_hour(pins, origin):
    belt = MovingBelt.of((SPEED, 1.4), (0.0, 3600.0), (SPEED, 1.5))
    with sorting(belt, pins) as line:
        line.run(
            (t, p, v, origin)
            for t, p, v, _ in reports_of(belt, Counter(start=0.7), until_ns=2 * SECOND)
        )
        line.to_next(3 * SECOND)
        said = line.cell.wait_diagnostic('actuator', 'belt_unknown', level=2)
        assert 'no diverter moves' in said.message
        line.to_next(3000 * SECOND)
        assert line.strokes == []
        back_ns, resumed_ns = 3599 * SECOND, round(3601.4 * SECOND)
        for n in range(round((belt.end_ns - back_ns) / (50 * MS))):
            time_ns = back_ns + n * 50 * MS
            # A camera that has just started does not know yet whether the belt runs.
            fresh = time_ns < back_ns + 500 * MS
            line.report(
                time_ns,
                belt.place(time_ns) - belt.place(back_ns),
                SPEED if fresh else belt.speed(time_ns),
                origin + 1 if origin else 0,
                state=BeltState.STATE_UNKNOWN if fresh else BeltState.STATE_RUNNING,
            )
            assert time_ns > resumed_ns or line.strokes == []
        assert_pushed_in_place(line)
        before = len(line.cell.statuses('actuator'))
        line.cell.wait(
            lambda: any(s.level == b'\x00' for s in line.cell.statuses('actuator')[before:]),
            what='that the actuator is well',
        )


def test_belt_that_is_jogged_back_and_on(pins):
    belt = MovingBelt.of(
        (SPEED, 1.5),
        (0.0, 0.5),
        (-0.1, 2.0),
        (0.0, 0.3),
        (SPEED, 1.5),
        (-SPEED, 0.8),
        (SPEED, 2.0),
    )
    with sorting(belt, pins) as line:
        line.run(reports_of(belt, Counter(start=3.0)))
        assert_pushed_in_place(line)


@pytest.mark.parametrize(
    'reliability', [ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE]
)
def test_counter_of_a_plc_starts_again_under_an_item(pins, reliability):
    belt = MovingBelt.of((SPEED, 1.5), (0.0, 5.0), (SPEED, 1.5))
    counter = Counter(6.5536, 6.5536 / 2 - 0.5, 0.0001, signed=True)
    with sorting(belt, pins, reliability) as line:
        line.run(reports_of(belt, counter))
        assert_pushed_in_place(line)
        assert line.node.health.counted('belt_counter_restarts') == 1


def test_item_whose_place_is_lost_is_named_and_not_pushed(pins):
    belt = MovingBelt.of((SPEED, 6.0))
    with sorting(belt, pins) as line:
        line.run(reports_of(belt, Counter(start=2.0), until_ns=round(1.2 * SECOND)))
        line.to_next(round(3.0 * SECOND))
        for n in range(10):  # a new reader, which counts from zero, and the belt runs
            line.report(3 * SECOND + n * 50 * MS, 0.02 * n, SPEED)
        (told,) = line.actuations()
        assert told.status == Actuation.STATUS_FAILED and told.item_id == 1
        assert 'belt moved while nothing came on belt_state' in told.detail
        assert line.strokes == []
        line.cell.wait_diagnostic('actuator', 'belt_lost', level=2)


def test_item_that_passed_its_diverter_unseen_is_named_and_not_pushed(pins):
    belt = MovingBelt.of((SPEED, 6.0))
    with sorting(belt, pins) as line:
        gone = range(25, 60)
        line.run(reports_of(belt, Counter(), until_ns=4 * SECOND, lost=gone.__contains__))
        (told,) = line.actuations()
        assert told.status == Actuation.STATUS_FAILED
        assert 'past the diverter' in told.detail
        assert line.strokes == []


def test_no_diverter_moves_before_the_belt_is_known_where_it_is_to_be_measured(pins):
    belt = MovingBelt.of((SPEED, 9.0))
    with sorting(belt, pins, belt_source='belt_state') as line:
        line.to_next(CAPTURE_NS)
        line.feed()
        line.to(5 * SECOND)
        line.cell.wait(line.cell.outcomes)
        line.cell.wait_diagnostic('actuator', 'nothing has come on belt_state yet', level=2)
        assert line.strokes == [] and not line.cell.heard.of('actuation')


def test_belt_that_has_become_faster_has_its_items_decided_earlier(pins):
    belt = MovingBelt.of((SPEED, 1.1), (1.25 * SPEED, 3.0))
    with sorting(belt, pins) as line:
        line.run(reports_of(belt, Counter(), until_ns=3 * SECOND))
        ((_, moved),) = line.strokes
        assert moved == pytest.approx(0.36 - 1.25 * SPEED * CELL.diverter.lead_time, abs=0.002)


def test_driver_of_its_own_is_given_the_time_that_the_belt_takes():
    belt = MovingBelt.of((SPEED, 1.4), (0.0, 20.0), (SPEED, 3.0))
    with sorting(belt, confirm_timeout=0.3) as line:
        line.run(reports_of(belt, Counter(), until_ns=round(20.0 * SECOND)))
        line.cell.wait(line.cell.outcomes)
        assert line.node.health.counted('diverter_silent') == 0
        for report in reports_of(belt, Counter()):
            if report[0] > 20 * SECOND:
                line.report(*report)
        assert line.node.health.counted('diverter_silent') == 1


class SteppedCamera(CountingCamera):
    """A camera that says when it has taken something in."""

    stepped = None
    edges = reports = 0

    def _on_clock_jump(self, jump_ns):
        """Take it for time that the test lets pass in one step."""

    def _on_beam_change(self, broken, time_ns):
        super()._on_beam_change(broken, time_ns)
        self.edges += 1
        if self.stepped is not None:
            self.stepped.notify()

    def _on_belt_state(self, message, stamp_ns):
        super()._on_belt_state(message, stamp_ns)
        self.reports += 1
        if self.stepped is not None:
            self.stepped.notify()


@contextmanager
def looking(source):
    parameters = {
        'use_sim_time': True,
        'diagnostics_period': 0.1,
        'trigger': 'gpio',
        'belt_speed_source': source,
        'encoder_pins': [20, -1],
        'frame_timeout': 0.0,
    }
    with CellHarness(
        [NodeSpec(SteppedCamera, parameters)], watched=('capture', '/diagnostics')
    ) as cell:
        cell.wait_active()
        camera = cell.runner.nodes[0]
        camera.stepped = stepped = Stepped(cell, camera)
        frames = cell.publisher('camera/image_raw', Image)
        cell.connect('capture')
        yield cell, camera, stepped, frames


WASHER = ((0.0, 0.004), (0.0124, 0.0164))
PART = ((0.0, 0.06),)


@pytest.mark.parametrize('source', ['encoder', 'belt_state'])
@pytest.mark.parametrize(
    'solids, through, jog',
    [(PART, 0.055, 0.0), (PART, 0.03, 0.1), (WASHER, 0.008, 0.0), (PART, 0.1, 0.0)],
    ids=['rear in the beam', 'jogged back and on', 'hole in the beam', 'before the camera'],
)
def test_part_that_stood_for_an_hour_is_captured_once_and_in_the_middle(
    pins, source, solids, through, jog
):
    """The belt stops with the front of the part `through` m past the beam."""
    front = 0.2
    legs = [(SPEED, (front + through) / SPEED), (0.0, 1800.0)]
    legs += [(-0.1, jog / 0.1), (SPEED, jog / SPEED)] if jog else []
    belt = MovingBelt.of(*legs, (0.0, 1800.0), (SPEED, 1.2))
    pieces = [(front + first, front + last) for first, last in solids]
    middle = front + solids[-1][1] / 2
    stands = [(t, belt.times[n + 1]) for n, t in enumerate(belt.times[:-1]) if not belt.speed(t)]

    def is_busy(time_ns):  # while it stands for long, only its first and last second happen
        return all(not a + SECOND < time_ns < b - SECOND for a, b in stands)

    events = [(t, 0, 'edge', broken) for t, broken in beam_edges(belt, pieces)]
    if source == 'encoder':
        events += [(t, 1, 'step', count) for t, count in encoder_steps(belt, 0.001)]
    ticks = [n * 50 * MS for n in range(belt.end_ns // (50 * MS))]
    events += [(t, 2, 'report', None) for t in ticks if is_busy(t)]
    with looking(source) as (cell, camera, stepped, frames):
        publisher = cell.probe.create_publisher(BeltState, 'belt_state', 10)
        if source == 'belt_state':
            cell.wait(lambda: publisher.get_subscription_count(), what='a reader of belt_state')
        for time_ns, _, what, value in sorted(events, key=lambda event: event[:2]):
            if what == 'step':
                camera._belt.step(value, START_NS + time_ns)
                continue
            stepped.to(time_ns)
            if what == 'edge':
                before = camera.edges
                camera._inbox.brings(camera._on_beam_change)(value, START_NS + time_ns)
                stepped.wait(lambda before=before: camera.edges > before, 'an edge is lost')
                continue
            if source == 'belt_state':
                before = camera.reports
                publisher.publish(
                    BeltState(
                        header=Header(stamp=to_stamp(START_NS + time_ns)),
                        position=belt.place(time_ns),
                        speed=belt.speed(time_ns),
                        state=BeltState.STATE_RUNNING,
                    )
                )
                stepped.wait(lambda before=before: camera.reports > before, 'a report is lost')
            offset = belt.place(time_ns) - (middle + 0.12)  # of the part from the image's middle
            row = round(119.5 - offset * CELL.camera.pixels_per_metre)
            seen = row if abs(offset) < 0.08 else None
            show(cell, frames, camera, frame(START_NS + time_ns, seen))
        (capture,) = cell.wait(lambda: cell.heard.of('capture'), what='a capture')
        place = belt.place(to_ns(capture.header.stamp) - START_NS)
        assert place == pytest.approx(middle + 0.12, abs=0.002)
        rows, columns = bright_centre(crop_of(capture))
        assert (rows, columns) == pytest.approx((79.5, 79.5), abs=4)  # 2 mm
        assert not camera._expected


def test_what_was_in_the_beam_when_the_camera_started_is_named(pins, monkeypatch):
    monkeypatch.setattr(GpioBreakBeam, 'is_broken', True)
    with looking('encoder') as (cell, camera, stepped, _):
        cell.wait_diagnostic('camera', 'item_in_beam', level=1)
        stepped.to(SECOND)
        for n in range(60):  # the belt carries it out
            camera._belt.step(n, START_NS + SECOND // 2 + n * 2 * MS)
        camera._inbox.brings(camera._on_beam_change)(False, START_NS + SECOND // 2 + 20 * MS)
        # Nobody tells of it: the tracker is idle once the camera has looked at it again.
        cell.wait(lambda: camera.edges and camera._tracker.is_idle, what='that it is through')
        assert not camera._expected
