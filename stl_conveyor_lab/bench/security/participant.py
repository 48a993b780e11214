# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One DDS participant in this process, of Cyclone DDS with the security plug-ins of the system.

The wheels of ROS 2 hold a Fast DDS that was built without security. Debian and Ubuntu ship
Cyclone DDS with all three plug-ins, which read the same files: so who may write and read what is
tried there, on the level of DDS, below ROS.

The process reads one command a line from standard input and answers each with a line, both JSON;
`Participant` in peers.py starts it and speaks with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_PLUGINS = {'auth': 'authentication', 'access': 'access_control', 'crypto': 'crypto'}
_FILES = {
    'dds.sec.auth.identity_ca': 'identity_ca.cert.pem',
    'dds.sec.auth.identity_certificate': 'cert.pem',
    'dds.sec.auth.private_key': 'key.pem',
    'dds.sec.access.permissions_ca': 'permissions_ca.cert.pem',
    'dds.sec.access.governance': 'governance.p7s',
    'dds.sec.access.permissions': 'permissions.p7s',
}
_RELIABLE, _KEEP_ALL = 1, 1
_SECOND_NS = 1_000_000_000
_IGNORE_OWN = 1  # writers of the same participant
_MOST = 64  # samples that are taken at once
_UNREAD_OF_ANY_STATE = 2 | 4 | 8 | 16 | 32 | 64


class _Octets(ctypes.Structure):
    _fields_ = (
        ('maximum', ctypes.c_uint32),
        ('length', ctypes.c_uint32),
        ('buffer', ctypes.c_void_p),
        ('release', ctypes.c_bool),
    )


class _Word(ctypes.Structure):
    _fields_ = (('number', ctypes.c_int64), ('data', _Octets))


class _Matched(ctypes.Structure):
    _fields_ = (
        ('total', ctypes.c_uint32),
        ('total_change', ctypes.c_int32),
        ('current', ctypes.c_uint32),
        ('current_change', ctypes.c_int32),
        ('last', ctypes.c_uint64),
    )


class _SampleInfo(ctypes.Structure):
    _fields_ = (
        ('states', ctypes.c_int32 * 3),
        ('valid', ctypes.c_bool),
        ('source_timestamp', ctypes.c_int64),
        ('handles', ctypes.c_uint64 * 2),
        ('ranks', ctypes.c_uint32 * 5),
    )


class Refused(Exception):
    """The middleware did not do what was asked; the message is its own."""


class Endpoints:
    """A participant and its writers and readers, by number."""

    def __init__(self, library: str, plugins: str, domain: int, enclave: str) -> None:
        """Join a domain.

        Args:
            library: Path of the compiled type.
            plugins: Folder of the security plug-ins.
            domain: Number of the domain.
            enclave: Folder with keys and permissions; empty = without security.

        Raises:
            Refused: If the middleware does not let this participant be.
        """
        self._dds = ctypes.CDLL('libddsc.so', ctypes.RTLD_GLOBAL)
        self._descriptor = ctypes.byref(
            ctypes.c_char.in_dll(ctypes.CDLL(library), 'stl_conveyor_probe_Word_desc')
        )
        dds = self._dds
        dds.dds_strretcode.restype = ctypes.c_char_p
        dds.dds_create_qos.restype = ctypes.c_void_p
        dds.dds_qset_reliability.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
        dds.dds_qset_history.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int32)
        dds.dds_qset_ignorelocal.argtypes = (ctypes.c_void_p, ctypes.c_int)
        dds.dds_qset_prop.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
        dds.dds_waitset_wait.argtypes = (
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int64,
        )
        for name in ('dds_create_topic', 'dds_create_writer', 'dds_create_reader'):
            getattr(dds, name).restype = ctypes.c_int32
        qos = ctypes.c_void_p(dds.dds_create_qos())
        if enclave:
            for short, name in _PLUGINS.items():
                path = f'{plugins}/libdds_security_{"ac" if short == "access" else short}.so'
                self._property(qos, f'dds.sec.{short}.library.path', path)
                self._property(qos, f'dds.sec.{short}.library.init', f'init_{name}')
                self._property(qos, f'dds.sec.{short}.library.finalize', f'finalize_{name}')
            for key, file in _FILES.items():
                self._property(qos, key, f'file:{Path(enclave) / file}')
        self._participant = self._checked(dds.dds_create_participant(domain, qos, None))
        self._qos = ctypes.c_void_p(dds.dds_create_qos())
        dds.dds_qset_reliability(self._qos, _RELIABLE, _SECOND_NS)
        dds.dds_qset_history(self._qos, _KEEP_ALL, 0)
        dds.dds_qset_ignorelocal(self._qos, _IGNORE_OWN)
        self._topics: dict[str, int] = {}
        self._waits: dict[int, int] = {}

    def open(self, kind: str, topic: str) -> int:
        """Return the number of a new writer or reader.

        Raises:
            Refused: If it may not be.
        """
        if topic not in self._topics:
            self._topics[topic] = self._checked(
                self._dds.dds_create_topic(
                    self._participant, self._descriptor, topic.encode(), None, None
                )
            )
        create = self._dds.dds_create_writer if kind == 'writer' else self._dds.dds_create_reader
        return self._checked(create(self._participant, self._topics[topic], self._qos, None))

    def open_each(self, kind: str, topics: list[str]) -> dict[str, int | str]:
        """Return for each topic the number of a new writer or reader, or why it may not be."""
        found: dict[str, int | str] = {}
        for topic in topics:
            try:
                found[topic] = self.open(kind, topic)
            except Refused as error:
                found[topic] = str(error)
        return found

    def matched_each(self, kind: str, numbers: list[int]) -> list[int]:
        """Return how many others each of some writers or readers is connected to."""
        return [self.matched(kind, number) for number in numbers]

    def matched(self, kind: str, number: int) -> int:
        """Return how many others a writer or reader is connected to."""
        status = _Matched()
        ask = (
            self._dds.dds_get_publication_matched_status
            if kind == 'writer'
            else self._dds.dds_get_subscription_matched_status
        )
        self._checked(ask(number, ctypes.byref(status)))
        return status.current

    def write(self, number: int, value: int, size: int = 0) -> None:
        """Write a word with so many bytes beside it."""
        buffer = ctypes.create_string_buffer(max(1, size))
        word = _Word(value, _Octets(size, size, ctypes.addressof(buffer), False))
        self._checked(self._dds.dds_write(number, ctypes.byref(word)))

    def write_each(self, numbers: dict[str, int]) -> None:
        """Write words: number of a writer, as text → what it writes."""
        for number, value in numbers.items():
            self.write(int(number), value)

    def take_each(self, numbers: list[int]) -> list[list[int]]:
        """Return what has come to each of some readers."""
        return [self.take(number) for number in numbers]

    def take(self, number: int) -> list[int]:
        """Return the numbers of what has come."""
        samples = (ctypes.c_void_p * _MOST)()
        infos = (_SampleInfo * _MOST)()
        count = self._checked(self._dds.dds_take(number, samples, infos, _MOST, _MOST))
        values = [
            _Word.from_address(sample).number
            for sample, info in zip(samples[:count], infos)
            if sample and info.valid
        ]
        if count:
            self._dds.dds_return_loan(number, samples, count)
        return values

    def wait(self, reader: int, seconds: float) -> bool:
        """Return whether something unread is there within a time."""
        if reader not in self._waits:
            waitset = self._checked(self._dds.dds_create_waitset(self._participant))
            condition = self._checked(
                self._dds.dds_create_readcondition(reader, _UNREAD_OF_ANY_STATE)
            )
            self._checked(self._dds.dds_waitset_attach(waitset, condition, 0))
            self._waits[reader] = waitset
        return bool(
            self._checked(
                self._dds.dds_waitset_wait(
                    self._waits[reader], None, 0, round(seconds * _SECOND_NS)
                )
            )
        )

    def echo(self, reader: int, writer: int, rounds: int) -> None:
        """Send back what comes, so many times."""
        done = 0
        while done < rounds and self.wait(reader, 10.0):
            for value in self.take(reader):
                self.write(writer, value, 32)
                done += 1

    def round_trips(self, writer: int, reader: int, rounds: int, size: int) -> list[float]:
        """Return how long (s) a word and its answer took, each time."""
        times = []
        for value in range(rounds):
            begin = time.perf_counter()
            self.write(writer, value, size)
            while self.wait(reader, 10.0):
                if value in self.take(reader):
                    times.append(time.perf_counter() - begin)
                    break
        return times

    def _property(self, qos: ctypes.c_void_p, name: str, value: str) -> None:
        self._dds.dds_qset_prop(qos, name.encode(), value.encode())

    def _checked(self, code: int) -> int:
        if code < 0:
            raise Refused(self._dds.dds_strretcode(code).decode())
        return code


def answer(endpoints: list[Endpoints], command: dict[str, Any]) -> Any:
    """Do a command; `join` makes the participant that all later ones use."""
    name = command.pop('do')
    if name == 'join':
        endpoints.append(Endpoints(**command))
        return True
    return getattr(endpoints[0], name)(**command)


def main() -> int:
    """Answer commands until standard input ends."""
    # The middleware and its cryptography may print to standard output, too.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    endpoints: list[Endpoints] = []
    for line in sys.stdin:
        try:
            said = {'answer': answer(endpoints, json.loads(line))}
        except Refused as error:
            said = {'refused': str(error)}
        print(json.dumps(said), file=answers, flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
