# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every node as a process of its own leaves cleanly on SIGTERM and SIGINT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, Stranger, make_capture, node_process  # noqa: E402
from ros_domains import give_back, own_domain_id  # noqa: E402

from stl_conveyor.deploy.fastdds_profiles import discovery_port  # noqa: E402
from stl_conveyor.msg import ItemCapture  # noqa: E402
from stl_conveyor.nodes.base.topics import COMPOSED  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
NODES = (
    'camera',
    'local_classifier',
    'offload_policy',
    'encoder',
    'edge_classifier',
    'actuator',
    'link_emulator',
    'cell_monitor',
    'cell_simulator',
)
NEED_MODELS = ('local_classifier', 'offload_policy', 'encoder', 'edge_classifier')


def wait_for_exits(processes, seconds):
    """Return the exit code of each process, None where it still runs after that time."""
    end = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.01, end - time.monotonic()))
        except Exception:
            pass
    return [process.poll() for process in processes]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_every_node_leaves_cleanly_on_a_signal(tiny_models, tmp_path, number):
    names = NODES if number is signal.SIGTERM else NODES[5:6]
    with CellHarness([], watched=('/diagnostics', 'sort_outcome')) as cell, ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                node_process(
                    name,
                    domain_id=cell.domain_id,
                    parameters={
                        'diagnostics_period': 0.2,
                        **({'models_dir': str(tiny_models)} if name in NEED_MODELS else {}),
                        **({'belt_running': False} if name == 'cell_simulator' else {}),
                    },
                )
            )
            for name in names
        }

        def is_up(name):
            return any(
                value.key == 'state' and value.value == 'active'
                for status in cell.statuses(name)
                for value in status.values
            )

        cell.wait(lambda: all(map(is_up, names)), 90, f'that {names} are active')
        if 'actuator' in names:
            # An item that is open when the actuator is told to stop still gets its outcome.
            readers = {'actuator', 'local_classifier', 'encoder', 'cell_monitor'} & set(names)
            image = tiny_images(1, 2)[0][0]
            # Of nobody else captures are taken while there is a camera.
            second = stack.enter_context(Stranger(cell, 'camera'))
            publisher = second.publisher(ItemCapture, 'capture', readers=len(readers))

            def open_items():
                return max(
                    (
                        int(value.value)
                        for status in cell.statuses('actuator')[-1:]
                        for value in status.values
                        if value.key == 'open_items'
                    ),
                    default=0,
                )

            def is_heard():
                publisher.publish(make_capture(999, cell.now_ns(), image))
                return open_items() > 0

            cell.wait(is_heard, 20, 'a capture of the second camera')
            cell.wait(lambda: open_items() == 0, 20, 'the end of what it took to be heard')
            publisher.publish(make_capture(1, cell.now_ns(), image))
            cell.wait(lambda: open_items() == 1, 10, 'the open item')
        for process in processes.values():
            os.kill(process.pid, number)
        codes = wait_for_exits(processes.values(), 60.0)
        assert codes == [0] * len(names), {
            name: (code, process.stderr.read() if code is not None else 'still running')
            for (name, process), code in zip(processes.items(), codes)
        }
        for name, process in processes.items():
            assert 'Traceback' not in process.stderr.read(), name
        if 'actuator' in names:
            cell.wait(
                lambda: len(cell.heard.of('sort_outcome', item_id=1)) == 1,
                3,
                'the outcome of the open item',
            )


@pytest.mark.parametrize('where', ['full', 'closed'])
def test_a_node_works_on_when_its_words_cannot_be_written(where):
    with (
        CellHarness([], watched=('/diagnostics',)) as cell,
        node_process(
            'camera',
            domain_id=cell.domain_id,
            parameters={'diagnostics_period': 0.2, 'trigger': 'beam'},
            stderr=open('/dev/full', 'w') if where == 'full' else subprocess.PIPE,
        ) as process,
    ):
        if where == 'closed':
            process.stderr.close()
        # It has something to say, and says it on the topic alone.
        cell.wait_diagnostic('camera', 'nobody publishes it', timeout=60)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_nodes_of_the_device_are_one_process_that_comes_back(tiny_models, tmp_path):
    file = tmp_path / 'device.yaml'
    parameters = (
        f"/**:\n  ros__parameters:\n    models_dir: '{tiny_models}'\n    diagnostics_period: 0.2\n"
        '/**/camera:\n  ros__parameters:\n    diagnostics_period: 0.2\n'
    )
    file.write_text(parameters + '    tresh: 3.0\n')
    with CellHarness([], watched=('/diagnostics',)) as cell, ExitStack() as stack:
        keeper = stack.enter_context(
            node_process('device', domain_id=cell.domain_id, words=('--params-file', str(file)))
        )

        def are_up(nodes):
            return all(
                any(
                    ('state', 'active') == (value.key, value.value)
                    for status in cell.statuses(name)[-1:]
                    for value in status.values
                )
                for name in nodes
            )

        # One whose parameters cannot be used keeps no other from its work.
        others = [name for name in COMPOSED if name != 'camera']
        cell.wait(lambda: are_up(others), 90, f'that {others} are active')
        cell.wait_diagnostic('camera', "unknown parameter 'tresh'", level=2)
        file.write_text(parameters)
        cell.wait(lambda: are_up(['camera', *others]), 60, 'the camera')
        (worker,) = children_of(keeper.pid)
        os.kill(worker, signal.SIGKILL)
        for name in ('camera', *others):
            # In the status of the fault: that of the node may have something worse to say.
            cell.wait_diagnostic(f'{name}: process_restarted', 'killed by SIGKILL', level=1)
        cell.wait(lambda: are_up(['camera', *others]), 60, 'a second life')
        (again,) = children_of(keeper.pid)
        assert again != worker
        keeper.terminate()
        assert wait_for_exits([keeper], 60) == [0]
        assert not Path(f'/proc/{again}').exists()


def children_of(pid):
    """Return the processes that a process has started."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rsplit(')', 1)[1].split()
        except OSError:  # it is gone
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_an_executable_that_still_imports_ends_without_a_word(tmp_path, number):
    (tmp_path / 'slow').mkdir()
    (tmp_path / 'slow/node.py').write_text(
        "import threading\nprint('importing', flush=True)\nthreading.Event().wait()\n"
    )
    text = (ROOT / 'scripts/node_executable.py.in').read_text(encoding='utf-8')
    for name, value in (('PROJECT_NAME', 'slow'), ('node_module', 'node'), ('node_name', 'node')):
        text = text.replace(f'@{name}@', value)
    (tmp_path / 'executable').write_text(text)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / 'executable')],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == 'importing\n'
            process.send_signal(number)
            assert process.communicate(timeout=20) == ('', '')
            assert process.returncode == 0
        finally:
            process.kill()


def shared_memory_of(pid, domain_id):
    """Return the files in shared memory that a process has mapped, and what belongs to them.

    Segments are its own, and ports those of the domain; others belong to the whole machine.
    """
    maps = Path(f'/proc/{pid}/maps').read_text()
    names = {line.rpartition('/')[2] for line in maps.splitlines() if '/dev/shm/fast' in line}
    first = discovery_port(domain_id, 0) - 10
    of_domain = {f'fastdds_port{number}' for number in range(first, first + 250)}
    names -= {name for name in names if '_port' in name and name not in of_domain}
    return {
        path
        for name in names
        for end in (name, f'{name}_el', f'{name}_sl', f'sem.{name}_mutex')
        if (path := Path('/dev/shm') / end).exists()
    }


@contextmanager
def running(domain_id):
    """Run a node in a domain in which nobody else is."""
    with node_process('link_emulator', domain_id=domain_id) as process:
        for line in process.stderr:
            if 'active' in line:
                break
        yield process


@pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION') != 'rmw_fastrtps_cpp', reason='a matter of Fast DDS'
)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_nothing_stays_in_shared_memory_after_an_end_and_the_next_start(number):
    domain_id = own_domain_id()
    with running(domain_id) as process:
        files = shared_memory_of(process.pid, domain_id)
        assert {path for path in files if '_port' in path.name} < files
        process.send_signal(number)
        code = process.wait(20)
        assert code == (0 if number is signal.SIGTERM else -number)
        left = {path for path in files if path.exists()}
        assert bool(left) is (number is not signal.SIGTERM)
    if left:
        with running(domain_id) as process:
            assert not [path for path in left if path.exists() and '_port' not in path.name]
            files |= shared_memory_of(process.pid, domain_id)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert not [path for path in files if path.exists()]
    give_back(domain_id)
