# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest

from stl_conveyor.cell.remedies import REMEDIES
from stl_conveyor.panel import language
from stl_conveyor.panel.language import best_language, language_trouble, languages

ROOT = Path(__file__).resolve().parents[2]
VIEW = Path(language.__file__).parents[1] / 'web' / 'cell_view.js'
# Beginnings of names of texts that are put together: with a number, a state, or a remedy.
COMPOSED = (
    'source.',
    'decision.',
    'reason.',
    'stroke.',
    'remedy.',
    'state.',
    'item.',
    'oee.',
    'belt.',
    'alarm.',
    'role.',
    'control.',
)


def braces(text):
    return sorted(re.findall(r'\{\w+\}', text))


def test_every_language_has_every_text_with_the_same_values():
    found = languages()
    assert {'en', 'de'} <= set(found)
    for other in found.values():
        assert other.lacks == (), other.code
        for name, text in found['en'].texts.items():
            assert other.texts[name].strip(), (other.code, name)
            assert braces(other.texts[name]) == braces(text), (other.code, name)


def test_every_fault_has_a_remedy_in_every_language():
    for each in languages().values():
        assert {f'remedy.{remedy.key}' for remedy in REMEDIES} <= set(each.texts)


@pytest.mark.parametrize(
    'message, begins, name',
    [
        ('SortOutcome', 'REASON', 'reason'),
        ('OffloadDecision', 'REASON', 'decision'),
        ('SortOutcome', 'SOURCE', 'source'),
        ('Actuation', 'STATUS', 'stroke'),
    ],
)
def test_what_messages_tell_by_numbers_has_a_text(message, begins, name):
    definition = (ROOT / 'msg' / f'{message}.msg').read_text(encoding='utf-8')
    numbers = re.findall(rf'^uint8 {begins}_\w+=(\d+)', definition, re.MULTILINE)
    assert numbers
    for number in numbers:
        assert f'{name}.{number}' in languages()['en'].texts, number


def test_the_page_uses_texts_that_there_are_and_all_of_them():
    code = VIEW.read_text()
    texts = languages()['en'].texts
    used = set(re.findall(r"""\bt\(\s*['"]([a-z_]+(?:\.[a-z_0-9]+)?)['"]\s*[,)]""", code))
    used |= {name for name in re.findall(r"""['"]([a-z_]+\.[a-z_]+)['"]""", code) if name in texts}
    assert used <= set(texts), used - set(texts)
    left = {n for n in set(texts) - used if not n.startswith(COMPOSED)}
    assert left <= {'language', 'title'}, left


@pytest.mark.parametrize(
    'asked, accepted, code',
    [
        ('de', 'en', 'de'),
        ('xx', 'de', 'de'),
        ('', 'fr, it;q=0.9', 'en'),
        ('', 'en;q=0.2, de;q=0.7', 'de'),
        ('', 'de;q=high, en', 'en'),
        ('', '', 'en'),
    ],
)
def test_the_language_is_the_one_that_is_wanted(asked, accepted, code):
    assert best_language(asked, accepted).code == code


def test_a_language_that_lacks_a_text_has_the_english_one_and_a_broken_one_is_left_out(
    tmp_path, monkeypatch
):
    for path in language.FOLDER.glob('*.yaml'):
        (tmp_path / path.name).write_text(path.read_text())
    text = (tmp_path / 'de.yaml').read_text()
    (tmp_path / 'fr.yaml').write_text(text.replace('frozen:', 'gelo:'))
    (tmp_path / 'it.yaml').write_text('language: Italiano\nlanguage: again\n')
    assert language_trouble() == ''
    monkeypatch.setattr(language, 'FOLDER', tmp_path)
    languages.cache_clear()
    try:
        found = languages()
        assert set(found) == {'en', 'de', 'fr'}
        assert found['fr'].texts['frozen'] == found['en'].texts['frozen']
        assert 'fr.yaml lacks frozen' in language_trouble()
        assert 'it.yaml' in language_trouble()
    finally:
        languages.cache_clear()
