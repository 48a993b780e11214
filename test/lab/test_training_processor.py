# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a training asks of the machine: memory that stays, and threads that do not spin."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a matter of glibc')

# In a process of its own: it cannot be undone. The first few tensors still make the heap grow,
# until what is freed side by side is large enough for an aligned one.
PAGES_CLEARED = """
import resource, sys, torch
from stl_conveyor_lab.train.processor import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):
    torch.ones(2 ** 26)
before = pages()
for _ in range(4):
    torch.ones(2 ** 26)
print(pages() - before)
"""


def test_freed_memory_is_kept():
    cleared = {
        how: int(
            subprocess.run(
                [sys.executable, '-c', PAGES_CLEARED, how],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for how in ('leave', 'keep')
    }
    assert cleared['keep'] < cleared['leave'] / 10


def test_threads_that_wait_leave_the_processor_to_others():
    environment = {**os.environ, 'OMP_DISPLAY_ENV': 'TRUE'}
    environment.pop('OMP_WAIT_POLICY', None)

    def told(**more):
        """Return what OpenMP says when a training is loaded."""
        return subprocess.run(
            [sys.executable, '-c', 'import stl_conveyor_lab.train.pipeline'],
            check=True,
            capture_output=True,
            text=True,
            env={**environment, **more},
        ).stderr

    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told()
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in told(OMP_WAIT_POLICY='ACTIVE')  # what is set stays
