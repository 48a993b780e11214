# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pacing: window, budget, deadline, early stop, losses."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stl_conveyor.cell.sender import (
    PacingSettings,
    SendPacket,
    StopReason,
    StreamSender,
    TransferDone,
    WaitUntil,
)

MS = 1_000_000
SETTINGS = PacingSettings(
    window_bytes=900, overhead_bytes=100, guard_ns=20 * MS, loss_timeout_ns=200 * MS
)


def make_sender(sizes=(300,) * 5, budget=10_000, deadline=700 * MS, settings=SETTINGS):
    return StreamSender(sizes, byte_budget=budget, deadline_ns=deadline, settings=settings)


def drain(sender, now=0, reserve=0):
    """Return the packets sent at once and what the sender waits for."""
    sent = []
    while isinstance(action := sender.step(now, reserve), SendPacket):
        sent.append(action)
    return sent, action


def test_window_of_unacknowledged_bytes():
    sender = make_sender()
    sent, action = drain(sender)
    assert [p.sequence for p in sent] == [0, 1]
    assert action == WaitUntil(200 * MS)
    assert sender.arrived(0) == 0
    sent, _ = drain(sender, 5 * MS)
    assert [p.sequence for p in sent] == [2]


def test_packet_larger_than_the_window_travels_alone():
    sender = make_sender(sizes=(5000, 10))
    sent, _ = drain(sender)
    assert [p.sequence for p in sent] == [0]


def test_whole_stream():
    sender = make_sender(sizes=(100, 100, 100))
    sent, action = drain(sender)
    assert [p.last for p in sent] == [False, False, True]
    assert isinstance(action, WaitUntil)  # a lost packet could still be sent again
    for sequence in range(3):
        sender.arrived(sequence)
    assert drain(sender, 1)[1] == TransferDone(StopReason.COMPLETE, 3, 300)


def test_byte_budget_is_never_exceeded_and_marks_the_last_packet():
    sender = make_sender(budget=650)
    sent, action = drain(sender)
    assert [(p.sequence, p.last) for p in sent] == [(0, False), (1, True)]
    assert action == TransferDone(StopReason.COMPLETE, 2, 600)
    assert drain(make_sender(budget=100))[1] == TransferDone(StopReason.COMPLETE, 0, 0)


def test_a_large_lost_packet_that_the_budget_cannot_pay_again_blocks_no_smaller_one():
    sender = make_sender(sizes=(300, 300, 100, 20), budget=720)
    assert [p.sequence for p in drain(sender)[0]] == [0, 1]
    sender.arrived(1)  # 0 is lost, and 120 bytes are left
    sent, _ = drain(sender, 5 * MS)
    assert [(p.sequence, p.last) for p in sent] == [(2, False), (3, True)]
    sender.arrived(2)
    sender.arrived(3)
    assert drain(sender, 6 * MS)[1] == TransferDone(StopReason.COMPLETE, 4, 720)


def test_feedback_after_the_end_tells_when_the_packet_was_sent():
    sender = make_sender(sizes=(300,), budget=300)
    sent, action = drain(sender, 5 * MS)
    assert [p.last for p in sent] == [True]
    assert action == TransferDone(StopReason.COMPLETE, 1, 300)  # it ended at once
    assert sender.arrived(0) == 5 * MS
    assert sender.arrived(0) is None  # counted once


def test_feedback_later_than_the_loss_timeout_still_tells_the_delay():
    sender = make_sender(sizes=(300,), settings=replace(SETTINGS, max_resends=0))
    drain(sender, 0)
    drain(sender, 250 * MS)
    assert sender.arrived(0) == 0


def test_a_packet_that_was_sent_twice_tells_no_delay():
    sender = make_sender(sizes=(300, 300))
    drain(sender)
    assert [p.sequence for p in drain(sender, 200 * MS)[0]] == [0, 1]
    assert sender.arrived(0) is None  # of which copy is it?
    assert sender.arrived(1) is None


def test_satisfied_edge_stops_the_stream():
    sender = make_sender()
    drain(sender)
    sender.arrived(0, satisfied=True)
    assert drain(sender, 1)[1] == TransferDone(StopReason.SATISFIED, 2, 600)


def test_deadline_leaves_the_reserve():
    sender = make_sender()
    drain(sender, reserve=80 * MS)
    sender.arrived(0)
    assert drain(sender, 601 * MS, 80 * MS)[1].stop is StopReason.DEADLINE
    late = make_sender()
    assert drain(late, 700 * MS)[1] == TransferDone(StopReason.DEADLINE, 0, 0)


def test_first_outside_reason_stays():
    sender = make_sender()
    sender.stop(StopReason.EDGE_GONE)
    sender.stop(StopReason.NEXT_ITEM)
    assert drain(sender)[1].stop is StopReason.EDGE_GONE


def test_overtaken_packet_is_sent_again_first():
    sender = make_sender()
    drain(sender)
    sender.arrived(1)  # 0 was sent before it and is lost
    sent, _ = drain(sender, 5 * MS)
    assert [p.sequence for p in sent] == [0, 2]
    assert sender.bytes_spent == 1200


def test_late_packet_is_not_sent_again():
    sender = make_sender()
    drain(sender)
    sender.arrived(1)
    sender.arrived(0)
    sent, _ = drain(sender, 5 * MS)
    assert [p.sequence for p in sent] == [2, 3]


def test_silence_frees_the_window_after_the_timeout():
    sender = make_sender(sizes=(300, 300))
    drain(sender)
    sent, _ = drain(sender, 200 * MS)
    assert [p.sequence for p in sent] == [0, 1]
    assert drain(sender, 400 * MS)[1] == TransferDone(StopReason.COMPLETE, 4, 1200)


def test_hostile_feedback_is_harmless():
    sender = make_sender()
    drain(sender)
    for sequence in (-1, 4, 5, 65535, 1, 1, 0, 0):
        sender.arrived(sequence)
    sent, _ = drain(sender, 1)
    assert [p.sequence for p in sent] == [2, 3]


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 700), max_size=12),
    budget=st.integers(0, 4000),
    reserve=st.integers(0, 300),
    resends=st.integers(0, 2),
    events=st.lists(
        st.tuples(st.integers(0, 60), st.integers(-1, 13), st.booleans()), max_size=60
    ),
)
def test_any_feedback_ends_within_budget_window_and_deadline(
    sizes, budget, reserve, resends, events
):
    settings = PacingSettings(
        window_bytes=900,
        overhead_bytes=100,
        guard_ns=20 * MS,
        loss_timeout_ns=100 * MS,
        max_resends=resends,
    )
    sender = make_sender(sizes, budget, settings=settings)
    now, spent, count = 0, 0, [0] * len(sizes)
    for step, sequence, satisfied in [*events, (2000, -1, False)]:
        now += step * MS
        for _ in range(100):
            action = sender.step(now, reserve * MS)
            if not isinstance(action, SendPacket):
                break
            spent += sizes[action.sequence]
            count[action.sequence] += 1
            assert now <= 680 * MS - reserve * MS
        assert isinstance(action, (WaitUntil, TransferDone))
        if isinstance(action, WaitUntil):
            assert action.at_ns > now
        sender.arrived(sequence, satisfied=satisfied and step > 50)
    assert isinstance(sender.step(now, 0), TransferDone)
    assert spent == sender.bytes_spent <= budget
    assert all(n <= 1 + resends for n in count)


def test_patience_waits_for_the_answer_to_what_was_sent():
    sender = make_sender()
    sent, action = drain(sender, reserve=60 * MS)
    assert [p.sequence for p in sent] == [0]
    assert action == WaitUntil(120 * MS)
    sender.arrived(0)  # received, not yet answered
    assert drain(sender, 40 * MS, 60 * MS) == ([], WaitUntil(120 * MS))
    sender.arrived(0, answered=True)
    assert [p.sequence for p in drain(sender, 60 * MS, 60 * MS)[0]] == [1]


def test_patience_ends_with_a_satisfied_edge_after_one_packet():
    sender = make_sender()
    drain(sender, reserve=60 * MS)
    sender.arrived(0, answered=True, satisfied=True)
    assert drain(sender, 60 * MS, 60 * MS)[1] == TransferDone(StopReason.SATISFIED, 1, 300)


def test_no_patience_when_the_rest_would_come_too_late():
    sender = make_sender(deadline=250 * MS)  # five packets, 60 ms each
    assert [p.sequence for p in drain(sender, reserve=60 * MS)[0]] == [0, 1]


def test_no_patience_if_switched_off():
    impatient = PacingSettings(
        window_bytes=900,
        overhead_bytes=100,
        guard_ns=20 * MS,
        loss_timeout_ns=200 * MS,
        patient=False,
    )
    sender = make_sender(settings=impatient)
    assert [p.sequence for p in drain(sender, reserve=60 * MS)[0]] == [0, 1]


def test_an_unanswered_packet_does_not_stop_the_stream():
    sender = make_sender()
    drain(sender, reserve=60 * MS)
    assert [p.sequence for p in drain(sender, 121 * MS, 60 * MS)[0]] == [1]
