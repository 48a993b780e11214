# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Try every topic with every node of a wiring: what is allowed, what is refused, who is heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from stl_conveyor.deploy.keystore import Grant, Keystore, grants
from stl_conveyor.deploy.security import WIRINGS, policy
from stl_conveyor_lab.bench.security.peers import Middleware, Participant, until

#: How the middleware calls it in its own words.
REFUSED = 'Not Allowed By Security'
KINDS = ('writer', 'reader')
PART = 'some_part'  # stands for whatever part of the cell a topic with a wildcard is of


@dataclass
class Tried:
    """What was tried with the nodes of a wiring.

    Attributes:
        allowed: Writers and readers that were allowed, as they should.
        refused: Those that were refused, as they should.
        wrong: In words, what was allowed or refused against the policy.
        heard: Pairs of a writer and a reader whose word came across.
        lost: In words, pairs that should be connected and are not, or whose word was lost.
        overheard: In words, what a stranger was connected to or heard, or who heard it.
    """

    allowed: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    heard: int = 0
    lost: list[str] = field(default_factory=list)
    overheard: list[str] = field(default_factory=list)


def topics_of(allowed: Mapping[str, Grant]) -> tuple[str, ...]:
    """Return every topic that any node may use, a name in place of each wildcard."""
    names = {name for grant in allowed.values() for name in (*grant.publish, *grant.subscribe)}
    return tuple(sorted(name.replace('*', PART) for name in names))


def may(names: Sequence[str], topic: str) -> bool:
    """Return whether a grant's names have a topic."""
    return any(fnmatchcase(topic, name) for name in names)


def try_wiring(middleware: Middleware, wiring: str, folder: Path, domain: int) -> Tried:
    """Have every node of a wiring try to write and to read every topic of the wiring.

    Args:
        folder: Where the keys are made: those of the cell, and those of somebody else.
        domain: In which nobody else is.
    """
    allowed = grants(policy(WIRINGS[wiring]))
    store = Keystore(folder / 'keys', domain)
    for path, grant in allowed.items():
        store.add(path, grant)
    # Somebody who made keys of the same names, by an authority of their own.
    foreign = Keystore(folder / 'foreign', domain)
    topics = topics_of(allowed)
    foreign.add('/camera', Grant(topics, topics))
    tried = Tried()
    with ExitStack() as stack:
        nodes = {
            path: stack.enter_context(
                middleware.participant(domain, folder / f'keys/enclaves{path}')
            )
            for path in allowed
        }
        strangers = {
            'somebody without keys': stack.enter_context(middleware.participant(domain)),
            'somebody with keys of another authority': stack.enter_context(
                middleware.participant(domain, folder / 'foreign/enclaves/camera')
            ),
        }
        opened = _open(nodes, topics)
        outside = _open(strangers, topics)
        _judge(tried, allowed, opened)
        _speak(tried, nodes, opened, topics)
        _listen_for_strangers(tried, strangers, outside, nodes, opened)
    return tried


_Opened = dict[tuple[str, str], dict[str, int]]  # who and kind → topic → number


def _open(nodes: Mapping[str, Participant], topics: Sequence[str]) -> _Opened:
    """Have each open a writer and a reader of each topic; those that are refused have number 0."""
    found: _Opened = {}
    for kind in KINDS:
        for node in nodes.values():
            node.tell('open_each', kind=kind, topics=topics)
        for name, node in nodes.items():
            said = node.hear()
            unknown = {v for v in said.values() if not isinstance(v, int) and v != REFUSED}
            assert not unknown, f'{name}: {unknown}'
            found[name, kind] = {
                topic: number if isinstance(number, int) else 0 for topic, number in said.items()
            }
    return found


def _judge(tried: Tried, allowed: Mapping[str, Grant], opened: _Opened) -> None:
    for path, grant in allowed.items():
        for kind, names in zip(KINDS, (grant.publish, grant.subscribe)):
            for topic, number in opened[path, kind].items():
                if bool(number) is not may(names, topic):
                    tried.wrong.append(
                        f'{path}: a {kind} of {topic} is {"allowed" if number else "refused"}'
                    )
                elif number:
                    tried.allowed += 1
                else:
                    tried.refused += 1


def _speak(
    tried: Tried, nodes: Mapping[str, Participant], opened: _Opened, topics: Sequence[str]
) -> None:
    """Have each writer say a number of its own, and compare what each reader hears."""
    writers = {topic: [n for n in nodes if opened[n, 'writer'][topic]] for topic in topics}
    readers = {topic: [n for n in nodes if opened[n, 'reader'][topic]] for topic in topics}
    words = {name: number for number, name in enumerate(nodes, 1)}

    def connected() -> bool:
        return not any(_unconnected(nodes, opened, kind, writers, readers) for kind in KINDS)

    if not until(connected):
        for kind in KINDS:
            tried.lost += _unconnected(nodes, opened, kind, writers, readers)
    for name, node in nodes.items():
        numbers = [number for number in opened[name, 'writer'].values() if number]
        node.ask('write_each', numbers={str(number): words[name] for number in numbers})
    heard: dict[tuple[str, str], set[int]] = {}

    def all_heard() -> bool:
        for name, node in nodes.items():
            mine = {t: number for t, number in opened[name, 'reader'].items() if number}
            for topic, values in zip(mine, node.ask('take_each', numbers=list(mine.values()))):
                heard.setdefault((name, topic), set()).update(values)
        return all(
            heard.get((reader, topic), set())
            >= {words[writer] for writer in writers[topic] if writer != reader}
            for topic in topics
            for reader in readers[topic]
        )

    until(all_heard)
    for topic in topics:
        for reader in readers[topic]:
            expected = {words[writer] for writer in writers[topic] if writer != reader}
            came = heard.get((reader, topic), set())
            tried.heard += len(came & expected)
            tried.lost += [
                f'{reader} does not hear {writer} on {topic}'
                for writer, word in words.items()
                if word in expected - came
            ]
            tried.overheard += [f'{reader} hears {came - expected} on {topic}'] * bool(
                came - expected
            )


def _unconnected(
    nodes: Mapping[str, Participant],
    opened: _Opened,
    kind: str,
    writers: Mapping[str, Sequence[str]],
    readers: Mapping[str, Sequence[str]],
) -> list[str]:
    others = readers if kind == 'writer' else writers
    found = []
    for name, node in nodes.items():
        mine = {topic: number for topic, number in opened[name, kind].items() if number}
        counts = node.ask('matched_each', kind=kind, numbers=list(mine.values()))
        for topic, count in zip(mine, counts):
            expected = len(set(others[topic]) - {name})
            if count != expected:
                found.append(f'{name}: {kind} of {topic} has {count} of {expected}')
    return found


def _listen_for_strangers(
    tried: Tried,
    strangers: Mapping[str, Participant],
    outside: _Opened,
    nodes: Mapping[str, Participant],
    opened: _Opened,
) -> None:
    """Have strangers say something on every topic, and nodes too; nobody may hear the other."""
    for name, stranger in strangers.items():
        writers = [number for number in outside[name, 'writer'].values() if number]
        assert writers, f'{name} has no writer with which anything could be tried'
        stranger.ask('write_each', numbers={str(number): -1 for number in writers})
    for path, node in nodes.items():
        numbers = [number for number in opened[path, 'writer'].values() if number]
        node.ask('write_each', numbers={str(number): 99 for number in numbers})
    for name, stranger in strangers.items():
        for kind in KINDS:
            mine = {t: number for t, number in outside[name, kind].items() if number}
            counts = stranger.ask('matched_each', kind=kind, numbers=list(mine.values()))
            tried.overheard += [
                f'{name} is connected by a {kind} of {topic}'
                for topic, count in zip(mine, counts)
                if count
            ]
        mine = {t: number for t, number in outside[name, 'reader'].items() if number}
        for topic, values in zip(mine, stranger.ask('take_each', numbers=list(mine.values()))):
            tried.overheard += [f'{name} hears {values} on {topic}'] * bool(values)
    for path, node in nodes.items():
        mine = {t: number for t, number in opened[path, 'reader'].items() if number}
        for topic, values in zip(mine, node.ask('take_each', numbers=list(mine.values()))):
            tried.overheard += [f'{path} hears a stranger on {topic}'] * (-1 in values)
