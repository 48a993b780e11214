# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces with a shaped link between them: two machines in one.

Each side has its own network and its own /dev/shm, so that nothing but the link joins them. The
namespaces have no names; each lives as long as a process in it, and these end with the process
that made them, however that ends. The host's own interfaces are not touched: both ends of the link
are made inside. Linux only, needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

from stl_conveyor.errors import MissingDependency
from stl_conveyor.run.processes import die_with_parent

DEVICE, EDGE = 'device', 'edge'
ADDRESSES = MappingProxyType({DEVICE: '10.77.0.1', EDGE: '10.77.0.2'})
INTERFACE = 'link0'
ETHERNET_HEADER = 14  # bytes of a frame that count beside its IP packet
# The bucket lets this much pass at once after a pause, and must hold one frame: with the smallest
# MTU that every IPv4 host takes (RFC 791) it is a tenth of a second at 52 kbit/s.
MTU = 576
BURST = MTU + ETHERNET_HEADER
PATIENCE = 20  # s until both ends must run
TOOLS = MappingProxyType(
    {'ip': 'iproute2', 'tc': 'iproute2', 'unshare': 'util-linux', 'nsenter': 'util-linux'}
)

_REPLACE = ('tc', 'qdisc', 'replace', 'dev', INTERFACE, 'root')


@dataclass(frozen=True)
class Traffic:
    """Bytes and frames (Ethernet) that one end has sent and received."""

    sent_bytes: int
    sent_frames: int
    received_bytes: int
    received_frames: int

    def since(self, before: Traffic) -> Traffic:
        """Return what was added after an earlier reading."""
        return Traffic(
            *(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__)
        )


def why_no_link() -> str:
    """Return why no link can be made here, or an empty string."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            return f'{tool} is not installed: apt install {package}'
    if os.geteuid() != 0:
        return 'network namespaces and traffic shaping need root: run it with sudo'
    try:
        with ShapedLink(1000.0):
            return ''
    except MissingDependency as error:
        return str(error)


class ShapedLink:
    """Both namespaces and the link, as a context manager.

    Attributes:
        kbit_per_s: Rate of each direction, by a token bucket filter (tc-tbf(8)).
        queue_bytes: What may wait in each direction; what does not fit is dropped.
    """

    def __init__(self, kbit_per_s: float, queue_bytes: int = 8192) -> None:
        """Take the rate; nothing is made yet."""
        self.kbit_per_s = kbit_per_s
        self.queue_bytes = queue_bytes
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> ShapedLink:
        """Make the namespaces and the link.

        Raises:
            MissingDependency: If the system cannot; the message says what it lacks.
        """
        try:
            for side in (DEVICE, EDGE):
                self._hold(side)
            device, edge = (self._holders[side].pid for side in (DEVICE, EDGE))
            self._inside(
                DEVICE,
                'ip',
                'link',
                'add',
                INTERFACE,
                'type',
                'veth',
                'peer',
                'name',
                INTERFACE,
                'netns',
                str(edge),
            )
            for side in (DEVICE, EDGE):
                self._inside(
                    side, 'ip', 'address', 'add', f'{ADDRESSES[side]}/24', 'dev', INTERFACE
                )
                self._inside(side, 'ip', 'link', 'set', INTERFACE, 'mtu', str(MTU), 'up')
                self._inside(side, 'ip', 'link', 'set', 'lo', 'multicast', 'on', 'up')
                self._shape(side)
            for side in (DEVICE, EDGE):
                self._wait_running(side)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self.close()

    def close(self) -> None:
        """End the processes that hold the namespaces; the link goes with them."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
        self._holders.clear()

    def prefix(self, side: str) -> tuple[str, ...]:
        """Return what to put before a command to run it on one side."""
        namespaces = f'/proc/{self._holders[side].pid}/ns'
        return (
            'nsenter',
            f'--net={namespaces}/net',
            f'--mount={namespaces}/mnt',
            f'--wd={os.getcwd()}',
            '--',
        )

    def traffic(self) -> Traffic:
        """Return what has crossed the link so far, seen from the device."""
        # Each process sees the interfaces of its own namespace there.
        lines = Path(f'/proc/{self._holders[DEVICE].pid}/net/dev').read_text().splitlines()
        (fields,) = [
            line.split(':')[1].split()
            for line in lines
            if line.strip().startswith(f'{INTERFACE}:')
        ]
        return Traffic(int(fields[8]), int(fields[9]), int(fields[0]), int(fields[1]))

    def dropped(self) -> dict[str, int]:
        """Return how many frames did not fit into the queue, by side."""
        found = {}
        for side in (DEVICE, EDGE):
            text = self._inside(side, 'tc', '-s', 'qdisc', 'show', 'dev', INTERFACE)
            with suppress(IndexError, ValueError):
                found[side] = int(text.split('(dropped ')[1].split(',')[0])
        return found

    @contextmanager
    def losing(self, side: str) -> Iterator[None]:
        """Lose whatever one side sends meanwhile; what waited in its queue, too."""
        self._inside(side, *_REPLACE, 'blackhole')
        try:
            yield
        finally:
            self._shape(side)

    def _shape(self, side: str) -> None:
        rate = f'{self.kbit_per_s * 1000:.0f}bit'
        bucket = ('rate', rate, 'burst', str(BURST), 'limit', str(self.queue_bytes))
        self._inside(side, *_REPLACE, 'tbf', *bucket)

    def _wait_running(self, side: str) -> None:
        """Wait until an end says that it runs: the middleware takes no other, nor looks again."""
        end = time.monotonic() + PATIENCE
        while 'state UP' not in self._inside(side, 'ip', '-oneline', 'link', 'show', INTERFACE):
            if time.monotonic() > end:
                raise MissingDependency(f'the link has no carrier after {PATIENCE} s')
            time.sleep(0.01)  # the kernel gathers such news for up to a second

    def _hold(self, side: str) -> None:
        holder = subprocess.Popen(
            [
                'unshare',
                '--net',
                '--mount',
                'sh',
                '-c',
                'mount -t tmpfs tmpfs /dev/shm && echo && exec sleep infinity',
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._holders[side] = holder
        assert holder.stdout is not None and holder.stderr is not None
        if not holder.stdout.read(1):
            raise MissingDependency(
                f'no network namespace can be made: {holder.stderr.read().decode().strip()}'
            )

    def _inside(self, side: str, *command: str) -> str:
        done = subprocess.run([*self.prefix(side), *command], capture_output=True, text=True)
        if done.returncode:
            raise MissingDependency(
                f'`{" ".join(command)}` failed: {done.stderr.strip()}; the kernel needs veth and '
                'sch_tbf (modprobe sch_tbf)'
            )
        return done.stdout
