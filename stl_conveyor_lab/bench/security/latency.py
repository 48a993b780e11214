# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How long a packet and its answer take with security and without, in turns, in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from stl_conveyor.deploy.keystore import Keystore, grants
from stl_conveyor.deploy.security import WIRINGS, policy
from stl_conveyor_lab.bench.security.peers import Middleware, Participant, until

#: Bytes: a packet of an item's stream, and a crop.
SIZES = (300, 76_800)
THERE, BACK = 'rt/features_rx', 'rt/feedback_tx'  # from encoder to edge_classifier, and back
BLOCKS, ROUNDS = 5, 100
WITH, WITHOUT = 'with security', 'without'

Measured = Mapping[tuple[str, int], Sequence[float]]


def measure(middleware: Middleware, folder: Path, domains: tuple[int, int]) -> Measured:
    """Return the round trips (s) of each way and size; blocks of each way take turns.

    Args:
        folder: Where the keys are made.
        domains: In which nobody else is: one with security, one without.
    """
    allowed = grants(policy(WIRINGS['direct']))
    store = Keystore(folder / 'keys', domains[0])
    for path in ('/encoder', '/edge_classifier'):
        store.add(path, allowed[path])
    found: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        pairs = {}
        for way, domain in zip((WITH, WITHOUT), domains):
            enclaves = folder / 'keys' / 'enclaves' if way == WITH else None
            encoder, edge = (
                stack.enter_context(
                    middleware.participant(domain, enclaves / name if enclaves else None)
                )
                for name in ('encoder', 'edge_classifier')
            )
            pairs[way] = _Pair(encoder, edge)
        for _ in range(BLOCKS):
            for size in SIZES:
                for way, pair in pairs.items():
                    found.setdefault((way, size), []).extend(pair.round_trips(ROUNDS, size))
    return found


class _Pair:
    """Two participants that are connected both ways."""

    def __init__(self, encoder: Participant, edge: Participant) -> None:
        self._encoder, self._edge = encoder, edge
        self._there = encoder.ask('open', kind='writer', topic=THERE)
        self._answers = encoder.ask('open', kind='reader', topic=BACK)
        self._heard = edge.ask('open', kind='reader', topic=THERE)
        self._back = edge.ask('open', kind='writer', topic=BACK)
        assert until(
            lambda: all(
                party.ask('matched', kind=kind, number=number)
                for party, kind, number in (
                    (encoder, 'writer', self._there),
                    (encoder, 'reader', self._answers),
                    (edge, 'reader', self._heard),
                    (edge, 'writer', self._back),
                )
            )
        ), 'two participants that may be connected are not'

    def round_trips(self, rounds: int, size: int) -> list[float]:
        self._edge.tell('echo', reader=self._heard, writer=self._back, rounds=rounds)
        times: list[float] = self._encoder.ask(
            'round_trips', writer=self._there, reader=self._answers, rounds=rounds, size=size
        )
        self._edge.hear()
        return times
