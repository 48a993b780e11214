# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Only stamps that can be right pass the gate, in order; what is refused is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.stamp_gate import GPS_NS, PERSISTENT, TAI_NS, ZONE_NS, StampGate
from stl_conveyor.errors import Level

MS = 10**6
SECOND = 10**9
NOW = 1_795_000_000 * SECOND
AHEAD, DELAY = 5 * MS, 2 * SECOND
UPTIME = 86_400 * SECOND


def gate(**changes):
    return StampGate('camera/image_raw', **{'ahead_ns': AHEAD, 'delay_ns': DELAY, **changes})


@given(st.lists(st.integers(-20 * SECOND, 20 * SECOND), max_size=50))
def test_what_passes_is_of_now_and_in_order(offsets):
    under_test, passed = gate(), []
    for index, offset in enumerate(offsets):
        now_ns = NOW + index * 10 * MS
        verdict = under_test.admit(now_ns + offset, now_ns)
        if verdict.time_ns is None:
            assert verdict.level is not Level.OK and verdict.name
            assert verdict.text.startswith('camera/image_raw: ')
            continue
        assert verdict.time_ns == now_ns + offset
        assert -DELAY <= offset <= AHEAD
        if verdict.name == 'stamps_anew':
            passed.clear()
        passed.append(verdict.time_ns)
        assert passed == sorted(set(passed))


@given(st.lists(st.integers(AHEAD + 1, 10**6 * SECOND)), st.integers(0, DELAY))
def test_stamps_ahead_never_block_an_honest_one(ahead, delay):
    under_test = gate()
    for offset in ahead:
        assert under_test.admit(NOW + offset, NOW).time_ns is None
    assert under_test.admit(NOW - delay, NOW).time_ns == NOW - delay


@given(st.lists(st.integers(1, SECOND), min_size=1, max_size=30), st.integers(0, DELAY))
def test_a_driver_with_an_honest_delay_loses_nothing(steps, delay):
    under_test, stamp_ns = gate(), NOW
    for step in steps:
        stamp_ns += step
        verdict = under_test.admit(stamp_ns, stamp_ns + delay)
        assert verdict.time_ns == stamp_ns and not verdict.name


@given(
    st.integers(1, DELAY // 2), st.lists(st.integers(1, 10 * MS), min_size=PERSISTENT, max_size=20)
)
def test_a_driver_that_begins_anew_is_taken_up_with_a_word(back, steps):
    under_test = gate()
    assert under_test.admit(NOW, NOW).time_ns == NOW
    stamp_ns, verdicts = NOW - back - sum(steps), []
    for step in steps:
        stamp_ns += step
        verdicts.append(under_test.admit(stamp_ns, NOW))
    refused, anew, later = (
        verdicts[: PERSISTENT - 1],
        verdicts[PERSISTENT - 1],
        verdicts[PERSISTENT:],
    )
    assert {v.name for v in refused} == {'stamp_disorder'}
    assert anew.name == 'stamps_anew' and anew.time_ns is not None and anew.level is Level.WARN
    assert all(v.time_ns is not None and not v.name for v in later)


def test_two_drivers_on_one_topic_are_no_new_beginning():
    under_test = gate()
    for frame in range(20):
        now_ns = NOW + frame * 33 * MS
        assert under_test.admit(now_ns, now_ns).time_ns == now_ns
        assert under_test.admit(now_ns - 40 * MS, now_ns).name == 'stamp_disorder'


def test_a_message_that_comes_twice_is_refused_each_time():
    under_test = gate()
    assert under_test.admit(NOW, NOW).time_ns == NOW
    for _ in range(2 * PERSISTENT):
        verdict = under_test.admit(NOW, NOW)
        assert (verdict.time_ns, verdict.name) == (None, 'stamp_repeated')


def test_a_clock_that_was_set_back_has_a_round_of_its_own():
    under_test = gate(simulated=True, ahead_ns=100 * MS)
    for _ in range(3):
        under_test.start_anew()
        for stamp_ns in range(100 * SECOND, 103 * SECOND, SECOND // 10):
            assert under_test.admit(stamp_ns, stamp_ns).time_ns == stamp_ns


@pytest.mark.parametrize(
    ('offset', 'name', 'word'),
    [
        (50 * MS, 'stamp_ahead', '0.050 s ahead'),
        (6 * MS, 'stamp_ahead', 'stamp_tolerance: 0.005 s'),
        (-10 * SECOND, 'stamp_old', '10.000 s behind'),
        (-DELAY - 1, 'stamp_old', 'longest_delay: 2 s'),
        (TAI_NS - 30 * MS, 'stamp_tai', 'TAI'),
        (GPS_NS - 30 * MS, 'stamp_gps', 'GPS'),
        (2 * ZONE_NS - 30 * MS, 'stamp_time_zone', '3599.970 s ahead'),
        (-16 * ZONE_NS, 'stamp_time_zone', 'local time'),
        (UPTIME - NOW - 30 * MS, 'stamp_since_boot', '86399.970 s counts from the start'),
        (12 * SECOND - NOW, 'stamp_simulated', 'use_sim_time: true'),
        (-NOW, 'stamp_zero', 'stamp zero'),
        (-NOW - 5 * SECOND, 'stamp_simulated', 'simulated time'),
    ],
)
def test_the_cause_is_named_with_figure_and_remedy(offset, name, word):
    verdict = gate().admit(NOW + offset, NOW, uptimes_ns=(UPTIME,))
    assert (verdict.time_ns, verdict.name, verdict.level) == (None, name, Level.ERROR)
    assert word in verdict.text
    assert '`stamp: arrival`' in verdict.text


def test_where_no_place_follows_from_it_a_message_may_be_unstamped():
    under_test = gate(unstamped=True)
    assert under_test.admit(NOW, NOW).time_ns == NOW
    assert under_test.admit(0, NOW + 5, arrival_ns=NOW + 3).time_ns == NOW + 3
    assert under_test.admit(NOW + 1, NOW + 5).time_ns == NOW + 1
    assert under_test.admit(NOW - 60 * SECOND, NOW + 5).name == 'stamp_old'


def test_where_no_place_follows_from_it_parts_may_have_one_stamp_or_any_order():
    under_test = gate(unstamped=True)
    for stamp_ns in (NOW, NOW, NOW + 2, NOW - 1, NOW + 2):
        verdict = under_test.admit(stamp_ns, NOW + 5)
        assert (verdict.time_ns, verdict.name) == (stamp_ns, '')


def test_simulated_time_and_system_time_are_told_apart():
    simulated = gate(simulated=True)
    verdict = simulated.admit(5 * SECOND, 0)
    assert verdict.name == 'no_clock' and '/clock' in verdict.text
    verdict = simulated.admit(NOW, 5 * SECOND)
    assert verdict.name == 'stamp_not_simulated' and 'use_sim_time' in verdict.text
    assert simulated.admit(5 * SECOND, 5 * SECOND).time_ns == 5 * SECOND
    # A recording is played in the time in which it was made.
    assert simulated.admit(NOW, NOW).time_ns == NOW


@given(
    st.lists(st.integers(-(2**31) * SECOND, 2**31 * SECOND), max_size=30),
    st.integers(0, SECOND),
    st.lists(st.integers(0, SECOND), min_size=30, max_size=30),
)
def test_by_arrival_every_message_passes_whatever_its_stamp(stamps, latency, steps):
    under_test, now_ns, before = gate(by_arrival=True, latency_ns=latency), NOW, 0
    for stamp_ns, step in zip(stamps, steps):
        now_ns += step
        verdict = under_test.admit(stamp_ns, now_ns + 7, arrival_ns=now_ns)
        assert not verdict.name and before < verdict.time_ns
        assert verdict.time_ns - (now_ns - latency) in range(len(stamps) + 1)
        before = verdict.time_ns


@given(
    st.integers(-(2**40) * SECOND, 2**40 * SECOND),
    st.integers(0, 2**33 * SECOND),
    st.booleans(),
    st.booleans(),
)
def test_no_stamp_is_beyond_words(stamp_ns, now_ns, by_arrival, simulated):
    verdict = gate(by_arrival=by_arrival, simulated=simulated).admit(
        stamp_ns, now_ns, uptimes_ns=(UPTIME,)
    )
    assert (verdict.time_ns is None) == bool(verdict.text) == bool(verdict.name)
