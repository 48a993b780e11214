#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Say at once what a machine lacks for this checkout, with the line that installs it.

Runs on the system's Python with the standard library alone.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DISTROS_WITH_WHEELS = ('kilted', 'jazzy')
OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON_WITH_ROS_WHEELS = (3, 13)

# Set by the ROS wheels' start-up hook once it has restarted Python with their library path.
BOOTSTRAP_MARKER = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'

# They part the entries of search paths and of CMake's lists.
UNUSABLE_IN_PATHS = re.compile('[:;\n]')


class SetupError(Exception):
    """The environment cannot be made; the message says what to do about it."""


@dataclass(frozen=True)
class Ros:
    """Where ROS 2 comes from: a sourced installation, or wheels."""

    distro: str
    is_installed: bool


def find_ros(environ: Mapping[str, str], wanted: str = '') -> Ros:
    """Return the sourced ROS 2 if this Python can import its rclpy, else the wheels.

    Args:
        environ: The environment variables.
        wanted: The distribution that was asked for; empty for the sourced one, or Kilted.

    Raises:
        SetupError: Another distribution than the wanted one is sourced, or has no wheels.
    """
    sourced = environ.get('ROS_DISTRO', '') if BOOTSTRAP_MARKER not in environ else ''
    probe = [sys.executable, '-c', 'import rclpy']
    if sourced and subprocess.run(probe, env=dict(environ), capture_output=True).returncode == 0:
        if wanted not in ('', sourced):
            raise SetupError(
                f'DISTRO={wanted}, but ROS 2 {sourced} is sourced here; leave DISTRO out, or '
                'start from a shell in which no ROS is sourced'
            )
        return Ros(sourced, True)
    if wanted not in ('', *DISTROS_WITH_WHEELS):
        raise SetupError(
            f'DISTRO={wanted}: there are wheels of {" and ".join(DISTROS_WITH_WHEELS)} alone'
        )
    return Ros(wanted or DISTROS_WITH_WHEELS[0], False)


def find_rendering_backend() -> str:
    """Return the value for MUJOCO_GL, or an empty string where nothing can render."""
    probe = str(Path(__file__).with_name('probe_rendering.py'))
    for backend in ('egl', 'osmesa'):
        if subprocess.run([sys.executable, probe, backend], capture_output=True).returncode == 0:
            return backend
    return ''


def missing_from_system(rendering_backend: str) -> list[tuple[str, str]]:
    """Return what only the system's package manager can provide.

    Args:
        rendering_backend: What `find_rendering_backend` said.

    Returns:
        The name of each missing thing, and the Debian packages that bring it.
    """

    def found(*commands: str) -> bool:
        return any(shutil.which(command) for command in commands)

    has_venv = all(importlib.util.find_spec(name) for name in ('ensurepip', 'venv'))
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    needs = [
        ('a C compiler', 'build-essential', found('cc', 'gcc', 'clang')),
        ('a C++ compiler', 'build-essential', found('c++', 'g++', 'clang++')),
        ('cmake', 'cmake', found('cmake')),
        ('make', 'make', found('make')),
        ('git', 'git', found('git')),
        ('the Python headers (Python.h)', 'python3-dev', header.is_file()),
        ('the Python modules venv and ensurepip', 'python3-venv', has_venv),
        (
            'EGL or OSMesa, for rendering without a display',
            'libegl1 libgl1 libgl1-mesa-dri',
            bool(rendering_backend),
        ),
    ]
    return [(name, packages) for name, packages, is_met in needs if not is_met]


def missing_message(missing: Sequence[tuple[str, str]]) -> str:
    """Return one message that names every need and the one line that installs them all."""
    names = '\n'.join(f'  - {name}' for name, _ in missing)
    packages = ' '.join(sorted({word for _, packages in missing for word in packages.split()}))
    as_root = '' if os.geteuid() == 0 else 'sudo '
    return (
        f'This system lacks:\n{names}\n'
        f'Install with:\n  {as_root}apt-get install -y {packages}\n'
        'and run the same command again.'
    )


def check_machine(root: Path, version: Sequence[int], machine: str, ros: Ros) -> None:
    """Check what no package can put right: the checkout's path, Python, the processor.

    Raises:
        SetupError: The environment cannot be made here.
    """
    if found := UNUSABLE_IN_PATHS.search(str(root)):
        raise SetupError(
            f'The path of this checkout, {str(root)!r}, has a {found.group()!r}, which parts the '
            'entries of search paths. Move the checkout to a folder without one.'
        )
    python = tuple(version[:2])
    if python < OLDEST_PYTHON or (python > NEWEST_PYTHON_WITH_ROS_WHEELS and not ros.is_installed):
        raise SetupError(
            f'Python {python[0]}.{python[1]} cannot run this package; without an installed ROS 2 '
            'it needs Python 3.10 to 3.13. Name one that you have, for instance: '
            'make run PYTHON=python3.12'
        )
    if machine != 'x86_64' and not ros.is_installed:
        raise SetupError(
            f'The ROS 2 wheels are for x86-64, and this machine is {machine}. Install ROS 2 from '
            'apt and source it: `make` then uses that one, and so does `colcon build` in a '
            'workspace (README.md, "On a ROS 2 installation"; docs/raspberry_pi.md).'
        )


def check(root: Path, distro: str = '') -> tuple[Ros, str]:
    """Return the ROS 2 to use, and the backend to render with.

    Args:
        root: The checkout.
        distro: The ROS 2 distribution that was asked for; empty for any.

    Raises:
        SetupError: Something is missing; the message says what to do.
    """
    ros = find_ros(os.environ, distro)
    check_machine(root, sys.version_info, platform.machine(), ros)
    backend = find_rendering_backend()
    if missing := missing_from_system(backend):
        raise SetupError(missing_message(missing))
    return ros, backend


if __name__ == '__main__':
    try:
        check(Path(__file__).resolve().parent.parent, os.environ.get('DISTRO', ''))
    except SetupError as error:
        sys.exit(str(error))
