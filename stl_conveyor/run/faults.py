# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in a run on request, and when."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import writing

# Processes of a run that `NAME_killed` can kill.
KILLABLE = (
    'edge',
    'camera',
    'local_classifier',
    'offload_policy',
    'encoder',
    'link_emulator',
    'actuator',
    'cell_guard',
    'device',
)
_PROCESS = {'edge': 'edge_classifier'}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong between two moments of a run.

    Attributes:
        name: As given on the command line.
        begin: Part of the items that have been shown to the camera when it begins.
        end: When it ends; 1 = never.
        link: Parameters of link_emulator while it lasts.
        kill: Process that is killed at the beginning and started again at the end.
        other_codec: Whether the edge has another codec than the device, all the time.
    """

    name: str
    begin: float = 0.3
    end: float = 0.6
    link: Mapping[str, object] = field(default_factory=dict)
    kill: str = ''
    other_codec: bool = False


@dataclass(frozen=True)
class FaultStep:
    """What is done to the cell at a moment of the run.

    Attributes:
        share: Part of the items that have been shown to the camera by then.
        text: What a person is told about it.
        kill: The process that is killed, if any.
        restart: The process that is started again, if any.
        link: Parameters that link_emulator gets.
    """

    share: float
    text: str
    kill: str = ''
    restart: str = ''
    link: Mapping[str, object] = field(default_factory=dict)


_FAULTS = (
    Fault('none'),
    Fault('outage', link={'outage': True}),
    Fault('loss30', 0.1, 0.9, {'loss': 0.3}),
    Fault('burst_loss', 0.1, 0.9, {'burst_begin': 0.1, 'burst_end': 0.2}),
    Fault('reorder', 0.1, 0.9, {'reorder': 0.3}),
    Fault('duplicate', 0.1, 0.9, {'duplicate': 0.5}),
    Fault('corrupt', 0.1, 0.9, {'corrupt': 0.3}),
    Fault('jamming', link={'link': 'heavy'}),
    Fault('codec_mismatch', other_codec=True),
)


def fault_names() -> str:
    """Return all names as a text for people."""
    return ', '.join([f.name for f in _FAULTS] + [f'{name}_killed' for name in KILLABLE])


def named_fault(name: str) -> Fault:
    """Return a fault.

    Raises:
        ConfigError: If there is none of that name.
    """
    for fault in _FAULTS:
        if fault.name == name:
            return fault
    process = name[: -len('_killed')]
    if name.endswith('_killed') and process in KILLABLE:
        return Fault(name, 0.3, 0.5, kill=_PROCESS.get(process, process))
    raise ConfigError(f"fault '{name}' is unknown: choose one of {fault_names()}")


def fault_steps(fault: Fault, link: Mapping[str, object]) -> list[FaultStep]:
    """Return what a fault does to the cell, in the order of time.

    Args:
        fault: What goes wrong.
        link: The parameters of link_emulator without the fault.
    """
    if fault.kill:
        return [
            FaultStep(fault.begin, f'fault: {fault.kill} killed', kill=fault.kill),
            FaultStep(fault.end, f'fault over: {fault.kill} started again', restart=fault.kill),
        ]
    if fault.link:
        before = {name: link[name] for name in fault.link}
        return [
            FaultStep(fault.begin, f'fault: {fault.name}', link=fault.link),
            FaultStep(fault.end, f'fault over: {fault.name}', link=before),
        ]
    return []


def with_other_codec(models: Path, folder: Path) -> Path:
    """Copy a model folder and change the identity of its codec and nothing else.

    Args:
        models: The folder to copy.
        folder: Where the copy goes; what is there is replaced.

    Returns:
        The copy.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models, folder)
    path = folder / 'manifest.json'
    manifest = json.loads(path.read_text(encoding='utf-8'))
    entry = manifest['files']['edge']
    with writing(folder / entry['path']), open(folder / entry['path'], 'ab') as file:
        file.write(_NOTE)
    entry['sha256'] = hashlib.sha256((folder / entry['path']).read_bytes()).hexdigest()
    with writing(path):
        path.write_text(json.dumps(manifest, indent=1), encoding='utf-8')
    return folder


# An ONNX file is a protobuf ModelProto; this is its field 6, doc_string. The graph is the same.
_NOTE_TEXT = b'another codec'
_NOTE = bytes([6 << 3 | 2, len(_NOTE_TEXT)]) + _NOTE_TEXT
