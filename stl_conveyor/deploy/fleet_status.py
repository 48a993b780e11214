# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a fleet does at present, compared with its file; needs no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stl_conveyor.cell.fleet_signs import SeenEdge, SeenStatus
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.deploy.fleet import Fleet, FleetEdge
from stl_conveyor.models.model_folder import ModelFolder

# Nodes of a device that report which codec they have.
CODEC_NODES = ('encoder',)


@dataclass(frozen=True)
class FleetStatus:
    """What there is to be said, in rows of words.

    Attributes:
        edges: Name, versions, cells answered, load, answers per second, capacity left, price.
        cells: Name, versions, who answers.
        alarms: What is not as the file says, and what the nodes report.
    """

    edges: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[str, ...], ...]
    alarms: tuple[str, ...]

    @property
    def is_in_order(self) -> bool:
        """Return whether there is no alarm."""
        return not self.alarms


def version(model: str, codec_id: int) -> str:
    """Return how a version of models is called: its name, and how its codec's identity begins."""
    return f'{model} {codec_id:016x}'[: len(model) + 9]


def fleet_status(
    fleet: Fleet, edges: Sequence[SeenEdge], statuses: Sequence[SeenStatus]
) -> FleetStatus:
    """Compare what was heard with the fleet file.

    Args:
        edges: The last sign of life of each edge that is there.
        statuses: The last status of each name on /diagnostics.
    """
    wanted = {name: codec_identity(ModelFolder(path)) for name, path in fleet.models.items()}
    there = {edge.node: edge for edge in edges}
    alarms: list[str] = []
    edge_rows = []
    for edge in fleet.edges.values():
        seen = there.get(edge.node)
        edge_rows.append(_edge_row(edge, seen))
        if seen is None:
            alarms.append(f'edge {edge.name}: gives no sign of life')
        elif seen.codec_id != wanted[edge.models]:
            alarms.append(
                f'edge {edge.name}: runs {version(seen.model, seen.codec_id)}, the file says '
                f'{version(edge.models, wanted[edge.models])}'
            )
    known = {edge.node for edge in fleet.edges.values()}
    alarms += [f'edge {node}: is not in the file' for node in there if node not in known]
    served = {cell: edge.node for edge in edges for cell in edge.serves}
    cell_rows = []
    for cell in fleet.cells.values():
        codec = _codec_of(cell.name, statuses)
        answered_by = served.get(cell.name, '')
        names = [e.name for e in fleet.edges.values() if e.node == answered_by]
        cell_rows.append(
            (
                cell.name,
                'not heard of' if codec is None else version(cell.models, codec),
                names[0] if names else answered_by or 'nobody',
                fleet.order(cell.name)[0],
            )
        )
        if codec is None:
            alarms.append(f'cell {cell.name}: its device is not heard of')
        elif codec != wanted[cell.models]:
            alarms.append(
                f'cell {cell.name}: runs codec {codec:016x}, the file says {cell.models}, which '
                f'has {wanted[cell.models]:016x}'
            )
        if not answered_by:
            alarms.append(f'cell {cell.name}: no edge answers it')
    alarms += [
        f'{status.name}: {status.message}'
        for status in statuses
        # A fault has a status of its own; that of its node repeats it.
        if status.level and ': ' in status.name
    ]
    return FleetStatus(tuple(edge_rows), tuple(cell_rows), tuple(alarms))


def _edge_row(edge: FleetEdge, seen: SeenEdge | None) -> tuple[str, ...]:
    if seen is None:
        return (edge.name, 'gone', '', '', '', '', '')
    capacity = edge.capacity or seen.capacity
    left = f'{max(0.0, capacity - seen.answers):.0f}/s' if capacity else 'not known yet'
    return (
        edge.name,
        version(seen.model, seen.codec_id),
        str(len(seen.serves)),
        f'{100 * seen.load:.0f} %',
        f'{seen.answers:.1f}/s',
        left,
        f'{seen.price:.2f}',
    )


def _codec_of(cell: str, statuses: Sequence[SeenStatus]) -> int | None:
    """Return the codec that a cell's device reports; None if it reports none."""
    names = {f'{cell}/{node}' for node in CODEC_NODES}
    for status in statuses:
        if status.name in names and 'codec' in status.values:
            try:
                return int(status.values['codec'], 16)
            except ValueError:
                return None
    return None
