# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of our codec beside those of the codecs to compare with."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from stl_conveyor.assess.fitted_file import shrink
from stl_conveyor.codec import Decoder, DecoderSession, EncodedItem, Encoder
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references import BestQuality, ReferenceCodec
from stl_conveyor_lab.references.st import ST_FEATURES, padded_side

#: Published times on a Raspberry Pi 4 (Wang et al., RTSS 2023), milliseconds.
PI_PROGRESSIVE_JPEG, PI_ST, PI_WEBP, PI_RECURRENT_STEP = 5.8, 11.8, 40.0, 1900.0
BATCHES = (1, 2, 4, 8, 16, 32)
#: Encode times (milliseconds) for which a sender computes the largest size that arrives: somewhat
#: more than measured. Fixed, so that what was encoded for them stays of use.
SENDING = {'JPEG': 6.0, 'WEBP': 20.0}

_DEVICE = """
import sys
import numpy as np
from stl_conveyor.codec import DecoderSession, EncodedItem, Encoder
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
folder = ModelFolder(sys.argv[1])
image = np.random.default_rng(0).integers(
    0, 256, (folder.image_size, folder.image_size, 3)).astype(np.uint8)
known = Classifier(folder.path('weak')).classify(image) if 'weak' in folder.roles else None
Encoder(folder).encode(image, known)
# ru_maxrss would be at least that of the process that started this one.
with open('/proc/self/status', encoding='ascii') as status:
    print(next(int(line.split()[1]) / 1024 for line in status if line.startswith('VmHWM:')))
"""


def median_milliseconds(call: Callable[[int], object], count: int, runs: int = 3) -> float:
    """Return the median processor time of call(0..count-1)."""
    times = []
    for _ in range(runs):
        for k in range(count):
            begun = time.process_time()
            call(k)
            times.append(1e3 * (time.process_time() - begun))
    return float(np.median(times))


def st_encoder_shape(size: int) -> onnxruntime.InferenceSession:
    """Return an onnxruntime session of the published ST encoder's shape, with random weights.

    It takes `image` u8[1, S, S, 3] and returns `levels`: two convolutions and their
    quantisation, without entropy coding.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {
        'first': rng.normal(0, 0.05, (16, 3, 9, 9)),
        'second': rng.normal(0, 0.05, (10, 16, 3, 3)),
        'unit': np.array(255.0),
        'highest': np.array(63.0),
        'lowest': np.array(0.0),
    }
    make = helper.make_node
    nodes = [
        make('Transpose', ['image'], ['planes'], perm=[0, 3, 1, 2]),
        make('Cast', ['planes'], ['float'], to=TensorProto.FLOAT),
        make('Div', ['float', 'unit'], ['pixels']),
        make('Conv', ['pixels', 'first'], ['a'], strides=[7, 7], pads=[1, 1, 1, 1]),
        make('Relu', ['a'], ['b']),
        make('Conv', ['b', 'second'], ['c'], pads=[1, 1, 1, 1]),
        make('Relu', ['c'], ['d']),
        make('Round', ['d'], ['e']),
        make('Clip', ['e', 'lowest', 'highest'], ['f']),
        make('Cast', ['f'], ['levels'], to=TensorProto.UINT8),
    ]
    side = padded_side(size)
    graph = helper.make_graph(
        nodes,
        'st',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, side, side, 3])],
        [
            helper.make_tensor_value_info(
                'levels', TensorProto.UINT8, [1, ST_FEATURES, side // 7, side // 7]
            )
        ],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )


def measure_times(folder: ModelFolder, images: np.ndarray, runs: int = 3) -> dict:
    """Return median milliseconds of processor time, one thread.

    Of our encoder at three sizes, of decoding and of classifying, alone and each of several at
    once; and of Pillow's progressive JPEG (quality 30) and WebP (method 4), one call each, and
    of the published ST encoder's two convolutions.
    """
    encoder, decoder = Encoder(folder), Decoder(folder)
    known = np.full(len(folder.labels), 1 / len(folder.labels), np.float32)
    count, size = len(images), images.shape[1]

    def decode(item: EncodedItem) -> DecoderSession:
        session = decoder.start()
        for packet in item.packets:
            session.add(packet)
        return session

    items = [encoder.encode(image, known, max_bytes=1024) for image in images]
    sessions = [decode(item) for item in items]
    progressive, webp = BestQuality('JPEG', progressive=True), BestQuality('WEBP', method=4)
    st, side = st_encoder_shape(size), padded_side(size)
    st_image = np.zeros((1, side, side, 3), np.uint8)
    result = {}

    def measure(name: str, call: Callable[[int], object], share: int = 1) -> None:
        result[name] = round(median_milliseconds(call, count, runs) / share, 3)

    def encode(budget: int, k: int) -> object:
        return encoder.encode(images[k], known, max_bytes=budget)

    def classify(batch: int, k: int) -> object:
        return decoder.classify([sessions[k]] * batch)

    for budget in (256, 1024, 4096):
        measure(f'encode_{budget}', partial(encode, budget))
    measure('progressive_jpeg', lambda k: progressive.compress(Image.fromarray(images[k]), 30))
    measure('webp_4', lambda k: webp.compress(Image.fromarray(images[k]), 30))
    measure('st_convolutions', lambda k: st.run(['levels'], {'image': st_image}))
    measure('decode_1024', lambda k: decode(items[k]))
    measure('classify', lambda k: decoder.classify([sessions[k]]))
    for batch in BATCHES[1:]:
        measure(f'classify_each_of_{batch}', partial(classify, batch), batch)
    return result


def encode_milliseconds(codec: ReferenceCodec, images: np.ndarray) -> float:
    """Return the median time of encoding one image once.

    The search for the quality that fits is not counted: a sender could know it from the image
    before. A codec that may downscale is timed at half the side.
    """
    if isinstance(codec, BestQuality):
        scale = 0.5 if codec.downscale else 1.0
        return median_milliseconds(
            lambda k: codec.compress(shrink(Image.fromarray(images[k]), scale), 30), len(images)
        )
    return median_milliseconds(
        lambda k: codec.packets(np.roll(images[k], k + 1, 0), 1 << 20), len(images), 1
    )


def sending_milliseconds(codec: BestQuality) -> float:
    """Return the encode time that a sender reckons with."""
    return SENDING[codec.format]


def pi_milliseconds(codec: ReferenceCodec | None, here: float, progressive: float) -> float:
    """Return what a Raspberry Pi 4 takes: as published, else by the ratio to progressive JPEG.

    Args:
        codec: None is ours.
        here: Milliseconds that it takes on this machine.
        progressive: Milliseconds that progressive JPEG takes on this machine.
    """
    if codec is not None and codec.slug.startswith('st'):
        return PI_ST
    if codec is not None and codec.slug == 'recurrent':
        return PI_RECURRENT_STEP
    if isinstance(codec, BestQuality) and codec.format == 'WEBP' and not codec.downscale:
        return PI_WEBP
    return here / progressive * PI_PROGRESSIVE_JPEG


def device_megabytes(models: Path) -> float:
    """Return the peak resident memory of a fresh process that classifies and encodes one image.

    Raises:
        ConveyorError: If it fails.
    """
    done = subprocess.run(
        [sys.executable, '-c', _DEVICE, str(models)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConveyorError(f'the device process failed on {models}: {done.stderr.strip()}')
    return round(float(done.stdout), 1)
