# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The operator's page over DDS: what the cell says is what it shows."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, device_specs, make_capture  # noqa: E402
from certificates import make_certificate  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_domains import own_environment  # noqa: E402

from stl_conveyor_lab.measure.browser import CHROMIUM, MISSING, browser  # noqa: E402

pytest.importorskip('nicegui', reason=MISSING)

from stl_conveyor.errors import ConfigError, ConveyorError, Level  # noqa: E402
from stl_conveyor.msg import FeatureFeedback, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import EVERY_NODE, TOPICS, VIEWS  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.device.cell_guard import CellGuard  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.nodes.panel import cell_control  # noqa: E402
from stl_conveyor.nodes.panel.cell_listener import hear_diagnostics  # noqa: E402
from stl_conveyor.nodes.panel.cell_view import CellView  # noqa: E402
from stl_conveyor.nodes.panel.operator_panel import OperatorPanel  # noqa: E402
from stl_conveyor.nodes.panel.plant_gateway import PlantGateway  # noqa: E402
from stl_conveyor.panel.accounts import Role, User, write_account  # noqa: E402
from stl_conveyor.panel.alarms import UNNAMED_S  # noqa: E402
from stl_conveyor.panel.live_cell import Bucket, LiveCell  # noqa: E402
from stl_conveyor.plant.values import VALUES, MachineState, readings  # noqa: E402
from stl_conveyor.run.console import free_port, page_plan  # noqa: E402
from stl_conveyor.run.plan import process_plan  # noqa: E402
from stl_conveyor.run.processes import Supervisor  # noqa: E402
from stl_conveyor.run.settings import RunSettings  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 12


def panel(tmp_path, **parameters):
    return NodeSpec(
        OperatorPanel,
        {
            'port': 0,
            'alarm_log': str(tmp_path / 'alarms.jsonl'),
            'counts_file': str(tmp_path / 'counts.json'),
            **parameters,
        },
        group='operator_panel',
    )


def fault(name, level, message, count=1):
    values = [KeyValue(key='seconds', value='2.0'), KeyValue(key='count', value=str(count))]
    return DiagnosticArray(
        status=[
            DiagnosticStatus(
                level=bytes([level]),
                name=name,
                message=message,
                hardware_id='stl_conveyor',
                values=values,
            )
        ]
    )


def test_what_the_cell_says_is_what_the_page_is_told(tmp_path):
    spec = panel(tmp_path, cells=['', 'line_2'])
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('operator_panel')
        mine, other = node.live
        stamp = cell.now_ns()
        capture = make_capture(5, stamp, np.full((160, 160, 3), 9, np.uint8))
        for topic, message in (
            ('capture', capture),
            (
                'sort_outcome',
                SortOutcome(header=capture.header, item_id=5, lane='B', slack=0.03, missed=True),
            ),
            (
                'transfer',
                FeatureFeedback(
                    header=capture.header,
                    item_id=5,
                    bytes=321,
                    status=FeatureFeedback.STATUS_TRANSFER_DONE,
                ),
            ),
            ('/diagnostics', fault('camera: frames', Level.ERROR, 'no frame')),
            ('/diagnostics', fault('line_2/camera: belt', Level.WARN, 'it stands')),
        ):
            cell.publisher(topic, timeout=30).publish(message)
        cell.wait(
            lambda: (
                mine.counts.of('bytes_sent') == 321
                and mine.counts.of('missed_deadlines') == 1
                and mine.item(stamp).crop is not None
                and [alarm.key for alarm in mine.alarms.open()] == ['camera: frames']
                and [alarm.key for alarm in other.alarms.open()] == ['camera: belt']
            ),
            30,
            'the page is told everything, each cell its own',
        )
        with urllib.request.urlopen(f'{node.server.url}cells/0/hours.csv', timeout=30) as answer:
            assert answer.read().decode().splitlines()[1].split(',')[4:6] == ['321', '1']
        # What is over comes off the page, and a page that is active again begins anew.
        node.trigger_deactivate()
        node.trigger_activate()
        cell.publisher('/diagnostics').publish(fault('camera: frames', Level.OK, 'ended'))
        cell.wait(lambda: mine.alarms.open()[0].ended, 30, 'the fault is over')


@pytest.mark.parametrize('cell, prefix', [('', ''), ('line_2', 'line_2/')])
def test_a_report_without_a_fault_ends_it_for_page_and_plant(cell, prefix):
    now = 1000.0
    live = LiveCell(CELL, name=cell, wall=lambda: now, steady=lambda: now)
    whole = DiagnosticStatus(
        level=b'\0',
        name=f'{prefix}camera',
        message='OK',
        hardware_id='stl_conveyor',
        values=[KeyValue(key='state', value='active')],
    )
    frames = fault(f'{prefix}camera: frames', Level.ERROR, 'no frame').status
    hear_diagnostics([live], DiagnosticArray(status=[whole, *frames]))
    for _ in range(2):
        now += UNNAMED_S
        hear_diagnostics([live], DiagnosticArray(status=[whole, *frames]))
    assert readings(live.figures())['state'] == MachineState.ERROR.value
    for _ in range(2):
        now += UNNAMED_S
        hear_diagnostics([live], DiagnosticArray(status=[whole]))
    assert live.figures()['faults'] == [] and not live.alarms.lasting()
    assert readings(live.figures())['state'] == MachineState.CONTINUOUS.value


@pytest.mark.parametrize(
    'told, link, unlimited',
    [
        ('16.0 kbit/s', 16.0, False),
        ('unlimited', None, True),
        ('nan kbit/s', None, False),
        ('-1 kbit/s', None, False),
        ('16 Mbit/s', None, False),
        ('', None, False),
    ],
)
def test_the_emulator_says_how_fast_its_link_is(told, link, unlimited):
    live = LiveCell(CELL, name='line_2')
    live.take_bucket(Bucket(1, 0.25, 4, 0.5, 0, 0, True))
    for node in ('line_2/link_emulator', 'line_2/camera', 'link_emulator'):
        rate = told if node == 'line_2/link_emulator' else '9.0 kbit/s'
        status = DiagnosticStatus(
            name=node, hardware_id='stl_conveyor', values=[KeyValue(key='up.rate', value=rate)]
        )
        hear_diagnostics([live], DiagnosticArray(status=[status]))
    network = live.news()['network']
    assert (network['link'], network['unlimited']) == (link, unlimited)


def test_the_page_comes_back_with_its_alarms(tmp_path):
    for expected in ([], ['camera: frames']):
        with CellHarness([panel(tmp_path)], watched=('/diagnostics',)) as cell:
            cell.wait_active()
            (live,) = cell.runner.node('operator_panel').live
            assert [alarm.key for alarm in live.alarms.open()] == expected
            publisher = cell.publisher('/diagnostics', timeout=30)
            publisher.publish(fault('camera: frames', Level.ERROR, 'no frame'))
            cell.wait(lambda: live.alarms.open(), 30, 'the alarm is there')


def test_what_was_counted_by_the_hour_survives_a_restart(tmp_path):
    for outcomes in (1, 2):
        with CellHarness([panel(tmp_path)], watched=('/diagnostics',)) as cell:
            cell.wait_active()
            node = cell.runner.node('operator_panel')
            (live,) = node.live
            capture = make_capture(outcomes, cell.now_ns(), np.zeros((160, 160, 3), np.uint8))
            said = SortOutcome(header=capture.header, item_id=outcomes, lane='B')
            cell.publisher('sort_outcome', timeout=30).publish(said)
            cell.wait(lambda: live.counts.of('outcomes'), 30, 'it is counted')
            assert live.counts.of('outcomes') == 1  # since the start
            node.trigger_deactivate()
            kept = json.loads((tmp_path / 'counts.json').read_text())
            counted = [count for hour in kept.values() for count in hour['counts']]
            assert sum(n for name, _, n in counted if name == 'outcomes') == outcomes


def test_counts_that_are_damaged_are_said_and_begin_empty(tmp_path):
    (tmp_path / 'counts.json').write_text('{"1": {}}')
    with CellHarness([panel(tmp_path)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        cell.wait_diagnostic('operator_panel', 'counts.json', Level.WARN)
        (live,) = cell.runner.node('operator_panel').live
        assert 3_600_000 not in [hour['hour'] for hour in live.counts.hours()]


def test_a_run_keeps_what_its_page_counts_in_its_own_folder(tmp_path):
    plan = page_plan(RunSettings(), tmp_path, print)
    arguments = ' '.join(plan.arguments)
    for name, file in (('alarm_log', 'alarms.jsonl'), ('counts_file', 'counts.json')):
        assert name in arguments and str(tmp_path / file) in arguments
        assert tmp_path / file in plan.replaces  # those of the run before are not of this one


def test_a_port_that_is_taken_is_said_and_tried_again(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        spec = panel(tmp_path, port=port, retry_period=0.2, diagnostics_period=0.2)
        with CellHarness([spec], watched=('/diagnostics',)) as cell:
            cell.wait_diagnostic('operator_panel', f'port {port}', Level.ERROR)
            taken.close()
            cell.wait_active()


@pytest.mark.parametrize(
    'parameters, named', [({'cells': []}, 'cells'), ({'cells': ['a', 'a']}, 'cells')]
)
def test_wrong_values_are_refused_by_name(tmp_path, parameters, named):
    with pytest.raises(ConfigError, match=named):
        NodeRunner([panel(tmp_path, **parameters)])


@pytest.mark.timeout(480)
@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_what_page_plant_and_recording_have_of_a_run_equals_its_summary(tmp_path):
    for name in ('mcap', 'prometheus_client'):
        pytest.importorskip(name, reason='make setup brings it')
    from stl_conveyor.recording.playback import messages

    environment = own_environment()
    with Supervisor(tmp_path / 'logs') as supervisor, browser() as new_tab:
        port = free_port(0)
        plan = process_plan(
            'operator_panel',
            {
                'port': port,
                'alarm_log': str(tmp_path / 'alarms.jsonl'),
                'counts_file': str(tmp_path / 'counts.json'),
            },
            ROOT / 'config' / 'panel.yaml',
        )
        supervisor.start(replace(plan, environment=environment))
        metrics = free_port(0)
        gateway = process_plan(
            'plant_gateway',
            {'outputs': ('prometheus',), 'prometheus_port': metrics},
            ROOT / 'config' / 'panel.yaml',
        )
        supervisor.start(replace(gateway, environment=environment))
        tab = new_tab()
        fetched(f'http://127.0.0.1:{metrics}/metrics')
        tab.open_when_served(f'http://127.0.0.1:{port}/?lang=en', "document.querySelector('.top')")
        done = subprocess.run(
            [
                sys.executable,
                '-m',
                'stl_conveyor.run',
                '--items',
                str(ITEMS),
                '--seed',
                '7',
                '--time-unit',
                '1.5',
                '--out',
                str(tmp_path / 'out'),
                '--plain',
                '--record',
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
        assert summary['outcomes']
        for name in (
            'outcomes',
            'missed_deadlines',
            'rejected',
            'offloaded',
            'correct',
            'edge_answers',
            'bytes_sent',
        ):
            shown = f"document.querySelector('[data-count={name}]').innerText.replace(/,/g, '')"
            tab.wait(f"{shown} === '{summary[name]}'")
            line = f'{VALUES[name].prometheus_name}{{cell=""}} {summary[name]:.1f}'
            fetched(f'http://127.0.0.1:{metrics}/metrics', having=line)
        # The recording has every outcome, and the crop of every item.
        recording = list(messages(tmp_path / 'out' / 'run.mcap'))
        told = Counter(said.topic for said in recording)
        assert told['/sort_outcome'] == summary['outcomes']
        assert told['/capture'] >= summary['outcomes'] and told['/camera/image_raw']
        assert told['/diagnostics'] and told['/item_truth'] and told['/token_bucket']
        # So it has what the shipped layout draws, of what a simulated cell says.
        assert told['/cell_markers'] and told['/camera/camera_info']
        layout = (ROOT / 'layouts' / 'cell.json').read_text()
        drawn = {
            topic.name.lstrip('/')
            for topic in TOPICS
            if re.search(rf'"/{topic.name.lstrip("/")}["./]', layout)
            and {*EVERY_NODE, *VIEWS} & {*topic.publishers} - {*topic.optional}
        }
        assert len(drawn) >= 8 and {'camera/image_raw', 'cell_markers'} <= drawn
        assert {name for name in drawn if not told[f'/{name}']} == set()


def test_a_person_pauses_the_line_and_changes_the_policy(tmp_path):
    accounts = tmp_path / 'accounts.yaml'
    write_account(accounts, 'Ada', Role.ENGINEER, 'a long password')
    ada = User('Ada', Role.ENGINEER)
    specs = [
        panel(tmp_path, accounts_file=str(accounts), change_log=str(tmp_path / 'changes.jsonl')),
        NodeSpec(Camera, {}, group='camera'),
        NodeSpec(OffloadPolicy, {'policy': 'threshold'}, group='offload_policy'),
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        (live,) = cell.runner.node('operator_panel').live
        camera, policy = (cell.runner.node(name) for name in ('camera', 'offload_policy'))
        paused = live.change(ada, {'running': False})
        assert (paused.failed, paused.before, camera.is_active) == ('', {'running': True}, False)
        live.change(ada, None, undo=paused.number)
        assert camera.is_active
        changed = live.change(ada, {'policy': 'mdp', 'rate': 0.5, 'depth': 8.0})
        assert changed.before == {'policy': 'threshold', 'rate': 0.25, 'depth': 4.0}
        settings = policy.settings
        assert (settings.policy, settings.rate, settings.depth) == ('mdp', 0.5, 8.0)
        assert policy.is_active
        # What the node refuses is said in its words, and what held before holds again.
        refused = live.change(ada, {'policy': 'magic', 'rate': 0.1})
        assert 'magic' in refused.failed
        assert (policy.settings.policy, policy.settings.rate) == ('mdp', 0.5)
        assert policy.is_active
        assert live.news()['control']['values']['policy'] == 'mdp'
        logged = (tmp_path / 'changes.jsonl').read_text().splitlines()
        assert [json.loads(line)['who'] for line in logged] == ['Ada'] * 4


def test_what_is_asked_when_the_page_ends_has_no_answer(tmp_path):
    accounts = tmp_path / 'accounts.yaml'
    write_account(accounts, 'Ada', Role.ENGINEER, 'a long password')
    with CellHarness([panel(tmp_path, accounts_file=str(accounts))], watched=()) as cell:
        cell.wait_active()
        control = cell.runner.node('operator_panel').live[0].control
    with pytest.raises(ConveyorError, match='has ended'):
        control.values()


def test_an_engineer_changes_lanes_costs_and_recipe_at_an_item_boundary(tmp_path, tiny_models):
    accounts, recipes = tmp_path / 'accounts.yaml', tmp_path / 'recipes.yaml'
    write_account(accounts, 'Ada', Role.ENGINEER, 'a long password')
    (tmp_path / 'other.yaml').write_text((ROOT / 'config' / 'cell.yaml').read_text())
    models, spoilt = tmp_path / 'models', tmp_path / 'spoilt'
    for folder in (models, spoilt):
        shutil.copytree(tiny_models, folder)
    turned = shutil.copytree(tiny_models, tmp_path / 'turned')
    labels = renamed_classes(turned)
    (spoilt / json.loads((spoilt / 'manifest.json').read_text())['files']['weak']['path']).unlink()
    recipes.write_text(
        'usual: {models_dir: models}\n'
        'other: {cell_file: other.yaml, models_dir: models}\n'
        'spoilt: {models_dir: spoilt}\n'
        'turned: {models_dir: turned}\n'
    )
    ada = User('Ada', Role.ENGINEER)
    specs = [
        panel(
            tmp_path,
            accounts_file=str(accounts),
            recipes_file=str(recipes),
            cells_folder=str(tmp_path / 'cells'),
            change_log=str(tmp_path / 'changes.jsonl'),
        ),
        NodeSpec(Camera, {}, group='camera'),
        *[
            replace(
                spec, parameters={**spec.parameters, 'models_dir': str(models), 'cell_file': ''}
            )
            for spec in device_specs(tiny_models, edge=False)
        ],
        NodeSpec(CellGuard, {}, group='cell_guard'),
        # Those that make no change.
        NodeSpec(PlantGateway, {'change_log': ''}, group='plant_gateway'),
        NodeSpec(CellView, {}, group='cell_view'),
    ]
    with CellHarness(specs, watched=('/diagnostics', 'sort_outcome')) as cell:
        cell.wait_active(60)
        gateway, view = (cell.runner.node(name) for name in ('plant_gateway', 'cell_view'))
        (live,) = cell.runner.node('operator_panel').live
        readers = ('camera', 'actuator', 'offload_policy', 'local_classifier')
        nodes = [cell.runner.node(name) for name in readers]
        assert live.control.values()['recipe'] == 'usual'
        # An item that is under way gets its outcome first.
        image = np.full((160, 160, 3), 9, np.uint8)
        captures, stamp_ns = cell.publisher('capture', readers=4, timeout=30), cell.now_ns()
        captures.publish(make_capture(5, stamp_ns, image))
        cell.wait(lambda: (item := live.item(stamp_ns)) and item.captured, 30, 'the item is known')
        changed = live.change(
            ada, {'cell_values': {'lanes': {'hex_nut_m8': 'C'}, 'costs': {'wrong': 2.0}}}
        )
        assert changed.failed == ''
        assert [outcome.item_id for outcome in cell.outcomes()] == [5]
        assert live.cell.lane_of('hex_nut_m8') == 'C' and live.cell.costs.wrong == 2.0
        files = {node.settings.cell_file for node in nodes}
        (path,) = files
        assert Path(path).parent == tmp_path / 'cells'
        assert all(node.is_active for node in nodes)
        cell.wait(
            lambda: all(
                other.cell.lane_of('hex_nut_m8') == 'C' and other.recipe == Path(path).stem
                for other in (view.live, *gateway.live)
            ),
            30,
            'the others know the new description',
        )
        undone = live.change(ada, None, undo=changed.number)
        assert undone.failed == '' and live.cell.costs is None
        assert live.cell.lane_of('hex_nut_m8') == 'A'
        chosen = live.change(ada, {'recipe': 'other'})
        assert chosen.failed == '' and live.recipe == 'other'
        assert {Path(node.settings.cell_file).name for node in nodes} == {'other.yaml'}
        cell.wait(
            lambda: gateway.readings()['']['recipe'] == 'other', 30, 'the plant is told the recipe'
        )
        # What one node cannot use holds nowhere.
        refused = live.change(ada, {'recipe': 'spoilt'})
        assert 'local_classifier' in refused.failed and live.recipe == 'other'
        local = cell.runner.node('local_classifier')
        assert local.settings.models_dir == str(models)
        assert all(node.is_active for node in (*nodes, local))
        assert 'magic' in live.change(ada, {'recipe': 'magic'}).failed
        # The classes of what is answered from now on are those of the new models.
        assert live.labels != labels and live.models == models
        assert live.change(ada, {'recipe': 'turned'}).failed == ''
        assert (live.labels, live.models) == (labels, turned)


def renamed_classes(folder):
    """Turn the order of the classes of a model folder round, and return it."""
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['labels'].reverse()
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    return tuple(manifest['labels'])


def test_each_cell_is_shown_as_it_is_and_by_the_classes_of_its_models(tmp_path, tiny_models):
    description = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text())
    del description['lanes'][2]
    (tmp_path / 'two.yaml').write_text(yaml.safe_dump(description))
    turned = shutil.copytree(tiny_models, tmp_path / 'turned')
    labels = renamed_classes(turned)
    specs = [
        panel(tmp_path, cells=['', 'line_2'], models_dir=str(tiny_models)),
        policy_of({'models_dir': str(tiny_models)}, ''),
        policy_of({'cell_file': str(tmp_path / 'two.yaml'), 'models_dir': str(turned)}, 'line_2'),
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active(60)
        mine, other = cell.runner.node('operator_panel').live
        cell.wait(lambda: mine.recipe and other.recipe, 30, 'each cell says what it works with')
        assert (mine.recipe, other.recipe) == ('cell', 'two')
        assert [len(live.scene()['lanes']) for live in (mine, other)] == [3, 2]
        assert (mine.labels, other.labels) == (labels[::-1], labels)
        assert (mine.models, other.models) == (tiny_models, turned)


def policy_of(parameters, cell):
    """Return an offload_policy that works with a recipe, and need not be able to."""
    return NodeSpec(
        OffloadPolicy,
        {'policy': 'threshold', **parameters},
        group=f'{cell} offload_policy',
        namespace=cell,
    )


def test_what_a_cell_works_with_and_cannot_be_read_here_is_said(tmp_path, tiny_models):
    nowhere = tmp_path / 'nowhere'
    specs = [
        panel(tmp_path, models_dir=str(tiny_models)),
        policy_of({'cell_file': str(nowhere / 'far.yaml'), 'models_dir': str(nowhere)}, ''),
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        status = cell.wait_diagnostic('operator_panel: recipe', str(nowhere), Level.WARN, 30)
        assert 'far.yaml' in status.message and 'same place on this machine' in status.message
        (live,) = cell.runner.node('operator_panel').live
        # The page's own parameters stand for what lies elsewhere, until the cell takes others.
        assert live.recipe == 'far' and live.cell.lane_of('hex_nut_m8') == 'A'
        assert live.models == tiny_models and live.labels
        policy = cell.runner.node('offload_policy')
        policy.set_parameters([Parameter('models_dir', value=str(nowhere / 'others'))])
        cell.wait(lambda: live.models is None and live.labels == (), 30, 'no wrong names')
        policy.set_parameters(
            [Parameter('models_dir', value=str(tiny_models)), Parameter('cell_file', value='')]
        )
        cell.wait(
            lambda: live.recipe == 'cell' and live.models == tiny_models, 30, 'they can be read'
        )
        cell.wait_diagnostic('operator_panel: recipe', '', Level.OK)


def test_the_page_comes_over_tls_and_in_no_other_way(tmp_path):
    certificate, key = make_certificate(tmp_path)
    port = free_port(0)
    parameters = {
        'port': port,
        'alarm_log': '',
        'counts_file': '',
        'certificate': str(certificate),
        'certificate_key': str(key),
    }
    plan = process_plan('operator_panel', parameters, ROOT / 'config' / 'panel.yaml')
    with Supervisor(tmp_path / 'logs') as supervisor:
        supervisor.start(replace(plan, environment=own_environment()))
        context = ssl.create_default_context(cafile=str(certificate))
        page = fetched(f'https://localhost:{port}/', context)
        assert b'/panel/panel.css' in page
        with pytest.raises((urllib.error.URLError, ConnectionError, http.client.HTTPException)):
            urllib.request.urlopen(f'http://localhost:{port}/', timeout=30)
        with pytest.raises(urllib.error.URLError, match='CERTIFICATE_VERIFY_FAILED'):
            urllib.request.urlopen(f'https://localhost:{port}/', timeout=30)


def fetched(url, context=None, having=''):
    """Return what lies at an address, as soon as somebody serves it and it has a text."""
    end, page = time.monotonic() + 90, b''
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30, context=context) as answer:
                page = answer.read()
            if having.encode() in page:
                return page
            trouble = f'{having} is not in {page!r}'
        except OSError as error:
            trouble = error
        assert time.monotonic() < end, trouble
        threading.Event().wait(0.2)


def test_a_node_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_control, 'ANSWER_S', 0.3)
    accounts = tmp_path / 'accounts.yaml'
    write_account(accounts, 'Ada', Role.ENGINEER, 'a long password')
    spec = panel(tmp_path, accounts_file=str(accounts), change_log='')
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        (live,) = cell.runner.node('operator_panel').live
        made = live.change(User('Ada', Role.ENGINEER), {'running': False})
        assert made.failed == 'camera: it is not there'
