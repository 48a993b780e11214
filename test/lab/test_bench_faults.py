# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of faults counts what it must, and its clock sets that of its processes alone."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor_lab.bench.faults import table
from stl_conveyor_lab.bench.faults.clock import CellClock
from stl_conveyor_lab.bench.faults.faults import BEGINS
from stl_conveyor_lab.bench.faults.process_use import Use, growth, read_use
from stl_conveyor_lab.bench.faults.record import BETWEEN_S, Record
from stl_conveyor_lab.bench.faults.tally import (
    CALM,
    Injection,
    Item,
    Row,
    Values,
    Word,
    Words,
    tabulate,
    ways,
    worked_again,
)


def item(shown, *lanes, lane='A', **fields):
    """Return an item that was captured and, if a lane is given, acted on."""
    return Item(
        shown,
        shown + 1.0,
        lane,
        **{'captured': True, 'lanes': list(lanes), 'by_edge': True, **fields},
    )


def test_every_item_is_counted_by_what_became_of_it():
    items = [
        item(-0.5, 'A'),
        item(0.5),  # due while the fault lasts
        item(1.5, captured=False),
        item(1.6),
        item(1.7, 'B'),
        item(1.8, 'reject'),
        item(1.9, 'A', 'A'),
        item(2.0, 'A', missed=True),
        item(5.0, 'A'),
    ]
    done = [Injection('kill', 1.0, 2.0, 4.0)]
    calm, row = tabulate(items, done, [], 'reject')
    assert (calm.name, calm.items, calm.unacted) == (CALM, 2, 0)
    assert (row.name, row.times, row.items) == ('kill', 1, 7)
    assert (row.uncaptured, row.unacted, row.unsaid) == (1, 3, 3)
    assert (row.late, row.wrong, row.rejected, row.twice) == (1, 1, 1, 1)


def test_one_that_belongs_to_reject_is_not_sent_there_by_a_fault():
    (calm,) = tabulate([item(0.0, 'reject', lane='reject')], [], [], 'reject')
    assert (calm.rejected, calm.wrong) == (0, 0)


def test_a_lost_item_of_which_somebody_complains_in_time_is_not_unsaid():
    words = [
        Word(0.0, 'camera', 0, 'OK'),
        Word(2.35, 'edge_classifier', 1, 'another matter'),
        Word(2.4, 'cell_guard: node_gone.actuator', 2, 'node_gone: actuator is gone'),
    ]
    lost = [item(0.3), item(0.5), item(1.0)]  # due at 1.3, 1.5, 2.0; 1 s later it must be said
    (calm,) = tabulate(lost, [], words, 'reject')
    assert (calm.unacted, calm.unsaid) == (3, 1)


def test_what_no_dead_node_explains_is_beyond_physics():
    items = [
        item(0.5),  # due at 1.5, when the actuator is dead
        item(3.5, 'A', missed=True),  # it has said that it lives, at 3.0
        item(2.5, 'A', missed=True),
        item(9.2),  # while the encoder is dead
        item(0.1, 'A', missed=True),  # due in the calm before
    ]
    items[-1].due = 0.9
    done = [
        Injection('kill -9: actuator', 1.0, 2.0, 5.0, 'actuator'),
        Injection('kill -9: encoder', 9.0, 10.0, 12.0, 'encoder'),
    ]
    words = [Word(1.9, 'actuator', 0, 'OK'), Word(3.0, 'actuator', 0, 'OK')]
    calm, actuator, encoder = tabulate(items, done, words, 'reject')
    assert (calm.beyond, actuator.beyond, encoder.beyond) == (1, 1, 1)
    assert (actuator.unacted, actuator.late, encoder.unacted) == (1, 2, 1)


def test_the_first_word_is_one_that_nobody_said_before():
    words = Words(
        [
            Word(0.9, 'camera', 1, 'picture'),
            Word(1.4, 'camera', 1, 'picture'),
            Word(1.5, 'policy', 0, 'OK'),
            Word(1.9, 'policy', 2, 'edge_gone'),
        ]
    )
    assert words.first_since(1.0, 5.0) == 1.9
    assert words.first_since(1.0, 1.8) is None


def test_the_cell_works_again_with_the_first_of_three_in_a_row():
    items = [item(1.0, 'A'), item(1.3, 'A'), item(1.6), item(1.9, 'A', 'A')]
    items += [item(2.2 + 0.3 * n, 'A', by_edge=n == 2) for n in range(4)]
    assert worked_again(items, 1.2) == pytest.approx(2.2)
    assert worked_again(items[:6], 1.2) is None
    assert worked_again([item(n, 'A', by_edge=False) for n in range(5)], 0.0) is None


def test_a_fault_after_which_it_did_not_work_again_is_told_from_one_after_which_it_did():
    items = [item(3.0 + 0.1 * n, 'A') for n in range(5)]
    done = [Injection('x', 1.0, 2.0, 2.9), Injection('y', 4.0, 5.0, 9.0)]
    _, x, y = tabulate(items, done, [Word(1.5, 'n', 1, 'x')], 'reject')
    assert (x.full, x.word, x.silent) == (pytest.approx(1.0), 0.5, 0)
    assert (y.full, y.word, y.silent) == (None, None, 1)


def test_the_table_and_the_picture_hold_every_fault(tmp_path):
    rows = [
        Row(CALM, items=10),
        Row('kill', 2, 6, 1, 2, 1, 1, 1, 1, 2, 1, 0.52, 1, 3.04),
        Row('flood', 1, 5, silent=1),
    ]
    text = table.markdown(rows, 'Seed 1.')
    assert '| kill | 2 | 6 | 2 | 1 | 1 | 1 | 1 | 1 | 2 | 1 | 0.5, 1 times none | 3.0 |' in text
    assert '| flood | 1 | 5 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | none | never |' in text
    assert '21 items, 3 faults: 2 unacted, 1 late, 1 in a wrong lane' in text
    table.write_csv(tmp_path / 'faults.csv', rows)
    with open(tmp_path / 'faults.csv', newline='', encoding='utf-8') as file:
        assert [line['name'] for line in csv.DictReader(file)] == [CALM, 'kill', 'flood']
    table.draw(tmp_path / 'faults.png', rows)
    assert (tmp_path / 'faults.png').stat().st_size > 1000


def test_it_is_told_which_way_the_items_went():
    late = {'decided': 'offloaded', 'stopped': 'deadline', 'by_edge': False}
    items = [item(float(n), **late) for n in range(3)]
    items += [item(4.0, decided='too_late', by_edge=False)]
    items += [item(5.0, decided='offloaded', stopped='satisfied', packets=2)] * 2
    assert ways(items) == (
        '3 offloaded, deadline without a packet; 2 offloaded, satisfied, by the edge; 1 too_late'
    )


def test_a_run_goes_on_from_its_record(tmp_path):
    path = tmp_path / 'out' / 'record.jsonl'
    first = Record(path, 7)
    first.begin()
    kill, freeze = Injection('kill', 1.0, 2.0, 4.0), Injection('freeze', 101.0, 102.0, 104.0)
    values = Values(1.9, 'encoder', {'expected_answer_time': '3.000 s'})
    first.add([item(1.5), item(5.0, 'A')], [Word(1.7, 'guard', 2, 'node_gone')], [kill], [values])
    second = Record(path, 7)
    second.go_on(now=100.0)
    assert max(each.due for each in second.items) == 100.0 - BETWEEN_S
    (kept,) = second.values
    assert kept.values == values.values and kept.time - second.faults[0].end == pytest.approx(-0.1)
    second.add([item(101.5)], [Word(101.8, 'guard', 2, 'node_gone')], [freeze])
    third = Record(path, 7)
    third.go_on(now=50.0)  # as after a restart of the machine
    rows = tabulate(third.items, third.faults, third.words, 'reject')
    assert [(row.name, row.items, row.unacted, row.unsaid) for row in rows] == [
        (CALM, 1, 0, 0),
        ('freeze', 1, 1, 0),
        ('kill', 1, 1, 0),
    ]
    with pytest.raises(ConfigError, match='seed 8'):
        Record(path, 8).go_on(0.0)
    with pytest.raises(ConfigError, match='begin anew'):
        Record(tmp_path / 'none', 8).go_on(0.0)


@pytest.fixture
def clock(tmp_path):
    try:
        return CellClock(tmp_path)
    except MissingDependency as error:
        pytest.skip(str(error))


ASK = """
import sys, time
for line in sys.stdin:
    print(time.time_ns(), flush=True)
"""


def test_the_clock_of_a_process_is_set_while_it_runs_and_that_of_the_machine_is_not(clock):
    before = time.time_ns() - time.monotonic_ns()
    with subprocess.Popen(
        [sys.executable, '-c', ASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **clock.environment},
    ) as process:

        def ahead_ns():
            process.stdin.write('\n')
            process.stdin.flush()
            at_least = time.time_ns()
            now_ns = int(process.stdout.readline())
            return now_ns - at_least, now_ns - time.time_ns()

        for step, total in ((0.0, 0), (1000.0, 10**12), (-3000.0, -2 * 10**12)):
            clock.step(step)
            least, most = ahead_ns()
            # Two ways to read one clock may differ by microseconds.
            assert most - 10**6 <= total <= least + 10**6
        process.stdin.close()
    assert abs(time.time_ns() - time.monotonic_ns() - before) < 10**12


def test_every_fault_has_its_turn_before_one_comes_again():
    pytest.importorskip('rclpy')
    pytest.importorskip('stl_conveyor.msg')
    from stl_conveyor_lab.bench.faults.faults import all_faults, in_turns

    faults = all_faults(None, None)
    assert len({fault.name for fault in faults}) == len(faults) > 25
    turns = in_turns(faults, random.Random(3))
    first, second = ([next(turns).name for _ in faults] for _ in range(2))
    assert sorted(first) == sorted(second) and first != second
    again = in_turns(faults, random.Random(3))
    assert first == [next(again).name for _ in faults]


def test_what_this_process_holds_is_read():
    before = read_use(os.getpid(), 1.0)
    with open(os.devnull, 'rb'):
        after = read_use(os.getpid(), 2.0)
    assert after.descriptors == before.descriptors + 1
    assert before.pss > 1000 and 1000 < before.own and before.threads >= 1 and before.time == 1.0
    assert read_use(2**30, 1.0) is None


@pytest.mark.parametrize(
    'name, step, flat',
    [
        ('pss', 60.0, True),
        ('own', 1.0, True),
        ('own', 60.0, False),
        ('threads', 0.05, False),
        ('shared', 0.05, False),
    ],
)
def test_what_grows_after_the_warm_up_is_not_flat(name, step, flat):
    readings = []
    for number in range(100):
        held = {'pss': 99_000.0, 'own': 90_000.0, 'threads': 12, 'descriptors': 30, 'shared': 4}
        held['own'] -= 40_000 if number < 10 else 0  # caches fill
        held[name] += type(held[name])(step * number)
        readings.append(Use(10.0 * number, **held))
    assert growth(readings, 100.0).is_flat is flat
    assert growth(readings[:3], 100.0) is None


def test_what_is_forged_leaves_what_was_heard_as_it_is():
    pytest.importorskip('rclpy')
    pytest.importorskip('stl_conveyor.msg')
    from stl_conveyor.msg import Classification, ItemCapture
    from stl_conveyor.nodes.base.clock import to_ns, to_stamp
    from stl_conveyor_lab.bench.faults.intruder import Intruder

    sent = []

    class Node:
        """As much of a node as an intruder needs."""

        def create_subscription(self, *_):
            pass

        def create_publisher(self, kind, name, qos):
            return type('Publisher', (), {'publish': lambda _, message: sent.append(message)})()

    intruder = Intruder(Node(), seed=1)
    forge = intruder.begin('forged')
    honest = ItemCapture(item_id=7, deadline=to_stamp(4 * 10**9))
    honest.header.stamp = to_stamp(3 * 10**9)
    intruder._on_capture(honest)
    for _ in range(50):
        forge()
        for message in sent:
            if isinstance(message, ItemCapture):
                intruder._on_capture(message)  # it hears itself
    captures = [each for each in sent if isinstance(each, ItemCapture)]
    answers = [each for each in sent if isinstance(each, Classification)]
    assert captures and answers
    assert {each.item_id for each in captures} == {8}
    assert {(each.item_id, to_ns(each.header.stamp)) for each in answers} == {(7, 3 * 10**9)}


@pytest.mark.ros
@pytest.mark.parametrize('kind', ['frames', 'odd bytes', 'forged'])
def test_an_intruder_goes_on_until_it_is_told_to_end(kind):
    pytest.importorskip('rclpy')
    pytest.importorskip('stl_conveyor.msg')
    from ros_domains import own_environment

    with subprocess.Popen(
        [sys.executable, '-m', 'stl_conveyor_lab.bench.faults.intruder', kind, '1', '3'],
        env=own_environment(),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == BEGINS
        assert process.wait(60) == 0


@pytest.mark.skipif(find_spec('mujoco') is None, reason='rendering needs the extra [simulation]')
def test_what_rendered_the_pictures_is_freed_where_it_was_made():
    # In a process of its own: beside Mesa's LLVM that of torch could not be loaded any more.
    found = subprocess.run(
        [sys.executable, '-c', FREED], capture_output=True, text=True, timeout=240, check=False
    )
    assert found.stdout == 'closed\n', found.stderr


FREED = """
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor_lab.bench.faults import pictures

class Closed(pictures.MujocoCell):
    def close(self):
        print('closed')
        super().close()

pictures.MujocoCell, pictures.WANTED = Closed, 1
assert pictures.known_pictures(CellDescription.load(share_path('config/cell.yaml')))
"""
