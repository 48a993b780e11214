# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Write codec and edge network into a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor_lab.train.codec.edge_network import EDGE_INPUTS, EdgeNetwork
from stl_conveyor_lab.train.manifest import register_model
from stl_conveyor_lab.train.onnx_export import export_onnx


def edge_example(spec: CodecSpec) -> list[Tensor]:
    """Return inputs of the edge's network for one image: latents, bytes, side, has_side."""
    labels = spec.labels
    return [
        torch.zeros(1, spec.channels, spec.grid, spec.grid),
        torch.full((1,), 100.0),
        torch.full((1, labels), 1 / labels),
        torch.ones(1),
    ]


def export_codec(
    spec: CodecSpec, network: EdgeNetwork, models: Path, labels: Sequence[str], name: str | None
) -> None:
    """Write `encoder.npz` and `edge.onnx`, and enter both into the folder's manifest.

    Args:
        spec: The codec.
        network: Reads its latents.
        models: The model folder, which is there.
        labels: The classes.
        name: Of the set of models; None keeps the one that the manifest has.
    """
    spec.save(models / 'encoder.npz')
    export_onnx(network, edge_example(spec), models / 'edge.onnx', EDGE_INPUTS, ['probabilities'])
    for role, file in (('encoder', 'encoder.npz'), ('edge', 'edge.onnx')):
        register_model(models, role, models / file, labels, spec.image_size, name)
