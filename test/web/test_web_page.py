# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The operator's page in a real browser; the cell behind it is told by the test."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from stl_conveyor_lab.measure.browser import CHROMIUM, MISSING, browser

nicegui = pytest.importorskip('nicegui', reason=MISSING)

from page_clicks import PASSWORD, log_in, put, send_past_the_buttons, wait_refused  # noqa: E402
from page_of_a_line import CELL, MODELS, Line, server  # noqa: E402

from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.errors import ConfigError, Level  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.panel.cell_values import cell_values  # noqa: E402
from stl_conveyor.panel.items import Answer, Offload  # noqa: E402
from stl_conveyor.web import files, site  # noqa: E402
from stl_conveyor.web.crop_images import EdgeEyes, png  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope='module')
def new_tab():
    with browser() as opened:
        yield opened


@pytest.fixture
def line():
    told = Line()
    server().show([told.live])
    yield told
    server().show([])


@pytest.fixture
def tab(line, new_tab):
    opened = new_tab()
    opened.open(server().url + '?lang=en')
    opened.wait("document.querySelector('.panel .top')")
    return opened


def count(name):
    return f"document.querySelector('[data-count={name}]').innerText"


@in_a_browser
def test_what_is_sorted_is_on_the_page_and_nothing_comes_from_elsewhere(tab, line):
    for n in range(8):
        line.item(lane='ABC'[n % 3], right=n != 4, offload=n % 2 == 0, missed=n == 7)
    line.live.advance()
    tab.wait(f"{count('outcomes')} === '8'")
    for name, value in {
        'offloaded': '4',
        'correct': '7',
        'missed_deadlines': '1',
        'rejected': '0',
    }.items():
        assert tab.get(count(name)) == value, name
    assert tab.text('[data-lane=A]') == '3'
    line.bucket()
    tab.wait(f"{count('bytes_sent')} === '1,360'")
    tab.wait("document.querySelectorAll('.items img').length === 8")
    hosts = {urlsplit(address).netloc for address in tab.requested()}
    assert hosts == {urlsplit(server().url).netloc}


@in_a_browser
def test_an_outcome_is_on_the_page_at_once(tab, line):
    line.item()
    tab.wait(f"{count('outcomes')} === '1'")
    tab.get(
        'window.seen = {}; new MutationObserver(() => {'
        f' window.seen[{count("outcomes")}] = Date.now() '
        "}).observe(document.querySelector('.figures'),"
        ' {subtree: true, characterData: true, childList: true})'
    )
    told = {}
    for n in range(2, 12):
        told[str(n)] = time.time() * 1e3
        line.item()
        tab.wait(f'window.seen["{n}"]')
    seen = tab.get('window.seen')
    delays = sorted(seen[n] - at for n, at in told.items())
    print(f'outcome on the page after {delays[len(delays) // 2]:.0f} ms, at most {delays[-1]:.0f}')
    assert set(told) <= set(seen)


@in_a_browser
def test_an_item_moves_with_the_belt_and_is_chosen_by_keyboard(tab, line):
    line.live.take_capture(time.time_ns(), 1, time.time_ns(), line.crop)
    place = "document.querySelector('g.item').getAttribute('transform')"
    x = f'Number(/translate\\(([-.0-9]+)/.exec({place})[1])'
    tab.wait(place)
    # Both at once: the place, and the time by the clock that draws it.
    first, since = tab.get(f'[{x}, performance.now()]')
    tab.wait(f'{x} > {first} + 60')
    second, now = tab.get(f'[{x}, performance.now()]')
    assert (second - first) / (now - since) == pytest.approx(0.4, rel=0.5)  # mm in a ms: m/s
    item = "document.querySelector('g.item')"
    assert tab.get(f"{item}.getAttribute('aria-label')") == 'Item 1, not decided yet'
    assert tab.get(f"{item}.getAttribute('role')") == 'button'
    tab.get(f'{item}.focus()')
    tab.get(f"{item}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter'}}))")
    tab.wait("document.querySelector('.detail h2').innerText === 'Item 1'")


@in_a_browser
def test_at_a_click_the_page_says_what_was_decided_and_why(tab, line):
    line.item('lock_nut_m8', 'B', right=False)
    tab.wait("document.querySelectorAll('.items .row').length === 1")
    tab.click('.items .row')
    tab.wait("document.querySelector('.detail h2').innerText === 'Item 1'")
    told = tab.get(
        "Object.fromEntries([...document.querySelectorAll('[data-detail]')]"
        '.map(each => [each.dataset.detail, each.innerText]))'
    )
    assert told['lane'] == 'B' and told['class'] == 'lock_nut_m8 (97%)'
    assert told['decided_by'] == 'edge' and told['why'] == 'the edge answered'
    assert told['bytes'] == '340 of 400' and told['rests'] == 'no bin: wrong'
    # Both pictures: as captured, and as the edge saw it.
    tab.wait(
        "[...document.querySelectorAll('.pictures img')].filter(i => i.naturalWidth).length === 2"
    )
    assert tab.get(
        "[...document.querySelectorAll('.pictures img')].every(each => each.alt.length > 5)"
    )


@in_a_browser
def test_why_an_item_was_rejected_is_said_in_the_language_of_the_page(line, new_tab):
    line.item(lane='reject', reason=15, detail='unknown')
    line.item(lane='reject', reason=8, detail='no edge answer in time; no local answer in time')
    tab = new_tab()
    tab.open(server().url + '?lang=de')
    tab.wait("document.querySelectorAll('.items .row').length === 2")
    tab.click('.items li:nth-child(2) .row')
    why = "document.querySelector('[data-detail=why]')?.innerText"
    tab.wait(f"{why} === 'sieht aus wie nichts, das die Modelle gelernt haben'")
    tab.click('.items li:nth-child(1) .row')
    tab.wait(f"{why}?.startsWith('das Gerät antwortete nicht rechtzeitig (no edge answer in')")


@in_a_browser
def test_names_with_markup_are_shown_as_they_are(tab, line):
    name = '<img src=x onerror="window.hacked=1"><b>{{ 7 * 7 }}</b>'
    line.item(name)
    line.fault('camera', 'frames', Level.ERROR, name)
    line.live.take_fault(name, name, Level.WARN, name, 1.0, 1)
    line.node(name)
    line.live.advance()
    tab.wait(f"document.querySelector('.items .class').innerText === {json.dumps(name)}")
    tab.click('.items .row')
    tab.wait("document.querySelectorAll('.alarm').length === 2")
    tab.wait("document.querySelector('.nodes li')")
    assert tab.get("document.querySelectorAll('.panel b b, .panel img[src=x]').length") == 0
    assert tab.get('window.hacked') is None
    assert name in tab.text('.alarm .message')


@in_a_browser
def test_the_link_is_as_fast_as_its_emulator_says_and_a_real_one_says_nothing(tab, line):
    line.bucket()
    line.item()
    line.live.advance()
    # The cell is not a second old: 340 bytes in one.
    tab.wait(
        f"document.querySelector('[data-count=payload]') && {count('payload')} === '2.72 kbit/s'"
    )
    assert tab.get("document.querySelector('[data-count=link]')") is None
    for rate, text in ((16.25, '16.3 kbit/s'), (float('inf'), 'unlimited')):
        line.live.take_link(rate)
        tab.wait(f"document.querySelector('[data-count=link]')?.innerText === '{text}'")


@in_a_browser
def test_an_edge_that_is_gone_is_said_and_its_return_too(tab, line):
    line.bucket()
    tab.wait("document.querySelector('.pill.edge').innerText.includes('there')")
    line.bucket(alive=False)
    line.fault('offload_policy', 'edge_gone', Level.WARN, 'no sign of life from the edge')
    tab.wait("document.querySelector('.pill.edge').innerText.includes('gone since')")
    alarm = tab.text('[data-alarm="offload_policy: edge_gone"]')
    assert 'Warning: edge_gone' in alarm and 'no heartbeat for edge.timeout' in alarm
    line.bucket()
    line.fault('offload_policy', 'edge_gone', Level.OK)
    tab.wait("document.querySelector('.pill.edge').innerText.includes('there')")
    tab.wait("document.querySelector('.alarm.over')")
    assert 'ended' in tab.text('.alarm.over summary')
    # No password is set: nobody can acknowledge, and the page says so.
    tab.wait("document.querySelector('.who')?.innerText === 'Read-only'")
    assert tab.get("document.querySelector('.acknowledge')") is None


@in_a_browser
def test_a_page_that_was_cut_off_says_so_and_catches_up(tab, line):
    line.item()
    tab.wait(f"{count('outcomes')} === '1'")
    tab.cut(True)
    tab.get('void window.socket.io.engine.close()')  # an open one is not cut by the browser
    tab.wait("document.querySelector('.stale').innerText.includes('No news from the line')")
    for _ in range(4):
        line.item()
    tab.cut(False)
    tab.wait(f"{count('outcomes')} === '5'")
    tab.wait("document.querySelector('.stale') === null")


@in_a_browser
def test_german_dark_and_small(line, new_tab):
    line.item(lane='reject')
    tab = new_tab(390, 844)
    tab.prefer(prefers_color_scheme='dark')
    tab.open(server().url + '?lang=de')
    tab.wait("document.querySelector('.items .row')")
    assert tab.get('document.documentElement.lang') == 'de'
    assert tab.text('.top .product') == 'Sortieranlage'
    assert 'Ausschuss' in tab.text('.items .row')
    assert tab.get('document.documentElement.dataset.appearance') == 'dark'
    assert tab.get('document.documentElement.scrollWidth') == 390
    # The belt runs down a narrow page.
    surface = tab.get(
        "(b => [b.width, b.height])(document.querySelector('.surface').getBoundingClientRect())"
    )
    assert surface[1] > 3 * surface[0]


@in_a_browser
@pytest.mark.parametrize('width, height', [(390, 844), (1280, 720), (1920, 1080)])
@pytest.mark.parametrize('language', ['en', 'de'])
def test_nothing_sticks_out_at_any_width(controlled, new_tab, language, width, height):
    for n in range(5):
        lane, reason = [*'ABC', 'reject', 'reject'][n], 15 * (n > 2)  # it has the longest text
        controlled.item(lane=lane, offload=n % 2 == 0, reason=reason)
    controlled.bucket()
    controlled.live.take_link(16.0)
    controlled.fault('camera', 'a_fault_with_a_long_name', Level.ERROR, 'no frame ' * 30)
    controlled.live.advance()
    tab = new_tab(width, height)
    log_in(tab, server().url, 'engineer', language=language)
    tab.wait("document.querySelector('.cell-values') && document.querySelector('.items .row')")
    tab.get("document.querySelectorAll('details').forEach(each => { each.open = true })")
    tab.click('.items .row')
    tab.wait("document.querySelector('.detail h2')")
    assert tab.get('document.documentElement.scrollWidth') == width
    # Nothing is wider than the card that it is in, but where it can be pushed aside.
    wide = tab.get(
        "[...document.querySelectorAll('.card')].filter(c => c.scrollWidth > c.clientWidth)"
        ".filter(c => getComputedStyle(c).overflowX === 'visible').map(c => c.className)"
    )
    assert wide == []
    # Purity and yield of the lanes are seen without pushing anything aside.
    assert tab.get("(c => c.scrollWidth - c.clientWidth)(document.querySelector('.counts'))") == 0
    # Nor is the number of the rejects pushed out of sight by their reason.
    assert tab.get(
        '(t => t.getBoundingClientRect().right'
        " <= t.closest('.card').getBoundingClientRect().right)"
        "(document.querySelector('.counts h3 ~ table'))"
    )


@in_a_browser
def test_several_cells_are_shown_each_by_itself(line, new_tab):
    other = Line(name='line_2')
    server().show([line.live, other.live])
    line.item()
    for _ in range(3):
        other.item()
    tab = new_tab()
    tab.open(server().url + '?lang=en')
    tab.wait(f"{count('outcomes')} === '1'")
    tab.click('.cells a:nth-child(2)')
    tab.wait(f"document.querySelector('.top .cell') && {count('outcomes')} === '3'")
    assert tab.text('.top .cell') == 'line_2'


@in_a_browser
def test_every_control_has_a_name(controlled, new_tab):
    line, tab = controlled, new_tab()
    line.item()
    line.bucket()
    line.fault('camera', 'frames', Level.ERROR, 'no frame')
    log_in(tab, server().url, 'engineer')
    tab.wait("document.querySelector('.alarm') && document.querySelector('.items .row')")
    tab.wait("document.querySelector('.cell-values')")
    tab.get("document.querySelectorAll('details').forEach(each => { each.open = true })")
    tab.click('.cell-values [name=by_cost]')
    tab.wait("document.querySelector('[name=cost_wrong]')")
    controls = named_controls(tab)
    assert len(controls) > 5
    assert set(WITH_A_NAME) - {'textbox', 'link', 'img', 'image'} <= {role for role, _ in controls}
    assert [each for each in controls if not each[1].strip()] == []
    # Names tell one from the other: no two fields are called the same.
    fields = [each for each in controls if each[0] in ('spinbutton', 'checkbox', 'combobox')]
    assert len(set(fields)) == len(fields) > 10
    tab.click('.logout')
    tab.wait("document.querySelector('button.login')")
    tab.click('button.login')
    tab.wait("document.querySelector('dialog[open]')")
    controls = named_controls(tab)
    assert len([role for role, _ in controls if role == 'textbox']) == 2
    assert [each for each in controls if not each[1].strip()] == []


WITH_A_NAME = (
    'button',
    'checkbox',
    'combobox',
    'image',
    'img',
    'link',
    'meter',
    'spinbutton',
    'textbox',
)


def named_controls(tab):
    """Return role and name of each control, as a screen reader is told."""
    return [
        (node['role']['value'], node.get('name', {}).get('value', ''))
        for node in tab.call('Accessibility.getFullAXTree')['nodes']
        if not node.get('ignored') and node['role']['value'] in WITH_A_NAME
    ]


@in_a_browser
def test_ten_viewers_see_the_same(line, new_tab):
    tabs = [new_tab() for _ in range(10)]
    for tab in tabs:
        tab.open(server().url)
    for n in range(5):
        line.item(lane='ABC'[n % 3])
    for tab in tabs:
        tab.wait(f"{count('outcomes')} === '5'")


@in_a_browser
def test_a_policy_that_asks_for_no_gain_is_not_said_to_ask(tab, line):
    stamp = line.item()
    line.live.take_decision(stamp, Offload(True, 1, 'mdp', 0.3, math.nan, 2.0, 400))
    tab.wait("document.querySelector('.items .row')")
    tab.click('.items .row')
    tab.wait("document.querySelector('[data-detail=offloaded]')?.innerText.endsWith('gain 0.3')")


@in_a_browser
def test_an_item_whose_number_was_not_heard_has_none(tab, line):
    line.live.take_local(time.time_ns(), Answer('hex_nut_m8', 0.9))
    tab.wait("document.querySelector('.items .row')")
    assert tab.text('.items .id') == '–'


@in_a_browser
def test_what_is_told_later_is_on_the_page_as_if_it_was_opened_then(tab, line, new_tab):
    parts = ('alarms', 'items', 'network', 'counts', 'oee', 'classes', 'hours')
    tab.wait(f"{count('outcomes')} === '0'")
    line.item(lane='A')
    line.bucket()
    line.live.take_node('camera', Level.OK, 'OK', True, ())
    line.live.advance()
    tab.wait(f"{count('outcomes')} === '1'")
    for n in range(5):
        line.item(['nut', 'bolt'][n % 2], lane='ABC'[n % 3], right=n != 4, missed=n == 3)
    line.live.take_fault('camera', 'frames', Level.WARN, 'no picture', 1.0, 1)
    line.live.take_node('actuator', Level.OK, 'OK', True, ())
    line.live.take_link(12.5)
    line.live.advance()
    fresh = new_tab()
    fresh.open(server().url + '?lang=en')
    fresh.wait(f"{count('outcomes')} === '6'")
    fresh.wait("document.querySelector('.network').innerText.includes('12.5')")
    for part in parts:
        text = fresh.text(f'.{part}')
        tab.wait(f"document.querySelector('.{part}').innerText === {json.dumps(text)}", 10)


def test_a_belt_that_moves_as_it_was_told_is_not_told_again():
    moving = {'speed': 0.4, 'state': 'running', 'places': [['1', 0.1], ['2', 0.3]]}
    page = site.Told(7, moving, at=10.0)

    def knows(at, **changes):
        return page.knows({'revision': 7, 'belt': {**moving, **changes}}, at)

    assert knows(10.1, places=[['1', 0.14], ['2', 0.34]]) and knows(10.1, speed=0.402)
    assert not knows(10.6)
    assert not knows(10.1, speed=0.3)
    assert not knows(10.1, state='stopped')
    assert not knows(10.1, places=[['2', 0.34]])
    assert not page.knows({'revision': 8, 'belt': moving, 'safe': True}, 10.1)


def test_a_picture_is_made_once_for_all_who_ask(line, monkeypatch):
    made = []
    monkeypatch.setattr(files, 'png', lambda crop: made.append(1) or png(crop))
    stamps = [line.item(), line.item()]
    with ThreadPoolExecutor(10) as people:
        for stamp in stamps:
            address = f'cells/0/items/{stamp}/captured.png'
            seen = {answer[2] for answer in people.map(asked, [address] * 10)}
            assert seen == {png(line.crop)}
    assert len(made) == len(stamps)


def test_a_picture_that_could_not_be_made_is_tried_again():
    crop, tries = np.zeros((2, 2, 3), np.uint8), []

    def make():
        tries.append(1)
        if len(tries) == 1:
            raise ConfigError('no models')
        return b'picture'

    async def ask():
        pictures = files.Pictures()
        with pytest.raises(ConfigError):
            await pictures.get('key', crop, make)
        return [await pictures.get('key', each, make) for each in (crop, crop, crop.copy())]

    assert asyncio.run(ask()) == [b'picture'] * 3
    assert len(tries) == 3  # another crop of the same name is another picture


def asked(path, **headers):
    request = urllib.request.Request(server().url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_what_lies_beside_the_page(line):
    stamp = line.item()
    status, _, picture = asked(f'cells/0/items/{stamp}/captured.png')
    assert status == 200 and picture.startswith(b'\x89PNG')
    status, _, seen = asked(f'cells/0/items/{stamp}/edge.png?bytes=200')
    assert status == 200 and seen.startswith(b'\x89PNG') and seen != picture
    for table in ('hours', 'shifts'):
        rows = asked(f'cells/0/{table}.csv')[2].decode().splitlines()
        assert rows[0].endswith(',availability,performance,quality,oee')
        assert rows[1].split(',')[1] == '1'
    for path in (
        'cells/0/items/1/captured.png',
        'cells/7/hours.csv',
        'cells/-1/hours.csv',
        'panel/server.py',
        'panel/%2e%2e/server.py',
    ):
        assert asked(path)[0] == 404, path
    assert asked(f'cells/0/items/{stamp}/edge.png')[0] == 422


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://elsewhere.example'},
        {'Host': 'elsewhere.example'},
        {'Host': 'elsewhere.example', 'Origin': 'http://elsewhere.example'},
        {'Origin': 'null'},
        {'Origin': 'http://[half'},
    ],
)
def test_the_pages_of_others_get_nothing(line, headers):
    line.item()
    assert asked('cells/0/hours.csv', **headers)[0] == 403
    assert asked('_nicegui_ws/socket.io/?EIO=4&transport=polling', **headers)[0] == 403


def test_the_page_can_be_put_into_no_frame(line):
    assert asked('')[1]['x-frame-options'] == 'DENY'


class Control:
    """What a page changes: it notes what it is asked for."""

    def __init__(self):
        self.holds = {
            'running': True,
            'policy': 'adaptive',
            'rate': 0.25,
            'depth': 4.0,
            'recipe': 'screws',
            'cell_values': cell_values(CELL),
        }
        self.recipes = ('screws', 'nuts')

    def values(self):
        return copy.deepcopy(self.holds)

    def apply(self, values):
        for name, value in values.get('cell_values', {}).items():
            held = self.holds['cell_values']
            held[name] = {**(held[name] or {}), **value} if value is not None else None
        self.holds.update({k: v for k, v in values.items() if k != 'cell_values'})


@pytest.fixture(scope='module')
def accounts(tmp_path_factory):
    from stl_conveyor.panel.accounts import Accounts, Role, write_account

    path = tmp_path_factory.mktemp('accounts') / 'accounts.yaml'
    for role in Role:
        write_account(path, role.value, role, PASSWORD)
    return Accounts.load(path)


@pytest.fixture
def controlled(line, accounts, tmp_path):
    """Yield the line with accounts, and what changes it."""
    line.live.control = Control()
    line.live.look_at_control()
    server().let_in(accounts)
    yield line
    server().let_in(None)


@in_a_browser
def test_an_engineer_changes_the_policy_is_asked_once_more_and_undoes_it(controlled, new_tab):
    tab, control = new_tab(), controlled.live.control
    log_in(tab, server().url, 'engineer')
    tab.wait("document.querySelector('.who')?.innerText.includes('engineer (engineer)')")
    tab.wait("document.querySelector('.control input[name=rate]').value === '0.25'")
    put(tab, 'rate', '0.5')
    tab.wait("!document.querySelector('.control form .apply').disabled")
    tab.click('.control form .apply')
    tab.wait("document.querySelector('.asked')?.innerText.includes('0.25 → 0.5')")
    assert control.holds['rate'] == 0.25  # asked first
    tab.click('dialog .yes')
    tab.wait("document.querySelector('.change')?.innerText.includes('0.25 → 0.5')")
    assert control.holds['rate'] == 0.5
    tab.click('.undo')
    tab.wait("document.querySelector('.asked')?.innerText.includes('0.5 → 0.25')")
    tab.click('dialog .yes')
    tab.wait("document.querySelectorAll('.change').length === 2")
    assert control.holds['rate'] == 0.25
    assert [change.who for change in controlled.live.changes.changes()] == ['engineer'] * 2
    tab.click('.logout')
    tab.wait("document.querySelector('button.login')")
    assert tab.get("document.querySelector('.control')") is None


@in_a_browser
def test_an_engineer_changes_costs_purity_lanes_and_recipe_and_undoes_it(controlled, new_tab):
    tab, control = new_tab(), controlled.live.control
    before = cell_values(CELL)
    log_in(tab, server().url, 'engineer')
    tab.wait("document.querySelector('.cell-values select[name=lane_hex_nut_m8]')?.value === 'A'")
    tab.get("document.querySelector('.cell-values').open = true")
    assert tab.get("document.querySelector('.cell-values form .apply').disabled")
    tab.click('.cell-values [name=by_cost]')
    tab.wait("document.querySelector('[name=cost_wrong]')")
    put(tab, 'cost_wrong', '3')
    put(tab, 'purity_B', '0.95')
    put(tab, 'lane_hex_nut_m8', 'C', 'change')
    tab.wait("!document.querySelector('.cell-values form .apply').disabled")
    tab.click('.cell-values form .apply')
    tab.wait("document.querySelector('.asked').innerText.includes('hex_nut_m8: A → C')")
    asked = tab.get("document.querySelector('.asked').innerText")
    assert 'Purity target B: – → 0.95' in asked and 'Item in a wrong lane: – → 3' in asked
    assert control.holds['cell_values'] == before  # asked first
    tab.click('dialog .yes')
    tab.wait("document.querySelectorAll('.change').length === 1")
    held = control.holds['cell_values']
    assert held['costs'] == {'wrong': 3, 'reject': 0.5, 'foreign': 1}
    assert (held['purity']['B'], held['lanes']['hex_nut_m8']) == (0.95, 'C')
    tab.click('.undo')
    tab.wait("document.querySelector('.asked').innerText.includes('hex_nut_m8: C → A')")
    tab.click('dialog .yes')
    tab.wait("document.querySelectorAll('.change').length === 2")
    assert control.holds['cell_values'] == before
    put(tab, 'recipe', 'nuts', 'change')
    tab.wait("!document.querySelector('.recipes .apply').disabled")
    tab.click('.recipes .apply')
    tab.wait("document.querySelector('.asked').innerText.includes('screws → nuts')")
    tab.click('dialog .yes')
    tab.wait("document.querySelectorAll('.change').length === 3")
    assert control.holds['recipe'] == 'nuts'


@in_a_browser
def test_another_cell_description_is_drawn_anew(tab, line):
    tab.wait("document.querySelectorAll('.bin').length === 4")
    description = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text())
    del description['lanes'][2]
    two_lanes = CellDescription.from_mapping(description)
    line.live.use(two_lanes, 'two lanes', line.live.labels, line.live.models)
    tab.wait("document.querySelectorAll('.bin').length === 3")


def test_the_edge_saw_an_item_by_the_models_that_held_then(line, tiny_models):
    before = line.item()
    line.live.use(CELL, 'others', CELL.classes, tiny_models)
    after = line.item()
    pictures = []
    for stamp in (before, after, before):
        address = f'{server().url}cells/0/items/{stamp}/edge.png?bytes=300'
        with urllib.request.urlopen(address, timeout=30) as answer:
            pictures.append(answer.read())
    # The models of another recipe have another codec.
    shipped, others = (
        png(EdgeEyes(ModelFolder(path)).picture(line.crop, 300)) for path in (MODELS, tiny_models)
    )
    assert shipped != others and pictures == [shipped, others, shipped]
    line.live.use(CELL, 'unknown', (), None)
    stamp = line.item()
    with pytest.raises(urllib.error.HTTPError, match='404'):
        urllib.request.urlopen(f'{server().url}cells/0/items/{stamp}/edge.png?bytes=300')


@in_a_browser
def test_whether_the_line_may_run_is_said(tab, line):
    assert tab.get("document.querySelector('.safe')") is None
    for safe, text in ((True, 'May run'), (False, 'Must stand')):
        line.live.take_safe(safe)
        tab.wait(f"document.querySelector('.safe')?.innerText.includes('{text}')")


@in_a_browser
def test_an_operator_pauses_and_acknowledges_and_sees_no_policy(controlled, new_tab):
    controlled.fault('camera', 'frames', Level.ERROR, 'no frame')
    tab, control = new_tab(), controlled.live.control
    log_in(tab, server().url, 'operator', 'a wrong password')
    tab.wait("document.querySelector('dialog .refusal').innerText.length > 5")
    log_in(tab, server().url, 'operator')
    tab.wait("document.querySelector('.control .run') && document.querySelector('.acknowledge')")
    assert tab.get("document.querySelector('.control form')") is None
    tab.click('.acknowledge')
    tab.wait("document.querySelector('.alarm .seen')?.innerText.includes('operator')")
    tab.wait("!document.querySelector('.control .run').disabled")
    tab.click('.control .run')
    tab.click('dialog .yes')
    tab.wait("document.querySelector('.control .pill').innerText === 'paused'")
    assert control.holds['running'] is False


@in_a_browser
def test_who_has_no_right_changes_nothing_whatever_their_browser_sends(controlled, new_tab):
    controlled.fault('camera', 'frames', Level.ERROR, 'no frame')
    for name in (None, 'viewer'):
        tab = new_tab()
        tab.call('Network.clearBrowserCookies')
        tab.open(server().url + '?lang=en')
        if name:
            log_in(tab, server().url, name)
            tab.wait("document.querySelector('.who')?.innerText.includes('viewer')")
        tab.wait("document.querySelector('.alarm')")
        assert tab.get("document.querySelectorAll('.acknowledge, .control').length") == 0
        send_past_the_buttons(tab, 'acknowledge', 'camera: frames')
        send_past_the_buttons(tab, 'change', {'running': False})
        wait_refused(tab)
    assert controlled.live.control.holds == Control().holds
    assert controlled.live.changes.changes() == []
    assert [alarm.acknowledged_by for alarm in controlled.live.alarms.open()] == ['']


@pytest.mark.parametrize('body', [b'', b'[]', b'{"name": 7, "password": []}', b'[' * 100_000])
def test_what_is_no_login_is_refused(controlled, body):
    request = urllib.request.Request(server().url + 'session', data=body, method='POST')
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code in (400, 403)
