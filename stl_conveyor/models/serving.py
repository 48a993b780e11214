# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's network as an inference server takes it: a model repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import make_session, read_model
from stl_conveyor.models.graph_outputs import with_outputs
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.models.open_inference import served_name

#: Most items that a server computes at once.
LARGEST_BATCH = 16
#: For which (microseconds) a server may hold an item back, to compute more of them at once.
QUEUE_DELAY_US = 1000

_MLSERVER_RUNTIME = '''"""Run an ONNX file on MLServer; stl-conveyor export wrote this."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxRuntime(MLModel):
    """A session of ONNX Runtime, in threads of its own."""

    async def load(self) -> bool:
        """Load the file that lies beside this one."""
        parameters = self.settings.parameters.extra or {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get('threads', 1))
        options.inter_op_num_threads = 1
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        path = Path(self.settings.parameters.uri)
        if not path.is_absolute():
            path = Path(__file__).parent / path
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
        self._axes = {value.name: len(value.shape) for value in self._session.get_inputs()}
        self._names = [value.name for value in self._session.get_outputs()]
        self._threads = ThreadPoolExecutor(int(parameters.get('workers', 2)))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute the outputs that are asked for, or all."""
        feeds = {}
        for given in payload.inputs:
            array = NumpyCodec.decode_input(given)
            feeds[given.name] = array[:, 0] if self._axes[given.name] == 1 else array
        names = [output.name for output in payload.outputs or []] or self._names
        loop = asyncio.get_running_loop()
        arrays = await loop.run_in_executor(self._threads, self._session.run, names, feeds)
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[
                NumpyCodec.encode_output(name, array) for name, array in zip(names, arrays)
            ],
        )
'''


def repository_files(
    folder: ModelFolder, inside: Sequence[str], kind: str, *, workers: int = 0
) -> dict[str, bytes]:
    """Return path → content of a model repository with the edge's network.

    Args:
        inside: Tensors of the network that the edge asks for beside the probabilities.
        kind: 'triton', whose layout OpenVINO Model Server and KServe read, too, or 'mlserver'.
        workers: Items that are computed at the same time; 0: as the server does by itself.

    Raises:
        ModelFileError: If the network cannot be used.
    """
    model = with_outputs(read_model(folder.path('edge')), inside)
    session = make_session(model)
    name = served_name(folder.model_id('edge'))
    if kind == 'triton':
        return {
            f'{name}/1/model.onnx': model,
            f'{name}/config.pbtxt': _triton_config(name, session, workers).encode(),
        }
    if kind == 'mlserver':
        settings = {
            'name': name,
            'implementation': 'onnx_runtime.OnnxRuntime',
            'parameters': {
                'uri': './model.onnx',
                'extra': {'threads': 1, 'workers': workers or 2},
            },
        }
        return {
            'settings.json': _json({'debug': False, 'parallel_workers': 0}),
            f'{name}/model-settings.json': _json(settings),
            f'{name}/onnx_runtime.py': _MLSERVER_RUNTIME.encode(),
            f'{name}/model.onnx': model,
        }
    raise ModelFileError(f'no model repository of the kind {kind!r}: there are triton, mlserver')


def write_repository(
    folder: ModelFolder, inside: Sequence[str], kind: str, out: Path, *, workers: int = 0
) -> str:
    """Write a model repository into a folder; return the name of the network there."""
    for path, content in repository_files(folder, inside, kind, workers=workers).items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return served_name(folder.model_id('edge'))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + '\n').encode()


def _triton_config(name: str, session: Any, workers: int) -> str:
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f'max_batch_size: {LARGEST_BATCH}']
    for value in session.get_inputs():
        dims = list(value.shape[1:])
        if dims:
            lines.append(_tensor('input', value.name, dims))
        else:  # Triton asks for an axis beside that of the batch
            lines.append(_tensor('input', value.name, [1], ' reshape { shape: [ ] }'))
    for value in session.get_outputs():
        dims = [d if isinstance(d, int) else -1 for d in (value.shape or [None, None])[1:]]
        lines.append(_tensor('output', value.name, dims))
    lines.append(f'dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}')
    if workers:
        lines.append(f'instance_group [ {{ count: {workers} }} ]')
    # One thread for each item: more items at a time give more answers than more threads.
    lines.append('parameters { key: "intra_op_thread_count" value: { string_value: "1" } }')
    return '\n'.join(lines) + '\n'


def _tensor(kind: str, name: str, dims: Sequence[int], more: str = '') -> str:
    return (
        f'{kind} [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ '
        f'{", ".join(map(str, dims))} ]{more} }} ]'
    )
