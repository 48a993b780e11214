# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A fork beside threads that wait says nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os
import threading
from stl_conveyor.nodes.base.forking import fork
threading.Thread(target=threading.Event().wait, daemon=True).start()
child = fork()
if not child:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_beside_a_thread_that_waits_says_nothing():
    # Python warns of it from 3.12 on.
    done = subprocess.run(
        [sys.executable, '-W', 'always', '-c', SCRIPT], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ('7', '')


END = """
import atexit
import ctypes
import os
import sys

import pytest
from stl_conveyor.nodes.base.forking import end_after, fork
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.abort, None, None)  # as a library may not bear to end in a child
child = fork()
if not child:
    atexit.register(lambda: print('tidied', flush=True))
    def work():
        print('worked', end=' ')
        if {error!r}:
            raise {error}
        return 7
    end_after(work)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ('error', 'code', 'said'),
    [
        ('', '7', ''),
        ('SystemExit(3)', '3', ''),
        ('SystemExit("refused")', '1', 'refused\n'),
        ('SystemExit()', '0', ''),
        ('OSError("broken")', '1', 'OSError: broken\n'),
    ],
)
def test_a_child_ends_with_the_code_of_its_work_whatever_its_libraries_do(error, code, said):
    done = subprocess.run(
        [sys.executable, '-c', END.format(error=error)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f'worked tidied\n{code}\n'
    assert done.stderr.endswith(said)
