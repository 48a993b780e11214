# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Records and summaries of runs that never were, for tests of what is made of them."""

from __future__ import annotations

from pathlib import Path

from stl_conveyor.assess.scoring import (
    Action,
    AnswerRecord,
    Decision,
    ItemRecord,
    Quantiles,
    Transfer,
    score,
    slack_ms,
)
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.run.settings import RunSettings
from stl_conveyor.run.summary import Summary

CELL = CellDescription.load(Path(__file__).parents[1] / 'config' / 'cell.yaml')
FULL = ItemRecord(
    10**9,
    item_id=4,
    deadline_ns=2 * 10**9,
    serial=4,
    class_id='hex_nut_m8',
    lane='A',
    difficulty=0.5,
    rest_lane='B',
    exposed_ns=10**9,
    captured_ns=10**9,
    local=AnswerRecord('lock_nut_m8', 0.6, 10**9 + 5),
    decision=Decision(True, 1, 0.3, 0.2, 3.5, 900, 10**9 + 9),
    transfer=Transfer(512, 2, 2, 0.004, 10**9),
    edge=AnswerRecord('lock_nut_m8', 0.9, 10**9, bytes_used=512),
    action=Action('B', 'lock_nut_m8', 0.9, 2, 0.02, False, '', 10**9),
    actions=1,
)
EMPTY = ItemRecord(2 * 10**9)


def summary_of(records, **changes):
    values = {
        'settings': RunSettings(items=2),
        'score': score(records, CELL),
        'strong_correct': 1,
        'strong_class_correct': 1,
        'link_bytes': {'features': 812},
        'tokens_spent': 0.25,
        'slack_ms': slack_ms(records),
        'latency_ms': {'link': Quantiles.of([1.0, 2.0]), 'edge': Quantiles.of([])},
        'cpu_seconds_per_item': {'total': 0.1},
        'seconds_to_first_item': 4.0,
        'seconds': 9.0,
        'simulation_lag_ms': 40.0,
        'troubles': ('encoder: <b>no edge</b>',),
        'deaths': (),
        'complete': True,
        'versions': {'python': '3'},
    }
    return Summary(**{**values, **changes})
