#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make the environment that the Makefile runs everything in.

Creates `.venv`, installs the locked wheels and builds the messages. Where a ROS 2 with rclpy is
sourced, that one is used; else ROS 2 comes as wheels, whose paths are set right here. What the
system itself lacks is named first, with the one command that installs it. Every step leaves a
stamp with the hash of what went in, so that a second call does nothing.

Runs on the system's Python (3.10 or newer) with the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
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
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from check_system import BOOTSTRAP_MARKER, DISTROS_WITH_WHEELS, Ros, SetupError, check

PACKAGE = 'stl_conveyor'

# The wheels were compiled in a container whose interpreter lived here.
WHEEL_PREFIX = r'/opt/python/cp3\d+-cp3\d+'
WHEEL_PYTHON_INCLUDE = re.compile(WHEEL_PREFIX + r'/include/python3\.\d+')
WHEEL_NUMPY_INCLUDE = re.compile(
    WHEEL_PREFIX + r'/lib/python3\.\d+/site-packages/numpy/_?core/include'
)
# What CMake and the generators can do with.
PLAIN_PATH = re.compile(r'[\w/.+-]+', re.ASCII)


def content_hash(paths: Sequence[Path], *words: str) -> str:
    """Return the SHA-256 (hex) over the words, and the files' names and contents."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b'\0')
    for path in sorted(paths):
        digest.update(path.name.encode() + b'\0' + hashlib.sha256(path.read_bytes()).digest())
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


@contextmanager
def plain_name(folder: Path) -> Iterator[Path]:
    """Yield a path to a folder without spaces, quotes or umlauts, which CMake cannot do with."""
    if PLAIN_PATH.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=f'{PACKAGE}-', dir='/tmp') as temporary:
        link = Path(temporary) / 'checkout'
        link.symlink_to(folder)
        yield link


class Environment:
    """The virtual environment of one checkout, and what is built with it.

    Args:
        root: The checkout.
        venv: Name of the environment's folder in it.
        ros: Where ROS 2 comes from.
        backend: Value for MUJOCO_GL.
    """

    def __init__(self, root: Path, venv: str, ros: Ros, backend: str):
        self.root = root
        self.venv = root / venv
        self.ros = ros
        self.backend = backend
        self.python = self.venv / 'bin' / 'python'
        self.prefix = self.venv / 'install'

    def create(self, sets: Sequence[str]) -> None:
        """Bring everything up to date for these sets of packages, and nothing more."""
        self._create_venv()
        # An installed ROS 2 brings the NumPy that its messages were compiled for.
        wheels = [] if self.ros.is_installed else ['numpy', f'ros-{self.ros.distro}']
        self._install([*wheels, 'device', 'simulation', 'hmi', 'plant', *sets])
        if wheels:
            self._fix_wheels(wheels)
        self._build()
        if 'laboratory' in sets:
            self._install_laboratory()
        self._compile()
        self._write_variables()

    # The steps -----------------------------------------------------------------------------

    @contextmanager
    def _step(self, name: str, message: str, wanted: str) -> Iterator[bool]:
        """Yield whether a step is due, and stamp it once it is done."""
        if self._stamps().get(name) == wanted:
            yield False
            return
        print(f'setup: {message}', flush=True)
        started = time.monotonic()
        yield True
        # Read again: making .venv anew has removed the stamps of before.
        stamps = json.dumps({**self._stamps(), name: wanted}, indent=1)
        (self.venv / 'stamps.json').write_text(stamps, encoding='utf-8')
        print(f'setup:   done in {time.monotonic() - started:.0f} s', flush=True)

    def _stamps(self) -> dict[str, str]:
        try:
            return json.loads((self.venv / 'stamps.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}

    def _create_venv(self) -> None:
        wanted = content_hash(
            [], sys.version, os.path.realpath(sys.executable), str(self.root), str(self.ros)
        )
        message = f'making {self.venv.name} for ROS 2 {self.ros.distro}'
        with self._step('venv', message, wanted) as due:
            if due:
                shutil.rmtree(self.venv, ignore_errors=True)
                options = ['--system-site-packages'] if self.ros.is_installed else []
                self._run([sys.executable, '-m', 'venv', *options, str(self.venv)])
                # colcon must not take the environment's own packages for sources.
                (self.venv / 'COLCON_IGNORE').touch()

    def _install(self, sets: Sequence[str]) -> None:
        for name in sets:
            lock = self.root / 'requirements' / f'{name}.txt'
            message = f'installing requirements/{name}.txt'
            with self._step(name, message, content_hash([lock])) as due:
                if due:
                    # A lock is complete, and what an installed ROS 2 brings is not in it.
                    self._pip('install', '--require-hashes', '--no-deps', '-r', str(lock))

    def _fix_wheels(self, wheels: Sequence[str]) -> None:
        stamps = self._stamps()
        wanted = content_hash([], *(stamps[name] for name in wheels))
        with self._step('wheel_paths', 'setting the paths in the ROS wheels', wanted) as due:
            if not due:
                return
            numpy_include = self._output(
                [str(self.python), '-c', 'import numpy; print(numpy.get_include())']
            )
            # From where each file lies: the environment may have more than one name.
            within = Path(numpy_include).relative_to(self.venv)
            count = rewrite_wheel_paths(
                self.venv / 'share', sysconfig.get_path('include'), f'${{_IMPORT_PREFIX}}/{within}'
            )
            if count == 0 and 'wheel_paths' not in stamps:
                raise SetupError(
                    'The ROS wheels have another layout than the locked ones: no include path of '
                    'theirs was found to rewrite. Restore requirements/, `make clean`, retry.'
                )

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
            str(path) for part in ('config', 'launch') for path in (self.root / part).glob('*.*')
        )
        stamps = self._stamps()
        wanted = content_hash(sources, stamps['venv'], stamps.get('wheel_paths', ''), *names)
        with self._step('build', 'building the messages', wanted) as due:
            if due:
                with plain_name(self.root) as root:
                    self._run_cmake(root)
                self._run([str(self.python), '-c', f'import {PACKAGE}.msg'], self.variables())

    def _run_cmake(self, root: Path) -> None:
        """Build and install what CMakeLists.txt says, under a name that CMake can do with."""
        venv = root / self.venv.name
        build, install = venv / 'build', venv / 'install'
        if root != self.root:
            # What was built knows the name of last time.
            shutil.rmtree(build, ignore_errors=True)
        environment = self.variables(root)
        # An earlier build is no place to find anything, nor is another workspace.
        for name in ('PYTHONPATH', 'CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH'):
            environment[name] = os.environ.get(name, '') if self.ros.is_installed else ''
        if not self.ros.is_installed:
            environment |= {'AMENT_PREFIX_PATH': str(venv), 'CMAKE_PREFIX_PATH': str(venv)}
        # The flags of a make that called this are not meant for the one inside.
        environment |= {'MAKELEVEL': '', 'MFLAGS': '', 'MAKEFLAGS': ''}
        configure = {
            'AMENT_CMAKE_SYMLINK_INSTALL': 'ON',
            'BUILD_TESTING': 'OFF',
            'CMAKE_BUILD_TYPE': 'Release',
            'CMAKE_INSTALL_PREFIX': str(install),
            'Python3_EXECUTABLE': str(venv / 'bin' / 'python'),
        }
        options = [f'-D{name}={value}' for name, value in configure.items()]
        self._run(['cmake', '-S', str(root), '-B', str(build), '-Wno-dev', *options], environment)
        jobs = str(os.cpu_count() or 1)
        build_and_install = ['cmake', '--build', str(build), '--target', 'install']
        self._run([*build_and_install, '--parallel', jobs], environment)
        if root != self.root:
            for link in (path for path in self.prefix.rglob('*') if path.is_symlink()):
                target = Path(os.readlink(link))
                if target.is_relative_to(root):
                    link.unlink()
                    link.symlink_to(self.root / target.relative_to(root))

    def _compile(self) -> None:
        """Compile the modules that every process of a cell imports.

        Python does so by itself, in each of seven processes that start together, and again at
        every start where it may not write (PYTHONDONTWRITEBYTECODE, a folder of somebody else).
        """
        folders = [self.root / PACKAGE, self._site_packages() / PACKAGE]
        found = sorted(path for folder in folders for path in folder.rglob('*.py'))
        states = [(path, path.stat()) for path in found]
        wanted = content_hash(
            [], *(f'{path} {state.st_mtime_ns} {state.st_size}' for path, state in states)
        )
        with self._step('bytecode', 'compiling the modules', wanted) as due:
            if due:
                with contextlib.suppress(SetupError):  # then every process does it
                    self._run([str(self.python), '-m', 'compileall', '-q', *map(str, folders)])

    def _install_laboratory(self) -> None:
        """Install torch, and make the laboratory of this checkout known by its commands."""
        torch = self.root / 'requirements' / 'torch.txt'
        with self._step('torch', 'installing torch', content_hash([torch])) as due:
            if due:
                self._pip('install', '-r', str(torch))
        folder = self.root / 'stl_conveyor_lab'
        wanted = content_hash([folder / 'pyproject.toml'])
        with self._step('commands', 'registering the commands of the laboratory', wanted) as due:
            if due:
                self._pip('install', '--no-deps', '--no-build-isolation', '-e', str(folder))

    # The environment variables --------------------------------------------------------------

    def variables(self, root: Path | None = None) -> dict[str, str]:
        """Return the variables that a process needs to use what was built here.

        Args:
            root: Another name of the checkout.
        """
        root = root or self.root
        venv = root / self.venv.name
        prefix = venv / 'install'

        def joined(*entries: object) -> str:
            return os.pathsep.join(str(entry) for entry in entries if entry)

        result = {
            'VIRTUAL_ENV': str(venv),
            'STL_CONVEYOR_ROOT': str(root),
            'MUJOCO_GL': self.backend,
            'ROS_DISTRO': self.ros.distro,
        }
        prefixes, python, libraries = (
            [
                entry
                for entry in os.environ.get(name, '').split(os.pathsep)
                if entry and not Path(entry).is_relative_to(root)
            ]
            for name in ('AMENT_PREFIX_PATH', 'PYTHONPATH', 'LD_LIBRARY_PATH')
        )
        if not self.ros.is_installed:
            bundled = sorted(venv.glob('lib/python3.*/site-packages/ros_*.libs'))
            prefixes, python, libraries = [str(venv)], [], [str(venv / 'lib'), *map(str, bundled)]
            result['RMW_IMPLEMENTATION'] = 'rmw_fastrtps_cpp'
            result[BOOTSTRAP_MARKER] = '1'
        result['AMENT_PREFIX_PATH'] = joined(prefix, *prefixes)
        result['LD_LIBRARY_PATH'] = joined(prefix / 'lib', *libraries)
        # The source tree first: what is edited there runs at once.
        result['PYTHONPATH'] = joined(root, self._site_packages(), *python)
        return result

    def _write_variables(self) -> None:
        lines = ['# Written by scripts/setup_environment.py and read by scripts/env.']
        lines += [
            f'export {name}={shlex.quote(value)}' for name, value in self.variables().items()
        ]
        lines += [f'export PATH={shlex.quote(str(self.venv / "bin"))}:"$PATH"', '']
        (self.venv / 'environment.sh').write_text('\n'.join(lines), encoding='utf-8')

    # Small tools ----------------------------------------------------------------------------

    def _site_packages(self) -> Path:
        """Return where the messages were installed (dist-packages on some systems)."""
        found = sorted(self.prefix.glob(f'**/*-packages/{PACKAGE}/msg'))
        if found:
            return found[0].parent.parent
        return self.prefix / 'lib' / f'python3.{sys.version_info.minor}' / 'site-packages'

    def _pip(self, *arguments: str) -> None:
        options = ['--disable-pip-version-check', '--no-input']
        self._run([str(self.python), '-m', 'pip', *arguments, *options])

    def _output(self, command: Sequence[str]) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _run(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Run a step and show its output only if it fails.

        Args:
            command: The command line.
            environ: Variables to set beside the caller's; an empty one is taken away.

        Raises:
            SetupError: With the command and its output.
        """
        merged = {**os.environ, **(environ or {})}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={name: value for name, value in merged.items() if value},
            text=True,
            errors='replace',
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            raise SetupError(f'{done.stdout}\nThis step failed: {shlex.join(command)}')


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
        dest='sets',
        action='append',
        default=[],
        choices=['test', 'laboratory', 'lock', 'inference'],
        help='install this set of packages too; may be repeated',
    )
    parser.add_argument(
        '--distro',
        default='',
        help=f'ROS 2 as wheels, {" or ".join(DISTROS_WITH_WHEELS)}, in .venv-DISTRO beside .venv '
        f'(default: the sourced ROS 2, or {DISTROS_WITH_WHEELS[0]}, in .venv)',
    )
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parent.parent
    venv = '.venv' if options.distro in ('', DISTROS_WITH_WHEELS[0]) else f'.venv-{options.distro}'
    try:
        ros, backend = check(root, options.distro)
        with one_at_a_time(root):
            Environment(root, venv, ros, backend).create(options.sets)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
