# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What belongs to no living participant is removed from shared memory, and nothing else."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

import pytest

from stl_conveyor.nodes.base import shared_memory
from stl_conveyor.nodes.base.shared_memory import (
    STALE_S,
    PortWatch,
    joining,
    opened_here,
    remove_orphans,
    replaced_ports,
)

SEGMENT = 'fastdds_0123456789abcdef'
OTHER = 'fastrtps_fedcba9876543210'
PORT = 'fastdds_port7411'
ALL_OF_PORT = [PORT, f'{PORT}_el', f'sem.{PORT}_mutex']


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """Return folders like /dev/shm and /proc; what is in the first was made long ago."""
    monkeypatch.setattr(shared_memory, 'YOUNG_S', -1.0)
    folder, processes = tmp_path / 'shm', tmp_path / 'proc'
    folder.mkdir()
    processes.mkdir()
    return folder, processes


def swept(memory, own=()):
    return remove_orphans(own, *memory)


def put(folder, *names):
    for name in names:
        (folder / name).write_bytes(b'x')


@contextmanager
def locked(path, kind=fcntl.LOCK_EX):
    """Hold a lock, as a participant does."""
    with open(path, 'rb') as file:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        yield


def process(processes, folder, number, *names):
    """Have a process that has files mapped."""
    (processes / str(number)).mkdir()
    lines = [f'7f00-7f01 rw-s 00000000 00:1a 7    {folder}/{name}\n' for name in names]
    (processes / str(number) / 'maps').write_text(
        '7f00-7f01 r-xp 00000000 fd:00 5    /usr/lib/libc.so.6\n' + ''.join(lines)
    )


def test_what_a_killed_process_left_is_removed(memory):
    folder, _ = memory
    put(folder, SEGMENT, f'{SEGMENT}_el', OTHER, f'{OTHER}_el', *ALL_OF_PORT, 'sem.mine', 'data')
    assert swept(memory) == 7
    assert sorted(os.listdir(folder)) == ['data', 'sem.mine']


def test_what_a_participant_holds_stays(memory):
    folder, processes = memory
    put(folder, SEGMENT, f'{SEGMENT}_el', *ALL_OF_PORT)
    process(processes, folder, 17, SEGMENT, PORT)
    with locked(folder / f'{SEGMENT}_el'), locked(folder / f'{PORT}_el'):
        assert swept(memory) == 0
    assert len(os.listdir(folder)) == 5


def test_a_segment_whose_owner_is_dead_goes_although_others_have_read_it(memory):
    folder, processes = memory
    put(folder, SEGMENT, f'{SEGMENT}_el')
    process(processes, folder, 17, SEGMENT)
    assert swept(memory) == 2


def test_what_was_made_just_now_may_not_be_locked_yet(memory, monkeypatch):
    folder, processes = memory
    monkeypatch.setattr(shared_memory, 'YOUNG_S', 1e6)
    put(folder, SEGMENT, f'{SEGMENT}_el', OTHER, *ALL_OF_PORT)
    process(processes, folder, 17, SEGMENT)
    assert swept(memory) == 0
    # Unless this process had it open itself.
    assert opened_here(folder, processes) == set()
    process(processes, folder, 'self', PORT, SEGMENT)
    assert opened_here(folder, processes) == {PORT, SEGMENT}
    assert swept(memory, {PORT}) == 3


def test_a_port_stays_for_as_long_as_somebody_sends_through_it(memory):
    folder, processes = memory
    put(folder, *ALL_OF_PORT)
    process(processes, folder, 17, PORT)
    assert swept(memory) == 0
    (processes / '17' / 'maps').unlink()
    assert swept(memory) == 3


def test_a_port_through_which_somebody_sends_is_not_locked_while_that_is_looked_for(
    memory, monkeypatch
):
    """Who finds it locked then opens a port of which the next listener does not hear."""
    folder, processes = memory
    put(folder, SEGMENT, f'{SEGMENT}_el', *ALL_OF_PORT)
    process(processes, folder, 17, PORT)
    looks = []

    def look(*arguments):
        with locked(folder / f'{PORT}_el'):
            looks.append(arguments)
        return mapped_by(*arguments)

    mapped_by = shared_memory._mapped_by
    monkeypatch.setattr(shared_memory, '_mapped_by', look)
    assert swept(memory) == 2
    assert looks and sorted(os.listdir(folder)) == sorted(ALL_OF_PORT)


def test_who_removes_what_is_its_own_is_not_kept_from_it_by_another_one(memory, monkeypatch):
    """Both see that the owner is dead; one of them has seen the owner alive, and leaves it."""
    folder, processes = memory
    monkeypatch.setattr(shared_memory, 'YOUNG_S', 1e6)
    put(folder, SEGMENT, f'{SEGMENT}_el')
    removed = []

    def look(*_):
        if removed:
            return set()
        removed.append(0)
        removed.append(remove_orphans({SEGMENT}, *memory))
        return {SEGMENT}

    monkeypatch.setattr(shared_memory, '_open_somewhere', look)
    assert swept(memory) == 0
    assert removed[-1] == 2


def test_a_port_that_somebody_opens_at_the_last_moment_stays(memory, monkeypatch):
    folder, processes = memory
    put(folder, *ALL_OF_PORT)
    looks = []

    def look(*_):
        looks.append(set() if not looks else {PORT})
        return looks[-1]

    monkeypatch.setattr(shared_memory, '_open_somewhere', look)
    assert swept(memory) == 0
    assert len(looks) == 2


@pytest.mark.parametrize('kind', [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_port_stays_for_as_long_as_somebody_listens_to_it(memory, kind):
    folder, _ = memory
    put(folder, PORT, f'{PORT}_sl', f'{PORT}_el')
    with locked(folder / f'{PORT}_sl', kind):
        assert swept(memory) == 0


def test_ports_stay_where_a_participant_lives_that_cannot_be_seen(memory):
    folder, _ = memory
    put(folder, SEGMENT, f'{SEGMENT}_el', OTHER, f'{OTHER}_el', *ALL_OF_PORT)
    with locked(folder / f'{SEGMENT}_el'):
        assert swept(memory) == 2
    assert sorted(os.listdir(folder)) == sorted([SEGMENT, f'{SEGMENT}_el', *ALL_OF_PORT])


def test_a_port_of_which_a_listener_has_another_file_is_told_after_a_while(memory):
    folder, processes = memory
    put(folder, *ALL_OF_PORT)
    gone = f'{PORT} (deleted)'
    process(processes, folder, 'self', gone, f'{SEGMENT} (deleted)', 'fastdds_port7413')

    def replaced():
        return replaced_ports(folder, processes)

    watch = PortWatch(replaced)
    assert watch.stale(0.0) == []  # nobody listens
    with locked(folder / f'{PORT}_el'):
        assert replaced() == {f'{PORT} (7)'}
        assert watch.stale(1.0) == watch.stale(STALE_S) == []
        assert watch.stale(1.0 + STALE_S) == [f'{PORT} (7)']
        (processes / 'self' / 'maps').write_text('')
        assert watch.stale(2.0 + STALE_S) == []


def test_no_port_is_removed_while_a_node_takes_its_own(memory):
    folder, _ = memory
    put(folder, *ALL_OF_PORT)
    with joining(folder), joining(folder):
        assert swept(memory) == 0
    assert swept(memory) == 3


def test_a_node_joins_in_the_end_even_when_the_folder_stays_locked(memory, monkeypatch):
    monkeypatch.setattr(shared_memory, 'PATIENCE_S', 0.0)
    with _folder_locked(memory[0]), joining(memory[0]):
        assert swept(memory) == 0


def test_a_machine_without_shared_memory_has_nothing_to_remove(tmp_path):
    assert remove_orphans((), tmp_path / 'nowhere', tmp_path) == 0
    with joining(tmp_path / 'nowhere'):
        pass


@contextmanager
def _folder_locked(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
