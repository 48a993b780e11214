# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The package is whole: manifests agree, messages and executables are built."""

from __future__ import annotations

import array
import ast
import os
import re
import shlex
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
    'cell_guard',
    'cell_simulator',
    'cell_monitor',
    'feeder',
    'gazebo_io',
    'device_gateway',
    'edge_gateway',
    'cell_view',
    'operator_panel',
    'plant_gateway',
    'recorder',
)
# Public names that rclpy has since Kilted, of the modules that this package imports from. Jazzy,
# the oldest distribution that is supported, cannot import them.
LATER_THAN_JAZZY = {
    'rclpy.event_handler': {'EventHandlerData'},
    'rclpy.exceptions': {'TimerCancelledError'},
    'rclpy.executors': {'TimerCancelledError', 'TimerInfo'},
    'rclpy.node': {'ContentFilterOptions'},
    'rclpy.qos': {'qos_profile_rosout_default'},
    'rclpy.subscription': {'ContentFilterOptions', 'MessageInfo'},
    'rclpy.timer': {'TimerInfo'},
    'rclpy.topic_endpoint_info': {'TypeHashDictionary'},
}
MESSAGES = sorted(path.stem for path in (ROOT / 'msg').glob('*.msg'))


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


def test_what_pip_installs_comes_behind_what_apt_does(manifest):
    # rosdep keeps the order, and pip brings a NumPy of its own where it finds none.
    keys = [element.text for element in manifest.findall('exec_depend')]
    of_pip = [key for key in keys if key.endswith('-pip')]
    assert of_pip == ['python3-onnxruntime-pip', 'python3-mujoco-pip']
    assert keys[-len(of_pip) :] == of_pip


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


def modules_that_name(*words, below):
    """Yield path and tree of the modules below a folder in which a word occurs at all."""
    for path in (ROOT / below).rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        if any(word in text for word in words):
            yield path, ast.parse(text)


def test_the_product_never_imports_torch_and_what_lies_below_the_nodes_never_imports_rclpy():
    below = (
        'assess',
        'calibration',
        'cell',
        'codec',
        'decision',
        'hardware',
        'models',
        'policy',
        'sim',
        'vision',
    )
    above = ('cli', 'deploy', 'nodes', 'run', 'errors.py', 'resources.py', '__init__.py')
    forbidden = {'rclpy': below, 'torch': (*below, *above), 'stl_conveyor_lab': (*below, *above)}
    for path, tree in modules_that_name(*forbidden, below='stl_conveyor'):
        part = path.relative_to(ROOT / 'stl_conveyor').parts[0]
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or '']
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert part not in forbidden.get(name.split('.')[0], ()), f'{path} imports {name}'


def test_what_jazzy_lacks_is_imported_for_the_checker_of_types_alone():
    used, names = set(), set().union(*LATER_THAN_JAZZY.values())
    for package in ('stl_conveyor', 'stl_conveyor_lab', 'test'):
        for path, tree in modules_that_name(*names, below=package):
            for_types = {
                id(node)
                for block in ast.walk(tree)
                if isinstance(block, ast.If) and ast.unparse(block.test) == 'TYPE_CHECKING'
                for node in ast.walk(block)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in LATER_THAN_JAZZY:
                    later = {alias.name for alias in node.names} & LATER_THAN_JAZZY[node.module]
                    used |= later
                    assert not later or id(node) in for_types, f'{path}: Jazzy has no {later}'
    assert 'MessageInfo' in used


def test_every_python_file_states_its_license():
    folders = 'stl_conveyor', 'stl_conveyor_lab', 'test', 'scripts', 'launch', 'worlds', 'examples'
    for folder in folders:
        for path in (ROOT / folder).rglob('*.py'):
            head = path.read_text(encoding='utf-8').splitlines()[:3]
            assert '# SPDX-License-Identifier: Apache-2.0' in head, path


# Executables and messages ---------------------------------------------------------------------


def test_cmake_makes_an_executable_for_every_node(cmake):
    listed = re.search(r'set\(nodes(.*?)\)', cmake, re.DOTALL).group(1).split()
    assert sorted(listed) == sorted(f'{ROOMS[name]}/{name}' for name in NODES)


def test_cmake_makes_executables_of_other_modules(cmake):
    listed = re.search(r'foreach\(node_module (.*?)\)', cmake).group(1).split()
    assert listed == ['run.cell_reporter', 'nodes.device.device']
    for module in listed:
        assert (ROOT / 'stl_conveyor' / f'{module.replace(".", "/")}.py').is_file()


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
def test_what_the_launch_files_start_for_a_node_is_installed():
    from stl_conveyor.deploy.launching import EXECUTABLES

    for name in EXECUTABLES.values():
        script = prefix() / 'lib' / 'stl_conveyor' / name
        assert os.access(script, os.X_OK)
        assert f'from stl_conveyor.run.{name} import main' in script.read_text(encoding='utf-8')


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
        elif kind == 'sequence<string>':
            setattr(message, name, [f'{name} ü', ''])
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


# Makefile -------------------------------------------------------------------------------------


@pytest.mark.parametrize('out', ['it\'s "here"', 'a b; c', '* ü', "''"])
@pytest.mark.parametrize('target', ['run', 'bench-cell'])
def test_make_hands_any_folder_over_as_one_word(target, out):
    done = subprocess.run(
        ['make', '--dry-run', '-C', str(ROOT), target, f'OUT={out}'],
        capture_output=True,
        text=True,
        check=True,
    )
    words = shlex.split(done.stdout.replace('\\\n', ''))
    assert words[words.index('--out') + 1] == out


def test_make_help_explains_every_command():
    done = subprocess.run(['make', '-C', str(ROOT), 'help'], capture_output=True, text=True)
    assert done.returncode == 0
    for target in (
        'setup',
        'run',
        'lint',
        'test',
        'test-lab',
        'lock',
        'clean',
        'bench-cell',
        'bench-line',
        'bench-network',
        'bench-faults',
        'bench-security',
        'soak',
        'bench-codec',
        'bench-policy',
        'train',
        'help',
    ):
        assert re.search(rf'^  make {target} +\S', done.stdout, re.MULTILINE), target
