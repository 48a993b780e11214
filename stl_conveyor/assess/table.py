# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is known about an item, as text for people and as rows for programs."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stl_conveyor.assess.scoring import ItemRecord
from stl_conveyor.cell.description import CellDescription

# OffloadDecision.REASON_*, SortOutcome.SOURCE_* and FeatureFeedback.STOP_* in words.
REASONS = {
    1: 'worth it',
    2: 'below threshold',
    3: 'no tokens',
    4: 'edge gone',
    5: 'too late',
    6: 'bad input',
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
WIDTHS = (4, 24, 30, 7, 15, 5, 30, 6, 16, 8, 6)


def display_row(record: ItemRecord) -> tuple[str, ...]:
    """Return one text per column of COLUMNS; a dash where nothing is known."""

    def answer(given) -> str:
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
        '-' if action is None else action.lane,
        rest,
        '-' if action is None else f'{1e3 * action.slack:.1f}' + ' MISS' * action.missed,
        '-' if decision is None else f'{decision.tokens:.2f}',
    )


def plain_line(record: ItemRecord) -> str:
    """Return an item's row as one line of text in columns."""
    return '  '.join(
        text.ljust(width) for text, width in zip(display_row(record), WIDTHS)
    ).rstrip()


def plain_heading() -> str:
    """Return the line that goes above those of :func:`plain_line`."""
    return '  '.join(text.ljust(width) for text, width in zip(COLUMNS, WIDTHS)).rstrip()


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
    local, edge, decision = record.local, record.edge, record.decision
    transfer, action = record.transfer, record.action
    return {
        'serial': record.serial,
        'item_id': record.item_id,
        'stamp_ns': record.stamp_ns,
        'crop_sha256': None if crop is None else hashlib.sha256(crop.tobytes()).hexdigest()[:16],
        'class_id': record.class_id,
        'lane': record.lane,
        'difficulty': record.difficulty,
        'local_class': local and local.class_id,
        'local_score': local and local.score,
        'local_lane': local and cell.lane_of(local.class_id),
        'local_compute_s': local and local.compute_time,
        'offload': decision and int(decision.offload),
        'decision_reason': decision and REASONS.get(decision.reason, decision.reason),
        'expected_reward': decision and decision.expected_reward,
        'threshold': decision and decision.threshold,
        'tokens': decision and decision.tokens,
        'byte_budget': decision and decision.byte_budget,
        'bytes_sent': transfer and transfer.bytes,
        'packets_sent': transfer and transfer.packets,
        'stop_reason': transfer and STOPS.get(transfer.stop_reason, transfer.stop_reason),
        'encode_s': transfer and transfer.compute_time,
        'edge_class': edge and edge.class_id,
        'edge_score': edge and edge.score,
        'edge_lane': edge and cell.lane_of(edge.class_id),
        'edge_bytes': edge and edge.bytes_used,
        'edge_compute_s': edge and edge.compute_time,
        'strong_class': strong and strong[0],
        'strong_score': strong and strong[1],
        'strong_lane': strong and cell.lane_of(strong[0]),
        'outcome_lane': action and action.lane,
        'outcome_class': action and action.class_id,
        'outcome_source': action and SOURCES.get(action.source, action.source),
        'outcome_reason': action and action.reason,
        'slack_s': action and action.slack,
        'missed': action and int(action.missed),
        'outcomes': record.actions,
        'local_delay_s': action and action.local_delay,
        'edge_delay_s': action and action.edge_delay,
        'rest_lane': record.rest_lane,
        'correct': int(record.correct),
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that share their keys, one line each, under a heading."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
