# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The languages of the operator's page: one file of texts for each, in the folder texts."""

from __future__ import annotations

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
    """A language: its code (BCP 47), its own name, and every text by its name."""

    code: str
    name: str
    texts: Mapping[str, str]


@cache
def languages() -> dict[str, Language]:
    """Return every language by its code.

    The English remedies are those of the table that the nodes' documentation has, too.

    Raises:
        ConfigError: Naming the file and the text that is missing or unknown.
    """
    found = {path.stem: _load(path) for path in sorted(FOLDER.glob('*.yaml'))}
    english = found[DEFAULT]
    remedies = {REMEDY + remedy.key: plain_text(remedy.text) for remedy in REMEDIES}
    found[DEFAULT] = Language(DEFAULT, english.name, {**english.texts, **remedies})
    wanted = set(found[DEFAULT].texts)
    for language in found.values():
        for problem, names in (
            ('misses', wanted - set(language.texts)),
            ('has the unknown', set(language.texts) - wanted),
        ):
            if names:
                raise ConfigError(
                    f'{FOLDER / language.code}.yaml: it {problem} {", ".join(sorted(names))}; '
                    f'the texts of {DEFAULT}.yaml are what every language has'
                )
    return found


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
