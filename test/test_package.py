# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The package is whole: manifests agree, messages and executables are built, setup explains."""

from __future__ import annotations

import array
import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import stl_conveyor
from stl_conveyor.nodes.base.topics import ROOMS, node_module

ROOT = Path(__file__).resolve().parent.parent
NODES = (
    'camera',
    'local_classifier',
    'offload_policy',
    'encoder',
    'link_emulator',
    'edge_classifier',
    'actuator',
    'cell_simulator',
    'cell_monitor',
    'feeder',
    'gazebo_io',
    'device_gateway',
    'edge_gateway',
)
MESSAGES = sorted(path.stem for path in (ROOT / 'msg').glob('*.msg'))


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


setup_environment = load_script('setup_environment')


@pytest.fixture(scope='module')
def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def cmake():
    return (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')


# Manifests ------------------------------------------------------------------------------------


def test_manifest_names_package_license_and_build_type(manifest):
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == 'stl_conveyor'
    assert manifest.findtext('license') == 'Apache-2.0'
    assert manifest.findtext('export/build_type') == 'ament_cmake'
    assert manifest.findtext('member_of_group') == 'rosidl_interface_packages'


def test_every_interface_package_that_messages_use_is_a_dependency(manifest, cmake):
    used = set()
    for path in (ROOT / 'msg').glob('*.msg'):
        used |= set(re.findall(r'^(\w+)/\w+', path.read_text(encoding='utf-8'), re.MULTILINE))
    declared = {element.text for element in manifest.findall('depend')}
    assert used and used <= declared
    generated = re.search(r'rosidl_generate_interfaces\((.*?)\)', cmake, re.DOTALL).group(1)
    assert used <= set(generated.split('DEPENDENCIES')[1].split())


def test_version_is_the_same_everywhere(manifest):
    version = manifest.findtext('version')
    assert stl_conveyor.__version__ == version
    done = subprocess.run(
        [sys.executable, 'setup.py', '--version'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == version
    changes = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    assert re.search(rf'^{re.escape(version)} |^Forthcoming$', changes, re.MULTILINE)


def test_messages_are_globbed_and_generated_before_the_python_code_is_installed(cmake):
    assert re.search(r'file\(GLOB message_files .*msg/\*\.msg\)', cmake)
    assert cmake.index('rosidl_generate_interfaces(') < cmake.index('PYTHON_INSTALL_DIR')
    assert not re.search(r'^\s*ament_python_install_package', cmake, re.MULTILINE)


def test_the_product_never_imports_torch_and_what_lies_below_the_nodes_never_imports_rclpy():
    below = (
        'assess',
        'calibration',
        'cell',
        'codec',
        'hardware',
        'models',
        'policy',
        'sim',
        'vision',
    )
    above = ('cli', 'deploy', 'nodes', 'run', 'errors.py', 'resources.py', '__init__.py')
    forbidden = {'rclpy': below, 'torch': (*below, *above), 'stl_conveyor_lab': (*below, *above)}
    for path in (ROOT / 'stl_conveyor').rglob('*.py'):
        part = path.relative_to(ROOT / 'stl_conveyor').parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or '']
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert part not in forbidden.get(name.split('.')[0], ()), f'{path} imports {name}'


def test_every_python_file_states_its_license():
    folders = 'stl_conveyor', 'stl_conveyor_lab', 'test', 'scripts', 'launch', 'worlds', 'examples'
    for folder in folders:
        for path in (ROOT / folder).rglob('*.py'):
            head = path.read_text(encoding='utf-8').splitlines()[:3]
            assert '# SPDX-License-Identifier: Apache-2.0' in head, path


def test_requirements_are_pinned():
    for path in (ROOT / 'requirements').glob('*.txt'):
        for line in path.read_text(encoding='utf-8').splitlines():
            if line and not line.startswith('#'):
                assert re.match(
                    r'[\w\[\]-]+(==[\w.]+|<\d+)(; python_version \S+ "3\.\d+")?$', line
                ), f'{path.name}: {line}'


# Executables and messages ---------------------------------------------------------------------


def test_cmake_makes_an_executable_for_every_node(cmake):
    listed = re.search(r'set\(nodes(.*?)\)', cmake, re.DOTALL).group(1).split()
    assert sorted(listed) == sorted(f'{ROOMS[name]}/{name}' for name in NODES)


@pytest.mark.parametrize('name', NODES)
def test_every_node_has_a_main(name):
    path = ROOT / 'stl_conveyor' / 'nodes' / ROOMS[name] / f'{name}.py'
    tree = ast.parse(path.read_text(encoding='utf-8'))
    assert 'main' in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def prefix():
    """Return where the package was installed, from the index that ROS itself reads."""
    for candidate in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep):
        if (Path(candidate) / 'share/ament_index/resource_index/packages/stl_conveyor').exists():
            return Path(candidate)
    pytest.fail('stl_conveyor is in no prefix of AMENT_PREFIX_PATH')


@pytest.mark.ros
@pytest.mark.parametrize('name', NODES)
def test_every_executable_is_installed(name):
    script = prefix() / 'lib' / 'stl_conveyor' / name
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding='utf-8')
    assert text.startswith('#!/usr/bin/env python3\n')
    assert f'from {node_module(name)} import main' in text


@pytest.mark.ros
def test_the_command_is_installed_for_ros2_run():
    script = prefix() / 'lib' / 'stl_conveyor' / 'stl-conveyor'
    assert os.access(script, os.X_OK)
    done = subprocess.run([sys.executable, str(script), '--help'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ('collect', 'train', 'evaluate', 'export'))


@pytest.mark.ros
def test_configuration_and_launch_files_are_installed():
    share = prefix() / 'share' / 'stl_conveyor'
    assert (share / 'package.xml').is_file()
    assert (share / 'config' / 'cell.yaml').is_file()
    assert (share / 'launch' / 'cell.launch.py').is_file()


def filled(message):
    """Fill every field of a message, at any depth, with a value unlike its default."""
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if hasattr(value, 'get_fields_and_field_types'):
            filled(value)
        elif isinstance(value, bool):
            setattr(message, name, True)
        elif isinstance(value, str):
            setattr(message, name, f'{name} ü')
        elif isinstance(value, int):
            setattr(message, name, 7)
        elif isinstance(value, float):
            setattr(message, name, 0.5)
        elif kind == 'sequence<uint8>':
            setattr(message, name, array.array('B', range(256)))
        elif kind == 'sequence<float>':
            setattr(message, name, array.array('f', [0.25, 0.75]))
        else:
            pytest.fail(f'{type(message).__name__}.{name} has a type without a test: {kind}')
    return message


@pytest.mark.ros
@pytest.mark.parametrize('name', MESSAGES)
def test_every_message_round_trips(name):
    from rclpy.serialization import deserialize_message, serialize_message

    import stl_conveyor.msg

    kind = getattr(stl_conveyor.msg, name)
    sent = filled(kind())
    received = deserialize_message(serialize_message(sent), kind)
    assert received == sent
    assert received != kind()


# Setting up -----------------------------------------------------------------------------------


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
        tmp_path, r'/usr/include/python3.12', r'/venv\1/numpy/_core/include'
    )

    assert count == 1
    assert export.read_text(encoding='utf-8') == (
        'INTERFACE_INCLUDE_DIRECTORIES "${_IMPORT_PREFIX}/include/sensor_msgs;'
        '/usr/include/python3.12;/venv\\1/numpy/_core/include"\n'
    )
    assert other.read_text(encoding='utf-8') == 'set(rclpy_FOUND 1)\n'
    # Once more changes nothing.
    assert setup_environment.rewrite_wheel_paths(tmp_path, '/a', '/b') == 0


def run_setup(*arguments, environ):
    return subprocess.run(
        [sys.executable, str(ROOT / 'scripts' / 'setup_environment.py'), *arguments],
        env=environ,
        capture_output=True,
        text=True,
    )


def test_everything_that_the_system_lacks_is_named_with_one_command(tmp_path):
    done = run_setup('--check', environ={'PATH': str(tmp_path), 'HOME': str(tmp_path)})
    assert done.returncode == 1
    for word in ('C and C++ compiler', 'cmake', 'make', 'git'):
        assert f'- {word}' in done.stderr or f'- a {word}' in done.stderr
    commands = [line for line in done.stderr.splitlines() if 'apt-get install' in line]
    assert len(commands) == 1
    assert {'build-essential', 'cmake', 'git', 'make'} <= set(commands[0].split())
    assert 'Traceback' not in done.stderr


def test_missing_rendering_is_named_with_its_packages():
    needs = setup_environment.system_needs(setup_environment.Ros(''), lambda: '')
    missing = [need for need in needs if 'EGL' in need.name]
    assert len(missing) == 1 and not missing[0].is_met()
    message = setup_environment.missing_message(missing)
    assert 'libegl1 libgl1 libgl1-mesa-dri' in message
    found = setup_environment.system_needs(setup_environment.Ros(''), lambda: 'egl')
    assert all(need.is_met() for need in found if 'EGL' in need.name)


@pytest.mark.parametrize(
    'version, distro, usable',
    [
        ((3, 9), '', False),
        ((3, 10), '', True),
        ((3, 13), '', True),
        ((3, 14), '', False),
        ((3, 14), 'lyrical', True),
        ((3, 9), 'jazzy', False),
    ],
)
def test_python_without_wheels_is_refused(version, distro, usable):
    ros = setup_environment.Ros(distro)
    if usable:
        setup_environment.check_python(version, ros)
    else:
        with pytest.raises(setup_environment.SetupError, match='PYTHON='):
            setup_environment.check_python(version, ros)


def test_a_sourced_ros_without_rclpy_is_not_used(tmp_path):
    broken = tmp_path / 'rclpy.py'
    broken.write_text('raise ImportError\n', encoding='utf-8')
    environ = {'ROS_DISTRO': 'jazzy', 'PYTHONPATH': str(tmp_path), 'PATH': os.defpath}
    assert not setup_environment.find_ros(environ).is_installed
    broken.write_text('', encoding='utf-8')
    assert setup_environment.find_ros(environ) == setup_environment.Ros('jazzy')
    assert not setup_environment.find_ros({'PATH': os.defpath}).is_installed


def test_installed_ros_keeps_its_paths_and_its_numpy(tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}/install/stl_conveyor:/opt/ros/jazzy')
    monkeypatch.setenv('PYTHONPATH', '/opt/ros/jazzy/lib/python3.12/site-packages')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/opt/ros/jazzy/lib')
    environment = setup_environment.Environment(tmp_path, setup_environment.Ros('jazzy'), 'egl')
    variables = environment.variables()
    assert variables['AMENT_PREFIX_PATH'] == f'{tmp_path}/install/stl_conveyor:/opt/ros/jazzy'
    assert variables['PYTHONPATH'].split(':')[0] == str(tmp_path)
    assert variables['PYTHONPATH'].endswith('/opt/ros/jazzy/lib/python3.12/site-packages')
    assert variables['LD_LIBRARY_PATH'].endswith('/opt/ros/jazzy/lib')
    assert setup_environment.BOOTSTRAP_MARKER not in variables
    groups = environment._with_prerequisites(['test'])
    assert 'ros' not in groups and 'numpy' not in groups


def test_stamps_follow_contents_not_times(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('one', encoding='utf-8')
    first = setup_environment.content_hash([path], 'x')
    os.utime(path, (0, 0))
    assert setup_environment.content_hash([path], 'x') == first
    assert setup_environment.content_hash([path], 'y') != first
    path.write_text('two', encoding='utf-8')
    assert setup_environment.content_hash([path], 'x') != first


def test_env_says_what_to_do_before_setup(tmp_path):
    script = tmp_path / 'scripts' / 'env'
    script.parent.mkdir()
    script.write_bytes((ROOT / 'scripts' / 'env').read_bytes())
    done = subprocess.run(['bash', str(script), 'true'], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'setup' in done.stderr


@pytest.mark.ros
def test_env_gives_every_command_the_same_world():
    if not (ROOT / '.venv' / 'environment.sh').is_file():
        pytest.skip('this checkout has no .venv; it is built in a ROS workspace')
    environ = {key: os.environ[key] for key in ('PATH', 'HOME') if key in os.environ}
    script = 'import os, rclpy, stl_conveyor.msg; print(os.environ["ROS_DOMAIN_ID"])'
    done = subprocess.run(
        [str(ROOT / 'scripts' / 'env'), 'python', '-c', script],
        cwd='/',
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 100
    done = subprocess.run(
        [str(ROOT / 'scripts' / 'env'), 'python', '-c', script],
        cwd='/',
        env={**environ, 'ROS_DOMAIN_ID': '42'},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == '42'


def test_make_help_explains_every_command():
    done = subprocess.run(['make', '-C', str(ROOT), 'help'], capture_output=True, text=True)
    assert done.returncode == 0
    for target in (
        'setup',
        'run',
        'test',
        'clean',
        'bench-cell',
        'bench-network',
        'bench-codec',
        'bench-policy',
        'train',
        'help',
    ):
        assert re.search(rf'^  make {target} +\S', done.stdout, re.MULTILINE), target
