# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A table of the latest items that follows them on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stl_conveyor.assess.scoring import ItemRecord, ScoreBoard
from stl_conveyor.assess.table import COLUMNS, display_row, plain_line

ROWS = 18
LONG = ('true class', 'local answer', 'why', 'edge answer', 'came to rest')


class LiveTable:
    """Shows the latest items of a score board.

    Drawing takes a core for some milliseconds, so it happens at most four times a second, in a
    thread of its own, and only when something has changed.
    """

    def __init__(self, board: ScoreBoard, console: Console | None = None) -> None:
        """Prepare; nothing is drawn before :meth:`start`."""
        self._board = board
        self._changed = True
        self._drawn = Table()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._draw)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start(refresh=True)

    def changed(self) -> None:
        """Have the table drawn anew soon."""
        self._changed = True

    def stop(self) -> None:
        """Draw for the last time and leave the terminal in order."""
        self._changed = True
        self._live.stop()

    def _draw(self) -> Table:
        if self._changed:
            self._changed = False
            self._drawn = table_of(self._board)
        return self._drawn

    @staticmethod
    def print_line(record: ItemRecord) -> None:
        """Print an item as one plain line."""
        print(plain_line(record), flush=True)


def table_of(board: ScoreBoard) -> Table:
    """Return the latest items as a table under a line of totals."""
    records = board.records
    rested = [r for r in records if r.rested]
    right = sum(r.correct for r in rested)
    table = Table(
        title=f'{len(records)} items, {len(rested)} at rest, {right} where they belong',
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in COLUMNS:
        # On a narrow terminal the long texts give way, and the numbers stay.
        table.add_column(column, no_wrap=column not in LONG, overflow='ellipsis')
    for record in records[-ROWS:]:
        style = None if not record.rested else 'green' if record.correct else 'red'
        table.add_row(
            *(Text(text, no_wrap=True, overflow='ellipsis') for text in display_row(record)),
            style=style,
        )
    return table
