# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Write trained networks as ONNX files that onnxruntime alone can run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 17
SMALL = 512  # constants up to this many values stay in single precision


def export_onnx(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    path: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> None:
    """Export a module in evaluation mode; axis 0 of every input and output is the batch.

    Weights are stored in half precision and turned into single precision when the file is
    loaded, which halves its size; the arithmetic stays single precision.
    """
    module.eval()
    axes = {name: {0: 'N'} for name in (*input_names, *output_names)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module,
            tuple(example_inputs),
            str(path),
            dynamo=False,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    halve_weights(path)


def halve_weights(path: str | Path) -> None:
    """Store the large float32 constants of an ONNX file as float16 behind a Cast."""
    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) <= SMALL:
            continue
        name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f'{name}_half'))
        casts.append(
            helper.make_node('Cast', [f'{name}_half'], [name], name=name, to=TensorProto.FLOAT)
        )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString())


def count_macs(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> int:
    """Return the multiply-accumulates of convolutions and linear layers for the inputs given."""
    total, hooks = 0, []

    def count(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.ConvTranspose2d):
            total += inputs[0][0].numel() * layer.weight[0].numel()
        elif isinstance(layer, torch.nn.Conv2d):
            total += output[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        module(*example_inputs)
    for hook in hooks:
        hook.remove()
    return total
