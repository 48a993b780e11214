# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A table of the latest items that follows them on a terminal."""
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stl_conveyor.cell.scoring import ItemRecord, ScoreBoard
from stl_conveyor.cell.table import COLUMNS, display_row, plain_line

ROWS = 18


class LiveTable:
    """
    Shows the latest items of a score board.

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
    table = Table(title=f'{len(records)} items, {len(rested)} at rest, {right} where they belong',
                  expand=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for record in records[-ROWS:]:
        style = None if not record.rested else 'green' if record.correct else 'red'
        table.add_row(*display_row(record), style=style)
    return table
