# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The fleet file: cells, edges, models and links of a plant, each named once (docs/fleet.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stl_conveyor.cell.edge_pool import preference
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.outside_files import UnusableFile, read_yaml

# Answers that an edge gives to an item of which something is sent, where nothing else is known.
ANSWERS_PER_ITEM = 1.6
_NAME = re.compile(r'[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


@dataclass(frozen=True)
class FleetEdge:
    """An edge of the fleet.

    Attributes:
        models: Name of its model folder in the file.
        host: Name of the machine on which it runs; empty: any.
        capacity: Answers per second that it gives at most (`make bench-edge` measures it); 0: not
            told.
        workers: Batches computed at the same time; 0: one for each core.
    """

    name: str
    models: str
    host: str = ''
    capacity: float = 0.0
    workers: int = 0

    @property
    def node(self) -> str:
        """Return the fully qualified name of its node, without the first slash."""
        return f'{self.name}/edge_classifier'


@dataclass(frozen=True)
class FleetLink:
    """A kind of link between devices and edges.

    Attributes:
        gateway: Whether a pair of gateways stands on it (docs/network.md).
    """

    name: str
    gateway: bool = False


@dataclass(frozen=True)
class FleetCell:
    """A cell of the fleet; its name is the namespace of its nodes.

    Attributes:
        models: Name of its model folder in the file.
        edges: Names of the edges that may answer it.
        link: Name of its link.
        address: Of the device, for a link with gateways.
        rate: Items per second that it sends at most.
    """

    name: str
    models: str
    edges: tuple[str, ...]
    link: str
    address: str = ''
    rate: float = 2.0


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a fleet file, or that one should know of."""

    is_error: bool
    text: str


@dataclass(frozen=True)
class Fleet:
    """What a fleet file says.

    Attributes:
        models: Name → model folder.
    """

    models: Mapping[str, Path]
    edges: Mapping[str, FleetEdge]
    links: Mapping[str, FleetLink]
    cells: Mapping[str, FleetCell]

    @classmethod
    def load(cls, path: str | Path) -> Fleet:
        """Read a fleet file.

        Raises:
            ConfigError: Naming what cannot be used, and the remedy.
        """
        path = Path(path)
        try:
            content = read_yaml(path)
        except UnusableFile as error:
            raise ConfigError(f'{path}: {error}; docs/fleet.md shows a fleet file') from error
        return _Reader(path).fleet(content)

    def cells_of(self, edge: str) -> tuple[FleetCell, ...]:
        """Return the cells that an edge may answer."""
        return tuple(cell for cell in self.cells.values() if edge in cell.edges)

    def order(self, cell: str, without: Sequence[str] = ()) -> list[str]:
        """Return the edges of a cell by preference: its home, its standby, the rest.

        Args:
            without: Edges that are not there.
        """
        by_node = {self.edges[e].node: e for e in self.cells[cell].edges if e not in without}
        return [by_node[node] for node in preference(cell, by_node)]

    def loads(self, without: Sequence[str] = ()) -> dict[str, float]:
        """Return edge → answers per second that its cells ask for at most.

        Args:
            without: Edges that are not there.
        """
        found = {name: 0.0 for name in self.edges if name not in without}
        for cell in self.cells.values():
            order = self.order(cell.name, without)
            if order:
                found[order[0]] += cell.rate * ANSWERS_PER_ITEM
        return found

    def here(self, host: str) -> str:
        """Return the edge that a machine runs.

        Raises:
            ConfigError: If that cannot be told by the file.
        """
        own = [edge.name for edge in self.edges.values() if edge.host == host]
        if not own and len(self.edges) == 1:
            own = list(self.edges)
        if len(own) != 1:
            raise ConfigError(
                f'argument edge: the fleet file has {len(own)} edges with the host {host}; name '
                f'one of {", ".join(self.edges)}'
            )
        return own[0]

    def check(self) -> list[Finding]:
        """Return what is wrong, or worth knowing: models, standbys, capacity."""
        findings = [Finding(True, text) for text in self._model_faults()]
        for edge in self.edges.values():
            if not self.cells_of(edge.name):
                findings.append(Finding(False, f'edge {edge.name}: answers no cell'))
        for cell in self.cells.values():
            if len(cell.edges) < 2:
                findings.append(
                    Finding(
                        False,
                        f'cell {cell.name}: has one edge and no standby; while that is gone, the '
                        'device decides alone',
                    )
                )
        findings += self._overloads(())
        for gone in self.edges:
            if len(self.edges) > 1:
                findings += self._overloads((gone,))
        return findings

    def _model_faults(self) -> list[str]:
        faults, identities = [], {}
        for name, path in self.models.items():
            try:
                folder = ModelFolder(path)
                for role in folder.roles:
                    folder.path(role)
                identities[name] = codec_identity(folder), folder.model_id('edge')
            except ConveyorError as error:
                faults.append(f'models {name}: {error}')
        for cell in self.cells.values():
            for name in cell.edges:
                theirs = self.edges[name].models
                known = {cell.models, theirs} <= identities.keys()
                if known and identities[theirs] != identities[cell.models]:
                    faults.append(
                        f'cell {cell.name}: has the models {cell.models}, its edge {name} '
                        f'{theirs}, which are others; an edge answers only cells with its models'
                    )
        return faults

    def _overloads(self, without: Sequence[str]) -> list[Finding]:
        findings = []
        for name, load in self.loads(without).items():
            capacity = self.edges[name].capacity
            if capacity and load > capacity:
                case = f' while {without[0]} is gone' if without else ''
                findings.append(
                    Finding(
                        not without,
                        f'edge {name}: its cells ask for {load:.0f} answers/s{case}, it gives '
                        f'{capacity:.0f}; add an edge, or share the cells out otherwise',
                    )
                )
        return findings


class _Reader:
    """Turns what a fleet file says into a Fleet, and names what cannot be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fleet(self, content: Any) -> Fleet:
        whole = self._mapping('the file', content, {'models', 'edges', 'links', 'cells'})
        models = {
            name: self._path.parent / Path(self._text(f'models.{name}', value)).expanduser()
            for name, value in self._named('models', whole).items()
        }
        edges = {
            name: self._edge(name, value, models)
            for name, value in self._named('edges', whole).items()
        }
        links = {'lan': FleetLink('lan')}
        for name, value in self._named('links', whole, needed=False).items():
            entry = self._mapping(f'links.{name}', value or {}, {'gateway'})
            links[name] = FleetLink(name, self._is(f'links.{name}.gateway', entry.get('gateway')))
        cells = {
            name: self._cell(name, value, models, edges, links)
            for name, value in self._named('cells', whole).items()
        }
        fleet = Fleet(models, edges, links, cells)
        self._check_gateways(fleet)
        return fleet

    def _edge(self, name: str, value: Any, models: Mapping[str, Path]) -> FleetEdge:
        place = f'edges.{name}'
        entry = self._mapping(place, value or {}, {'models', 'host', 'capacity', 'workers'})
        return FleetEdge(
            name,
            self._one_of(f'{place}.models', entry.get('models'), models, 'models'),
            self._text(f'{place}.host', entry.get('host', '')),
            self._number(f'{place}.capacity', entry.get('capacity', 0.0), 1e6),
            int(self._number(f'{place}.workers', entry.get('workers', 0), 256)),
        )

    def _cell(
        self,
        name: str,
        value: Any,
        models: Mapping[str, Path],
        edges: Mapping[str, FleetEdge],
        links: Mapping[str, FleetLink],
    ) -> FleetCell:
        place = f'cells.{name}'
        known = {'models', 'edges', 'link', 'address', 'rate'}
        entry = self._mapping(place, value or {}, known)
        own = self._one_of(f'{place}.models', entry.get('models'), models, 'models')
        listed = entry.get('edges', [e.name for e in edges.values() if e.models == own])
        if not isinstance(listed, list) or not listed:
            raise self._error(
                f'{place}.edges', f'{listed!r} names no edge; list some, or give an edge {own}'
            )
        chosen = tuple(self._one_of(f'{place}.edges', each, edges, 'edges') for each in listed)
        if len(set(chosen)) != len(chosen):
            raise self._error(f'{place}.edges', 'names an edge twice')
        return FleetCell(
            name,
            own,
            chosen,
            self._one_of(f'{place}.link', entry.get('link', 'lan'), links, 'links'),
            self._text(f'{place}.address', entry.get('address', '')),
            self._number(f'{place}.rate', entry.get('rate', 2.0), 1000.0),
        )

    def _check_gateways(self, fleet: Fleet) -> None:
        """Refuse gateways that cannot be started: an edge behind them speaks to nobody else."""
        for cell in fleet.cells.values():
            if not fleet.links[cell.link].gateway:
                continue
            place = f'cells.{cell.name}'
            if not cell.address:
                raise self._error(f'{place}.address', "a link with a gateway needs the device's")
            if len(cell.edges) > 1:
                raise self._error(
                    f'{place}.edges',
                    'behind a gateway a cell has one edge; for several use Zenoh (docs/fleet.md)',
                )
            for other in fleet.cells_of(cell.edges[0]):
                if not fleet.links[other.link].gateway:
                    raise self._error(
                        f'cells.{other.name}.link',
                        f'its edge {cell.edges[0]} has a gateway to {cell.name}, and then needs '
                        'one to every cell',
                    )

    def _error(self, place: str, text: str) -> ConfigError:
        return ConfigError(f'{self._path}: {place}: {text}')

    def _mapping(self, place: str, value: Any, known: set[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(place, f'is no mapping of {", ".join(sorted(known))}')
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f'is {near[0]} meant?' if near else f'there are {", ".join(sorted(known))}'
                raise self._error(place, f'unknown key {key!r}; {hint}')
        return value

    def _named(self, key: str, whole: Mapping[str, Any], *, needed: bool = True) -> dict[str, Any]:
        value = whole.get(key)
        if value is None and not needed:
            return {}
        if not isinstance(value, Mapping) or not value:
            raise self._error(key, f'must map names to {key}')
        for name in value:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise self._error(
                    key, f'{name!r} is no name: letters, digits and _, parts joined by /'
                )
        return dict(value)

    def _one_of(self, place: str, value: Any, known: Mapping[str, Any], kind: str) -> str:
        if value is None and len(known) == 1:
            return next(iter(known))  # the only one there is
        if not isinstance(value, str) or value not in known:
            raise self._error(place, f'{value!r} is none of the {kind}: {", ".join(known)}')
        return value

    def _text(self, place: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._error(place, f'{value!r} is no text')
        return value

    def _is(self, place: str, value: Any) -> bool:
        if value is not None and not isinstance(value, bool):
            raise self._error(place, f'{value!r} is not true or false')
        return bool(value)

    def _number(self, place: str, value: Any, most: float) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= most:
            raise self._error(place, f'{value!r} is no number within 0..{most:g}')
        return float(value)
