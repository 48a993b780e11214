# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests: no two in use at the same time are the same.

In one domain, nodes of one name answer for each other, and a second actuator acts on every item
again. A domain that was given back waits behind all others, until nobody remembers its nodes.
Where several processes share the tests (pytest-xdist), each has domains of its own; other test
sessions on this machine, and runs of a cell, hold theirs as `domain_of_its_own` does.
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque

from stl_conveyor.run.domain import claim_domain, has_participant

# Those between reach into the ports that the system gives out itself.
_NUMBERS = (*range(1, 101), *range(215, 232))


def _numbers_here() -> list[int]:
    """Return the domains of this process, in random order."""
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    mine = _NUMBERS[worker::workers]
    return random.SystemRandom().sample(mine, len(mine))


_free = deque(_numbers_here())
_held: dict[int, socket.socket] = {}


def _take(number: int) -> bool:
    """Hold a domain against other sessions; return whether it is nobody's."""
    held = claim_domain(number, 'test')
    if held is None:
        return False
    run = claim_domain(number)
    if run is None or has_participant(number):
        held.close()
    else:
        _held[number] = held
    if run is not None:
        run.close()  # a run that a test starts takes it
    return number in _held


def take_session_domain() -> None:
    """Give this process a domain for what its tests start in none of their own."""
    if 'PYTEST_XDIST_WORKER' in os.environ or 'ROS_DOMAIN_ID' not in os.environ:
        # The workers of pytest-xdist all inherit one.
        os.environ['ROS_DOMAIN_ID'] = str(own_domain_id())
    else:
        taken = int(os.environ['ROS_DOMAIN_ID'])
        if taken in _free:
            _free.remove(taken)


def own_domain_id() -> int:
    """Return a domain that no other test on this machine has, nor a run of a cell."""
    for _ in range(len(_free)):
        number = _free.popleft()
        if _take(number):
            return number
        _free.append(number)
    raise RuntimeError('no ROS domain is free on this machine')


def give_back(domain_id: int) -> None:
    """Let another test have a domain, once no node is left in it."""
    assert domain_id not in _free, f'domain {domain_id} was given back before'
    _held.pop(domain_id).close()
    _free.append(domain_id)


def own_environment() -> dict:
    """Return the environment with a domain of its own."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(own_domain_id())}
