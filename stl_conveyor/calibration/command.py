# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor calibrate`: measure belt, camera and diverters of a real cell.

Each prints the lines to paste into the parameter file and the cell description; with `--write
FOLDER` it puts them into FOLDER/device.yaml and FOLDER/cell.yaml, which start as the shipped ones.
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stl_conveyor.calibration.belt import Mark, measure_belt
from stl_conveyor.calibration.camera import Board, CameraMeasurement, measure_board, measure_plate
from stl_conveyor.calibration.diverter import DelayMeasurement, measure_diverter
from stl_conveyor.calibration.parameter_file import (
    node_parameters,
    parameter_lines,
    set_cell_values,
    set_parameters,
)
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.light_barrier import LightBarrier
from stl_conveyor.errors import CalibrationError, ConfigError
from stl_conveyor.hardware.inputs import GpioBeltEncoder, GpioBreakBeam
from stl_conveyor.hardware.output import DirectOutput, Output, Site
from stl_conveyor.hardware.outputs import OUTPUTS
from stl_conveyor.resources import share_path
from stl_conveyor.vision.image import read_image
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.opencv import import_cv2

# What can be opened without a node.
_OUTPUTS = tuple(
    name
    for name, output in OUTPUTS.items()
    if isinstance(output, DirectOutput) and not output.needs_graph
)


def add_calibrate(commands: Any) -> None:
    """Add the command to the subparsers of `stl-conveyor`."""
    calibrate = commands.add_parser(
        'calibrate',
        help='measure belt, camera or diverters of a real cell',
        description='Stop the nodes of the device first: a pin can be used once at a time.',
    )
    kinds = calibrate.add_subparsers(dest='kind', required=True, metavar='WHAT')
    for name, run, summary, add in (
        ('belt', calibrate_belt, 'speed, and steps of the belt encoder per metre', _add_belt),
        ('camera', calibrate_camera, 'scale, and distance to the diverters', _add_camera),
        ('diverter', calibrate_diverter, 'delay from command to motion', _add_diverter),
    ):
        parser = kinds.add_parser(name, help=summary, description=run.__doc__)
        parser.set_defaults(run=run)
        parser.add_argument(
            '--params',
            type=Path,
            metavar='FILE',
            help='parameter file of the device (default: the shipped one)',
        )
        parser.add_argument(
            '--cell', type=Path, metavar='FILE', help='cell description (default: the shipped one)'
        )
        parser.add_argument(
            '--write',
            type=Path,
            metavar='FOLDER',
            help='write the results into device.yaml and cell.yaml there',
        )
        add(parser)


def _add_belt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--length',
        type=float,
        required=True,
        metavar='METRES',
        help='way of the belt between two marks: its whole length, if one mark goes round',
    )
    parser.add_argument('--repeats', type=int, default=5, help='times that the mark comes again')
    parser.add_argument(
        '--by-hand',
        action='store_true',
        help='press Enter whenever the belt has moved on by that length, instead '
        'of the light barrier',
    )
    parser.add_argument(
        '--encoder',
        action='store_true',
        help='count the belt encoder, too (default: if the parameters say so)',
    )
    parser.add_argument('--timeout', type=float, default=120.0, help='seconds for all marks')


def _add_camera(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--image', type=Path, help='a picture that was taken by the camera')
    source.add_argument('--device', help='camera (default: that of the parameters)')
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        '--board', metavar='COLUMNSxROWS', help='inner corners of a chequerboard, such as 7x5'
    )
    target.add_argument(
        '--plate',
        metavar='LENGTHxWIDTH',
        help='metres of a rectangular plate, along and across the belt',
    )
    parser.add_argument(
        '--square',
        type=float,
        default=0.01,
        metavar='METRES',
        help='side of a square of the board',
    )
    parser.add_argument(
        '--to-diverter',
        action='append',
        default=[],
        metavar='LANE=METRES',
        help='measured along the belt from the foremost inner corners (the far '
        'edge of a plate) to the middle of the diverter; may be repeated',
    )
    parser.add_argument(
        '--travel',
        choices=[item.name.lower() for item in Travel],
        help='where the belt carries things in the image',
    )


def _add_diverter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--lane', action='append', default=[], help='default: every lane in turn')
    parser.add_argument('--output', choices=_OUTPUTS, help='default: that of the parameters')
    parser.add_argument('--repeats', type=int, default=20)
    parser.add_argument('--rest', type=float, default=0.4, help='seconds between strokes')
    parser.add_argument(
        '--timeout', type=float, default=1.0, help='seconds after which a stroke counts as silent'
    )
    parser.add_argument(
        '--past-centre',
        type=float,
        default=0.0,
        metavar='SECONDS',
        help="time from the paddle reaching the belt's middle until the end switch acts",
    )


def calibrate_belt(options: argparse.Namespace) -> None:
    """Measure the speed of the belt and the scale of the belt encoder from a mark that passes."""
    parameters = node_parameters('camera', options.params)
    cell = _cell(options)
    use_encoder = options.encoder or parameters['belt_speed_source'] == 'encoder'
    marks = (_marks_by_hand if options.by_hand else _marks_in_beam)(
        options, parameters, cell, use_encoder
    )
    result = measure_belt(marks, options.length)
    print(
        f'belt: {result.speed:.4f} m/s (deviation {result.speed_deviation:.4f}) over '
        f'{result.repeats} x {options.length} m; the description says {cell.belt.speed}'
    )
    changes: dict[str, Any] = {}
    if result.steps_per_metre is not None:
        changes['encoder_steps_per_metre'] = round(result.steps_per_metre, 2)
        print(
            f'belt encoder: {result.steps_per_metre:.2f} steps per metre (deviation '
            f'{result.steps_deviation:.2f})'
        )
    _finish(options, {'belt.speed': round(result.speed, 4)}, {'camera': changes})


def calibrate_camera(options: argparse.Namespace) -> None:
    """Measure the scale of the camera, and from it and a tape measure the diverters' places."""
    parameters = node_parameters('camera', options.params)
    cell = _cell(options)
    travel = Travel[(options.travel or parameters['travel']).upper()]
    image = _picture(options, parameters)
    if options.board:
        columns, rows = _pair(options.board, 'board', int)
        seen = measure_board(image, Board(columns, rows, options.square), travel)
    else:
        length, width = _pair(options.plate, 'plate', float)
        seen = measure_plate(image, length, width, travel)
    _print_camera(seen, cell)
    height, width = image.shape[:2]
    changes: dict[str, float] = {
        'camera.image_width': width,
        'camera.image_height': height,
        'camera.field_of_view': round(height / seen.pixels_per_metre, 5),
    }
    for text in options.to_diverter:
        lane, _, metres = text.partition('=')
        try:
            way = float(metres)
        except ValueError:
            raise ConfigError(f'--to-diverter {text}: give LANE=METRES') from None
        x = cell.camera.x + seen.foremost + way
        print(
            f'diverter {cell.lane(lane).name}: x = {x:.4f} m, {seen.foremost:.4f} m from the '
            f'middle of the image to the board and {way} m on'
        )
        changes[f'lanes.{lane}.diverter_x'] = round(x, 4)
    _finish(options, changes, {})


def calibrate_diverter(options: argparse.Namespace) -> None:
    """Measure the delay of the diverters from command to confirmed motion; the belt is clear."""
    parameters = node_parameters('actuator', options.params)
    cell = _cell(options)
    lanes = tuple(lane.name for lane in cell.lanes)
    output = _output_to_open(options.output or parameters['output'])
    settings = output.read(parameters)
    output.verify(settings, lanes)
    results: dict[str, DelayMeasurement] = {}
    for lane in options.lane or lanes:
        cell.lane(lane)
        print(f'lane {lane}: ', end='', flush=True)
        results[lane] = measure_diverter(
            lane,
            lambda events: output.open(
                settings, Site(lanes, events, options.timeout, options.timeout)
            ),
            repeats=options.repeats,
            hold=float(parameters['stroke_time']),
            rest=options.rest,
            timeout=options.timeout,
            progress=lambda _, delay: print('-' if delay is None else '.', end='', flush=True),
        )
        seen = results[lane]
        print(
            f' median {1000 * seen.median:.1f} ms, p99 {1000 * seen.p99:.1f} ms, '
            f'{1000 * seen.smallest:.1f} to {1000 * seen.largest:.1f} ms, '
            f'{seen.silent} of {seen.repeats} silent'
        )
    spread = max(seen.largest for seen in results.values()) - min(
        seen.smallest for seen in results.values()
    )
    lead = sum(seen.median for seen in results.values()) / len(results) - options.past_centre
    if lead < 0:
        raise CalibrationError(
            f'--past-centre {options.past_centre} s is longer than the whole stroke'
        )
    miss = 1000 * spread * cell.belt.speed
    print(
        f'all lanes: {1000 * spread:.1f} ms between the fastest and the slowest stroke; at '
        f'{cell.belt.speed} m/s that is {miss:.1f} mm of belt, the paddle is '
        f'{1000 * cell.diverter.paddle_width:.0f} mm long'
    )
    slowest = max(seen.p99 for seen in results.values())
    _finish(
        options,
        {'diverter.lead_time': round(lead, 4)},
        {'actuator': {'confirm_timeout': math.ceil(20 * (2 * slowest + 0.05)) / 20}},
    )


def _output_to_open(name: str) -> DirectOutput[Any]:
    output: Output[Any] | None = OUTPUTS.get(name)
    if not isinstance(output, DirectOutput) or name not in _OUTPUTS:
        raise ConfigError(
            f'output {name!r} is driven elsewhere: choose {" or ".join(_OUTPUTS)}. Where a '
            'controller or a driver moves the diverters, the actuator measures them: see '
            'confirm_delay in its diagnostics'
        )
    return output


def _cell(options: argparse.Namespace) -> CellDescription:
    written = options.write / 'cell.yaml' if options.write else None
    if options.cell is None and written is not None and written.exists():
        return CellDescription.load(written)
    return CellDescription.load(options.cell or share_path('config/cell.yaml'))


def _finish(
    options: argparse.Namespace,
    cell: Mapping[str, float],
    parameters: Mapping[str, Mapping[str, Any]],
) -> None:
    print('\nCell description:')
    for key, value in cell.items():
        print(f'  {key}: {value:.6g}')
    for node, values in parameters.items():
        if values:
            print(f'Parameter file:\n{parameter_lines(node, values)}', end='')
    if options.write is None:
        return
    options.write.mkdir(parents=True, exist_ok=True)
    set_cell_values(options.write / 'cell.yaml', cell)
    print(f'written: {options.write / "cell.yaml"}')
    for node, values in parameters.items():
        if values:
            set_parameters(options.write / 'device.yaml', node, values)
            print(f'written: {options.write / "device.yaml"}')


class _Marks:
    """Marks that are seen, until there are enough."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._changed = threading.Condition()
        self.seen: list[Mark] = []

    def add(self, mark: Mark) -> None:
        """Take in a mark."""
        with self._changed:
            if len(self.seen) < self._wanted:
                self.seen.append(mark)
                print(f'mark {len(self.seen)} of {self._wanted}', flush=True)
                self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Return whether there are enough, by then."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.seen) >= self._wanted, timeout)


def _belt_encoder(parameters: Mapping[str, Any]) -> GpioBeltEncoder:
    pin_a, pin_b = parameters['encoder_pins']
    return GpioBeltEncoder(pin_a, pin_b, lambda count, time_ns: None, time.monotonic_ns)


def _marks_in_beam(
    options: argparse.Namespace,
    parameters: Mapping[str, Any],
    cell: CellDescription,
    use_encoder: bool,
) -> Sequence[Mark]:
    encoder = _belt_encoder(parameters) if use_encoder else None
    marks = _Marks(options.repeats + 1)
    barrier = LightBarrier(cell.belt.speed)
    lock = threading.Lock()
    counts: list[int] = []  # at the edges of the mark that is passing

    def look(time_ns: int, broken: bool) -> None:
        middle = barrier.update(time_ns / 1e9, broken)
        if middle is not None:
            marks.add(
                Mark(round(middle * 1e9), round((counts[0] + counts[-1]) / 2) if counts else None)
            )
            counts.clear()

    def change(broken: bool, time_ns: int) -> None:
        with lock:
            if broken:
                look(time_ns, False)  # the light before it may have ended a mark
            look(time_ns, True)
            if encoder is not None:
                counts.append(encoder.count)

    beam = GpioBreakBeam(
        parameters['beam_pin'],
        change,
        time.monotonic_ns,
        broken_high=parameters['beam_broken_high'],
    )
    print(f'waiting for a mark at the light barrier (GPIO {parameters["beam_pin"]}) ...')
    end = time.monotonic() + options.timeout
    try:
        while not marks.wait(0.02) and time.monotonic() < end:
            with lock:
                if not beam.is_broken:
                    look(time.monotonic_ns(), False)
    finally:
        beam.close()
        if encoder is not None:
            encoder.close()
    return marks.seen


def _marks_by_hand(
    options: argparse.Namespace,
    parameters: Mapping[str, Any],
    cell: CellDescription,
    use_encoder: bool,
) -> Sequence[Mark]:
    encoder = _belt_encoder(parameters) if use_encoder else None
    marks = _Marks(options.repeats + 1)
    print(f'press Enter at the first mark, and each time the belt has moved {options.length} m')
    try:
        for _ in range(options.repeats + 1):
            input()
            marks.add(Mark(time.monotonic_ns(), None if encoder is None else encoder.count))
    except EOFError:
        pass
    finally:
        if encoder is not None:
            encoder.close()
    return marks.seen


def _picture(options: argparse.Namespace, parameters: Mapping[str, Any]) -> Any:
    if options.image:
        return read_image(options.image)
    cv2 = import_cv2()
    device = options.device or parameters['device']
    capture = cv2.VideoCapture(int(device) if device.isdigit() else device)
    try:
        frame: Any = None
        for _ in range(10):  # the first ones are taken before exposure has settled
            good, frame = capture.read()
            if not good:
                raise CalibrationError(
                    f'camera {device} delivers no frame; check that it is plugged in and that no '
                    'other program holds it, or give a picture with --image'
                )
        return frame[:, :, ::-1]
    finally:
        capture.release()


def _print_camera(seen: CameraMeasurement, cell: CellDescription) -> None:
    print(
        f'scale: {seen.pixels_per_metre:.1f} pixels per metre along the belt, {seen.across:.1f} '
        f'across; the description says {cell.camera.pixels_per_metre:.1f}'
    )
    print(
        f'board: turned by {seen.rotation:+.2f} degrees, scale differs by '
        f'{100 * seen.tilt:+.2f} % from end to end, corners within {seen.residual:.2f} pixels'
    )
    if abs(seen.rotation) > 2:
        print('turn the camera, or the board, so that both are square to the belt')
    if abs(seen.tilt) > 0.03 or abs(seen.pixels_per_metre / seen.across - 1) > 0.03:
        print('the camera does not look straight down: items off the middle seem displaced')


def _pair(text: str, name: str, kind: Callable[[str], Any]) -> tuple[Any, Any]:
    try:
        first, second = (kind(part) for part in text.lower().split('x'))
    except ValueError:
        raise ConfigError(f'--{name} {text}: give two numbers with an x between them') from None
    return first, second
