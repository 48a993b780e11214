# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The actuator decides by cost and by strangeness, each lane at its own time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from cell_harness import CellHarness, make_capture, make_classification  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from stl_conveyor.cell.deadline import sorting_deadline  # noqa: E402
from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import (  # noqa: E402
    Classification,
    FeatureFeedback,
    ItemTruth,
    OffloadDecision,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.encoder import EncoderNode  # noqa: E402
from stl_conveyor.nodes.device.local_classifier import LocalClassifier  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402

CELL_FILE = Path(__file__).parents[2] / 'config' / 'cell.yaml'
LABELS = ModelFolder(share_path('models/items')).labels
LOCAL = Classification.SOURCE_LOCAL
IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def cell_file(tmp_path):
    """Return a function that writes the shipped cell, on a slow belt, with other sections."""

    def write(purity=None, **sections):
        content = yaml.safe_load(CELL_FILE.read_text()) | sections
        content['belt']['speed'] = 0.1
        for lane in content['lanes']:
            lane |= {} if purity is None else {'purity': purity}
        path = tmp_path / 'cell.yaml'
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def outcomes_of(path, items):
    """Send items, (class, score, unknown) each, past an actuator; return outcomes by number."""
    cell_description = CellDescription.load(path)
    with CellHarness([NodeSpec(Actuator, {'cell_file': str(path)})]) as cell:
        cell.wait_active()
        captures = cell.publisher('capture')
        answers = cell.publisher('classification')
        cell.connect('sort_outcome')
        began = {}
        for number, (class_id, score, unknown) in enumerate(items, start=1):
            # Far enough apart to be items of their own.
            stamp = cell.now_ns() + (number - len(items)) * 1_000_000_000
            began[number] = stamp
            deadline = sorting_deadline(stamp, cell_description)
            captures.publish(make_capture(number, stamp, IMAGE, deadline))
            if class_id:
                answers.publish(
                    make_classification(
                        number, stamp, class_id, LOCAL, score, LABELS, deadline, unknown=unknown
                    )
                )
        cell.wait(lambda: len(cell.outcomes()) == len(items), 40, 'an outcome for each item')
        return {outcome.item_id: outcome for outcome in cell.outcomes()}, began, cell_description


def test_stranger_is_rejected_where_nobody_gave_costs(cell_file):
    found, _, _ = outcomes_of(
        cell_file(), [('hex_nut_m8', 0.9, 0.99), ('hex_nut_m8', 0.4, 0.5), ('', 0, 0)]
    )
    assert (found[1].lane, found[1].detail) == ('reject', 'unknown')
    assert found[1].reason == SortOutcome.REASON_UNKNOWN
    assert found[1].unknown == pytest.approx(0.99)
    assert found[2].lane == 'A'  # as unlikely as it is
    assert found[3].lane == 'reject' and found[3].source == SortOutcome.SOURCE_NONE


def test_lane_is_the_cheapest_and_has_its_own_time(cell_file):
    path = cell_file(costs={'reject': 0.3})
    found, began, cell = outcomes_of(
        path,
        [('hex_nut_m8', 0.95, 0.5), ('large_washer_m8', 0.95, 0.5), ('hex_nut_m8', 0.45, 0.5)],
    )
    assert [found[number].lane for number in (1, 2, 3)] == ['A', 'C', 'reject']
    assert (found[3].reason, found[3].detail) == (SortOutcome.REASON_DOUBTFUL, 'doubtful')
    assert found[1].expected_cost < 0.1 < found[3].expected_cost
    assert found[1].lane_probability > 0.9
    for number, lane in ((1, 'A'), (2, 'C'), (3, 'C')):
        command, due = to_ns(found[number].stamp), cell.fire_time_ns(began[number], lane)
        # Not before its own time, however late this machine was.
        assert command >= due - cell.guard_ns - 1_000_000
        assert found[number].slack == pytest.approx((due - command) / 1e9, abs=1e-3)


def test_target_that_nothing_can_promise_is_refused(cell_file):
    path = cell_file(purity=0.9999)
    with CellHarness(
        [NodeSpec(Actuator, {'cell_file': str(path), 'diagnostics_period': 0.3})]
    ) as cell:
        cell.wait_diagnostic('actuator', 'cannot be promised')


def test_policy_offloads_by_the_fall_in_cost(cell_file):
    """Doubt within a lane buys nothing, doubt across lanes and a stranger do."""
    path = cell_file(costs={'wrong': 1.0, 'reject': 0.5})
    description = CellDescription.load(path)

    def doubt(*names):
        found = np.full(len(LABELS), 1e-3, np.float32)
        found[[LABELS.index(name) for name in names]] = 0.5
        return found / found.sum()

    items = [
        (doubt('hex_nut_m8', 'plain_washer_m8'), 0.3),  # both of lane A
        (doubt('hex_nut_m8', 'lock_nut_m8'), 0.3),  # lanes A and B
        (doubt('hex_nut_m8'), 0.995),
    ]
    assert description.lane_of('hex_nut_m8') == description.lane_of('plain_washer_m8')
    assert description.lane_of('hex_nut_m8') != description.lane_of('lock_nut_m8')
    with CellHarness(
        [NodeSpec(OffloadPolicy, {'cell_file': str(path)})], watched=('offload_decision',)
    ) as cell:
        cell.wait_active()
        answers = cell.publisher('classification')
        cell.connect('offload_decision')
        stamp = cell.now_ns()
        for number, (probabilities, unknown) in enumerate(items, start=1):
            message = make_classification(
                number,
                stamp + number,
                'hex_nut_m8',
                labels=LABELS,
                deadline_ns=stamp + 60_000_000_000,
                unknown=unknown,
            )
            message.probabilities = message.posterior = probabilities.tolist()
            answers.publish(message)
        cell.wait(
            lambda: len(cell.heard.of('offload_decision')) == len(items), 20, 'a decision each'
        )
        found = {m.item_id: m.expected_reward for m in cell.heard.of('offload_decision')}
    assert found[2] > found[1] + 0.2 and found[3] > found[1] + 0.2


def test_dimmer_lamp_is_told_with_its_remedy():
    rng = np.random.default_rng(3)

    def picture(light):
        image = np.full((160, 160, 3), 70.0)
        image[50:110, 50:110] = 160.0 + rng.uniform(-20, 20)
        return np.clip(light * image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)

    with CellHarness(
        [NodeSpec(LocalClassifier, {'diagnostics_period': 0.3})],
        watched=('classification', '/diagnostics'),
    ) as cell:
        cell.wait_active()
        captures = cell.publisher('capture')
        cell.connect('classification')
        began = cell.now_ns()
        for number in range(1, 121):
            captures.publish(
                make_capture(
                    number,
                    began + number,
                    picture(1.0 if number <= 80 else 0.67),
                    began + 600_000_000_000,
                )
            )
            heard = cell.heard
            cell.wait(lambda n=number: heard.of('classification', item_id=n), 20, 'an answer')
        cell.wait_diagnostic('local_classifier', 'look at the lamps')


def test_verified_mistakes_raise_the_threshold_of_their_lane(cell_file):
    """What an audit finds wrong in a lane with a target makes the lane stricter, no other."""
    path = cell_file(purity=0.9)
    description = CellDescription.load(path)
    with CellHarness([NodeSpec(Actuator, {'cell_file': str(path)})]) as cell:
        cell.wait_active()
        captures, answers = cell.publisher('capture'), cell.publisher('classification')
        truths = cell.publisher('item_truth')
        cell.connect('sort_outcome')
        decider = cell.runner.node('actuator').decider
        promised = {lane: adaptive.value for lane, adaptive in decider.adaptive.items()}
        now = cell.now_ns()
        stamps = [now - 1_000_000_000 * number for number in (3, 2, 1)]
        for number, stamp in enumerate(stamps, start=1):
            deadline = sorting_deadline(stamp, description)
            captures.publish(make_capture(number, stamp, IMAGE, deadline))
            answers.publish(
                make_classification(
                    number, stamp, 'hex_nut_m8', LOCAL, 0.999, LABELS, deadline, unknown=0.1
                )
            )
        cell.wait(lambda: len(cell.outcomes()) == len(stamps), 40, 'an outcome for each item')
        assert {outcome.lane for outcome in cell.outcomes()} == {'A'}
        for stamp in stamps:
            truths.publish(
                ItemTruth(
                    header=Header(stamp=to_stamp(stamp)),
                    event=ItemTruth.EVENT_RESTED,
                    class_id='lock_nut_m8',
                    lane='B',
                    rest_lane='A',
                )
            )
        lane_a = decider.adaptive['A']
        cell.wait(lambda: lane_a.verified_items == len(stamps), 20, 'every truth')
        assert lane_a.wrong_items == len(stamps)
        assert lane_a.value > promised['A']
        assert decider.adaptive['B'].value == promised['B']


def test_stream_ends_when_its_lane_is_sure_whatever_the_class(cell_file):
    content = yaml.safe_load(CELL_FILE.read_text())
    path = cell_file(costs={'reject': 0.5}, edge={**content['edge'], 'timeout': 60.0})
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)

    def open_between(*names):
        found = np.full(len(LABELS), 1e-5, np.float32)
        found[[LABELS.index(name) for name in names]] = 0.5
        return (found / found.sum()).tolist()

    with CellHarness(
        [
            NodeSpec(
                EncoderNode,
                {'cell_file': str(path), 'patient': True},
                remappings={'features_tx': 'features_rx'},
            )
        ],
        watched=('transfer', 'features_rx'),
    ) as cell:
        cell.wait_active()
        captures, decisions = cell.publisher('capture'), cell.publisher('offload_decision')
        answers = cell.publisher('edge_classification')
        cell.connect('transfer')
        stamp = cell.now_ns()
        deadline = stamp + 8_000_000_000
        capture = make_capture(1, stamp, image, deadline)
        captures.publish(capture)
        decisions.publish(
            OffloadDecision(
                header=capture.header,
                item_id=1,
                deadline=capture.deadline,
                offload=True,
                byte_budget=4000,
            )
        )
        cell.wait(lambda: cell.heard.of('features_rx', item_id=1), 20, 'a packet')
        for names in (('hex_nut_m8', 'lock_nut_m8'), ('hex_nut_m8', 'plain_washer_m8')):
            message = make_classification(
                1,
                stamp,
                'hex_nut_m8',
                Classification.SOURCE_EDGE,
                labels=LABELS,
                deadline_ns=deadline,
                bytes_used=512,
                unknown=0.2,
            )
            message.probabilities = open_between(*names)
            answers.publish(message)
        done = cell.wait(lambda: cell.heard.of('transfer', item_id=1), 20, 'an account')[0]
    assert done.stop_reason == FeatureFeedback.STOP_SATISFIED
    assert 0 < done.bytes < 4000
