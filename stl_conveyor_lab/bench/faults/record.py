# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What was seen of a run, line by line in a file, so that another run can go on from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import writing
from stl_conveyor_lab.bench.faults.tally import Injection, Item, Values, Word

BETWEEN_S = 10.0  # s between the last of a run and the first of the one that goes on
Entry = Item | Word | Injection | Values
_TIMES = ('shown', 'due', 'time', 'begin', 'end', 'over')


@dataclass
class Record:
    """Items, what was said, and what was done, in the order of time.

    Attributes:
        path: Of the file; one JSON array a line: what it is, and its fields.
        seed: That fixes which fault comes when.
    """

    path: Path
    seed: int
    items: list[Item] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    faults: list[Injection] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    def begin(self) -> None:
        """Begin a new file."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(['seed', self.seed]) + '\n', encoding='utf-8')

    def go_on(self, now: float) -> None:
        """Take in what the file has, as if it had ended just before `now`.

        Raises:
            ConfigError: If there is no such file, or it is of another seed or damaged.
        """
        try:
            head, *lines = map(json.loads, self.path.read_text(encoding='utf-8').splitlines())
            found = [_NAMED[name].made(**fields) for name, fields in lines]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f'--resume: {self.path} cannot be gone on with ({error}); leave --resume out to '
                'begin anew'
            ) from None
        if head != ['seed', self.seed]:
            raise ConfigError(f'--resume: {self.path} has {head}, not the seed {self.seed}')
        times = [getattr(each, name) for each in found for name in _TIMES if hasattr(each, name)]
        shift = now - BETWEEN_S - max(times, default=now)
        for each in found:
            moved = {n: getattr(each, n) + shift for n in _TIMES if hasattr(each, n)}
            self._take(type(each)(**{**asdict(each), **moved}))

    def add(
        self,
        items: Sequence[Item],
        words: Sequence[Word],
        faults: Sequence[Injection] = (),
        values: Sequence[Values] = (),
    ) -> None:
        """Take in what is over, and append it to the file."""
        with writing(self.path), open(self.path, 'a', encoding='utf-8') as file:
            added: list[Entry] = [*items, *words, *faults, *values]
            for each in added:
                self._take(each)
                file.write(json.dumps([_OF[type(each)].name, asdict(each)]) + '\n')

    def _take(self, each: Entry) -> None:
        _OF[type(each)].among(self).append(each)


class _Kind(NamedTuple):
    """What an entry is called in the file, its class, and the list of a record that has it."""

    name: str
    made: type[Entry]
    among: Callable[[Record], list[Any]]


_KINDS = (
    _Kind('item', Item, lambda record: record.items),
    _Kind('word', Word, lambda record: record.words),
    _Kind('fault', Injection, lambda record: record.faults),
    _Kind('values', Values, lambda record: record.values),
)
_NAMED = {kind.name: kind for kind in _KINDS}
_OF: dict[type[Entry], _Kind] = {kind.made: kind for kind in _KINDS}
