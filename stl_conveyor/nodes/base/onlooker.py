# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Look on for a while with a node of a command, which has no life cycle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from stl_conveyor.nodes.base.middleware import join

LOOK_S = 0.1  # between two looks whether it is enough


class Onlooker(Protocol):
    """What has a node that listens."""

    node: Node


OnlookerT = TypeVar('OnlookerT', bound=Onlooker)


def look_on(
    make: Callable[[Context], OnlookerT],
    enough: Callable[[OnlookerT], bool],
    *,
    domain_id: int | None = None,
    seconds: float = math.inf,
) -> OnlookerT:
    """Return an onlooker with what it has heard; its node is gone.

    Args:
        make: Makes the onlooker in a context of its own.
        enough: Tells when nothing more needs to be heard.
        seconds: For which to listen at most.
    """
    context = join(domain_id=domain_id)
    executor = SingleThreadedExecutor(context=context)
    onlooker = make(context)
    executor.add_node(onlooker.node)
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0 and context.ok() and not enough(onlooker):
            executor.spin_once(timeout_sec=min(left, LOOK_S))
    except ExternalShutdownException:
        pass
    finally:
        onlooker.node.destroy_node()
        executor.shutdown(timeout_sec=0)
        rclpy.try_shutdown(context=context)
    return onlooker
