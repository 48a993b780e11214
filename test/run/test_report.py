# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Summary, rows and report of a run: complete, readable, and robust to what is missing."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from run_examples import CELL, EMPTY, FULL, summary_of

from stl_conveyor.assess.live_table import LiveTable, columns_within, shortened, table_of
from stl_conveyor.assess.scoring import Action, AnswerRecord, Decision, ScoreBoard
from stl_conveyor.assess.table import (
    COLUMNS,
    csv_row,
    display_row,
    plain_heading,
    plain_line,
    write_csv,
)
from stl_conveyor.run.report import write_report


def test_rows_have_all_columns_whatever_is_missing():
    for record in (FULL, EMPTY):
        assert len(display_row(record)) == len(COLUMNS)
        assert plain_line(record)
    assert 'WRONG (A)' in plain_line(FULL) and 'lock_nut_m8 0.90' in plain_line(FULL)
    assert plain_heading().split('  ')[0] == 'item'


def test_missed_deadlines_are_marked():
    late = replace(FULL, action=replace(FULL.action, slack=-0.01, missed=True))
    assert 'MISS -10.0' in plain_line(late)


def test_the_table_shows_totals():
    board = ScoreBoard()
    board.add_rest(1, 1, 'hex_nut_m8', 'A', 0.5, 'A')
    assert '1 at rest, 1 where they belong' in table_of(board, 160).title


def drawn(width):
    """Return the lines of the table on a terminal of some width."""
    board = ScoreBoard()
    board.add_exposure(7, 1234, 'countersunk_screw_m8x40', 'C', 0.5, 1)
    board.add_local(7, 1234, AnswerRecord('countersunk_screw_m8x35', 0.52, 2))
    board.add_edge(7, 1234, AnswerRecord('countersunk_screw_m8x40', 0.97, 3))
    board.add_decision(7, 1234, Decision(True, 1, 0.5, 0.1, 3.21, 512, 4))
    board.add_action(7, 1234, Action('C', 'x', 0.97, 2, -0.5423, True, '', 5))
    board.add_rest(7, 1234, 'countersunk_screw_m8x40', 'C', 0.5, 'reject')
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=False).print(table_of(board, width))
    return [line.rstrip() for line in output.getvalue().splitlines()]


@pytest.mark.parametrize('width', [80, 110, 160, 200])
def test_class_and_right_or_wrong_can_be_read_at_any_width(width):
    lines = drawn(width)
    assert all(len(line) <= width for line in lines)
    row = lines[-1]
    assert row.startswith('1234 count')
    assert 'reject WRONG (C)' in row and '0.52' in row and '0.97' in row
    assert row.count('8x40') >= 2 - (width < 100)  # the class by its end, too


def test_a_narrow_terminal_goes_without_the_least_of_the_columns():
    assert list(columns_within(160)) == list(COLUMNS)
    assert columns_within(200) == columns_within(300)
    assert list(columns_within(110)) == [
        'item', 'true class', 'local answer', 'edge answer', 'lane', 'came to rest', 'slack ms',
    ]  # fmt: skip
    assert 'slack ms' not in columns_within(80) and 'came to rest' in columns_within(80)


def test_the_live_table_follows_the_width_of_its_terminal(monkeypatch):
    monkeypatch.setenv('TERM', 'xterm')  # on a dumb terminal nothing is drawn anew
    board, output = ScoreBoard(), io.StringIO()
    board.add_rest(1, 1, 'hex_nut_m8', 'A', 0.5, 'A')
    console = Console(file=output, width=80, force_terminal=True)
    table = LiveTable(board, console)
    table.start()
    assert 'why' not in output.getvalue() and 'A right' in output.getvalue()
    console.width = 160
    table.stop()
    assert 'why' in output.getvalue()


def test_names_are_shortened_in_the_middle():
    assert shortened('hex_screw_m8x35 0.98', 13) == 'hex_sc\u20265 0.98'
    assert shortened('short', 5) == 'short' and len(shortened('a' * 30, 12)) == 12


def test_numbers_stand_at_the_right_of_their_columns():
    heading, *_, row = drawn(200)[1:]
    for column, number in (('item', '1234'), ('slack ms', 'MISS -542.3'), ('tokens', '3.21')):
        assert heading.index(column) + len(column) == row.index(number) + len(number), column
    for column, number in (('item', '4'), ('bytes', '512'), ('slack ms', '20.0')):
        line, where = plain_line(FULL), plain_heading().index(column) + len(column)
        assert line[:where].endswith(number)


def test_csv_has_one_row_per_item(tmp_path):
    write_csv(
        tmp_path / 'items.csv',
        [
            csv_row(FULL, CELL, ('hex_nut_m8', 0.99), np.zeros((2, 2, 3), np.uint8)),
            csv_row(EMPTY, CELL),
        ],
    )
    with open(tmp_path / 'items.csv') as file:
        full, empty = csv.DictReader(file)
    assert full['strong_lane'] == 'A' and full['edge_lane'] == 'B' and full['correct'] == '0'
    assert len(full['crop_sha256']) == 16 and empty['crop_sha256'] == ''
    assert full['bytes_sent'] == '512' and full['stop_reason'] == 'satisfied'
    assert empty['local_class'] == '' and empty['outcomes'] == '0'


def test_summary_is_strict_json_with_the_promised_keys(tmp_path):
    summary_of((FULL, EMPTY)).write(tmp_path / 'summary.json')
    content = json.loads((tmp_path / 'summary.json').read_text(), parse_constant=lambda c: 1 / 0)
    for key in (
        'items',
        'outcomes',
        'missed_deadlines',
        'unacted',
        'correct',
        'local_correct',
        'strong_correct',
        'offloaded',
        'bytes_sent',
        'tokens_spent',
        'slack_ms',
        'latency_ms',
        'cpu_seconds_per_item',
        'seed',
        'versions',
    ):
        assert key in content, key
    assert content['latency_ms']['edge']['p50'] is None
    assert {'p01', 'p50', 'p99'} <= set(content['slack_ms'])
    assert content['items'] == 1 and content['correct'] == 0


def test_report_has_its_pictures(tmp_path):
    crops = {FULL.stamp_ns: np.zeros((160, 160, 3), np.uint8)}
    page = write_report(
        tmp_path,
        summary_of((FULL, EMPTY)),
        (FULL, EMPTY),
        CELL,
        crops,
        np.zeros((72, 128, 3), np.uint8),
    )
    text = page.read_text()
    for name in ('cell', 'timeline', 'slack', 'latency', 'confusion', 'samples'):
        assert f'{name}.png' in text and (tmp_path / f'{name}.png').stat().st_size > 100
    assert '<b>no edge' not in text and '&lt;b&gt;no edge' in text


@pytest.mark.parametrize('name', ['$x^{', '$x^{$', '5$'])
def test_a_class_name_is_no_formula(tmp_path, name):
    item = replace(FULL, class_id=name, local=replace(FULL.local, class_id=name))
    crops = {item.stamp_ns: np.zeros((8, 8, 3), np.uint8)}
    summary = summary_of((item,), troubles=(f'encoder: {name}',))
    assert name in write_report(tmp_path, summary, (item,), CELL, crops, None).read_text()
    assert (tmp_path / 'samples.png').stat().st_size > 100


def test_a_run_without_items_has_a_report_too(tmp_path):
    summary = summary_of((), strong_correct=None, tokens_spent=None, complete=False)
    text = write_report(tmp_path, summary, (), CELL, {}, None).read_text()
    assert 'not measured' in text and 'ended before' in text


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full on this system')
def test_a_full_disk_is_named_with_its_file():
    full = Path('/dev/full')
    with pytest.raises(OSError, match='/dev/full') as error:
        summary_of((FULL,)).write(full)
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match='/dev/full'):
        write_csv(full, [csv_row(FULL, CELL)])


def test_a_machine_that_is_too_slow_is_named():
    assert not summary_of((FULL,)).too_slow
    slow = summary_of((FULL,), late_pictures=1, simulation_lag_ms=4684)
    assert '1 of 1 pictures' in slow.too_slow and '4.7 s' in slow.too_slow
    held = summary_of((FULL,), held_seconds=30.0, seconds=60.0)
    assert 'held for 30.0 of 60.0 s' in held.too_slow
    assert not summary_of((FULL,), held_seconds=10.0, seconds=60.0).too_slow
