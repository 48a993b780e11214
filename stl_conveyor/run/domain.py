# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A ROS domain in which a simulated cell meets no other cell.

Cells in one domain score each other's items, and a simulated camera could move the diverters of a
real belt. The domain of the caller is taken if there is no cell in it, for then whoever listens
there sees the run; else a free one is.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stl_conveyor.errors import ConfigError

ROS_DOMAIN_ID = 'ROS_DOMAIN_ID'
DISCOVERY_RANGE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
LOCALHOST = 'LOCALHOST'

#: Domains that ROS 2 has, and those whose ports the system does not give out itself.
ALL_DOMAINS = range(233)
FREE_DOMAINS = range(1, 101)
#: Only a cell publishes on these.
CELL_TOPICS = ('capture', 'sort_outcome')
PATIENCE = 2.0  # s in which a cell in the domain is found
PARTICIPANTS = 32  # of one machine that are looked for


@contextmanager
def domain_of_its_own(say: Callable[[str], None]) -> Iterator[int]:
    """Have this process and its children use a domain without another cell.

    Another run that holds a domain is known at once, even before it publishes anything. Discovery
    stays on this machine unless the caller has set ROS_AUTOMATIC_DISCOVERY_RANGE.

    Args:
        say: Is told if it is not the caller's domain.

    Yields:
        The domain, which ROS_DOMAIN_ID holds.

    Raises:
        ConfigError: If ROS_DOMAIN_ID is no domain, or none is free.
    """
    before = {name: os.environ.get(name) for name in (ROS_DOMAIN_ID, DISCOVERY_RANGE)}
    wanted = _domain(before[ROS_DOMAIN_ID] or '0')
    if not before[DISCOVERY_RANGE]:
        os.environ[DISCOVERY_RANGE] = LOCALHOST
    claim = None
    try:
        candidates = (wanted, *random.SystemRandom().sample(FREE_DOMAINS, len(FREE_DOMAINS)))
        for domain in candidates:
            claim = claim_domain(domain)
            if claim is None:
                continue
            occupied = has_participant(domain)
            seen_whole = os.environ[DISCOVERY_RANGE] == LOCALHOST  # no other machine takes part
            # In the caller's domain there may be listeners; elsewhere they are strangers.
            if (domain == wanted or not occupied) and (
                (seen_whole and not occupied) or not has_cell(domain)
            ):
                break
            claim.close()
            claim = None
        if claim is None:
            raise ConfigError('no ROS domain is free: end the cells that run on this machine')
        if domain != wanted:
            say(
                f'there is a cell in ROS domain {wanted}: this run takes domain {domain} '
                f'(ROS_DOMAIN_ID={domain} to listen)'
            )
        os.environ[ROS_DOMAIN_ID] = str(domain)
        yield domain
    finally:
        if claim is not None:
            claim.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _domain(text: str) -> int:
    if not text.isdecimal() or int(text) not in ALL_DOMAINS:
        raise ConfigError(
            f'{ROS_DOMAIN_ID} is {text!r}: set a number within 0..{ALL_DOMAINS[-1]}, or unset it'
        )
    return int(text)


def claim_domain(domain: int, purpose: str = 'run') -> socket.socket | None:
    """Return what holds a domain for this process until it is closed; None if another has it.

    A Unix socket with an abstract name leaves no file and goes with its process.

    Args:
        purpose: Claims for different purposes stand beside each other.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f'\0stl_conveyor.{purpose}.domain.{domain}')
    except OSError:
        held.close()
        return None
    return held


def has_participant(domain: int) -> bool:
    """Return whether a program on this machine takes part in a domain.

    It listens on one of the ports that DDSI-RTPS 2.5, 9.6.2.3, gives to the domain.
    """
    first = 7400 + 250 * domain
    for port in (first, *range(first + 10, first + 10 + 2 * PARTICIPANTS, 2)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                return True
    return False


def has_cell(domain: int) -> bool:
    """Return whether somebody publishes in a domain what only a cell does, in any namespace."""
    import rclpy
    from rclpy.node import Node

    from stl_conveyor.nodes.base.middleware import join

    context = join(domain_id=domain)
    try:
        node = Node('cell_search', context=context, use_global_arguments=False)
        try:
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                for topic, _ in node.get_topic_names_and_types():
                    if topic.rsplit('/', 1)[-1] in CELL_TOPICS and node.count_publishers(topic):
                        return True
                time.sleep(0.05)
            return False
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
