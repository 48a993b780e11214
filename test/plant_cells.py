# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell of which everything is known, for what tells the plant of one, and who hears it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import Level
from stl_conveyor.panel.items import Offload, Outcome, Truth
from stl_conveyor.panel.live_cell import Bucket, LiveCell
from stl_conveyor.plant.values import faults, readings

INSTALL = 'make setup brings it'
ROOT = Path(__file__).resolve().parents[1]


def known_cell(name='', items=4):
    """Return a cell that sorted items: the second of every four to reject, the third wrongly."""
    cell = CellDescription.load(ROOT / 'config' / 'cell.yaml')
    live = LiveCell(cell, name=name)
    live.recipe = 'screws'
    live.take_node('camera', Level.OK, 'OK', True)
    live.take_safe(True)
    live.take_bucket(Bucket(2.5, 0.25, 4.0, 0.5, 0.0, 1.5, True))
    more_items(live, 0, items)
    return live


def more_items(live, first, count):
    """Let a cell sort more items."""
    for number in range(first, first + count):
        stamp = 1_700_000_000_000_000_000 + number * 500_000_000
        lane = ('A', 'reject', 'B', 'A')[number % 4]
        live.take_capture(stamp, number, stamp + 10**9, None)
        live.take_decision(stamp, Offload(True, 1, 'mdp', 0.1, 0.05, 3.0, 400))
        live.take_transfer(stamp, 250)
        live.take_outcome(
            stamp,
            number,
            Outcome(
                lane,
                'nut',
                0.9,
                2,
                0.04,
                False,
                14 if lane == 'reject' else 0,
                '',
                stamp,
                0.1,
                0.2,
                250,
            ),
        )
        live.take_truth(stamp, Truth('nut', 'A', lane))


def read(live):
    """Return what an output is told."""
    return {live.name: readings(live.figures())}


def lasting(live):
    """Return what an output is told of faults."""
    return {live.name: faults(live.figures())}


class Heard:
    """What came, and waiting for it."""

    def __init__(self):
        self.said = []
        self._changed = threading.Condition()

    def add(self, *what):
        with self._changed:
            self.said.append(what)
            self._changed.notify_all()

    def wait(self, predicate, what, timeout=30.0):
        """Wait until the predicate is true of what was said; return what it returns."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (found := predicate(self.said)):
                left = end - time.monotonic()
                assert left > 0, f'{what} did not come; there came {self.said[-5:]}'
                self._changed.wait(min(left, 0.5))
        return found


@contextmanager
def listener(broker, *topics):
    """Yield (what comes on topics of a broker, a function that publishes)."""
    client_module = pytest.importorskip('paho.mqtt.client', reason=INSTALL)
    heard, ready = Heard(), threading.Event()
    client = client_module.Client(client_module.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in topics])
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _, __, message: heard.add(message.topic, message.payload)
    client.connect('127.0.0.1', broker.port)
    client.loop_start()
    try:
        assert ready.wait(30)
        yield heard, lambda topic, payload: client.publish(topic, payload, qos=1)
    finally:
        client.disconnect()
        client.loop_stop()
