# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What README and docs/ say of files, names, commands and figures is so."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'examples').glob('*.md')]
)
README = (ROOT / 'README.md').read_text(encoding='utf-8')
ARCHITECTURE = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
# Of a path, what it may be relative to: pages that speak of one package leave its name out.
BASES = (ROOT, ROOT / 'stl_conveyor', ROOT / 'stl_conveyor' / 'hardware')
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} | {
    path.name for path in (ROOT / 'stl_conveyor').iterdir() if path.is_dir()
}
# What a run or a training writes, and files of the reader's own.
MADE = ('out/', 'work/', 'build/')


def identify(page):
    return str(page.relative_to(ROOT))


def without_blocks(text):
    return re.sub(r'^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading):
    """Return the id that a heading gets, as GitHub and MkDocs make it."""
    return re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


@pytest.mark.parametrize('page', PAGES, ids=identify)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)\s]+)\)', without_blocks(text)):
        if re.match(r'\w+:', target):
            continue
        path, _, fragment = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f'{identify(page)} links to {target}'
        if fragment:
            headings = re.findall(r'^#+ (.*)$', file.read_text(encoding='utf-8'), re.MULTILINE)
            assert fragment in map(anchor, headings), f'{identify(page)} links to {target}'


@pytest.mark.parametrize('page', PAGES, ids=identify)
def test_every_file_that_is_named_exists(page):
    text = without_blocks(page.read_text(encoding='utf-8'))
    for name in re.findall(r'`([\w.-]+/[\w./-]*\.\w+)`', text):
        if name.split('/')[0] in FOLDERS and not name.startswith(MADE):
            assert any((base / name).exists() for base in BASES), f'{identify(page)}: {name}'
    for name in re.findall(r'`((?:stl_conveyor|stl_conveyor_lab|test|docs)/[\w./-]*/)`', text):
        assert (ROOT / name).is_dir(), f'{identify(page)}: {name}'


@pytest.mark.parametrize('page', PAGES, ids=identify)
def test_every_module_that_is_named_exists(page):
    for name in re.findall(r'\b(stl_conveyor(?:_lab)?(?:\.\w+)+)', page.read_text('utf-8')):
        head = ROOT.joinpath(*name.split('.'))
        if head.suffix or name.split('.')[1] in ('yaml', 'msg'):
            continue
        module, _, last = name.rpartition('.')
        home = ROOT.joinpath(*module.split('.'))
        homes = [home.with_suffix('.py'), home / '__init__.py']
        assert (
            head.is_dir()
            or head.with_suffix('.py').is_file()
            or any(re.search(rf'\b{last}\b', p.read_text('utf-8')) for p in homes if p.is_file())
        ), f'{identify(page)}: {name}'


@pytest.mark.parametrize('page', PAGES, ids=identify)
def test_every_make_target_that_is_named_exists(page):
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    targets = set(re.findall(r'^([a-z][a-z0-9-]*):', makefile, re.MULTILINE))
    named = set(
        re.findall(r'(?:`|^ {4}|^\$ |^)make ([a-z][a-z0-9-]+)', page.read_text('utf-8'), re.M)
    )
    assert named <= targets, identify(page)


# README ---------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len(README.splitlines()) <= 155


def test_readme_and_the_page_of_the_simulation_have_the_defaults_of_make_run():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for text in (README, (ROOT / 'docs' / 'simulation.md').read_text(encoding='utf-8')):
        (line,) = set(re.findall(r'`make run (ITEMS=\S+(?: \w+=[^`\s]+)+)`', text)) - {
            'ITEMS=30 SEED=2'
        }
        for name, value in re.findall(r'(\w+)=(\S+)', line):
            assert re.search(rf'^{name} \?= {re.escape(value)}$', makefile, re.MULTILINE), name


def test_every_figure_of_the_readme_stands_in_the_page_that_it_links_to():
    figures = README.split('## Figures')[1].split('\n## ')[0]
    pages = {
        name: (ROOT / name).read_text(encoding='utf-8')
        for name in re.findall(r'\((docs/\w+\.md)\)', figures)
    }
    assert 'docs/measured.md' in pages
    prose = re.sub(r'\[.*?\]\(.*?\)', '', figures)
    numbers = re.findall(r'(?<![\w.])(?:\d[\d,]*\.\d+|\.\d+|\d[\d,]*)(?![\w.]*\d)', prose)
    assert len(numbers) > 20
    for number in numbers:
        pattern = rf'(?<![\d.]){re.escape(number)}(?!\d)'
        if number not in ('99', '1'):  # p99 in words, and 1 KB
            assert re.search(pattern, pages['docs/measured.md']), number


def test_the_sample_of_the_readme_is_the_longer_one_of_the_page():
    page = (ROOT / 'docs' / 'simulation.md').read_text(encoding='utf-8')
    sample = README.split('## What you see')[1].split('```')[1]
    for line in sample.strip().splitlines():
        assert line in page


# Architecture ---------------------------------------------------------------------------------


def rows_below(heading, text):
    table = text.split(heading)[1].split('\n## ')[0]
    rows = [line.strip('|').split(' | ') for line in table.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_questions_of_a_newcomer_are_answered_by_files_and_names_that_exist():
    rows = rows_below('## Where is …?', ARCHITECTURE)
    assert len(rows) >= 10
    targets = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for question, answer in rows:
        assert question.endswith('?')
        words = re.findall(r'`([^`]+)`', answer)
        paths = [ROOT / word for word in words if '/' in word]
        assert paths, question
        assert all(path.exists() for path in paths), question
        sources = [p for path in paths for p in ([path] if path.is_file() else path.rglob('*'))]
        text = '\n'.join(p.read_text('utf-8') for p in sources if p.suffix in ('.py', '.md'))
        for word in words:
            if '/' in word:
                continue
            target = word.removeprefix('make ')
            assert re.search(rf'\b{target}\b', text) or f'\n{target}:' in targets, word


def test_the_picture_of_the_floors_is_that_of_the_contracts():
    spec = importlib.util.spec_from_file_location('floors', ROOT / 'scripts' / 'draw_floors.py')
    floors = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(floors)
    except ModuleNotFoundError as error:
        pytest.skip(f'{error}: before Python 3.11 the contracts are read by tomli')
    rooms = {room for rows in floors.floors().values() for row in rows for room in row}
    for package in ('stl_conveyor', 'stl_conveyor_lab'):
        there = {
            f'{package}.{path.stem}'
            for path in (ROOT / package).iterdir()
            if path.suffix == '.py' or (path / '__init__.py').is_file()
        } - {f'{package}.__init__'}
        assert there <= rooms, 'a room without a floor'
    assert floors.PICTURE.read_text(encoding='utf-8') == floors.draw(), (
        'the floors have changed: python3 scripts/draw_floors.py'
    )


# How to add something -------------------------------------------------------------------------


def code_of(page):
    """Return the first Python block of a page, as a reader would paste it."""
    text = (ROOT / 'docs' / 'howto' / page).read_text(encoding='utf-8')
    return re.search(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL).group(1)


def test_the_policy_of_its_page_decides():
    from stl_conveyor.policy import PolicySettings
    from stl_conveyor.policy.play import play

    names = {}
    exec(code_of('add_a_policy.md'), names)
    settings = PolicySettings(rate='1/10', depth=4)
    policy = names['PatientPolicy'](settings)
    chosen = play([0.3] * 40, [1] * 40, settings.rate, settings.depth, policy)
    # Full, it spends; at two tokens less than full it waits until 0.3 of the bucket is missing.
    assert chosen[0] and 5 <= chosen.sum() <= 7


def test_the_camera_source_of_its_page_shows_its_picture(tmp_path):
    from PIL import Image

    from stl_conveyor.hardware import frame_sources

    Image.new('RGB', (4, 3), (1, 2, 3)).save(tmp_path / 'a.png')
    names = dict(vars(frame_sources))
    exec(code_of('add_a_camera_source.md'), names)
    timers, frames = [], []
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=5))
    host = SimpleNamespace(
        get_clock=lambda: clock,
        every=lambda period, callback: (
            timers.append((period, callback)) or SimpleNamespace(cancel=timers.clear)
        ),
    )
    source = names['StillSource'](
        host, lambda *frame: frames.append(frame), str(tmp_path / 'a.png'), 2.0
    )
    source.start()
    ((period, show),) = timers
    show()
    source.stop()
    assert period == 0.5 and not timers
    ((image, stamp, frame_id),) = frames
    assert image.shape == (3, 4, 3) and image[0, 0].tolist() == [1, 2, 3]
    assert (stamp, frame_id) == (5, '')


def test_the_codec_of_its_page_keeps_to_its_bytes():
    names = {}
    exec(code_of('add_a_codec.md'), names)
    codec = names['Thumbnail']()
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    assert codec.slug == 'thumbnail' and codec.encode(image, 2) is None
    data = codec.encode(image, 300)
    assert len(data) == 300 and codec.decode(data, 32).shape == (32, 32, 3)
    assert np.array_equal(codec.decode(codec.encode(image, 10**6), 32), image)


def test_every_page_is_in_the_navigation_of_the_site():
    text = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
    for page in (ROOT / 'docs').rglob('*.md'):
        assert str(page.relative_to(ROOT / 'docs')) in text, page.name


def test_the_site_asks_no_other_host(tmp_path):
    """Build the site where its tools are installed, and look at what its pages load."""
    mkdocs = ROOT / '.venv-docs' / 'bin' / 'mkdocs'
    if not mkdocs.exists():
        pytest.skip('the tools of the documentation are not installed: `make docs` brings them')
    done = subprocess.run(
        [str(mkdocs), 'build', '--strict', '--quiet', '--site-dir', str(tmp_path / 'site')],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / 'site').rglob('*.html'))
    assert len(pages) > 20
    loads = (
        r'<(?:script|img|iframe|source)\b[^>]*\bsrc="((?:https?:)?//[^"]+)"',
        r'<link\b(?![^>]*rel="canonical")[^>]*\bhref="((?:https?:)?//[^"]+)"',
    )
    for page in pages:
        text = page.read_text(encoding='utf-8')
        for pattern in loads:
            assert not re.findall(pattern, text), page.name
    for sheet in (tmp_path / 'site').rglob('*.css'):
        assert not re.findall(r'url\(["\']?(https?:)?//', sheet.read_text(encoding='utf-8'))
