# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A network that comes or changes after the start: the gateway says it, and is started again."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from subprocess import DEVNULL, PIPE

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from ros_domains import own_environment  # noqa: E402

from stl_conveyor.deploy.fastdds_profiles import environment, profile_xml  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.nodes.base.health import Level  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import node_module  # noqa: E402
from stl_conveyor.nodes.link.device_gateway import DeviceGateway  # noqa: E402
from stl_conveyor.nodes.link.link_gateway import ANOTHER_ADDRESS  # noqa: E402
from stl_conveyor.nodes.link.own_address import own_address_towards, running_addresses  # noqa: E402
from stl_conveyor_lab.bench.network.shaped_link import (  # noqa: E402
    ADDRESSES,
    DEVICE,
    EDGE,
    INTERFACE,
    ShapedLink,
    why_no_link,
)

REASON = why_no_link()
pytestmark = pytest.mark.ros
needs_link = pytest.mark.skipif(bool(REASON), reason=REASON)
needs_fastdds = pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
    reason='the profiles are for Fast DDS',
)
OTHER_ADDRESS = '10.77.0.7'
SIDES = {DEVICE: ('uplink', 'device_gateway'), EDGE: ('downlink', 'edge_gateway')}

LOCAL_NODE = """
import json, sys, threading
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from stl_conveyor.msg import FeatureFeedback
rclpy.init()
node = rclpy.create_node('neighbour')
def hear(message):
    for status in message.status:
        print(json.dumps([status.name, status.level[0], status.message]), flush=True)
def answer(message):
    print(json.dumps(['answer', 0, str(message.item_id)]), flush=True)
node.create_subscription(DiagnosticArray, '/diagnostics', hear, 100)
node.create_subscription(FeatureFeedback, 'feedback_rx', answer, qos_profile_sensor_data)
answers = node.create_publisher(FeatureFeedback, 'feedback_tx', qos_profile_sensor_data)
def speak():
    for line in sys.stdin:
        answers.publish(FeatureFeedback(item_id=int(line)))
threading.Thread(target=speak, daemon=True).start()
rclpy.spin(node)
"""

WAY = """
import sys
from stl_conveyor.nodes.link.own_address import own_address_towards, running_addresses
print(repr(own_address_towards(sys.argv[1])), list(running_addresses()))
"""


class Side:
    """One machine: its gateway, and another node that hears and speaks on the machine's topics."""

    def __init__(self, link, side, folder, shared):
        self._link, self._side, self._shared = link, side, shared
        role, self._name = SIDES[side]
        self._peer = ADDRESSES[EDGE if side == DEVICE else DEVICE]
        domain = int(shared['ROS_DOMAIN_ID'])
        self._profiles = {}
        for kind, peer in ((role, self._peer), ('local', '')):
            self._profiles[kind] = folder / f'{kind}.xml'
            self._profiles[kind].write_text(profile_xml(kind, domain=domain, peer=peer))
        self._role = role
        self._output = folder / 'gateway.txt'
        self.gateway = self._start_gateway()
        self.neighbour = self._start('local', '-c', LOCAL_NODE, stdin=PIPE, stdout=PIPE)
        self.named = set()
        self._heard = queue.SimpleQueue()
        self._history = []  # name, level, text and time of what was heard
        threading.Thread(target=self._read, daemon=True).start()

    def _start(self, profile, *command, stderr=DEVNULL, **streams):
        return subprocess.Popen(
            [*self._link.prefix(self._side), sys.executable, *command],
            env={**self._shared, **environment(self._profiles[profile])},
            stderr=stderr,
            text=True,
            **streams,
        )

    def _start_gateway(self):
        parameters = ('-p', f'peer:={self._peer}', '-p', 'diagnostics_period:=0.1')
        with open(self._output, 'a', encoding='utf-8') as output:
            return self._start(
                self._role,
                '-m',
                node_module(self._name),
                '--ros-args',
                *parameters,
                stdout=output,
                stderr=output,
            )

    def _read(self):
        for line in self.neighbour.stdout:
            found = json.loads(line)
            self._history.append((*found, f'{time.monotonic():.2f}'))
            self._heard.put(found)

    def hear(self, name, level=None, patience=60.0):
        """Wait for the next word about something; return its text."""
        end = time.monotonic() + patience
        while True:
            found = self._heard.get(timeout=max(0.0, end - time.monotonic()))
            self.named.add(found[0])
            if found[0] == name and level in (None, found[1]):
                return found[2]

    def said(self, fault='', level=None):
        """Wait for the next word of the gateway about a fault, or about itself."""
        name = f'{self._name}: {fault}' if fault else self._name
        try:
            return self.hear(name, level)
        except queue.Empty:
            pytest.fail(f'{name} was not said: {self._state()}')

    def _state(self):
        """Return all that can tell why something was not heard."""

        def output(*command):
            whole = [*self._link.prefix(self._side), *command]
            done = subprocess.run(whole, capture_output=True, text=True)
            return f'{" ".join(command)}: {done.stdout}{done.stderr}'

        return '\n'.join(
            (
                f'it is {time.monotonic():.2f}; gateway {self.gateway.poll()}, '
                f'neighbour {self.neighbour.poll()}',
                output('ip', '-br', 'address'),
                output('ip', 'link', 'show', INTERFACE),
                output('ip', 'route'),
                output(sys.executable, '-c', WAY, self._peer),
                f'gateway wrote: {self._output.read_text(encoding="utf-8")[-2000:]}',
                'heard, each the first and the last time: ',
                *map(str, self._once_each()),
            )
        )

    def _once_each(self):
        first, last = {}, {}
        for *what, at in self._history:
            first.setdefault(tuple(what), at)
            last[tuple(what)] = at
        return [(*what, first[what], last[what]) for what in first]

    def renewed(self):
        """Wait until the gateway ends by itself, and start it again as launch does."""
        assert self.gateway.wait(60) == ANOTHER_ADDRESS
        self.gateway = self._start_gateway()

    def answer(self, item_id):
        """Have the other node publish an answer of the edge."""
        self.neighbour.stdin.write(f'{item_id}\n')
        self.neighbour.stdin.flush()

    def ip(self, *words):
        """Change the network of this machine."""
        subprocess.run([*self._link.prefix(self._side), 'ip', *words], check=True)

    def close(self):
        for process in (self.gateway, self.neighbour):
            process.kill()
            process.wait()


def wait_for_an_answer(device, edge, first):
    """Have the edge answer until the device hears a new one."""
    for item_id in range(first, first + 600):
        edge.answer(item_id)
        try:
            while int(device.hear('answer', patience=0.1)) < first:
                pass
        except queue.Empty:
            continue
        return
    pytest.fail('nothing comes from the other side')


def wait_for_no_carrier(link):
    """Wait until the edge's interface runs no more; the kernel takes its time.

    That is what a gateway goes by. The carrier may be gone before.
    """
    end = time.monotonic() + 30
    command = [*link.prefix(EDGE), 'ip', 'link', 'show', INTERFACE]
    while True:
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if 'NO-CARRIER' in shown:
            return
        assert time.monotonic() < end, f'the cable is out, and nobody notices: {shown}'


@pytest.fixture
def sides(tmp_path):
    """Yield what makes both machines, and ends them."""
    with ExitStack() as stack:
        link = stack.enter_context(ShapedLink(1000.0))

        def make(*, cable=True):
            if not cable:
                command = ['ip', 'link', 'set', INTERFACE, 'down']
                subprocess.run([*link.prefix(DEVICE), *command], check=True)
                wait_for_no_carrier(link)
            shared = own_environment()
            made = []
            for side in (DEVICE, EDGE):
                folder = tmp_path / side
                folder.mkdir()
                made.append(Side(link, side, folder, shared))
                stack.callback(made[-1].close)
            return made

        yield make


@needs_link
@needs_fastdds
def test_a_cable_that_is_plugged_in_after_the_start_joins_both_sides(sides):
    device, edge = sides(cable=False)
    for side in (device, edge):
        assert 'no interface' in side.said('no_way_to_peer', Level.WARN)
    device.ip('link', 'set', INTERFACE, 'up')
    for side, here in ((device, DEVICE), (edge, EDGE)):
        assert ADDRESSES[here] in side.said('address_changed', Level.ERROR)
        side.renewed()
    # The nodes that were there before find the gateway that was started again.
    wait_for_an_answer(device, edge, first=1)


@needs_link
@needs_fastdds
def test_another_address_joins_both_sides_again_and_another_interface_changes_nothing(sides):
    device, edge = sides()
    wait_for_an_answer(device, edge, first=1)
    # What a bridge of containers is to the link: an interface beside it, that comes and goes.
    device.ip('link', 'add', 'bridge0', 'type', 'veth', 'peer', 'name', 'bridge1')
    device.ip('address', 'add', '172.17.0.1/16', 'dev', 'bridge0')
    for end in ('bridge0', 'bridge1'):
        device.ip('link', 'set', end, 'up')
    device.ip('link', 'delete', 'bridge0')
    # The cable is pulled out and plugged in again.
    device.ip('link', 'set', INTERFACE, 'down')
    device.said('no_way_to_peer', Level.WARN)
    device.ip('link', 'set', INTERFACE, 'up')
    device.said('no_way_to_peer', Level.OK)
    for _ in range(10):
        device.said()
    assert 'device_gateway: address_changed' not in device.named
    assert device.gateway.poll() is None and edge.gateway.poll() is None

    device.ip('address', 'delete', f'{ADDRESSES[DEVICE]}/24', 'dev', INTERFACE)
    device.ip('address', 'add', f'{OTHER_ADDRESS}/24', 'dev', INTERFACE)
    assert OTHER_ADDRESS in device.said('address_changed', Level.ERROR)
    device.renewed()
    wait_for_an_answer(device, edge, first=10_000)
    assert edge.gateway.poll() is None


def test_the_own_address_is_one_of_those_that_run():
    assert '127.0.0.1' in set(running_addresses())
    assert own_address_towards('127.0.0.1') == '127.0.0.1'
    assert own_address_towards('255.255.255.255') == ''  # that is nobody


def test_a_peer_that_is_no_address_is_refused_by_name():
    with pytest.raises(ConfigError, match=r'peer: .*edge\.local'):
        NodeRunner([NodeSpec(DeviceGateway, {'peer': 'edge.local'})], domain_id=0)
