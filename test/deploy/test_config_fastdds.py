# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profiles for Wi-Fi are valid, and two processes find each other with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ros_domains import own_environment

from stl_conveyor.deploy.fastdds_profiles import environment, profile_xml

ROOT = Path(__file__).resolve().parents[2]
DEVICE, EDGE = (ROOT / 'config' / f'fastdds_{side}.xml' for side in ('device', 'edge'))
DDS = '{http://www.eprosima.com}'

TALK = """
import sys, time
import rclpy
from std_msgs.msg import Header
rclpy.init()
side, other = sys.argv[1:]
node = rclpy.create_node(side)
heard = []
node.create_subscription(Header, other, heard.append, 10)
publisher = node.create_publisher(Header, side, 10)
end = time.monotonic() + 20
while time.monotonic() < end and not (len(heard) > 2 and publisher.get_subscription_count()):
    publisher.publish(Header())
    rclpy.spin_once(node, timeout_sec=0.05)
for _ in range(20):             # the other side may not have heard enough yet
    publisher.publish(Header())
    rclpy.spin_once(node, timeout_sec=0.02)
print(len(heard))
"""


@pytest.mark.parametrize('role', ['device', 'edge', 'writers'])
@pytest.mark.parametrize('distro, ending', [('kilted', ''), ('jazzy', '_jazzy')])
def test_the_shipped_profile_is_what_is_generated(role, distro, ending):
    path = ROOT / 'config' / f'fastdds_{role}{ending}.xml'
    assert path.read_text(encoding='utf-8') == profile_xml(role, old=distro == 'jazzy'), (
        f'run with ROS_DISTRO={distro}: '
        f'python -m stl_conveyor.deploy.fastdds_profiles {role} > config/{path.name}'
    )


def test_both_sides_differ_in_the_peer_alone():
    def content(path):
        tree = ElementTree.parse(path).getroot()
        (peers,) = tree.iter(f'{DDS}initialPeersList')
        addresses = [entry.text for entry in peers.iter(f'{DDS}address')]
        peers.clear()
        next(tree.iter(f'{DDS}participant')).attrib.pop('profile_name')
        text = ''.join(ElementTree.tostring(tree, encoding='unicode').split())
        return text, addresses

    (device, device_peers), (edge, edge_peers) = content(DEVICE), content(EDGE)
    assert device == edge
    assert device_peers == ['127.0.0.1', '${EDGE_ADDRESS}'] and edge_peers == ['127.0.0.1']
    # One MTU of Wi-Fi, less the headers of IP and UDP.
    (size,) = ElementTree.parse(DEVICE).getroot().iter(f'{DDS}maxMessageSize')
    assert int(size.text) <= 1500 - 28


@pytest.mark.ros
def test_two_processes_find_each_other():
    if os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp':
        pytest.skip('the profiles are for Fast DDS')
    shared = {**own_environment(), 'EDGE_ADDRESS': '127.0.0.1'}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', TALK, side, other],
            text=True,
            env={**shared, **environment(path)},
            stdout=subprocess.PIPE,
        )
        for side, other, path in (('device', 'edge', DEVICE), ('edge', 'device', EDGE))
    ]
    heard = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert min(heard) > 2, heard
