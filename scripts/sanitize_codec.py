#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run tests with the codec's inner loops compiled for AddressSanitizer and UBSan.

`scripts/env python scripts/sanitize_codec.py [PYTEST-ARGUMENT...]` builds src/*.c into a folder of
its own with both sanitizers, which end the process at the first error, and runs the tests of the
codec and of the fuzz targets on them. Needs gcc and Linux.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOPS = ('coder', 'transform')
TESTS = (
    'test/codec/test_codec_compiled.py',
    'test/codec/test_codec_crc8.py',
    'test/codec/test_range_coder.py',
    'test/codec/test_codec_transform.py',
    'test/test_fuzz_targets.py',
)
FLAGS = (
    '-shared',
    '-fPIC',
    '-O1',
    '-g',
    '-ffp-contract=off',
    '-fno-omit-frame-pointer',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
)
# The folder with the libraries comes after the source and before what is installed.
RUN = """
import sys
sys.path.insert(1, sys.argv[1])
import pytest
import stl_conveyor._coder as coder, stl_conveyor._transform as transform
assert all(module.__file__.startswith(sys.argv[1]) for module in (coder, transform)), coder
sys.exit(pytest.main(sys.argv[2:]))
"""


def build(folder: Path) -> None:
    """Compile the loops into a folder, as modules of the package.

    Raises:
        subprocess.CalledProcessError: If that fails.
    """
    package = folder / 'stl_conveyor'
    package.mkdir()
    (package / '__init__.py').touch()
    for loop in LOOPS:
        target = package / f'_{loop}{sysconfig.get_config_var("EXT_SUFFIX")}'
        include = sysconfig.get_paths()['include']
        command = ['gcc', *FLAGS, '-I', include, ROOT / 'src' / f'{loop}.c', '-o', target]
        subprocess.run(command, check=True)


def library(name: str) -> str:
    """Return the path of a library of the compiler."""
    done = subprocess.run(
        ['gcc', f'-print-file-name={name}'], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def main(arguments: Sequence[str]) -> int:
    """Build, run the tests, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix='sanitize_') as temporary:
        folder = Path(temporary)
        build(folder)
        environment = {
            **os.environ,
            'LD_PRELOAD': f'{library("libasan.so")}:{library("libubsan.so")}',
            # Python itself keeps memory until its end.
            'ASAN_OPTIONS': 'detect_leaks=0',
            'UBSAN_OPTIONS': 'print_stacktrace=1',
            'PYTHONMALLOC': 'malloc',
        }
        command = [sys.executable, '-c', RUN, folder, '-q', *(arguments or TESTS)]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
