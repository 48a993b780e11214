# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""All situations, a module for each kind."""

from __future__ import annotations

from stl_conveyor_lab.bench.line.situation import Situation
from stl_conveyor_lab.bench.line.situations import (
    barrier,
    cameras,
    joints,
    parameter_files,
    pictures_trigger,
    plcs,
    stamps,
    stops,
)

ALL: tuple[Situation, ...] = (
    *stops.SITUATIONS,
    *barrier.SITUATIONS,
    *stamps.SITUATIONS,
    *cameras.SITUATIONS,
    *pictures_trigger.SITUATIONS,
    *plcs.SITUATIONS,
    *joints.SITUATIONS,
    *parameter_files.SITUATIONS,
)
