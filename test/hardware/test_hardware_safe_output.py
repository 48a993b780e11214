# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A pin and a register change while the line may run; when nobody tells, they stand."""

from __future__ import annotations

import pytest

from stl_conveyor.hardware.modbus_connection import ModbusConnection
from stl_conveyor.hardware.safe_output import (
    SafeOutputSettings,
    SafePin,
    SafeRegister,
    open_safe_outputs,
)


@pytest.fixture
def pin(monkeypatch):
    gpiozero = pytest.importorskip('gpiozero')
    from gpiozero.pins.mock import MockFactory

    factory = MockFactory()
    monkeypatch.setattr(gpiozero.Device, 'pin_factory', factory)
    return factory.pin(17)


def told(output, pin, words):
    levels = []
    for safe in words:
        output.tell(safe)
        levels.append(bool(pin.state))
    return levels


def test_a_pin_pulses_while_the_line_may_run(pin):
    output = SafePin(17, pulses=True)
    words = [True, True, True, False, False, True]
    assert told(output, pin, words) == [True, False, True, False, False, True]
    output.close()
    assert not pin.state


def test_a_pin_is_high_while_the_line_may_run(pin):
    output = SafePin(17, pulses=False)
    assert told(output, pin, [True, True, False, True]) == [True, True, False, True]
    output.close()
    assert not pin.state


@pytest.fixture
def plc():
    pytest.importorskip('pymodbus')
    from modbus_plc import Plc

    plc = Plc(registers={40: 9})
    yield plc
    plc.stop()


def written(plc, predicate):
    """Wait until the numbers that were written to register 40 fulfil a predicate."""

    def numbers():
        return [number for place, number in plc.strokes if place == 40]

    with plc.changed:
        assert plc.changed.wait_for(lambda: predicate(numbers()), 20), numbers()
    return numbers()


def test_a_register_changes_while_the_line_may_run_and_is_0_else(plc):
    output = SafeRegister(ModbusConnection('127.0.0.1', plc.port, 1), 40)
    try:
        written(plc, lambda numbers: numbers == [0])  # whatever it was before
        seen = []
        while len(seen) < 4:
            output.tell(True)
            seen = written(plc, lambda numbers: len(numbers) > len(seen))
        assert 0 not in seen[1:] and len(set(seen)) == len(seen)
        output.tell(False)
        written(plc, lambda numbers: numbers[-1] == 0)
        output.tell(True)
        written(plc, lambda numbers: numbers[-1] != 0)
        # And nobody tells any more: the node hangs.
        written(plc, lambda numbers: numbers[-1] == 0)
    finally:
        output.close()
    assert plc.registers[40] == 0 and not output.trouble


def test_a_plc_that_is_gone_is_named_and_found_again(plc):
    output = SafeRegister(ModbusConnection('127.0.0.1', plc.port, 1), 40)
    try:
        written(plc, lambda numbers: numbers == [0])
        plc.refuse = lambda code: 2
        assert_soon(lambda: 'ILLEGAL DATA ADDRESS' in output.trouble, output)
        plc.refuse = lambda code: None
        assert_soon(lambda: not output.trouble, output)
    finally:
        output.close()


def assert_soon(predicate, output):
    import threading

    for _ in range(400):
        if predicate():
            return
        output.tell(True)
        threading.Event().wait(0.05)
    raise AssertionError(output.trouble)


def test_none_is_opened_that_nobody_named():
    assert open_safe_outputs(SafeOutputSettings()) == []
