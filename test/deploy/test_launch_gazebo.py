# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""gazebo.launch.py, with Gazebo where it is installed, and with a stand-in for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from launched import launched, needs_launch

pytestmark = [pytest.mark.ros, needs_launch]

TEST = Path(__file__).resolve().parents[1]
ITEMS = 4
GZ_SIM = """
import sys
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.substitutions import LaunchConfiguration


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('gz_args'),
        DeclareLaunchArgument('on_exit_shutdown'),
        ExecuteProcess(cmd=[sys.executable, {stand_in!r}, LaunchConfiguration('gz_args')],
                       shell=False, output='screen', on_exit=Shutdown()),
    ])
"""
WAITING = """#!{python}
import signal
import sys
print('started', *sys.argv[1:], flush=True)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: sys.exit(0))
signal.pause()
"""


@pytest.fixture
def stand_in(tmp_path):
    """Return the environment in which Gazebo's packages are those of a stand-in."""
    if importlib.util.find_spec('ros_gz_interfaces') is None:
        pytest.skip('ros_gz_interfaces comes with ros_gz')
    prefix = tmp_path / 'prefix'
    index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    for package in ('ros_gz_sim', 'ros_gz_bridge', 'tf2_ros'):
        (index / package).touch()
        (prefix / 'share' / package).mkdir()
    launch = prefix / 'share' / 'ros_gz_sim' / 'launch'
    launch.mkdir()
    (launch / 'gz_sim.launch.py').write_text(GZ_SIM.format(stand_in=str(TEST / 'fake_gazebo.py')))
    for package, name in (
        ('ros_gz_bridge', 'parameter_bridge'),
        ('tf2_ros', 'static_transform_publisher'),
    ):
        program = prefix / 'lib' / package / name
        program.parent.mkdir(parents=True)
        program.write_text(WAITING.format(python=sys.executable))
        program.chmod(0o755)
    return {
        'AMENT_PREFIX_PATH': f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}',
        'PYTHONPATH': f'{TEST}:{os.environ.get("PYTHONPATH", "")}',
    }


@pytest.fixture
def gazebo():
    """Skip where Gazebo is not installed."""
    from ament_index_python.packages import get_packages_with_prefixes

    missing = {'ros_gz_sim', 'ros_gz_bridge', 'tf2_ros'} - set(get_packages_with_prefixes())
    if missing or not shutil.which('gz'):
        pytest.skip(f'Gazebo is not installed: apt install ros-$ROS_DISTRO-ros-gz ({missing})')
    return {}


def wait_for_reports(domain_id, running, good, timeout):
    """Return the diagnostics of all nodes once they are good: {node: {key: value}}."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.context import Context

    context, reports = Context(), {}
    rclpy.init(context=context, domain_id=domain_id)
    node = rclpy.create_node('probe', context=context, use_global_arguments=False)

    def on_report(message):
        for status in message.status:
            reports[status.name] = {value.key: value.value for value in status.values}

    node.create_subscription(DiagnosticArray, '/diagnostics', on_report, 16)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        end = time.monotonic() + timeout
        while not good(reports):
            assert time.monotonic() < end, f'{reports}\n{running.output}'
            assert running.process.poll() is None, running.output
            executor.spin_once(timeout_sec=0.5)
        return reports
    finally:
        executor.shutdown(timeout_sec=0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize('simulator', ['gazebo', 'stand_in'])
def test_cell_in_gazebo_feeds_sorts_and_stops_clean(simulator, request, tmp_path):
    environment = request.getfixturevalue(simulator)
    with launched(
        'gazebo.launch.py', tmp_path, f'items:={ITEMS}', 'seed:=3', environment=environment
    ) as running:
        reports = wait_for_reports(
            running.domain_id,
            running,
            lambda found: (
                found.get('feeder', {}).get('finished') == 'True'
                and found.get('cell_monitor', {}).get('outcomes') == str(ITEMS)
            ),
            180,
        )
        assert reports['cell_monitor']['items'] == str(ITEMS)
        assert reports['cell_monitor']['unacted'] == '0'
        assert running.output.count('gz.msgs') or 'gazebo_bridge' in running.output
        code, left = running.interrupt()
        assert not left
        assert 'Traceback' not in running.output
