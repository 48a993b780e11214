# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What `python -m build` makes works where there is no checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
LABORATORY = ROOT / 'stl_conveyor_lab'

pytest.importorskip('build', reason='builds the distributions')


def built(source, target):
    """Build a source archive, and a wheel from it; return both. Nothing is downloaded."""
    done = subprocess.run(
        [sys.executable, '-m', 'build', '--no-isolation', '--outdir', target, source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = target.glob('*.tar.gz')
    (wheel,) = target.glob('*.whl')
    return archive, wheel


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """Return a copy of what git knows of this checkout, in which building may leave its traces."""
    copy = tmp_path_factory.mktemp('source') / 'checkout'
    done = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip('this is no git checkout')
    for name in filter(None, done.stdout.split('\0')):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope='module')
def product(checkout, tmp_path_factory):
    return built(checkout, tmp_path_factory.mktemp('product'))


@pytest.fixture(scope='module')
def laboratory(checkout, tmp_path_factory):
    return built(checkout / 'stl_conveyor_lab', tmp_path_factory.mktemp('laboratory'))


@pytest.fixture(scope='module')
def empty_python(product, laboratory, tmp_path_factory):
    """Return a Python that has the two wheels, and of this environment nothing but packages."""
    folder = tmp_path_factory.mktemp('empty') / 'venv'
    venv.create(folder, with_pip=True)
    python = folder / 'bin' / 'python'
    wheels = [product[1], laboratory[1]]
    done = subprocess.run(
        [python, '-m', 'pip', 'install', '--no-deps', '--no-index', *wheels],
        env={},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # What the wheels need comes from here, behind them; the checkout and what it built do not.
    packages = [
        entry
        for entry in sys.path
        if entry.endswith('-packages') and not (Path(entry) / 'stl_conveyor').exists()
    ]
    (site,) = folder.glob('lib/python3.*/site-packages')
    (site / 'packages.pth').write_text('\n'.join(packages), encoding='utf-8')
    return lambda *arguments: subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={'_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1'},
        capture_output=True,
        text=True,
    )


def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_source_archive_has_what_the_wheel_is_built_from(product):
    with tarfile.open(product[0]) as archive:
        inside = {name.split('/', 1)[-1] for name in archive.getnames()}
    assert {'package.xml', 'setup.py', 'src/coder.c', 'src/transform.c', 'LICENSE'} <= inside


def test_the_wheel_has_code_models_launch_files_and_configuration(product):
    inside = names(product[1])
    for folder in ('config', 'launch', 'models', 'worlds'):
        for path in (ROOT / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                shared = f'share/stl_conveyor/{path.relative_to(ROOT)}'
                assert any(name.endswith(f'.data/data/{shared}') for name in inside), shared
    for path in (ROOT / 'stl_conveyor').rglob('*'):
        if path.is_file() and '__pycache__' not in path.parts and path.suffix != '.so':
            assert str(path.relative_to(ROOT)) in inside
    assert not any(name.startswith(('stl_conveyor_lab/', 'test/')) for name in inside)


def test_the_laboratory_is_whole_and_by_itself(laboratory):
    inside = names(laboratory[1])
    for path in LABORATORY.rglob('*.py'):
        assert str(path.relative_to(ROOT)) in inside, f'{path}: name its folder in pyproject.toml'
    for path in LABORATORY.rglob('shipped/*'):
        assert str(path.relative_to(ROOT)) in inside, f'{path}: is package data'
    assert not any(name.startswith('stl_conveyor/') for name in inside)


def test_the_wheel_works_in_an_empty_environment(empty_python):
    done = empty_python(
        '-c',
        'import stl_conveyor, stl_conveyor.codec\n'
        'from stl_conveyor.resources import share_path\n'
        'for name in ("config/cell.yaml", "launch/device.launch.py", "models/items/edge.onnx"):\n'
        '    print(share_path(name))\n',
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert str(ROOT) not in done.stdout


def test_the_commands_are_there_in_an_empty_environment(empty_python):
    prefix = Path(empty_python('-c', 'import sys; print(sys.prefix)').stdout.strip())
    done = empty_python(prefix / 'bin' / 'stl-conveyor', '--help')
    assert done.returncode == 0, done.stderr
    commands = tomllib.loads((LABORATORY / 'pyproject.toml').read_text(encoding='utf-8'))
    added = commands['project']['entry-points']['stl_conveyor.commands']
    for command in ('collect', 'evaluate', 'export', 'calibrate', *added):
        assert re.search(rf'^    {command}\b', done.stdout, re.MULTILINE), command
