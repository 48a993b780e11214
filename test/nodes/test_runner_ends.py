# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A process whose node stopped working ends with an exit code that says so."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from ros_domains import give_back, own_domain_id  # noqa: E402

from stl_conveyor.nodes.base import runner  # noqa: E402
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.runner import STOPPED_WORKING, run_node  # noqa: E402

pytestmark = pytest.mark.ros


class Idle(ConveyorNode):
    """A node that does nothing."""

    NAME = 'idle'


class Unwritable:
    """A standard error that nobody reads any more."""

    def __init__(self):
        self.tried = 0

    def write(self, text):
        self.tried += 1
        raise BrokenPipeError(32, 'Broken pipe')

    def flush(self):
        raise BrokenPipeError(32, 'Broken pipe')


@pytest.fixture
def domain(monkeypatch):
    """Run in a domain of its own, and put the handlers of signals back."""
    number = own_domain_id()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(number))
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in handlers.items():
        signal.signal(each, handler)
    give_back(number)


def test_an_executor_that_ends_by_itself_is_no_success(domain, monkeypatch, capsys):
    monkeypatch.setattr(runner, '_spin', lambda executor, stop: None)
    assert run_node(Idle, []) == STOPPED_WORKING
    assert 'idle: stopped working' in capsys.readouterr().err


def test_an_executor_that_ends_when_asked_is_one(domain, monkeypatch):
    def spin(executor, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(30)

    monkeypatch.setattr(runner, '_spin', spin)
    assert run_node(Idle, []) == 0


def test_an_error_that_cannot_be_told_does_not_end_the_work(domain, monkeypatch):
    stderr = Unwritable()
    calls = []

    class Failing:
        context = type('Context', (), {'ok': staticmethod(lambda: True)})

        def spin_once(self, timeout_sec):
            calls.append(timeout_sec)
            if len(calls) == 3:
                stop.set()
            raise ValueError('from rclpy itself')

    stop = threading.Event()
    monkeypatch.setattr(sys, 'stderr', stderr)
    runner._spin(Failing(), stop)
    assert len(calls) == 3 and stderr.tried >= 3
