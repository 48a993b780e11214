# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests that start processes of their own: none is given out twice."""
import os
import random

# Those above 100 reach into the ports that the system gives out itself.
_free = [number for number in range(1, 101)
         if number != int(os.environ.get('ROS_DOMAIN_ID', '0'))]
random.SystemRandom().shuffle(_free)


def own_domain_id() -> int:
    """Return a domain that no other test of this session has, nor the session itself."""
    return _free.pop()


def own_environment() -> dict:
    """Return the environment with a domain of its own."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(own_domain_id())}
