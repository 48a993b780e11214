# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An answer that a slow link has lost does not hold back the later ones for long."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

pytest.importorskip('rclpy')

from ros_domains import own_environment  # noqa: E402

from stl_conveyor.deploy.fastdds_profiles import environment, profile_xml  # noqa: E402
from stl_conveyor_lab.bench.network.shaped_link import (  # noqa: E402
    ADDRESSES,
    DEVICE,
    EDGE,
    ShapedLink,
    why_no_link,
)

REASON = why_no_link()
pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.skipif(
        os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
        reason='the profiles are for Fast DDS',
    ),
]

ENDS = """
import sys, time
import rclpy
from rclpy.qos import QoSProfile
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node(sys.argv[1])
profile = QoSProfile(depth=16)     # reliable, as answers are
if sys.argv[1] == 'device':
    def hear(message):
        print(message.data, time.monotonic(), flush=True)
    node.create_subscription(String, 'answers', hear, profile)
    rclpy.spin(node)
else:
    publisher = node.create_publisher(String, 'answers', profile)
    for line in sys.stdin:
        publisher.publish(String(data=line.strip()))
        print(line.strip(), time.monotonic(), flush=True)
"""


class End:
    """A process on one side, and what it prints: a word and when (s, steady)."""

    def __init__(self, link, side, profile, shared):
        self._process = subprocess.Popen(
            [*link.prefix(side), sys.executable, '-c', ENDS, side],
            env={**shared, **environment(profile)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._printed = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            word, at = line.split()
            self._printed.put((word, float(at)))

    def say(self, word):
        """Publish a word; return when that was done."""
        self._process.stdin.write(word + '\n')
        self._process.stdin.flush()
        return self.next(30, word)

    def next(self, patience, word=None):
        """Return when the word was printed, or the next one whatever it is."""
        while True:
            found, at = self._printed.get(timeout=patience)
            if word in (None, found):
                return at

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def test_the_next_answers_come_within_a_second(tmp_path):
    shared = own_environment()
    domain = int(shared['ROS_DOMAIN_ID'])
    profiles = {}
    for side, role, other in ((DEVICE, 'uplink', EDGE), (EDGE, 'downlink', DEVICE)):
        profiles[side] = tmp_path / f'{role}.xml'
        profiles[side].write_text(profile_xml(role, domain=domain, peer=ADDRESSES[other]))
    with ShapedLink(67.5) as link, ExitStack() as stack:
        device, edge = (
            stack.enter_context(End(link, side, profiles[side], shared)) for side in (DEVICE, EDGE)
        )
        for _ in range(300):
            edge.say('first')
            try:
                device.next(0.2)
                break
            except queue.Empty:
                continue
        else:
            pytest.fail('the two sides did not find each other')
        waits = []
        for number in range(3):
            with link.losing(EDGE):
                edge.say(f'lost{number}')
            said = edge.say(f'later{number}')
            waits.append(device.next(30, f'later{number}') - said)
    assert max(waits) < 1.0, f'{waits} s; a heartbeat by default is after 3 s'
