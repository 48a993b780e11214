# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every output moves the right diverter at its time, and silence is reported within one item."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import (  # noqa: E402
    CELL,
    WATCHED,
    CellHarness,
    NodeSpec,
    described,
    make_capture,
    make_classification,
)
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray, Header  # noqa: E402

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.hardware.outputs import OUTPUTS  # noqa: E402
from stl_conveyor.msg import Actuation, BeltState, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.actuator_settings import actuator_settings  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
HOW_TO = Path(__file__).resolve().parents[2] / 'docs' / 'howto' / 'add_an_actuator.md'
IMAGE = tiny_images(1, len(CELL.classes))[0][0]
PERIOD = 0.1  # s between diagnostics
# A loaded machine lets Python stand still for a moment; see test_cell_strokes for exactness.
TOLERANCE = 0.1


class Cell(CellHarness):
    """An actuator alone, fed with captures and local answers."""

    def __init__(self, **parameters):
        WATCHED.setdefault('actuation', Actuation)
        super().__init__(
            [
                NodeSpec(
                    Actuator, {'diagnostics_period': PERIOD, **described(guard=0.3), **parameters}
                )
            ],
            watched=('sort_outcome', 'actuation', '/diagnostics'),
        )
        self.items = 0

    @property
    def actuator(self):
        return self.runner.nodes[0]

    def __enter__(self):
        super().__enter__()
        self.wait_active()
        self.captures = self.publisher('capture', WATCHED['capture'])
        self.answers = self.publisher('classification', WATCHED['classification'])
        self.connect('sort_outcome')
        return self

    def feed(self, lane_name):
        """Let an item of a lane pass; return its number and capture stamp."""
        self.items += 1
        stamp_ns = self.now_ns()
        self.captures.publish(make_capture(self.items, stamp_ns, IMAGE))
        self.answers.publish(
            make_classification(self.items, stamp_ns, CELL.lane(lane_name).classes[0])
        )
        return self.items, stamp_ns

    def actuation(self, item_id, timeout=5):
        return self.wait(
            lambda: self.heard.of('actuation', item_id=item_id),
            timeout,
            f'the actuation of item {item_id}',
        )[0]

    def wait_well(self):
        """Wait for a report without errors that is newer than all before."""
        before = len(self.statuses('actuator'))
        self.wait(lambda: any(s.level == b'\x00' for s in self.statuses('actuator')[before:]))


class Pneumatics:
    """End switches (to ground) that follow the outputs of mock pins, and when outputs changed."""

    def __init__(self, pins, cell):
        self.cell, self.working, self.changes = cell, True, []
        for output, switch in ((17, 5), (27, 6), (22, 13)):
            pin = pins.pin(output)
            inner = pin._set_state

            def set_state(value, inner=inner, output=output, switch=switch, pin=pin):
                before = pin.state
                inner(value)
                if bool(before) == bool(value):
                    return
                self.changes.append((output, bool(value), cell.now_ns()))
                if self.working:
                    target = pins.pin(switch)
                    (target.drive_low if value else target.drive_high)()

            pin._set_state = set_state


def test_gpio_moves_each_lanes_diverter_at_its_time_and_confirms(pins):
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell:
        machine = Pneumatics(pins, cell)
        fed = {cell.feed(lane)[0]: lane for lane in 'CBA'}
        stamps = {
            o.item_id: to_ns(o.header.stamp)
            for o in cell.wait(lambda: len(cell.outcomes()) == 3 and cell.outcomes())
        }
        output_of = {'A': 17, 'B': 27, 'C': 22}
        for item_id, lane in fed.items():
            told = cell.actuation(item_id)
            assert (told.status, told.lane) == (Actuation.STATUS_CONFIRMED, lane), told.detail
            assert 0 <= told.lateness < TOLERANCE and 0 <= told.delay < TOLERANCE
            moved = next(t for pin, on, t in machine.changes if pin == output_of[lane] and on)
            due_ns = CELL.fire_time_ns(stamps[item_id], lane)
            assert 0 <= moved - due_ns < TOLERANCE * SECOND
        cell.wait(lambda: len(machine.changes) == 6, 5, 'that all diverters went back')
        status = cell.statuses('actuator')[-1]
        assert status.level == b'\x00', status.message


def test_gpio_switch_that_stays_silent_is_reported_within_one_item_and_recovers(pins):
    with Cell(output='gpio', confirm_timeout=0.2, gpio_bounce_time=0.0) as cell:
        machine = Pneumatics(pins, cell)
        machine.working = False
        item_id, stamp_ns = cell.feed('A')
        told = cell.actuation(item_id)
        assert told.status == Actuation.STATUS_SILENT and 'GPIO 17' in told.detail
        late_ns = cell.now_ns() - CELL.fire_time_ns(stamp_ns, 'A')
        assert late_ns < 0.2 * SECOND + TOLERANCE * SECOND
        status = cell.wait_diagnostic('actuator', 'diverter_silent', level=2)
        assert 'lane A' in status.message and 'end switch on GPIO 5' in status.message
        machine.working = True
        item_id, _ = cell.feed('A')
        assert cell.actuation(item_id).status == Actuation.STATUS_CONFIRMED
        cell.wait_well()
        assert cell.actuator.is_active


def test_gpio_diverter_that_is_stuck_out_is_reported(pins):
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell:
        pins.pin(6).drive_low()
        item_id, _ = cell.feed('B')
        told = cell.actuation(item_id)
        assert told.status == Actuation.STATUS_FAILED and 'stuck' in told.detail
        assert not pins.pin(27).state


def test_stroke_waits_while_the_belt_stands(pins):
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell:
        machine = Pneumatics(pins, cell)
        belt = cell.publisher('belt_state', BeltState)
        speed, position, stand, period = CELL.belt.speed, 0.0, 0.8, 0.05
        began_ns = cell.now_ns()

        def report(running):
            belt.publish(
                BeltState(
                    header=Header(stamp=to_stamp(cell.now_ns())),
                    position=position,
                    speed=speed if running else 0.0,
                    state=BeltState.STATE_RUNNING if running else BeltState.STATE_STOPPED,
                )
            )

        report(True)
        item_id, stamp_ns = cell.feed('A')
        # The belt stops 0.3 s after the capture, for 0.8 s.
        stopped_ns, on_ns = stamp_ns + 300_000_000, stamp_ns + 1_100_000_000
        while not cell.heard.of('actuation', item_id=item_id):
            now_ns = cell.now_ns()
            assert now_ns - began_ns < 6 * SECOND, cell.complaints()
            moved_ns = min(now_ns, stopped_ns) - began_ns + max(0, now_ns - on_ns)
            position = speed * moved_ns / SECOND
            report(not stopped_ns <= now_ns < on_ns)
            time.sleep(period)
        told = cell.actuation(item_id)
        assert told.status == Actuation.STATUS_CONFIRMED, told.detail
        (outcome,) = cell.outcomes()
        assert not outcome.missed  # the decision does not wait
        moved_ns = machine.changes[0][2] - CELL.fire_time_ns(stamp_ns, 'A')
        assert moved_ns / SECOND == pytest.approx(stand, abs=TOLERANCE)


def test_items_on_their_way_are_pushed_when_the_node_stops(pins):
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell:
        machine = Pneumatics(pins, cell)
        _, stamp_ns = cell.feed('B')
        cell.wait(lambda: any(item.local for item in list(cell.actuator.ledger._open.values())))
    (out, back) = machine.changes
    assert out[:2] == (27, True) and back[:2] == (27, False)
    assert 0 <= out[2] - CELL.fire_time_ns(stamp_ns, 'B') < TOLERANCE * SECOND


@contextmanager
def running_belt(cell):
    """Report a belt that runs, from a thread, until the event is set."""
    publisher, stop = cell.publisher('belt_state', BeltState), threading.Event()
    began_ns = cell.now_ns()

    def report():
        while not stop.wait(0.02):
            now_ns = cell.now_ns()
            publisher.publish(
                BeltState(
                    header=Header(stamp=to_stamp(now_ns)),
                    position=CELL.belt.speed * (now_ns - began_ns) / SECOND,
                    speed=CELL.belt.speed,
                    state=BeltState.STATE_RUNNING,
                )
            )

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize('reported', [True, False])
def test_items_on_a_measured_belt_when_the_node_stops(pins, reported):
    """They are pushed while the belt is known to bring them, and named where it is not."""
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell, running_belt(cell) as stop:
        machine = Pneumatics(pins, cell)
        cell.wait(lambda: cell.actuator.health.counted('belt_reports') > 3)
        item_id, _ = cell.feed('C')
        cell.wait(cell.outcomes)
        if not reported:
            stop.set()
        cell.actuator.executor.create_task(cell.actuator.trigger_deactivate)
        told = cell.actuation(item_id, timeout=20)
        if reported:
            assert told.status == Actuation.STATUS_CONFIRMED, told.detail
        else:
            assert told.status == Actuation.STATUS_FAILED
            assert 'the node stopped while its item was on its way' in told.detail
        assert [pin for pin, on, _ in machine.changes if on] == ([22] if reported else [])


def test_gpio_that_cannot_be_had_is_explained_and_tried_again(pins):
    import gpiozero

    holder = gpiozero.LED(17)
    cell = CellHarness(
        [
            NodeSpec(
                Actuator, {'output': 'gpio', 'retry_period': 0.2, 'diagnostics_period': PERIOD}
            )
        ],
        watched=('/diagnostics',),
    )
    with cell:
        cell.wait_diagnostic('actuator', 'GPIO 17 cannot be opened', level=2)
        holder.close()
        cell.wait_active()


@pytest.mark.parametrize('kind', ['coil', 'register'])
def test_modbus_confirms_dies_and_comes_back(kind):
    pytest.importorskip('pymodbus.simulator')
    from modbus_plc import Plc

    plc = Plc()
    feedback = [36, 37, 38] if kind == 'register' else [0, 1, -1]
    addresses = [4, 5, 6] if kind == 'register' else [0, 1, 2]
    try:
        with Cell(
            output='modbus',
            modbus_host='127.0.0.1',
            modbus_port=plc.port,
            modbus_kind=kind,
            modbus_addresses=addresses,
            modbus_feedback=feedback,
            confirm_timeout=0.3,
        ) as cell:
            item_id, _ = cell.feed('A')
            told = cell.actuation(item_id)
            assert told.status == Actuation.STATUS_CONFIRMED, told.detail
            assert 0 <= told.lateness < TOLERANCE and 0 < told.delay < 0.3
            port = plc.port
            plc.stop()
            cell.wait_diagnostic('actuator', f'PLC 127.0.0.1:{port}', level=2)
            item_id, _ = cell.feed('A')  # the node lives on, and says so for each item
            told = cell.actuation(item_id)
            assert told.status == Actuation.STATUS_FAILED and f':{port}' in told.detail
            outcome = cell.heard.of('sort_outcome', item_id=item_id)[0]
            assert outcome.lane == 'A' and not outcome.missed
            plc = Plc(port)  # a new one, with all coils and registers at zero
            cell.wait(lambda: cell.actuator._output._diverters._trouble is None)
            item_id, _ = cell.feed('A')
            assert cell.actuation(item_id).status == Actuation.STATUS_CONFIRMED
            cell.wait_well()
    finally:
        plc.stop()


def test_plc_sees_that_the_node_works_and_that_it_leaves():
    pytest.importorskip('pymodbus.simulator')
    from modbus_plc import Plc

    plc = Plc()
    try:
        with Cell(
            output='modbus', modbus_host='127.0.0.1', modbus_port=plc.port, modbus_heartbeat=40
        ) as cell:

            def beats():
                return [value for address, value in plc.writes if address == 40]

            plc.wait(lambda: len(beats()) >= 4)
            # A node whose callbacks hang is no better than one that is gone.
            hung, go_on = threading.Event(), threading.Event()
            node = cell.actuator

            def hang():
                timer.cancel()
                hung.set()
                go_on.wait(30)

            timer = node.create_timer(0.0, hang, clock=node.steady_clock)
            assert hung.wait(10)
            # What is read goes on all the while; 20 s would have 80 beats.
            for _ in range(40):
                began, mark = len(plc.asked), len(beats())
                plc.wait(lambda: len(plc.asked) > began + 8)
                if len(beats()) == mark:
                    break
            else:
                pytest.fail('the heart did not stop')
            go_on.set()
            plc.wait(lambda: len(beats()) > mark)
        assert beats()[-1] == 0
    finally:
        plc.stop()


def test_slow_plc_blocks_no_outcome():
    pytest.importorskip('pymodbus.simulator')
    from modbus_plc import Plc

    plc = Plc()
    try:
        with Cell(
            output='modbus',
            modbus_host='127.0.0.1',
            modbus_port=plc.port,
            modbus_timeout=0.3,
            confirm_timeout=0.3,
        ) as cell:
            cell.wait(lambda: cell.actuator._output._diverters._trouble is None)
            plc.delay = 1.0
            items = [cell.feed(lane)[0] for lane in 'AAB']
            for item_id in items:
                outcome = cell.wait(lambda: cell.heard.of('sort_outcome', item_id=item_id))[0]
                assert 0 <= outcome.slack <= 0.3 + 0.01
            for item_id in items:
                assert cell.actuation(item_id).status != Actuation.STATUS_CONFIRMED
            cell.wait_diagnostic('actuator', 'PLC 127.0.0.1', level=2)
            plc.delay = 0.0
    finally:
        plc.stop()


@contextmanager
def controller(cell, trajectory):
    """Play ros2_control: joints that go where they are told, and say where they are."""
    from threading import Lock

    names = ['diverter_c', 'diverter_a', 'diverter_b']  # those of the controller are a, b, c
    order = [2, 0, 1]
    positions, lock, stop = [0.0, 0.0, 0.0], Lock(), threading.Event()
    commands = []
    states = cell.probe.create_publisher(JointState, 'joint_states', 10)

    def on_positions(message):
        data = list(message.points[0].positions) if trajectory else list(message.data)
        with lock:
            commands.append((cell.now_ns(), data))
            positions[:] = data

    def publish():
        while not stop.wait(0.02):
            with lock:
                now = [positions[index] for index in order]
            header = Header(stamp=to_stamp(cell.now_ns()))
            # An arm's states come more often, and look as if something were out.
            for _ in range(5):
                states.publish(
                    JointState(header=header, name=['arm_1', 'arm_2'], position=[0.15, 0.15])
                )
            states.publish(JointState(header=header, name=names[:1], position=now[:1]))
            states.publish(JointState(header=header, name=names[1:], position=now[1:]))

    if trajectory:
        from trajectory_msgs.msg import JointTrajectory

        subscription = cell.probe.create_subscription(
            JointTrajectory, 'diverter_controller/joint_trajectory', on_positions, 10
        )
    else:
        subscription = cell.probe.create_subscription(
            Float64MultiArray, 'diverter_controller/commands', on_positions, 10
        )
    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield commands
    finally:
        stop.set()
        thread.join()
        cell.probe.destroy_subscription(subscription)


@pytest.mark.parametrize('kind', ['forward', 'trajectory'])
def test_ros2_control_moves_the_joint_and_reads_its_state(kind):
    if kind == 'trajectory':
        pytest.importorskip('trajectory_msgs')
    with Cell(output='ros2_control', controller_kind=kind) as cell:
        item_id, _ = cell.feed('A')  # nobody controls yet
        told = cell.actuation(item_id)
        assert told.status == Actuation.STATUS_FAILED and 'no controller listens' in told.detail
        cell.wait_diagnostic('actuator', 'diverter_failed', level=2)
        with controller(cell, kind == 'trajectory') as commands:
            topic = (
                'diverter_controller/joint_trajectory'
                if kind == 'trajectory'
                else 'diverter_controller/commands'
            )
            cell.connect(topic)
            cell.wait(lambda: cell.actuator._output._diverters._positions)
            item_id, stamp_ns = cell.feed('A')
            told = cell.actuation(item_id)
            assert told.status == Actuation.STATUS_CONFIRMED, told.detail
            (moved_ns, _) = next(c for c in commands if c[1] == [0.15, 0.0, 0.0])
            assert 0 <= moved_ns - CELL.fire_time_ns(stamp_ns, 'A') < TOLERANCE * SECOND
            cell.wait(lambda: commands[-1][1] == [0.0, 0.0, 0.0], 5, 'that the joint goes back')
            cell.wait_well()


def test_joint_that_does_not_move_is_reported():
    with Cell(output='ros2_control', confirm_timeout=0.2) as cell:
        cell.probe.create_subscription(
            Float64MultiArray, 'diverter_controller/commands', lambda _: None, 10
        )
        cell.connect('diverter_controller/commands')
        item_id, _ = cell.feed('A')
        told = cell.actuation(item_id)
        assert told.status == Actuation.STATUS_SILENT and 'joint diverter_a' in told.detail


def test_driver_on_the_topic_confirms_or_is_reported():
    with Cell(confirm_timeout=0.2) as cell:
        cell.feed('A')
        cell.wait_diagnostic('actuator', 'no driver confirmed', level=2)
        driver = cell.probe.create_publisher(Actuation, 'actuation', 10)

        def confirm(outcome):
            driver.publish(
                Actuation(
                    header=outcome.header,
                    item_id=outcome.item_id,
                    lane=outcome.lane,
                    status=Actuation.STATUS_CONFIRMED,
                    lateness=0.001,
                    delay=0.05,
                )
            )

        cell.probe.create_subscription(SortOutcome, 'sort_outcome', confirm, 10)
        cell.connect('sort_outcome', readers=2)
        cell.connect('actuation', readers=2)
        cell.feed('A')
        cell.wait_well()
        assert cell.actuator.health.counted('confirmed') == 1
        assert cell.actuator.health.counted('diverter_silent') == 1
        driver.publish(
            Actuation(
                header=cell.outcomes()[-1].header,
                item_id=2,
                lane='A',
                status=Actuation.STATUS_FAILED,
                detail='valve 3 has no air',
            )
        )
        cell.wait_diagnostic('actuator', 'valve 3 has no air', level=2)


def test_reject_lane_and_switched_off_confirmation_await_nothing():
    with Cell(confirm_timeout=0.0) as cell:
        cell.feed('A')
        cell.captures.publish(make_capture(2, cell.now_ns(), IMAGE))
        cell.wait(lambda: len(cell.outcomes()) == 2)
        cell.wait_well()
        assert {o.lane for o in cell.outcomes()} == {'A', 'reject'}


def test_deadline_that_tells_no_place_moves_nothing(pins):
    with Cell(output='gpio', gpio_bounce_time=0.0) as cell:
        machine = Pneumatics(pins, cell)
        stamp_ns = cell.now_ns()
        answer = make_classification(1, stamp_ns, CELL.lane('A').classes[0])
        cell.answers.publish(answer)
        cell.wait(lambda: cell.actuator.ledger._early)
        cell.captures.publish(make_capture(1, stamp_ns, IMAGE, stamp_ns + 3600 * SECOND))
        cell.wait(cell.outcomes)
        cell.wait_diagnostic('actuator', 'no_stroke')
        assert cell.outcomes()[0].lane == 'A' and machine.changes == []


@pytest.fixture
def relay(tmp_path, monkeypatch):
    """Register the output of the how-to page, as its line in the registry does."""
    (code,) = re.findall(r'```python\n(.*?)```', HOW_TO.read_text(encoding='utf-8'), re.DOTALL)
    file = tmp_path / 'relay.py'
    file.write_text(code, encoding='utf-8')
    spec = importlib.util.spec_from_file_location('stl_conveyor.hardware.outputs.relay', file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(OUTPUTS, 'relay', module.OUTPUT)
    # What the module of the actuator does when it is imported.
    monkeypatch.setattr(Actuator, 'SETTINGS', actuator_settings())


def test_output_of_the_how_to_page_is_one_file_and_one_registration(relay, tmp_path):
    port = tmp_path / 'port'
    with Cell(output='relay', relay_port=str(port), relay_numbers=[4, 5, 6]) as cell:
        item_id, stamp_ns = cell.feed('B')
        told = cell.actuation(item_id)
        assert (told.status, told.lane) == (Actuation.STATUS_CONFIRMED, 'B'), told.detail
        assert cell.now_ns() >= CELL.fire_time_ns(stamp_ns, 'B')
        cell.wait(lambda: port.read_text() == '5 on\n5 off\n', 5, 'that the diverter went back')
    assert port.read_text() == '5 on\n5 off\n4 off\n5 off\n6 off\n'


def test_registered_output_is_checked_and_explained(relay, tmp_path):
    with pytest.raises(ConfigError, match='relay_numbers: .4. must name one for each of the 3'):
        Cell(output='relay', relay_numbers=[4])
    with CellHarness(
        [NodeSpec(Actuator, {'output': 'relay', 'relay_port': str(tmp_path / 'no' / 'port')})],
        watched=('/diagnostics',),
    ) as cell:
        cell.wait_diagnostic('actuator', 'is the board plugged in', level=2)


def test_two_outputs_cannot_have_a_parameter_of_one_name(monkeypatch):
    monkeypatch.setitem(OUTPUTS, 'other', OUTPUTS['gpio'])
    with pytest.raises(ValueError, match='gpio_pins of output other is one of output gpio'):
        actuator_settings()
