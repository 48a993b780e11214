# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An activation owns what it opens: every node can be activated again, whatever failed before."""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fake_video
import numpy as np
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
    to_stamp,
)
from fake_cell import FakeCell  # noqa: E402
from fake_video import FakeCapture  # noqa: E402
from rclpy.clock import Clock, JumpHandle  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Float64, Header  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import FeatureFeedback, OffloadDecision, ProgressiveFeature, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.topics import EVERY_NODE, GATEWAYS, GAZEBO  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.device.cell_guard import CellGuard  # noqa: E402
from stl_conveyor.nodes.device.encoder import EncoderNode  # noqa: E402
from stl_conveyor.nodes.device.local_classifier import LocalClassifier  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor.nodes.link.device_gateway import DeviceGateway  # noqa: E402
from stl_conveyor.nodes.link.edge_gateway import EdgeGateway  # noqa: E402
from stl_conveyor.nodes.link.link_emulator import LinkEmulator  # noqa: E402
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor  # noqa: E402
from stl_conveyor.nodes.simulation.cell_simulator import CellSimulator  # noqa: E402
from stl_conveyor.nodes.simulation.feeder import Feeder  # noqa: E402
from stl_conveyor.nodes.simulation.gazebo_io import GazeboIo  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
SECOND = 10**9
IMAGE = tiny_images(1, len(CELL.classes))[0][0]
WATCHED = {**WATCHED, 'belt/cmd_vel': Float64}


class Stage:
    """One node, without anybody beside it, whose transitions the test makes."""

    def __init__(self, cell: CellHarness) -> None:
        self.cell = cell
        self.node: ConveyorNode = cell.runner.nodes[0]
        self.begin_ns = 0  # ROS time at which the present activation began
        self._items = itertools.count(1)
        self._publishers: dict[str, Any] = {}

    def change(self, transition: Callable[[], Any]) -> Any:
        """Make a transition in the node's executor; return its result."""
        task, done = self.node.executor.create_task(transition), threading.Event()
        task.add_done_callback(lambda _: done.set())
        assert done.wait(60), f'{transition.__name__} does not end'
        return task.result()

    def activate(self) -> Any:
        self.begin_ns = self.cell.now_ns()
        return self.change(self.node.trigger_activate)

    def say(self, topic: str, message: Any) -> None:
        """Publish something, connected or not: who needs an answer says it again."""
        if topic not in self._publishers:
            self._publishers[topic] = self.cell.publisher(topic, type(message), readers=0)
        self._publishers[topic].publish(message)

    def item(self) -> tuple[int, int]:
        """Return the number and the capture stamp of a new item."""
        return next(self._items), self.cell.now_ns()

    def said(self, topic: str) -> list[Any]:
        """Return what came on a topic about items of this activation."""
        return [
            message
            for message in self.cell.heard.messages[topic]
            if to_ns(message.header.stamp) >= self.begin_ns
        ]


def show_picture(stage: Stage) -> None:
    image = np.full((240, 320, 3), 60, np.uint8)
    header = Header(stamp=to_stamp(stage.cell.now_ns()))
    stage.say(
        'camera/image_raw',
        Image(
            header=header,
            height=240,
            width=320,
            step=960,
            encoding='rgb8',
            data=array.array('B', image.tobytes()),
        ),
    )


def capture(stage: Stage) -> None:
    stage.say('capture', make_capture(*stage.item(), IMAGE))


def classify(stage: Stage) -> None:
    stage.say('classification', make_classification(*stage.item(), CELL.classes[0]))


def pass_item(stage: Stage) -> None:
    """Let an item of the first lane pass the actuator, one that is due soon."""
    number, now_ns = stage.item()
    deadline_ns = now_ns + CELL.decision_time_ns
    stage.say('capture', make_capture(number, now_ns, IMAGE, deadline_ns))
    stage.say(
        'classification',
        make_classification(number, now_ns, CELL.lanes[0].classes[0], deadline_ns=deadline_ns),
    )


def offload(stage: Stage) -> None:
    number, now_ns = stage.item()
    message = make_capture(number, now_ns, IMAGE)
    stage.say('capture', message)
    stage.say(
        'offload_decision',
        OffloadDecision(
            header=message.header,
            item_id=number,
            deadline=message.deadline,
            offload=True,
            byte_budget=2000,
        ),
    )


def send_features(stage: Stage) -> None:
    number, now_ns = stage.item()
    encoder = stage.encoder
    (first, *_) = encoder.encode(IMAGE, None, packet_bytes=1000, max_bytes=4000).packets
    stage.say(
        'features_rx',
        ProgressiveFeature(
            header=Header(stamp=to_stamp(now_ns)),
            item_id=number,
            codec_id=encoder.identity,
            deadline=to_stamp(now_ns + 10 * SECOND),
            data=array.array('B', first),
        ),
    )


def acknowledge(topic: str) -> Callable[[Stage], None]:
    def send(stage: Stage) -> None:
        number, now_ns = stage.item()
        stage.say(topic, FeatureFeedback(header=Header(stamp=to_stamp(now_ns)), item_id=number))

    return send


def send_packet(stage: Stage) -> None:
    number, now_ns = stage.item()
    stage.say(
        'link/features', ProgressiveFeature(header=Header(stamp=to_stamp(now_ns)), item_id=number)
    )


def decide(stage: Stage) -> None:
    number, now_ns = stage.item()
    stage.say(
        'sort_outcome',
        SortOutcome(
            header=Header(stamp=to_stamp(now_ns)), item_id=number, lane=CELL.lanes[0].name
        ),
    )


def break_beam(stage: Stage) -> None:
    pin = stage.pins.pin(23)
    pin.drive_low()
    pin.drive_high()


def wait(stage: Stage) -> None:
    """Say nothing: the node acts by itself."""


def hears(topic: str) -> Callable[[Stage], bool]:
    return lambda stage: bool(stage.said(topic))


def drives_belt(stage: Stage) -> bool:
    return any(message.data > 0 for message in stage.cell.heard.messages['belt/cmd_vel'])


class CameraWithBeam(Camera):
    """Notes when the light barrier was broken (ROS time, ns)."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.breaks = []

    def _on_beam_change(self, broken, time_ns):
        super()._on_beam_change(broken, time_ns)
        if broken:
            self.breaks.append(time_ns)


class SimulatorWithoutPhysics(CellSimulator):
    def make_cell(self, description, plan):
        return FakeCell(description, plan, self.settings.seed, self.settings.time_unit)


class CountedCapture(FakeCapture):
    """A camera that OpenCV has opened."""

    opened: Counter[str] = Counter()

    def __init__(self, device: object, api: int = 0) -> None:
        super().__init__(device, api)
        self.opened['cameras'] += 1

    def read(self) -> tuple[bool, np.ndarray]:
        threading.Event().wait(0.01)  # as long as a picture takes
        return super().read()

    def release(self) -> None:
        self.opened['cameras'] -= 1


@dataclass(frozen=True)
class Case:
    """A node, what makes it work, and how that is seen."""

    kind: type[ConveyorNode]
    stimulus: Callable[[Stage], None]
    works: Callable[[Stage], bool]
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: dict[str, str] = field(default_factory=dict)


MODELS = '<models>'
PICTURES = '<pictures>'
LOG = '<log>'
PORT = '<port>'
ACTUATOR = {**described(guard=0.3), 'confirm_timeout': 0.1}
CASES = {
    'camera of a topic': Case(Camera, show_picture, hears('capture')),
    'camera of a device': Case(
        Camera, wait, hears('capture'), {'source': 'device', 'device': '0'}
    ),
    'camera of a folder': Case(
        Camera,
        wait,
        hears('capture'),
        {'source': 'folder', 'folder': PICTURES, 'rate': 20.0, 'repeat': True},
    ),
    'camera with a light barrier and an encoder': Case(
        CameraWithBeam,
        break_beam,
        lambda stage: any(time_ns >= stage.begin_ns for time_ns in stage.node.breaks),
        {'trigger': 'gpio', 'belt_speed_source': 'encoder'},
    ),
    'local_classifier': Case(
        LocalClassifier, capture, hears('classification'), {'models_dir': MODELS}
    ),
    'offload_policy': Case(
        OffloadPolicy,
        classify,
        hears('offload_decision'),
        {'models_dir': MODELS, 'policy': 'always'},
    ),
    'encoder': Case(
        EncoderNode,
        offload,
        hears('features_rx'),
        {'models_dir': MODELS},
        {'features_tx': 'features_rx'},
    ),
    'actuator with a driver': Case(Actuator, pass_item, hears('sort_outcome'), ACTUATOR),
    'actuator with pins': Case(
        Actuator,
        pass_item,
        hears('actuation'),
        {**ACTUATOR, 'output': 'gpio', 'gpio_bounce_time': 0.0},
    ),
    'actuator with a PLC': Case(
        Actuator,
        pass_item,
        hears('actuation'),
        {**ACTUATOR, 'output': 'modbus', 'modbus_host': '127.0.0.1', 'modbus_port': PORT},
    ),
    'actuator with a controller': Case(
        Actuator, pass_item, hears('actuation'), {**ACTUATOR, 'output': 'ros2_control'}
    ),
    'cell_guard': Case(
        CellGuard, capture, lambda stage: stage.node._account.open_items > 0, {'safe_pin': 17}
    ),
    'edge_classifier': Case(
        EdgeClassifier,
        send_features,
        hears('edge_classification'),
        {'models_dir': MODELS},
        {'edge_classification_tx': 'edge_classification'},
    ),
    'link_emulator': Case(
        LinkEmulator, acknowledge('feedback_tx'), hears('feedback_rx'), {'log_path': LOG}
    ),
    'device_gateway': Case(DeviceGateway, acknowledge('link/feedback'), hears('feedback_rx')),
    'edge_gateway': Case(EdgeGateway, send_packet, hears('features_rx')),
    'cell_simulator': Case(
        SimulatorWithoutPhysics, wait, hears('item_truth'), {'items': 1000, 'log_path': LOG}
    ),
    'cell_monitor': Case(
        CellMonitor,
        capture,
        lambda stage: any(r.stamp_ns >= stage.begin_ns for r in stage.node.board.records),
        {'display': 'table'},
    ),
    'feeder': Case(Feeder, wait, drives_belt),
    'gazebo_io': Case(GazeboIo, decide, hears('actuation'), {'confirm_timeout': 0.05}),
}


def test_every_node_has_a_case():
    assert {case.kind.NAME for case in CASES.values()} == {*EVERY_NODE, *GATEWAYS, *GAZEBO}


class Faults:
    """Counts what an activation opens, and lets one step fail: before it, or right after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self._failing: int | None = None
        self._thread: threading.Thread | None = None
        self.jumps: Counter[str] = Counter()
        for owner, name in (
            (Node, 'create_publisher'),
            (Node, 'create_subscription'),
            (Node, 'create_timer'),
            (Node, 'create_client'),
            (Clock, 'create_jump_callback'),
            (threading.Thread, 'start'),
        ):
            monkeypatch.setattr(owner, name, self._before(getattr(owner, name)))
        monkeypatch.setattr(
            'stl_conveyor.nodes.base.run_log.open', self._before(open), raising=False
        )
        with contextlib.suppress(ImportError):
            import gpiozero

            for name in ('DigitalOutputDevice', 'DigitalInputDevice', 'RotaryEncoder'):
                monkeypatch.setattr(gpiozero, name, self._before(getattr(gpiozero, name)))
        for name in ('callback', 'enter_context'):
            monkeypatch.setattr(
                contextlib.ExitStack, name, self._after(getattr(contextlib.ExitStack, name))
            )
        made, unregister = Clock.create_jump_callback, JumpHandle.unregister

        def make(clock: Clock, *arguments: Any, **named: Any) -> JumpHandle:
            handle = made(clock, *arguments, **named)
            self.jumps['registered'] += 1
            return handle

        def forget(handle: JumpHandle) -> None:
            self.jumps['registered'] -= handle._clock is not None
            unregister(handle)

        monkeypatch.setattr(Clock, 'create_jump_callback', make)
        monkeypatch.setattr(JumpHandle, 'unregister', forget)

    def armed(self, work: Callable[[], Any], failing: int | None = None) -> Callable[[], Any]:
        """Return the work with its steps counted; one of them fails."""

        def call() -> Any:
            self.steps, self._failing = 0, failing
            self._thread = threading.current_thread()
            try:
                return work()
            finally:
                self._thread = None

        return call

    def _step(self) -> None:
        if threading.current_thread() is self._thread:
            self.steps += 1
            if self._failing == self.steps - 1:
                raise OSError(f'step {self._failing} fails')

    def _before(self, opener: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._step()
            return opener(*arguments, **named)

        return call

    def _after(self, opener: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = opener(*arguments, **named)
            self._step()
            return result

        return call


@pytest.fixture
def faults(monkeypatch):
    return Faults(monkeypatch)


@pytest.fixture
def stage(request, monkeypatch, tmp_path, tiny_models, faults):
    """Return a stage for the case that the test is about, with what stands in for hardware."""
    case: Case = CASES[request.param]
    parameters = dict(case.parameters)
    pins, plc = None, None
    if 'gpio' in (parameters.get('output'), parameters.get('trigger')) or 'safe_pin' in parameters:
        gpiozero = pytest.importorskip('gpiozero')
        from gpiozero.pins.mock import MockFactory

        pins = MockFactory()
        monkeypatch.setattr(gpiozero.Device, 'pin_factory', pins)
    if parameters.get('output') == 'modbus':
        pytest.importorskip('pymodbus')
        from modbus_plc import Plc

        plc = Plc()
    if PICTURES in parameters.values():
        pillow = pytest.importorskip('PIL.Image')
        pillow.new('RGB', (40, 30), (0, 0, 50)).save(tmp_path / 'picture.png')
    fake_video.install(monkeypatch, CountedCapture)
    stand_in_for_the_bridge(monkeypatch)
    places = {
        MODELS: str(tiny_models),
        PICTURES: str(tmp_path),
        LOG: str(tmp_path / 'log.csv'),
        PORT: plc and plc.port,
    }
    parameters = {
        name: places.get(value, value) if isinstance(value, str) else value
        for name, value in parameters.items()
    }
    spec = NodeSpec(case.kind, {**parameters, 'autostart': False}, remappings=case.remappings)
    try:
        with watching('belt/cmd_vel'), CellHarness([spec], watched=tuple(WATCHED)) as cell:
            stage = Stage(cell)
            stage.case, stage.pins = case, pins
            stage.encoder = Encoder(ModelFolder(tiny_models), 1)
            yield stage
    finally:
        if plc is not None:
            plc.stop()


@contextlib.contextmanager
def watching(topic):
    """Let the harness listen to one topic more."""
    import cell_harness

    cell_harness.WATCHED[topic] = WATCHED[topic]
    try:
        yield
    finally:
        del cell_harness.WATCHED[topic]


def stand_in_for_the_bridge(monkeypatch):
    """Let the feeder's clients be made where ros_gz_interfaces is not installed."""
    from rcl_interfaces.srv import GetParameters, ListParameters

    for name, content in (
        ('ros_gz_interfaces', {}),
        ('ros_gz_interfaces.msg', {'Entity': object, 'EntityFactory': object}),
        ('ros_gz_interfaces.srv', {'SpawnEntity': GetParameters, 'DeleteEntity': ListParameters}),
    ):
        module = type(sys)(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def held(stage, faults):
    """Return what the node holds: all that an activation can open."""
    node, pins = stage.node, stage.pins
    return {
        'publishers': sorted(publisher.topic_name for publisher in node.publishers),
        'subscriptions': sorted(subscription.topic_name for subscription in node.subscriptions),
        'timers': len(list(node.timers)),
        'clients': len(list(node.clients)),
        'waitables': len(list(node.waitables)),
        'threads': sorted(thread.name for thread in threading.enumerate()),
        'jumps': faults.jumps['registered'],
        'pins': sorted(
            pin.name for pin, users in (pins._reservations if pins else {}).items() if users
        ),
        'cameras': CountedCapture.opened['cameras'],
        'logs': [path for path in open_files() if path.endswith('log.csv')],
    }


def left(stage, faults, idle):
    """Return what the node still holds, once threads that were told to end had time to."""
    for thread in threading.enumerate():
        if thread.name not in idle['threads']:
            thread.join(5)
    return held(stage, faults)


def open_files():
    for number in os.listdir('/proc/self/fd') if os.path.isdir('/proc/self/fd') else ():
        with contextlib.suppress(OSError):
            yield os.readlink(f'/proc/self/fd/{number}')


def sees_it_work(stage):
    stage.cell.heard.messages['belt/cmd_vel'].clear()

    def works():
        stage.case.stimulus(stage)
        return stage.case.works(stage)

    stage.cell.wait(works, 30, f'any work of {stage.node.get_name()}')


@pytest.mark.parametrize('stage', CASES, indirect=True)
def test_an_activation_owns_what_it_opens(stage, faults):
    node = stage.node
    assert stage.change(node.trigger_configure) is SUCCESS
    idle = held(stage, faults)
    for _ in range(3):
        assert stage.activate() is SUCCESS
        assert held(stage, faults) != idle
        sees_it_work(stage)
        assert stage.change(node.trigger_deactivate) is SUCCESS
        assert left(stage, faults, idle) == idle

    assert stage.change(faults.armed(node.trigger_activate)) is SUCCESS
    steps = faults.steps
    assert steps >= 4  # two things opened at least, and registered
    assert stage.change(node.trigger_deactivate) is SUCCESS
    for step in range(steps):
        activate = faults.armed(node.trigger_activate, failing=step)
        assert stage.change(activate) is FAILURE, f'step {step} of {steps}'
        assert not node.is_active
        assert left(stage, faults, idle) == idle, f'after step {step} of {steps} failed'
    assert stage.activate() is SUCCESS
    sees_it_work(stage)
    assert node.health.counted('exception') == 0
    assert stage.change(node.trigger_deactivate) is SUCCESS
    assert left(stage, faults, idle) == idle


class Opener(ConveyorNode):
    """Opens three things, of which the one in the middle cannot be closed."""

    NAME = 'opener'
    topics = ()

    def configure(self):
        self.closed = []

    def activate(self):
        self.resources.callback(self.closed.append, 'first')
        self.resources.callback(self._break)
        self.resources.callback(self.closed.append, 'last')

    def deactivate(self):
        self.closed.append('work finished')

    def _break(self):
        raise OSError('the device is gone')


def test_what_cannot_be_closed_is_reported_and_keeps_nothing_else_open():
    spec = NodeSpec(Opener, {'autostart': False, 'diagnostics_period': 0.1})
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        stage = Stage(cell)
        stage.change(stage.node.trigger_configure)
        assert stage.activate() is SUCCESS
        assert stage.change(stage.node.trigger_deactivate) is SUCCESS
        assert stage.node.closed == ['work finished', 'last', 'first']
        cell.wait_diagnostic('opener', 'the device is gone', level=2)
        assert stage.activate() is SUCCESS
