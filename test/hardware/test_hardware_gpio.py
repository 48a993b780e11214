# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters, light barrier and belt encoder on the mock pins of gpiozero."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip('gpiozero')


from stl_conveyor.errors import HardwareError, MissingDependency  # noqa: E402
from stl_conveyor.hardware.diverter import DiverterEvents  # noqa: E402
from stl_conveyor.hardware.inputs import GpioBeltEncoder, GpioBreakBeam  # noqa: E402
from stl_conveyor.hardware.outputs.gpio import GpioDiverters, GpioLane  # noqa: E402
from stl_conveyor.hardware.pins import NO_PIN  # noqa: E402


class Reports:
    """What a driver reported."""

    def __init__(self):
        self.confirmed, self.failed, self.connected = [], [], []
        self.events = DiverterEvents(
            lambda *a: self.confirmed.append(a),
            lambda *a: self.failed.append(a),
            self.connected.append,
        )


def test_stroke_is_confirmed_by_the_end_switch_and_not_before(pins):
    reports = Reports()
    diverters = GpioDiverters({'A': GpioLane(17, 5), 'B': GpioLane(27)}, reports.events)
    output, switch = pins.pin(17), pins.pin(5)
    assert not output.state and diverters.is_out('A') is False
    diverters.extend('A', 1)
    assert output.state and reports.confirmed == []
    switch.drive_low()  # a switch to ground
    assert reports.confirmed == [('A', None)] and diverters.is_out('A')
    diverters.retract('A')
    switch.drive_high()
    assert not output.state and diverters.is_out('A') is False
    diverters.extend('A', 2)
    diverters.close()
    assert not pins.pin(17).state
    assert not reports.failed


def test_without_end_switch_the_output_is_read_back(pins, monkeypatch):
    reports = Reports()
    diverters = GpioDiverters({'B': GpioLane(27)}, reports.events)
    diverters.extend('B', 4)
    assert reports.confirmed == [('B', 4)] and diverters.is_out('B') is None
    diverters.retract('B')
    monkeypatch.setattr(type(diverters._outputs['B']), 'value', property(lambda self: 0))
    with pytest.raises(HardwareError, match='GPIO 27.*reads back'):
        diverters.extend('B', 5)


@pytest.mark.parametrize('broken', ['A', 'B', 'C'])
def test_one_output_that_fails_keeps_no_other_out(pins, monkeypatch, broken):
    reports = Reports()
    numbers = {'A': 17, 'B': 27, 'C': 22}
    diverters = GpioDiverters({k: GpioLane(n, n - 12) for k, n in numbers.items()}, reports.events)
    for serial, lane in enumerate(numbers, 1):
        diverters.extend(lane, serial)
    devices = [*diverters._outputs.values(), *diverters._feedback.values()]

    def fail():
        raise OSError('the line is gone')

    with monkeypatch.context() as patch:
        patch.setattr(diverters._outputs[broken], 'off', fail)
        with pytest.raises(HardwareError, match=f'GPIO {numbers[broken]} .*lane {broken} stays'):
            diverters.close()
    for lane, number in numbers.items():
        assert lane == broken or not pins.pin(number).state
    assert all(device.closed for device in devices)
    diverters.close()  # there is nothing left to do


def test_retraction_that_fails_names_the_pin(pins, monkeypatch):
    diverters = GpioDiverters({'A': GpioLane(17)}, Reports().events)

    def fail():
        raise OSError('the line is gone')

    with monkeypatch.context() as patch:
        patch.setattr(diverters._outputs['A'], 'off', fail)
        with pytest.raises(HardwareError, match='GPIO 17 .*the line is gone.*cut its supply'):
            diverters.retract('A')


def test_switch_that_is_active_already_confirms_a_prolonged_stroke(pins):
    reports = Reports()
    diverters = GpioDiverters({'A': GpioLane(17, 5)}, reports.events)
    diverters.extend('A', 1)
    pins.pin(5).drive_low()
    diverters.extend('A', 2)
    assert reports.confirmed == [('A', None), ('A', 2)]


def test_low_active_output_is_off_from_the_start(pins):
    diverters = GpioDiverters({'A': GpioLane(17)}, Reports().events, active_high=False)
    assert pins.pin(17).state
    diverters.extend('A', 1)
    assert not pins.pin(17).state


def test_pin_in_use_is_named(pins):
    first = GpioDiverters({'A': GpioLane(17)}, Reports().events)
    with pytest.raises(HardwareError, match='GPIO 17 cannot be opened'):
        GpioDiverters({'A': GpioLane(22), 'B': GpioLane(17)}, Reports().events)
    first.close()
    GpioDiverters({'A': GpioLane(22), 'B': GpioLane(17)}, Reports().events)


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gpiozero', None)
    with pytest.raises(MissingDependency, match='apt install python3-gpiozero'):
        GpioDiverters({'A': GpioLane(17)}, Reports().events)


@pytest.mark.parametrize('broken_high', [False, True])
def test_beam_tells_when_it_is_broken_and_free_again(pins, broken_high):
    now, changes = [100], []
    pin = pins.pin(23)
    beam = GpioBreakBeam(23, lambda *a: changes.append(a), lambda: now[0], broken_high=broken_high)
    breaks, frees = (
        (pin.drive_high, pin.drive_low) if broken_high else (pin.drive_low, pin.drive_high)
    )
    now[0] = 1000
    breaks()
    assert beam.is_broken and changes == [(True, 1000)]
    now[0] = 1200
    frees()
    assert not beam.is_broken and changes == [(True, 1000), (False, 1200)]
    beam.close()


def turn(pins, a, b, forwards):
    """Turn a quadrature encoder by one cycle."""
    first, second = (a, b) if forwards else (b, a)
    for pin, low in ((first, True), (second, True), (first, False), (second, False)):
        (pins.pin(pin).drive_low if low else pins.pin(pin).drive_high)()


def test_encoder_counts_both_ways(pins):
    now, steps = [0], []
    encoder = GpioBeltEncoder(20, 21, lambda *a: steps.append(a), lambda: now[0])
    for index in range(5):
        now[0] = index
        turn(pins, 20, 21, True)
    for _ in range(2):
        turn(pins, 20, 21, False)
    assert encoder.count == 3
    assert steps[:3] == [(1, 0), (2, 1), (3, 2)] and steps[-1][0] == 3
    encoder.close()


def test_single_channel_counts_edges(pins):
    steps = []
    encoder = GpioBeltEncoder(20, NO_PIN, lambda *a: steps.append(a), lambda: 7)
    for _ in range(3):
        pins.pin(20).drive_low()
        pins.pin(20).drive_high()
    assert encoder.count == 3 and steps == [(1, 7), (2, 7), (3, 7)]
