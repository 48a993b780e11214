# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The run command: real processes, real physics, real pictures; and nothing left behind."""

from __future__ import annotations

import csv
import ctypes.util
import json
import os
import re
import select
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from ros_domains import own_domain_id, own_environment  # noqa: E402
from run_examples import FULL, summary_of  # noqa: E402

from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.nodes.link.link_emulator import LinkEmulator  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.run import cell_run  # noqa: E402
from stl_conveyor.run.assess import RunResult, read_passages, read_readout  # noqa: E402
from stl_conveyor.run.console import main  # noqa: E402
from stl_conveyor.run.faults import named_fault  # noqa: E402
from stl_conveyor.run.output_folder import output_folder  # noqa: E402
from stl_conveyor.run.plan import node_arguments, process_plan  # noqa: E402
from stl_conveyor.run.settings import NODES, RunSettings, Sources, parse_override
from stl_conveyor.run.summary import LATE_PICTURE_MS  # noqa: E402

pytestmark = pytest.mark.ros

ITEMS = 8


def command(folder, *arguments):
    return [
        sys.executable,
        '-m',
        'stl_conveyor.run',
        '--out',
        str(folder),
        '--plain',
        *map(str, arguments),
    ]


def processes_of(folder):
    """Return the command lines of living processes that were told to log into a folder."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            text = path.read_bytes().decode(errors='replace')
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


def run_once(folder, models, *arguments):
    """Run a few items in a process of its own; return its output, summary and rows."""
    done = subprocess.run(
        command(folder, '--items', ITEMS, '--seed', 5, '--models', models, *arguments),
        # ROS must not need a home folder.
        env={**own_environment(), 'HOME': '/nowhere', 'ROS_LOG_DIR': ''},
        capture_output=True,
        text=True,
        timeout=150,
    )
    if done.returncode == 1 and 'too slow to simulate' in done.stdout:
        pytest.skip('this machine was too busy to simulate')
    assert done.returncode == 0, done.stdout + done.stderr
    with open(folder / 'items.csv') as file:
        rows = list(csv.DictReader(file))
    return done.stdout, json.loads((folder / 'summary.json').read_text()), rows


@pytest.fixture(scope='module')
def first_run(tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return (folder, *run_once(folder, tiny_models))


def test_a_run_from_start_to_end(first_run):
    folder, output, summary, rows = first_run
    assert 'true class' in output and 'items at rest where they belong' in output
    assert summary['items'] == summary['outcomes'] == ITEMS and summary['seed'] == 5
    assert summary['unacted'] == summary['repeated_outcomes'] == 0
    assert summary['deaths'] == [] and summary['complete']
    assert summary['strong_correct'] is not None and summary['versions']['mujoco']
    assert sum(int(row['correct']) for row in rows) == summary['correct']
    # physics and commands agree: who was told a lane in time lies in it
    for row in rows:
        if row['missed'] == '0':
            assert row['rest_lane'] == row['outcome_lane'], row
    for name in ('report.html', 'cell.png', 'timeline.png', 'samples.png'):
        assert (folder / name).stat().st_size > 500
    assert len(read_readout(folder / 'logs' / 'camera.csv')) == ITEMS
    assert any((folder / 'logs' / 'ros').iterdir())  # what ROS logs itself
    assert processes_of(folder) == []


def test_same_seed_same_run(first_run, tiny_models, tmp_path):
    _, _, _, rows = first_run
    _, _, again = run_once(tmp_path, tiny_models)
    for key in (
        'serial',
        'class_id',
        'difficulty',
        'crop_sha256',
        'local_class',
        'local_score',
        'offload',
        'expected_reward',
    ):
        assert [row[key] for row in rows] == [row[key] for row in again], key


def test_interrupt_writes_what_is_known_and_leaves_no_process(tiny_models, tmp_path):
    run = subprocess.Popen(
        command(tmp_path, '--items', 500, '--models', tiny_models),
        env={**own_environment(), 'PYTHONUNBUFFERED': '1'},
        bufsize=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        # The heading comes once every node is active, a line with a score once an item rests.
        for expected in (b'true class', b'.'):
            line = b''
            while expected not in line:
                assert select.select([run.stdout], [], [], 60)[0]
                line = run.stdout.readline()
        assert len(processes_of(tmp_path / 'logs')) >= 2  # simulator and emulator log there
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=60)
        assert run.returncode == 130
        assert processes_of(tmp_path) == []
    finally:
        run.kill()
        run.wait()
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert not summary['complete'] and summary['planned'] == 500
    with open(tmp_path / 'items.csv') as file:
        assert len(list(csv.DictReader(file))) >= summary['items']
    assert 'ended before' in (tmp_path / 'report.html').read_text()
    assert f'incomplete: the run ended when {summary["items"]} of 500' in output.decode()


def nodes_of(run):
    """Return node → process id of the nodes that a run has started and that live."""
    found = {}
    for number in Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split():
        words = Path(f'/proc/{number}/cmdline').read_bytes().decode().split('\0')
        package, _, node = (words[words.index('-m') + 1] if '-m' in words else '').rpartition('.')
        if package.startswith('stl_conveyor.nodes.'):  # and not what forks them
            found[node] = int(number)
    return found


def read_until(run, expected):
    """Read what a run says up to a line that has what is expected."""
    lines = b''
    while not re.search(expected, lines):
        assert select.select([run.stdout], [], [], 90)[0], lines.decode()
        lines += run.stdout.readline()
        assert run.poll() is None, lines.decode()


@pytest.mark.skipif(find_spec('nicegui') is None, reason='make setup brings it')
def test_the_page_is_killed_and_no_item_notices(tiny_models, tmp_path):
    (tmp_path / 'alarms.jsonl').write_text('an alarm of the run before\n')
    run = subprocess.Popen(
        command(
            tmp_path,
            *('--items', 12, '--seed', 5, '--time-unit', 1.5, '--models', tiny_models, '--page'),
        ),
        env={**own_environment(), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    try:
        read_until(run, rb'\d  \w+ .*\d\.\d\d')  # an item is at rest, and others are under way
        page = nodes_of(run)['operator_panel']
        os.kill(page, signal.SIGKILL)
        read_until(run, rb'operator_panel ended .*SIGKILL.* and is started again')
        output, _ = run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()
    assert run.returncode in (0, 1), output.decode()
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['captures'] == summary['outcomes'] == summary['items'] == 12
    assert summary['unacted'] == summary['repeated_outcomes'] == 0
    assert summary['deaths'] == [] and summary['complete']
    log = tmp_path / 'alarms.jsonl'
    assert not log.exists() or 'the run before' not in log.read_text()
    if summary['simulation_lag_ms'] > LATE_PICTURE_MS:
        pytest.skip('this machine was too busy: a picture came late')
    assert summary['missed_deadlines'] == 0


def test_every_node_is_killed_and_the_run_goes_on(tiny_models, tmp_path):
    run = subprocess.Popen(
        command(tmp_path, '--items', 500, '--models', tiny_models, '--apart'),
        env={**own_environment(), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )

    try:
        read_until(run, rb'\d  \w+ .*\d\.\d\d')  # an item is at rest
        first = nodes_of(run)
        assert set(first) == {'cell_simulator', *NODES}
        for name in NODES:
            os.kill(first[name], signal.SIGKILL)
        for _ in NODES:
            read_until(run, rb'is started again')
        while set(second := nodes_of(run)) != set(first):
            read_until(run, rb'\n')
        for _ in range(8):
            read_until(run, rb'\n')  # those that were on the belt
        read_until(run, rb'\d  \w+ .*\d\.\d\d')  # and another one, that was captured and decided
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=90)
        assert run.returncode == 130
    finally:
        run.kill()
        run.wait()
    assert set(second) == set(first) and not set(second.values()) & {first[n] for n in NODES}
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert sorted(summary['deaths']) == sorted(f'{name}: killed by SIGKILL' for name in NODES)
    page = (tmp_path / 'report.html').read_text()
    assert all(f'{name}: killed by SIGKILL' in page for name in NODES)
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    'arguments, text',
    [
        (['--fault', 'meteor'], 'meteor'),
        (['--items', '0'], '--items'),
        (['--set', 'oven.heat=3'], 'oven.heat'),
        (['--set', 'encoder.packet_bytes'], 'NODE.PARAM'),
        (['--set', 'cell.colour=1'], 'cell.colour'),
        (['--set', 'actuator.guard=soon'], "guard: 'soon'"),
        (['--set', 'actuator.guard=0.9'], 'guard: 0.9'),
        (['--models', '/nowhere'], '/nowhere'),
        (['--cell', '/nowhere.yaml'], '/nowhere.yaml'),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, text, tiny_models, tmp_path, capsys):
    if '--models' not in arguments:
        arguments = [*arguments, '--models', str(tiny_models)]
    assert main([*arguments, '--out', str(tmp_path)]) == 2
    assert text in capsys.readouterr().err


def test_a_node_that_cannot_start_is_named(tiny_models, tmp_path, capsys):
    assert (
        main(
            [
                '--policy',
                'oracle',
                '--models',
                str(tiny_models),
                '--items',
                '3',
                '--out',
                str(tmp_path),
                '--plain',
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert 'offload_policy' in error and 'oracle' in error
    assert processes_of(tmp_path) == []


def test_a_machine_that_cannot_render_is_told_so(tiny_models, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'osmesa')
    monkeypatch.setenv('PYOPENGL_PLATFORM', 'osmesa')
    monkeypatch.setenv('LD_LIBRARY_PATH', os.environ.get('LD_LIBRARY_PATH', ''))
    if ctypes.util.find_library('OSMesa'):
        pytest.skip('this machine has OSMesa: it can render in every way')
    assert (
        main(['--models', str(tiny_models), '--items', '3', '--out', str(tmp_path), '--plain'])
        == 2
    )
    error = capsys.readouterr().err
    assert 'cell_simulator' in error and 'OpenGL' in error
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize('arrivals', ['periodic', 'poisson', 'markov', 'correlated'])
def test_nodes_take_the_parameters_that_a_run_gives_them(arrivals, tiny_models, tmp_path):
    sources = Sources(tmp_path, tiny_models, Path(share_path('config/cell.yaml')))
    (tmp_path / 'logs').mkdir()
    parameters = node_arguments(
        RunSettings(arrivals=arrivals, link='trace'), sources, named_fault('none')
    )
    with NodeRunner(
        [
            NodeSpec(cls, {**parameters[cls.NAME], 'autostart': False})
            for cls in (LinkEmulator, OffloadPolicy)
        ],
        domain_id=own_domain_id(),
    ) as runner:
        assert runner.node('link_emulator').settings.link == 'trace'
        assert min(runner.node('offload_policy').settings.intervals) >= 1.0


def test_nobody_is_there_to_miss_who_ends_before_them():
    ended = []

    class Processes:
        def send_signal(self, name, number):
            assert number == signal.SIGTERM

        def stop(self, name, patience=4.0):
            ended.append(name)

        def stop_all(self, patience=4.0):
            ended.append('all')

    cell_run.end_in_order(Processes(), ['operator_panel', 'recorder', 'cell_view'])
    # What a recording takes to finish passes before the guard ends, whom the actuator would miss.
    assert ended == ['operator_panel', 'recorder', 'cell_view', 'cell_guard', 'all']


def test_a_folder_takes_one_run_at_a_time(tiny_models, tmp_path, capsys):
    files = [tmp_path / name for name in ('run.mcap', 'alarms.jsonl', 'counts.json')]
    for path in files:
        path.touch()
    with output_folder(tmp_path):
        arguments = ['--models', str(tiny_models), '--items', '3', '--plain']
        arguments += ['--page', '--record']
        assert main([*arguments, '--out', str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert str(tmp_path) in error and 'another run' in error and '--out' in error
    assert all(path.exists() for path in files)  # the other run writes them
    with output_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_logs_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    logs = tmp_path / 'logs'
    (logs / 'ros').mkdir(parents=True)
    for name in ('camera.log', 'link.csv', 'ros/old.log', 'notes.txt'):
        (logs / name).write_text('from before')
    with output_folder(tmp_path):
        assert [path.name for path in logs.iterdir()] == ['notes.txt']


def test_a_lag_is_said_while_it_lasts_and_a_count_of_warnings_is_none():
    assert cell_run.lag_text({}) == ''
    assert cell_run.lag_text({'lag': '9', 'worst_lag': '0.15'}) == ''
    said = cell_run.lag_text({'lag': '1', 'worst_lag': '4.684', 'held': '9.25'})
    assert '4.7 s behind' in said and 'held for 9.2 s' in said


@pytest.mark.parametrize('given', ['', '/elsewhere'])
def test_ros_logs_go_into_the_folder_unless_the_caller_says_where(given, tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', given)
    with output_folder(tmp_path):
        assert os.environ['ROS_LOG_DIR'] == (given or str(tmp_path / 'logs' / 'ros'))
    assert os.environ.get('ROS_LOG_DIR', '') == given


@pytest.mark.parametrize(
    'changes, code, text',
    [
        ({}, 0, ''),
        ({'late_pictures': 1}, 1, 'too slow'),
        ({'complete': False}, 1, 'incomplete: the run ended when 1 of 2 items'),
    ],
)
def test_the_exit_code_tells_of_a_run_that_says_nothing(
    changes, code, text, tmp_path, capsys, monkeypatch
):
    result = RunResult(summary_of((FULL,), **changes), (FULL,), {}, {})
    monkeypatch.setattr(cell_run, 'run_cell', lambda *_, **__: result)
    assert main(['--out', str(tmp_path)]) == code
    output = capsys.readouterr().out
    assert text in output
    assert ('too slow' in output) == ('late_pictures' in changes)


def test_overrides_are_yaml():
    assert parse_override('encoder.packet_bytes=300') == ('encoder', 'packet_bytes', 300)
    assert parse_override('offload_policy.costs=[0.5, 1.0]')[2] == (0.5, 1.0)
    assert parse_override('link_emulator.outage=true')[2] is True


@pytest.mark.parametrize(
    'text, key, value',
    [
        ('cell.guard=0.06', 'guard', 0.06),
        ('actuator.guard=0.06', 'guard', 0.06),
        ('encoder.overhead_bytes=80', 'edge.overhead_bytes', 80),
        ('camera.belt_speed_tolerance=0.1', 'belt.speed_tolerance', 0.1),
        ('cell.edge.timeout=2', 'edge.timeout', 2),
    ],
)
def test_what_the_nodes_share_is_set_for_all_of_them(text, key, value, tiny_models, tmp_path):
    sources = Sources(tmp_path, tiny_models, Path(share_path('config/cell.yaml')))
    (tmp_path / 'logs').mkdir()
    parameters = node_arguments(RunSettings(overrides=(text,)), sources, named_fault('none'))
    files = {given['cell_file'] for given in parameters.values() if 'cell_file' in given}
    assert len(files) == 1 and CellDescription.load(files.pop()).shared(key) == value
    takers = {'cell_simulator', 'camera', 'offload_policy', 'encoder', 'link_emulator', 'actuator'}
    takers |= {'cell_guard', 'local_classifier'}
    assert {name for name, given in parameters.items() if 'cell_file' in given} == takers


def test_parameters_survive_the_command_line():
    plan = process_plan(
        'camera',
        {
            'flag': True,
            'rate': 0.25,
            'none': 'none',
            'path': '/a b',
            'quote': "/anna's",
            'list': (1.0, 2.0),
            'big': 10**12,
        },
    )
    assert plan.arguments[3] == '--params-file' and plan.arguments[5:] == (
        '-p',
        'flag:=true',
        '-p',
        'rate:=0.25',
        '-p',
        "none:='none'",
        '-p',
        "path:='/a b'",
        '-p',
        "quote:='/anna''s'",
        '-p',
        'list:=[1.0, 2.0]',
        '-p',
        f'big:={10**12}',
    )


def test_logs_that_were_cut_off_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / 'link.csv'
    path.write_text('stamp_ns,channel,wire_bytes,sent_ns,delivered_ns\n1,features,400,2,3\n1,fea')
    assert len(read_passages(path)) == 1
    assert read_passages(tmp_path / 'missing.csv') == []
