# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A situation of the line, and what was found when it was played. Needs no ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from stl_conveyor.errors import ConfigError


@dataclass(frozen=True)
class Finding:
    """What a situation showed.

    Attributes:
        figure: The number that matters, with its unit.
        holds: Whether that is right.
        detail: What else was seen, for whoever looks for the reason.
    """

    figure: str
    holds: bool
    detail: str = ''

    @classmethod
    def items(cls, got: int, expected: int, what: str = 'items', detail: str = '') -> Finding:
        """Return a count that is right if it is the expected one."""
        return cls(f'{got} of {expected} {what}', got == expected, detail)

    def and_also(self, holds: bool, figure: str = '', detail: str = '') -> Finding:
        """Return the finding with one more thing that must hold."""
        return Finding(
            ', '.join(text for text in (self.figure, figure) if text),
            self.holds and holds,
            '; '.join(text for text in (self.detail, detail) if text),
        )


@dataclass(frozen=True)
class Situation:
    """One row of the table.

    Attributes:
        name: Its kind and its variation, as 'stop/8s'.
        right: What must come out of it, in words.
        play: Plays it and returns what was found.
    """

    name: str
    right: str
    play: Callable[[], Finding]

    @property
    def kind(self) -> str:
        """Return the kind, of which this is a variation."""
        return self.name.partition('/')[0]


@dataclass(frozen=True)
class Row:
    """A situation that was played.

    Attributes:
        seconds: How long that took.
        failed: It could not be played to its end; the figure says why.
    """

    name: str
    figure: str
    right: str
    holds: bool
    seconds: float
    detail: str = ''
    failed: bool = False


def variations(
    kind: str, right: str, play: Callable[..., Finding], cases: Mapping[str, Mapping[str, object]]
) -> tuple[Situation, ...]:
    """Return a situation for each case: variation → arguments of `play`.

    An argument `right` of a case replaces the words of its kind.
    """
    situations = []
    for variation, arguments in cases.items():
        words = str(arguments.get('right', right))
        rest = {name: value for name, value in arguments.items() if name != 'right'}
        situations.append(Situation(f'{kind}/{variation}', words, partial(play, **rest)))
    return tuple(situations)


def selected(situations: Sequence[Situation], patterns: Sequence[str]) -> tuple[Situation, ...]:
    """Return the situations of which a pattern is the name, the kind, or a shell pattern.

    Raises:
        ConfigError: If a pattern selects nothing.
    """
    if not patterns:
        return tuple(situations)
    for pattern in patterns:
        if not any(_matches(situation, pattern) for situation in situations):
            kinds = ', '.join(dict.fromkeys(situation.kind for situation in situations))
            raise ConfigError(
                f'--only {pattern}: there is no such situation; the kinds are {kinds}, and '
                '--list names all of them'
            )
    return tuple(s for s in situations if any(_matches(s, pattern) for pattern in patterns))


def _matches(situation: Situation, pattern: str) -> bool:
    names = (situation.name, situation.kind)
    return any(fnmatchcase(name, pattern) for name in names)


def play(situation: Situation) -> Row:
    """Play a situation; an exception makes it a wrong one, as the table must go on."""
    begin = time.monotonic()
    failed = False
    try:
        finding = situation.play()
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        finding = Finding(f'not played: {reason.partition(";")[0]}', False, reason)
        failed = True
    return Row(
        situation.name,
        finding.figure,
        situation.right,
        finding.holds,
        time.monotonic() - begin,
        finding.detail,
        failed,
    )
