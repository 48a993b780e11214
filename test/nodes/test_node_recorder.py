# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is said in a cell is in the recording, and the nodes work on it when it is played."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('mcap', reason='pip install mcap')

from cell_harness import CellHarness, device_specs, make_capture, make_classification  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from stl_conveyor.errors import ConfigError, Level  # noqa: E402
from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import RECORDED  # noqa: E402
from stl_conveyor.nodes.panel.recorder import Recorder, definition_of  # noqa: E402
from stl_conveyor.nodes.panel.replayer import Replay, play  # noqa: E402
from stl_conveyor.recording.message_schema import schema_text  # noqa: E402
from stl_conveyor.recording.playback import messages, recorded_topics  # noqa: E402

pytestmark = pytest.mark.ros

ITEMS = 2  # no more than the device keeps when they come at once
NUMBERS = range(1, ITEMS + 1)
CLASS = 'hex_nut_m8'


def recorder(path, **parameters):
    return NodeSpec(Recorder, {'file': str(path), 'diagnostics_period': 0.2, **parameters})


def count_taken(file):
    """Return the numbers of messages that a file takes from now on, by topic."""
    taken, add = Counter(), file.add

    def count(name, *rest):
        add(name, *rest)
        taken[name] += 1

    file.add = count
    return taken


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Return the recording of a cell that says something of two items."""
    path = tmp_path_factory.mktemp('recording') / 'run.mcap'
    with CellHarness([recorder(path)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('recorder')
        topics = ('capture', 'classification', 'sort_outcome')
        publishers = [cell.publisher(topic, timeout=30) for topic in topics]
        stamp, taken = cell.now_ns(), count_taken(node.recording)
        for number in NUMBERS:
            image = np.full((160, 160, 3), 40 + number, np.uint8)
            capture = make_capture(number, stamp + number * 10**8, image)
            said = (
                capture,
                make_classification(number, stamp + number * 10**8, CLASS),
                SortOutcome(header=capture.header, item_id=number, lane='A'),
            )
            for publisher, message in zip(publishers, said):
                publisher.publish(message)
        wanted = dict.fromkeys(topics, ITEMS) | {'/diagnostics': 1}
        cell.wait(lambda: taken >= Counter(wanted), 30, 'everything is recorded')
    return path, stamp


def test_a_reader_without_our_messages_reads_everything(recording):
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    path, stamp = recording
    found = {}
    with open(path, 'rb') as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        channels = reader.get_summary().channels.values()
        for _, channel, _, message in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
    assert {channel.topic.lstrip('/') for channel in channels} == {
        topic.name.lstrip('/') for topic in RECORDED
    }
    assert [m.item_id for m in found['/capture']] == list(NUMBERS)
    assert [m.crop.data[0] for m in found['/capture']] == [40 + n for n in NUMBERS]
    assert [m.class_id for m in found['/classification']] == [CLASS] * ITEMS
    (first, *_) = found['/sort_outcome']
    assert first.header.stamp.sec * 10**9 + first.header.stamp.nanosec == stamp + 10**8
    assert any(s.name == 'recorder' for m in found['/diagnostics'] for s in m.status)


def test_every_topic_has_a_definition_that_a_reader_can_use():
    from mcap_ros2._dynamic import generate_dynamic

    for topic in RECORDED:
        name = topic.message_type.replace('/', '/msg/')
        generate_dynamic(name, schema_text(topic.message_type, definition_of))


def test_a_node_works_on_what_is_played_and_its_own_words_take_the_place_of_the_recorded(
    recording, tiny_models
):
    path, stamp = recording
    specs = [s for s in device_specs(tiny_models) if s.node_class.NAME == 'local_classifier']
    said = []
    with CellHarness(specs, watched=('capture', 'classification', '/diagnostics')) as cell:
        cell.wait_active()
        cell.connect('capture', publishers=0, readers=2)
        begun = cell.now_ns()
        count = play(Replay(path), domain_id=cell.domain_id, say=said.append)
        cell.wait(
            lambda: len(cell.heard.of('classification')) >= ITEMS, 30, 'an answer to every item'
        )
        captures, answers = (cell.heard.of(topic) for topic in ('capture', 'classification'))
        # Everybody who is not here is heard of again on the topic on which the node here reports.
        cell.wait(lambda: cell.statuses('recorder'), 30, 'the reports that were recorded')
    assert count > 2 * ITEMS and 'classification' in said[0] and 'capture' in said[1]
    assert 'diagnostics' not in said[0] and 'diagnostics' in said[1]
    stamps = [to_ns(capture.header.stamp) for capture in captures]
    assert [b - a for a, b in zip(stamps, stamps[1:])] == [10**8] * (ITEMS - 1)
    assert stamps[0] >= begun > stamp
    assert sorted(to_ns(answer.header.stamp) for answer in answers) == stamps
    for capture, recorded in zip(captures, [s for s in messages(path) if s.topic == '/capture']):
        assert bytes(capture.crop.data[-3:]) == recorded.data.rstrip(b'\0')[-3:]


def test_a_node_that_is_here_reports_for_itself(recording):
    spec = NodeSpec(Recorder, {'autostart': False, 'diagnostics_period': 0.2})
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait(lambda: cell.statuses('recorder'), 30, 'its reports')
        replay = Replay(recording[0], ('/diagnostics',))
        assert play(replay, domain_id=cell.domain_id, say=lambda _: None) == 0
        assert not [s for s in cell.statuses('recorder') for v in s.values if v.value == 'active']


def test_chosen_topics_are_played_in_another_namespace_again_and_again(recording):
    path, _ = recording
    stop = threading.Event()
    with CellHarness([], watched=()) as cell:
        heard = []

        def hear(message):
            heard.append(message.item_id)
            if len(heard) >= 2 * ITEMS:
                stop.set()

        cell.probe.create_subscription(SortOutcome, '/other/sort_outcome', hear, 50)
        replay = Replay(
            path, ('sort_outcome',), namespace='other', rate=50.0, loop=True, patience=1.0
        )
        play(replay, domain_id=cell.domain_id, say=lambda _: None, stop=stop)
        cell.wait(stop.is_set, 30, 'two rounds')
    assert set(heard) == set(NUMBERS) and len(heard) >= 2 * ITEMS


def test_with_a_clock_the_stamps_stay_and_the_time_is_theirs(recording):
    path, stamp = recording
    with CellHarness([], watched=()) as cell:
        times, outcomes = [], []
        cell.probe.create_subscription(Clock, '/clock', times.append, qos_profile_sensor_data)
        cell.probe.create_subscription(SortOutcome, 'sort_outcome', outcomes.append, 50)
        replay = Replay(path, ('sort_outcome',), clock=True, patience=1.0)
        play(replay, domain_id=cell.domain_id, say=lambda _: None)
        cell.wait(lambda: len(outcomes) == ITEMS and times, 30, 'everything is played')
    stamps = [to_ns(outcome.header.stamp) for outcome in outcomes]
    assert stamps == [stamp + number * 10**8 for number in NUMBERS]
    # What was recorded came after the stamp of the first, and within a test's time.
    assert all(stamp < to_ns(time.clock) < stamp + 120 * 10**9 for time in times)


@pytest.mark.parametrize(
    'changes, named', [({'topics': ('nothing',)}, 'nothing'), ({'rate': 0.0}, '--rate')]
)
def test_what_cannot_be_played_is_named(recording, changes, named):
    with pytest.raises(ConfigError, match=named):
        play(Replay(recording[0], patience=0.0, **changes), say=lambda _: None)


def test_a_recording_that_cannot_be_made_is_said_and_tried_again(tmp_path):
    place = tmp_path / 'place'
    place.write_text('a file where a folder should be')
    spec = recorder(place / 'run.mcap', retry_period=0.2)
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_diagnostic('recorder', 'run.mcap', Level.ERROR)
        place.unlink()
        cell.wait_active()


@pytest.mark.parametrize('parameters', [{'topics': ['nothing']}, {'file': ''}])
def test_wrong_values_are_refused_by_name(tmp_path, parameters):
    (name,) = parameters
    with pytest.raises(ConfigError, match=name):
        NodeRunner([NodeSpec(Recorder, {'file': str(tmp_path / 'run.mcap'), **parameters})])


def test_what_is_chosen_is_recorded_and_nothing_else(tmp_path):
    path = tmp_path / 'run.mcap'
    spec = recorder(path, topics=['sort_outcome'])
    with CellHarness([spec], watched=()) as cell:
        cell.wait_active()
        node = cell.runner.node('recorder')
        cell.publisher('sort_outcome', timeout=30).publish(SortOutcome(lane='A'))
        cell.wait(lambda: node.recording.messages == 1, 30, 'the outcome is recorded')
    assert recorded_topics(path) == {'/sort_outcome': 'stl_conveyor/SortOutcome'}
