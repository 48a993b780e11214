# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A recording holds what it was given, within its size, and a damaged one is named."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('mcap', reason='pip install mcap')

from mcap.reader import make_reader  # noqa: E402

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.recording.message_schema import (  # noqa: E402
    constants_beside_fields,
    nested_types,
    schema_text,
)
from stl_conveyor.recording.playback import TimeMap, messages, move_times, recorded_topics  # noqa: E402
from stl_conveyor.recording.run_file import Recorded, RunFile  # noqa: E402

DEFINITIONS = {
    ('a', 'Whole'): 'Header header\nPart[] parts\nb/Other[2] others\nstring<=5 name # Part\n'
    'uint8 FULL=3\n',
    ('a', 'Part'): 'float64[<=3] values\nb/Other again\n',
    ('b', 'Other'): 'builtin_interfaces/Time at\n',
    ('std_msgs', 'Header'): 'builtin_interfaces/Time stamp\nstring frame_id\n',
    ('builtin_interfaces', 'Time'): 'int32 sec\nuint32 nanosec\n',
}
TOPICS = {
    'text': Recorded('/line/text', 'a/Part', 'float64 x\n', qos='- depth: 1\n'),
    'pictures': Recorded('/line/pictures', 'a/Part', 'float64 x\n', first_to_go=True),
}


def definition_of(package, name):
    return DEFINITIONS[package, name]


def test_a_schema_holds_each_definition_once_and_the_message_first():
    parts = schema_text('a/Whole', definition_of).split('=' * 80 + '\n')
    assert parts[0] == DEFINITIONS['a', 'Whole']
    heads = [part.splitlines()[0] for part in parts[1:]]
    assert sorted(heads) == [
        'MSG: a/Part',
        'MSG: b/Other',
        'MSG: builtin_interfaces/Time',
        'MSG: std_msgs/Header',
    ]
    assert nested_types('a', DEFINITIONS['a', 'Whole']) == ['std_msgs/Header', 'a/Part', 'b/Other']


def test_the_names_of_a_fields_values_stand_above_it():
    """There the viewers look for them; what belongs to no field of its type stays."""
    definition = (
        'uint8 STATE_OFF=0   # off\nuint8 STATE_ON=1\nuint8 STATE_OF_BELT_UP=2\nuint8 MOST = 9\n'
        'int8 STATE_ODD=-1\n\nfloat32 speed  # m/s\nuint8 state_of_belt\nuint8 state\n'
    )
    assert constants_beside_fields(definition) == (
        'uint8 MOST = 9\nint8 STATE_ODD=-1\n\nfloat32 speed  # m/s\n'
        'uint8 STATE_OF_BELT_UP=2\nuint8 state_of_belt\n'
        'uint8 STATE_OFF=0   # off\nuint8 STATE_ON=1\nuint8 state\n'
    )


def test_what_was_added_is_read_again_in_order(tmp_path):
    path = tmp_path / 'new' / 'run.mcap'
    recording = RunFile(path, TOPICS, limit=10_000_000, about={'namespace': '/line'})
    recording.add('text', 30, b'third')
    recording.add('text', 10, b'first')
    recording.add('pictures', 20, b'second')
    recording.close()
    assert (recording.trouble, recording.messages, recording.left_out) == ('', 3, 0)
    assert [said.data for said in messages(path)] == [b'first', b'second', b'third']
    assert [said.data for said in messages(path, ['/line/pictures'])] == [b'second']
    assert recorded_topics(path) == {'/line/text': 'a/Part', '/line/pictures': 'a/Part'}
    with open(path, 'rb') as file:
        summary = make_reader(file).get_summary()
    (schema,) = summary.schemas.values()
    assert (schema.name, schema.encoding, schema.data) == ('a/msg/Part', 'ros2msg', b'float64 x\n')
    qos = {c.topic: c.metadata.get('offered_qos_profiles') for c in summary.channels.values()}
    assert qos == {'/line/text': '- depth: 1\n', '/line/pictures': None}
    # The one before stays, once.
    RunFile(path, TOPICS, limit=10_000_000).close()
    assert len(list(messages(path.with_name('run.1.mcap')))) == 3
    assert not list(messages(path))


def test_the_size_is_kept_and_pictures_go_first(tmp_path):
    limit = 8_000_000
    recording = RunFile(tmp_path / 'run.mcap', TOPICS, limit=limit)
    noise = random.Random(1)
    for number in range(90):
        name = 'pictures' if number % 2 else 'text'
        recording.add(name, number, noise.randbytes(100_000))
    recording.close()
    assert not recording.full and os.path.getsize(recording.path) <= limit
    kept = [said.topic for said in messages(recording.path)]
    assert kept.count('/line/text') == 45 and 10 < kept.count('/line/pictures') < 35
    assert recording.left_out == 90 - len(kept)
    recording = RunFile(tmp_path / 'full.mcap', TOPICS, limit=limit)
    for number in range(90):
        recording.add('text', number, noise.randbytes(100_000))
    recording.close()
    assert recording.full and 0.9 * limit < os.path.getsize(recording.path) <= limit
    assert len(list(messages(recording.path))) == recording.messages


def test_a_disk_that_takes_nothing_is_named_and_ends_nothing(tmp_path):
    recording = RunFile(tmp_path / 'run.mcap', TOPICS, limit=10_000_000)
    recording._file.close()  # as a disk that is gone
    for number in range(20):
        recording.add('text', number, bytes(200_000))
    recording.close()
    assert 'run.mcap: the recording ended' in recording.trouble
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='run.mcap.*name another file'):
        RunFile(tmp_path / 'file' / 'run.mcap', TOPICS, limit=1_000_000)


def test_a_file_that_ends_in_the_middle_is_read_up_to_there(tmp_path):
    path = tmp_path / 'run.mcap'
    recording = RunFile(path, TOPICS, limit=50_000_000)
    noise = random.Random(2)
    for number in range(60):
        recording.add('text', number, noise.randbytes(100_000))
    recording.close()
    path.write_bytes(path.read_bytes()[:3_500_000])
    found = [said.time_ns for said in messages(path)]
    assert 20 < len(found) < 40 and found == sorted(found)


@pytest.mark.parametrize('content', [b'', b'no recording', b'\x89MCAP0\r\n' + bytes(400)])
def test_what_is_no_recording_is_named(tmp_path, content):
    path = tmp_path / 'run.mcap'
    path.write_bytes(content)
    with pytest.raises(ConfigError, match='run.mcap: this is no recording'):
        list(messages(path))
    with pytest.raises(ConfigError, match='cannot be read'):
        list(messages(tmp_path / 'nowhere'))


@given(
    st.integers(1, 10**18),
    st.integers(1, 10**18),
    st.lists(st.integers(0, 10**12), min_size=2, max_size=2),
    st.sampled_from([0.01, 0.5, 1.0, 3.0, 100.0]),
)
def test_times_keep_their_order_and_their_distance(first, start, ways, rate):
    times = TimeMap(first, start, rate)
    one, other = (times.moved(first + way) for way in ways)
    assert (one <= other) == (ways[0] <= ways[1]) or one == other
    assert abs((other - one) - (ways[1] - ways[0]) / rate) <= 1 + abs(other - one) * 1e-9
    assert times.moved(0) == 0 and times.moved(first) == start


class Time:
    def __init__(self, sec, nanosec):
        self.sec, self.nanosec = sec, nanosec


class Header:
    def __init__(self, sec):
        self.stamp = Time(sec, 5)

    @classmethod
    def get_fields_and_field_types(cls):
        return {'stamp': 'builtin_interfaces/Time', 'frame_id': 'string'}


class Whole:
    def __init__(self):
        self.header, self.parts, self.deadline = Header(10), [Header(11), Header(0)], Time(12, 0)
        self.parts[1].stamp.nanosec = 0

    @classmethod
    def get_fields_and_field_types(cls):
        return {
            'header': 'std_msgs/Header',
            'deadline': 'builtin_interfaces/Time',
            'parts': 'sequence<std_msgs/Header>',
            'data': 'sequence<uint8>',
        }


def test_every_time_of_a_message_is_moved_however_deep():
    message = Whole()
    move_times(message, TimeMap(10 * 10**9, 110 * 10**9).moved)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (110, 5)
    assert [part.stamp.sec for part in message.parts] == [111, 0]
    assert message.deadline.sec == 112
