# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Faults as alarms: since when, how often, acknowledged by whom; kept in a log."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stl_conveyor.cell.remedies import remedy_for
from stl_conveyor.errors import Level
from stl_conveyor.panel.line_log import LineLog, is_time, made_of

RAISED, WORSE, CLEARED, ACKNOWLEDGED = 'raised', 'worse', 'cleared', 'acknowledged'
SHOWN = 200  # entries of the log
KEPT = 500  # alarms; the oldest that are over and acknowledged go first
# After which a fault is over that its node does not name any more. Not at once: two processes of
# one name, of which one stands by, report in turn.
UNNAMED_S = 4.0


@dataclass(frozen=True)
class Alarm:
    """A fault of a node; times in seconds since 1970.

    Attributes:
        level: The worst since it was raised.
        ended: None while it lasts.
        acknowledged_by: Empty until somebody has seen it.
    """

    node: str
    fault: str
    level: Level
    message: str
    since: float
    count: int
    ended: float | None = None
    acknowledged_by: str = ''

    @property
    def key(self) -> str:
        """Return the name of the alarm."""
        return f'{self.node}: {self.fault}'

    @property
    def is_open(self) -> bool:
        """Return whether it lasts, or nobody has acknowledged it yet."""
        return self.ended is None or not self.acknowledged_by

    def as_json(self) -> dict[str, Any]:
        """Return what the page gets to know."""
        remedy = remedy_for(self.fault, self.message)
        told = asdict(self)
        told.update(
            key=self.key,
            level=int(self.level),
            since=self.since * 1e3,
            remedy=remedy and remedy.key,
        )
        told['ended'] = None if self.ended is None else self.ended * 1e3
        return told


@dataclass(frozen=True)
class LogEntry:
    """A line of the log."""

    time: float  # s since 1970
    event: str  # RAISED, WORSE, CLEARED or ACKNOWLEDGED
    node: str
    fault: str
    level: int
    message: str
    by: str = ''


class AlarmBook:
    """The alarms of a cell, in order, and their log. Any thread may use it.

    Examples:
        >>> from stl_conveyor.errors import Level
        >>> book = AlarmBook()
        >>> book.heard('camera', 'frames', Level.ERROR, 'no frame', 2.0, 1, now=100.0)
        >>> [(alarm.key, alarm.since) for alarm in book.open()]
        [('camera: frames', 98.0)]
    """

    def __init__(self, path: Path | None = None) -> None:
        """Begin with what the log tells.

        Args:
            path: Of the log; None keeps none.
        """
        self._file = LineLog(path, 'the log of alarms')
        self._lock = threading.RLock()
        self._alarms: dict[str, Alarm] = {}
        self._entries: deque[LogEntry] = deque(maxlen=SHOWN)
        self.revision = 0
        for entry in self._file.read(_entry):
            self._entries.append(entry)
            self._replay(entry)
        self._unnamed: dict[str, float] = {}  # alarms that last → since when they are not named
        self._untold = {key for key, alarm in self._alarms.items() if alarm.ended is None}

    @property
    def trouble(self) -> str:
        """Return why the log cannot be written, or what of it cannot be read."""
        return self._file.trouble

    def heard(
        self,
        node: str,
        fault: str,
        level: Level,
        message: str,
        seconds: float,
        count: int,
        *,
        now: float,
    ) -> None:
        """Take in what /diagnostics says of a fault.

        Args:
            level: OK if it is over.
            seconds: For which it has lasted.
            now: Seconds since 1970.
        """
        key = f'{node}: {fault}'
        with self._lock:
            self._unnamed.pop(key, None)
            self._untold.discard(key)
            known = self._alarms.get(key)
            if level is Level.OK:
                if known is not None and known.ended is None:
                    self._put(replace(known, ended=now))
                    self._log(now, CLEARED, known)
                return
            if known is None or known.ended is not None:
                alarm = Alarm(node, fault, level, message, now - seconds, count)
                self._put(alarm)
                self._log(now, RAISED, alarm)
                return
            changed = replace(known, level=max(level, known.level), message=message, count=count)
            if changed == known:
                return
            if changed.level > known.level:  # worse than what was acknowledged
                changed = replace(changed, acknowledged_by='')
                self._log(now, WORSE, changed)
            self._put(changed)

    def only(self, node: str, faults: Collection[str], *, now: float, steady: float) -> None:
        """Take in that a node named all of its faults: others that last are over after UNNAMED_S.

        A process that was started again does not know what the one before had said.

        Args:
            now: Seconds since 1970.
            steady: Seconds of a clock that nobody sets.
        """
        with self._lock:
            for alarm in list(self._alarms.values()):
                if alarm.node != node or alarm.ended is not None or alarm.fault in faults:
                    continue
                if steady - self._unnamed.setdefault(alarm.key, steady) >= UNNAMED_S:
                    self._end(alarm, now)

    def node_ended(self, node: str, now: float) -> None:
        """Take in that a node has gone: nobody will say any more that its faults are over."""
        with self._lock:
            for alarm in [a for a in self._alarms.values() if a.node == node]:
                self._end(alarm, now)

    def log_is_old(self, now: float) -> None:
        """Take in that whoever is there has reported: what only the log tells of is over."""
        with self._lock:
            for key in list(self._untold):
                self._end(self._alarms[key], now)

    def acknowledge(self, key: str, who: str, now: float) -> bool:
        """Take in that somebody has seen an alarm; return whether there is one to see."""
        with self._lock:
            known = self._alarms.get(key)
            if known is None or known.acknowledged_by:
                return False
            self._put(replace(known, acknowledged_by=who))
            self._log(now, ACKNOWLEDGED, known, who)
            return True

    def open(self) -> list[Alarm]:
        """Return the alarms that somebody should see, the worst and newest first."""
        with self._lock:
            found = [alarm for alarm in self._alarms.values() if alarm.is_open]
        return sorted(found, key=lambda a: (a.ended is not None, -a.level, -a.since))

    def lasting(self, level: Level = Level.WARN) -> bool:
        """Return whether a fault of at least this level lasts."""
        with self._lock:
            return any(a.ended is None and a.level >= level for a in self._alarms.values())

    def entries(self) -> list[LogEntry]:
        """Return the newest entries of the log, the newest first."""
        with self._lock:
            return list(reversed(self._entries))

    def _end(self, alarm: Alarm, now: float) -> None:
        self.heard(alarm.node, alarm.fault, Level.OK, '', 0.0, 0, now=now)

    def _put(self, alarm: Alarm) -> None:
        self._alarms[alarm.key] = alarm
        self.revision += 1
        if len(self._alarms) > KEPT:
            for key in [k for k, a in self._alarms.items() if not a.is_open][: KEPT // 10]:
                del self._alarms[key]

    def _log(self, now: float, event: str, alarm: Alarm, who: str = '') -> None:
        entry = LogEntry(now, event, alarm.node, alarm.fault, alarm.level, alarm.message, who)
        self._entries.append(entry)
        self._file.add(asdict(entry))

    def _replay(self, entry: LogEntry) -> None:
        alarm = Alarm(entry.node, entry.fault, Level(entry.level), entry.message, entry.time, 1)
        known = self._alarms.get(alarm.key)
        if entry.event == RAISED:
            self._alarms[alarm.key] = alarm
        elif known is not None and entry.event == WORSE:
            self._alarms[alarm.key] = replace(
                known, level=alarm.level, message=alarm.message, acknowledged_by=''
            )
        elif known is not None and entry.event == CLEARED:
            self._alarms[alarm.key] = replace(known, ended=entry.time)
        elif known is not None and entry.event == ACKNOWLEDGED:
            self._alarms[alarm.key] = replace(known, acknowledged_by=entry.by)


def plain_text(markdown: str) -> str:
    """Return a text of the table of remedies without its marks.

    Examples:
        >>> plain_text('see [belt.md](belt.md), and set `guard`')
        'see belt.md, and set guard'
    """
    return re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', markdown).replace('`', '')


def _entry(content: Any) -> LogEntry | None:
    """Return the entry that a line of the log holds, or None."""
    # Each field, and what it must be.
    fields: dict[str, Callable[[Any], bool]] = {
        'time': is_time,
        'event': lambda v: v in (RAISED, WORSE, CLEARED, ACKNOWLEDGED),
        'level': lambda v: v in (0, 1, 2),
        **dict.fromkeys(('node', 'fault', 'message', 'by'), lambda v: isinstance(v, str)),
    }
    return made_of(LogEntry, content, fields)
