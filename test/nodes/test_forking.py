# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A fork beside threads that wait says nothing."""

from __future__ import annotations

import subprocess
import sys

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
