# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters that nodes had of their own, before the value came into the cell description."""

from __future__ import annotations

# Parameter -> its key in the cell description, and the nodes that had it.
MOVED = {
    'guard': ('guard', ('actuator', 'offload_policy', 'encoder')),
    'belt_speed_tolerance': ('belt.speed_tolerance', ('actuator', 'camera')),
    'edge_timeout': ('edge.timeout', ('offload_policy', 'encoder')),
    'overhead_bytes': ('edge.overhead_bytes', ('encoder', 'link_emulator')),
}


def cell_key(node: str, name: str) -> str:
    """Return the key of the cell description for a parameter that a node had; '' = none."""
    key, nodes = MOVED.get(name, ('', ()))
    return key if node in nodes else ''
