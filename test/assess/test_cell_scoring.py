# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Joining and scoring: any order, missing pieces, and physics has the last word."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.assess import scoring
from stl_conveyor.assess.scoring import (
    Action,
    AnswerRecord,
    Decision,
    Quantiles,
    ScoreBoard,
    Transfer,
    confusion,
    score,
    slack_ms,
)
from stl_conveyor.cell.description import CellDescription

CELL = CellDescription.load(Path(__file__).parents[2] / 'config' / 'cell.yaml')
NUT, LOCK_NUT, FLANGE_NUT = 'hex_nut_m8', 'lock_nut_m8', 'flange_nut_m8'  # lanes A, B, C
LANE = {NUT: 'A', LOCK_NUT: 'B', FLANGE_NUT: 'C'}


def answer(class_id, bytes_used=0):
    return AnswerRecord(class_id, 0.8, received_ns=1, bytes_used=bytes_used)


def action(lane, class_id='', slack=0.03, missed=False):
    return Action(lane, class_id, 0.8, 1, slack, missed, '', command_ns=5)


def pieces(board, stamp, serial, true, local, lane, rest, edge=None):
    """Return one call for each piece of an item."""
    truth = (stamp, serial, true, LANE[true], 0.5)
    out = [
        lambda: board.add_exposure(*truth, now_ns=stamp + 1),
        lambda: board.add_capture(stamp, serial + 100, stamp + 10, stamp + 2),
        lambda: board.add_local(stamp, serial + 100, answer(local)),
        lambda: board.add_decision(
            stamp, serial + 100, Decision(edge is not None, 1, 0.2, 0.1, 3.0, 600, 7)
        ),
        lambda: board.add_action(stamp, serial + 100, action(lane)),
        lambda: board.add_rest(*truth, rest),
    ]
    if edge is not None:
        out += [
            lambda: board.add_transfer(stamp, serial + 100, Transfer(300, 2, 1, 0.004, 9)),
            lambda: board.add_edge(stamp, serial + 100, answer(edge, 300)),
        ]
    return out


def play(order=None):
    board = ScoreBoard()
    calls = (
        pieces(board, 10, 1, NUT, NUT, 'A', 'A')
        + pieces(board, 20, 2, LOCK_NUT, NUT, 'B', 'B', edge=LOCK_NUT)
        + pieces(board, 30, 3, FLANGE_NUT, FLANGE_NUT, 'C', 'lost')
        + pieces(board, 40, 4, NUT, LOCK_NUT, 'B', 'A')
        + pieces(board, 50, 5, NUT, NUT, 'reject', 'reject')
    )
    for index in order or range(len(calls)):
        calls[index]()
    return board


def test_score():
    result = score(play().records, CELL)
    assert result.items == result.captures == result.outcomes == 5
    # 1 and 2 lie right; 3 was told right and fell off; 4 was told wrong and lies right all the
    # same; 5 was rejected
    assert result.correct == 3 and result.lost == 1 and result.rejected == 1
    assert result.outcome_correct == 3
    assert result.local_correct == result.local_class_correct == 3
    assert result.edge_answers == result.edge_class_correct == result.offloaded == 1
    assert result.bytes_sent == 300
    assert result.unacted == result.repeated_outcomes == result.missed_deadlines == 0


@given(st.permutations(range(32)))
def test_pieces_come_in_any_order(order):
    assert play(order).records == play().records


@given(st.sets(st.integers(0, 31)))
def test_any_piece_may_be_missing(present):
    board = play(sorted(present) or [0])
    result = score(board.records, CELL)
    assert result.items - result.unacted <= result.outcomes <= 5
    assert result.correct <= result.items <= 5
    slack_ms(board.records)
    confusion(board.records, CELL)


def test_an_item_nobody_acts_on_is_unacted():
    board = ScoreBoard()
    board.add_exposure(10, 1, NUT, 'A', 0.5, 11)
    assert score(board.records, CELL).unacted == 1
    board.add_action(10, 1, action('A'))
    assert score(board.records, CELL).unacted == 0


def test_the_first_action_stands_and_the_others_are_counted():
    board = ScoreBoard()
    board.add_exposure(10, 1, NUT, 'A', 0.5, 11)
    for lane in ('A', 'B', 'C'):
        board.add_action(10, 1, action(lane, missed=True))
    result = score(board.records, CELL)
    assert board.get(10).action.lane == 'A'
    assert (result.outcomes, result.repeated_outcomes, result.missed_deadlines) == (1, 2, 1)


@pytest.mark.parametrize('piece', ['action', 'edge'])
def test_what_two_threads_say_at_once_is_all_joined(monkeypatch, piece):
    board = ScoreBoard()
    board.add_action(10, 1, action('A'))
    other = threading.Thread(
        target=lambda: (
            board.add_action(10, 1, action('B')),
            board.add_edge(10, 1, answer(NUT, 300)),
        )
    )
    plain = scoring.replace

    def interrupted(record, **changes):
        """Let another thread add pieces, as far as it gets, before this one is stored."""
        monkeypatch.setattr(scoring, 'replace', plain)
        other.start()
        other.join(timeout=0.2)  # it waits for this one, or is through by then
        return plain(record, **changes)

    monkeypatch.setattr(scoring, 'replace', interrupted)
    if piece == 'action':
        board.add_action(10, 1, action('C'))
    else:
        board.add_edge(10, 1, answer(NUT, 100))
    other.join(10)
    record = board.get(10)
    assert record.actions == (3 if piece == 'action' else 2)
    assert record.edge.bytes_used == 300
    assert len(record.edge_compute_times) == (1 if piece == 'action' else 2)


def test_records_are_read_while_others_add():
    board = ScoreBoard()
    full = threading.Event()

    def add():
        for stamp in range(5000):
            board.add_exposure(stamp, 1 + stamp, NUT, 'A', 0.5, stamp)
        full.set()

    adder = threading.Thread(target=add)
    adder.start()
    counts = [0]
    while not full.is_set():
        counts.append(board.exposed)
    adder.join(10)
    assert counts == sorted(counts) and board.exposed == 5000


def test_the_edge_answer_on_most_bytes_stands():
    board = ScoreBoard()
    for size in (100, 300, 200):
        board.add_edge(10, 1, answer(NUT, size))
    assert board.get(10).edge.bytes_used == 300


def test_without_a_local_answer_the_item_counts_as_rejected_by_the_device():
    board = ScoreBoard()
    board.add_exposure(10, 1, NUT, 'A', 0.5, 11)
    assert score(board.records, CELL).local_correct == 0


def test_confusion_counts_lanes():
    rows, columns, counts = confusion(play().records, CELL)
    assert rows == ['A', 'B', 'C', 'reject'] and columns == rows + ['lost']
    assert counts.tolist() == [[2, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


def test_quantiles():
    q = Quantiles.of(range(101))
    assert (q.p01, q.p50, q.p99, q.mean, q.n) == (1, 50, 99, 50, 101)
    assert math.isnan(Quantiles.of([]).p50) and Quantiles.of([]).n == 0
    assert slack_ms(play().records).p50 == pytest.approx(30)
