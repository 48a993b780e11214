# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The ledger: exactly one outcome for each item, in time, with the best answer."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stl_conveyor.cell.ledger import (
    Admission,
    Answer,
    AnswerSource,
    ItemKey,
    ItemLedger,
    Stage,
    Verdict,
)

MS = 1_000_000
GUARD = 20 * MS
LONGEST = 1000 * MS


def make_ledger(**changes):
    return ItemLedger(**{'guard_ns': GUARD, 'longest_ns': LONGEST, **changes})


def local(now=0, score=0.6, class_id='nut'):
    return Answer(AnswerSource.LOCAL, class_id, score, now)


def edge(now=0, size=300, class_id='bolt'):
    return Answer(AnswerSource.EDGE, class_id, 0.9, now, size)


def test_best_answer_is_edge_else_local_else_none():
    ledger = make_ledger()
    keys = [ItemKey(i, 100 * i) for i in (1, 2, 3)]
    for key in keys:
        assert ledger.capture(key, 500 * MS, 0) is Admission.ACCEPTED
    ledger.answer(keys[0], edge(), 1)
    ledger.answer(keys[0], local(), 2)
    ledger.answer(keys[1], local(), 2)
    assert ledger.decide_due(479 * MS) == ()
    decisions = {d.key: d for d in ledger.decide_due(480 * MS)}
    assert decisions[keys[0]].answer.source is AnswerSource.EDGE
    assert decisions[keys[0]].local.class_id == 'nut'
    assert decisions[keys[1]].answer.source is AnswerSource.LOCAL
    assert decisions[keys[2]].answer is None
    assert all(d.slack_ns == GUARD for d in decisions.values())
    assert ledger.decide_due(10**12) == ()


def test_refinement_counts_in_whatever_order_it_comes():
    ledger = make_ledger()
    key = ItemKey(1, 7)
    ledger.capture(key, 500 * MS, 0)
    assert ledger.answer(key, edge(size=900, class_id='b'), 1) is Verdict.ACCEPTED
    assert ledger.answer(key, edge(size=300, class_id='a'), 2) is Verdict.NOT_BETTER
    assert ledger.answer(key, edge(size=900, class_id='c'), 3) is Verdict.NOT_BETTER
    (decision,) = ledger.decide_all(5)
    assert decision.answer.class_id == 'b'


def test_answers_that_overtake_their_capture_are_kept():
    ledger = make_ledger()
    key = ItemKey(1, 7)
    assert ledger.answer(key, local(), 0) is Verdict.EARLY
    assert ledger.answer(key, edge(), 0) is Verdict.EARLY
    assert ledger.answers(key) == ()
    ledger.capture(key, 500 * MS, 1)
    assert ledger.answers(key) == (local(), edge())
    (decision,) = ledger.decide_due(480 * MS + 1)
    assert decision.answer.source is AnswerSource.EDGE and decision.local is not None
    assert ledger.early_answers == 0 and ledger.answers(key) == ()


def test_early_answers_are_bounded_in_number_and_age():
    ledger = make_ledger(max_early=4, early_ns=10)
    for i in range(1, 50):
        ledger.answer(ItemKey(i, 0), local(now=i), i)
        assert ledger.early_answers <= 4
    ledger.answer(ItemKey(99, 0), local(now=1000), 1000)
    assert ledger.early_answers == 1


LANES = (Stage('A', 0), Stage('B', 300 * MS), Stage('C', 600 * MS))


def for_lane(lane, source=AnswerSource.EDGE, size=300):
    return Answer(source, 'nut', 0.9, 0, size if source is AnswerSource.EDGE else 0, lane)


def staged(*answers):
    """Return a ledger with one item, whose lanes have times of their own, and its key."""
    ledger, key = make_ledger(), ItemKey(1, 7)
    ledger.capture(key, 500 * MS, 0, LANES)
    for answer in answers:
        ledger.answer(key, answer, 1)
    return ledger, key


@pytest.mark.parametrize('lane, due', [('A', 480), ('B', 780), ('C', 1080), ('reject', 1080)])
def test_item_is_decided_at_the_time_of_its_own_lane(lane, due):
    ledger, _ = staged(for_lane(lane))
    assert ledger.decide_due((due - 1) * MS) == ()
    (decision,) = ledger.decide_due(due * MS)
    assert (decision.answer.lane, decision.slack_ns, decision.passed) == (lane, GUARD, False)
    assert decision.later_ns == (due - 480) * MS
    assert ledger.decide_due(10**12) == ()


def test_item_without_an_answer_waits_for_the_last_lane():
    ledger, key = staged()
    assert ledger.decide_due(480 * MS) == () and ledger.next_lane(key) == 'B'
    ledger.answer(key, for_lane('C'), 500 * MS)
    (decision,) = ledger.decide_due(2000 * MS)
    assert decision.answer.lane == 'C'


def test_later_answer_counts_for_later_lanes_only():
    ledger, key = staged(for_lane('C', AnswerSource.LOCAL))
    assert ledger.decide_due(480 * MS) == ()
    ledger.answer(key, for_lane('B'), 600 * MS)
    (decision,) = ledger.decide_due(780 * MS)
    assert (decision.answer.lane, decision.local.lane) == ('B', 'C')
    ledger, key = staged(for_lane('C', AnswerSource.LOCAL))
    ledger.decide_due(480 * MS)
    ledger.answer(key, for_lane('A'), 600 * MS)
    (decision,) = ledger.decide_due(1080 * MS)
    assert decision.passed and decision.answer.lane == 'A'


def test_late_look_decides_at_once_and_says_that_it_is_late():
    ledger, _ = staged(for_lane('A'))
    (decision,) = ledger.decide_due(900 * MS)
    assert decision.slack_ns == -400 * MS and not decision.passed


def test_capture_past_its_deadline_waits_for_no_lane():
    ledger, key = make_ledger(), ItemKey(1, 7)
    assert ledger.capture(key, -5, 0, LANES) is Admission.ACT_AT_ONCE
    assert len(ledger.decide_due(0)) == 1


def test_full_ledger_gives_up_waiting_for_later_lanes():
    ledger = make_ledger(max_open=2)
    for i in (1, 2, 3):
        ledger.capture(ItemKey(i, 100 * i), (500 + i) * MS, 0, LANES)
    assert [decision.key.item_id for decision in ledger.decide_due(0)] == [2]
    assert ledger.open_items == 2


@pytest.mark.parametrize('waits', [0, 1, 2])
def test_stopping_decides_whatever_lane_is_next(waits):
    ledger, _ = staged(for_lane('C'))
    ledger.decide_due((200 + 300 * waits) * MS)
    (decision,) = ledger.decide_all(1000 * MS)
    assert decision.answer.lane == 'C' and ledger.open_items == 0


def test_late_stale_and_bad_answers_change_nothing():
    ledger = make_ledger()
    key = ItemKey(5, 700)
    ledger.capture(key, 500 * MS, 0)
    assert ledger.answer(ItemKey(5, 600), edge(), 0) is Verdict.STALE
    assert ledger.answer(ItemKey(0, 600), edge(), 0) is Verdict.BAD
    assert ledger.answer(key, Answer(AnswerSource.EDGE, 'nut', float('nan'), 0), 0) is Verdict.BAD
    assert ledger.answer(key, Answer(AnswerSource.EDGE, '', 0.5, 0), 0) is Verdict.BAD
    assert ledger.answer(key, Answer(AnswerSource.NONE, 'nut', 0.5, 0), 0) is Verdict.BAD
    (decision,) = ledger.decide_due(480 * MS)
    assert decision.answer is None
    assert ledger.answer(key, edge(), 481 * MS) is Verdict.LATE
    # Of an item that may still come, from a camera that was restarted: it waits, bounded.
    assert ledger.answer(ItemKey(5, 600), edge(), 481 * MS) is Verdict.EARLY


def test_captures_twice_and_conflicting():
    ledger = make_ledger()
    key = ItemKey(5, 700)
    ledger.capture(key, 500 * MS, 0)
    assert ledger.capture(key, 500 * MS, 0) is Admission.DUPLICATE
    assert ledger.capture(ItemKey(5, 600), 500 * MS, 0) is Admission.CONFLICT
    assert ledger.capture(ItemKey(0, 800), 500 * MS, 0) is Admission.BAD_ID
    ledger.decide_due(480 * MS)
    assert ledger.capture(key, 500 * MS, 0) is Admission.DUPLICATE
    assert ledger.capture(ItemKey(5, 600), -500 * MS, 0) is Admission.CONFLICT
    # A restarted camera counts from 1 again, with newer stamps.
    assert ledger.capture(ItemKey(5, 900), 500 * MS, 0) is Admission.ACCEPTED
    ledger.decide_all(0)
    # And so it does after the clock was set back.
    assert ledger.capture(ItemKey(5, 300), 500 * MS, 0) is Admission.ACCEPTED


def test_a_number_that_comes_again_while_its_item_is_open_is_that_of_another_item():
    ledger = make_ledger()
    first, again = ItemKey(1, 100 * MS), ItemKey(1, 400 * MS)
    assert ledger.capture(first, 500 * MS, 0) is Admission.ACCEPTED
    assert ledger.answer(again, local(class_id='washer'), 0) is Verdict.EARLY
    assert ledger.capture(again, 800 * MS, 0) is Admission.ACCEPTED
    assert ledger.open_stamps(1) == (100 * MS, 400 * MS)
    assert ledger.answer(first, local(class_id='nut'), 0) is Verdict.ACCEPTED
    decisions = ledger.decide_due(480 * MS) + ledger.decide_due(780 * MS)
    assert [(d.key, d.answer.class_id) for d in decisions] == [(first, 'nut'), (again, 'washer')]
    assert ledger.open_items == 0 and ledger.open_stamps(1) == ()


def test_captures_closer_than_two_items_can_lie_show_one_item():
    ledger = make_ledger(apart_ns=150 * MS)
    key = ItemKey(1, 400 * MS)
    assert ledger.capture(key, 500 * MS, 0) is Admission.ACCEPTED
    for stamp in (399, 401, 549):
        near = ItemKey(1, stamp * MS)
        assert ledger.capture(near, 500 * MS, 0) is Admission.CONFLICT
    assert [d.key for d in ledger.decide_all(0)] == [key]
    # And so does a second camera's when the item has its outcome.
    assert ledger.capture(ItemKey(1, 401 * MS), 500 * MS, 0) is Admission.CONFLICT
    assert ledger.capture(ItemKey(1, 550 * MS), 500 * MS, 0) is Admission.ACCEPTED
    assert ledger.capture(ItemKey(1, 699 * MS), 500 * MS, 0) is Admission.CONFLICT
    assert ledger.capture(ItemKey(1, 700 * MS), 500 * MS, 0) is Admission.ACCEPTED


@pytest.mark.parametrize('time_left', [-(10**15), -1, 0, GUARD, LONGEST + 1, 10**18])
def test_absurd_deadlines_are_acted_on_at_once(time_left):
    ledger = make_ledger()
    assert ledger.capture(ItemKey(1, 7), time_left, 50) is Admission.ACT_AT_ONCE
    (decision,) = ledger.decide_due(50)
    assert decision.slack_ns == time_left
    assert decision.absurd == (time_left > LONGEST)


def test_a_flood_of_captures_is_bounded_and_each_gets_its_outcome():
    ledger = make_ledger(max_open=8, history=16)
    decided = []
    for i in range(1, 200):
        ledger.capture(ItemKey(i, i), 500 * MS, 0)
        decided += ledger.decide_due(0)
        assert ledger.open_items <= 8
    decided += ledger.decide_all(0)
    assert sorted(d.key.item_id for d in decided) == list(range(1, 200))


class LedgerMachine(RuleBasedStateMachine):
    """Any order of captures, answers and time gives each accepted item one outcome in time."""

    def __init__(self):
        super().__init__()
        self.ledger = make_ledger(max_open=6, max_early=3, history=1000)
        self.now = 0
        self.accepted = {}
        self.decided = {}
        self.answers = {}

    def take(self, decisions):
        for decision in decisions:
            assert decision.key in self.accepted
            assert decision.key not in self.decided
            self.decided[decision.key] = decision
            given = self.answers.get(decision.key, [])
            if decision.answer is not None:
                assert decision.answer in given
            edges = [a for a in given if a.source is AnswerSource.EDGE]
            if decision.edge is None:
                continue
            assert decision.answer is decision.edge
            assert (
                decision.edge.bytes_used == max(a.bytes_used for a in edges)
                or decision.key in self.early
            )

    early: set = set()

    @rule(
        item_id=st.integers(0, 12),
        stamp=st.integers(0, 3),
        left=st.one_of(st.integers(-10, 1200), st.just(10**12)),
    )
    def capture(self, item_id, stamp, left):
        key = ItemKey(item_id, stamp)
        admission = self.ledger.capture(key, left * MS, self.now)
        if admission in (Admission.ACCEPTED, Admission.ACT_AT_ONCE):
            assert key not in self.accepted
            self.accepted[key] = self.now + left * MS
        self.take(self.ledger.decide_due(self.now))
        if admission is Admission.ACT_AT_ONCE:
            assert key in self.decided

    @rule(
        item_id=st.integers(0, 12),
        stamp=st.integers(0, 3),
        size=st.integers(0, 5),
        source=st.sampled_from([AnswerSource.LOCAL, AnswerSource.EDGE]),
    )
    def answer(self, item_id, stamp, size, source):
        key = ItemKey(item_id, stamp)
        answer = Answer(source, 'nut', 0.5, self.now, size)
        verdict = self.ledger.answer(key, answer, self.now)
        if verdict is Verdict.EARLY:
            self.early = self.early | {key}
        if verdict in (Verdict.ACCEPTED, Verdict.EARLY, Verdict.NOT_BETTER):
            self.answers.setdefault(key, []).append(answer)

    @rule(step=st.integers(0, 400))
    def advance(self, step):
        self.now += step * MS
        self.take(self.ledger.decide_due(self.now))

    @rule()
    def stop(self):
        self.take(self.ledger.decide_all(self.now))
        assert set(self.decided) == set(self.accepted)

    @invariant()
    def nothing_is_overdue_or_unbounded(self):
        due = self.ledger.next_due_ns()
        assert due is None or due > self.now
        assert self.ledger.open_items == len(self.accepted) - len(self.decided) <= 6
        assert self.ledger.early_answers <= 3


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_item_that_the_belt_brings_earlier_is_decided_earlier_and_once():
    ledger = ItemLedger(guard_ns=0, longest_ns=10**10)
    first, second = ItemKey(1, 0), ItemKey(2, 0)
    ledger.capture(first, 1000, now_ns=0)
    ledger.capture(second, 1000, now_ns=0)
    ledger.hasten(first, 600)
    ledger.hasten(first, 2000)  # later than planned: no change
    ledger.hasten(ItemKey(1, 7), 100)  # another item of that number
    assert ledger.due_ns(first) == 600 and ledger.due_ns(ItemKey(1, 7)) is None
    assert [each.key for each in ledger.decide_due(600)] == [first]
    assert [each.key for each in ledger.decide_due(10**9)] == [second]
