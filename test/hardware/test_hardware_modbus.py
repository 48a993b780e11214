# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters behind a PLC: pymodbus's own server that works, dies, comes back and is slow.

Also what may stand between: connections that are closed, cut, or few.
"""

from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('pymodbus')
pytest.importorskip('pymodbus.simulator', reason='this pymodbus has another server')

from modbus_plc import READ_INPUTS, READ_REGISTERS, READS, WRITE_REGISTER, Plc  # noqa: E402
from tcp_relay import RESET, Relay  # noqa: E402

from stl_conveyor.errors import ConfigError, MissingDependency  # noqa: E402
from stl_conveyor.hardware.diverter import DiverterEvents  # noqa: E402
from stl_conveyor.hardware.modbus_connection import LARGEST_READ, ModbusConnection, Run, contiguous  # noqa: E402
from stl_conveyor.hardware.outputs import OUTPUTS  # noqa: E402
from stl_conveyor.hardware.outputs.modbus import ModbusDiverters, ModbusLane, next_number  # noqa: E402

COILS = {'A': ModbusLane(0, 0), 'B': ModbusLane(1, 1), 'C': ModbusLane(2, -1)}
REGISTERS = {'A': ModbusLane(4, 36, True), 'B': ModbusLane(5, 37, True)}
PLACES = {'coil': COILS, 'register': REGISTERS}
LONG = 60.0  # s; a stroke that is useful for as long does not depend on the machine's load


class Reports:
    """What a driver reported, and when."""

    def __init__(self):
        self.seen = []
        self._changed = threading.Condition()

        def note(kind):
            def call(*values):
                with self._changed:
                    self.seen.append((kind, *values))
                    self._changed.notify_all()

            return call

        self.events = DiverterEvents(note('confirmed'), note('failed'), note('connected'))

    def wait(self, predicate, timeout=5.0):
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((e for e in self.seen if predicate(e)), None), timeout
            )
            assert found, f'not in {timeout} s; heard {self.seen}'
            return found

    def kinds(self):
        return {event[0] for event in self.seen}


@pytest.fixture
def plc():
    plc = Plc()
    yield plc
    plc.stop()


@pytest.fixture
def relay(plc):
    relay = Relay(plc.port)
    yield relay
    relay.close()


def connect(plc, reports, lanes=COILS, **changes):
    diverters = ModbusDiverters(
        lanes,
        reports.events,
        host='127.0.0.1',
        port=plc.port,
        **{'timeout': 1.0, 'confirm_time': LONG, 'idle_period': 0.1, **changes},
    )
    reports.wait(lambda e: e == ('connected', None))
    return diverters


def until(diverters, predicate):
    """Wait until something holds of a driver."""
    with diverters._changed:
        assert diverters._changed.wait_for(predicate, 10.0)


def both_ways(diverters):
    """Wait until a connection is there that a reading does not occupy."""
    until(diverters, lambda: diverters._lines[1].proven)


def test_coil_is_set_confirmed_by_the_end_switch_and_cleared(plc):
    reports = Reports()
    diverters = connect(plc, reports)
    began = time.monotonic()
    diverters.extend('A', 1)
    assert time.monotonic() - began < 0.01, 'the caller does not wait for the network'
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    assert plc.coils[0]
    diverters.retract('A')
    diverters.extend('C', 2)  # without an end switch: the coil is read back
    reports.wait(lambda e: e == ('confirmed', 'C', 2))
    plc.wait(lambda: not plc.coils[0])
    assert plc.coils[2]
    diverters.close()
    assert not any(plc.coils)
    assert [value for address, value in plc.writes if address == 0] == [False, True, False, False]
    assert [value for address, value in plc.writes if address == 2] == [False, True, False]


def test_push_goes_before_what_goes_back(plc):
    reports = Reports()
    diverters = connect(
        plc, reports, timeout=LONG, useful_time=LONG, idle_period=0.02, connections=1
    )
    diverters.extend('A', 1)
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    plc.answering.clear()
    plc.held.clear()
    assert plc.held.wait(5), 'the only connection is busy'
    mark = len(plc.writes)
    diverters.retract('A')
    diverters.extend('B', 2)
    plc.answering.set()
    reports.wait(lambda e: e == ('confirmed', 'B', 2))
    plc.wait(lambda: len(plc.writes) >= mark + 2)
    assert plc.writes[mark:] == [(1, True), (0, False)]
    diverters.close()


def test_register_carries_a_new_number_and_the_plc_answers_with_it(plc):
    reports = Reports()
    diverters = connect(plc, reports, REGISTERS)
    for serial, lane in ((65536, 'A'), (65537, 'B'), (65538, 'A')):
        diverters.extend(lane, serial)
        reports.wait(lambda e: e == ('confirmed', lane, serial))
        diverters.retract(lane)
    assert plc.writes == [(4, 1), (5, 1), (4, 2)]
    diverters.close()


def test_numbers_go_on_where_the_one_before_us_ended(plc):
    for run in (1, 2, 3):  # each counts its strokes from 1
        reports = Reports()
        diverters = connect(plc, reports, REGISTERS)
        diverters.extend('A', 1)
        reports.wait(lambda e: e == ('confirmed', 'A', 1))
        diverters.close()
        assert plc.strokes == [(4, number) for number in range(1, run + 1)]


@pytest.mark.parametrize(
    'held, echoed, number', [(7, 7, 8), (65535, 65535, 1), (7, 8, 9), (0, 1, 2)]
)
def test_what_the_plc_copied_before_confirms_nothing(held, echoed, number):
    plc, reports = Plc(registers={4: held, 36: echoed}), Reports()
    plc.working = False
    diverters = connect(plc, reports, REGISTERS, confirm_time=LONG)
    try:
        diverters.extend('A', 1)
        plc.wait(lambda: plc.writes)
        assert plc.strokes == [(4, number)], 'the PLC sees a change'
        mark = len(plc.asked)
        plc.wait(lambda: plc.asked[mark:].count((READ_REGISTERS, 36, 2)) >= 3)
        assert 'confirmed' not in reports.kinds()
        plc.registers[36] = number
        reports.wait(lambda e: e == ('confirmed', 'A', 1))
    finally:
        diverters.close()
        plc.stop()


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_next_number_fits_the_register_and_is_new_to_both_sides(number, echo):
    following = next_number(number, echo)
    assert 1 <= following <= 65535 and following not in (number, echo)


@given(st.sets(st.tuples(st.sampled_from(['coil', 'input', 'register']), st.integers(0, 3000))))
def test_requests_read_what_is_wanted_and_nothing_else(places):
    runs = contiguous(places)
    read = [(r.kind, r.start + index) for r in runs for index in range(r.count)]
    assert sorted(read) == sorted(places)
    assert all(run.count <= LARGEST_READ[run.kind] for run in runs)
    for run in runs:  # no two of them could be one
        joined = any(
            other.start == run.start + run.count for other in runs if other.kind == run.kind
        )
        assert not joined or run.count == LARGEST_READ[run.kind]


def test_neighbours_are_read_with_one_request(plc):
    assert contiguous([('register', 5), ('register', 4), ('register', 6)]) == (
        Run('register', 4, 3),
    )
    reports = Reports()
    lanes = {'A': ModbusLane(0, 0), 'B': ModbusLane(1, 1), 'C': ModbusLane(2, 2)}
    diverters = connect(plc, reports, lanes)
    diverters.extend('B', 1)
    reports.wait(lambda e: e == ('confirmed', 'B', 1))
    diverters.close()
    # A word of the server holds all of them.
    assert {each for each in plc.asked if each[0] == READ_INPUTS} == {(READ_INPUTS, 0, 1)}
    assert plc.asked.count((READ_INPUTS, 0, 1)) >= 2


def test_two_lanes_do_not_wait_for_each_other(plc):
    reports = Reports()
    diverters = connect(plc, reports, confirm_time=5.0)
    plc.working = False
    diverters.extend('A', 1)
    diverters.extend('C', 2)
    reports.wait(lambda e: e == ('confirmed', 'C', 2), 1.0)
    plc.working = True
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    diverters.close()


def test_diverter_that_does_not_move_is_not_confirmed(plc):
    reports = Reports()
    diverters = connect(plc, reports, confirm_time=0.1)
    plc.working = False
    diverters.extend('A', 1)
    given_up = time.monotonic() + 0.5
    while plc.reads.get(timeout=5.0) < given_up:
        pass
    plc.working = True  # too late for A
    diverters.extend('B', 2)
    reports.wait(lambda e: e == ('confirmed', 'B', 2))
    assert [e for e in reports.seen if e[0] == 'confirmed'] == [('confirmed', 'B', 2)]
    diverters.close()


def test_dead_plc_is_noticed_while_idle_and_its_return_too(plc):
    reports = Reports()
    diverters = connect(plc, reports)
    port = plc.port
    plc.stop()
    kind, reason = reports.wait(lambda e: e[0] == 'connected' and e[1])
    assert f'PLC 127.0.0.1:{port}' in reason and 'check' in reason
    diverters.extend('A', 1)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'unreachable' in failed[3] and f':{port}' in failed[3] and 'modbus_host' in failed[3]
    reports.seen.clear()
    again = Plc(port)
    try:
        reports.wait(lambda e: e == ('connected', None))
        diverters.extend('A', 2)
        reports.wait(lambda e: e == ('confirmed', 'A', 2))
    finally:
        diverters.close()
        again.stop()
    assert (0, True) in again.writes and 'failed' not in reports.kinds()


@pytest.mark.parametrize('kind', PLACES)
def test_stroke_that_failed_is_not_made_when_the_plc_is_back(plc, kind):
    reports = Reports()
    diverters = connect(plc, reports, PLACES[kind], useful_time=0.1)
    port = plc.port
    plc.stop()
    diverters.extend('A', 1)
    reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    reports.wait(lambda e: e[0] == 'connected' and e[1])
    reports.seen.clear()
    again = Plc(port)
    try:
        again.wait(lambda: any(code in READS for code, _, _ in again.asked))
        reports.wait(lambda e: e == ('connected', None))
        mark = len(again.asked)
        again.wait(lambda: len(again.asked) > mark + 3)
        assert not again.strokes and not any(value for _, value in again.writes)
    finally:
        diverters.close()
        again.stop()


@pytest.mark.parametrize('kind', PLACES)
def test_plc_that_is_back_makes_the_next_stroke_before_anything_was_read(plc, kind):
    reports = Reports()
    diverters = connect(plc, reports, PLACES[kind], idle_period=LONG, useful_time=LONG)
    diverters.extend('A', 1)
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    diverters.retract('A')
    port = plc.port
    plc.stop()
    again = Plc(port)  # its registers and coils are zero again
    try:
        diverters.extend('A', 2)
        reports.wait(lambda e: e == ('confirmed', 'A', 2), 10.0)
        assert len([value for _, value in again.writes if value]) == 1
    finally:
        diverters.close()
        again.stop()
    assert 'failed' not in reports.kinds()


@pytest.mark.parametrize('kind', PLACES)
def test_stroke_does_not_wait_for_a_reading(plc, kind):
    reports = Reports()
    diverters = connect(plc, reports, PLACES[kind], timeout=LONG, idle_period=0.02)
    both_ways(diverters)
    plc.answering.clear()
    assert plc.held.wait(5), 'a reading is under way'
    diverters.extend('A', 1)
    plc.wait(lambda: any(value for _, value in plc.writes))
    assert not plc.answering.is_set()
    plc.answering.set()
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    diverters.close()


@pytest.mark.parametrize('delay', [0.05, 0.2])
@pytest.mark.parametrize('kind', PLACES)
def test_slow_plc_makes_every_stroke(plc, kind, delay):
    reports = Reports()
    diverters = connect(
        plc, reports, PLACES[kind], timeout=0.5 + delay, useful_time=1.0, confirm_time=LONG
    )
    both_ways(diverters)
    plc.delay = delay
    for serial in range(1, 7):
        lane = 'AB'[serial % 2]
        diverters.extend(lane, serial)
        reports.wait(lambda e: e == ('confirmed', lane, serial), 10.0)
        diverters.retract(lane)
    plc.delay = 0.0
    diverters.close()
    assert reports.kinds() == {'connected', 'confirmed'}


def test_command_that_would_come_too_late_is_not_written(plc):
    reports = Reports()
    diverters = connect(plc, reports, useful_time=0.1, idle_period=LONG, connections=1)
    until(diverters, lambda: not diverters._reading)
    plc.delay = 2.0  # well over the second after which it counts as silent
    diverters.extend('A', 1)
    diverters.extend('B', 2)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'does not answer' in failed[3] and 'modbus_unit' in failed[3]
    failed = reports.wait(lambda e: e[:3] == ('failed', 'B', 2))
    assert 'too slow' in failed[3] and (1, True) not in plc.writes
    plc.delay = 0.0
    diverters.close()


def test_lateness_before_the_command_counts(plc):
    reports = Reports()
    diverters = connect(plc, reports, useful_time=LONG)
    diverters.extend('A', 1, late=LONG + 0.001)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'past the diverter' in failed[3]
    diverters.extend('B', 2, late=0.001)
    reports.wait(lambda e: e == ('confirmed', 'B', 2))
    diverters.close()
    assert (0, True) not in plc.writes


@pytest.mark.parametrize('kind', PLACES)
def test_connection_that_was_closed_before_a_stroke_costs_none(plc, relay, kind):
    reports = Reports()
    diverters = connect(relay, reports, PLACES[kind], idle_period=LONG, useful_time=LONG)
    for serial in range(1, 6):
        relay.drop()
        diverters.extend('A', serial)
        reports.wait(lambda e: e == ('confirmed', 'A', serial))
        diverters.retract('A')
    diverters.close()
    assert relay.accepted >= 6
    assert reports.seen == [('connected', None), *(('confirmed', 'A', n) for n in range(1, 6))]


@pytest.mark.parametrize('passed', [True, False])
@pytest.mark.parametrize('kind', PLACES)
def test_connection_that_is_closed_under_a_stroke_makes_it_once(plc, relay, kind, passed):
    reports = Reports()
    diverters = connect(relay, reports, PLACES[kind], idle_period=LONG, useful_time=LONG)
    cut = []

    def on_request(data):
        if data[7] not in READS and not cut:
            cut.append(data)
            if passed:
                before = len(plc.writes)
                for _, server in list(relay._pairs):
                    server.sendall(data)
                plc.wait(lambda: len(plc.writes) > before)
            relay.drop()
            return False
        return True

    relay.on_request = on_request
    diverters.extend('A', 1)
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    assert cut and 'failed' not in reports.kinds()
    assert len(plc.strokes) == (kind == 'register')
    if kind == 'coil':
        assert [write for write in plc.writes if write[0] == 0 and write[1]] and plc.coils[0]
    diverters.close()


def test_connection_that_was_cut_without_a_word_costs_no_stroke(plc, relay):
    reports = Reports()
    diverters = connect(
        relay, reports, REGISTERS, idle_period=LONG, useful_time=LONG, timeout=LONG
    )
    both_ways(diverters)
    relay.mute()
    diverters.extend('A', 1)  # there is time for a fresh connection, long before the timeout
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    assert plc.strokes == [(4, 1)]
    assert relay.ends.get(timeout=5) == RESET, 'what was sent on the old one never arrives'
    diverters.close()


@pytest.mark.parametrize('silent', [False, True])
@pytest.mark.parametrize('kind', PLACES)
def test_plc_that_takes_one_connection_is_served_with_one(plc, relay, kind, silent):
    relay.most, relay.silent_beyond = 1, silent
    reports = Reports()
    diverters = connect(relay, reports, PLACES[kind], useful_time=LONG, idle_period=0.02)
    for serial in range(1, 6):
        diverters.extend('A', serial)
        reports.wait(lambda e: e == ('confirmed', 'A', serial))
        diverters.retract('A')
    until(diverters, lambda: diverters._limit == 1)
    mark = len(plc.asked)
    plc.wait(lambda: len(plc.asked) > mark + 5)
    diverters.close()
    assert reports.seen == [('connected', None), *(('confirmed', 'A', n) for n in range(1, 6))]


def test_plc_that_hangs_up_after_every_answer_is_served(plc, relay):
    reports = Reports()
    answered = threading.Event()

    def on_request(data):
        answered.set()
        return True

    relay.on_request = on_request
    diverters = connect(relay, reports, REGISTERS, useful_time=LONG)
    for serial in range(1, 4):
        answered.clear()
        diverters.extend('B', serial)
        reports.wait(lambda e: e == ('confirmed', 'B', serial))
        assert answered.wait(5)
        relay.drop()
    assert reports.kinds() == {'connected', 'confirmed'} and len(plc.strokes) == 3
    diverters.close()


@pytest.mark.parametrize(
    'code, name, remedy',
    [
        (1, 'ILLEGAL FUNCTION', 'modbus_kind'),
        (2, 'ILLEGAL DATA ADDRESS', 'modbus_addresses'),
        (3, 'ILLEGAL DATA VALUE', 'modbus_addresses'),
        (4, 'SERVER DEVICE FAILURE', 'diagnostics'),
        (6, 'SERVER DEVICE BUSY', 'modbus_connections'),
        (8, 'MEMORY PARITY ERROR', 'memory'),
        (10, 'GATEWAY PATH UNAVAILABLE', 'modbus_unit'),
        (11, 'GATEWAY TARGET DEVICE FAILED TO RESPOND', 'baud rate'),
    ],
)
def test_exceptions_are_said_by_name_with_the_remedy_and_end(plc, code, name, remedy):
    plc.refuse = lambda function: code
    reports = Reports()
    diverters = ModbusDiverters(
        REGISTERS, reports.events, host='127.0.0.1', port=plc.port, idle_period=0.05
    )
    _, reason = reports.wait(lambda e: e[0] == 'connected' and e[1])
    assert name in reason and remedy in reason and f'127.0.0.1:{plc.port}' in reason
    diverters.extend('A', 1)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert name in failed[3] and remedy in failed[3]
    plc.refuse = lambda function: None
    reports.wait(lambda e: e == ('connected', None))
    diverters.close()
    assert plc.strokes == []


@pytest.mark.parametrize('code', [6, 10, 11])
@pytest.mark.parametrize('kind', PLACES)
def test_stroke_is_tried_again_while_the_plc_is_busy(plc, kind, code):
    reports = Reports()
    diverters = connect(plc, reports, PLACES[kind], useful_time=LONG)
    left = [3]

    def refuse(function):
        if function in READS or not left[0]:
            return None
        left[0] -= 1
        return code

    plc.refuse = refuse
    diverters.extend('A', 1)
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    assert left == [0] and reports.kinds() == {'connected', 'confirmed'}
    diverters.close()


def test_busy_plc_makes_no_stroke_too_late(plc):
    reports = Reports()
    diverters = connect(plc, reports, REGISTERS, useful_time=0.1)
    plc.refuse = lambda function: None if function in READS else 6
    diverters.extend('A', 1)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'SERVER DEVICE BUSY' in failed[3] and plc.strokes == []
    diverters.close()


def test_acknowledged_stroke_counts_when_it_is_made(plc):
    reports = Reports()
    diverters = connect(plc, reports, REGISTERS, useful_time=LONG)

    def refuse(function):
        if function != WRITE_REGISTER:
            return None
        plc.registers[36] = 1  # it takes the command, and is at work on it
        return 5

    plc.refuse = refuse
    diverters.extend('A', 1)
    reports.wait(lambda e: e == ('confirmed', 'A', 1))
    diverters.close()


def test_refused_address_is_named(plc):
    reports = Reports()
    diverters = ModbusDiverters(
        {'A': ModbusLane(5000, 0)}, reports.events, host='127.0.0.1', port=plc.port
    )
    reports.wait(lambda e: e[0] == 'connected' and e[1] and 'refuses coil 5000' in e[1])
    diverters.extend('A', 1)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'refuses coil 5000: ILLEGAL DATA ADDRESS' in failed[3]
    diverters.close()
    assert ('connected', None) not in reports.seen


def test_heart_beats_while_the_node_works_and_stops_with_it(plc):
    reports = Reports()
    works = [True]
    diverters = connect(
        plc,
        reports,
        REGISTERS,
        heartbeat=50,
        alive=lambda: time.monotonic() if works[0] else float('-inf'),
    )

    def beats():
        return [value for address, value in plc.writes if address == 50]

    plc.wait(lambda: len(beats()) >= 3)
    assert beats()[:3] == [1, 2, 3]
    works[0] = False
    mark = len(beats())
    began = len(plc.asked)
    plc.wait(lambda: len(plc.asked) > began + 20)  # what is read goes on
    assert len(beats()) <= mark + 1, 'one may have been under way'
    works[0] = True
    plc.wait(lambda: len(beats()) > mark + 2)
    diverters.close()
    assert beats()[-1] == 0, 'the PLC is told that we leave'


def test_no_register_is_written_without_a_heartbeat(plc):
    reports = Reports()
    connect(plc, reports, REGISTERS).close()
    assert plc.writes == []


def test_heartbeat_that_is_refused_is_named(plc):
    reports = Reports()
    diverters = ModbusDiverters(
        REGISTERS, reports.events, host='127.0.0.1', port=plc.port, heartbeat=5000
    )
    _, reason = reports.wait(lambda e: e[0] == 'connected' and e[1])
    assert 'refuses register 5000' in reason and 'modbus_heartbeat' in reason
    diverters.close()


@pytest.mark.parametrize(
    'settings, text',
    [
        ({'modbus_feedback': (2, 3, 4)}, 'modbus_feedback: .* modbus_addresses'),
        ({'modbus_heartbeat': 5}, 'modbus_heartbeat: register 5'),
        ({'modbus_heartbeat': 1}, 'modbus_heartbeat: register 1'),
    ],
)
def test_registers_with_two_uses_are_refused(settings, text):
    output = OUTPUTS['modbus']
    given = {'modbus_kind': 'register', 'modbus_feedback': (4, 5, 6), **settings}
    with pytest.raises(ConfigError, match=text):
        output.verify(output.read(given), 'ABC')


@pytest.mark.parametrize('version', ['3.0.0', '2.5.3', '3.5.4'])
def test_pymodbus_that_is_too_old_is_named_with_the_remedy(monkeypatch, version):
    monkeypatch.setattr('pymodbus.__version__', version)
    with pytest.raises(MissingDependency, match=f'{version} is installed .*pymodbus>=3.6'):
        ModbusConnection('127.0.0.1', 1, 1)


@pytest.mark.parametrize('version', ['3.6.9', '3.7.0dev1', '3.11.2', '4.0'])
def test_pymodbus_of_any_later_version_is_taken(monkeypatch, version):
    monkeypatch.setattr('pymodbus.__version__', version)
    assert ModbusConnection('127.0.0.1', 1, 1).peer == 'PLC 127.0.0.1:1'


def test_coils_that_were_left_set_are_cleared(plc):
    plc.coils[0] = True
    reports = Reports()
    connect(plc, reports).close()
    assert (0, False) in plc.writes and not plc.coils[0]


def test_switch_that_says_out_unasked_is_reported_once(plc):
    reports = Reports()
    diverters = connect(plc, reports, idle_period=0.02)
    assert diverters.is_out('A') is None
    plc.stuck = {0}
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', None))
    assert 'input 0' in failed[3] and 'stuck' in failed[3]
    assert diverters.is_out('A') and diverters.is_out('B') is None
    diverters.extend('A', 1)  # what is out unasked confirms nothing
    plc.wait(lambda: plc.coils[0])
    mark = len(plc.asked)
    plc.wait(lambda: len(plc.asked) > mark + 5)
    diverters.close()
    assert len([e for e in reports.seen if e[0] == 'failed']) == 1
    assert 'confirmed' not in reports.kinds()


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pymodbus.client', None)
    with pytest.raises(MissingDependency, match='pymodbus'):
        ModbusDiverters(COILS, Reports().events, host='127.0.0.1')
