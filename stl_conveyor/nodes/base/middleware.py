# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the middleware must be told before the first participant is made.

A reliable writer learns that a sample was lost from the answer to its heartbeat, and until the
sample has come again its reader hands on no later one. Fast DDS sends a heartbeat every three
seconds by default, which is more time than an item has. With one every 50 ms, sent only while
something is unacknowledged, an actuator that was frozen for three seconds has all that came
meanwhile .06 s after it wakes instead of 1.15 s.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stl_conveyor.resources import share_path

if TYPE_CHECKING:
    from rclpy.context import Context

#: Between two heartbeats of a writer that has something unacknowledged (ns).
HEARTBEAT_NS = 50_000_000
#: Of Fast DDS 3 (Kilted and later) and Fast DDS 2 (Jazzy): variable, shipped profile, element.
PROFILES_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE'
OLD_PROFILES_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
#: Of Cyclone DDS.
CYCLONE_VARIABLE = 'CYCLONEDDS_URI'
_FAST_DDS = ('', 'rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp')
_CYCLONE_DDS = 'rmw_cyclonedds_cpp'


def has_old_fastdds(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Return whether this is Jazzy, whose Fast DDS 2 has other names."""
    return environment.get('ROS_DISTRO') == 'jazzy'


def use_quick_heartbeats(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let Fast DDS or Cyclone DDS load our settings of writers, unless somebody chose some.

    It must be called before the first participant of the process is made. Zenoh takes no notice:
    it leaves it to TCP to repeat what was lost, and has no such setting.
    """
    middleware = environment.get('RMW_IMPLEMENTATION', '')
    if middleware == _CYCLONE_DDS and not environment.get(CYCLONE_VARIABLE):
        environment[CYCLONE_VARIABLE] = share_path('config/cyclonedds_writers.xml').as_uri()
    if middleware not in _FAST_DDS:
        return
    if environment.get(PROFILES_VARIABLE) or environment.get(OLD_PROFILES_VARIABLE):
        return
    if Path('DEFAULT_FASTDDS_PROFILES.xml').exists():
        return
    old = has_old_fastdds(environment)
    shipped = share_path(f'config/fastdds_writers{"_jazzy" if old else ""}.xml')
    environment[OLD_PROFILES_VARIABLE if old else PROFILES_VARIABLE] = str(shipped)


def join(*, domain_id: int | None = None, arguments: Sequence[str] | None = None) -> Context:
    """Return a context, in which nodes are made; signals do not end it.

    Every participant of the process has the settings that the first one found: so each is made
    here.

    Args:
        domain_id: None: that of the environment.
        arguments: With `--ros-args` among them; None: those of the command line.

    Raises:
        RuntimeError: If the arguments are none of ROS's.
    """
    import rclpy
    from rclpy.context import Context

    use_quick_heartbeats()
    leave_out_code_generator()
    context = Context()
    rclpy.init(
        args=None if arguments is None else list(arguments),
        context=context,
        domain_id=domain_id,
        signal_handler_options=rclpy.SignalHandlerOptions.NO,
    )
    return context


def leave_out_code_generator() -> None:
    """Import what loads the messages' type support, without what generates messages.

    Both are one package, and the generator takes 4 MB of every process and a tenth of the time of
    its imports. Without it the package says so to its log and does the rest.
    """
    generator = 'rosidl_generator_py.generate_py_impl'
    if 'rosidl_generator_py' in sys.modules:
        return
    sys.modules[generator] = None  # type: ignore[assignment]
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module('rosidl_generator_py')
    finally:
        del sys.modules[generator]
