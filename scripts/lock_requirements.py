#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pin what the pinned requirements need in turn, for every Python that is named.

Resolves requirements/{numpy,colcon,ros,runtime,test}.txt with each interpreter's own pip and
writes requirements/constraints.txt, which scripts/setup_environment.py passes to pip. Run it
after a change to these files: scripts/lock_requirements.py python3.10 python3.11 ...
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ('numpy', 'colcon', 'ros', 'runtime', 'test')
HEADING = '# Written by scripts/lock_requirements.py; do not edit.'


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """Return an interpreter's version, such as '3.12', and the versions that it would install.

    Raises:
        subprocess.CalledProcessError: The requirements contradict each other there.
    """
    files = [word for group in GROUPS for word in ('-r', str(ROOT / f'requirements/{group}.txt'))]
    done = subprocess.run(
        [
            python,
            '-m',
            'pip',
            'install',
            '--dry-run',
            '--ignore-installed',
            '--quiet',
            '--disable-pip-version-check',
            '--report',
            '-',
            *files,
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    report = json.loads(done.stdout)
    versions = {
        re.sub(r'[-_.]+', '-', item['metadata']['name']).lower(): item['metadata']['version']
        for item in report['install']
    }
    return report['environment']['python_version'], versions


def merge(resolved: Mapping[str, Mapping[str, str]]) -> str:
    """Return the lines of a constraints file: one per package where all Pythons agree."""
    lines = [HEADING]
    pythons = sorted(resolved, key=lambda version: int(version.split('.')[1]))
    for name in sorted({name for versions in resolved.values() for name in versions}):
        found = {python: resolved[python].get(name) for python in pythons}
        if len(set(found.values())) == 1:
            lines.append(f'{name}=={found[pythons[0]]}')
        else:
            lines += [
                f'{name}=={version}; python_version == "{python}"'
                for python, version in found.items()
                if version
            ]
    return '\n'.join(lines) + '\n'


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the constraints file."""
    parser = argparse.ArgumentParser(description='Pin what the pinned requirements need.')
    parser.add_argument('pythons', nargs='+', help='interpreters, such as python3.12')
    options = parser.parse_args(arguments)
    resolved = dict(resolve(python) for python in options.pythons)
    (ROOT / 'requirements' / 'constraints.txt').write_text(merge(resolved), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
