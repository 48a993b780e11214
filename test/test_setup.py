# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Setting up: what is missing is named, locks are whole, and any folder will do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from stl_conveyor.errors import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))

import check_system  # noqa: E402
import lock_requirements  # noqa: E402
import setup_environment  # noqa: E402

PYTHONS = ('3.10', '3.11', '3.12', '3.13', '3.14')
MACHINES = ('x86_64', 'aarch64')
CI_RUN = ROOT / '.ci' / 'run'
WHEELS = check_system.Ros('kilted', is_installed=False)
JAZZY = check_system.Ros('jazzy', is_installed=True)

# What the system lacks -------------------------------------------------------------------------


def test_everything_that_the_system_lacks_is_named_with_one_command(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'scripts' / 'setup_environment.py'],
        env={'PATH': str(tmp_path), 'HOME': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    for word in ('a C compiler', 'a C++ compiler', 'cmake', 'make', 'git'):
        assert f'- {word}\n' in done.stderr
    commands = [line for line in done.stderr.splitlines() if 'apt-get install' in line]
    assert len(commands) == 1
    assert {'build-essential', 'cmake', 'git', 'make'} <= set(commands[0].split())
    assert 'Traceback' not in done.stderr


def test_missing_rendering_is_named_with_its_packages():
    missing = [need for need in check_system.missing_from_system('') if 'EGL' in need[0]]
    assert len(missing) == 1
    assert 'libegl1 libgl1 libgl1-mesa-dri' in check_system.missing_message(missing)
    assert not [need for need in check_system.missing_from_system('egl') if 'EGL' in need[0]]


@pytest.mark.parametrize(
    'version, ros, usable',
    [
        ((3, 9), WHEELS, False),
        ((3, 10), WHEELS, True),
        ((3, 13), WHEELS, True),
        ((3, 14), WHEELS, False),
        ((3, 14), JAZZY, True),
        ((3, 9), JAZZY, False),
    ],
)
def test_python_without_wheels_is_refused(version, ros, usable):
    if usable:
        check_system.check_machine(ROOT, version, 'x86_64', ros)
    else:
        with pytest.raises(check_system.SetupError, match='PYTHON='):
            check_system.check_machine(ROOT, version, 'x86_64', ros)


def test_arm64_without_an_installed_ros_is_told_what_works():
    with pytest.raises(check_system.SetupError, match='aarch64.*apt.*colcon'):
        check_system.check_machine(ROOT, (3, 11), 'aarch64', WHEELS)
    check_system.check_machine(ROOT, (3, 11), 'aarch64', JAZZY)


@pytest.mark.parametrize('name', ['a:b', 'a;b', 'a\nb'])
def test_a_path_that_no_variable_can_hold_is_refused_by_name(name):
    with pytest.raises(check_system.SetupError, match='Move the checkout') as refused:
        check_system.check_machine(Path('/home') / name, (3, 11), 'x86_64', WHEELS)
    assert repr(f'/home/{name}') in str(refused.value)


# Where ROS 2 comes from ------------------------------------------------------------------------


def test_a_sourced_ros_without_rclpy_is_not_used(tmp_path):
    broken = tmp_path / 'rclpy.py'
    broken.write_text('raise ImportError\n', encoding='utf-8')
    environ = {'ROS_DISTRO': 'jazzy', 'PYTHONPATH': str(tmp_path), 'PATH': os.defpath}
    assert check_system.find_ros(environ) == WHEELS
    broken.write_text('', encoding='utf-8')
    assert check_system.find_ros(environ) == JAZZY
    assert check_system.find_ros({'PATH': os.defpath}) == WHEELS


def test_the_distribution_that_is_asked_for_is_the_one_that_is_used(tmp_path):
    assert check_system.find_ros({}, 'jazzy') == check_system.Ros('jazzy', is_installed=False)
    with pytest.raises(check_system.SetupError, match='DISTRO=rolling.*kilted and jazzy'):
        check_system.find_ros({}, 'rolling')
    (tmp_path / 'rclpy.py').touch()
    sourced = {'ROS_DISTRO': 'jazzy', 'PYTHONPATH': str(tmp_path), 'PATH': os.defpath}
    assert check_system.find_ros(sourced, 'jazzy') == JAZZY
    with pytest.raises(check_system.SetupError, match='jazzy is sourced'):
        check_system.find_ros(sourced, 'kilted')


def test_include_paths_of_the_wheels_are_rewritten(tmp_path):
    export = tmp_path / 'sensor_msgs' / 'cmake' / 'export_sensor_msgs.cmake'
    export.parent.mkdir(parents=True)
    export.write_text(
        'INTERFACE_INCLUDE_DIRECTORIES "${_IMPORT_PREFIX}/include/sensor_msgs;'
        '/opt/python/cp312-cp312/include/python3.12;'
        '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include"\n',
        encoding='utf-8',
    )
    other = tmp_path / 'rclpy' / 'cmake' / 'rclpyConfig.cmake'
    other.parent.mkdir(parents=True)
    other.write_text('set(rclpy_FOUND 1)\n', encoding='utf-8')

    count = setup_environment.rewrite_wheel_paths(
        tmp_path, r'/usr/include/python3.12', r'${_IMPORT_PREFIX}/lib\1/numpy/_core/include'
    )

    assert count == 1
    assert export.read_text(encoding='utf-8') == (
        'INTERFACE_INCLUDE_DIRECTORIES "${_IMPORT_PREFIX}/include/sensor_msgs;'
        '/usr/include/python3.12;${_IMPORT_PREFIX}/lib\\1/numpy/_core/include"\n'
    )
    assert other.read_text(encoding='utf-8') == 'set(rclpy_FOUND 1)\n'
    # Once more changes nothing.
    assert setup_environment.rewrite_wheel_paths(tmp_path, '/a', '/b') == 0


def test_an_installed_ros_keeps_its_paths(tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}/install/stl_conveyor:/opt/ros/jazzy')
    monkeypatch.setenv('PYTHONPATH', '/opt/ros/jazzy/lib/python3.12/site-packages')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/opt/ros/jazzy/lib')
    environment = setup_environment.Environment(tmp_path, '.venv', JAZZY, 'egl')
    variables = environment.variables()
    assert variables['AMENT_PREFIX_PATH'] == f'{tmp_path}/.venv/install:/opt/ros/jazzy'
    assert variables['PYTHONPATH'].split(':')[0] == str(tmp_path)
    assert variables['PYTHONPATH'].endswith('/opt/ros/jazzy/lib/python3.12/site-packages')
    assert variables['LD_LIBRARY_PATH'].endswith('/opt/ros/jazzy/lib')
    assert check_system.BOOTSTRAP_MARKER not in variables


@pytest.mark.parametrize('name', ['förderband', 'my cell', "anna's cell"])
def test_a_folder_of_any_name_is_built_in_by_a_plain_one(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with setup_environment.plain_name(folder) as plain:
        assert plain.samefile(folder)
        assert re.fullmatch(r'[A-Za-z0-9_/.+-]+', str(plain))
    assert not plain.exists() and folder.exists()
    with setup_environment.plain_name(Path('/usr')) as plain:
        assert plain == Path('/usr')


# Steps -----------------------------------------------------------------------------------------


def test_stamps_follow_contents_not_times(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('one', encoding='utf-8')
    first = setup_environment.content_hash([path], 'x')
    os.utime(path, (0, 0))
    assert setup_environment.content_hash([path], 'x') == first
    assert setup_environment.content_hash([path], 'y') != first
    path.write_text('two', encoding='utf-8')
    assert setup_environment.content_hash([path], 'x') != first


def test_a_step_is_done_once_and_again_after_it_failed(tmp_path):
    environment = setup_environment.Environment(tmp_path, '.', WHEELS, 'egl')
    with pytest.raises(OSError), environment._step('build', 'building', 'inputs'):
        raise OSError
    for due in (True, False):
        with environment._step('build', 'building', 'inputs') as is_due:
            assert is_due == due
    with environment._step('build', 'building', 'other inputs') as is_due:
        assert is_due


def test_a_step_that_fails_shows_what_it_said(tmp_path):
    environment = setup_environment.Environment(tmp_path, '.', WHEELS, 'egl')
    with pytest.raises(check_system.SetupError, match="(?s)no room.*failed: sh -c 'echo no room"):
        environment._run(['sh', '-c', 'echo no room; exit 3'])


# scripts/env -----------------------------------------------------------------------------------


@pytest.fixture
def bare_checkout(tmp_path):
    """Return a folder with scripts/env and nothing else."""
    script = tmp_path / "anna's cell" / 'scripts' / 'env'
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / 'scripts' / 'env', script)
    return script.parent.parent


def run_env(checkout, *command, **environ):
    return subprocess.run(
        ['bash', checkout / 'scripts' / 'env', *command],
        env={'PATH': os.environ['PATH'], **environ},
        capture_output=True,
        text=True,
    )


def test_env_says_what_to_do_before_setup(bare_checkout):
    done = run_env(bare_checkout, 'true')
    assert done.returncode == 1
    assert 'setup` first' in done.stderr
    done = run_env(bare_checkout, 'true', DISTRO='jazzy')
    assert done.returncode == 1
    assert 'setup DISTRO=jazzy` first' in done.stderr


def test_env_takes_the_distribution_that_is_named(bare_checkout):
    for venv, distro in (('.venv', 'kilted'), ('.venv-jazzy', 'jazzy')):
        (bare_checkout / venv).mkdir()
        (bare_checkout / venv / 'environment.sh').write_text(
            f'export ROS_DISTRO={distro} PYTHONPATH=/built\n', encoding='utf-8'
        )
    show = ('bash', '-c', 'echo $ROS_DISTRO $PYTHONPATH')
    assert run_env(bare_checkout, *show).stdout == 'kilted /built\n'
    assert run_env(bare_checkout, *show, DISTRO='kilted').stdout == 'kilted /built\n'
    assert run_env(bare_checkout, *show, DISTRO='jazzy', PYTHONPATH='/own').stdout == (
        'jazzy /built:/own\n'
    )


def test_without_a_home_the_logs_go_to_the_environment(bare_checkout, tmp_path):
    (bare_checkout / '.venv').mkdir()
    (bare_checkout / '.venv' / 'environment.sh').write_text('PYTHONPATH=\n', encoding='utf-8')
    show = ('bash', '-c', 'echo ${ROS_LOG_DIR:-}')
    expected = f'{bare_checkout}/.venv/log\n'
    assert run_env(bare_checkout, *show).stdout == expected
    assert run_env(bare_checkout, *show, HOME='/nonexistent').stdout == expected
    assert run_env(bare_checkout, *show, HOME=str(tmp_path)).stdout == '\n'
    assert run_env(bare_checkout, *show, ROS_LOG_DIR='/logs').stdout == '/logs\n'


@pytest.mark.ros
def test_env_gives_every_command_the_same_world():
    distro = os.environ.get('DISTRO') or 'kilted'
    if not (ROOT / ('.venv' if distro == 'kilted' else f'.venv-{distro}')).is_dir():
        pytest.skip('this checkout has no .venv; it is built in a ROS workspace')
    script = 'import os, rclpy, stl_conveyor.msg; print(os.environ["ROS_DOMAIN_ID"])'
    done = run_env(ROOT, 'python', '-c', script, DISTRO=distro)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 100
    done = run_env(ROOT, 'python', '-c', script, DISTRO=distro, ROS_DOMAIN_ID='42')
    assert done.stdout.strip() == '42'


# Locks -----------------------------------------------------------------------------------------


def requirements(name):
    """Return what a lock was asked for, from pyproject.toml, as `packaging` reads it."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
    groups = project['dependency-groups']

    def group(key):
        for item in groups[key]:
            yield from group(item['include-group']) if isinstance(item, dict) else [item]

    source = lock_requirements.LOCKS[name]
    asked = [line for key in source if key in groups for line in group(key)]
    if 'pyproject.toml' in source:
        asked += project['project']['dependencies']
        asked += project['project']['optional-dependencies'][name]
    if name == 'numpy':
        asked += [line for line in project['project']['dependencies'] if 'numpy' in line]
    if lock_requirements.LABORATORY in source:
        laboratory = ROOT / lock_requirements.LABORATORY
        asked += tomllib.loads(laboratory.read_text(encoding='utf-8'))['project']['dependencies']
    return [Requirement(line) for line in asked]


def pins(name, **environment):
    """Return the versions in a lock that hold on a machine, by the package's name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    found = {}
    for entry in re.split(r'\n(?=\S)', text.replace('\\\n', '')):
        if entry.startswith('#') or not entry.strip():
            continue
        line, *hashes = entry.split('--hash=')
        assert hashes, f'{name}.txt: {line} has no hash'
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            key = canonicalize_name(pin.name)
            assert key not in found, f'{name}.txt has {key} twice for {environment}'
            (version,) = pin.specifier
            assert version.operator == '=='
            found[key] = version.version
    return found


@pytest.mark.parametrize('name', lock_requirements.LOCKS)
def test_a_lock_has_what_pyproject_asks_for_on_every_machine(name):
    from packaging.utils import canonicalize_name

    elsewhere = {'torch', 'stl-conveyor'} | ({'numpy'} if name != 'numpy' else set())
    asked = requirements(name)
    assert asked
    for python in PYTHONS:
        for machine in MACHINES:
            here = {
                'python_version': python,
                'python_full_version': f'{python}.0',
                'platform_machine': machine,
                'sys_platform': 'linux',
            }
            locked = pins(name, **here)
            for requirement in asked:
                key = canonicalize_name(requirement.name)
                wanted = requirement.marker is None or requirement.marker.evaluate(here)
                if wanted and key not in elsewhere:
                    assert key in locked, f'`make lock`: {name}.txt lacks {key}'
                    assert requirement.specifier.contains(locked[key], prereleases=True), (
                        f'`make lock`: {name}.txt has {key} {locked[key]}, not {requirement}'
                    )


@pytest.mark.parametrize('python', PYTHONS)
def test_locks_that_are_installed_together_agree(python):
    here = {'python_version': python, 'python_full_version': f'{python}.0'}
    # The site's tools have an environment of their own, and the client of inference servers wants
    # a protobuf that is older than what the others come with.
    for ros in set(lock_requirements.APART) - {'docs', 'inference'}:
        together: dict[str, str] = {}
        for name in lock_requirements.LOCKS:
            if name == ros or name not in lock_requirements.APART:
                for key, version in pins(name, **here).items():
                    assert together.setdefault(key, version) == version, f'{key} in {name}.txt'


def test_torch_is_in_no_lock_but_pinned():
    assert not any('torch' in pins(name) for name in lock_requirements.LOCKS)
    text = (ROOT / 'requirements' / 'torch.txt').read_text(encoding='utf-8')
    assert re.search(r'^torch==\d+\.\d+\.\d+$', text, re.MULTILINE)


def test_every_lock_of_the_folder_is_made_by_the_script():
    names = {path.stem for path in (ROOT / 'requirements').glob('*.txt')}
    assert names == {*lock_requirements.LOCKS, 'torch'}


# Continuous integration -------------------------------------------------------------------------


def run_blocks(workflow):
    """Return what the steps of a workflow run, without indentation and comments."""
    text = (ROOT / '.github' / 'workflows' / workflow).read_text(encoding='utf-8')
    blocks = re.findall(r'^( +)run: \|\n((?:\1  .*\n)+)', text, re.MULTILINE)
    assert blocks
    return [re.sub(r'^ +(#.*\n)?', '', block, flags=re.MULTILINE) for _, block in blocks]


@pytest.mark.parametrize('workflow', ['ros.yaml', 'gazebo.yaml'])
def test_ci_installs_on_a_ros_installation_by_the_steps_of_the_readme(workflow):
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    block = readme.split('## On a ROS 2 installation')[1].split('```sh\n')[1].split('```')[0]
    steps = [line.split('  #')[0].strip() for line in block.splitlines()]
    assert steps[0].startswith('cd ') and steps[-1].startswith('ros2 launch ')
    steps = [step for step in steps if not step.startswith('ros2 launch ')]
    assert steps[-1] == '. install/setup.sh'
    wanted = '\n'.join(steps[1:])
    installing = [run for run in run_blocks(workflow) if 'rosdep install' in run]
    assert installing and all(wanted in run for run in installing)
    # There is no other way in.
    assert all('colcon build' not in run for run in run_blocks(workflow) if wanted not in run)


def test_ci_calls_targets_that_the_makefile_has():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    targets = set(re.findall(r'^([a-z][a-z0-9-]*):', makefile, re.MULTILINE))
    called = set()
    for path in (ROOT / '.github' / 'workflows').glob('*.yaml'):
        for line in path.read_text(encoding='utf-8').splitlines():
            if not re.search(r'name:|apt-get|#', line):
                found = re.search(
                    r'(?<![\w.-])(?:make|\.ci/run)((?: [a-z][a-z0-9-]*(?!\S))+)', line
                )
                called |= set(found[1].split()) if found else set()
    called |= set(re.search(r'targets=\(([a-z -]+)\)', CI_RUN.read_text('utf-8'))[1].split())
    assert {'test', 'test-lab', 'test-arm64', 'bench-security', 'lock-check', 'run'} <= called
    assert called <= targets


def test_ci_tests_every_distribution_of_the_wheels():
    workflow = (ROOT / '.github' / 'workflows' / 'wheels.yaml').read_text(encoding='utf-8')
    for distro in check_system.DISTROS_WITH_WHEELS:
        assert re.search(rf'distro: \[?{distro}\b', workflow)
        assert f'ros-{distro}' in lock_requirements.APART


def test_what_a_message_tells_to_install_is_what_the_package_asks_for():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    assert EXTRAS == {
        name: tuple(project['optional-dependencies'][name])
        for name in ('hmi', 'plant', 'recording')
    }
