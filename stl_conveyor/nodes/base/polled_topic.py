# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Look at a topic now and then, where more messages come than anybody needs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.subscription import Subscription
from rclpy.timer import Timer

MOST_REMEMBERED = 64


class NeverReady(CallbackGroup):
    """Marks a subscription that is looked at: a node of ours does not show it to its executor.

    So no message wakes the executor; one that asks the group takes none either.
    """

    def can_execute(self, entity: object) -> bool:
        """Return False."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Return False: nothing of it is executed."""
        return False

    def ending_execution(self, entity: object) -> None:
        """Do nothing."""


def arrived_ns(info: Any, now_ns: int, most_ns: int) -> int:
    """Return when a message came that waited for a look, on the clock of `now_ns`.

    Args:
        info: What the middleware tells of it: a time of the system's clock, if it knows one.
        now_ns: When it was taken.
        most_ns: For how long it can have waited; the system's clock may have been set meanwhile.
    """
    received_ns = info.get('received_timestamp', 0) if info else 0
    waited_ns = time.time_ns() - received_ns if received_ns > 0 else 0
    return now_ns - min(max(waited_ns, 0), most_ns)


class PolledTopic:
    """A subscription whose messages wait in its queue until a timer, or its owner, takes them.

    Most of the work of a message is to wake the executor, and to take the message apart. Both are
    spared here: of what came since the last look, and is alike by its bytes, only the latest is
    taken apart.
    """

    def __init__(
        self,
        subscription: Subscription[Any],
        timer: Timer | None,
        callback: Callable[[Any, Any], None],
        alike: Callable[[bytes], Hashable | None],
        decode: Callable[[bytes, Any], Any | None],
        remembers: bool = False,
    ) -> None:
        """Be ready to look; `ConnectedNode.look` makes one.

        Args:
            remembers: Whether what is alike says the same, so that it need not be taken apart
                again.
        """
        self._subscription = subscription
        self._timer = timer
        self._callback = callback
        self._alike = alike
        self._decode = decode
        self._remembered: OrderedDict[Hashable, Any] | None = OrderedDict() if remembers else None

    def every(self, period: float) -> None:
        """Look once in `period` seconds from now on, where a timer looks."""
        assert self._timer is not None
        period_ns = round(period * 1e9)
        if self._timer.timer_period_ns != period_ns:
            self._timer.timer_period_ns = period_ns
            self._timer.reset()

    def look(self) -> None:
        """Hand over what has come."""
        kind = self._subscription.msg_type
        handle = self._subscription.handle
        latest: dict[Hashable, tuple[bytes, Any]] = {}
        with handle:
            while (taken := handle.take_message(kind, True)) is not None:
                data, info = taken
                kept = self._alike(data)
                if kept is not None:
                    latest.pop(kept, None)  # the order is that of their coming
                    latest[kept] = data, info
        for kept, (data, info) in latest.items():
            message = self._message(kept, data, info)
            if message is not None:
                self._callback(message, info)

    def _message(self, kept: Hashable, data: bytes, info: Any) -> Any | None:
        known = self._remembered
        if known is None:
            return self._decode(data, info)
        if kept not in known:
            known[kept] = self._decode(data, info)
            while len(known) > MOST_REMEMBERED:
                known.popitem(last=False)
        return known[kept]
