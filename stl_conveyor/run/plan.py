# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which nodes a run starts, each as a process with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.calibration.parameter_file import set_cell_values
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.nodes.base.topics import COMPOSED, node_module
from stl_conveyor.resources import share_path, writing
from stl_conveyor.run.faults import Fault, with_other_codec
from stl_conveyor.run.processes import ProcessPlan
from stl_conveyor.run.settings import (
    CELL,
    DEVICE_PROCESS,
    GUARD,
    NODES,
    SIMULATOR,
    RunSettings,
    Sources,
    parse_override,
)
from stl_conveyor.sim.arrivals import ArrivalSettings, ItemPlan, plan_items

# Who must have found whom before the belt starts: readers of each topic, the monitor included.
READERS = {
    SIMULATOR: {'camera/image_raw': 1, 'item_truth': 1},
    'camera': {'capture': 5},
    'local_classifier': {'classification': 4},
    'offload_policy': {'offload_decision': 3, 'token_bucket': 1},
    'encoder': {'features_tx': 1, 'transfer': 2},
    'link_emulator': {'features_rx': 1, 'feedback_rx': 2, 'edge_classification': 2},
    'edge_classifier': {'feedback_tx': 1, 'edge_classification_tx': 1},
    'actuator': {'sort_outcome': 3},
}
_SHIPPED = share_path('config/sim.yaml')


@dataclass(frozen=True)
class Deployment:
    """Which nodes a run starts, where each runs, and how it is known that they are ready.

    Attributes:
        readers: Node → topic → how many must listen before the belt starts.
        remappings: Node → topic names, old → new.
        prefixes: Node → command that runs its process.
        environments: Node → variables of its process.
        out_of_sight: Nodes whose reports do not reach the monitor; that the edge among them is
            ready is known from offload_policy.
        is_settled: Whether what the run depends on beside its nodes is ready, too.
        composed: Those of the nodes that are one process; empty: each has its own.
    """

    nodes: tuple[str, ...] = (SIMULATOR, *NODES)
    readers: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: READERS)
    remappings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    out_of_sight: tuple[str, ...] = ()
    is_settled: Callable[[], bool] = lambda: True
    composed: tuple[str, ...] = COMPOSED

    def apart(self) -> Deployment:
        """Return the same with a process for each node."""
        return replace(self, composed=())

    def process_of(self, node: str) -> str:
        """Return the name of the process that a node runs in."""
        return DEVICE_PROCESS if node in self.composed else node

    def process_plans(
        self, parameters: Mapping[str, Mapping[str, object]]
    ) -> tuple[ProcessPlan, ...]:
        """Return how to start the nodes.

        Args:
            parameters: Node → what differs from the shipped parameter file.
        """
        together = tuple(node for node in self.nodes if node in self.composed)
        plans = [
            self._at_its_place(node, process_plan(node, parameters.get(node, {})))
            for node in self.nodes
            if node not in together
        ]
        if together:
            plan = composed_plan({node: parameters.get(node, {}) for node in together})
            # They are on one machine, with the same names for the same things. They have most to
            # do before they are ready.
            plans.insert(0, self._at_its_place(together[0], plan))
        return tuple(plans)

    def _at_its_place(self, node: str, plan: ProcessPlan) -> ProcessPlan:
        words = [
            word
            for old, new in self.remappings.get(node, {}).items()
            for word in ('-r', f'{old}:={new}')
        ]
        return replace(
            plan,
            arguments=(*plan.arguments, *words),
            prefix=self.prefixes.get(node, ()),
            environment=self.environments.get(node, {}),
        )


def items_of(settings: RunSettings, cell: CellDescription) -> tuple[ItemPlan, ...]:
    """Return the items of a run, in the order in which they arrive."""
    return plan_items(
        settings.items,
        settings.seed,
        cell.classes,
        ArrivalSettings(process=settings.arrivals, foreign_share=settings.foreign_share),
    )


def node_arguments(
    settings: RunSettings, sources: Sources, fault: Fault
) -> dict[str, dict[str, object]]:
    """Return the parameters of every node by its name."""
    overrides = [parse_override(override) for override in settings.overrides]
    shared = {name: value for node, name, value in overrides if node == CELL}
    models = {'models_dir': str(sources.models)}
    cell = {'cell_file': str(changed_cell(sources, shared) if shared else sources.cell)}
    edge_models = sources.models
    if fault.other_codec:
        edge_models = with_other_codec(sources.models, sources.out / 'logs' / 'other_codec')
    arrivals = ArrivalSettings(process=settings.arrivals)
    intervals = {
        'markov': tuple(float(i) for i in arrivals.intervals),
        'poisson': _geometric_quantiles(arrivals.mean_interval),
    }.get(settings.arrivals, (float(arrivals.period),))
    parameters: dict[str, dict[str, object]] = {
        SIMULATOR: {
            **cell,
            'items': settings.items,
            'seed': settings.seed,
            'arrivals': settings.arrivals,
            'foreign_share': settings.foreign_share,
            'time_unit': settings.time_unit,
            'belt_running': False,
            'log_path': str(sources.camera_log),
        },
        'camera': {**cell, 'journal': str(sources.out / 'logs' / 'camera.journal')},
        'local_classifier': {**cell, **models},
        'offload_policy': {
            **cell,
            **models,
            'policy': settings.policy,
            'rate': settings.rate,
            'depth': settings.bucket,
            'time_unit': settings.time_unit,
            'intervals': intervals,
            'seed': settings.seed,
        },
        'encoder': {**cell, **models},
        'link_emulator': {
            **cell,
            'link': settings.link,
            'seed': settings.seed,
            'log_path': str(sources.link_log),
        },
        'edge_classifier': {'models_dir': str(edge_models)},
        'actuator': {**cell, **models, 'journal': str(sources.out / 'logs' / 'actuator.journal')},
        GUARD: {**cell},
    }
    for node, name, value in overrides:
        if node != CELL:
            parameters[node][name] = value
    return parameters


def changed_cell(sources: Sources, shared: Mapping[str, Any]) -> Path:
    """Write the cell description with other shared values into the logs; return its path.

    Raises:
        ConfigError: If a value cannot be.
    """
    path = sources.out / 'logs' / 'cell.yaml'
    with writing(path):
        path.write_text(sources.cell.read_text(encoding='utf-8'), encoding='utf-8')
    set_cell_values(path, shared)
    return path


def _geometric_quantiles(mean: float, count: int = 20) -> tuple[float, ...]:
    """Return equally likely values that stand for geometric intervals with a mean."""
    shares = (np.arange(count) + 0.5) / count
    if mean == 1:
        return (1.0,)
    return tuple(float(v) for v in np.ceil(np.log(1 - shares) / np.log(1 - 1 / mean)))


def process_plan(
    node: str, parameters: Mapping[str, object], params_file: Path | None = None
) -> ProcessPlan:
    """Return how to start a node with a parameter file and what differs from it.

    Args:
        params_file: None: the shipped one of the simulated cell.
    """
    words = _words(params_file or _SHIPPED, parameters)
    return ProcessPlan(node, ('-m', node_module(node), *words), may_fork=True)


def composed_plan(parameters: Mapping[str, Mapping[str, object]]) -> ProcessPlan:
    """Return how to start nodes of the device as one process; `parameters` is by node.

    What runs the cell starts it again when it crashes, and counts that.
    """
    own = {
        f'{node}:{name}': value
        for node, given in parameters.items()
        for name, value in given.items()
    }
    return ProcessPlan(
        DEVICE_PROCESS,
        (
            '-m',
            'stl_conveyor.nodes.device.device',
            '--no-respawn',
            '--nodes',
            *parameters,
            *_words(_SHIPPED, own),
        ),
        may_fork=True,
    )


def _words(params_file: Path, parameters: Mapping[str, object]) -> list[str]:
    """Return a parameter file, and what differs from it, as ROS takes them on a command line."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return '[' + ', '.join(map(text, value)) + ']'
        quoted = str(value).replace("'", "''")
        return repr(value) if isinstance(value, (int, float)) else f"'{quoted}'"

    arguments = ['--ros-args', '--params-file', str(params_file)]
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={text(value)}']
    return arguments
