# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A file in memory by which two nodes of one name on one machine meet, before DDS lets them."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from stl_conveyor.cell.sole_sign import LONGEST, SoleSign, sign_of
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.device.item_journal import AUTO, NONE, journal_path, open_alone


class SignFile:
    """The place of a node on its machine: one has it, and leaves signs of life for the others.

    The system gives the place free when the process of who has it ends, however it ends. A file
    that cannot be had for another reason than that somebody has it holds nobody back.

    Attributes:
        held: Whether another one had the place at the last look.
    """

    def __init__(self, path: Path | None, instance: int) -> None:
        """Take the place, if it is free.

        Args:
            path: Its folder is made; None: there is no such place.
            instance: Number that was drawn for the node.
        """
        self.held = path is not None
        self._path = path
        self._instance = instance
        self._count = 0
        self._file = -1
        self._lock = threading.Lock()  # signs come from the thread of the heart
        self.look()

    def look(self) -> SoleSign | None:
        """Take the place if it has become free, else return the latest sign of who has it.

        None: nobody else has it, or none can be read yet.
        """
        if not self.held or self._path is None:
            return None
        self.held = False
        try:
            self._file = open_alone(self._path, also=0)
        except BlockingIOError:
            self.held = True
            return self._read(self._path)
        except OSError:
            return None  # the middleware lets them meet, later
        # At once: whoever comes now must not find the sign of the one before.
        self.write(1)
        return None

    def write(self, acts_for_ns: int) -> None:
        """Leave a sign of life, if the place is taken; from any thread."""
        with self._lock:
            if self._file < 0:
                return
            self._count += 1
            line = SoleSign(self._instance, acts_for_ns, self._count).line()
            with contextlib.suppress(OSError):  # no room: the others take it for silent
                os.pwrite(self._file, line.encode().ljust(LONGEST), 0)

    def close(self) -> None:
        """Give the place free; there is no file afterwards."""
        with self._lock:
            if self._file >= 0 and self._path is not None:
                self._path.unlink(missing_ok=True)
                os.close(self._file)
            self._file = -1
            self.held = False

    @staticmethod
    def _read(path: Path) -> SoleSign | None:
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None  # it has just gone
        try:
            return sign_of(os.pread(number, LONGEST, 0).decode(errors='replace'))
        except OSError:
            return None
        finally:
            os.close(number)


def open_sign(node: ConveyorNode) -> SignFile:
    """Return the place of a node on its machine, until the node is deactivated.

    It lies in memory, wherever the journal is: the thread of the heart must not wait for a disk.
    A node that is to keep no journal has none.
    """
    path = None
    if node.settings.journal != NONE:
        path = journal_path(AUTO, node.context.get_domain_id(), node.get_fully_qualified_name())
    sign = SignFile(path and path.with_suffix('.sign'), node.instance)
    node.resources.callback(sign.close)
    return sign
