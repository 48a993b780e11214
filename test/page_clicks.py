# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What people do on the operator's page, in a tab of a real browser."""

from __future__ import annotations

import json

PASSWORD = 'the password'


def log_in(tab, url, name, password=PASSWORD, language='en'):
    """Open the page as nobody, and hand in a name and a password."""
    tab.call('Network.clearBrowserCookies')
    tab.open(f'{url}?lang={language}')
    tab.wait("document.querySelector('button.login')")
    tab.click('button.login')
    for field, value in (('name', name), ('password', password)):
        write(tab, f'dialog input[name={field}]', value)
    tab.click('dialog form .apply')


def put(tab, field, value, event='input'):
    """Write into a field of the form, as a person does."""
    write(tab, f'.control [name={field}]', value, event)


def write(tab, selector, value, event='input'):
    """Write into a field, and have the page know of it."""
    tab.get(
        f"(f => {{ f.value = {json.dumps(value)}; f.dispatchEvent(new Event('{event}')) }})"
        f'(document.querySelector({json.dumps(selector)}))'
    )


def press(tab, selector):
    """Click a button as soon as it can be clicked."""
    tab.wait(f'document.querySelector({json.dumps(selector)})?.disabled === false')
    tab.click(selector)


def confirm(tab, *asked):
    """Wait until the page asks whether one is sure of all this, and say yes."""
    for text in asked:
        tab.wait(f"document.querySelector('dialog[open] .asked')?.innerText.includes('{text}')")
    tab.click('dialog[open] .yes')


def send_past_the_buttons(tab, event, value):
    """Have the page send what it shows no button for."""
    tab.get(f'void {_VIEW}.$emit({json.dumps(event)}, {json.dumps(value)})')


def wait_refused(tab, why=''):
    """Wait until the page says that something was refused, and why."""
    tab.wait(f'{_VIEW}.refusal && {_VIEW}.refusal.includes({json.dumps(why)})')


# The page's own component.
_VIEW = "getElement(Number(document.querySelector('.panel').id.slice(1)))"
