# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The languages of the operator's page: one file of texts for each, in the folder texts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stl_conveyor.cell.remedies import REMEDIES
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_yaml
from stl_conveyor.panel.alarms import plain_text

FOLDER = Path(__file__).parent / 'texts'
DEFAULT = 'en'  # of which every other language has all texts
REMEDY = 'remedy.'  # begins the names of the remedies


@dataclass(frozen=True)
class Language:
    """A language.

    Attributes:
        code: BCP 47.
        name: In the language itself.
        texts: Every text by its name; one that the language lacks is English.
        lacks: Names of those.
    """

    code: str
    name: str
    texts: Mapping[str, str]
    lacks: tuple[str, ...] = ()


@cache
def languages() -> dict[str, Language]:
    """Return every language by its code, but those of which the file cannot be used.

    The English remedies are those of the table that the nodes' documentation has, too.

    Raises:
        ConfigError: If the English texts cannot be used.
    """
    found = {DEFAULT: _load(FOLDER / f'{DEFAULT}.yaml')}
    for path in sorted(FOLDER.glob('*.yaml')):
        if path.stem != DEFAULT:
            with contextlib.suppress(ConfigError):  # `language_trouble` says it
                found[path.stem] = _load(path)
    english = found[DEFAULT]
    remedies = {REMEDY + remedy.key: plain_text(remedy.text) for remedy in REMEDIES}
    found[DEFAULT] = Language(DEFAULT, english.name, {**english.texts, **remedies})
    whole = found[DEFAULT].texts
    for code, language in found.items():
        lacks = tuple(sorted(set(whole) - set(language.texts)))
        found[code] = Language(code, language.name, {**whole, **language.texts}, lacks)
    return found


def language_trouble() -> str:
    """Say which languages are left out, or lack texts; empty if none does."""
    said = []
    for path in sorted(FOLDER.glob('*.yaml')):
        try:
            _load(path)
        except ConfigError as error:
            said.append(str(error))
    said += [
        f'{FOLDER / each.code}.yaml lacks {", ".join(each.lacks)}, which are shown in English'
        for each in languages().values()
        if each.lacks
    ]
    return '; '.join(said)


def best_language(asked: str, accepted: str = '') -> Language:
    """Return the language that somebody asked for, or that their browser prefers.

    Args:
        asked: A code; empty or unknown: not asked for.
        accepted: The header Accept-Language of HTTP.

    Examples:
        >>> best_language('', 'fr;q=0.9, de-AT;q=0.8, en;q=0.1').code
        'de'
    """
    known = languages()
    if asked in known:
        return known[asked]
    wishes = []
    for part in accepted.split(','):
        code, _, weight = part.strip().partition(';q=')
        try:
            wishes.append((-float(weight or 1), code.split('-')[0].lower()))
        except ValueError:
            continue
    for _, code in sorted(wishes, key=lambda wish: wish[0]):
        if code in known:
            return known[code]
    return known[DEFAULT]


def _load(path: Path) -> Language:
    try:
        content = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(f'{path}: the texts cannot be read: {error}') from error
    texts: dict[str, str] = {}
    for name, text in content.items() if isinstance(content, Mapping) else ():
        inner = text.items() if isinstance(text, Mapping) else ((None, text),)
        for key, value in inner:
            texts[name if key is None else f'{name}.{key}'] = str(value)
    if 'language' not in texts:
        raise ConfigError(f'{path}: the text `language`, its name, is missing')
    return Language(path.stem, texts['language'], texts)
