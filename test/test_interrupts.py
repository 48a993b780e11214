# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A Ctrl-C that finds the main thread in a callback of Python itself still ends the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stl_conveyor.interrupts import lost_interrupts_raised_again

#: Sends its process a signal while an object's end is called, in the main thread.
COMMAND = """
import os, signal, sys, threading
from stl_conveyor.errors import exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c

ASKED = signal.Signals[sys.argv[1]]
if ASKED == signal.SIGTERM:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
take_sigterm_like_ctrl_c()

class Asks:
    def __del__(self):
        os.kill(os.getpid(), ASKED)
        for _ in range(1000):
            pass  # the handler runs between two of these

def work():
    Asks()
    print('goes on', flush=True)
    threading.Event().wait(60)
    print('nobody came')

sys.exit(exit_code('command', work))
"""


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_an_interrupt_that_python_would_forget_ends_the_command(name):
    done = subprocess.run(
        [sys.executable, '-c', COMMAND, name], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (130, 'goes on\n'), done.stderr
    assert done.stderr.strip() == 'stopped'


def test_what_else_python_forgets_is_still_printed(monkeypatch):
    class Fails:
        def __del__(self):
            raise ValueError('of the collector')

    said = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda lost: said.append(str(lost.exc_value)))
    with lost_interrupts_raised_again():
        Fails()
    assert said == ['of the collector']
