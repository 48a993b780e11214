# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge that is full has a price, and the cell that asks for most pays most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.edge_admission import HIGHEST_PRICE, DecayingRate, EdgeAdmission

SECOND = 1_000_000_000


def run(admission, rates, service, seconds, *, start=0, backlog=0):
    """Serve cells at their rates (answers per second); look twice a second."""
    events = sorted(
        (start + round(number * SECOND / rate), cell)
        for cell, rate in enumerate(rates)
        if rate
        for number in range(round(rate * seconds))
    )
    looks = [start + number * SECOND // 2 for number in range(1, round(2 * seconds) + 1)]
    for look in looks:
        while events and events[0][0] <= look:
            at_ns, cell = events.pop(0)
            admission.served(cell, service, at_ns)
        admission.look(backlog, look)
    return looks[-1]


def test_there_is_no_price_while_there_is_room():
    admission = EdgeAdmission(workers=2, quota=0.0)
    run(admission, [10, 10, 10], 0.01, 10)
    assert admission.load == pytest.approx(0.15, abs=0.02)
    assert admission.answers == pytest.approx(30, rel=0.1)
    assert admission.capacity == pytest.approx(200)
    assert [admission.price(cell) for cell in range(4)] == [0.0] * 4


@pytest.mark.parametrize('answers', [0, 1])
def test_what_a_message_takes_from_it_are_floats(answers):
    admission = EdgeAdmission(workers=2, quota=0.0)
    for _ in range(answers):
        admission.served(0, 0.01, SECOND)
    admission.look(0, 2 * SECOND)
    told = (admission.load, admission.answers, admission.capacity, admission.price(0))
    assert [type(value) for value in told] == [float] * 4


def test_the_price_rises_while_the_edge_is_full_and_falls_again():
    admission = EdgeAdmission(workers=1, quota=0.0)
    end = run(admission, [50, 50], 0.01, 5, backlog=3)
    full = admission.price(0)
    assert full > 0 and admission.price(1) == pytest.approx(full, rel=0.3)
    run(admission, [5, 5], 0.01, 20, start=end)
    assert admission.price(0) == admission.price(1) == 0.0


def test_a_price_of_the_time_that_the_edge_stood_still_falls_though_nobody_sends():
    admission = EdgeAdmission(workers=1, quota=0.0)
    for _ in range(4):  # a batch in whose midst it was stopped
        admission.served(0, 0.75, 10 * SECOND)
    admission.look(8, 10 * SECOND)
    assert admission.price(0) > 0.5
    for half in range(21, 31):
        admission.look(0, half * SECOND // 2)
    assert admission.price(0) == 0.0


def test_who_has_more_than_its_share_pays_more_and_waits():
    admission = EdgeAdmission(workers=1, quota=0.0)
    now = run(admission, [5, 5, 80], 0.01, 5, backlog=5)
    assert admission.price(2) > 2 * admission.price(0) > 0
    assert [admission.is_over(cell, now) for cell in range(4)] == [False, False, True, False]


def test_a_quota_takes_the_place_of_equal_shares():
    admission = EdgeAdmission(workers=1, quota=30.0)
    now = run(admission, [5, 20, 60], 0.01, 5)
    assert [admission.is_over(cell, now) for cell in range(3)] == [False, False, True]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.floats(0, 10), st.integers(0, 10 * SECOND), st.integers(0, 1000)
        ),
        max_size=40,
    ),
    st.integers(1, 8),
    st.floats(0, 100),
)
def test_whatever_happens_the_price_is_one(events, workers, quota):
    admission = EdgeAdmission(workers, quota)
    now = 0
    for cell, seconds, step, backlog in events:
        now += step
        admission.served(cell, seconds, now)
        admission.look(backlog, now)
        assert 0.0 <= admission.price(cell) <= HIGHEST_PRICE
        assert 0.0 <= admission.load <= 1.0 and admission.capacity >= 0.0


def test_what_has_less_time_left_than_an_answer_takes_is_not_begun():
    admission = EdgeAdmission(workers=2, quota=0.0)
    assert admission.needed_ns(4) == 0  # nothing is known yet
    run(admission, [10], 0.01, 2)
    assert admission.needed_ns(4) == pytest.approx(0.04 * SECOND)
    admission.served(0, 60.0, 3 * SECOND)  # the machine stood still
    assert admission.needed_ns(4) == pytest.approx(0.1 * SECOND)
    run(admission, [50], 0.01, 5, start=3 * SECOND)
    assert admission.needed_ns(1) < 0.02 * SECOND


def test_packets_are_put_off_of_the_cell_that_takes_too_long_to_decode():
    admission = EdgeAdmission(workers=2, quota=0.0, cells=3)
    now = 0
    for _ in range(300):  # three seconds: an honest cell of 1 % of a core, and a flood
        now += SECOND // 100
        admission.decoded(0, 0.0001, now)
        admission.decoded(1, 0.003, now)
    assert [admission.puts_off(cell, now) for cell in range(3)] == [False, True, False]
    assert admission.decoding(0, now) == pytest.approx(0.01, rel=0.1)
    assert admission.decoding(1, now) == pytest.approx(0.3, rel=0.1)
    assert not admission.puts_off(1, now + SECOND)  # the flood is over


def test_without_overload_nobody_is_put_off_however_unequal_they_are():
    admission = EdgeAdmission(workers=1, quota=0.0, cells=100)
    now = 0
    for _ in range(3000):
        now += SECOND // 1000
        admission.decoded(0, 0.0002, now)
        assert not admission.puts_off(0, now)


def test_where_all_have_an_equal_part_nobody_waits_however_much_it_is():
    admission = EdgeAdmission(workers=8, quota=0.0, cells=4)
    for at in range(1, 301):
        for cell in range(4):
            admission.decoded(cell, 0.002, at * SECOND // 100)
    assert not any(admission.puts_off(cell, 3 * SECOND) for cell in range(4))
    for at in range(300, 601):
        for cell in range(4):
            admission.decoded(cell, 0.005 if cell == 2 else 0.001, at * SECOND // 100)
    assert [admission.puts_off(cell, 6 * SECOND) for cell in range(4)] == [False] * 2 + [
        True,
        False,
    ]


def test_a_rate_is_forgotten():
    rate = DecayingRate(memory_s=1.0)
    rate.add(5.0, SECOND)
    assert rate.per_second(SECOND) == 5.0
    assert rate.per_second(SECOND // 2) == 5.0  # of a time before the last
    assert rate.per_second(11 * SECOND) < 0.001
