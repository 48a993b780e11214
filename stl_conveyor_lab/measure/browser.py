# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven by its own protocol (Chrome DevTools), to look at pages."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
MISSING = 'needs Chromium or Chrome (Debian: apt install chromium) and NiceGUI (extra hmi)'
FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-quic',
    '--no-first-run',
    '--no-default-browser-check',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    # It asks the network for its maker's hosts all the same. Our pages are at an address.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
    '--hide-scrollbars',
    '--remote-debugging-port=0',
)
PATIENCE_S = 60.0


class Left(Exception):
    """The page was left while it was asked."""


class Tab:
    """A page in the browser. Expressions are JavaScript."""

    def __init__(self, socket):
        """Speak through a socket."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers = {}
        self._arrived = threading.Condition()
        self.events = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.call('Page.enable')
        self.call('Runtime.enable')
        self.call('Network.enable')

    def _read(self):
        try:
            for text in self._socket:
                message = json.loads(text)
                if 'id' in message:
                    with self._arrived:
                        self._answers[message['id']] = message
                        self._arrived.notify_all()
                else:
                    self.events.put(message)
        except Exception:  # the browser has gone
            pass

    def call(self, method, **parameters):
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({'id': number, 'method': method, 'params': parameters}))
        with self._arrived:
            there = self._arrived.wait_for(lambda: number in self._answers, PATIENCE_S)
            assert there, f'{method}: no answer'
            answer = self._answers.pop(number)
        if 'navigated' in str(answer.get('error')):
            raise Left(answer['error'])
        assert 'error' not in answer, answer
        return answer['result']

    def get(self, expression):
        """Return the value of an expression, or of the promise that it is."""
        result = self.call(
            'Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def wait(self, expression, timeout=PATIENCE_S):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + timeout
        while not (found := self.look(expression)):
            assert time.monotonic() < end, (
                f'{expression} did not become true; the page says: '
                + str(self.get('document.body.innerText'))[:600]
            )
        return found

    def look(self, expression):
        """Return the value of an expression as soon as it is true, or what it is after 2 s."""
        try:
            return self.get(_looking(expression))
        except Left:
            return None

    def text(self, selector):
        """Return the text of an element, which may only be coming."""
        self.wait(f'document.querySelector({json.dumps(selector)}) !== null')
        return self.get(f'document.querySelector({json.dumps(selector)}).innerText')

    def click(self, selector):
        """Click an element."""
        self.get(f'document.querySelector({json.dumps(selector)}).click()')

    def open(self, url):
        """Go to a page."""
        self.call('Page.navigate', url=url)

    def open_when_served(self, url, expression, tries=30):
        """Open a page whose server is still starting; wait until an expression is true there."""
        for _ in range(tries):
            self.open(url)
            if self.look(expression):
                return
        raise AssertionError(f'{url} is not served')

    def size(self, width, height):
        """Have a screen of another size, in pixels."""
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )

    def prefer(self, **features):
        """Prefer what CSS asks for, such as color_scheme='dark'."""
        self.call(
            'Emulation.setEmulatedMedia',
            features=[{'name': k.replace('_', '-'), 'value': v} for k, v in features.items()],
        )

    def cut(self, off):
        """Cut the network of the page, or join it again."""
        self.call(
            'Network.emulateNetworkConditions',
            offline=off,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    def requested(self):
        """Return the addresses that were asked for since the last time."""
        found = []
        while not self.events.empty():
            event = self.events.get()
            if event['method'] == 'Network.requestWillBeSent':
                found.append(event['params']['request']['url'])
            elif event['method'] == 'Network.webSocketCreated':
                found.append(event['params']['url'])
        return found

    def picture(self, path, whole=True):
        """Save a picture of the page (PNG), or of what fits on the screen."""
        result = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(result['data']))


def _looking(expression):
    """Return what the page itself looks at again and again: true at once, or false after 2 s."""
    return (
        'new Promise(done => { const end = performance.now() + 2000; const look = () => {'
        f'let found = null; try {{ found = {expression} }} catch (error) {{ found = null }}'
        ' if (found instanceof Node) found = true;'
        ' if (found || performance.now() > end) done(found); else setTimeout(look, 20) };'
        ' look() })'
    )


def session_cpu(leader: int) -> float:
    """Return the CPU seconds that the processes of a session have used, those that run still."""
    ticks = 0
    for folder in Path('/proc').glob('[0-9]*'):
        with suppress(OSError, IndexError):  # it has ended
            fields = (folder / 'stat').read_text().rsplit(')', 1)[1].split()
            if int(fields[3]) == leader:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


@contextmanager
def browser(prefix=()):
    """Yield a function that opens a tab.

    Args:
        prefix: A command that runs the browser, such as chrt. It has a session of its own then
            (`session` of the function, see `session_cpu`), which gives way: where the kernel
            groups by sessions, classes count within one alone.
    """
    from websockets.sync.client import connect

    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix='chromium_', ignore_cleanup_errors=True)
        )
        process = subprocess.Popen(
            [*prefix, CHROMIUM, *FLAGS, f'--user-data-dir={folder}', 'about:blank'],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=bool(prefix),
        )
        if prefix:
            with suppress(OSError):
                Path(f'/proc/{process.pid}/autogroup').write_text('19')
        stack.callback(process.wait)
        stack.callback(process.kill)
        for line in process.stderr:
            if 'DevTools listening on' in line:
                port = line.split('127.0.0.1:')[1].split('/')[0]
                break
        else:
            raise AssertionError(f'{CHROMIUM} ended at once')
        threading.Thread(target=process.stderr.read, daemon=True).start()

        def new_tab(width=1280, height=900):
            request = urllib.request.Request(
                f'http://127.0.0.1:{port}/json/new?about:blank', method='PUT'
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                address = json.load(answer)['webSocketDebuggerUrl']
            socket = stack.enter_context(
                connect(address, max_size=None, compression=None, open_timeout=PATIENCE_S)
            )
            tab = Tab(socket)
            tab.size(width, height)
            return tab

        new_tab.session = process.pid
        yield new_tab
