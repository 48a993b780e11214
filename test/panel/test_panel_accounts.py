# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat

import pytest

pytest.importorskip('argon2')

from stl_conveyor.errors import ConfigError, ConveyorError  # noqa: E402
from stl_conveyor.panel import changes, line_log  # noqa: E402
from stl_conveyor.panel.accounts import (  # noqa: E402
    FAILURES,
    LOCKED_S,
    SESSION_S,
    Accounts,
    Right,
    Role,
    Sessions,
    User,
    write_account,
)
from stl_conveyor.panel.changes import ChangeBook, Forbidden, checked  # noqa: E402

ENGINEER = User('Ada', Role.ENGINEER)
OPERATOR = User('Bob', Role.OPERATOR)
VIEWER = User('Cy', Role.VIEWER)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'new' / 'accounts.yaml'
    write_account(path, 'Ada', Role.ENGINEER, 'a long password')
    write_account(path, 'Bob', Role.OPERATOR, 'another password')
    return path


def test_who_has_the_password_is_let_in_and_nobody_else(file):
    accounts = Accounts.load(file)
    assert accounts.check('Ada', 'a long password') == ENGINEER
    for name, password in (
        ('Ada', 'another password'),
        ('ada', 'a long password'),
        ('Eve', 'a long password'),
        ('', ''),
    ):
        assert accounts.check(name, password) is None, name


def test_passwords_are_hashed_and_for_the_owner_alone(file):
    assert 'password' not in file.read_text().replace('password:', '')
    assert file.read_text().count('$argon2id$') == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_account_is_changed_and_the_others_stay(file):
    write_account(file, 'Bob', Role.VIEWER, 'a third password')
    accounts = Accounts.load(file)
    assert len(accounts) == 2
    assert accounts.check('Bob', 'a third password') == User('Bob', Role.VIEWER)
    assert accounts.check('Bob', 'another password') is None


def test_after_some_failures_an_account_rests(file):
    clock = Clock()
    accounts = Accounts.load(file, clock)
    for _ in range(FAILURES):
        assert accounts.check('Ada', 'wrong') is None
    assert accounts.check('Ada', 'a long password') is None
    assert accounts.check('Bob', 'another password') == OPERATOR
    clock.now = LOCKED_S + 1
    assert accounts.check('Ada', 'a long password') == ENGINEER


@pytest.mark.parametrize(
    'name, password', [('', 'long enough'), ('A\n', 'long enough'), ('Ada', 'short')]
)
def test_what_is_no_account_is_not_written(tmp_path, name, password):
    with pytest.raises(ConfigError):
        write_account(tmp_path / 'accounts.yaml', name, Role.VIEWER, password)
    assert not (tmp_path / 'accounts.yaml').exists()


@pytest.mark.parametrize(
    'text, named',
    [
        ('[', 'accounts.yaml'),
        ('a: 1', 'no users'),
        ('users: {Ada: {role: king, password: $argon2}}', 'king'),
        ('users: {Ada: {role: viewer, password: plain}}', 'no hash'),
        ('users: {Ada: 7}', 'Ada'),
    ],
)
def test_a_file_that_is_none_of_accounts_is_refused_by_name(tmp_path, text, named):
    path = tmp_path / 'accounts.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        Accounts.load(path)


def test_a_session_ends_by_itself_and_when_it_is_ended():
    clock = Clock()
    sessions = Sessions(clock)
    first, second = sessions.begin(ENGINEER), sessions.begin(OPERATOR)
    assert first != second
    assert (sessions.user(first), sessions.user(second)) == (ENGINEER, OPERATOR)
    sessions.end(first)
    assert (sessions.user(first), sessions.user('')) == (None, None)
    clock.now = SESSION_S + 1
    assert sessions.user(second) is None


class Line:
    """A cell that does what it is told, or says why not."""

    def __init__(self):
        self.holds = {'running': True, 'policy': 'adaptive', 'rate': 0.25, 'depth': 4.0}
        self.refuses = ''

    def values(self):
        return dict(self.holds)

    def apply(self, values):
        if self.refuses:
            raise ConveyorError(self.refuses)
        self.holds.update(values)


def test_a_change_is_made_logged_and_undone(tmp_path):
    line, book = Line(), ChangeBook(tmp_path / 'changes.jsonl')
    made = book.make(line, ENGINEER, {'rate': 0.5, 'policy': 'mdp'}, 100.0)
    assert line.holds['rate'] == 0.5 and made.before == {'rate': 0.25, 'policy': 'adaptive'}
    undone = book.undo(line, ENGINEER, made.number, 101.0)
    assert line.holds['rate'] == 0.25 and line.holds['policy'] == 'adaptive'
    assert (undone.undoes, undone.who) == (made.number, 'Ada')
    with pytest.raises(ConfigError, match='already'):
        book.undo(line, ENGINEER, made.number, 102.0)
    logged = [json.loads(text) for text in (tmp_path / 'changes.jsonl').read_text().splitlines()]
    assert [(entry['who'], entry['time'], entry['undoes']) for entry in logged] == [
        ('Ada', 100.0, 0),
        ('Ada', 101.0, 1),
    ]


def test_after_a_restart_numbers_go_on_and_what_was_changed_can_be_undone(tmp_path):
    path, line = tmp_path / 'changes.jsonl', Line()
    first = ChangeBook(path)
    made = first.make(line, ENGINEER, {'rate': 0.5}, 100.0)
    first.make(line, ENGINEER, {'policy': 'mdp'}, 101.0)
    again = ChangeBook(path)
    assert again.changes() == first.changes() and again.trouble == ''
    undone = again.undo(line, ENGINEER, made.number, 102.0)
    assert (undone.number, undone.undoes, line.holds['rate']) == (3, 1, 0.25)
    with pytest.raises(ConfigError, match='already'):
        ChangeBook(path).undo(line, ENGINEER, made.number, 103.0)
    with pytest.raises(Forbidden):  # the log gives nobody a right
        ChangeBook(path).undo(line, OPERATOR, 2, 103.0)


def test_damaged_lines_of_the_changes_are_left_out_and_said(tmp_path):
    path, line = tmp_path / 'changes.jsonl', Line()
    ChangeBook(path).make(line, ENGINEER, {'rate': 0.5}, 100.0)
    good = json.loads(path.read_text())
    damaged = [
        {**good, **wrong}
        for wrong in (
            {'number': 'x'},
            {'number': True},
            {'number': 0},
            {'time': '1'},
            {'time': float('nan')},
            {'who': None},
            {'before': [1]},
            {'before': {'guard': 1}},
            {'after': {'guard': 1}},
            {'after': {'cell_values': None}},
            {'after': {'rate': -1}},
            {'failed': 1},
            {'undoes': -1},
            {'more': 1},
        )
    ]
    path.write_text('\n'.join(['[' * 100_000, '7', *map(json.dumps, damaged), json.dumps(good)]))
    book = ChangeBook(path)
    assert [change.number for change in book.changes()] == [1]
    assert 'changes.jsonl' in book.trouble and str(len(damaged) + 2) in book.trouble
    book.make(line, ENGINEER, {'rate': 0.75}, 101.0)
    assert book.trouble == ''
    assert [change.number for change in ChangeBook(path).changes()] == [2, 1]


def test_changes_whose_numbers_begin_anew_hide_those_before(tmp_path):
    path, line = tmp_path / 'changes.jsonl', Line()
    for rate in (0.5, 0.75):  # as they were logged once, from 1 at each start
        one = tmp_path / 'one.jsonl'
        ChangeBook(one).make(line, ENGINEER, {'rate': rate}, 100.0)
        path.write_text((path.read_text() if path.exists() else '') + one.read_text())
        one.unlink()
    (change,) = ChangeBook(path).changes()
    assert change.before == {'rate': 0.5}


def test_a_long_log_of_changes_is_put_aside_and_read(tmp_path, monkeypatch):
    path, line = tmp_path / 'changes.jsonl', Line()
    monkeypatch.setattr(line_log, 'LARGEST', 5000)
    book = ChangeBook(path)
    for n in range(2 * changes.KEPT):
        book.make(line, ENGINEER, {'rate': 1.0 + n}, 100.0 + n)
    assert {each.name for each in tmp_path.iterdir()} == {'changes.jsonl', 'changes.jsonl.1'}
    assert max(each.stat().st_size for each in tmp_path.iterdir()) < 5500
    again = ChangeBook(path).changes()
    assert again == book.changes()[: len(again)] and len(again) > 20


def test_a_change_that_fails_is_logged_and_cannot_be_undone():
    line, book = Line(), ChangeBook()
    line.refuses = 'offload_policy: it is not there'
    failed = book.make(line, OPERATOR, {'running': False}, 1.0)
    assert failed.failed == 'offload_policy: it is not there'
    assert book.changes() == [failed]
    with pytest.raises(ConfigError):
        book.undo(line, OPERATOR, failed.number, 2.0)


@pytest.mark.parametrize(
    'user, values',
    [
        (VIEWER, {'running': False}),
        (OPERATOR, {'rate': 0.5}),
        (OPERATOR, {'running': False, 'policy': 'mdp'}),
    ],
)
def test_what_somebody_may_not_change_stays(user, values):
    line, book = Line(), ChangeBook()
    with pytest.raises(Forbidden):
        book.make(line, user, values, 1.0)
    assert line.holds == Line().holds and book.changes() == []


def test_nobody_undoes_what_they_may_not_change():
    line, book = Line(), ChangeBook()
    made = book.make(line, ENGINEER, {'rate': 0.5}, 1.0)
    with pytest.raises(Forbidden):
        book.undo(line, OPERATOR, made.number, 2.0)
    assert line.holds['rate'] == 0.5


@pytest.mark.parametrize(
    'values',
    [
        None,
        {},
        [],
        {'guard': 1.0},
        {'running': 1},
        {'policy': ''},
        {'policy': ['x']},
        {'rate': float('nan')},
        {'rate': -1},
        {'rate': 10**400},
        {'rate': True},
        {'depth': 0.5},
        {'depth': '4'},
    ],
)
def test_what_cannot_be_is_refused(values):
    with pytest.raises(ConfigError):
        checked(values, ENGINEER)


def test_an_operator_has_fewer_rights_than_an_engineer():
    assert VIEWER.rights < OPERATOR.rights < ENGINEER.rights == frozenset(Right)
