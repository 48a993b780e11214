# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The benchmark over a shaped link: the link itself, what is counted, and what is compared."""

from __future__ import annotations

import csv
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor_lab.bench.network import shaped_link
from stl_conveyor_lab.bench.network.shaped_link import ADDRESSES, DEVICE, EDGE, ShapedLink, Traffic

REASON = shaped_link.why_no_link()
needs_link = pytest.mark.skipif(bool(REASON), reason=REASON)


def holders():
    """Return the processes that hold namespaces of this module's making."""
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            command = (path / 'cmdline').read_bytes().split(b'\0')
            parent = int((path / 'stat').read_text().rsplit(')', 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        if command[:2] == [b'sleep', b'infinity'] and parent == os.getpid():
            found.append(path.name)
    return found


def interfaces():
    return sorted(name for _, name in socket.if_nameindex())


@needs_link
def test_a_link_leaves_nothing_behind_and_the_host_as_it_is():
    before = interfaces()
    with pytest.raises(ZeroDivisionError):
        with ShapedLink(52.0) as link:
            assert interfaces() == before
            assert len(holders()) == 2
            inside = subprocess.run(
                [*link.prefix(DEVICE), 'ls', '/sys/class/net', '/dev/shm'],
                capture_output=True,
                text=True,
            )
            assert inside.returncode == 0 and not Path('/dev/shm').samefile('/')
            raise ZeroDivisionError
    assert interfaces() == before and holders() == []


@needs_link
def test_both_sides_have_nothing_in_common_but_the_link():
    script = (
        'import os, socket, sys; print(sorted(n for _, n in socket.if_nameindex()), '
        'os.listdir("/dev/shm")); open("/dev/shm/" + sys.argv[1], "w").close()'
    )
    with ShapedLink(52.0) as link:
        seen = [
            subprocess.run(
                [*link.prefix(side), sys.executable, '-c', script, side],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for side in (DEVICE, EDGE, DEVICE)
        ]
    assert seen == ["['link0', 'lo'] []\n", "['link0', 'lo'] []\n", "['link0', 'lo'] ['device']\n"]


RECEIVE = """
import socket, sys, time
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind((sys.argv[1], 5005))
print('ready', flush=True)
times = []
while len(times) < int(sys.argv[2]):
    receiver.recv(2000)
    times.append(time.monotonic())
print(times[-1] - times[int(sys.argv[3])])
"""
SEND = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    sender.sendto(bytes(500), (sys.argv[1], 5005))
"""


@needs_link
def test_the_rate_is_what_was_asked_for():
    frames, after_burst, size = 15, 3, 500 + 42
    with ShapedLink(52.0) as link:
        receiver = subprocess.Popen(
            [
                *link.prefix(EDGE),
                sys.executable,
                '-c',
                RECEIVE,
                ADDRESSES[EDGE],
                str(frames),
                str(after_burst),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert receiver.stdout.readline() == 'ready\n'
        subprocess.run(
            [*link.prefix(DEVICE), sys.executable, '-c', SEND, ADDRESSES[EDGE], str(frames)],
            check=True,
        )
        seconds = float(receiver.communicate(timeout=20)[0])
        traffic, dropped = link.traffic(), link.dropped()
    measured = (frames - 1 - after_burst) * size * 8 / seconds / 1000
    assert measured == pytest.approx(52.0, rel=0.1)
    assert traffic.sent_bytes >= frames * size and traffic.sent_frames >= frames
    assert dropped == {DEVICE: 0, EDGE: 0}


@needs_link
def test_namespaces_go_with_the_process_that_made_them():
    script = (
        'import signal\nfrom stl_conveyor_lab.bench.network.shaped_link import ShapedLink\n'
        'link = ShapedLink(52.0).__enter__()\n'
        'print(*(h.pid for h in link._holders.values()), flush=True)\nsignal.pause()'
    )
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    pids = process.stdout.readline().split()
    assert len(pids) == 2 and all(Path(f'/proc/{pid}/ns/net').exists() for pid in pids)
    # A file descriptor of a process becomes readable when the process ends.
    ends = [os.pidfd_open(int(pid)) for pid in pids]
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pid, end in zip(pids, ends):
        assert select.select([end], [], [], 5)[0], 'a namespace was left behind'
        assert not Path(f'/proc/{pid}/ns/net').exists()
        os.close(end)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(shaped_link.shutil, 'which', lambda tool: None if tool == 'tc' else tool)
    assert shaped_link.why_no_link() == 'tc is not installed: apt install iproute2'
    monkeypatch.setattr(shaped_link.shutil, 'which', lambda tool: tool)
    monkeypatch.setattr(shaped_link.os, 'geteuid', lambda: 1000)
    assert 'need root' in shaped_link.why_no_link()
    monkeypatch.setattr(shaped_link.os, 'geteuid', lambda: 0)

    def refuse(self):
        raise MissingDependency('`tc qdisc add` failed: unknown qdisc')

    monkeypatch.setattr(shaped_link.ShapedLink, '__enter__', refuse)
    assert 'unknown qdisc' in shaped_link.why_no_link()


# What is compared ------------------------------------------------------------------------------

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from stl_conveyor.deploy.fastdds_profiles import GATEWAY, discovery_port, user_port  # noqa: E402
from stl_conveyor_lab.bench.network import link as network  # noqa: E402
from stl_conveyor_lab.bench.network.link import LinkComparison, LinkUse, Outcome, comparison_table  # noqa: E402
from stl_conveyor_lab.bench.network.run import traffic_class  # noqa: E402


def write_run(folder, correct, slack=0.04, **summary):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'items.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['serial', 'correct', 'slack_s', 'outcome_source'])
        for serial, right in enumerate(correct, 1):
            writer.writerow([serial, int(right), slack, 'edge' if serial % 2 else 'local'])
        writer.writerow([0, 0, '', ''])  # a capture without an item
    (folder / 'summary.json').write_text(
        json.dumps({'offloaded': 3, 'missed_deadlines': 0, 'unacted': 0, **summary})
    )
    return folder


def write_traffic(folder):
    def bytes_by(topics, discovery):
        return {
            way: {'topics': topics, 'discovery': discovery, 'other': 10} for way in ('up', 'down')
        }

    (folder / 'traffic.json').write_text(
        json.dumps(
            {
                'starting': {'time': 5.0, 'bytes': bytes_by(0, 0)},
                'ready': {'time': 8.0, 'bytes': bytes_by(100, 2000)},
                'done': {'time': 38.0, 'bytes': bytes_by(5100, 2300)},
            }
        )
    )
    return folder


@pytest.fixture
def comparison(tmp_path):
    network_folder = write_traffic(write_run(tmp_path / 'n', [True] * 96 + [False] * 4))
    return LinkComparison(
        'light',
        52.0,
        Outcome.of(network_folder),
        Outcome.of(write_run(tmp_path / 'e', [True] * 97 + [False] * 3)),
        LinkUse.of(network_folder, 100, Traffic(9000, 90, 8000, 80), {DEVICE: 1, EDGE: 2}),
    )


def test_a_run_is_read(comparison):
    assert comparison.network.correct[96] and not comparison.network.correct[97]
    assert len(comparison.network.correct) == 100 and comparison.network.edge_used == 50
    assert comparison.network.slack_ms[1] == pytest.approx(40.0)
    with pytest.raises(ConfigError, match='no complete run'):
        Outcome.of(Path('/nowhere'))


def test_bytes_are_put_where_they_belong(comparison):
    use = comparison.use
    assert use.start_seconds == 3.0
    assert use.start_bytes == {'up': 2010, 'down': 2010}
    assert use.discovery_per_minute == {'up': 600.0, 'down': 600.0}
    assert use.topics_per_item == {'up': 50.0, 'down': 50.0}


def test_the_difference_is_paired(comparison):
    apart = comparison.difference()
    assert apart.value == pytest.approx(-0.01)
    # one item differs: unpaired shares of a hundred items would be .05 apart
    assert -0.04 < apart.low <= apart.value <= apart.high <= 0.0
    assert [mark.met for mark in comparison.marks()] == [True, True, True]


def test_what_is_not_met_is_said(tmp_path, comparison):
    worse = Outcome.of(
        write_run(tmp_path / 'w', [True] * 90 + [False] * 10, missed_deadlines=2, unacted=1)
    )
    marks = LinkComparison('light', 52.0, worse, comparison.emulator, comparison.use).marks()
    assert [(mark.met, mark.measured) for mark in marks] == [
        (False, pytest.approx(-0.07)),
        (False, 2),
        (False, 1),
    ]


def test_the_table_has_every_rate_and_number(comparison):
    lines = comparison_table([comparison, comparison]).splitlines()
    assert lines[0] == '| | 52 kbit/s | 52 kbit/s |'
    assert '| right lane, network | 0.960' in lines[3]
    assert '| frames dropped by the queue, up / down | 1 / 2 | 1 / 2 |' in lines
    assert all(line.count('|') == 4 for line in lines)


def test_ports_tell_topics_from_discovery():
    for domain in (0, 7):
        assert traffic_class(user_port(domain, GATEWAY), domain) == 'topics'
        assert traffic_class(discovery_port(domain, GATEWAY), domain) == 'discovery'
        assert traffic_class(7400 + 250 * domain, domain) == 'discovery'
        assert traffic_class(7000, domain) == 'discovery'


def test_a_plot_is_drawn(comparison, tmp_path):
    network.plot_link(tmp_path / 'network.png', [comparison, comparison])
    assert (tmp_path / 'network.png').stat().st_size > 5000


def test_without_root_it_is_skipped_with_the_reason(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(network, 'why_no_link', lambda: 'needs root')
    assert network.main(['--out', str(tmp_path / 'x')]) == 0
    assert capsys.readouterr().out == 'bench-network: skipped: needs root\n'
    assert not (tmp_path / 'x').exists()


@needs_link
@pytest.mark.ros
def test_a_cell_sorts_over_the_link(tiny_models, tmp_path):
    with ShapedLink(67.5) as link:
        network.run_command(
            [
                *link.prefix(DEVICE),
                sys.executable,
                '-m',
                'stl_conveyor_lab.bench.network.run',
                '--items',
                '3',
                '--seed',
                '5',
                '--models',
                str(tiny_models),
                '--out',
                str(tmp_path),
                '--edge-prefix',
                shlex.join(link.prefix(EDGE)),
            ]
        )
        frames = link.traffic()
    outcome = Outcome.of(tmp_path)
    assert len(outcome.correct) == 3 and outcome.unacted == 0
    use = LinkUse.of(tmp_path, 3, frames, {})
    counted = json.loads((tmp_path / 'traffic.json').read_text())['done']['bytes']
    # a single capture has 77 kB
    assert 0 < sum(counted['up'].values()) <= frames.sent_bytes < 60_000
    assert use.topics_per_item['down'] > 0
