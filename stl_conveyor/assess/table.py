# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is known about an item, as text for people and as rows for programs."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from stl_conveyor.assess.scoring import Action, AnswerRecord, Decision, ItemRecord, Transfer
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import writing

# OffloadDecision.REASON_*, SortOutcome.SOURCE_* and FeatureFeedback.STOP_* in words.
REASONS = {
    1: 'worth it',
    2: 'below threshold',
    3: 'no tokens',
    4: 'edge gone',
    5: 'too late',
    6: 'bad input',
    8: 'no local answer',
    17: 'edge full',
}
SOURCES = {0: 'none', 1: 'local', 2: 'edge'}
STOPS = {
    0: '',
    1: 'complete',
    2: 'satisfied',
    3: 'deadline',
    4: 'next item',
    5: 'edge gone',
    6: 'error',
}

# SortOutcome.REASON_* of what is in the reject lane although there is an answer about it.
DOUBTS = {14: 'doubtful', 15: 'unknown', 16: 'too late'}

COLUMNS = (
    'item',
    'true class',
    'local answer',
    'offload',
    'why',
    'bytes',
    'edge answer',
    'lane',
    'came to rest',
    'slack ms',
    'tokens',
)
WIDTHS = (4, 24, 30, 7, 15, 5, 30, 17, 16, 12, 6)
NUMBERS = ('item', 'bytes', 'slack ms', 'tokens')  # stand at the right of their columns


def display_row(record: ItemRecord) -> tuple[str, ...]:
    """Return one text per column of COLUMNS; a dash where nothing is known."""

    def answer(given: AnswerRecord | None) -> str:
        return '-' if given is None else f'{given.class_id} {given.score:.2f}'

    decision, action = record.decision, record.action
    if not record.rested:
        rest = '...' if record.serial else '-'
    elif not record.lane:
        rest = record.rest_lane
    else:
        rest = f'{record.rest_lane} ' + ('right' if record.correct else f'WRONG ({record.lane})')
    return (
        str(record.serial or record.item_id or '-'),
        record.class_id or '-',
        answer(record.local),
        '-' if decision is None else 'yes' if decision.offload else 'no',
        '-' if decision is None else REASONS.get(decision.reason, str(decision.reason)),
        '-' if record.transfer is None else str(record.transfer.bytes),
        answer(record.edge),
        '-' if action is None else lane_text(action),
        rest,
        '-' if action is None else 'MISS ' * action.missed + f'{1e3 * action.slack:.1f}',
        '-' if decision is None else f'{decision.tokens:.2f}',
    )


def lane_text(action: Action) -> str:
    """Return the lane of an outcome; for what is rejected, why."""
    why = 'no answer' if action.source == 0 else DOUBTS.get(action.reason_number, '')
    return f'{action.lane}: {why}' if why else action.lane


def plain_line(record: ItemRecord) -> str:
    """Return an item's row as one line of text in columns."""
    return _in_columns(display_row(record))


def plain_heading() -> str:
    """Return the line that goes above those of :func:`plain_line`."""
    return _in_columns(COLUMNS)


def _in_columns(texts: Sequence[str]) -> str:
    return '  '.join(
        text.rjust(width) if column in NUMBERS else text.ljust(width)
        for column, text, width in zip(COLUMNS, texts, WIDTHS)
    ).rstrip()


def csv_row(
    record: ItemRecord,
    cell: CellDescription,
    strong: tuple[str, float] | None = None,
    crop: np.ndarray | None = None,
) -> Mapping[str, object]:
    """Return everything about an item under plain names; empty where nothing is known.

    Args:
        strong: The strong model's class and score on the uncompressed crop, if it was asked.
        crop: uint8[S, S, 3]; its hash tells whether another run showed the same picture.
    """
    return {
        'serial': record.serial,
        'item_id': record.item_id,
        'stamp_ns': record.stamp_ns,
        'crop_sha256': None if crop is None else hashlib.sha256(crop.tobytes()).hexdigest()[:16],
        'class_id': record.class_id,
        'lane': record.lane,
        'difficulty': record.difficulty,
        **_cells(_LOCAL, record.local, cell),
        **_cells(_DECISION, record.decision, cell),
        **_cells(_TRANSFER, record.transfer, cell),
        **_cells(_EDGE, record.edge, cell),
        **_cells(_STRONG, strong, cell),
        **_cells(_ACTION, record.action, cell),
        'outcomes': record.actions,
        **_cells(_DELAYS, record.action, cell),
        'rest_lane': record.rest_lane,
        'correct': int(record.correct),
    }


Piece = TypeVar('Piece')
Columns = Mapping[str, Callable[[Piece, CellDescription], object]]

_LOCAL: Columns[AnswerRecord] = {
    'local_class': lambda local, _: local.class_id,
    'local_score': lambda local, _: local.score,
    'local_lane': lambda local, cell: cell.lane_of(local.class_id),
    'local_compute_s': lambda local, _: local.compute_time,
}
_DECISION: Columns[Decision] = {
    'offload': lambda decision, _: int(decision.offload),
    'decision_reason': lambda decision, _: REASONS.get(decision.reason, decision.reason),
    'expected_reward': lambda decision, _: decision.expected_reward,
    'threshold': lambda decision, _: decision.threshold,
    'tokens': lambda decision, _: decision.tokens,
    'byte_budget': lambda decision, _: decision.byte_budget,
}
_TRANSFER: Columns[Transfer] = {
    'bytes_sent': lambda transfer, _: transfer.bytes,
    'packets_sent': lambda transfer, _: transfer.packets,
    'stop_reason': lambda transfer, _: STOPS.get(transfer.stop_reason, transfer.stop_reason),
    'encode_s': lambda transfer, _: transfer.compute_time,
}
_EDGE: Columns[AnswerRecord] = {
    'edge_class': lambda edge, _: edge.class_id,
    'edge_score': lambda edge, _: edge.score,
    'edge_lane': lambda edge, cell: cell.lane_of(edge.class_id),
    'edge_bytes': lambda edge, _: edge.bytes_used,
    'edge_compute_s': lambda edge, _: edge.compute_time,
}
_STRONG: Columns[tuple[str, float]] = {
    'strong_class': lambda strong, _: strong[0],
    'strong_score': lambda strong, _: strong[1],
    'strong_lane': lambda strong, cell: cell.lane_of(strong[0]),
}
_ACTION: Columns[Action] = {
    'outcome_lane': lambda action, _: action.lane,
    'outcome_class': lambda action, _: action.class_id,
    'outcome_source': lambda action, _: SOURCES.get(action.source, action.source),
    'outcome_reason': lambda action, _: action.reason,
    'unknown': lambda action, _: action.unknown,
    'lane_probability': lambda action, _: action.lane_probability,
    'expected_cost': lambda action, _: action.expected_cost,
    'slack_s': lambda action, _: action.slack,
    'missed': lambda action, _: int(action.missed),
}
_DELAYS: Columns[Action] = {
    'local_delay_s': lambda action, _: action.local_delay,
    'edge_delay_s': lambda action, _: action.edge_delay,
}


def _cells(
    columns: Columns[Piece], piece: Piece | None, cell: CellDescription
) -> dict[str, object]:
    """Return a piece's cells by column; all empty if the piece was never heard."""
    return {name: None if piece is None else value(piece, cell) for name, value in columns.items()}


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that share their keys, one line each, under a heading."""
    with writing(path), open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
