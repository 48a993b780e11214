# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Summary, rows and report of a run: complete, readable, and robust to what is missing."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from run_examples import CELL, EMPTY, FULL, summary_of

from stl_conveyor.assess.live_table import table_of
from stl_conveyor.assess.scoring import ScoreBoard
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
    from dataclasses import replace

    late = replace(FULL, action=replace(FULL.action, slack=-0.01, missed=True))
    assert '-10.0 MISS' in plain_line(late)


def test_the_table_shows_totals():
    board = ScoreBoard()
    board.add_rest(1, 1, 'hex_nut_m8', 'A', 0.5, 'A')
    assert '1 at rest, 1 where they belong' in table_of(board).title


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
