# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""MQTT: as plain JSON, and as Sparkplug B.

What is told is always what holds now, so nothing is kept for a broker that is away: after a
reconnect the values are right at once. An item that was sorted meanwhile is not told of singly.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stl_conveyor.errors import BadMessage, ConfigError, MissingDependency, install_words
from stl_conveyor.plant.output import RUNNING, Commands, Result
from stl_conveyor.plant.sparkplug import REBIRTH, DataType, EdgeNode, Metric, decode
from stl_conveyor.plant.values import VALUES, Fault, Kind, Readings, plain

try:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError as _error:
    raise MissingDependency(
        f'the outputs mqtt and sparkplug need paho-mqtt 2 ({_error}): {install_words("plant")}'
    ) from _error

KEEPALIVE_S = 10
LONGEST_WAIT_S = 30  # between two tries to reach the broker
MOST_QUEUED = 4  # words that it is there, or gone
MOST_UNDER_WAY = 64  # that the broker has not taken: it is slow, and the next values say more
LARGEST_COMMAND = 10_000  # bytes
COMMAND = 'Command/'  # begins the metrics that the plant may write


@dataclass(frozen=True)
class Broker:
    """A broker, and how to get at it.

    Attributes:
        ca: Certificates (PEM) by which it is known; None: without TLS.
        certificate: Of this client, where the broker asks for one.
        password_file: With one line; None: without a password.
    """

    host: str
    port: int = 1883
    user: str = ''
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class _Connection:
    """A connection that comes back by itself."""

    def __init__(self, name: str, broker: Broker, client_id: str) -> None:
        self.trouble = f'{name}: no broker at {broker.host}, port {broker.port} has answered yet'
        self.left_out = 0
        self._name, self._broker = name, broker
        self._up = threading.Event()
        self._under_way: deque[MQTTMessageInfo] = deque()  # of this session
        self._counting = threading.Lock()
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        client.reconnect_delay_set(1, LONGEST_WAIT_S)
        client.max_queued_messages_set(MOST_QUEUED)
        try:
            if broker.user:
                password = None
                if broker.password_file is not None:
                    password = broker.password_file.read_text(encoding='utf-8').strip()
                client.username_pw_set(broker.user, password)
            if broker.ca is not None:
                client.tls_set(
                    str(broker.ca),
                    None if broker.certificate is None else str(broker.certificate),
                    None if broker.key is None else str(broker.key),
                )
        except (OSError, ValueError) as error:  # ssl.SSLError is one of the first
            raise ConfigError(
                f'{name}: password or certificates cannot be used ({error}): correct '
                'mqtt_password_file, mqtt_ca, mqtt_certificate and mqtt_certificate_key'
            ) from error
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_message = self._on_message
        self._client = client

    @property
    def has_ended(self) -> bool:
        """Return False: a connection that is lost comes back by itself."""
        return False

    @property
    def is_connected(self) -> bool:
        """Return whether the broker is there."""
        return self._up.is_set()

    def stop(self) -> None:
        """Say goodbye, and end."""
        self._client.disconnect()
        self._client.loop_stop()

    def _begin(self) -> None:
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def _send(
        self, topic: str, payload: str | bytes, *, retain: bool = False, first: bool = False
    ) -> bool:
        """Publish if the broker is there and takes what it gets; else it is left out.

        Args:
            first: Of a session, in which nothing can wait yet but the words that begin it.
        """
        if not self.is_connected or (self._waiting() >= MOST_UNDER_WAY and not first):
            self.left_out += 1
            return False
        sent = self._client.publish(topic, payload, qos=0, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._counting:
            self._under_way.append(sent)
        return True

    def _waiting(self) -> int:
        """Return how many messages the broker has not taken yet."""
        with self._counting:
            while self._under_way and _is_over(self._under_way[0]):
                self._under_way.popleft()
            return len(self._under_way)

    def _say_last(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish, and wait a moment for the broker to have it."""
        with contextlib.suppress(ValueError, RuntimeError):  # it went meanwhile
            self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(1.0)

    # What a subclass overrides.

    def _connected(self) -> None:
        """Begin a session; called in the thread of the client."""

    def _take(self, topic: str, payload: bytes) -> None:
        """Take what came; called in the thread of the client."""

    # What the client calls in its thread.

    def _on_connect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, *____: Any) -> None:
        if reason.is_failure:
            self.trouble = (
                f'{self._name}: the broker at {self._broker.host} refuses the connection '
                f'({reason}): compare mqtt_user and mqtt_password_file with its settings'
            )
            return
        with self._counting:
            self._under_way.clear()
        self._up.set()
        self.trouble = ''
        self._connected()

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, *____: Any) -> None:
        was = self._up.is_set()
        self._up.clear()
        if was or not self.trouble:
            self.trouble = self._lost(str(reason))
        self._disconnected()

    def _on_connect_fail(self, *_: Any) -> None:
        self._up.clear()
        self.trouble = self._lost('it cannot be reached')
        self._disconnected()

    def _disconnected(self) -> None:
        """Prepare the next session."""

    def _lost(self, reason: str) -> str:
        return (
            f'{self._name}: the broker at {self._broker.host}, port {self._broker.port} is not '
            f'there ({reason}); the connection is tried again and again'
        )

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        if len(message.payload) <= LARGEST_COMMAND:
            self._take(message.topic, message.payload)


def _is_over(sent: MQTTMessageInfo) -> bool:
    try:
        return sent.is_published()
    except (ValueError, RuntimeError):  # it was given up
        return True


class JsonOutput(_Connection):
    """Plain JSON: PREFIX/CELL/values, faults, outcome, and PREFIX/online.

    `faults` has each fault that lasts, and is told anew whenever they change.

    A command comes on PREFIX/CELL/command as `{"running": false}`; what came of it is told on
    PREFIX/CELL/command_result.
    """

    def __init__(self, broker: Broker, client_id: str, prefix: str, commands: Commands) -> None:
        """Connect from now on, and again whenever the connection is lost.

        Raises:
            ConfigError: If passwords or certificates cannot be used.
        """
        super().__init__('mqtt', broker, client_id)
        self._prefix, self._commands = prefix.strip('/'), commands
        self._latest: Mapping[str, Readings] = {}
        self._lock = threading.Lock()
        self._faults: dict[str, Sequence[Fault]] = {}
        self._told: dict[str, Sequence[Fault]] = {}  # in this session
        self._client.will_set(f'{self._prefix}/online', 'false', qos=1, retain=True)
        self._begin()

    def update(self, cells: Mapping[str, Readings]) -> None:
        """Tell the values of every cell."""
        self._latest = cells
        self._tell(first=False)

    def faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        """Tell the faults of every cell in which they are others than before."""
        with self._lock:
            self._faults = dict(cells)
            self._tell_faults(first=False)

    def result(self, result: Result) -> None:
        """Tell of an item."""
        self._send(self._topic(result.cell, 'outcome'), _json(result.as_json()))

    def stop(self) -> None:
        """Say that it ends, and end."""
        if self.is_connected:
            self._say_last(f'{self._prefix}/online', 'false', retain=True)
        super().stop()

    def _connected(self) -> None:
        self._client.publish(f'{self._prefix}/online', 'true', qos=1, retain=True)
        if self._commands.allowed:
            self._client.subscribe(f'{self._prefix}/+/command', qos=1)
            self._client.subscribe(f'{self._prefix}/command', qos=1)
        self._tell(first=True)
        with self._lock:
            self._tell_faults(first=True)

    def _disconnected(self) -> None:
        with self._lock:
            self._told = {}

    def _tell(self, *, first: bool) -> None:
        for cell, found in self._latest.items():
            told = {'time': time.time(), **plain(found)}
            self._send(self._topic(cell, 'values'), _json(told), retain=True, first=first)

    def _tell_faults(self, *, first: bool) -> None:
        for cell, faults in self._faults.items():
            if self._told.get(cell) == faults or not self.is_connected:
                continue
            told = {'time': time.time(), 'faults': [asdict(fault) for fault in faults]}
            if self._send(self._topic(cell, 'faults'), _json(told), retain=True, first=first):
                self._told[cell] = faults

    def _take(self, topic: str, payload: bytes) -> None:
        parts = topic[len(self._prefix) :].strip('/').split('/')
        cell = parts[0] if len(parts) > 1 else ''
        if cell not in self._latest:
            return

        def answer(name: str, trouble: str) -> None:
            told = {'command': name, 'done': not trouble, 'trouble': trouble}
            self._send(self._topic(cell, 'command_result'), _json(told))

        try:
            asked = json.loads(payload)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or len(asked) != 1:
            answer('', 'a command is an object with one name and a value, as {"running": false}')
            return
        ((name, value),) = asked.items()
        self._commands.run(cell, 'plant (mqtt)', name, value, lambda text: answer(name, text))

    def _topic(self, cell: str, name: str) -> str:
        return '/'.join(part for part in (self._prefix, cell, name) if part)


class SparkplugOutput(_Connection):
    """Sparkplug B: one edge node; with several cells their names begin those of the metrics."""

    def __init__(
        self, broker: Broker, client_id: str, group: str, node: str, commands: Commands
    ) -> None:
        """Connect from now on, and again whenever the connection is lost.

        Raises:
            ConfigError: If passwords or certificates cannot be used.
        """
        super().__init__('sparkplug', broker, client_id)
        self._edge, self._commands = EdgeNode(group, node), commands
        self._lock = threading.Lock()
        self._latest: list[Metric] = []
        self._told: dict[str, Metric] | None = None  # None: no birth in this session yet
        self._cells: dict[str, str] = {}
        self._prepare()
        self._begin()

    def update(self, cells: Mapping[str, Readings]) -> None:
        """Tell what changed since the last time."""
        with self._lock:
            self._cells = {f'{cell}/' if cell else '': cell for cell in cells}
            self._latest = [
                metric for cell, found in cells.items() for metric in metrics(cell, found)
            ] + [
                Metric(f'{before}{COMMAND}{name}', False if name == RUNNING else '', kind)
                for before in self._cells
                for name, kind in _WRITABLE.items()
                if name in self._commands.allowed
            ]
            if not self.is_connected:
                return
            if self._told is None or not {m.name for m in self._latest} <= set(self._told):
                self._give_birth()
                return
            changed = [m for m in self._latest if self._told.get(m.name) != m]
            if changed and self._waiting() < MOST_UNDER_WAY:
                self._send(self._edge.topic('NDATA'), self._edge.data(changed, _now_ms()))
                self._told.update({m.name: m for m in changed})

    def faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        """Do nothing: how many last, and the worst, are metrics."""

    def result(self, result: Result) -> None:
        """Do nothing: Sparkplug tells states, and the counters tell of the items."""

    def stop(self) -> None:
        """Send the death certificate, and end."""
        if self.is_connected:
            self._say_last(self._edge.topic('NDEATH'), self._edge.death(_now_ms()))
        super().stop()

    def _prepare(self) -> None:
        self._client.will_set(
            self._edge.topic('NDEATH'), self._edge.will(_now_ms()), qos=1, retain=False
        )

    def _connected(self) -> None:
        self._client.subscribe(self._edge.topic('NCMD'), qos=1)
        with self._lock:
            self._told = None
            if self._latest:
                self._give_birth()

    def _disconnected(self) -> None:
        with self._lock:
            self._told = None
        self._prepare()  # the next session has the next number

    def _give_birth(self) -> None:
        birth = self._edge.birth(self._latest, _now_ms())
        if self._send(self._edge.topic('NBIRTH'), birth, first=True):
            self._told = {metric.name: metric for metric in self._latest}

    def _take(self, topic: str, payload: bytes) -> None:
        if topic != self._edge.topic('NCMD'):
            return
        try:
            asked, _ = decode(payload)
        except BadMessage:
            return
        for metric in asked:
            if metric.name == REBIRTH and metric.value is True:
                with self._lock:
                    if self._latest:  # else the first values bring the birth
                        self._give_birth()
                continue
            before, found, name = metric.name.rpartition(COMMAND)
            if found and before in self._cells:
                self._commands.run(
                    self._cells[before], 'plant (sparkplug)', name, metric.value, lambda _: None
                )


_WRITABLE = {'running': DataType.BOOLEAN, 'recipe': DataType.STRING}


def metrics(cell: str, found: Readings) -> list[Metric]:
    """Return the values of a cell as metrics; what nobody knows is null.

    Args:
        cell: Its name, which begins those of the metrics; empty: without.
    """
    before = f'{cell}/' if cell else ''
    told = []
    for name, reading in found.items():
        value = VALUES[name]
        kind = _KINDS[value.kind]
        if isinstance(reading, dict):
            told += [
                Metric(f'{before}{value.camel_name}/{which}', number, kind)
                for which, number in reading.items()
            ]
        elif not value.by:
            if isinstance(reading, float) and not math.isfinite(reading):
                reading = None
            told.append(Metric(f'{before}{value.camel_name}', reading, kind))
    return told


_KINDS = {
    Kind.COUNTER: DataType.INT64,
    Kind.GAUGE: DataType.DOUBLE,
    Kind.FLAG: DataType.BOOLEAN,
    Kind.TEXT: DataType.STRING,
}


def _json(told: Mapping[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
