# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An exact account of what was heard in a situation, each with its time. Needs no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stl_conveyor.errors import Level


@dataclass(frozen=True)
class Heard:
    """A message, and when it came (s, monotonic)."""

    time: float
    message: Any


@dataclass(frozen=True)
class Word:
    """What a node said of itself on /diagnostics, and when it did so first (s, monotonic)."""

    time: float
    node: str
    level: Level
    message: str


@dataclass
class Account:
    """What was heard on each topic, and which words came when; threads may write and wait."""

    heard: dict[str, list[Heard]] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def take(self, topic: str, message: Any, now: float | None = None) -> None:
        """Note a message."""
        with self._changed:
            self.heard.setdefault(topic, []).append(
                Heard(time.monotonic() if now is None else now, message)
            )
            self._changed.notify_all()

    def say(
        self,
        node: str,
        level: Level,
        message: str,
        values: dict[str, str] | None = None,
        now: float | None = None,
    ) -> None:
        """Note what a node says; what it said before is no new word."""
        with self._changed:
            if not any((w.node, w.level, w.message) == (node, level, message) for w in self.words):
                moment = time.monotonic() if now is None else now
                self.words.append(Word(moment, node, level, message))
            self.values[node] = dict(values or {})
            self._changed.notify_all()

    def of(self, topic: str) -> list[Heard]:
        """Return what came on a topic, in order."""
        with self._changed:
            return list(self.heard.get(topic, ()))

    def first_word(self, node: str, *texts: str, since: float = 0.0) -> Word | None:
        """Return a node's first complaint from a time on that contains one of the texts."""
        with self._changed:
            for word in self.words:
                said = word.message.lower()
                if (
                    word.time >= since
                    and word.level is not Level.OK
                    and word.node.endswith(node)
                    and (not texts or any(text.lower() in said for text in texts))
                ):
                    return word
        return None

    def complaints(self, node: str = '') -> list[str]:
        """Return the distinct complaints, in order."""
        with self._changed:
            return [
                f'{word.node}: {word.message}'
                for word in self.words
                if word.level is not Level.OK and word.node.endswith(node)
            ]

    def wait(self, predicate: Callable[[], Any], seconds: float) -> Any:
        """Wait until a predicate is true of the account, at most for some seconds.

        Returns:
            What the predicate returned last.
        """
        end = time.monotonic() + seconds
        with self._changed:
            while not (result := predicate()):
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.2))
            return result
