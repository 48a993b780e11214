# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One line for each stage of a training, and when the whole will end.

What the stages print goes to a log; a person sees the stage, its time beside the planned one, how
long the whole has left, and the last figures. On a terminal the line of the stage that runs is
written over; in a file there is one when a stage begins and one when it ends. No line is wider
than the terminal.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from stl_conveyor_lab.train.time_plan import Allowance, TimePlan

#: Seconds between two writings of the line on a terminal.
WRITE = 1.0
#: What a line of a training tells of itself that this one tells better.
_OWN_TIME = re.compile(r'\s+[\d.]+ min left$')


class Progress:
    """The stages of one run, in their order, each with a line."""

    def __init__(
        self, stream: TextIO, log: Path, plan: TimePlan, wall: Callable[[], float] = time.time
    ) -> None:
        """Begin.

        Args:
            stream: Where the line is shown.
            log: File to which all is added that the stages print.
            plan: Says how long the stages may take.
            wall: Seconds since 1970, for the time of day at which the whole will end.
        """
        self._stream, self._log, self._plan = stream, log, plan
        self._wall = wall
        self._live = bool(getattr(stream, 'isatty', lambda: False)())
        self._stage, self._last = '', ''
        self._wide = max(map(len, plan.stages))

    def header(self) -> None:
        """Say what was asked for, when it will be over, and what the columns are."""
        if self._plan.limited:
            end = time.strftime('%H:%M', time.localtime(self._wall() + self._plan.seconds_left()))
            self._say(f'{self._plan.minutes:g} minutes were asked for: the end is at about {end}')
            self._say(f'{"stage".ljust(self._wide)}  minutes  planned  whole left')
        else:
            self._say(f'{"stage".ljust(self._wide)}  minutes')

    def skip(self, stage: str, seconds: float) -> None:
        """Say that a stage was done before."""
        self._plan.end(stage, seconds)
        self._say(self._line(stage, seconds, 'done before'))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Allowance]:
        """Show a stage and yield its time; what it prints in the meantime goes to the log."""
        allowance = self._plan.begin(name)
        self._stage, self._last = name, ''
        if self._live:
            self._show_live()
        else:
            self._say(self._line(name, None, 'begun'))
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log, 'a', encoding='utf-8') as log:
            log.write(f'== {name}\n')
            with contextlib.redirect_stdout(_Lines(log, self._on_line)), self._ticking():
                yield allowance
        self._plan.end(name)
        self._stage = ''
        self._say(self._line(name, self._plan.taken[name], self._last))

    @contextlib.contextmanager
    def _ticking(self) -> Iterator[None]:
        """Write the line on a terminal anew each second, whether anything is printed or not."""
        if not self._live:
            yield
            return
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(WRITE):
                self._show_live()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def note(self, text: str) -> None:
        """Show a line of its own."""
        self._say(text)

    def _line(self, stage: str, seconds: float | None, text: str) -> str:
        cells = ['' if seconds is None else f'{seconds / 60:.1f}'.rjust(7)]
        if self._plan.limited:
            cells = [
                cells[0].rjust(7),
                f'{self._plan.planned(stage):.1f}'.rjust(7),
                f'{self._plan.seconds_left() / 60:.1f}'.rjust(10),
            ]
        return '  '.join([stage.ljust(self._wide), *cells, text]).rstrip()

    def _on_line(self, line: str) -> None:
        text = _OWN_TIME.sub('', line.strip())
        # A card or a row is for the log; figures in words are for people.
        if not text or text[0] in '{}[]"' or text.startswith('Row('):
            return
        text = ' '.join(text.split())
        self._last = text.replace('.checkpoint: ', ': ').removeprefix(f'{self._stage}: ')

    def _show_live(self) -> None:
        line = self._line(self._stage, self._plan.stage_spent(), self._last)
        self._stream.write(f'\r\x1b[K{self._cut(line)}')
        self._stream.flush()

    def _cut(self, line: str) -> str:
        columns = shutil.get_terminal_size().columns - 1
        return line if len(line) <= columns else line[: columns - 1] + '…'

    def _say(self, line: str) -> None:
        self._stream.write(f'\r\x1b[K{self._cut(line)}\n' if self._live else f'{line}\n')
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


def result_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: a header and rows, numbers to the right.

    Args:
        rows: The cells; those of the first column are text.
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        '  '.join(
            [row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        ).rstrip()
        for row in rows
    ]
