# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who may do what on the operator's page: accounts with hashed passwords, and sessions."""

from __future__ import annotations

import enum
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from stl_conveyor.errors import ConfigError, MissingDependency, install_words
from stl_conveyor.outside_files import UnusableFile, read_yaml
from stl_conveyor.resources import write_whole

SHORTEST_PASSWORD = 8
SESSION_S = 12 * 3600.0  # a shift and some; then the password is asked for again
FAILURES = 5  # after so many wrong passwords in a row ...
LOCKED_S = 30.0  # ... an account is not asked for so long
MOST_NAMES = 1000  # of which failures are remembered


class Role(enum.Enum):
    """What somebody is on the line."""

    VIEWER = 'viewer'
    OPERATOR = 'operator'
    ENGINEER = 'engineer'


class Right(enum.Enum):
    """What somebody may do, beside looking on."""

    ACKNOWLEDGE = 'acknowledge'
    RUN = 'run'  # start and pause
    POLICY = 'policy'  # policy, rate and bucket
    RECIPE = 'recipe'  # recipe, costs, purity targets and lanes of the classes


RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.VIEWER: frozenset(),
        Role.OPERATOR: frozenset({Right.ACKNOWLEDGE, Right.RUN}),
        Role.ENGINEER: frozenset(Right),
    }
)


@dataclass(frozen=True)
class User:
    """Somebody who has given their password."""

    name: str
    role: Role

    @property
    def rights(self) -> frozenset[Right]:
        """Return what they may do."""
        return RIGHTS[self.role]


@dataclass(frozen=True)
class _Account:
    role: Role
    password: str  # its hash, by argon2id


class Accounts:
    """The accounts of a file, and how often somebody failed. Any thread may use it."""

    def __init__(
        self, accounts: Mapping[str, _Account], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the accounts; see `load`."""
        self._accounts = dict(accounts)
        self._clock = clock
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._hasher = _hasher()
        # Whoever has no account takes as long as who has one.
        self._nobody = self._hasher.hash(secrets.token_hex()) if accounts else ''

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._accounts)

    @classmethod
    def load(cls, path: Path, clock: Callable[[], float] = time.monotonic) -> Accounts:
        """Read the accounts that `write_account` wrote.

        Raises:
            ConfigError: Naming the file and what is wrong with it.
            MissingDependency: If argon2-cffi is not installed.
        """
        return cls(_read(path), clock)

    def check(self, name: str, password: str) -> User | None:
        """Return who has this name and password; None if nobody has, or too many tries failed."""
        with self._lock:
            count, since = self._failures.get(name, (0, 0.0))
            if count >= FAILURES and self._clock() - since < LOCKED_S:
                return None
        account = self._accounts.get(name)
        right = _matches(self._hasher, account.password if account else self._nobody, password)
        with self._lock:
            if account is not None and right:
                self._failures.pop(name, None)
                return User(name, account.role)
            self._failures[name] = (count + 1, self._clock())
            while len(self._failures) > MOST_NAMES:
                del self._failures[next(iter(self._failures))]
        return None


class Sessions:
    """Who is there, by the token that their browser keeps. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nobody."""
        self._clock = clock
        self._sessions: dict[str, tuple[User, float]] = {}
        self._lock = threading.Lock()

    def begin(self, user: User) -> str:
        """Return a token for somebody."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = self._clock()
            self._sessions = {
                kept: (who, since)
                for kept, (who, since) in self._sessions.items()
                if now - since < SESSION_S
            }
            self._sessions[token] = (user, now)
        return token

    def user(self, token: str) -> User | None:
        """Return whose token it is; None: nobody's, or not any more."""
        with self._lock:
            user, since = self._sessions.get(token, (None, 0.0))
            return user if user is not None and self._clock() - since < SESSION_S else None

    def end(self, token: str) -> None:
        """Forget a token."""
        with self._lock:
            self._sessions.pop(token, None)


def write_account(path: Path, name: str, role: Role, password: str) -> None:
    """Put an account into a file, or change it; the file is readable for its owner alone.

    Raises:
        ConfigError: If the name or password cannot be used, or the file is none of accounts.
        MissingDependency: If argon2-cffi is not installed.
    """
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise ConfigError(f'name {name!r}: give one of 1 to 100 printable characters')
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError(f'the password is too short: {SHORTEST_PASSWORD} characters or more')
    accounts = _read(path) if path.exists() else {}
    accounts[name] = _Account(role, _hasher().hash(password))
    content = {
        'users': {
            each: {'role': account.role.value, 'password': account.password}
            for each, account in accounts.items()
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(content, allow_unicode=True).encode(), private=True)


def _read(path: Path) -> dict[str, _Account]:
    try:
        content = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(
            f'{path}: the accounts cannot be read ({error}); `stl-conveyor panel-user` writes them'
        ) from error
    users = content.get('users') if isinstance(content, Mapping) else None
    if not isinstance(users, Mapping):
        raise ConfigError(f'{path}: it has no users; `stl-conveyor panel-user` writes them')
    accounts = {}
    for name, entry in users.items():
        role = entry.get('role') if isinstance(entry, Mapping) else None
        password = entry.get('password') if isinstance(entry, Mapping) else None
        if role not in {each.value for each in Role}:
            raise ConfigError(
                f'{path}: role of {name}: {role!r} is not one of '
                + ', '.join(each.value for each in Role)
            )
        if not isinstance(password, str) or not password.startswith('$argon2'):
            raise ConfigError(
                f'{path}: password of {name}: it is no hash; `stl-conveyor panel-user` makes it'
            )
        accounts[str(name)] = _Account(Role(role), password)
    return accounts


def _hasher() -> Any:  # of a library that is loaded when it is needed
    try:
        from argon2 import PasswordHasher
    except ImportError as error:
        raise MissingDependency(
            f"accounts of the operator's page need argon2-cffi ({error}): {install_words('hmi')}"
        ) from error
    return PasswordHasher()


def _matches(hasher: Any, hashed: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return bool(hasher.verify(hashed, password))
    except (VerificationError, InvalidHashError):
        return False
