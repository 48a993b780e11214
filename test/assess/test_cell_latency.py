# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Splitting up an item's time: by hand, and never twice the same millisecond."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.assess.latency import (
    EDGE_CLASSIFICATION,
    FEATURES,
    FEEDBACK,
    Passage,
    covered,
    item_timing,
    stage_latencies,
)
from stl_conveyor.assess.scoring import (
    Action,
    AnswerRecord,
    Decision,
    ItemRecord,
    Transfer,
    complete_records,
)

MS = 1_000_000


def record(edge=True, **changes):
    values = {
        'stamp_ns': 1000 * MS,
        'item_id': 1,
        'serial': 1,
        'local': AnswerRecord('a', 0.6, 1022 * MS, compute_time=0.010),
        'decision': Decision(edge, 1, 0.3, 0.1, 4.0, 600, 1024 * MS),
        'action': Action(
            'A',
            'a',
            0.6,
            2 if edge else 1,
            0.03,
            False,
            '',
            1700 * MS,
            local_delay=0.020,
            edge_delay=0.200 if edge else -1.0,
        ),
    }
    if edge:
        values['transfer'] = Transfer(600, 2, 1, 0.005, 1150 * MS)
        values['edge'] = AnswerRecord('b', 0.9, 1201 * MS, compute_time=0.012, bytes_used=600)
        values['edge_compute_times'] = (0.012,)
    values.update(changes)
    return ItemRecord(**values)


def complete(known):
    (found,) = complete_records([known])
    return found


def passage(channel, sent, delivered, stamp=1000):
    return Passage(
        stamp * MS, channel, 400, sent * MS, None if delivered is None else delivered * MS
    )


PASSAGES = [
    passage(FEATURES, 1030, 1080),
    passage(FEATURES, 1031, 1130),
    passage(FEATURES, 1032, None),
    passage(FEEDBACK, 1085, 1140),  # an acknowledgement: nobody waits for it
    passage(EDGE_CLASSIFICATION, 1155, 1197),
]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_covered_counts_each_moment_once(intervals, first, last):
    moments = {t for start, end in intervals for t in range(start, end)}
    assert covered(intervals, first, last) == len(moments & set(range(first, last)))


def test_an_item_decided_on_the_device():
    timing = item_timing(complete(record(edge=False)), 4 * MS, [])
    assert (timing.total, timing.camera, timing.local_model, timing.link) == (20, 4, 10, 0)
    assert timing.overhead == pytest.approx(6)


def test_an_item_decided_by_the_edge():
    timing = item_timing(complete(record()), 4 * MS, PASSAGES)
    assert timing.link == pytest.approx(100 + 42)
    assert timing.edge_model == pytest.approx(12)
    # 200 - 4 camera - 10 local - 5 encoder - 142 link - 12 edge
    assert timing.overhead == pytest.approx(27)


def test_a_late_packet_beside_the_last_computation_hides_no_overhead():
    busy = PASSAGES + [passage(FEATURES, 1139, 1190)]
    assert item_timing(complete(record()), 0, busy).link == pytest.approx(100 + 4 + 42)


def test_a_stream_that_waited_for_a_verdict():
    passages = [
        passage(FEATURES, 1030, 1060),
        passage(FEEDBACK, 1061, 1090),
        passage(FEEDBACK, 1074, 1104),
        passage(EDGE_CLASSIFICATION, 1073, 1115),
        passage(FEATURES, 1106, 1136),
        passage(EDGE_CLASSIFICATION, 1150, 1195),
    ]
    timing = item_timing(complete(record(edge_compute_times=(0.010, 0.012))), 0, passages)
    assert timing.edge_model == pytest.approx(10 + 12)
    # stream, verdict, stream, answer
    assert timing.link == pytest.approx(30 + 30 + 30 + 45)


def test_without_a_link_log_an_edge_item_has_no_timing():
    assert item_timing(complete(record()), 0, []) is None
    never = replace(record().action, local_delay=-1.0)
    for missing in ({'local': None}, {'action': None}, {'action': never}):
        assert complete_records([record(**missing)]) == []


def test_stages():
    records = [record(), record(edge=False, stamp_ns=2000 * MS), ItemRecord(3000 * MS)]
    stages = stage_latencies(records, {1000 * MS: 4 * MS}, PASSAGES)
    assert stages['overhead'].n == 2 and stages['overhead_edge'].n == 1
    assert stages['capture_to_local'].p50 == pytest.approx(20)
    assert stages['capture_to_edge'].p50 == pytest.approx(200)
    assert stages['decision'].p50 == pytest.approx(2)
    assert stages['encode'].p50 == pytest.approx(5)
    assert stage_latencies([], {}, [])['overhead'].n == 0
