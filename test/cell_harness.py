# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run nodes on real DDS in a test, send them anything, and wait for what they say."""

from __future__ import annotations

import array
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_domains import give_back, own_domain_id
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.calibration.parameter_file import set_cell_values
from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import (
    Actuation,
    Classification,
    FeatureFeedback,
    ItemCapture,
    ItemTruth,
    OffloadDecision,
    ProgressiveFeature,
    SortOutcome,
    TokenBucketState,
)
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor.nodes.base.topics import node_module

ROOT = Path(__file__).resolve().parents[1]
CELL = CellDescription.load(ROOT / 'config' / 'cell.yaml')
WATCHED = {
    'capture': ItemCapture,
    'classification': Classification,
    'offload_decision': OffloadDecision,
    'features_rx': ProgressiveFeature,
    'feedback_rx': FeatureFeedback,
    'edge_classification': Classification,
    'transfer': FeatureFeedback,
    'token_bucket': TokenBucketState,
    'sort_outcome': SortOutcome,
    'actuation': Actuation,
    'item_truth': ItemTruth,
    '/diagnostics': DiagnosticArray,
}
# So early that a loaded machine, on which Python stands still for a moment, is not a failure.
GUARD = 0.25
_FILES = tempfile.TemporaryDirectory(prefix='cells_')


def described(**values):
    """Return the parameter of a node for the shipped cell with other values, such as guard=0.3."""
    path = Path(_FILES.name) / f'{"_".join(map(str, values.values()))}.yaml'
    set_cell_values(path, {key.replace('__', '.'): value for key, value in values.items()})
    return {'cell_file': str(path)}


GUARDED = described(guard=GUARD)
BEST_EFFORT = ('features_tx', 'features_rx', 'feedback_tx', 'feedback_rx', 'camera/image_raw')


def qos(topic, depth=100):
    """Return a profile that connects to the cell's topic."""
    return QoSProfile(
        depth=depth,
        reliability=(
            ReliabilityPolicy.BEST_EFFORT if topic in BEST_EFFORT else ReliabilityPolicy.RELIABLE
        ),
        durability=(
            DurabilityPolicy.TRANSIENT_LOCAL
            if topic == 'token_bucket'
            else DurabilityPolicy.VOLATILE
        ),
    )


@dataclass
class Heard:
    """Messages that the probe received, by topic, with the time (ns, steady)."""

    messages: dict = field(default_factory=lambda: {topic: [] for topic in WATCHED})

    def of(self, topic, **fields):
        return [
            m
            for m in self.messages[topic]
            if all(getattr(m, name) == value for name, value in fields.items())
        ]


# What is heard wakes who waits; of discovery and of what lies within a node nobody is told.
LOOK_S = 0.02


class CellHarness:
    """Nodes, and a probe that hears every topic and can publish on any."""

    def __init__(self, specs, *, watched=tuple(WATCHED)):
        self.domain_id = own_domain_id()
        self.runner = NodeRunner(specs, domain_id=self.domain_id)
        self.heard = Heard()
        self._changed = threading.Condition()
        self._publishers = {}
        self.probe = Node('probe', context=self.runner.context, use_global_arguments=False)
        for topic in watched:
            self.probe.create_subscription(
                WATCHED[topic],
                topic,
                lambda message, topic=topic: self._on_message(topic, message),
                qos(topic),
            )
        executor = SingleThreadedExecutor(context=self.runner.context)
        executor.add_node(self.probe)
        self.runner.spin_also('probe', executor)

    def _on_message(self, topic, message):
        with self._changed:
            self.heard.messages[topic].append(message)
            self._changed.notify_all()

    def __enter__(self):
        self.runner.start()
        return self

    def __exit__(self, *_):
        self.probe.destroy_node()
        self.runner.stop()
        give_back(self.domain_id)

    def wait(self, predicate, timeout=10.0, what='what was expected'):
        """Wait until the predicate is true of what was heard; fail with what was said."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (result := predicate()):
                left = end - time.monotonic()
                assert left > 0, f'{what} did not happen in {timeout} s; {self.complaints()}'
                self._changed.wait(min(left, LOOK_S))
        return result

    def wait_active(self, timeout=30.0):
        self.wait(
            lambda: all(n.is_active for n in self.runner.nodes if n.settings.autostart),
            timeout,
            'activation',
        )

    def publisher(self, topic, kind=None, readers=1, timeout=10.0):
        """Return a publisher that is connected to that many readers."""
        if topic not in self._publishers:
            self._publishers[topic] = self.probe.create_publisher(
                kind or WATCHED[topic], topic, qos(topic)
            )
        publisher = self._publishers[topic]
        self.wait(
            lambda: publisher.get_subscription_count() >= readers,
            timeout,
            f'{readers} readers of {topic}',
        )
        return publisher

    def connect(self, topic, publishers=1, readers=1):
        self.wait(
            lambda: (
                self.probe.count_publishers(topic) >= publishers
                and self.probe.count_subscribers(topic) >= readers
            ),
            10,
            f'wiring of {topic}',
        )

    def statuses(self, node):
        return [
            s
            for m in self.heard.messages['/diagnostics']
            for s in m.status
            # A fault has a status of its own: its name may end with that of another node.
            if s.name.endswith(node) and (': ' in s.name) == (': ' in node)
        ]

    def wait_diagnostic(self, node, text, level=None, timeout=10.0):
        """Wait for a report of a node that contains a text."""
        return self.wait(
            lambda: next(
                (
                    s
                    for s in self.statuses(node)
                    if text in s.message and (level is None or s.level == bytes([level]))
                ),
                None,
            ),
            timeout,
            f'{text!r} from {node}',
        )

    def complaints(self):
        seen = {}
        for message in self.heard.messages['/diagnostics']:
            for status in message.status:
                if status.message != 'OK':
                    seen[f'{status.name}: {status.message}'] = None
        counts = {t: len(m) for t, m in self.heard.messages.items() if m}
        return f'heard {counts}; diagnostics: {list(seen)[-8:]}'

    def now_ns(self):
        return self.probe.get_clock().now().nanoseconds

    def outcomes(self):
        return self.heard.messages['sort_outcome']


class Stranger:
    """A node of another process, as far as the middleware can tell."""

    def __init__(self, cell, name='flooder'):
        self._context = Context()
        rclpy.init(context=self._context, domain_id=cell.domain_id)
        self._node = Node(name, context=self._context, use_global_arguments=False)
        self._cell = cell

    def __enter__(self):
        return self

    def publisher(self, kind, topic, readers=1):
        publisher = self._node.create_publisher(kind, topic, QoSProfile(depth=100))
        self._cell.wait(
            lambda: publisher.get_subscription_count() >= readers, 20, f'readers of {topic}'
        )
        return publisher

    def __exit__(self, *_):
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def make_capture(item_id, stamp_ns, image, deadline_ns=None):
    """Return the capture of an image uint8 [S, S, 3]."""
    header = Header(stamp=to_stamp(stamp_ns), frame_id='camera_optical_frame')
    size = image.shape[0]
    if deadline_ns is None:
        deadline_ns = sorting_deadline(stamp_ns, CELL)
    return ItemCapture(
        header=header,
        item_id=item_id,
        deadline=to_stamp(deadline_ns),
        crop=Image(
            header=header,
            height=size,
            width=size,
            encoding='rgb8',
            step=3 * size,
            data=array.array('B', image.tobytes()),
        ),
    )


def make_classification(
    item_id,
    stamp_ns,
    class_id,
    source=Classification.SOURCE_LOCAL,
    score=0.6,
    labels=CELL.classes,
    deadline_ns=None,
    **fields,
):
    probabilities = np.full(len(labels), (1 - score) / (len(labels) - 1), np.float32)
    probabilities[labels.index(class_id)] = score
    if deadline_ns is None:
        deadline_ns = sorting_deadline(stamp_ns, CELL)
    return Classification(
        header=Header(stamp=to_stamp(stamp_ns)),
        item_id=item_id,
        deadline=to_stamp(deadline_ns),
        source=source,
        class_id=class_id,
        score=score,
        probabilities=array.array('f', probabilities.tobytes()),
        **fields,
    )


def device_specs(models, *, group='device', edge=True, **changes):
    """Return the product's nodes without the camera, edge and device wired directly."""
    from stl_conveyor.nodes.device.actuator import Actuator
    from stl_conveyor.nodes.device.encoder import EncoderNode
    from stl_conveyor.nodes.device.local_classifier import LocalClassifier
    from stl_conveyor.nodes.device.offload_policy import OffloadPolicy
    from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier

    plan = [
        (Actuator, GUARDED, {}, 'act'),
        (LocalClassifier, {'models_dir': str(models)}, {}, group),
        (
            OffloadPolicy,
            {
                'models_dir': str(models),
                'policy': 'always',
                'rate': 1000.0,
                'depth': 1000.0,
                'time_unit': 1.0,
                **GUARDED,
            },
            {},
            group,
        ),
        (
            EncoderNode,
            {'models_dir': str(models), **GUARDED},
            {'features_tx': 'features_rx'},
            group,
        ),
    ]
    if edge:
        plan.append(
            (
                EdgeClassifier,
                {'models_dir': str(models)},
                {'feedback_tx': 'feedback_rx', 'edge_classification_tx': 'edge_classification'},
                'edge',
            )
        )
    return [
        NodeSpec(
            cls,
            {
                **parameters,
                'retry_period': 0.3,
                'diagnostics_period': 0.3,
                **changes.get(cls.NAME, {}),
            },
            group=where,
            remappings=remappings,
        )
        for cls, parameters, remappings, where in plan
    ]


@contextmanager
def node_process(
    name, *, domain_id, parameters=(), remappings=(), words=(), stderr=subprocess.PIPE
):
    """Run a node as a process of its own; it is killed at the end if it still runs.

    `device` is no node, but those of the device in one process.
    """
    module = 'stl_conveyor.nodes.device.device' if name == 'device' else node_module(name)
    command = [sys.executable, '-m', module, '--ros-args', *words]
    for key, value in dict(parameters).items():
        text = value if isinstance(value, str) else json.dumps(value)
        command += ['-p', f'{key}:={text}']
    for old, new in dict(remappings).items():
        command += ['-r', f'{old}:={new}']
    process = subprocess.Popen(
        command,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
