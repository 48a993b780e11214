# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the line: belts, counters, accounts, pictures, the PLC, and its table."""

from __future__ import annotations

import csv
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import ConfigError, Level
from stl_conveyor.vision.item_tracker import TrackedItem
from stl_conveyor_lab.bench.line import command, rendered, table
from stl_conveyor_lab.bench.line.account import Account
from stl_conveyor_lab.bench.line.motion import Counter, Motion, Stretch, stops
from stl_conveyor_lab.bench.line.pictures import (
    BRIGHT,
    COLOUR,
    Spot,
    encode,
    middle_of_part,
    picture,
)
from stl_conveyor_lab.bench.line.rendered import FED, RenderedScene, bars, play_rendered
from stl_conveyor_lab.bench.line.scene import SCALE, Lying, Scene, train
from stl_conveyor_lab.bench.line.situation import (
    Finding,
    Row,
    Situation,
    play,
    selected,
    variations,
)

# The belt.

stretches = st.lists(
    st.builds(Stretch, st.floats(0.01, 5.0), st.sampled_from((0.0, 0.1, 0.4, -0.1))), max_size=6
)


@given(stretches, st.floats(0.0, 30.0))
def test_a_belt_moves_by_its_speed_and_without_jumps(parts, moment):
    motion = Motion(parts, 0.4)
    step = 1e-4
    moved = motion.position(moment + step) - motion.position(moment)
    fastest = max([0.4, *(abs(part.speed) for part in parts)])
    assert abs(moved) <= fastest * step + 1e-9
    if motion.speed(moment) == motion.speed(moment + step):
        assert moved == pytest.approx(motion.speed(moment) * step, abs=1e-9)


@given(stretches, st.floats(0.001, 5.0))
def test_the_belt_is_where_it_is_said_to_come_and_was_not_there_before(parts, place):
    motion = Motion(parts, 0.4)
    moment = motion.time_at(place)
    assert motion.position(moment) == pytest.approx(place, abs=1e-6)
    earlier = [motion.position(moment * share) for share in np.linspace(0.0, 0.999, 50)]
    assert max(earlier) <= place + 1e-6


def test_a_stop_lasts_as_long_as_it_is_asked():
    motion = stops(1.5, 8.0, 0.4, (0.5, 2.0))
    assert motion.position(1.5) == motion.position(9.5) == pytest.approx(0.6)
    assert [motion.speed(t) for t in (1.4, 2.0, 9.4, 9.6, 10.1, 12.1)] == [0.4, 0, 0, 0.4, 0, 0.4]


@given(
    st.floats(-20.0, 20.0),
    st.floats(0.0, 100.0),
    st.sampled_from((1.0, 4.096, 6.5536, 65.536)),
    st.booleans(),
)
def test_a_counter_starts_again_and_is_right_within_its_span(start, position, span, signed):
    shown = Counter(start, span, signed).shown(position)
    low = -span / 2 if signed else 0.0
    assert low <= shown <= low + span
    turns = (start + position - shown) / span
    assert turns == pytest.approx(round(turns), abs=1e-6)


def test_a_counter_of_steps_shows_whole_ones():
    assert Counter(0.0, 4.096, step=0.001).shown(4.09649) == pytest.approx(0.0, abs=1e-9)


# The account.


def test_a_word_counts_from_when_it_was_said_first_and_only_as_a_complaint():
    account = Account()
    account.say('cell/camera', Level.OK, 'OK', now=1.0)
    account.say('cell/camera', Level.WARN, 'Stamps are ahead', now=2.0)
    account.say('cell/camera', Level.OK, 'OK', now=3.0)
    account.say('cell/camera', Level.WARN, 'Stamps are ahead', {'late': '3'}, now=4.0)
    assert account.first_word('camera', 'AHEAD').time == 2.0
    assert account.first_word('camera', 'ahead', since=2.5) is None
    assert account.first_word('actuator') is None
    assert account.complaints() == ['cell/camera: Stamps are ahead']
    assert account.values['cell/camera'] == {'late': '3'}


def test_whoever_waits_is_woken_by_what_comes():
    account = Account()
    waiting = threading.Event()

    def done():
        waiting.set()
        return len(account.of('capture')) == 1

    threading.Thread(
        target=lambda: (waiting.wait(10), account.take('capture', 'message')), daemon=True
    ).start()
    assert account.wait(done, 10.0)
    assert account.wait(lambda: account.of('nothing'), 0.0) == []


# Situations.


def fine(figure='1 of 1', holds=True):
    return Finding(figure, holds)


def row(name, holds=True, figure='1 of 1 items'):
    return Row(name, figure, 'what is right', holds, 1.0, 'seen; more')


def test_variations_have_names_arguments_and_words_of_their_own():
    found = variations(
        'stop',
        'of the kind',
        fine,
        {'short': {}, 'long': {'holds': False, 'right': 'of the case'}},
    )
    assert [(s.name, s.kind, s.right) for s in found] == [
        ('stop/short', 'stop', 'of the kind'),
        ('stop/long', 'stop', 'of the case'),
    ]
    assert [s.play().holds for s in found] == [True, False]


@pytest.mark.parametrize(
    'patterns, names',
    [
        ([], ['a/x', 'a/y', 'b/x']),
        (['a'], ['a/x', 'a/y']),
        (['*/x'], ['a/x', 'b/x']),
        (['[b]'], ['b/x']),
        (['b/x', 'a/y'], ['a/y', 'b/x']),
    ],
)
def test_situations_are_selected_by_name_kind_and_pattern(patterns, names):
    all_of_them = [Situation(name, '', fine) for name in ('a/x', 'a/y', 'b/x')]
    assert [s.name for s in selected(all_of_them, patterns)] == names


def test_a_pattern_without_a_situation_is_refused_with_the_kinds():
    with pytest.raises(ConfigError, match='--only c: .* the kinds are a, b'):
        selected([Situation('a/x', '', fine), Situation('b/x', '', fine)], ['c'])


def test_a_situation_that_cannot_be_played_is_wrong_and_says_why():
    def broken():
        raise RuntimeError('no pins; and more')

    played = play(Situation('a/x', 'right', broken))
    assert (played.holds, played.failed) == (False, True)
    assert played.figure == 'not played: RuntimeError: no pins'
    assert 'and more' in played.detail


def test_a_finding_with_one_more_thing_holds_only_if_both_do():
    both = Finding.items(3, 3).and_also(True, 'said after 1 s')
    assert both == Finding('3 of 3 items, said after 1 s', True)
    assert not Finding.items(2, 3).and_also(True).holds
    assert not Finding.items(3, 3).and_also(False).holds


# The table.


def test_the_table_is_read_as_it_was_written(tmp_path):
    rows = [row('a/x'), Row('b/y', 'no "stroke", none', 'one, only', False, 2.5, 'x\ny', True)]
    table.write_csv(tmp_path / 'line.csv', rows)
    assert table.read_csv(tmp_path / 'line.csv') == {r.name: r for r in rows}


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path):
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n', encoding='utf-8')
    with pytest.raises(ConfigError, match='other.csv is no table of bench line'):
        table.read_csv(tmp_path / 'other.csv')


def test_every_line_of_the_markdown_has_all_columns():
    rows = [row('a/x', figure='1 | 2'), row('b/y', holds=False)]
    before = {'a/x': row('a/x', holds=False, figure='0 of 1')}
    lines = table.markdown(rows, before).splitlines()[2:]
    assert [line.count('|') for line in lines[:4]] == [6, 6, 6, 6]
    assert '| 0 of 1 (no) |' in lines[2] and lines[3].endswith('| **no** |')
    assert '1 of 2 situations are right' in lines[-1]
    assert table.markdown(rows).splitlines()[2].count('|') == 5


def test_kinds_are_counted_and_drawn(tmp_path):
    rows = [row('a/x'), row('a/y', holds=False), row('b/z')]
    assert table.counts(rows) == {'a': (1, 2), 'b': (1, 1)}
    table.draw(tmp_path / 'line.png', rows, {'a/x': row('a/x', holds=False)})
    assert (tmp_path / 'line.png').read_bytes().startswith(b'\x89PNG')


# What the simulation shows.


@pytest.mark.parametrize(
    'seen, right, word',
    [
        ([0, 1, 2], True, '3 of 3'),
        ([0, 1], False, '2 of 3'),
        ([0, 0, 1, 2], False, '4 of 3'),
        ([0, 1, 2.1], False, 'within'),
    ],
)
def test_rendered_parts_are_counted_after_each_of_them(monkeypatch, seen, right, word):
    """Every part must be an item by when the belt has brought it, and where it is."""
    parts = bars(3, 0.03, 0.17)
    motion = Motion([Stretch(1.5, 0.4), Stretch(1.0, 0.0)], 0.4)
    scene = RenderedScene(parts, 1, motion=motion)
    came = [motion.time_at(parts[0].place + 0.2 * number) for number in seen]
    taken = []

    class Tracker:
        def __init__(self, *_):
            pass

        def update(self, _, time_ns):
            due = [t for t in came[len(taken) :] if t <= (time_ns - rendered.BEGIN_NS) / 1e9]
            taken.extend(due)
            return [TrackedItem(rendered.BEGIN_NS + round(t * 1e9), None, 0.0, 0.0) for t in due]

    monkeypatch.setattr(rendered, 'ItemTracker', Tracker)
    times = [number / scene.rate for number in range(int(scene.end * scene.rate))]
    monkeypatch.setattr(RenderedScene, 'pictures', lambda _: ((t, None) for t in times))
    finding = play_rendered(scene)
    assert finding.holds is right and word in finding.figure
    assert parts[0].place == pytest.approx(FED + 0.115)


# The command.


@pytest.fixture
def situations(monkeypatch):
    """Play these in place of all: the test appends to the list."""
    played = []
    monkeypatch.setattr('stl_conveyor_lab.bench.line.situations.ALL', played)
    return played


def test_the_command_ends_with_1_if_a_situation_is_wrong(situations, tmp_path, capsys):
    situations += [
        Situation('a/x', 'one', fine),
        Situation('a/y', 'two', lambda: fine('0', False)),
    ]
    assert command.main(['--out', str(tmp_path / 'out'), '--only', 'a/x']) == 0
    assert command.main(['--out', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().out
    assert '[2/2] a/y: WRONG, 0' in said and 'right is: two' in said
    with open(tmp_path / 'out' / 'line.csv', newline='', encoding='utf-8') as file:
        assert [(r['name'], r['holds']) for r in csv.DictReader(file)] == [
            ('a/x', '1'),
            ('a/y', '0'),
        ]


def test_what_was_played_is_written_when_it_is_interrupted(situations, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    situations += [Situation('a/x', '', fine), Situation('a/y', '', interrupted)]
    assert command.main(['--out', str(tmp_path)]) == 130
    assert list(table.read_csv(tmp_path / 'line.csv')) == ['a/x']


def test_what_is_not_played_now_is_taken_from_an_earlier_run(situations, tmp_path):
    situations += [Situation(f'a/{each}', '', partial(fine, each)) for each in 'xyz']
    first, then = tmp_path / 'first', tmp_path / 'then'
    assert command.main(['--out', str(first), '--only', 'a/x', '--only', 'a/z']) == 0
    situations[2] = Situation('a/z', '', partial(fine, 'again'))
    more = ['--rest', str(first / 'line.csv'), '--only', 'a/y', '--only', 'a/z']
    assert command.main(['--out', str(then), *more]) == 0
    rows = table.read_csv(then / 'line.csv').values()
    assert [(row.name, row.figure) for row in rows] == [
        ('a/x', 'x'),
        ('a/y', 'y'),
        ('a/z', 'again'),
    ]


def test_the_list_plays_nothing(situations, tmp_path, capsys):
    situations.append(Situation('a/x', 'one', lambda: pytest.fail('it was played')))
    assert command.main(['--list', '--out', str(tmp_path)]) == 0
    assert capsys.readouterr().out == 'a/x: one\n'


def test_no_two_situations_have_one_name():
    from stl_conveyor_lab.bench.line.situations import ALL

    names = [situation.name for situation in ALL]
    assert len(set(names)) == len(names) > 100
    assert all(situation.right for situation in ALL)


# Pictures.


@pytest.mark.parametrize('row_of', [60.0, 120.0, 200.0])
def test_the_middle_of_a_part_is_found_where_it_was_drawn(row_of):
    image = picture([Spot(row_of, 160, 40, 60)])
    assert middle_of_part(image) == pytest.approx(row_of - 0.5, abs=0.5)
    assert middle_of_part(picture()) is None


@pytest.mark.parametrize(
    'encoding, code',
    [
        ('uyvy', 'COLOR_YUV2RGB_UYVY'),
        ('yuv422', 'COLOR_YUV2RGB_UYVY'),
        ('yuv422_yuy2', 'COLOR_YUV2RGB_YUY2'),
        ('nv12', 'COLOR_YUV2RGB_NV12'),
        ('nv21', 'COLOR_YUV2RGB_NV21'),
        # OpenCV names a Bayer pattern by its second row and column.
        ('bayer_rggb8', 'COLOR_BayerBG2RGB'),
        ('bayer_bggr8', 'COLOR_BayerRG2RGB'),
        ('bayer_gbrg8', 'COLOR_BayerGR2RGB'),
        ('bayer_grbg8', 'COLOR_BayerGB2RGB'),
    ],
)
def test_opencv_finds_the_colour_in_every_encoding(encoding, code):
    cv2 = pytest.importorskip('cv2', reason='compares with the conversions of OpenCV')
    encoded = encode(picture([Spot(24, 32, 30, 30)], (48, 64), colour=COLOUR), encoding)
    data = np.frombuffer(encoded.data, np.uint8)
    rows = data.size // encoded.step
    shape = (rows, 64, 2) if encoded.step == 128 else (rows, 64)
    seen = cv2.cvtColor(data.reshape(shape), getattr(cv2, code))
    assert np.abs(seen[24, 32].astype(int) - COLOUR).max() <= 6


def test_plain_encodings_hold_the_pixels_in_their_order():
    image = picture(size=(2, 2), colour=COLOUR)
    image[:] = COLOUR
    assert encode(image, 'bgr8').data[:3] == bytes(COLOUR[::-1])
    assert encode(image, 'rgba8').data[:4] == bytes((*COLOUR, 255))
    assert encode(image, 'mono16').step == 4
    with pytest.raises(ValueError, match='yuv999'):
        encode(image, 'yuv999')


# Scenes.


@pytest.mark.parametrize('travel', ['up', 'down', 'left', 'right'])
def test_a_part_moves_where_the_belt_carries_it(travel):
    scene = Scene((Lying(0.0, 0.02),), 0.1, 1, travel=travel)
    first, last = (image for time, image in list(scene.pictures())[::2])
    axis = 0 if travel in ('up', 'down') else 1
    moved = middle_of_part(last, axis) - middle_of_part(first, axis)
    sign = 1 if travel in ('down', 'right') else -1
    assert moved == pytest.approx(sign * 0.4 * 2 / 30 * SCALE, abs=1.5)


def test_the_belt_has_a_pattern_that_moves_with_it():
    pictures = list(Scene((), 0.3, 0, texture=12.0).pictures())
    first, later = pictures[0][1].astype(int), pictures[3][1].astype(int)
    rows = round(0.4 * pictures[3][0] * SCALE)
    followed = np.abs(later[:-rows] - first[rows:]).mean()
    assert followed < 0.5 * np.abs(later - first).mean()


def test_a_train_has_its_parts_one_behind_the_other():
    parts = train(3, 0.02, 0.005, first=0.1)
    assert [part.place for part in parts] == pytest.approx([0.11, 0.135, 0.16])
    assert max(picture([Spot(120, 160, 20, 20)]).ravel()) == BRIGHT


# The PLC.


@pytest.fixture
def plc():
    pytest.importorskip('pymodbus', reason='the PLC is served by pymodbus')
    from stl_conveyor_lab.bench.line.plc import Plc

    with Plc() as server:
        yield server


@pytest.fixture
def client(plc):
    from pymodbus.client import ModbusTcpClient

    client = ModbusTcpClient('127.0.0.1', port=plc.port, timeout=5.0, retries=0)
    assert client.connect()
    yield client
    client.close()


def read_until(client, address, value):
    """Ask the PLC until a register has a value; each answer takes as long as the PLC takes."""
    end = time.monotonic() + 10.0
    while client.read_holding_registers(address, count=1).registers != [value]:
        assert time.monotonic() < end, f'register {address} never became {value}'


def test_the_plc_makes_one_stroke_for_a_number_that_changes(plc, client):
    for number in (1, 1, 2):
        assert not client.write_register(4, number).isError()
        read_until(client, 36, number)
    assert [stroke.address for stroke in plc.strokes] == [4, 4]
    assert [write[2] for write in plc.writes] == [1, 1, 2]


def test_the_plc_moves_a_diverter_with_its_coil(plc, client):
    for out in (True, True, False, True):
        client.write_coil(5, out)
        assert client.read_discrete_inputs(5, count=1).bits[0] is out
        assert client.read_discrete_inputs(4, count=3).bits[:3] == [False, out, False]
        assert client.read_coils(5, count=1).bits[0] is out
    assert [stroke.address for stroke in plc.strokes] == [5, 5]


def test_the_plc_refuses_with_the_code_it_is_given(plc, client):
    from pymodbus.constants import ExcCodes

    plc.refusal = ExcCodes.DEVICE_BUSY
    reply = client.read_holding_registers(36, count=1)
    assert reply.isError() and reply.exception_code == 6


def test_the_plc_closes_and_takes_connections_and_forgets_when_it_is_off(plc, client):
    client.write_register(4, 9)
    read_until(client, 36, 9)
    plc.switch_off()
    plc.boot()
    client.close()
    assert client.connect()
    assert client.read_holding_registers(4, count=2).registers == [0, 0]
    assert client.read_holding_registers(36, count=1).registers == [0]


# The rig.


def test_pins_note_when_an_output_rises_and_are_put_back():
    gpiozero = pytest.importorskip('gpiozero', reason='the pins are gpiozero')
    from stl_conveyor_lab.bench.line.pins import mock_pins

    before = gpiozero.Device.pin_factory
    with mock_pins() as pins:
        valve, barrier = gpiozero.OutputDevice(17), gpiozero.DigitalInputDevice(23, pull_up=True)
        pins.drive(23, False)
        assert barrier.value == 1
        begin = time.monotonic()
        valve.on()
        valve.off()
        valve.on()
        assert [pin for _, pin in pins.rises((17, 27))] == [17, 17]
        assert begin <= pins.rises((17,))[0][0] <= time.monotonic()
        assert pins.rises((27,)) == []
    assert gpiozero.Device.pin_factory is before


def test_played_time_runs_as_fast_as_it_is_told_and_tells_every_step():
    from stl_conveyor_lab.bench.line.rig import PlayedTime

    told = []
    played = PlayedTime(told.append, lambda: told[-1], step=0.01)
    begin = time.monotonic()
    played.pace = 1000.0
    played.wait_until(60.0)
    assert played.now() == pytest.approx(60.0)
    assert [told[0], told[-1]] == [1_000_000_000_000, 1_060_000_000_000]
    assert max(b - a for a, b in zip(told, told[1:])) == 10_000_000_000
    assert played.at(begin) == 0.0 and played.at(time.monotonic()) == pytest.approx(60.0)
    assert played.stamp_ns(2.5) == PlayedTime.BEGIN_NS + 2_500_000_000


def test_played_time_waits_for_the_nodes_and_tells_again_what_was_lost():
    from stl_conveyor_lab.bench.line.rig import PlayedTime

    told = []
    # Every second message is lost.
    played = PlayedTime(told.append, lambda: told[len(told) // 2 * 2 - 1] if told[1:] else 0)
    played.wait_until(0.004)
    assert [told.count(stamp) for stamp in sorted(set(told))] == [2, 2]


def test_rigs_in_one_domain_do_not_hear_each_other():
    from sensor_msgs.msg import Image

    from stl_conveyor.nodes.base.runner import NodeSpec
    from stl_conveyor.nodes.device.camera import Camera
    from stl_conveyor_lab.bench.line.frames import crop_of, frame
    from stl_conveyor_lab.bench.line.rig import Rig

    with Rig(NodeSpec(Camera)) as one, Rig(NodeSpec(Camera)) as other:
        image = picture([Spot(120, 160, 40, 40)])
        one.publisher(Image, 'camera/image_raw').publish(frame(image, one.now_ns()))
        assert one.wait(one.captures, 10.0)
        assert (crop_of(one.captures()[0])[:, :, 0] == BRIGHT).sum() == 40 * 40
        theirs = other.publisher(Image, 'camera/image_raw')
        theirs.publish(frame(picture(size=(10, 10)), other.now_ns()))
        assert other.wait(lambda: other.captures() or other.account.complaints('camera'), 10.0)
        assert len(one.captures()) == 1


def test_a_rig_whose_node_does_not_start_says_what_it_said(monkeypatch):
    from stl_conveyor.nodes.base.runner import NodeSpec
    from stl_conveyor.nodes.device.camera import Camera
    from stl_conveyor_lab.bench.line import rig

    monkeypatch.setattr(rig, 'PATIENCE', 2.5)
    lost = rig.Rig(NodeSpec(Camera, {'cell_file': '/nowhere/cell.yaml'}))
    with pytest.raises(rig.CellIsNotUp, match='/nowhere/cell.yaml'):
        lost.__enter__()
