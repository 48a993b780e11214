# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an actuator owes survives its process, and nothing is left of what nobody is owed."""

from __future__ import annotations

import errno
import os

import pytest

from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.owed_items import captured
from stl_conveyor.nodes.device import item_journal
from stl_conveyor.nodes.device.item_journal import ItemJournal, JournalError, journal_path


def numbers(journal):
    return [item.key.item_id for item in journal.owed.items]


def test_a_process_that_is_killed_leaves_what_it_owes(tmp_path):
    path = tmp_path / 'state' / 'actuator.journal'
    journal = ItemJournal(path)
    for number in (1, 2, 3):
        journal.note(captured(ItemKey(number, number), 10, 'camera'))
    journal.close_item(ItemKey(2, 2))
    assert path.stat().st_mode & 0o077 == 0
    content = path.read_bytes()
    os.close(journal._file)  # a kill: nothing is written at the end
    assert path.read_bytes() == content
    path.write_bytes(content + b'["captured",4,')  # and a line is cut short
    again = ItemJournal(path)
    assert numbers(again) == [1, 3] and again.owed.damaged == 1
    for number in (1, 3):
        again.close_item(ItemKey(number, number))
    again.close()
    assert not path.exists()


def test_the_file_is_written_anew_before_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(item_journal, 'LARGEST', 2000)
    journal = ItemJournal(tmp_path / 'journal')
    journal.note(captured(ItemKey(1, 1), 10, 'camera'))
    for number in range(2, 500):
        journal.note(captured(ItemKey(number, number), 10, 'camera'))
        journal.close_item(ItemKey(number, number))
        assert (tmp_path / 'journal').stat().st_size < 2200
    assert [path.name for path in tmp_path.iterdir()] == ['journal'] and not journal.trouble
    os.close(journal._file)
    assert numbers(ItemJournal(tmp_path / 'journal')) == [1]


def test_a_second_one_is_refused_and_the_first_goes_on(tmp_path):
    first = ItemJournal(tmp_path / 'journal')
    with pytest.raises(JournalError, match='another node of this name holds it'):
        ItemJournal(tmp_path / 'journal')
    first.note(captured(ItemKey(1, 1), 10, 'camera'))
    first.close()
    assert numbers(ItemJournal(tmp_path / 'journal')) == [1]


def test_what_is_no_file_of_ours_is_refused_by_name(tmp_path):
    (tmp_path / 'aim').write_text('precious')
    (tmp_path / 'link').symlink_to(tmp_path / 'aim')
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'folder').mkdir()
    for name in ('link', 'pipe', 'folder', 'aim/journal'):
        with pytest.raises(JournalError, match=str(tmp_path / name)):
            ItemJournal(tmp_path / name)
    assert (tmp_path / 'aim').read_text() == 'precious'


def test_a_full_disk_is_told_once_and_stops_nobody(tmp_path, monkeypatch):
    journal = ItemJournal(tmp_path / 'journal')

    def full(number, data):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'write', full)
    journal.note(captured(ItemKey(1, 1), 10, 'camera'))
    assert 'No space left on device' in journal.trouble and numbers(journal) == [1]
    journal.close_item(ItemKey(1, 1))
    journal.close()


def test_without_a_file_the_account_is_kept_all_the_same():
    journal = ItemJournal(None)
    journal.note(captured(ItemKey(1, 1), 10, 'camera'))
    assert numbers(journal) == [1]
    journal.close()


def test_where_it_lies(tmp_path, monkeypatch):
    for variable in item_journal.RUNTIME_FOLDERS:
        monkeypatch.delenv(variable, raising=False)
    assert journal_path('none', 5, '/actuator') is None
    assert journal_path(str(tmp_path / 'mine'), 5, '/actuator') == tmp_path / 'mine'
    shared = journal_path('auto', 5, '/line_1/actuator')
    assert shared.name == '5.line_1.actuator.journal' and str(os.geteuid()) in shared.parent.name
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path))
    assert journal_path('auto', 5, '/actuator').parent == tmp_path / 'stl_conveyor'
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path / 'missing'))
    assert journal_path('auto', 5, '/line_1/actuator') == shared
