# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Changes a running cell through the life cycles and parameters of its nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.exceptions import InvalidHandle
from rclpy.parameter import Parameter, parameter_value_to_python

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.nodes.base.connected_node import ConnectedNode
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.qos import in_namespace
from stl_conveyor.panel.cell_values import cell_values, write_changed_cell
from stl_conveyor.panel.changes import Values
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.panel.recipes import Recipe, check_recipe

ANSWER_S = 10.0  # in which a node does what it is asked for
LOAD_S = 60.0  # in which a node is configured anew; models may have to be loaded
DRAIN_S = 10.0  # beside the way to the last diverter, for every item to get its outcome
LOOK_S = 0.05  # between two looks at what is under way
POLICY = ('policy', 'rate', 'depth')
CELL_FILE, MODELS = 'cell_file', 'models_dir'
# Classes in their order, and the folder that they are of.
Models = tuple[tuple[str, ...], Path | None]
NO_MODELS: Models = ((), None)
# The latter two are of paths that no file can have.
_UNREADABLE = (ConveyorError, ValueError, RuntimeError)
# Who reads the cell description or the models, with what each reads; the camera, which brings the
# items, is stopped first and comes back last.
READERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        'local_classifier': (CELL_FILE, MODELS),
        'offload_policy': (CELL_FILE, MODELS),
        'encoder': (CELL_FILE, MODELS),
        'edge_classifier': (MODELS,),
        'actuator': (CELL_FILE, MODELS),
        'cell_guard': (CELL_FILE,),
        'camera': (CELL_FILE,),
    }
)
FAR = ('edge_classifier',)  # may stand elsewhere, and serve several cells
# What is asked of the cell's nodes; nodes/base/topics.py allows it.
SERVICES: Mapping[str, type] = MappingProxyType(
    {
        'camera/change_state': ChangeState,
        'camera/get_state': GetState,
        'camera/get_parameters': GetParameters,
        'camera/set_parameters_atomically': SetParametersAtomically,
        'local_classifier/change_state': ChangeState,
        'local_classifier/get_parameters': GetParameters,
        'local_classifier/set_parameters_atomically': SetParametersAtomically,
        'offload_policy/change_state': ChangeState,
        'offload_policy/get_parameters': GetParameters,
        'offload_policy/set_parameters_atomically': SetParametersAtomically,
        'encoder/change_state': ChangeState,
        'encoder/get_parameters': GetParameters,
        'encoder/set_parameters_atomically': SetParametersAtomically,
        'edge_classifier/change_state': ChangeState,
        'edge_classifier/get_parameters': GetParameters,
        'edge_classifier/set_parameters_atomically': SetParametersAtomically,
        'actuator/change_state': ChangeState,
        'actuator/get_parameters': GetParameters,
        'actuator/set_parameters_atomically': SetParametersAtomically,
        'cell_guard/change_state': ChangeState,
        'cell_guard/get_parameters': GetParameters,
        'cell_guard/set_parameters_atomically': SetParametersAtomically,
    }
)


def open_client(node: ConnectedNode, name: str, cell: str) -> Client:
    """Return the client of a service of SERVICES, which closes with the node's activation.

    Args:
        cell: Namespace of the cell; empty: that of the node.
    """
    client: Client = node.create_client(SERVICES[name], in_namespace(name, cell))
    node.resources.callback(node.destroy_client, client)
    return client


def _description(recipe: Recipe) -> CellDescription:
    return CellDescription.load(configured_path(recipe.cell_file, 'config/cell.yaml'))


def take_recipe(
    live: LiveCell, recipe: Recipe, name: str, otherwise: Models = NO_MODELS
) -> dict[str, str]:
    """Have a cell be known by the recipe that it works with, as far as it can be read here.

    A description that cannot be read leaves the one that was shown.

    Args:
        live: What is known of the cell.
        recipe: With which it works.
        name: Of the recipe.
        otherwise: Classes and model folder where those of the recipe cannot be read. By the
            classes of other models its answers would have wrong names.

    Returns:
        What cannot be read, by parameter, and why.
    """
    description, (labels, models) = live.cell, otherwise
    troubles = {}
    try:
        description = _description(recipe)
    except _UNREADABLE as error:
        troubles[CELL_FILE] = str(error)
    try:
        folder = configured_path(recipe.models_dir, 'models/items')
        labels, models = ModelFolder(folder).labels, folder
    except _UNREADABLE as error:
        troubles[MODELS] = str(error)
    live.use(description, name, labels, models)
    return troubles


class NoAnswer(ConveyorError):
    """A node does not do what it was asked for; the message says which, and what."""


class CellControl:
    """Changes one cell. Its methods block, and must not be called by the node's executor.

    To pause, the camera is deactivated: no new item comes in, and every one under way gets its
    outcome. What passes the camera meanwhile is not sorted and falls into the reject bin, so the
    belt should stand; the guard says so on `safe_to_run`.

    Cell description and models are changed at an item boundary: the camera pauses, what is under
    way gets its outcome, the nodes read the new files, and the camera goes on.
    """

    def __init__(
        self,
        node: ConnectedNode,
        cell: str,
        *,
        live: LiveCell | None = None,
        recipes: Mapping[str, Recipe] = MappingProxyType({}),
        folder: Path | None = None,
    ) -> None:
        """Open the services of the cell's nodes.

        Args:
            node: It closes them with its activation.
            cell: Namespace of the cell; empty: that of the node.
            live: What is known of the cell, which gets to know a new description.
            recipes: By their names.
            folder: Into which changed cell descriptions are written; None: they are not changed.
        """
        self._live = live
        self._recipes = dict(recipes)
        self._seen: dict[str, Recipe] = {}  # that held without a name, to come back to
        self._folder = folder
        self._clients: dict[str, Client] = {}
        for name in SERVICES:
            self._clients[name] = open_client(node, name, cell)

    def values(self) -> Values:
        """Return what holds now.

        Raises:
            NoAnswer: If a node does not say.
        """
        running = self._is_running()
        given = self._parameters('offload_policy', (*POLICY, CELL_FILE, MODELS))
        recipe = Recipe(given.pop(CELL_FILE), given.pop(MODELS))
        return {
            'running': running,
            **given,
            'recipe': self._name_of(recipe),
            'cell_values': cell_values(_description(recipe)),
        }

    def apply(self, values: Values) -> None:
        """Have it so.

        Raises:
            NoAnswer: If a node does not do it; what held before is put back.
            ConfigError: If a recipe is not known, or cannot be used.
        """
        if 'running' in values:
            self._run(bool(values['running']))
        policy = {name: values[name] for name in POLICY if name in values}
        if policy:
            before = self.values()
            try:
                self._set_policy(policy)
            except NoAnswer:
                self._set_policy({name: before[name] for name in policy})
                raise
        if 'recipe' in values:
            self._use(self._recipe(values['recipe']))
        if 'cell_values' in values:
            self._use(self._changed(values['cell_values']))

    @property
    def recipes(self) -> tuple[str, ...]:
        """Return the names of the recipes."""
        return tuple(self._recipes)

    # Cell description and models.

    def _use(self, recipe: Recipe) -> None:
        """Have every node read another cell description and other models."""
        check_recipe(recipe)
        _description(recipe)
        before: dict[str, dict[str, Any]] = {}
        for name, wanted in READERS.items():
            if name in FAR and not self._is_there(name):
                continue
            before[name] = self._parameters(name, wanted)
        new = {CELL_FILE: recipe.cell_file, MODELS: recipe.models_dir}
        ran = self._is_running()
        if ran:
            self._run(False)
        try:
            self._drain()
            try:
                for name, old in before.items():
                    self._renew(name, {key: new[key] for key in old}, starts=name != 'camera')
            except NoAnswer:
                for name, old in before.items():
                    self._renew(name, old, starts=name != 'camera')
                raise
        finally:
            if ran:
                self._run(True)
        if self._live is not None:
            take_recipe(self._live, recipe, self._name_of(recipe))

    def _holds(self) -> Recipe:
        return Recipe(*self._parameters('offload_policy', (CELL_FILE, MODELS)).values())

    def _recipe(self, name: str) -> Recipe:
        known = {**self._seen, **self._recipes}
        if name not in known:
            raise ConfigError(
                f'recipe {name!r}: there is none; there are '
                + (', '.join(self._recipes) or 'none at all')
            )
        return known[name]

    def _changed(self, values: Any) -> Recipe:
        """Return a recipe like the one that holds, with a cell description of other values."""
        if self._folder is None:
            raise ConfigError('cell_values: there is no folder for cell descriptions')
        now = self._holds()
        source = configured_path(now.cell_file, 'config/cell.yaml')
        path = write_changed_cell(source, values, self._folder, datetime.now())
        return Recipe(str(path), now.models_dir)

    def _drain(self) -> None:
        """Wait until every item that was captured has its outcome."""
        if self._live is None:
            return
        cell = self._live.cell
        way = max(lane.diverter_x for lane in cell.lanes) - cell.camera.x
        end = time.monotonic() + DRAIN_S + way / cell.belt.speed
        pause = threading.Event()
        while under_way := self._live.under_way():
            if time.monotonic() > end:
                raise NoAnswer(
                    f'actuator: {under_way} items have no outcome yet, so nothing was changed; '
                    'see what it reports'
                )
            pause.wait(LOOK_S)

    def _renew(self, name: str, values: Mapping[str, Any], *, starts: bool) -> None:
        """Take a node out of work, give it other parameters, and bring it back."""
        self._change(
            name, [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP], tolerant=True
        )
        try:
            self._set_parameters(name, values)
        finally:
            steps = [Transition.TRANSITION_CONFIGURE]
            self._change(name, steps + [Transition.TRANSITION_ACTIVATE] * starts)

    def _name_of(self, recipe: Recipe) -> str:
        """Return the name of a recipe; that of its cell description where it has none."""
        name = recipe.name_among(self._recipes)
        if name not in self._recipes:
            self._seen[name] = recipe
        return name

    # Steps.

    def _is_running(self) -> bool:
        state = self._ask('camera', 'get_state', GetState.Request()).current_state
        return bool(state.id == State.PRIMARY_STATE_ACTIVE)

    def _run(self, running: bool) -> None:
        if self._is_running() != running:
            self._change(
                'camera',
                [Transition.TRANSITION_ACTIVATE if running else Transition.TRANSITION_DEACTIVATE],
            )

    def _set_policy(self, policy: dict[str, Any]) -> None:
        self._renew('offload_policy', policy, starts=True)

    def _parameters(self, name: str, wanted: Sequence[str]) -> dict[str, Any]:
        request = GetParameters.Request(names=list(wanted))
        given = self._ask(name, 'get_parameters', request).values
        return {key: parameter_value_to_python(value) for key, value in zip(wanted, given)}

    def _set_parameters(self, name: str, values: Mapping[str, Any]) -> None:
        parameters = [Parameter(key, value=value) for key, value in values.items()]
        request = SetParametersAtomically.Request(
            parameters=[parameter.to_parameter_msg() for parameter in parameters]
        )
        result = self._ask(name, 'set_parameters_atomically', request).result
        if not result.successful:
            raise NoAnswer(f'{name}: {result.reason}')

    def _change(self, name: str, steps: Sequence[int], *, tolerant: bool = False) -> None:
        for step in steps:
            request = ChangeState.Request(transition=Transition(id=step))
            done = self._ask(name, 'change_state', request, LOAD_S).success
            if not done and not tolerant:
                raise NoAnswer(f'{name}: it did not change its state; see what it reports')

    def _is_there(self, name: str) -> bool:
        return bool(self._clients[f'{name}/get_parameters'].service_is_ready())

    def _ask(self, name: str, service: str, request: Any, patience: float | None = None) -> Any:
        client = self._clients[f'{name}/{service}']
        try:
            there = client.wait_for_service(timeout_sec=ANSWER_S)
        except InvalidHandle as error:
            raise NoAnswer(f'{name}: who asks has ended meanwhile') from error
        if not there:
            raise NoAnswer(f'{name}: it is not there')
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        patience = ANSWER_S if patience is None else patience
        if not answered.wait(patience):
            client.remove_pending_request(future)
            raise NoAnswer(f'{name}: it did not answer within {patience:.0f} s')
        return future.result()
