# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the pages for a real cell say is so: pins, commands, files, and the service."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stl_conveyor.calibration.parameter_file import node_parameters
from stl_conveyor.cli.main import _parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'docs' / name for name in ('raspberry_pi.md', 'two_machines.md')]
SERVICE = ROOT / 'systemd' / 'stl-conveyor-device.service'
ENVIRONMENT = ROOT / 'systemd' / 'device.env'
# Pins of the 40-pin header by BCM number (Raspberry Pi documentation).
HEADER = {17: 11, 27: 13, 22: 15, 5: 29, 6: 31, 13: 33, 23: 16, 20: 38, 21: 40}


def test_wiring_table_has_the_default_pins():
    text = PAGES[0].read_text(encoding='utf-8')
    rows = re.findall(r'^\| [^|]+ \| (\d+) \| (\d+) \| [^|]+ \| `(\w+)` \|$', text, re.MULTILINE)
    told = {}
    for bcm, header, parameter in rows:
        assert HEADER[int(bcm)] == int(header)
        told.setdefault(parameter, []).append(int(bcm))
    actuator, camera = node_parameters('actuator', None), node_parameters('camera', None)
    assert told == {
        'gpio_pins': actuator['gpio_pins'],
        'gpio_feedback_pins': actuator['gpio_feedback_pins'],
        'beam_pin': [camera['beam_pin']],
        'encoder_pins': camera['encoder_pins'],
    }


def test_every_parameter_that_is_named_exists():
    content = yaml.safe_load((ROOT / 'config' / 'device.yaml').read_text())
    known = {name for entry in content.values() for name in entry['ros__parameters']}
    for page in PAGES:
        for name in re.findall(r'`([a-z]+_[a-z_]+): ', page.read_text(encoding='utf-8')):
            assert name in known, f'{page.name}: {name}'


def test_commands_of_the_pages_are_understood():
    text = PAGES[0].read_text(encoding='utf-8').replace('\\\n', ' ')
    commands = re.findall(r'^\$ stl-conveyor (.*)$', text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert _parser().parse_args(shlex.split(command)).kind in ('belt', 'camera', 'diverter')


def test_files_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(
            r'`((?:config|test|systemd)/[\w./-]+)`', page.read_text(encoding='utf-8')
        ):
            assert (ROOT / name).is_file(), f'{page.name}: {name}'
        for link in re.findall(r'\]\((\w+\.md)\)', page.read_text(encoding='utf-8')):
            assert (ROOT / 'docs' / link).is_file(), f'{page.name}: {link}'


def test_service_uses_what_the_environment_sets_and_starts_what_there_is():
    service = SERVICE.read_text(encoding='utf-8')
    variables = dict(re.findall(r'^(\w+)=(.*)$', ENVIRONMENT.read_text(), re.MULTILINE))
    used = set(re.findall(r'\$\$\{(\w+)\}', service))
    assert used and used <= set(variables)
    assert (ROOT / 'launch' / re.search(r'(\w+\.launch\.py)', service).group(1)).is_file()
    profile = variables['FASTRTPS_DEFAULT_PROFILES_FILE'].split('/share/stl_conveyor/')[1]
    assert (ROOT / profile).is_file()


@pytest.mark.parametrize(
    'models, arguments',
    [
        ('', ['params_file:=/etc/a b.yaml', 'world:=/etc/cell.yaml']),
        ('/opt/m', ['params_file:=/etc/a b.yaml', 'world:=/etc/cell.yaml', 'models_dir:=/opt/m']),
    ],
)
def test_service_leaves_out_the_argument_of_an_empty_variable(models, arguments):
    (line,) = re.findall(
        r'^ExecStart=.* exec (ros2 launch .*)\'$', SERVICE.read_text(), re.MULTILINE
    )
    done = subprocess.run(
        ['bash', '-c', 'ros2() { printf "%s\\n" "$@"; }; ' + line.replace('$$', '$')],
        env={'PARAMS': '/etc/a b.yaml', 'CELL': '/etc/cell.yaml', 'MODELS': models},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ['launch', 'stl_conveyor', 'device.launch.py', *arguments]


def test_service_is_valid():
    if not shutil.which('systemd-analyze'):
        pytest.skip('systemd-analyze is not installed')
    done = subprocess.run(
        ['systemd-analyze', 'verify', str(SERVICE)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if SERVICE.stem in line]
    if done.returncode and not ours:
        pytest.skip(f'systemd-analyze cannot work here: {done.stderr.strip()[:200]}')
    assert done.returncode == 0 and not ours, done.stderr
