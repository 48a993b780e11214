# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Policy networks as ONNX files: written for the node, and read to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.history import HistoryFormat


def export(
    network: Iterable[torch.nn.Module],
    layout: HistoryFormat,
    knots: ArrayLike | None,
    path: Path,
    about: dict[str, Any] | None = None,
) -> None:
    """Write the network as ONNX, with what the node must know in its metadata.

    The input is called ``history``, the output ``worth``: the value of a token.

    Args:
        network: Linear layers with ReLU between them.
        layout: What the network sees.
        knots: Relative levels of the outputs; None is one output for each level.
        path: File to write.
        about: What it was trained for, and how.
    """
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
            'knots': json.dumps(
                None if knots is None else np.asarray(knots, dtype=float).tolist()
            ),
            'about': json.dumps(about or {}),
        },
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def load_weights(network: Iterable[torch.nn.Module], path: Path) -> None:
    """Start from the weights of an exported network.

    Args:
        network: Linear layers with ReLU between them, of the same shapes.
        path: The exported network.

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
