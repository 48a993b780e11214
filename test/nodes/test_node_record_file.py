# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A record outlives its process, belongs to one, and is none after an orderly end."""

from __future__ import annotations

import os

import pytest

from stl_conveyor.nodes.device.item_journal import JournalError
from stl_conveyor.nodes.device.record_file import RecordFile


def kill(record):
    """Let go of a file as a kill of the process does."""
    os.close(record._file)


def test_the_newest_line_outlives_its_process(tmp_path):
    path = tmp_path / 'state' / 'camera.journal'
    record = RecordFile(path, 64)
    assert record.line == ''
    record.write('a line that is longer')
    record.write('a line')
    kill(record)
    assert RecordFile(path, 64).line == 'a line' and path.stat().st_size == 64


def test_an_orderly_end_leaves_nothing(tmp_path):
    record = RecordFile(tmp_path / 'journal', 64)
    record.write('a line')
    record.close()
    assert list(tmp_path.iterdir()) == []
    record.write('after the end')
    assert RecordFile(tmp_path / 'journal', 64).line == ''


def test_one_process_has_it_and_nothing_but_a_file_is_taken(tmp_path):
    first = RecordFile(tmp_path / 'journal', 64)
    with pytest.raises(JournalError, match='another node of this name holds it'):
        RecordFile(tmp_path / 'journal', 64)
    first.close()
    (tmp_path / 'aim').write_text('not ours')
    (tmp_path / 'link').symlink_to(tmp_path / 'aim')
    for name in ('link', 'aim/journal'):
        with pytest.raises(JournalError, match='Name another file'):
            RecordFile(tmp_path / name, 64)
    assert (tmp_path / 'aim').read_text() == 'not ours'


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    record = RecordFile(tmp_path / 'journal', 64)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'pwrite', full)
    record.write('a line')
    assert 'No space left on device' in record.trouble
    record.close()


def test_without_a_path_nothing_is_kept():
    record = RecordFile(None, 64)
    record.write('a line')
    record.close()
    assert record.trouble == ''
