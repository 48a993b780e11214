# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests: no two in use at the same time are the same.

In one domain, nodes of one name answer for each other. A domain that was given back waits
behind all others, until nobody remembers its nodes.
"""

from __future__ import annotations

import os
import random
from collections import deque

# Those between reach into the ports that the system gives out itself.
_numbers = [
    number
    for number in (*range(1, 101), *range(215, 232))
    if number != int(os.environ.get('ROS_DOMAIN_ID', '0'))
]
_free = deque(random.SystemRandom().sample(_numbers, len(_numbers)))


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
