# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Changes a running cell through the life cycles and parameters of its nodes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.parameter import Parameter, parameter_value_to_python

from stl_conveyor.errors import ConveyorError
from stl_conveyor.nodes.base.connected_node import ConnectedNode
from stl_conveyor.nodes.base.qos import in_namespace
from stl_conveyor.panel.changes import Values

ANSWER_S = 10.0  # in which a node does what it is asked for; a model may have to be loaded
POLICY = ('policy', 'rate', 'depth')
# What is asked of the cell's nodes; nodes/base/topics.py allows it.
SERVICES: Mapping[str, type] = MappingProxyType(
    {
        'camera/change_state': ChangeState,
        'camera/get_state': GetState,
        'offload_policy/change_state': ChangeState,
        'offload_policy/get_parameters': GetParameters,
        'offload_policy/set_parameters_atomically': SetParametersAtomically,
    }
)


class NoAnswer(ConveyorError):
    """A node does not do what it was asked for; the message says which, and what."""


class CellControl:
    """Changes one cell. Its methods block, and must not be called by the node's executor.

    To pause, the camera is deactivated: no new item comes in, and every one under way gets its
    outcome. What passes the camera meanwhile is not sorted and falls into the reject bin, so the
    belt should stand; the guard says so on `safe_to_run`.
    """

    def __init__(self, node: ConnectedNode, cell: str) -> None:
        """Open the services of camera and offload_policy.

        Args:
            node: It closes them with its activation.
            cell: Namespace of the cell; empty: that of the node.
        """
        self._clients: dict[str, Client] = {}
        for name, kind in SERVICES.items():
            client: Client = node.create_client(kind, in_namespace(name, cell))
            node.resources.callback(node.destroy_client, client)
            self._clients[name] = client

    def values(self) -> Values:
        """Return what holds now.

        Raises:
            NoAnswer: If a node does not say.
        """
        state = self._ask('camera', 'get_state', GetState.Request()).current_state
        request = GetParameters.Request(names=list(POLICY))
        given = self._ask('offload_policy', 'get_parameters', request).values
        values = {name: parameter_value_to_python(value) for name, value in zip(POLICY, given)}
        return {'running': state.id == State.PRIMARY_STATE_ACTIVE, **values}

    def apply(self, values: Values) -> None:
        """Have it so.

        Raises:
            NoAnswer: If a node does not do it; of the policy, what held before is put back.
        """
        if 'running' in values:
            active = self.values()['running']
            if active != values['running']:
                step = (
                    Transition.TRANSITION_DEACTIVATE if active else Transition.TRANSITION_ACTIVATE
                )
                self._change('camera', [step])
        policy = {name: values[name] for name in POLICY if name in values}
        if policy:
            before = self.values()
            try:
                self._set_policy(policy)
            except NoAnswer:
                self._set_policy({name: before[name] for name in policy})
                raise

    def _set_policy(self, policy: dict[str, Any]) -> None:
        self._change(
            'offload_policy',
            [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP],
            tolerant=True,
        )
        try:
            parameters = [Parameter(name, value=value) for name, value in policy.items()]
            request = SetParametersAtomically.Request(
                parameters=[parameter.to_parameter_msg() for parameter in parameters]
            )
            result = self._ask('offload_policy', 'set_parameters_atomically', request).result
            if not result.successful:
                raise NoAnswer(f'offload_policy: {result.reason}')
        finally:
            # With what it has by now: an item must not wait for a person.
            self._change(
                'offload_policy', [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE]
            )

    def _change(self, name: str, steps: Sequence[int], *, tolerant: bool = False) -> None:
        for step in steps:
            request = ChangeState.Request(transition=Transition(id=step))
            done = self._ask(name, 'change_state', request).success
            if not done and not tolerant:
                raise NoAnswer(f'{name}: it did not change its state; see what it reports')

    def _ask(self, name: str, service: str, request: Any) -> Any:
        client = self._clients[f'{name}/{service}']
        if not client.wait_for_service(timeout_sec=ANSWER_S):
            raise NoAnswer(f'{name}: it is not there')
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(ANSWER_S):
            client.remove_pending_request(future)
            raise NoAnswer(f'{name}: it did not answer within {ANSWER_S:.0f} s')
        return future.result()
