# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The scheduling priority of a process and its threads, and whether it acts. Needs no ROS.

Linux gives every session the same share of a processor where autogroups are on, as on most
desktops and servers, and heeds niceness among the threads of one session only: two busy loops in
two sessions get as much at nice 0 and 19. Among sessions the number in /proc/PID/autogroup
counts (sched(7)). A service of systemd with CPUWeight has a control group of its own, and there
neither of the two acts beyond it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, MutableMapping
from pathlib import Path

#: Environment variable that a launcher sets, so that a process begins a session of its own.
OWN_SESSION = 'STL_CONVEYOR_OWN_SESSION'
_PR_SET_PDEATHSIG = 1
_AUTOGROUPS = Path('/proc/sys/kernel/sched_autogroup_enabled')
_AUTOGROUP = Path('/proc/self/autogroup')
_CGROUP = Path('/proc/self/cgroup')


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies, however that happens."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    except AttributeError:  # not Linux: only an orderly end cleans up
        pass


def begin_session(environment: MutableMapping[str, str] = os.environ) -> None:
    """Begin a session if whoever started this process asks for it; priorities act among sessions.

    A terminal's signals no longer reach the process then; they are passed on to it, and it ends
    with the process that started it.
    """
    if environment.pop(OWN_SESSION, '') != '1':
        return
    with contextlib.suppress(OSError):  # it leads a group already
        os.setsid()
    die_with_parent(signal.SIGTERM)


def prioritise_process(niceness: int, *, looks_on: bool = False) -> str:
    """Give every thread of this process a niceness, and its session, where it has its own.

    A session is lowered where the process only looks on at those that sort; else it is only
    raised: what gives way here need not give way to all of the machine.

    Args:
        looks_on: Whether nobody sorts by this process.

    Returns:
        Why that does not act as it should; empty if it does.
    """
    for thread in os.listdir('/proc/self/task') if os.path.isdir('/proc/self/task') else ():
        with contextlib.suppress(OSError):  # `prioritise_thread` tells
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
    if niceness == 0 or (niceness > 0 and not looks_on) or not _has_autogroup():
        return ''
    if os.getsid(0) != os.getpid():
        return (
            'autogroups are on, and all sessions of this machine count the same: it acts inside '
            'this session alone; start the node with ros2 launch'
        )
    try:
        _AUTOGROUP.write_text(str(niceness))
    except OSError as error:
        return (
            'autogroups are on, and that of this session may not be '
            f'{"raised" if niceness < 0 else "lowered"} '
            f'({error.strerror}): it acts inside this session alone; allow it (LimitNICE), or run '
            'the node as a service with CPUWeight'
        )
    return ''


def prioritise_thread(niceness: int, realtime: int = 0) -> tuple[str, Mapping[str, str]]:
    """Give the calling thread a niceness, or a place in the real-time queue.

    Args:
        niceness: -20 (first) to 19.
        realtime: Priority of SCHED_FIFO, 1 to 99; 0 = none.

    Returns:
        What the thread has now, in words, and what was refused: parameter → why.
    """
    refused = {}
    try:
        # Linux takes 0 for the calling thread.
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        said = str(niceness)
    except OSError:
        said = f'{niceness} is not permitted'
        refused['niceness'] = f'{niceness} is not permitted; allow it (LimitNICE of the service)'
    if realtime:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(realtime))
            said = f'real-time {realtime}'
        except (OSError, AttributeError):
            refused['realtime_priority'] = (
                f'{realtime} is not permitted; allow it (LimitRTPRIO of the service)'
            )
    return said, refused


def _has_autogroup() -> bool:
    """Return whether an autogroup holds this process: no control group has a share of its own."""
    try:
        if _AUTOGROUPS.read_text().strip() != '1' or not _AUTOGROUP.exists():
            return False
        groups = _CGROUP.read_text().split()
    except OSError:
        return False
    for _, controllers, place in (group.split(':', 2) for group in groups):
        parts = Path(place).parts[1:]
        if 'cpu' in controllers.split(',') and parts:
            return False
        # Of version 2: a group has a share if its parent hands the controller on.
        above = (Path('/sys/fs/cgroup', *parts[:count]) for count in range(1, len(parts) + 1))
        if not controllers and any((group / 'cpu.weight').exists() for group in above):
            return False
    return True
