# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A table of the latest items that follows them on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stl_conveyor.assess.scoring import ItemRecord, ScoreBoard
from stl_conveyor.assess.table import COLUMNS, NUMBERS, display_row, plain_line

ROWS = 18
# Characters that each column takes: those with a name in them are well readable at the second
# width, grow to the first where there is room, and shrink to the third where there is none.
WIDTHS = {
    'item': (4, 4, 4),
    'true class': (24, 17, 10),
    'local answer': (30, 22, 13),
    'offload': (7, 7, 7),
    'why': (15, 15, 15),
    'bytes': (5, 5, 5),
    'edge answer': (30, 22, 13),
    'lane': (17, 9, 6),
    'came to rest': (16, 16, 16),
    'slack ms': (12, 12, 12),
    'tokens': (6, 6, 6),
}
# What goes first where the terminal is narrow. An item's class, the answers about it and whether
# it lies right stay.
EXPENDABLE = ('why', 'bytes', 'tokens', 'offload', 'slack ms', 'lane')
ELLIPSIS = '\u2026'


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
        self._width = 0
        self._console = console or get_console()
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._draw)

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
        width = self._console.width
        if self._changed or width != self._width:
            self._changed, self._width = False, width
            self._drawn = table_of(self._board, width)
        return self._drawn

    @staticmethod
    def print_line(record: ItemRecord) -> None:
        """Print an item as one plain line."""
        print(plain_line(record), flush=True)


def columns_within(width: int) -> dict[str, int]:
    """Return the columns that a terminal has room for, with their widths.

    Args:
        width: Of the terminal, in characters.
    """
    columns = list(COLUMNS)
    for column in EXPENDABLE:
        if _total(columns, 1) <= width:
            break
        columns.remove(column)
    most, well, least = (_total(columns, which) for which in range(3))
    # The columns with names share what is left, or what is missing, in proportion.
    if width >= well:
        share, towards = (min((width - well) / (most - well), 1.0) if most > well else 0.0), 0
    else:
        share, towards = min((well - width) / (well - least), 1.0), 2
    return {
        column: math.floor(
            WIDTHS[column][1] + share * (WIDTHS[column][towards] - WIDTHS[column][1])
        )
        for column in columns
    }


def _total(columns: Sequence[str], which: int) -> int:
    """Return the width of a table, with a space between the columns."""
    return sum(WIDTHS[column][which] + 1 for column in columns) - 1


def shortened(text: str, width: int) -> str:
    """Return a text that fits a width, with its middle left out where it is longer.

    A class tells itself apart by its end as much as by its beginning, and an answer ends with its
    score.
    """
    if len(text) <= width:
        return text
    tail = width // 2
    return text[: width - 1 - tail] + ELLIPSIS + text[len(text) - tail :]


def table_of(board: ScoreBoard, width: int) -> Table:
    """Return the latest items as a table under a line of totals.

    Args:
        width: Of the terminal, in characters.
    """
    records = board.records
    rested = [r for r in records if r.rested]
    right = sum(r.correct for r in rested)
    table = Table(
        title=f'{len(records)} items, {len(rested)} at rest, {right} where they belong',
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        show_edge=False,
    )
    widths = columns_within(width)
    for column, columns_width in widths.items():
        table.add_column(
            column,
            no_wrap=True,
            width=columns_width,
            justify='right' if column in NUMBERS else 'left',
        )
    for record in records[-ROWS:]:
        style = None if not record.rested else 'green' if record.correct else 'red'
        texts = dict(zip(COLUMNS, display_row(record)))
        table.add_row(
            *(Text(shortened(texts[column], widths[column]), no_wrap=True) for column in widths),
            style=style,
        )
    return table
