# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Learn with which cell description and models a cell works, whoever changed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future

from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.connected_node import ConnectedNode
from stl_conveyor.nodes.panel.cell_control import (
    CELL_FILE,
    MODELS,
    NO_MODELS,
    Models,
    open_client,
    take_recipe,
)
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.panel.recipes import Recipe

ASKED = 'offload_policy/get_parameters'  # which reads both
LOOK_S = 5.0  # between two looks at a cell that answers
TRY_S = 1.0  # between two tries until it does
PATIENCE_S = 10.0  # after which an answer is not awaited any more


@dataclass(eq=False)
class _Cell:
    """A cell, and what it said last."""

    live: LiveCell
    client: Client
    own: Models  # with which this node began, for want of the cell's
    holds: Recipe | None = None  # None: it did not say yet
    first: Recipe | None = None
    troubles: dict[str, str] = field(default_factory=dict)
    asked: Future[Any] | None = None
    waited_s: float = 0.0


class RecipeWatch:
    """Asks each cell now and then what it works with, and has its `LiveCell` know it.

    Another page, the plant or `ros2 param set` may change that, and cells of one page may differ.
    What cannot be read on this machine is a fault of the node, `recipe`.
    """

    def __init__(
        self,
        node: ConnectedNode,
        cells: Sequence[tuple[str, LiveCell]],
        recipes: Mapping[str, Recipe] = MappingProxyType({}),
        *,
        models: bool = False,
    ) -> None:
        """Ask until the node is deactivated.

        Args:
            node: That asks.
            cells: Namespace and what is known of each cell; an empty one is that of the node.
            recipes: By their names.
            models: Whether it matters that the models can be read here.
        """
        self._node, self._recipes, self._models = node, recipes, models
        self._cells = [
            _Cell(live, open_client(node, ASKED, cell), (live.labels, live.models))
            for cell, live in cells
        ]
        self._taking = node.guarded(self._take)
        node.every(TRY_S, self._look)
        node.resources.callback(self._cells.clear)

    def _look(self) -> None:
        for cell in self._cells:
            cell.waited_s += TRY_S
            if cell.asked is not None and cell.waited_s >= PATIENCE_S:
                cell.client.remove_pending_request(cell.asked)
                cell.asked = None
            due = cell.holds is None or cell.waited_s >= LOOK_S
            if cell.asked is None and due and cell.client.service_is_ready():
                cell.waited_s = 0.0
                cell.asked = cell.client.call_async(
                    GetParameters.Request(names=[CELL_FILE, MODELS])
                )
                cell.asked.add_done_callback(partial(self._taking, cell))

    def _take(self, cell: _Cell, answer: Future[Any]) -> None:
        if cell.asked is not answer or cell not in self._cells:
            return
        cell.asked = None
        response = answer.result()
        given = [] if response is None else list(map(parameter_value_to_python, response.values))
        texts = [text for text in given if isinstance(text, str)]
        if len(given) != 2 or len(texts) != 2:
            return  # no node of ours answers so
        recipe = Recipe(*texts)
        cell.first = cell.first or recipe
        # What could not be read may be there by now.
        if recipe != cell.holds or cell.troubles:
            cell.holds = recipe
            troubles = take_recipe(
                cell.live,
                recipe,
                recipe.name_among(self._recipes),
                # Where the same models lie elsewhere on this machine, as its parameters say.
                cell.own if recipe.models_dir == cell.first.models_dir else NO_MODELS,
            )
            cell.troubles = {
                name: text for name, text in troubles.items() if self._models or name == CELL_FILE
            }
            self._report()

    def _report(self) -> None:
        texts = [
            f'{cell.live.name} {name}: {text}'.strip()
            for cell in self._cells
            for name, text in cell.troubles.items()
        ]
        if texts:
            self._node.set_condition(
                'recipe',
                Level.WARN,
                'what a cell works with cannot be read here, and what was known before is shown: '
                f'{"; ".join(texts)}. Lay the same files at the same place on this machine',
            )
        else:
            self._node.clear_condition('recipe', 'what the cell works with can be read here')
