# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Take messages apart, of which some cannot be: anybody can publish any bytes.

Where the middleware takes them apart itself, each that it cannot writes to standard error, up to
400 bytes, and nobody learns on which topic. Here they are counted and named, once a minute.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from rclpy.serialization import deserialize_message
from rclpy.topic_endpoint_info import TopicEndpointInfo

from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.topics import full_name

if TYPE_CHECKING:
    # Jazzy has no name for it.
    from rclpy.subscription import MessageInfo

    from stl_conveyor.nodes.base.connected_node import ConnectedNode

_NOWHERE = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
KEPT = 3  # messages of a type that others in this process may be about to ask for, too
#: What the middleware calls a node until it has been told its name.
UNKNOWN = '_NODE_NAME_UNKNOWN_'
SOMEBODY = 'somebody'
HOLD_S = 60.0  # for which it is said that a topic brings what is no message


class MessageDecoder:
    """Turns the bytes that come on a topic into messages.

    Nodes of one process that listen to the same topic are handed the same message, taken apart
    once. Nobody changes a message that has come.
    """

    _peers: ClassVar[dict[tuple[type, str], WeakSet[MessageDecoder]]] = {}
    # What was taken apart for several, the newest first; replaced as a whole, for other threads.
    _newest: ClassVar[dict[type, tuple[tuple[bytes, Any], ...]]] = {}

    def __init__(self, node: ConnectedNode, kind: type, topic: str) -> None:
        """Take a topic's messages apart.

        Args:
            kind: Their class.
            topic: Its name, as it is said.
        """
        self._node = node
        self._kind = kind
        self._topic = topic
        self._failed_ns: int | None = None
        self._sender: bytes | None = None  # of the first that failed
        self._named = False
        self._listeners = self._peers.setdefault((kind, topic), WeakSet())
        self._listeners.add(self)

    def __call__(self, data: bytes, info: MessageInfo | None = None) -> Any | None:
        """Return the message; None if the bytes are none of the topic's type."""
        try:
            if self._failed_ns is None:
                return self._shared(data) if len(self._listeners) > 1 else self._apart(data)
            with _silent_middleware():
                return self._apart(data)
        except Exception:  # RMWError, MemoryError, what else a generated parser has
            self._fail(info)
            return None

    def _apart(self, data: bytes) -> Any:
        return deserialize_message(data, self._kind)

    def _shared(self, data: bytes) -> Any:
        newest = self._newest.get(self._kind, ())
        for known, message in newest:
            if known == data:
                return message
        message = self._apart(data)
        self._newest[self._kind] = ((data, message), *newest[: KEPT - 1])
        return message

    def _fail(self, info: MessageInfo | None) -> None:
        now_ns = clock_ns(self._node.steady_clock)
        if self._failed_ns is None:
            self._node.watch(self._look)
        new, self._failed_ns = not self._failed_ns, now_ns
        self._node.health.count(f'undecodable.{self._topic}')
        if new:
            self._sender = publisher_gid(info)
            self._say()

    def _say(self) -> None:
        name = self._node.resolve_topic_name(self._topic)
        sender = publisher_name(self._node, name, self._sender)
        self._named = bool(sender)
        self._node.set_condition(
            f'undecodable.{self._topic}',
            Level.WARN,
            f'{name}: {sender or SOMEBODY} publishes what is no {self._kind.__name__}; it is '
            'refused. Stop it, or give it the message definitions of this version',
        )

    def _look(self) -> None:
        now_ns = clock_ns(self._node.steady_clock)
        if self._failed_ns and not self._named:
            self._say()
        if self._failed_ns and now_ns - self._failed_ns > HOLD_S * 1e9:
            self._failed_ns = 0  # the middleware stays silent: a failure is counted all the same
            self._node.clear_condition(
                f'undecodable.{self._topic}', f'what comes on {self._topic} is whole again'
            )


def with_info(take: Callable[[Any, MessageInfo | None], None]) -> Callable[..., None]:
    """Return what rclpy calls with a message and with what the middleware knows of it."""

    def call(message: Any, info: MessageInfo | None = None) -> None:
        if isinstance(message, tuple):
            message, info = message
        take(message, info)

    # rclpy hands over what it knows of a message where two arguments are asked for; its
    # EventsExecutor does so in one argument, as a pair.
    kind = inspect.Parameter.POSITIONAL_ONLY
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in ('message', 'info')]
    )
    return call


def publisher_gid(info: MessageInfo | None) -> bytes | None:
    """Return by what the middleware tells publishers apart; None if it does not say."""
    publisher = None if info is None else info.get('publisher_gid')
    if publisher is None:
        return None
    return bytes(publisher['data']) if isinstance(publisher, dict) else bytes(publisher)


def publisher_name(node: ConnectedNode, topic: str, gid: bytes | None) -> str:
    """Return the full name of the node that has a publisher; empty if nobody knows."""
    if gid is not None:
        for each in node.get_publishers_info_by_topic(topic):
            if bytes(each.endpoint_gid) == gid:
                return endpoint_name(each)
    return ''


def endpoint_name(endpoint: TopicEndpointInfo) -> str:
    """Return the full name of the node that a publisher or subscriber belongs to, if known yet."""
    if endpoint.node_name == UNKNOWN:
        return ''
    return full_name(endpoint.node_namespace, endpoint.node_name)


@contextlib.contextmanager
def _silent_middleware() -> Iterator[None]:
    """Have nothing written to standard error, for some microseconds.

    The code that is generated for messages writes there directly. What another thread has to say
    in that time is lost there, and stands in the log file.
    """
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(_NOWHERE, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
