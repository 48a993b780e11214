# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn a classifier's weights and activations into 8-bit integers, and measure whether that pays.

    python -m stl_conveyor_lab.train.classifiers.quantise MODELS --images FOLDER --out FILE.onnx

It pays on processors with 8-bit dot products (a Raspberry Pi 5 has them, a Pi 4 has not), and
costs accuracy; so both models are run on the same pictures, one after the other in turns, on this
machine, and the file is kept only if the quantised one is faster and loses no more than allowed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError, ConveyorError, MissingDependency
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image import read_image, resize_square

LARGEST_LOSS = 0.005
# Of these the integer versions are exact enough and fast; the rest stays in floating point.
QUANTISED = ('Conv', 'Gemm', 'MatMul')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


@dataclass(frozen=True)
class ModelComparison:
    """What quantisation did: accuracies and median times (s) of one image, before and after.

    Attributes:
        agreement: Share of the images on which both models say the same.
    """

    accuracy: float
    quantised_accuracy: float
    agreement: float
    seconds: float
    quantised_seconds: float
    images: int

    @property
    def pays(self) -> bool:
        """Return whether the quantised model is faster and not noticeably worse."""
        return (
            self.quantised_seconds < self.seconds
            and self.accuracy - self.quantised_accuracy <= LARGEST_LOSS
        )


def quantise_model(source: str | Path, target: str | Path, images: NDArray[np.uint8]) -> None:
    """Write an 8-bit version of an ONNX classifier, with ranges from images uint8 `[N, S, S, 3]`.

    Raises:
        MissingDependency: If onnx is not installed.
    """
    quantise_network(source, target, ({'image': image[None]} for image in images))


def quantise_network(
    source: str | Path,
    target: str | Path,
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    *,
    reduced: bool = False,
) -> None:
    """Write an 8-bit version of an ONNX network, with ranges from what it is fed.

    Static quantisation with QuantizeLinear and DequantizeLinear around convolutions and matrix
    products, weights per channel.

    Args:
        reduced: Give weights 7 bits: without VNNI the sums of two products, of which x86-64 makes
            16 bits, do not overflow then.

    Raises:
        MissingDependency: If onnx is not installed.
    """
    try:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingDependency('quantising needs onnx: pip install onnx sympy') from error

    class Reader(CalibrationDataReader):
        """Hands out what is fed one by one."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            """Return what comes next, or None."""
            feed = next(self._feeds, None)
            return None if feed is None else dict(feed)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / 'prepared.onnx'
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=reduced,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def compare_models(
    before: str | Path,
    after: str | Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    threads: int = 1,
    repeats: int = 3,
) -> ModelComparison:
    """Run both models on images uint8 `[N, S, S, 3]` with labels `[N]`, one image at a time.

    The models take turns, so that a busy machine slows both alike.
    """
    models = Classifier(before, threads), Classifier(after, threads)
    times: tuple[list[float], list[float]] = [], []
    answers: tuple[list[int], list[int]] = [], []
    for repeat in range(repeats):
        for image in images:
            for model, seconds, answer in zip(models, times, answers):
                started = time.perf_counter()
                probabilities = model.classify(image)
                seconds.append(time.perf_counter() - started)
                if repeat == 0:
                    answer.append(int(probabilities.argmax()))
    first, second = (np.array(answer) for answer in answers)
    return ModelComparison(
        accuracy=float((first == labels).mean()),
        quantised_accuracy=float((second == labels).mean()),
        agreement=float((first == second).mean()),
        seconds=float(np.median(times[0])),
        quantised_seconds=float(np.median(times[1])),
        images=len(images),
    )


def read_labelled(
    folder: Path, labels: Sequence[str], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images uint8 `[N, size, size, 3]` and labels `[N]`.

    Args:
        folder: A folder for each label; or .npz files with `pixels` and `labels`.

    Raises:
        ConfigError: If there are none.
    """
    pixels, numbers = [], []
    for path in sorted(folder.glob('*.npz')):
        content = np.load(path)
        pixels += [resize_square(image, size) for image in content['pixels']]
        numbers += content['labels'].tolist()
    for number, label in enumerate(labels):
        for path in sorted((folder / label).glob('*')):
            if path.suffix.lower() in SUFFIXES:
                pixels.append(resize_square(read_image(path), size))
                numbers.append(number)
    if not pixels:
        raise ConfigError(
            f'{folder}: holds no picture in a folder named like a class of the '
            'models, and no .npz file'
        )
    return np.stack(pixels), np.array(numbers, np.int64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Quantise, compare, and say whether it pays."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('models', type=Path, help='model folder')
    parser.add_argument('--role', default='weak', help='which of its classifiers')
    parser.add_argument(
        '--images',
        type=Path,
        required=True,
        help='labelled pictures: half to take the ranges from, half to compare on',
    )
    parser.add_argument('--out', type=Path, required=True, help='the quantised model')
    parser.add_argument(
        '--ranges', type=int, default=200, help='pictures to take the ranges of activations from'
    )
    parser.add_argument('--compare', type=int, default=2000, help='pictures to compare on')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        folder = ModelFolder(options.models)
        images, labels = read_labelled(options.images, folder.labels, folder.image_size)
        order = np.random.default_rng(0).permutation(len(images))
        ranges = order[: min(options.ranges, len(order) // 2)]
        rest = order[len(ranges) :][: options.compare]
        quantise_model(folder.path(options.role), options.out, images[ranges])
        seen = compare_models(
            folder.path(options.role), options.out, images[rest], labels[rest], options.threads
        )
    except ConveyorError as error:
        print(error, file=sys.stderr)
        return 2
    print(f'{options.role}: {seen.images} pictures, {options.threads} thread(s)')
    print(f'  float32  accuracy {seen.accuracy:.4f}  median {1000 * seen.seconds:.2f} ms')
    print(
        f'  int8     accuracy {seen.quantised_accuracy:.4f}  median '
        f'{1000 * seen.quantised_seconds:.2f} ms  agrees on {100 * seen.agreement:.1f} %'
    )
    if seen.pays:
        print(f'it pays here: put {options.out} and its SHA-256 into the manifest')
        return 0
    options.out.unlink()
    print('it does not pay here: keep the model as it is')
    return 1


if __name__ == '__main__':
    sys.exit(main())
