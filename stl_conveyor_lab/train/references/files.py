# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Put a trained reference codec into a reference folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from stl_conveyor_lab.references.trained import TrainedCode
from stl_conveyor_lab.train.manifest import register_model
from stl_conveyor_lab.train.onnx_export import export_onnx

#: A module with example inputs, the names of its inputs and those of its outputs.
Network = tuple[nn.Module, Sequence[Tensor], Sequence[str], Sequence[str]]


def write_reference(
    references: Path,
    role: str,
    encoder: Network,
    decoder: Network,
    code: TrainedCode,
    labels: Sequence[str],
) -> None:
    """Write the three files of a codec and enter them into the folder's manifest.

    Args:
        references: The reference folder, which is made if it is not there.
        role: Of the codec.
        encoder: The network of the sender.
        decoder: The network of the receiver.
        code: What both share besides the networks.
        labels: The classes of the models to compare with.
    """
    references = Path(references)
    references.mkdir(parents=True, exist_ok=True)
    files = {'code': references / f'{role}.code.json'}
    code.save(files['code'])
    for kind, (module, examples, inputs, outputs) in (('encoder', encoder), ('decoder', decoder)):
        files[kind] = references / f'{role}.{kind}.onnx'
        export_onnx(module, examples, files[kind], inputs, outputs)
    for kind, path in files.items():
        register_model(references, f'{role}_{kind}', path, labels, code.image_size, 'references')
