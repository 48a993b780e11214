# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An ST codec whose features are block means, for tests without training."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stl_conveyor_lab.references.st import ST_FEATURES, StCode, padded_side
from stl_conveyor_lab.train.manifest import register_model


def save_network(path, nodes, inputs, outputs, constants):
    """Write an ONNX file of nodes, one input, outputs and constants by name."""
    graph = helper.make_graph(
        nodes,
        'tiny',
        [inputs],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def register_codec(folder, role, labels, image_size):
    """Enter the three files of a role into a reference folder."""
    for kind, file in (
        ('encoder', 'encoder.onnx'),
        ('decoder', 'decoder.onnx'),
        ('code', 'code.json'),
    ):
        register_model(
            folder, f'{role}_{kind}', folder / f'{role}.{file}', labels, image_size, 'references'
        )


def make_tiny_st(folder, labels, image_size=160, role='st', features=0):
    """Write encoder, decoder and code of one role into a reference folder."""
    folder.mkdir(parents=True, exist_ok=True)
    side, make, info = padded_side(image_size), helper.make_node, helper.make_tensor_value_info
    grid = side // 7
    mix = np.zeros((ST_FEATURES, 3, 1, 1), np.float32)
    mix[:3, :, 0, 0] = np.eye(3) * 63 / 255
    image = info('image', TensorProto.UINT8, ['N', side, side, 3])
    levels = info('levels', TensorProto.UINT8, ['N', ST_FEATURES, grid, grid])
    limits = {'low': np.float32(0), 'high': np.float32(63)}
    save_network(
        folder / f'{role}.encoder.onnx',
        [
            make('Transpose', ['image'], ['planes'], perm=[0, 3, 1, 2]),
            make('Cast', ['planes'], ['float'], to=TensorProto.FLOAT),
            make('AveragePool', ['float'], ['mean'], kernel_shape=[7, 7], strides=[7, 7]),
            make('Conv', ['mean', 'mix'], ['value']),
            make('Round', ['value'], ['whole']),
            make('Clip', ['whole', 'low', 'high'], ['kept']),
            make('Cast', ['kept'], ['levels'], to=TensorProto.UINT8),
        ],
        image,
        [levels],
        {'mix': mix, **limits},
    )
    back = np.transpose(mix, (1, 0, 2, 3)) * (255 / 63) ** 2
    save_network(
        folder / f'{role}.decoder.onnx',
        [
            make('Cast', ['levels'], ['float'], to=TensorProto.FLOAT),
            make('Conv', ['float', 'back'], ['small']),
            make('Resize', ['small', '', 'scales'], ['large'], mode='nearest'),
            make('Transpose', ['large'], ['pixels'], perm=[0, 2, 3, 1]),
            make('Clip', ['pixels', 'low', 'high'], ['kept']),
            make('Cast', ['kept'], ['image'], to=TensorProto.UINT8),
        ],
        levels,
        [image],
        {
            'back': back,
            'scales': np.array([1, 1, 7, 7], np.float32),
            'low': np.float32(0),
            'high': np.float32(255),
        },
    )
    counts = [[50] + [1 + 3 * (level < 40) for level in range(63)] for _ in range(ST_FEATURES)]
    name = f'ST, no tail drop, K = {features}' if features else 'ST'
    StCode(name, image_size, grid, 1.0, counts, features).save(folder / f'{role}.code.json')
    register_codec(folder, role, labels, image_size)
    assert json.loads((folder / 'manifest.json').read_text())['format'] == 1
    return folder
