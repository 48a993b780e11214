# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A driver of its own, which listens to `sort_outcome` and answers on `actuation`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stl_conveyor.hardware.diverter import StrokeReport, StrokeResult
from stl_conveyor.hardware.output import DriverOutput, Graph


@dataclass(frozen=True)
class TopicSettings:
    """None: the driver has its own."""


def listen(
    settings: TopicSettings, graph: Graph, reported: Callable[[StrokeReport], None]
) -> None:
    """Turn every Actuation into a report."""

    def on_actuation(message: Any) -> None:
        results = {
            message.STATUS_CONFIRMED: StrokeResult.CONFIRMED,
            message.STATUS_SILENT: StrokeResult.SILENT,
        }
        reported(
            StrokeReport(
                message.header,
                message.item_id,
                message.lane,
                results.get(message.status, StrokeResult.FAILED),
                round(message.lateness * 1e9) if message.lateness >= 0 else None,
                round(message.delay * 1e9) if message.delay >= 0 else None,
                message.detail[:200] or 'the driver gave no reason',
            )
        )

    graph.listen('actuation', on_actuation)


OUTPUT = DriverOutput(settings=TopicSettings, listen=listen)
