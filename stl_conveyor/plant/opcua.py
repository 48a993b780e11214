# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""OPC UA: a server with the names of OPC 40100-1 (machine vision) where they fit.

Below Objects there is one object for each cell, `VisionSystem` or `VisionSystem_CELL`:

    VisionStateMachine/CurrentState   Halted, Preoperational, Error, Ready, ContinuousExecution
    VisionStateMachine/StartContinuous, Stop      methods, if the plant may pause the line
    RecipeManagement/ActiveRecipe, PrepareRecipe  the latter if it may change the recipe
    ResultManagement/Results/LastResult           ResultId, CreationTime, ResultState, Lane, ...
    Production/...                                every value of the table, with its unit
    Alarms/ActiveFaults, and an event for each fault that is raised, and for each that ends
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConfigError, MissingDependency, install_words
from stl_conveyor.panel.accounts import Accounts
from stl_conveyor.plant.output import RECIPE, RUNNING, Commands, Result
from stl_conveyor.plant.values import VALUES, Fault, Kind, PlantValue, Reading, Readings

try:
    from asyncua import Server, ua, uamethod
    from asyncua.common.node import Node
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.crypto.truststore import TrustStore
    from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
except ImportError as _error:
    raise MissingDependency(
        f'the output opcua needs asyncua ({_error}): {install_words("plant")}'
    ) from _error

NAMESPACE = 'urn:stl_conveyor:plant'
UNITS = 'http://www.opcfoundation.org/UA/units/un/cefact'
START_PATIENCE_S = 60.0
STOP_PATIENCE_S = 5.0
COMMAND_PATIENCE_S = 120.0  # a recipe has models to load
MOST_WAITING = 256  # calls into the loop; beyond, what holds is told at the next turn
GOOD = 0
# Of an event (OPC 10000-5, 6.4.2), by the level of the fault; 0: it has ended.
SEVERITIES = {0: 100, 1: 400, 2: 700}
_TYPES = {
    Kind.COUNTER: ua.VariantType.Int64,
    Kind.GAUGE: ua.VariantType.Double,
    Kind.FLAG: ua.VariantType.Boolean,
    Kind.TEXT: ua.VariantType.String,
}


@dataclass(frozen=True)
class Access:
    """Who may connect.

    Attributes:
        certificate: Of the server (PEM or DER); with it everything is signed and encrypted. None:
            nothing is, and everybody who reaches the server may read.
        key: Of the certificate (PEM).
        trusted: Folder of the certificates of clients that may connect; None: any client.
        accounts: Names and passwords; None: anonymous.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    accounts: Accounts | None = None


class _Users:
    """Asks the accounts; a name and a right password, or, without accounts, anybody."""

    def __init__(self, accounts: Accounts | None) -> None:
        self._accounts = accounts

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: Any = None,
        certificate: Any = None,
    ) -> User | None:
        """Return who that is; None refuses them."""
        del iserver, certificate
        if self._accounts is None:
            return User(role=UserRole.User)
        text = password.decode() if isinstance(password, bytes) else password
        known = self._accounts.check(username, text) if username and text else None
        return None if known is None else User(role=UserRole.User, name=known.name)


class OpcUaOutput:
    """A server in a thread of its own."""

    def __init__(
        self,
        address: str,
        port: int,
        cells: Mapping[str, Readings],
        commands: Commands,
        access: Access = Access(),
    ) -> None:
        """Serve from now on.

        Args:
            address: Of this machine.
            port: 0 takes a free one, which `port` tells.
            cells: What holds now, by cell.

        Raises:
            ConfigError: If the server does not come up.
        """
        self.trouble = ''
        self.left_out = 0
        self.port = port
        self._address, self._commands, self._access = address, commands, access
        self._nodes: dict[tuple[str, ...], Node] = {}
        self._values: dict[tuple[str, ...], Any] = {}
        self._generators: dict[str, Any] = {}
        self._faults: dict[str, dict[str, Fault]] = {}
        self._waiting = 0
        try:  # before the address space is built, which takes a second
            socket.create_server((address, port), family=_family(address)).close()
        except OSError as error:
            raise self._cannot_be_had(error) from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name='opcua', daemon=True)
        self._thread.start()
        try:
            self._do(self._start(cells), START_PATIENCE_S)
        except ConfigError:
            self._end()
            raise
        except Exception as error:  # what the library raises is of many kinds
            self._end()
            raise self._cannot_be_had(error) from error

    @property
    def has_ended(self) -> bool:
        """Return whether nobody takes connections any more."""
        return not (self._thread.is_alive() and self._server.bserver._server.is_serving())

    @property
    def url(self) -> str:
        """Return where the server is."""
        return f'opc.tcp://{self._address}:{self.port}/'

    def update(self, cells: Mapping[str, Readings]) -> None:
        """Tell what holds now."""
        self._later(self._update(cells))

    def faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        """Tell which faults last."""
        self._later(self._tell_faults(cells))

    def result(self, result: Result) -> None:
        """Tell of an item."""
        self._later(self._tell(result))

    def stop(self) -> None:
        """End the server."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, OSError, ua.UaError):
            if self._thread.is_alive():
                self._do(self._server.stop(), STOP_PATIENCE_S)
            else:  # its loop has ended; the port is still taken
                stopping = asyncio.wait_for(self._server.stop(), STOP_PATIENCE_S)
                self._loop.run_until_complete(stopping)
        self._end()

    def _cannot_be_had(self, error: Exception) -> ConfigError:
        return ConfigError(
            f'opcua: the server cannot be had on {self._address}, port {self.port} '
            f'({type(error).__name__}: {error}): name an address of this machine, a port that '
            'nobody else has, and a certificate that can be read'
        )

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=STOP_PATIENCE_S)

    def _do(self, work: Coroutine[Any, Any, Any], patience: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patience)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        if self._waiting >= MOST_WAITING:
            self.left_out += 1
            work.close()
            return
        self._waiting += 1

        async def do() -> None:
            try:
                await work
                self.trouble = ''
            except Exception as error:  # one value must not end the server
                self.trouble = f'opcua: {type(error).__name__}: {error}; the server goes on'
            finally:
                self._waiting -= 1

        asyncio.run_coroutine_threadsafe(do(), self._loop)

    # In the loop.

    async def _start(self, cells: Mapping[str, Readings]) -> None:
        self._server = server = Server(user_manager=_Users(self._access.accounts))
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name('stl_conveyor')
        await server.set_application_uri(NAMESPACE)
        await self._protect(server)
        index = await server.register_namespace(NAMESPACE)
        for cell in cells:
            await self._build(index, cell)
        await server.start()
        if not self.port:
            (listening,) = server.bserver._server.sockets[:1]
            self.port = int(listening.getsockname()[1])
        await self._update(cells)

    async def _protect(self, server: Server) -> None:
        access = self._access
        if access.certificate is None or access.key is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            await server.load_certificate(str(access.certificate))
            await server.load_private_key(str(access.key))
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            if access.trusted is not None:
                store = TrustStore([access.trusted], [])
                await store.load()
                options = (
                    CertificateValidatorOptions.TRUSTED | CertificateValidatorOptions.TIME_RANGE
                )
                server.set_certificate_validator(CertificateValidator(options, store))
        server.set_identity_tokens(
            [ua.AnonymousIdentityToken if access.accounts is None else ua.UserNameIdentityToken]
        )

    async def _build(self, index: int, cell: str) -> None:
        top = f'VisionSystem_{cell}' if cell else 'VisionSystem'

        def below(parent: Node, name: str) -> tuple[ua.NodeId, ua.QualifiedName]:
            path = f'{parent.nodeid.Identifier}/{name}'
            return ua.NodeId(path, index), ua.QualifiedName(name, index)

        def keep(node: Node) -> Node:
            self._nodes[cell, node.nodeid.Identifier.removeprefix(f'{top}/')] = node
            return node

        async def folder(parent: Node, name: str) -> Node:
            return keep(await parent.add_object(*below(parent, name)))

        async def variable(parent: Node, name: str, value: Any, kind: ua.VariantType) -> Node:
            return keep(await parent.add_variable(*below(parent, name), value, varianttype=kind))

        async def method(parent: Node, name: str, call: Callable[..., Any], *given: Any) -> None:
            await parent.add_method(
                *below(parent, name), call, list(given), [ua.VariantType.String]
            )

        system = await self._server.get_objects_node().add_object(
            ua.NodeId(top, index), ua.QualifiedName(top, index)
        )
        machine = await folder(system, 'VisionStateMachine')
        await variable(machine, 'CurrentState', '', ua.VariantType.String)
        recipes = await folder(system, 'RecipeManagement')
        await variable(recipes, 'ActiveRecipe', '', ua.VariantType.String)
        last = system
        for name in _LAST.split('/'):
            last = await folder(last, name)
        for field, kind in _RESULT.items():
            await variable(last, field, _ZERO[kind], kind)
        production = await folder(system, 'Production')
        for value in VALUES.values():
            if value.by:  # its variables come when they are heard of
                await folder(production, value.camel_name)
                continue
            kind = _TYPES[value.kind]
            node = await variable(production, value.camel_name, _ZERO[kind], kind)
            await self._describe(node, value)
        alarms = await folder(system, 'Alarms')
        node = await variable(alarms, 'ActiveFaults', [], ua.VariantType.String)
        await node.write_value_rank(ua.ValueRank.OneDimension)
        self._generators[cell] = await self._server.get_event_generator(
            ua.ObjectIds.BaseEventType, system
        )
        if RUNNING in self._commands.allowed:
            for name, runs in (('StartContinuous', True), ('Stop', False)):
                await method(machine, name, self._method(cell, RUNNING, _always(runs)))
        if RECIPE in self._commands.allowed:
            prepare = self._method(cell, RECIPE, lambda given: given[0])
            await method(recipes, 'PrepareRecipe', prepare, ua.VariantType.String)

    async def _describe(self, node: Node, value: PlantValue) -> None:
        await node.write_attribute(
            ua.AttributeIds.Description, ua.DataValue(ua.LocalizedText(value.text, 'en'))
        )
        if value.kind in (Kind.COUNTER, Kind.GAUGE):
            unit = ua.EUInformation(
                NamespaceUri=UNITS,
                UnitId=unit_id(value.unit.code),
                DisplayName=ua.LocalizedText(value.unit.symbol),
                Description=ua.LocalizedText(value.unit.symbol),
            )
            await node.add_property(0, 'EngineeringUnits', unit)

    def _method(
        self, cell: str, command: str, value_of: Callable[[tuple[Any, ...]], Any]
    ) -> Callable[..., Any]:
        """Return a method that does a command; it returns why it was refused, or an empty text."""

        @uamethod
        async def call(_: Any, *given: Any) -> str:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[str] = loop.create_future()

            def settle(trouble: str) -> None:
                if not done.done():
                    done.set_result(trouble)

            def tell(trouble: str) -> None:
                loop.call_soon_threadsafe(settle, trouble)

            self._commands.run(cell, 'plant (opcua)', command, value_of(given), tell)
            return await asyncio.wait_for(done, COMMAND_PATIENCE_S)

        return call

    async def _update(self, cells: Mapping[str, Readings]) -> None:
        for cell, found in cells.items():
            for name, reading in found.items():
                value = VALUES[name]
                path = f'Production/{value.camel_name}'
                if value.by:
                    await self._write_each(cell, path, value, reading)
                else:
                    await self._write(cell, path, reading, _TYPES[value.kind])
            await self._write(
                cell, 'VisionStateMachine/CurrentState', found['state'], ua.VariantType.String
            )
            await self._write(
                cell, 'RecipeManagement/ActiveRecipe', found['recipe'], ua.VariantType.String
            )

    async def _tell_faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        for cell, faults in cells.items():
            texts = [fault.text for fault in faults]
            await self._write(cell, 'Alarms/ActiveFaults', texts, ua.VariantType.String)
            before, now = self._faults.get(cell, {}), {fault.key: fault for fault in faults}
            self._faults[cell] = now
            for key in before.keys() - now.keys():
                await self._say(cell, 0, f'{key}: ended')
            for key, fault in now.items():
                # One that becomes an error is told once more, as an error.
                if key not in before or fault.level > before[key].level:
                    await self._say(cell, fault.level, fault.text)

    async def _say(self, cell: str, level: int, text: str) -> None:
        generator = self._generators[cell]
        generator.event.Severity = SEVERITIES[min(level, max(SEVERITIES))]
        await generator.trigger(message=text)

    async def _write_each(self, cell: str, path: str, value: PlantValue, reading: Reading) -> None:
        """Write a value for each lane, class or reason; a variable comes when it is heard of."""
        if not isinstance(reading, dict):
            return
        parent = self._nodes[cell, path]
        kind = _TYPES[value.kind]
        for which, number in reading.items():
            if (cell, f'{path}/{which}') not in self._nodes:
                node = await parent.add_variable(
                    ua.NodeId(f'{parent.nodeid.Identifier}/{which}', parent.nodeid.NamespaceIndex),
                    ua.QualifiedName(str(which) or 'none', parent.nodeid.NamespaceIndex),
                    _ZERO[kind],
                    varianttype=kind,
                )
                await self._describe(node, value)
                self._nodes[cell, f'{path}/{which}'] = node
            await self._write(cell, f'{path}/{which}', number, kind)

    async def _write(self, cell: str, path: str, value: Any, kind: ua.VariantType) -> None:
        """Write a value if it is another one than before; None: nobody knows it."""
        if (cell, path) in self._values and self._values[cell, path] == value:
            return
        self._values[cell, path] = value
        if value is None:
            known = ua.DataValue(
                ua.Variant(_ZERO[kind], kind),
                StatusCode=ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData),
            )
        else:
            if kind is ua.VariantType.Double:
                value = float(value)
            known = ua.DataValue(
                ua.Variant(value, kind, is_array=isinstance(value, list)),
                SourceTimestamp=datetime.datetime.now(datetime.timezone.utc),
            )
        await self._nodes[cell, path].write_value(known)

    async def _tell(self, result: Result) -> None:
        told = {
            'ResultId': str(result.item_id),
            'CreationTime': datetime.datetime.fromtimestamp(result.time, datetime.timezone.utc),
            'ResultState': 1,  # completed
            'Lane': result.lane,
            'ClassId': result.class_id,
            'Score': result.score,
            'Source': result.source,
            'Slack': result.slack,
            'Missed': result.missed,
        }
        for field, value in told.items():
            await self._write(result.cell, f'{_LAST}/{field}', value, _RESULT[field])


_LAST = 'ResultManagement/Results/LastResult'
_RESULT = {
    'ResultId': ua.VariantType.String,
    'CreationTime': ua.VariantType.DateTime,
    'ResultState': ua.VariantType.Int32,
    'Lane': ua.VariantType.String,
    'ClassId': ua.VariantType.String,
    'Score': ua.VariantType.Double,
    'Source': ua.VariantType.String,
    'Slack': ua.VariantType.Double,
    'Missed': ua.VariantType.Boolean,
}
_ZERO: dict[ua.VariantType, Any] = {
    ua.VariantType.String: '',
    ua.VariantType.DateTime: datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc),
    ua.VariantType.Int32: 0,
    ua.VariantType.Int64: 0,
    ua.VariantType.Double: 0.0,
    ua.VariantType.Boolean: False,
}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ':' in address else socket.AF_INET


def _always(value: Any) -> Callable[[tuple[Any, ...]], Any]:
    return lambda given: value


def unit_id(code: str) -> int:
    """Return the number of a unit by its UNECE code (OPC 10000-8, 5.6.3.3).

    Examples:
        >>> unit_id('C62'), unit_id('SEC')
        (4404786, 5457219)
    """
    return int.from_bytes(code.encode(), 'big')
