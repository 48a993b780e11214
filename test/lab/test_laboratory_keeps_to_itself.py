# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nothing leaves the machine while the laboratory trains and measures."""

from __future__ import annotations

import json
import sys

import pytest
from sniffed import sniff, traces, unprotected, why_no_namespace

from stl_conveyor_lab.commands import BENCHMARKS
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_pictures

#: ONNX Runtime asks for its maker's host within 20 s of its first import.
SECONDS = 60.0

#: Runs a command of the laboratory, whether its entry points are installed or not.
COMMAND = """
import sys
from importlib.metadata import EntryPoint
from stl_conveyor.cli import main as command
command.entry_points = lambda group: [
    EntryPoint(name, f'stl_conveyor_lab.commands:add_{name}', group) for name in ('train', 'bench')
]
sys.exit(command.main(sys.argv[1:]))
"""
#: Starts all commands beside each other, each in a ROS domain of its own; interrupts what still
#: runs when the time is over.
ALL_AT_ONCE = """
import json, os, select, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has what is in its background ignore it
running = {}
for number, (name, words) in enumerate(json.loads(sys.argv[1]).items()):
    process = subprocess.Popen(
        words,
        env={**os.environ, 'ROS_DOMAIN_ID': str(150 + number)},
        stdin=subprocess.DEVNULL,
        stdout=open(os.path.join(sys.argv[2], name), 'w'),
        stderr=subprocess.STDOUT,
    )
    running[os.pidfd_open(process.pid)] = name, process
signal.signal(signal.SIGINT, signal.SIG_IGN)
while running:
    ready, _, _ = select.select([sys.stdin, *running], [], [])
    if sys.stdin in ready:
        break
    for ended in ready:
        name, process = running.pop(ended)
        print(name, process.wait(), flush=True)
for _, process in running.values():
    process.send_signal(signal.SIGINT)
for name, process in running.values():
    process.wait()
    print(name, 'interrupted', flush=True)
"""


def least(out, pictures, models):
    """Return the arguments with which each command does as little as it can."""
    bench = {
        'cell': ('--items', 2),
        'codec': ('--images', 4, '--data', pictures, '--models', models),
        'decision': ('--part', 'purity', '--belts', 1, '--stranger-belts', 1, '--splits', 1),
        'device': ('--items', 2, '--data', pictures / 'red'),
        'edge': ('--cells', 1, '--seconds', 1, '--record', 1),
        'faults': ('--items', 2),
        'line': ('--only', 'stop'),
        'network': ('--items', 2),
        'policy': ('--reference', out, '--items', 1000, '--sequences', 2),
        'security': (),
        'views': ('--items', 10, '--flood', 10),
    }
    assert set(bench) == set(BENCHMARKS)
    return {
        'train': ('train', pictures, '--out', out / 'train', '--from-scratch', '--threads', 1),
        **{name: ('bench', name, '--out', out / name, *rest) for name, rest in bench.items()},
    }


@pytest.mark.skipif(bool(why_no_namespace()), reason=why_no_namespace() or 'never')
def test_every_command_of_the_laboratory_keeps_to_itself(tmp_path):
    pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')
    home, out, logs = (tmp_path / name for name in ('home', 'out', 'logs'))
    for folder in (home, out, logs):
        folder.mkdir()
    labels = ('red', 'green', 'blue')
    make_tiny_model_folder(tmp_path / 'models', labels)
    tiny_pictures(tmp_path / 'pictures', labels, 90, 96)
    jobs = {
        name: [sys.executable, '-c', COMMAND, *map(str, words)]
        for name, words in least(out, tmp_path / 'pictures', tmp_path / 'models').items()
    }
    seen = sniff(
        [sys.executable, '-c', ALL_AT_ONCE, json.dumps(jobs), str(logs)],
        unprotected(home),
        SECONDS,
    )
    # What is short of a library of this machine's says so, and has sent nothing.
    said = {path.name: path.read_text() for path in logs.iterdir()}
    assert set(said) == set(jobs)
    failed = {name: text[-4000:] for name, text in said.items() if 'Traceback' in text}
    assert not failed, '\n'.join(failed.values())
    assert len(seen.output.splitlines()) == len(jobs), seen.output
    assert seen.packets == [], said
    assert traces(home) == []
