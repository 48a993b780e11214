# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A LimitNet whose latents and map are block means, for tests without training."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper
from tiny_st import register_codec, save_network

from stl_conveyor_lab.references.limitnet import (
    CHANNELS,
    LEVELS,
    MAP_LEVELS,
    MAP_SIDE,
    STRIDE,
    LimitNetCode,
)


def make_tiny_limitnet(folder, labels, image_size=160):
    """Write encoder, decoder and code into a reference folder; the map is how red it is."""
    folder.mkdir(parents=True, exist_ok=True)
    make, info = helper.make_node, helper.make_tensor_value_info
    grid, cell = image_size // STRIDE, image_size // MAP_SIDE
    mix = np.zeros((CHANNELS, 3, 1, 1), np.float32)
    mix[:3, :, 0, 0] = np.eye(3) * (LEVELS - 1) / 255
    red = np.zeros((1, 3, 1, 1), np.float32)
    red[0, 0] = (MAP_LEVELS - 1) / 255
    image = info('image', TensorProto.UINT8, ['N', image_size, image_size, 3])
    levels = info('levels', TensorProto.UINT8, ['N', CHANNELS, grid, grid])
    saliency = info('saliency', TensorProto.UINT8, ['N', MAP_SIDE, MAP_SIDE])
    save_network(
        folder / 'limitnet.encoder.onnx',
        [
            make('Transpose', ['image'], ['planes'], perm=[0, 3, 1, 2]),
            make('Cast', ['planes'], ['float'], to=TensorProto.FLOAT),
            make('AveragePool', ['float'], ['m'], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
            make('Conv', ['m', 'mix'], ['value']),
            make('Round', ['value'], ['whole']),
            make('Cast', ['whole'], ['levels'], to=TensorProto.UINT8),
            make(
                'AveragePool', ['float'], ['coarse'], kernel_shape=[cell] * 2, strides=[cell] * 2
            ),
            make('Conv', ['coarse', 'red'], ['one']),
            make('Squeeze', ['one', 'axis'], ['map']),
            make('Round', ['map'], ['whole_map']),
            make('Cast', ['whole_map'], ['saliency'], to=TensorProto.UINT8),
        ],
        image,
        [levels, saliency],
        {'mix': mix, 'red': red, 'axis': np.array([1])},
    )
    save_network(
        folder / 'limitnet.decoder.onnx',
        [
            make('Cast', ['levels'], ['float'], to=TensorProto.FLOAT),
            make('Conv', ['float', 'back'], ['small']),
            make('Resize', ['small', '', 'scales'], ['large'], mode='nearest'),
            make('Transpose', ['large'], ['pixels'], perm=[0, 2, 3, 1]),
            make('Cast', ['pixels'], ['image'], to=TensorProto.UINT8),
        ],
        levels,
        [image],
        {
            'back': np.transpose(mix, (1, 0, 2, 3)) * (255 / (LEVELS - 1)) ** 2,
            'scales': np.array([1, 1, STRIDE, STRIDE], np.float32),
        },
    )
    counts = [[50] + [1 + 3 * (level < 40) for level in range(LEVELS - 1)]] * CHANNELS
    code = LimitNetCode('LimitNet', image_size, grid, counts, [1] * MAP_LEVELS)
    code.save(folder / 'limitnet.code.json')
    register_codec(folder, 'limitnet', labels, image_size)
    return folder
