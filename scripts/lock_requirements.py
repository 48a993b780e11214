#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Write the locks in requirements/ from pyproject.toml, by uv.

A lock holds one set of packages with everything that these need in turn, their versions and
hashes, for every Python from 3.10 on and both x86-64 and arm64. Plain pip installs from it:
`pip install --require-hashes --no-deps -r requirements/device.txt`. A version stays until it
is named by `--upgrade`, or until pyproject.toml asks for another.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LABORATORY = 'stl_conveyor_lab/pyproject.toml'

# NumPy has a lock of its own: on an installed ROS 2 the system's stays, whose ABI its messages
# were compiled for. Each later lock agrees with the ones before it.
LOCKS: Mapping[str, Sequence[str]] = {
    'numpy': ['-'],
    # Its client holds protobuf back, so it comes before those that do not.
    'inference': ['pyproject.toml', '--extra', 'inference'],
    'device': ['pyproject.toml', '--extra', 'device'],
    'simulation': ['pyproject.toml', '--extra', 'simulation'],
    'test': ['--group', 'test', '--group', 'lint'],
    'laboratory': [LABORATORY, '--group', 'torch-needs'],
    'hmi': ['pyproject.toml', '--extra', 'hmi'],
    'plant': ['pyproject.toml', '--extra', 'plant'],
    'lock': ['--group', 'lock'],
    'docs': ['--group', 'docs'],
    'ros-kilted': ['--group', 'ros-kilted'],
    'ros-jazzy': ['--group', 'ros-jazzy'],
}
# The site's tools have an environment of their own, two ROS 2 distributions share the names of
# their wheels, not the versions, and the client of inference servers is for the few.
APART = ('docs', 'inference', 'ros-kilted', 'ros-jazzy')


def lock(folder: Path, upgrade: Sequence[str]) -> None:
    """Bring the locks in a folder up to date.

    Args:
        folder: Where the locks lie; their versions are kept where they still fit.
        upgrade: Names of packages that get their newest fitting version.

    Raises:
        subprocess.CalledProcessError: What pyproject.toml asks for cannot be had together.
    """
    project = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    numpy = re.findall(r'"(numpy\b.*)"', project)[0]
    excluded = folder / 'excluded'
    # Which torch is right depends on the machine, and the package is here.
    excluded.write_text('torch\nstl-conveyor\n', encoding='utf-8')
    before: list[str] = []
    for name, source in LOCKS.items():
        options = [word for earlier in before for word in ('--constraint', earlier)]
        if name != 'numpy':
            options += ['--no-emit-package', 'numpy']
        options += [word for package in upgrade for word in ('--upgrade-package', package)]
        target = folder / f'{name}.txt'
        command = [
            'uv',
            'pip',
            'compile',
            '--quiet',
            '--universal',
            '--python-version',
            '3.10',
            '--generate-hashes',
            '--no-annotate',
            '--custom-compile-command',
            'make lock',
            '--excludes',
            str(excluded),
            *source,
            *options,
            '--output-file',
            str(target),
        ]
        subprocess.run(command, cwd=ROOT, input=numpy, text=True, check=True)
        if name not in APART:
            before.append(str(target))
    excluded.unlink()


def outdated(folder: Path) -> list[str]:
    """Return the names of the locks that differ from those in another folder."""
    files = [f'{name}.txt' for name in LOCKS]
    _, changed, missing = filecmp.cmpfiles(folder, ROOT / 'requirements', files, shallow=False)
    return [Path(name).stem for name in changed + missing]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the locks, or with `--check` compare them; return 1 where they are out of date."""
    parser = argparse.ArgumentParser(description='Write the locks in requirements/.')
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit 1 if the locks do not say what they should',
    )
    parser.add_argument(
        '--upgrade',
        nargs='*',
        default=[],
        metavar='PACKAGE',
        help='packages that get their newest fitting version',
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in (ROOT / 'requirements').glob('*.txt'):
            shutil.copy(path, folder)
        try:
            lock(folder, options.upgrade)
        except subprocess.CalledProcessError:
            return 1
        changed = outdated(folder)
        if options.check and changed:
            print(f'out of date: {", ".join(changed)}; `make lock` writes them', file=sys.stderr)
            return 1
        for name in changed:
            print(f'requirements/{name}.txt')
            shutil.copy(folder / f'{name}.txt', ROOT / 'requirements')
    return 0


if __name__ == '__main__':
    sys.exit(main())
