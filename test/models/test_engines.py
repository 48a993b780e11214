# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A server that dies, hangs or comes back costs no answer: another one has it, or this process."""

from __future__ import annotations

import threading
from queue import Queue

import numpy as np
import pytest

from stl_conveyor.models.engines import EngineGone, ServerGroup

FEEDS = {'x': np.zeros((1, 2), np.float32)}


class FakeServer:
    """Answers with its own number, or fails, or waits to be let go."""

    def __init__(self, number):
        self.name = f'server_{number}'
        self.number = number
        self.fails = self.hangs = False
        self.let_go = threading.Event()
        self.asked = Queue()
        self.looked_at = threading.Event()
        self.closed = False

    def infer(self, outputs, feeds, timeout):
        self.asked.put(timeout)
        if self.hangs:
            self.let_go.wait(60)
        if self.fails:
            raise ConnectionError('gone')
        return [np.full(1, self.number)]

    def is_ready(self, timeout):
        self.looked_at.set()
        return not self.fails

    def close(self):
        self.closed = True
        self.let_go.set()


class Local:
    def run(self, outputs, feeds, within=None):
        return [np.full(1, 99)]


@pytest.fixture
def group():
    made = []

    def make(*servers, local=None, **options):
        news = Queue()
        made.append(ServerGroup(servers, local, changed=lambda *what: news.put(what), **options))
        made[-1].news = news
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(engines, within=60.0):
    return int(engines.run(['y'], FEEDS, within)[0][0])


def test_a_server_that_fails_is_left_at_once(group):
    first, second = FakeServer(1), FakeServer(2)
    first.fails = True
    engines = group(first, second, again=600.0, hedge=600.0)
    assert [ask(engines) for _ in range(5)] == [2] * 5
    assert first.asked.qsize() == 1 and engines.well == ('server_2',)
    assert engines.hedged == 0


def test_one_that_fails_is_named_once_and_is_back_when_it_is_ready(group):
    server = FakeServer(1)
    server.fails = True
    engines = group(server, local=Local(), again=0.01)
    assert ask(engines) == 99 and engines.used_local == 1
    name, is_well, why = engines.news.get(timeout=60)
    assert (name, is_well) == ('server_1', False) and 'gone' in why
    server.looked_at.clear()
    assert server.looked_at.wait(60) and engines.well == ()
    server.fails = False
    assert engines.news.get(timeout=60)[:2] == ('server_1', True)
    assert ask(engines) == 1


def test_a_second_one_is_asked_while_the_first_hangs(group):
    first, second = FakeServer(1), FakeServer(2)
    first.hangs = True
    engines = group(first, second, hedge=0.01)
    assert ask(engines) == 2
    assert engines.hedged == 1 and first.asked.qsize() == second.asked.qsize() == 1
    engines._hedge = 600.0  # however slow the machine is
    # The one that still has something to do is asked last.
    assert ask(engines) == 2 and first.asked.qsize() == 1


def test_what_no_server_answers_in_time_is_computed_here(group):
    server = FakeServer(1)
    server.hangs = True
    engines = group(server, local=Local())
    assert ask(engines, within=0.05) == 99
    assert server.asked.get(timeout=60) <= 0.05 * 0.7  # some of the time is kept for that


def test_without_a_local_engine_it_is_said_who_was_asked(group):
    servers = [FakeServer(1), FakeServer(2)]
    for server in servers:
        server.fails = True
    engines = group(*servers, again=600.0)
    with pytest.raises(EngineGone, match='server_1, server_2'):
        ask(engines)
    with pytest.raises(EngineGone):
        ask(engines)  # nobody is asked any more
    assert [server.asked.qsize() for server in servers] == [1, 1]


def test_requests_at_the_same_time_are_shared_out(group):
    servers = [FakeServer(1), FakeServer(2), FakeServer(3)]
    for server in servers:
        server.hangs = True
    engines = group(*servers, hedge=600.0)
    threads = [threading.Thread(target=ask, args=(engines,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for server in servers:
        for _ in range(2):
            server.asked.get(timeout=60)
        assert server.asked.empty()
        server.let_go.set()
    for thread in threads:
        thread.join(60)


def test_servers_are_closed_with_the_group(group):
    server = FakeServer(1)
    group(server).close()
    assert server.closed
