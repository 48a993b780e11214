# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters behind a PLC: pymodbus's own server that works, dies, comes back and is slow."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('pymodbus')
pytest.importorskip('pymodbus.simulator', reason='this pymodbus has another server')

from modbus_plc import Plc  # noqa: E402

from stl_conveyor.errors import HardwareError, MissingDependency  # noqa: E402
from stl_conveyor.hardware.diverter import DiverterEvents  # noqa: E402
from stl_conveyor.hardware.outputs.modbus import ModbusDiverters, ModbusLane, register_value  # noqa: E402

COILS = {'A': ModbusLane(0, 0), 'B': ModbusLane(1, 1), 'C': ModbusLane(2, -1)}
REGISTERS = {'A': ModbusLane(4, 36, True), 'B': ModbusLane(5, 37, True)}


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


@pytest.fixture
def plc():
    plc = Plc()
    yield plc
    plc.stop()


def connect(plc, reports, lanes=COILS, **changes):
    diverters = ModbusDiverters(
        lanes,
        reports.events,
        host='127.0.0.1',
        port=plc.port,
        **{'timeout': 0.2, 'confirm_time': 0.3, 'idle_period': 0.1, **changes},
    )
    reports.wait(lambda e: e == ('connected', None))
    return diverters


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
    assert not plc.coils[0] and plc.coils[2]
    diverters.close()
    assert not any(plc.coils)
    assert plc.writes[3:6] == [(0, True), (0, False), (2, True)]


def test_register_carries_the_number_and_the_plc_answers_with_it(plc):
    reports = Reports()
    diverters = connect(plc, reports, REGISTERS)
    for serial, lane in ((65536, 'A'), (65537, 'B'), (65538, 'A')):
        diverters.extend(lane, serial)
        reports.wait(lambda e: e == ('confirmed', lane, serial))
        diverters.retract(lane)
    assert plc.writes == [(4, 1), (5, 2), (4, 3)]
    diverters.close()


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
    with pytest.raises(HardwareError, match='does not answer|unreachable'):
        diverters.extend('A', 1)
    reports.seen.clear()
    again = Plc(port)
    try:
        reports.wait(lambda e: e == ('connected', None))
        diverters.extend('A', 2)
        reports.wait(lambda e: e == ('confirmed', 'A', 2))
    finally:
        diverters.close()
        again.stop()


def test_slow_plc_fails_the_command_and_drops_what_comes_too_late(plc):
    reports = Reports()
    diverters = connect(plc, reports, useful_time=0.1, idle_period=10.0)
    plc.delay = 0.4
    diverters.extend('A', 1)
    diverters.extend('B', 2)
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', 1))
    assert 'does not answer' in failed[3]
    failed = reports.wait(lambda e: e[:3] == ('failed', 'B', 2))
    assert 'too slow' in failed[3] and (1, True) not in plc.writes
    plc.delay = 0.0
    diverters.close()


def test_refused_address_is_named(plc):
    reports = Reports()
    diverters = ModbusDiverters(
        {'A': ModbusLane(5000, 0)}, reports.events, host='127.0.0.1', port=plc.port
    )
    reports.wait(lambda e: e[0] == 'connected' and 'refuses coil 5000' in e[1])
    with pytest.raises(HardwareError, match='refuses coil 5000'):
        diverters.extend('A', 1)
    diverters.close()


def test_coils_that_were_left_set_are_cleared(plc):
    plc.coils[0] = True
    reports = Reports()
    connect(plc, reports).close()
    assert (0, False) in plc.writes and not plc.coils[0]


def test_switch_that_says_out_unasked_is_reported_once(plc):
    reports = Reports()
    diverters = connect(plc, reports, idle_period=0.02)
    diverters._back_since['A'] -= 10
    plc.stuck = {0}
    failed = reports.wait(lambda e: e[:3] == ('failed', 'A', None))
    assert 'input 0' in failed[3] and 'stuck' in failed[3]
    diverters.close()
    assert len([e for e in reports.seen if e[0] == 'failed']) == 1


@given(st.integers(1, 10**9))
def test_number_fits_the_register_and_is_never_zero(serial):
    assert 1 <= register_value(serial) <= 65535
    assert register_value(serial) != register_value(serial + 1)


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pymodbus.client', None)
    with pytest.raises(MissingDependency, match='pymodbus'):
        ModbusDiverters(COILS, Reports().events, host='127.0.0.1')
