# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Drive the diverters of a cell without ROS, on mock pins and in a time of our own.

    scripts/env python examples/03_drive_diverters.py

On a Raspberry Pi, leave the line with MockFactory out and take time.monotonic_ns() for the time.
"""

from __future__ import annotations

from gpiozero import Device
from gpiozero.pins.mock import MockFactory

from stl_conveyor import CellDescription, ItemLedger, share_path, sorting_deadline
from stl_conveyor.cell.deadline import stroke_time_ns
from stl_conveyor.cell.ledger import Answer, AnswerSource, ItemKey
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.hardware.outputs.gpio import GpioDiverters, GpioLane

MS = 1_000_000


def confirmed(lane: str, serial: int | None) -> None:
    """Hear from a diverter that it is out."""
    print(f'         lane {lane} confirms stroke {serial}')


def main() -> None:
    """Let three items pass: one with both answers, one with the local one, one with none."""
    Device.pin_factory = MockFactory()
    cell = CellDescription.load(share_path('config/cell.yaml'))
    lanes = {'A': GpioLane(17), 'B': GpioLane(27), 'C': GpioLane(22)}
    diverters = GpioDiverters(lanes, DiverterEvents(confirmed, failed=print, connected=print))
    ledger = ItemLedger(guard_ns=cell.guard_ns, longest_ns=2000 * MS)
    for number in (1, 2, 3):
        captured = number * 1000 * MS
        deadline, item = sorting_deadline(captured, cell), ItemKey(number, captured)
        ledger.capture(item, deadline - captured, captured)
        if number < 3:
            at = captured + 9 * MS
            ledger.answer(item, Answer(AnswerSource.LOCAL, 'hex_nut_m8', 0.47, at), at)
        if number < 2:
            at = captured + 95 * MS
            ledger.answer(item, Answer(AnswerSource.EDGE, 'spring_washer_m8', 0.97, at), at)
        (outcome,) = ledger.decide_due(deadline - cell.guard_ns)
        class_id = outcome.answer.class_id if outcome.answer else 'no answer'
        lane = cell.lane_of(class_id)
        print(f'{outcome.decided_ns / MS:.0f} ms: item {number}, {class_id} → {lane}')
        if lane != cell.reject_lane:
            push = stroke_time_ns(captured, deadline, cell, lane)
            print(f'{push / MS:.0f} ms: push in lane {lane}')
            diverters.extend(lane, serial=number)
            diverters.retract(lane)
    diverters.close()


if __name__ == '__main__':
    main()
