# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Several edges for the same cells, over real DDS: one answers an item, another if it dies."""

from __future__ import annotations

import array
from collections import defaultdict

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, make_capture, node_process  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402

from stl_conveyor.cell import edge_pool  # noqa: E402
from stl_conveyor.cell.edge_pool import preference  # noqa: E402
from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import Classification, EdgeState, FeatureFeedback, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner  # noqa: E402
from stl_conveyor.nodes.edge import edge_classifier  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

LINE = 'line_1'
HOME, STANDBY = preference(LINE, ['hall_a/edge_classifier', 'hall_b/edge_classifier'])
SECOND = 10**9
TOO_LATE = 10**6  # item whose deadline has passed
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


def edge(models, name, **parameters):
    """Return an edge of a pool in this process."""
    return NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(models),
            'cells': [f'/{LINE}'],
            'diagnostics_period': 0.3,
            'workers': 1,
            'satisfied_score': 1.0,
            **parameters,
        },
        namespace=name.split('/')[0],
        group=name,
    )


class Line:
    """A cell that sends items to whoever answers, and hears what comes back."""

    def __init__(self, cell, models):
        self.cell = cell
        self.encoder = Encoder(ModelFolder(models))
        self.image = tiny_images(1, len(CELL.classes))[0][0]
        self.packets = self.encoder.encode(self.image, None, packet_bytes=60).packets
        self.answers, self.feedback = defaultdict(list), defaultdict(list)
        self.signs = []
        self._hear(Classification, 'edge_classification_tx', self.answers)
        self._hear(FeatureFeedback, 'feedback_tx', self.feedback)
        cell.probe.create_subscription(EdgeState, '/edges', self._on_state, BEST_EFFORT)
        self.states = {}
        self.captures = {}

    def _hear(self, kind, topic, kept):
        def take(message):
            with self.cell._changed:
                kept[message.item_id].append(message)
                self.cell._changed.notify_all()

        self.cell.probe.create_subscription(kind, f'/{LINE}/{topic}', take, BEST_EFFORT)

    def _on_state(self, message):
        with self.cell._changed:
            self.states[message.edge] = message
            self.signs.append(message)
            self.cell._changed.notify_all()

    def wait_serving(self, name, what='who serves the line'):
        self.cell.wait(
            lambda: name in self.states and list(self.states[name].serves) == [LINE], 30, what
        )

    def connect(self, edges):
        for topic in ('edge_classification_tx', 'feedback_tx'):
            self.cell.connect(f'/{LINE}/{topic}', edges)
        self.cell.publisher(f'/{LINE}/features_rx', ProgressiveFeature, readers=edges, timeout=30)

    def wait_reaching(self):
        """Wait until who serves the line hears what it sends, by what comes too late.

        A writer knows a reader before that one knows the writer.
        """
        late = FeatureFeedback.STATUS_TOO_LATE
        before = len(self.feedback[TOO_LATE])

        def is_heard():
            self.send(TOO_LATE, seconds=-1)
            return any(m.status == late for m in self.feedback[TOO_LATE][before:])

        self.cell.wait(is_heard, 30, 'packets that arrive')

    def send(self, item_id, sequence=0, *, seconds=300):
        if item_id not in self.captures:
            now_ns = self.cell.now_ns()
            self.captures[item_id] = make_capture(
                item_id, now_ns, self.image, now_ns + seconds * SECOND
            )
        capture = self.captures[item_id]
        self.cell.publisher(f'/{LINE}/features_rx').publish(
            ProgressiveFeature(
                header=capture.header,
                item_id=item_id,
                codec_id=self.encoder.identity,
                deadline=capture.deadline,
                sequence=sequence,
                data=array.array('B', self.packets[sequence]),
            )
        )

    def answered(self, item_id, count=1):
        self.cell.wait(
            lambda: len(self.answers[item_id]) >= count, 20, f'an answer about item {item_id}'
        )

    def acknowledged(self, item_id):
        """Return the packets that were acknowledged, as often as they were."""
        return sorted(m.sequence for m in self.feedback[item_id] if not m.answered)


def test_the_standby_answers_when_the_home_dies_until_it_is_back(tiny_models, monkeypatch):
    # An edge takes a while to start, for which the standby must not forget its item.
    monkeypatch.setattr(edge_classifier, 'LONGEST_STREAM_NS', 300 * SECOND)
    # Nor may a busy machine be so slow that an item which another one began counts as new.
    monkeypatch.setattr(edge_classifier, 'HANDOVER_NS', 300 * SECOND)
    arguments = {
        'parameters': {
            'models_dir': str(tiny_models),
            'cells': [f'/{LINE}'],
            'satisfied_score': 1.0,
        },
        'words': ['-r', f'__ns:=/{HOME.split("/")[0]}'],
    }
    with CellHarness([edge(tiny_models, STANDBY)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        standby = cell.runner.node('edge_classifier')
        arguments['domain_id'] = cell.domain_id
        line.wait_serving(STANDBY)  # it is alone
        with node_process('edge_classifier', **arguments) as process:
            line.wait_serving(HOME)
            cell.wait(lambda: not standby._pool.serves(0), 10, 'the standby stands by')
            line.connect(2)
            line.wait_reaching()
            line.send(1)
            line.answered(1)
            assert standby.health.counted('answers') == 0
            process.kill()
            process.wait()
            line.send(2)  # to nobody, as yet
            line.answered(2)
            # It knows what came before, too, and not that the home has answered it.
            line.answered(1, 2)
            cell.wait(lambda: standby.health.counted('answers') == 2, 10, 'both answers')
            assert any(m.item_id == 0 for m in line.feedback[0])
        line.wait_serving(STANDBY)
        del line.states[HOME]
        # Until the graph has forgotten the dead one, its reader counts as that of the next.
        topic = f'/{LINE}/features_rx'
        cell.wait(lambda: cell.probe.count_subscribers(topic) == 1, 60, 'the dead is forgotten')
        line.send(3)
        line.answered(3)
        with NodeRunner([edge(tiny_models, HOME)], domain_id=cell.domain_id) as runner:
            line.wait_serving(HOME, 'the home is back')
            home = runner.node('edge_classifier')
            cell.wait(lambda: home._pool.others, 30, 'the home knows of the standby')
            cell.wait(lambda: not standby._pool.serves(0), 10, 'the standby stands by again')
            line.connect(2)
            line.wait_reaching()
            # What the standby has begun it answers to the end; what comes now is the home's.
            line.send(3, 1)
            line.send(4)
            line.answered(3, 2)
            line.answered(4)
            line.send(4, 1)
            line.answered(4, 2)
            assert standby.health.counted('answers') == 4  # of the items 1, 2, and twice of 3
            # By one edge each; when the home goes, the standby takes up what is not over.
            cell.wait(
                lambda: line.acknowledged(3) == [0, 1] == line.acknowledged(4), 10, 'feedback'
            )
        said = {s.message for s in cell.statuses('edge_classifier') if s.level > b'\0'}
        assert all('came after the deadline' in text for text in said)


def test_a_goodbye_is_followed_by_the_next_at_once(tiny_models):
    # So long a silence that only the goodbye can be what is heard.
    specs = [edge(tiny_models, name, takeover=20.0) for name in (HOME, STANDBY)]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        home, standby = cell.runner.nodes
        # Their signs of life are 4 s apart.
        cell.wait(lambda: home._pool.serves(0) and not standby._pool.serves(0), 60, 'a home')
        line.connect(2)
        line.send(1)
        line.answered(1)
        assert (home.health.counted('answers'), standby.health.counted('answers')) == (1, 0)
        home.trigger_deactivate()
        cell.wait(lambda: standby._pool.serves(0), 10, 'the standby takes over')
        line.send(1, 1)  # what came before is known to it
        first = line.answers[1][0].bytes_used
        cell.wait(lambda: line.answers[1][-1].bytes_used > first, 10, 'an answer by both packets')
        assert standby.health.counted('answers') >= 1


def test_an_edge_answers_what_it_hears_of_in_its_midst_once_it_knows_that_it_is_alone(tiny_models):
    with CellHarness([edge(tiny_models, HOME)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        line.connect(1)
        line.send(1, 1)
        line.answered(1)


def test_edges_with_different_models_are_named_and_odd_signs_of_life_change_nothing(
    tiny_models, tmp_path
):
    make_tiny_model_folder(tmp_path, CELL.classes, seed=5)
    specs = [edge(tiny_models, HOME), edge(tmp_path, STANDBY)]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        for name in (HOME, STANDBY):
            other = STANDBY if name == HOME else HOME
            said = cell.wait_diagnostic(f'{name}: edges_differ', f'edges_differ: {other}')
            assert said.level == b'\2'
            line.wait_serving(name)
        odd = cell.publisher('/edges', EdgeState, readers=2)
        for message in (
            EdgeState(),
            EdgeState(edge='x' * 100_000, cells=[LINE]),
            EdgeState(edge='many', cells=[LINE] * 5000),
            EdgeState(edge=HOME, leaving=True),
        ):
            odd.publish(message)
        home = cell.runner.nodes[0]
        cell.wait(lambda: home.health.counted('edges_refused') == 2, 10, 'refusals')
        line.connect(2)
        line.send(1)
        line.answered(1)


def test_an_edge_that_is_heard_before_it_is_reached_has_its_cell_back_when_it_acknowledges(
    tiny_models, monkeypatch
):
    monkeypatch.setattr(edge_pool, 'MUTE_NS', 300 * SECOND)
    with CellHarness([edge(tiny_models, STANDBY)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        own = cell.runner.node('edge_classifier')
        line.wait_serving(STANDBY)
        space, name = HOME.split('/')
        home = Node(name, namespace=space, context=cell.runner.context, use_global_arguments=False)
        try:
            signs = home.create_publisher(EdgeState, '/edges', BEST_EFFORT)
            feedback = home.create_publisher(FeatureFeedback, f'/{LINE}/feedback_tx', BEST_EFFORT)
            line.connect(1)
            state = EdgeState(
                edge=HOME,
                instance=1,
                codec_id=own.decoder.identity,
                model_id=own.model_id,
                cells=[LINE],
                serves=[LINE],
            )
            cell.probe.create_timer(0.1, lambda: signs.publish(state))
            cell.wait(lambda: not own._pool.serves(0), 10, 'the standby stands by')
            line.send(1)
            line.answered(1)
            assert own._pool.serves(0)
            acknowledgement = FeatureFeedback(item_id=1, codec_id=own.decoder.identity)
            cell.probe.create_timer(0.1, lambda: feedback.publish(acknowledgement))
            cell.wait(lambda: not own._pool.serves(0), 10, 'the home has its cell again')
        finally:
            home.destroy_node()


def test_somebody_who_only_says_that_it_is_an_edge_takes_no_answer_away(tiny_models):
    with CellHarness([edge(tiny_models, STANDBY)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        own = cell.runner.node('edge_classifier')
        line.wait_serving(STANDBY)
        pretender = cell.publisher('/edges', EdgeState)
        line.connect(1)
        false = EdgeState(
            edge=HOME,
            instance=1,
            codec_id=own.decoder.identity,
            model_id=own.model_id,
            cells=[LINE],
            serves=[LINE],
        )
        cell.probe.create_timer(0.1, lambda: pretender.publish(false))
        cell.wait(lambda: not own._pool.serves(0), 10, 'the standby believes it')
        line.send(1)
        line.answered(1)
        cell.wait_diagnostic('edge_classifier: mute_edge', HOME)
        line.send(2)
        line.answered(2)
