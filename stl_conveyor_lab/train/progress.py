# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One line of progress for each stage of a training, and when the whole will end.

What the stages print goes to a log; a person sees the stage, its time beside the planned one, the
last figures, and how long the whole has left. On a terminal the line is written over; in a file
there is one when a stage begins and one when it ends.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

#: Seconds between two writings of the line on a terminal.
WRITE = 1.0
#: What a line of a training tells of itself that this one tells better.
_OWN_TIME = re.compile(r'\s+[\d.]+ min left$')


class Progress:
    """The stages of one run, in their order, with their parts of the whole time."""

    def __init__(
        self,
        stream: TextIO,
        log: Path,
        minutes: float,
        shares: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            stream: Where the line is shown.
            log: File to which all is added that the stages print.
            minutes: Asked for the whole; 0: nothing is planned.
            shares: Part of the whole time of each stage, in their order.
            clock: Seconds.
        """
        self._stream, self._log = stream, log
        self._minutes, self._shares, self._clock = minutes, dict(shares), clock
        self._live = bool(getattr(stream, 'isatty', lambda: False)())
        self._stage, self._begun, self._written = '', clock(), -WRITE
        self._last = ''
        self._over: set[str] = set()

    def planned(self, stage: str) -> float:
        """Return the minutes that a stage may take; 0 = as long as it needs."""
        return self._minutes * self._shares.get(stage, 0.0)

    def minutes_left(self) -> float:
        """Return how long the whole has left: the rest of this stage and all after it."""
        rest = max(0.0, self.planned(self._stage) - self._spent()) if self._stage else 0.0
        return rest + sum(
            self.planned(stage)
            for stage in self._shares
            if stage != self._stage and stage not in self._over
        )

    def over(self, stage: str) -> None:
        """Count a stage that has shown itself as done."""
        self._over.add(stage)

    def skip(self, stage: str, minutes: float) -> None:
        """Say that a stage was done before."""
        self.over(stage)
        self._say(f'== {stage}: done before, {minutes:.1f} min')

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage; what it prints in the meantime goes to the log."""
        self._stage, self._begun, self._last = name, self._clock(), ''
        plan = f', planned {self.planned(name):.1f} min' if self._minutes else ''
        self._say(f'== {name}{plan}{self._rest()}')
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log, 'a', encoding='utf-8') as log:
            log.write(f'== {name}\n')
            with contextlib.redirect_stdout(_Lines(log, self._on_line)):
                yield
        spent = self._spent()
        self._over.add(name)
        self._stage = ''
        last = f'  {self._last}' if self._last else ''
        self._say(f'{name} took {spent:.1f} min{self._rest()}{last}')

    def _spent(self) -> float:
        return (self._clock() - self._begun) / 60

    def _rest(self) -> str:
        return f', about {self.minutes_left():.0f} min left in all' if self._minutes else ''

    def _on_line(self, line: str) -> None:
        text = _OWN_TIME.sub('', line.strip())
        # A card or a row is for the log; figures in words are for people.
        if not text or text[0] in '{}[]"' or text.startswith('Row('):
            return
        self._last = ' '.join(text.split())
        now = self._clock()
        if self._live and now - self._written >= WRITE:
            self._written = now
            plan = f' of {self.planned(self._stage):.1f}' if self._minutes else ''
            shown = f'{self._stage}: {self._spent():.1f}{plan} min{self._rest()}  {self._last}'
            columns = shutil.get_terminal_size().columns
            self._stream.write(f'\r\x1b[K{shown[: columns - 1]}')
            self._stream.flush()

    def _say(self, line: str) -> None:
        self._stream.write(f'\r\x1b[K{line}\n' if self._live else f'{line}\n')
        self._stream.flush()


class _Lines(io.TextIOBase):
    """A stream that writes to a log and hands on each whole line."""

    def __init__(self, log: TextIO, on_line: Callable[[str], None]) -> None:
        self._file, self._on_line, self._open = log, on_line, ''

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._file.write(text)
        *lines, self._open = (self._open + text).split('\n')
        for line in lines:
            self._on_line(line)
        return len(text)

    def flush(self) -> None:
        self._file.flush()


def result_table(
    minutes: Mapping[str, float], planned: Mapping[str, float], models: Mapping[str, str]
) -> list[str]:
    """Return the lines of the table at the end: the stages' minutes, and what the models know.

    Args:
        minutes: Of each stage.
        planned: Of each stage; without it the column is left out.
        models: What is known of each model, in words.
    """
    rows = [('stage', 'minutes', *(['planned'] if planned else []))]
    for stage, spent in minutes.items():
        more = [f'{planned.get(stage, 0):.1f}'] if planned else []
        rows.append((stage, f'{spent:.1f}', *more))
    total = [f'{sum(planned.values()):.1f}'] if planned else []
    rows.append(('all', f'{sum(minutes.values()):.1f}', *total))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        '  '.join(
            [row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        )
        for row in rows
    ]
    wide = max(map(len, models), default=0)
    return [*lines, '', *(f'{name.ljust(wide)}  {text}' for name, text in models.items())]
