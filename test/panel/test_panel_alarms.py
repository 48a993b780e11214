# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from stl_conveyor.errors import Level
from stl_conveyor.panel import line_log
from stl_conveyor.panel.alarms import UNNAMED_S, AlarmBook


def raise_one(book, fault='frames', level=Level.ERROR, now=100.0, count=1, message='no frame'):
    book.heard('camera', fault, level, message, 2.0, count, now=now)


def names(book):
    return [alarm.fault for alarm in book.open()]


def test_an_alarm_lasts_until_it_is_over_and_acknowledged():
    book = AlarmBook()
    raise_one(book)
    (alarm,) = book.open()
    assert (alarm.since, alarm.count, alarm.ended) == (98.0, 1, None)
    assert book.acknowledge('camera: frames', 'Ada', 101.0)
    assert not book.acknowledge('camera: frames', 'Bob', 102.0)
    assert names(book) == ['frames']  # it lasts
    raise_one(book, level=Level.OK, now=103.0)
    assert names(book) == []
    assert [(e.event, e.by) for e in book.entries()] == [
        ('cleared', ''),
        ('acknowledged', 'Ada'),
        ('raised', ''),
    ]


def test_one_that_is_over_stays_until_somebody_has_seen_it():
    book = AlarmBook()
    raise_one(book)
    raise_one(book, level=Level.OK, now=103.0)
    assert names(book) == ['frames']
    book.acknowledge('camera: frames', 'Ada', 104.0)
    assert names(book) == []


def test_what_gets_worse_is_to_be_acknowledged_again():
    book = AlarmBook()
    raise_one(book, level=Level.WARN)
    book.acknowledge('camera: frames', 'Ada', 101.0)
    raise_one(book, level=Level.WARN, count=5, now=102.0)
    assert book.open()[0].acknowledged_by == 'Ada' and book.open()[0].count == 5
    raise_one(book, level=Level.ERROR, now=103.0)
    assert book.open()[0].acknowledged_by == ''


def test_that_it_got_worse_is_in_the_log_and_needs_another_eye_after_a_restart(tmp_path):
    path = tmp_path / 'alarms.jsonl'
    book = AlarmBook(path)
    raise_one(book, level=Level.WARN)
    book.acknowledge('camera: frames', 'Ada', 101.0)
    for now in (102.0, 103.0):
        raise_one(book, level=Level.ERROR, now=now, message='none at all')
    told = [(e.event, e.level, e.message) for e in book.entries()]
    assert told[0] == ('worse', Level.ERROR, 'none at all')
    assert [event for event, _, _ in told] == ['worse', 'acknowledged', 'raised']
    raise_one(book, level=Level.OK, now=104.0)
    (again,) = AlarmBook(path).open()  # it is over, and nobody has seen the error
    assert (again.level, again.message, again.acknowledged_by) == (Level.ERROR, 'none at all', '')
    assert again.since == 100.0


def test_the_worst_and_newest_stand_first():
    book = AlarmBook()
    raise_one(book, 'old_error', now=100.0)
    raise_one(book, 'warning', Level.WARN, now=110.0)
    raise_one(book, 'new_error', now=105.0)
    raise_one(book, 'over', now=120.0)
    raise_one(book, 'over', Level.OK, now=121.0)
    assert names(book) == ['new_error', 'old_error', 'warning', 'over']


def test_what_its_node_does_not_name_any_more_is_over():
    book = AlarmBook()
    for fault in ('frames', 'belt'):
        raise_one(book, fault)
    book.heard('actuator', 'frames', Level.ERROR, 'x', 0.0, 1, now=100.0)
    for after in (0.0, UNNAMED_S):
        assert book.lasting(Level.ERROR)
        book.only('camera', {'belt'}, now=110.0 + after, steady=7.0 + after)
    assert {a.key: a.ended for a in book.open()} == {
        'camera: frames': 110.0 + UNNAMED_S,
        'camera: belt': None,
        'actuator: frames': None,
    }
    # If it comes back it is raised anew.
    raise_one(book, now=120.0)
    assert [e.event for e in book.entries()][:2] == ['raised', 'cleared']


def test_two_that_report_in_turn_under_one_name_end_no_alarm():
    book = AlarmBook()
    for second in range(20):
        raise_one(book, 'stands_by.capture', now=100.0 + second)
        book.only('camera', (), now=100.5 + second, steady=0.5 + second)
    assert [(e.event, e.fault) for e in book.entries()] == [('raised', 'stands_by.capture')]
    assert book.open()[0].ended is None


def test_the_log_survives_a_restart(tmp_path):
    path = tmp_path / 'new' / 'alarms.jsonl'
    book = AlarmBook(path)
    raise_one(book, message='<b>no</b> frame\u00e9')
    raise_one(book, 'belt', Level.WARN, now=101.0)
    book.acknowledge('camera: belt', 'Ada', 102.0)
    again = AlarmBook(path)
    assert {a.key: a.acknowledged_by for a in again.open()} == {
        'camera: frames': '',
        'camera: belt': 'Ada',
    }
    assert again.entries() == book.entries()
    # The node goes on to report what was raised before: no second alarm.
    raise_one(again, now=110.0)
    assert len(path.read_text().splitlines()) == 3


def test_damaged_lines_of_the_log_are_left_out(tmp_path):
    path = tmp_path / 'alarms.jsonl'
    book = AlarmBook(path)
    raise_one(book)
    good = path.read_bytes()
    path.write_bytes(
        b'\xff\x00 not a line\n{"time": 1}\n[]\n'
        + good.replace(b'100.0', b'1e999')
        + good.replace(b'100.0', b'9' * 400)
        + json.dumps(
            {
                'time': 'x',
                'event': 'raised',
                'node': 'n',
                'fault': 'f',
                'level': 7,
                'message': '',
                'by': '',
            }
        ).encode()
        + b'\n'
        + b'[' * 100_000
        + b'\n'
        + good
        + good[: len(good) // 2]
    )
    assert [e.fault for e in AlarmBook(path).entries()] == ['frames']


def test_a_log_that_cannot_be_written_is_said_and_costs_nothing_else(tmp_path):
    (tmp_path / 'file').write_text('')
    book = AlarmBook(tmp_path / 'file' / 'alarms.jsonl')
    raise_one(book)
    assert names(book) == ['frames'] and 'alarms.jsonl' in book.trouble


def test_a_long_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(line_log, 'LARGEST', 500)
    book = AlarmBook(tmp_path / 'alarms.jsonl')
    for n in range(20):
        raise_one(book, f'fault_{n}', now=100.0 + n)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {'alarms.jsonl', 'alarms.jsonl.1'}
    assert max(sizes.values()) < 800


def test_what_was_put_aside_is_read_before_the_rest(tmp_path, monkeypatch):
    path = tmp_path / 'alarms.jsonl'
    book = AlarmBook(path)
    raise_one(book, 'old')
    raise_one(book, 'over', now=101.0)
    monkeypatch.setattr(line_log, 'LARGEST', 0)
    raise_one(book, 'over', Level.OK, now=102.0)
    assert len(path.read_text().splitlines()) == 1
    again = AlarmBook(path)
    assert {a.fault: (a.since, a.ended) for a in again.open()} == {
        'old': (100.0, None),
        'over': (101.0, 102.0),
    }
    assert again.entries() == book.entries()


def test_half_a_line_is_said_and_spoils_no_other(tmp_path):
    path = tmp_path / 'alarms.jsonl'
    raise_one(AlarmBook(path))
    path.write_bytes(path.read_bytes()[:-5] + b'\xc3')  # the machine lost its power
    book = AlarmBook(path)
    assert 'alarms.jsonl' in book.trouble and book.entries() == []
    raise_one(book, 'belt')
    assert book.trouble == ''
    assert [e.fault for e in AlarmBook(path).entries()] == ['belt']


def test_a_folder_in_the_place_of_the_log_is_said(tmp_path):
    assert 'regular file' in AlarmBook(tmp_path).trouble


@pytest.mark.parametrize(
    'fault, message, key',
    [
        ('diverter.A', 'diverter_failed: lane A: stuck', 'diverter_failed'),
        ('edge_gone', 'no sign of life', 'edge_gone'),
        ('nobody_knows_this', 'x', None),
    ],
)
def test_an_alarm_names_its_remedy(fault, message, key):
    book = AlarmBook()
    raise_one(book, fault, message=message)
    told = book.open()[0].as_json()
    assert told['remedy'] == key
    json.dumps(told)
