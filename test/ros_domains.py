# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests: no two in use at the same time are the same.

In one domain, nodes of one name answer for each other. A domain that was given back waits
behind all others, until nobody remembers its nodes. Where several processes share the tests
(pytest-xdist), each has domains of its own.
"""

from __future__ import annotations

import os
import random
from collections import deque

# Those between reach into the ports that the system gives out itself.
_NUMBERS = (*range(1, 101), *range(215, 232))


def _numbers_here() -> list[int]:
    """Return the domains of this process, in random order."""
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    mine = _NUMBERS[worker::workers]
    return random.SystemRandom().sample(mine, len(mine))


_free = deque(_numbers_here())


def take_session_domain() -> None:
    """Give this process a domain for what its tests start in none of their own."""
    if 'PYTEST_XDIST_WORKER' in os.environ or 'ROS_DOMAIN_ID' not in os.environ:
        # The workers of pytest-xdist all inherit one.
        os.environ['ROS_DOMAIN_ID'] = str(_free.popleft())
    else:
        taken = int(os.environ['ROS_DOMAIN_ID'])
        if taken in _free:
            _free.remove(taken)


def own_domain_id() -> int:
    """Return a domain that no other test of this session has, nor the session itself."""
    return _free.popleft()


def give_back(domain_id: int) -> None:
    """Let another test have a domain, once no node is left in it."""
    assert domain_id not in _free, f'domain {domain_id} was given back before'
    _free.append(domain_id)


def own_environment() -> dict:
    """Return the environment with a domain of its own."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(own_domain_id())}
