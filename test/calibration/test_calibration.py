# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Calibration against simulated devices: mock pins, a PLC, and the simulator's camera."""

from __future__ import annotations

import itertools
import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import fake_video
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stl_conveyor.calibration import command
from stl_conveyor.calibration.belt import Mark, measure_belt
from stl_conveyor.calibration.camera import Board, measure_board, measure_plate
from stl_conveyor.calibration.diverter import measure_diverter, summarise
from stl_conveyor.calibration.parameter_file import (
    node_parameters,
    set_cell_values,
    set_parameters,
)
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cli.main import main
from stl_conveyor.errors import CalibrationError, ConfigError
from stl_conveyor.resources import share_path
from stl_conveyor.vision.item_detector import Travel

CELL = CellDescription.load(share_path('config/cell.yaml'))


# Belt -----------------------------------------------------------------------------------------


@given(st.floats(0.05, 2.0), st.floats(0.2, 5.0), st.integers(1, 20), st.floats(100, 5000))
def test_belt_is_measured_from_marks(speed, length, repeats, scale):
    marks = [
        Mark(round(i * length / speed * 1e9), round(i * length * scale))
        for i in range(repeats + 1)
    ]
    seen = measure_belt(marks, length)
    assert seen.speed == pytest.approx(speed, rel=1e-6) and seen.repeats == repeats
    assert seen.steps_per_metre == pytest.approx(scale, abs=1 / length)


@pytest.mark.parametrize(
    'marks, length, says',
    [
        ([Mark(0)], 1.0, 'two are needed'),
        ([Mark(0), Mark(10**9), Mark(3 * 10**9)], 1.0, 'differ too much'),
        ([Mark(0, 5), Mark(10**9, 5)], 1.0, 'encoder did not count'),
        ([Mark(0), Mark(10**9)], 0.0, 'length'),
    ],
)
def test_marks_that_tell_nothing_are_explained(marks, length, says):
    with pytest.raises(CalibrationError, match=says):
        measure_belt(marks, length)


# Camera ---------------------------------------------------------------------------------------


def rectangle(name, x, y, size, colour, z):
    return (
        f'<geom name="{name}" type="box" pos="{x} {y} {z}" size="{size[0] / 2} {size[1] / 2} '
        f'0.0002" rgba="{colour} 1" contype="0" conaffinity="0"/>'
    )


def photograph_of(geoms, tilt=0.0):
    """Render the belt of the simulated cell with something on it, as its camera sees it."""
    mujoco = pytest.importorskip('mujoco')
    from stl_conveyor.sim.camera_model import exposure_for, photograph
    from stl_conveyor.sim.scene import cell_xml

    xml = cell_xml(CELL, 1).replace('</worldbody>', geoms + '</worldbody>')
    model = mujoco.MjModel.from_xml_string(xml)
    if tilt:
        quaternion = np.zeros(4)
        mujoco.mju_axisAngle2Quat(quaternion, np.array([0.0, 1, 0]), math.radians(tilt))
        turned = np.zeros(4)
        mujoco.mju_mulQuat(turned, quaternion, model.cam('belt').quat.copy())
        model.cam('belt').quat = turned
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    try:
        renderer = mujoco.Renderer(model, CELL.camera.image_height, CELL.camera.image_width)
    except Exception as error:
        pytest.skip(f'nothing can render here: {error}')
    renderer.update_scene(data, 'belt')
    picture = photograph(renderer.render(), exposure_for(0.2, 0.0, (3,)))
    renderer.close()
    return picture


def board_geoms(columns, rows, square, x, y):
    """Return a chequerboard whose inner corners are centred at (x, y), with a white margin."""
    length, width = (columns + 1) * square, (rows + 1) * square
    geoms = rectangle('margin', x, y, (length + 2 * square, width + 2 * square), '1 1 1', 0.0003)
    for i in range(columns + 1):
        for j in range(rows + 1):
            if (i + j) % 2:
                geoms += rectangle(
                    f'square_{i}_{j}',
                    x + (i - columns / 2) * square,
                    y + (j - rows / 2) * square,
                    (square, square),
                    '0 0 0',
                    0.0008,
                )
    return geoms


BOARD = Board(7, 6, 0.008)


@pytest.fixture(scope='module')
def board_picture():
    pytest.importorskip('cv2')
    return photograph_of(board_geoms(7, 6, 0.008, 0.004, -0.006))


def test_board_under_the_simulators_camera_gives_its_scale_and_place(board_picture):
    seen = measure_board(board_picture, BOARD, Travel.UP)
    # The board lies 1 mm above the belt's surface, which is 0.4 m below the lens.
    scale = CELL.camera.pixels_per_metre * 0.4 / 0.399
    assert seen.pixels_per_metre == pytest.approx(scale, rel=0.004)
    assert seen.across == pytest.approx(scale, rel=0.004)
    assert abs(seen.rotation) < 0.3 and abs(seen.tilt) < 0.01 and seen.residual < 0.3
    assert seen.foremost == pytest.approx(0.004 + 3 * 0.008, abs=0.0005)


def test_board_looked_at_obliquely_is_noticed(board_picture):
    pytest.importorskip('cv2')
    tilt = 5.0
    x = -CELL.camera.height * math.tan(math.radians(tilt))  # what the camera looks at
    seen = measure_board(
        photograph_of(board_geoms(7, 6, 0.008, x, 0.0), tilt=tilt), BOARD, Travel.UP
    )
    assert abs(seen.tilt) > 0.01


def test_directions_of_travel_agree(board_picture):
    turned = {
        Travel.UP: board_picture,
        Travel.RIGHT: np.rot90(board_picture, -1),
        Travel.DOWN: np.rot90(board_picture, 2),
        Travel.LEFT: np.rot90(board_picture),
    }
    places = [
        measure_board(
            image,
            BOARD if image.shape == board_picture.shape else replace(BOARD, columns=6, rows=7),
            travel,
        ).foremost
        for travel, image in turned.items()
    ]
    assert places == pytest.approx([places[0]] * 4, abs=0.0003)


def test_plate_gives_the_scale_too():
    pytest.importorskip('cv2')
    seen = measure_plate(
        photograph_of(rectangle('plate', 0.01, 0.0, (0.06, 0.05), '1 1 1', 0.0003)),
        0.06,
        0.05,
        Travel.UP,
    )
    assert seen.pixels_per_metre == pytest.approx(CELL.camera.pixels_per_metre, rel=0.015)
    assert seen.foremost == pytest.approx(0.04, abs=0.001)


def test_nothing_to_measure_is_explained(board_picture):
    empty = np.full((240, 320, 3), 80, np.uint8)
    with pytest.raises(CalibrationError, match='9 x 9 inner corners'):
        measure_board(board_picture, Board(9, 9, 0.01), Travel.UP)
    with pytest.raises(CalibrationError, match='plate'):
        measure_plate(empty, 0.1, 0.1, Travel.UP)
    cut = empty.copy()
    cut[:150, 100:200] = 230
    with pytest.raises(CalibrationError, match='edge of the image'):
        measure_plate(cut, 0.1, 0.1, Travel.UP)
    crooked = empty.copy()
    crooked[60:160, 100:200] = 230
    crooked[100:160, 150:200] = 80
    with pytest.raises(CalibrationError, match='no rectangle'):
        measure_plate(crooked, 0.1, 0.1, Travel.UP)


def test_camera_command_prints_and_writes(board_picture, tmp_path, capsys):
    Image.fromarray(board_picture).save(tmp_path / 'board.png')
    arguments = [
        'calibrate',
        'camera',
        '--image',
        str(tmp_path / 'board.png'),
        '--board',
        '7x6',
        '--square',
        '0.008',
        '--to-diverter',
        'A=0.332',
        '--write',
        str(tmp_path / 'cell'),
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert 'pixels per metre along the belt' in said and 'camera.field_of_view' in said
    written = CellDescription.load(tmp_path / 'cell' / 'cell.yaml')
    assert written.camera.field_of_view == pytest.approx(0.12, rel=0.01)
    assert written.lane('A').diverter_x == pytest.approx(0.36, abs=0.001)
    assert written.lane('B') == CELL.lane('B')
    assert '# metres of belt seen' in (tmp_path / 'cell' / 'cell.yaml').read_text()
    assert main(arguments[:-4] + ['--to-diverter', 'A']) == 2
    assert main(arguments[:5] + ['7by5'] + arguments[6:]) == 2


def test_camera_that_is_not_there_is_named(monkeypatch, capsys):
    class Absent(fake_video.FakeCapture):
        there = False

    fake_video.install(monkeypatch, Absent)
    assert main(['calibrate', 'camera', '--device', '797', '--board', '7x5']) == 2
    assert 'camera 797 is not there' in capsys.readouterr().err


def test_camera_is_asked_for_what_the_parameters_say(monkeypatch, capsys, tmp_path):
    cv2 = pytest.importorskip('cv2')

    class Asked(fake_video.FakeCapture):
        asked = []

    monkeypatch.setattr(cv2, 'VideoCapture', Asked)
    (tmp_path / 'device.yaml').write_text(
        '/**/camera:\n  ros__parameters: {device: 0, device_width: 640, device_format: MJPG}\n'
    )
    arguments = ['calibrate', 'camera', '--params', str(tmp_path / 'device.yaml')]
    assert main([*arguments, '--board', '7x5']) == 2
    assert 'camera 0: 320 x 240 MJPG at 30 Hz' in capsys.readouterr().out
    assert Asked.asked[1:4] == [
        ('FOURCC', fake_video.code_of('MJPG')),
        ('FRAME_WIDTH', 640),
        ('FRAME_HEIGHT', 240),
    ]


# Pins -----------------------------------------------------------------------------------------


def test_belt_command_measures_a_mark_that_goes_round(pins, tmp_path, capsys):
    """A belt of 0.4 m per turn at 1.6 m/s with 100 steps per metre, of which each turn has 40."""
    turn, stopped = 0.25, threading.Event()

    def run():
        began, step = time.monotonic(), 1
        while not stopped.wait(max(0.0, began + step * turn / 40 - time.monotonic())):
            pins.pin(20).drive_low()
            pins.pin(20).drive_high()
            if step % 40 == 10:
                pins.pin(23).drive_low()
            elif step % 40 == 14:
                pins.pin(23).drive_high()
            step += 1

    (tmp_path / 'device.yaml').write_text(
        '/**/camera:\n  ros__parameters:\n    encoder_pins: [20, -1]\n'
        '    encoder_steps_per_metre: 7.0\n'
    )
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        code = main(
            [
                'calibrate',
                'belt',
                '--length',
                '0.4',
                '--repeats',
                '3',
                '--encoder',
                '--params',
                str(tmp_path / 'device.yaml'),
                '--timeout',
                '10',
                '--write',
                str(tmp_path),
            ]
        )
    finally:
        stopped.set()
        thread.join()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert 'mark 4 of 4' in said.out
    assert CellDescription.load(tmp_path / 'cell.yaml').belt.speed == pytest.approx(1.6, rel=0.1)
    written = yaml.safe_load((tmp_path / 'device.yaml').read_text())
    assert written['/**/camera']['ros__parameters']['encoder_steps_per_metre'] == pytest.approx(
        100, rel=0.03
    )
    assert main(['calibrate', 'belt', '--length', '0.4', '--timeout', '0.1']) == 2
    assert 'two are needed' in capsys.readouterr().err


def test_belt_command_by_hand(pins, monkeypatch, capsys):
    now_ns = itertools.count(10**9, 50_000_000)  # a press of Enter each 50 ms
    monkeypatch.setattr(command, 'time', SimpleNamespace(monotonic_ns=lambda: next(now_ns)))
    monkeypatch.setattr('builtins.input', lambda: '')
    assert main(['calibrate', 'belt', '--length', '0.02', '--repeats', '3', '--by-hand']) == 0
    said = capsys.readouterr().out
    assert 'belt: 0.4000 m/s' in said
    assert 'encoder_steps_per_metre' not in said


def follow(pins, delay):
    """Let the end switches of mock pins follow their outputs after a delay (s)."""
    for output, switch in ((17, 5), (27, 6), (22, 13)):
        pin = pins.pin(output)
        inner = pin._set_state

        def set_state(value, inner=inner, switch=pins.pin(switch)):
            inner(value)
            threading.Timer(delay, switch.drive_low if value else switch.drive_high).start()

        pin._set_state = set_state


def test_diverter_command_measures_the_delay(pins, tmp_path, capsys):
    follow(pins, 0.05)
    code = main(
        [
            'calibrate',
            'diverter',
            '--output',
            'gpio',
            '--repeats',
            '3',
            '--lane',
            'A',
            '--lane',
            'C',
            '--rest',
            '0.1',
            '--past-centre',
            '0.01',
            '--params',
            str(quick_strokes(tmp_path)),
            '--write',
            str(tmp_path),
        ]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert 'lane A: ...' in said.out and 'lane C: ...' in said.out and '0 of 3 silent' in said.out
    assert CellDescription.load(tmp_path / 'cell.yaml').diverter.lead_time == pytest.approx(
        0.04, abs=0.02
    )
    written = yaml.safe_load((tmp_path / 'device.yaml').read_text())
    assert 0.15 <= written['/**/actuator']['ros__parameters']['confirm_timeout'] <= 0.3
    assert not pins.pin(17).state


def quick_strokes(folder):
    path = folder / 'device.yaml'
    path.write_text(
        '/**/actuator:\n  ros__parameters:\n    stroke_time: 0.05  # quick\n'
        '    gpio_bounce_time: 0.0\n    confirm_timeout: 9.0\n'
    )
    return path


def test_silent_diverter_is_explained(pins, tmp_path, capsys):
    assert (
        main(
            [
                'calibrate',
                'diverter',
                '--output',
                'gpio',
                '--repeats',
                '2',
                '--lane',
                'B',
                '--rest',
                '0',
                '--timeout',
                '0.05',
                '--params',
                str(quick_strokes(tmp_path)),
            ]
        )
        == 2
    )
    assert 'none of 2 strokes was confirmed' in capsys.readouterr().err
    assert main(['calibrate', 'diverter', '--output', 'gpio', '--lane', 'Z']) == 2
    assert main(['calibrate', 'diverter', '--lane', 'A']) == 2
    assert 'confirm_delay' in capsys.readouterr().err


def test_diverter_behind_a_plc_is_measured():
    pytest.importorskip('pymodbus.simulator')
    from modbus_plc import Plc

    from stl_conveyor.hardware.outputs.modbus import ModbusDiverters, ModbusLane

    plc = Plc()
    try:
        seen = measure_diverter(
            'A',
            lambda events: ModbusDiverters(
                {'A': ModbusLane(0, 0)}, events, host='127.0.0.1', port=plc.port
            ),
            repeats=3,
            hold=0.02,
            rest=0.05,
        )
    finally:
        plc.stop()
    assert seen.silent == 0 and 0 < seen.median <= seen.p99 == seen.largest < 0.5


def test_statistics_of_delays():
    seen = summarise([0.1] * 98 + [0.2, 0.3], 101)
    assert (seen.median, seen.p99, seen.largest, seen.silent) == (0.1, 0.3, 0.3, 1)


# Files ----------------------------------------------------------------------------------------


def test_values_change_and_comments_stay(tmp_path):
    path = tmp_path / 'cell.yaml'
    set_cell_values(
        path, {'belt.speed': 0.3123, 'lanes.B.diverter_x': 0.61, 'diverter.lead_time': 0.1}
    )
    cell = CellDescription.load(path)
    assert (cell.belt.speed, cell.lane('B').diverter_x, cell.diverter.lead_time) == (
        0.3123,
        0.61,
        0.1,
    )
    before = share_path('config/cell.yaml').read_text().splitlines()
    after = path.read_text().splitlines()
    assert sum(a != b for a, b in zip(before, after)) == 3 and len(before) == len(after)
    with pytest.raises(ConfigError, match='no line for belt.colour'):
        set_cell_values(path, {'belt.colour': 1.0})
    with pytest.raises(ConfigError, match='is not changed'):
        set_cell_values(path, {'lanes.A.diverter_x': -1.0})
    assert CellDescription.load(path) == cell


def test_shared_value_gets_a_line_in_a_description_of_before(tmp_path):
    path = tmp_path / 'cell.yaml'
    old = yaml.safe_load(share_path('config/cell.yaml').read_text())
    for key in ('guard', 'edge'):
        del old[key]
    del old['belt']['speed_tolerance']
    path.write_text(yaml.safe_dump(old))
    values = {
        'guard': 0.06,
        'belt.speed_tolerance': 0.1,
        'edge.timeout': 2.5,
        'edge.overhead_bytes': 80,
    }
    for _ in range(2):  # the second time there are lines
        set_cell_values(path, values)
        cell = CellDescription.load(path)
        assert {key: cell.shared(key) for key in values} == values
        values = {key: 2 * value for key, value in values.items()}
    assert cell.belt.speed == CELL.belt.speed and cell.edge.overhead_bytes == 160


def test_parameters_of_the_right_node_change(tmp_path):
    path = tmp_path / 'device.yaml'
    set_parameters(path, 'actuator', {'confirm_timeout': 0.25, 'niceness': -3})
    assert node_parameters('actuator', path)['confirm_timeout'] == 0.25
    assert node_parameters('actuator', path)['niceness'] == -3
    assert node_parameters('camera', path) == node_parameters('camera', None)
    with pytest.raises(ConfigError, match='no line for hope'):
        set_parameters(path, 'actuator', {'hope': 1})
    path.write_text('/cell_1/actuator:\n  ros__parameters:\n    guard: 0.04\n    output: gpio\n')
    assert node_parameters('actuator', path)['output'] == 'gpio'
    assert 'guard' not in node_parameters('actuator', path)
    path.write_text('/cell_1/actuator:\n  ros__parameters:\n    gaurd: 1.0\n')
    with pytest.raises(ConfigError, match="'gaurd'"):
        node_parameters('actuator', path)
    with pytest.raises(ConfigError, match='no section for camera'):
        set_parameters(path, 'camera', {'rate': 1.0})
