# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What all trainings of offloading policies share: task, network, input, export.

The network answers, from the history h of metrics (and inter-arrival times), the worth of a
token at every bucket level at once:

    w(h, n) = E[V(h', n') - V(h', n'') | h],   n' after keeping the token, n'' after spending it

which is the difference of the two Q-values of the published DQN (Qiu et al., "Adaptive Edge
Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022): offload when x >= w.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import HistoryFormat, RewardScale
from stl_conveyor_lab.papers.histories import HistoryArrays, history_of
from stl_conveyor_lab.papers.scenarios import Scenario, Sequences


@dataclass(frozen=True, eq=False)
class Task:
    """One bucket in one scenario; pool [K] are the metrics of the items, sorted."""

    scenario: Scenario
    rate: Fraction
    depth: Fraction
    pool: np.ndarray


def make_network(inputs: int, outputs: int, width: int, depth: int) -> torch.nn.Sequential:
    """Make the MLP: ``depth`` hidden layers of ``width`` ReLU units."""
    layers = []
    for _ in range(depth):
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU()]
        inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))


class Windows:
    """Histories of many sequences as batches of network input."""

    def __init__(self, arrays: HistoryArrays, constants: np.ndarray, window: int):
        self._series = torch.from_numpy(arrays.series).unfold(1, window, 1)
        self._gaps = None
        if arrays.intervals is not None:
            self._gaps = torch.from_numpy(arrays.intervals).unfold(1, window, 1)
        self._others = torch.from_numpy(arrays.others)
        self._constants = torch.from_numpy(constants)

    def __call__(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Input [B, size] of items t [B] of sequences s [B]."""
        parts = [self._series[s, t]]
        if self._gaps is not None:
            parts.append(self._gaps[s, t])
        parts.append(self._others[s, t])
        parts.append(self._constants.expand(len(s), -1))
        return torch.cat(parts, dim=1)


def worth_of(
    network: torch.nn.Module,
    windows: Windows,
    n_sequences: int,
    n_items: int,
    positions: np.ndarray,
    chunk: int = 16384,
) -> np.ndarray:
    """Worth of a token at every item and level, float32 [S, T, levels]."""
    result = np.empty((n_sequences * n_items, len(positions)), dtype=np.float32)
    read = torch.from_numpy(positions.T.copy())
    with torch.no_grad():
        for start in range(0, len(result), chunk):
            place = torch.arange(start, min(start + chunk, len(result)))
            s, t = torch.div(place, n_items, rounding_mode='floor'), place % n_items
            result[start : start + len(place)] = (network(windows(s, t)) @ read).numpy()
    return result.reshape(n_sequences, n_items, -1)


def windows_of(sequences: Sequences, layout: HistoryFormat, task: Task) -> Windows:
    """Lay out sequences of a task as network input."""
    scale = RewardScale(Distribution.of(task.pool))
    constants = layout.constants(scale, task.rate, task.depth)
    return Windows(history_of(sequences, layout, scale), constants, layout.window)


def unit_of(task: Task, layout: HistoryFormat) -> float:
    """Return what the network's outputs are multiplied by to give metrics."""
    return RewardScale(Distribution.of(task.pool)).unit if layout.universal else 1.0


def export(
    network: torch.nn.Module,
    layout: HistoryFormat,
    knots: np.ndarray | None,
    path: Path,
    about: dict | None = None,
) -> None:
    """Write the network as ONNX, with what the node must know in its metadata."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, name = [], [], 'history'
    linear = [module for module in network if isinstance(module, torch.nn.Linear)]
    for place, layer in enumerate(linear):
        for part, tensor in (('weight', layer.weight), ('bias', layer.bias)):
            weights.append(
                numpy_helper.from_array(
                    tensor.detach().numpy().astype(np.float32), f'{part}{place}'
                )
            )
        out = 'worth' if place == len(linear) - 1 else f'sum{place}'
        nodes.append(
            helper.make_node('Gemm', [name, f'weight{place}', f'bias{place}'], [out], transB=1)
        )
        name = out
        if place < len(linear) - 1:
            nodes.append(helper.make_node('Relu', [out], [f'relu{place}']))
            name = f'relu{place}'
    graph = helper.make_graph(
        nodes,
        'worth_of_a_token',
        [helper.make_tensor_value_info('history', TensorProto.FLOAT, ['N', layout.size])],
        [
            helper.make_tensor_value_info(
                'worth', TensorProto.FLOAT, ['N', linear[-1].out_features]
            )
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    helper.set_model_props(
        model,
        {
            'layout': json.dumps(asdict(layout)),
            'knots': json.dumps(None if knots is None else [float(k) for k in knots]),
            'about': json.dumps(about or {}),
        },
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Start from the weights of an exported network.

    Raises:
        ConfigError: For a file that is no network of this shape.
    """
    import onnx
    from onnx import numpy_helper

    try:
        arrays = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in onnx.load(str(path)).graph.initializer
        }
        linear = [module for module in network if isinstance(module, torch.nn.Linear)]
        for place, layer in enumerate(linear):
            layer.load_state_dict(
                {'weight': arrays[f'weight{place}'], 'bias': arrays[f'bias{place}']}
            )
    except Exception as error:  # of ONNX or of torch: neither has a family of its own
        raise ConfigError(
            f'{path} cannot be the start of this network ({error}); give an .onnx file of the '
            'same layout and size'
        ) from error


def load_metrics(path: Path) -> np.ndarray:
    """Read the column "metric" of a CSV file, sorted.

    Raises:
        ConfigError: When there is no such file or column.
    """
    try:
        header, *lines = path.read_text(encoding='utf-8').splitlines()
        column = header.split(',').index('metric')
        return np.sort(np.loadtxt(lines, delimiter=',', usecols=column, ndmin=1))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{path} is no table of metrics ({error}); give a CSV file with a column "metric"'
        ) from error
