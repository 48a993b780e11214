# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run an ONNX image classifier, and let through only what is a probability distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.errors import BadImage, BadProbabilities, MissingDependency, ModelFileError
from stl_conveyor.models.graph_outputs import with_outputs
from stl_conveyor.outside_files import UnusableFile, read_bytes

SUM_TOLERANCE = 1e-3

# Where onnxruntime looks for weights that an ONNX file keeps outside itself.
_SECOND_FILES = 'session.model_external_initializers_file_folder_path'
_NOWHERE = '/dev/null/weights'


def make_session(path: str | Path | bytes, threads: int = 1) -> Any:
    """Open an ONNX file, or the bytes of one, with a bounded number of threads.

    Weights in a second file are refused: no hash of a manifest would cover them.

    Raises:
        ModelFileError: If it cannot be read or onnxruntime cannot load it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency('onnxruntime is not installed; pip install onnxruntime') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin would take the cores away from the other nodes.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    options.add_session_config_entry(_SECOND_FILES, _NOWHERE)
    name = 'the model in memory' if isinstance(path, bytes) else path
    model = path if isinstance(path, bytes) else read_model(path)
    try:
        return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        if _NOWHERE in str(error):
            raise ModelFileError(
                f'{name}: keeps weights in a second file, which no hash covers; export it as one'
            ) from error
        raise ModelFileError(f'{name}: onnxruntime cannot load it: {error}') from error


def read_model(path: str | Path) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        ModelFileError: If it cannot be read.
    """
    try:
        return read_bytes(path)
    except UnusableFile as error:
        raise ModelFileError(f'{path}: cannot be read ({error}); restore the model') from error


def check_probabilities(values: ArrayLike, labels: int) -> NDArray[np.float32]:
    """Return `values` as float32 `[labels]` if they are a probability distribution.

    Raises:
        BadProbabilities: Saying what is wrong: the length, a NaN, the range or the sum.
    """
    probabilities = np.asarray(values, dtype=np.float32)
    if probabilities.shape != (labels,):
        raise BadProbabilities(
            f'probabilities have shape {probabilities.shape}, the models have {labels} labels; '
            'use one model folder in the whole cell'
        )
    if not np.isfinite(probabilities).all():
        raise BadProbabilities('probabilities hold a NaN or an infinity')
    total = float(probabilities.sum())
    if float(probabilities.min()) < 0.0 or abs(total - 1.0) > SUM_TOLERANCE:
        raise BadProbabilities(
            f'probabilities are no distribution: least {float(probabilities.min()):.4g}, '
            f'sum {total:.4g}'
        )
    return probabilities


class Classifier:
    """An ONNX image classifier with its preprocessing inside the graph.

    Examples:
        >>> from stl_conveyor import Classifier, ModelFolder, read_image, share_path
        >>> folder = ModelFolder(share_path('models/items'))
        >>> image = read_image(share_path('models/items/sample.png'))  # a hex screw
        >>> for role in ('weak', 'strong'):
        ...     probabilities = Classifier(folder.path(role)).classify(image)
        ...     print(role, folder.labels[probabilities.argmax()], f'{probabilities.max():.1f}')
        weak hex_screw_m8x40 0.7
        strong hex_screw_m8x35 1.0

    Input `image` uint8 `[N, S, S, 3]` RGB, output `probabilities` float32 `[N, C]`. A weak model
    may have a second output of the same shape, `posterior`: sharper probabilities that say how
    far its answer is to be trusted.
    """

    def __init__(self, path: str | Path, threads: int = 1, inside: Sequence[str] = ()) -> None:
        """Load the model and run it once, so that the first item is not the slowest.

        Args:
            inside: Tensors of the graph that `look_inside` tells, too.

        Raises:
            ModelFileError: If it cannot be loaded, has another input or output, or does not
                compute one of the tensors.
        """
        self._path = Path(path)
        self._inside = tuple(inside)
        self._session = make_session(
            with_outputs(read_model(path), self._inside) if inside else path, threads
        )
        self._check_interface()
        size = self._image_size
        self.classify(np.zeros((size, size, 3), np.uint8))

    def _check_interface(self) -> None:
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        image, probabilities = inputs.get('image'), outputs.get('probabilities')
        if len(inputs) != 1 or image is None or probabilities is None:
            raise ModelFileError(
                f'{self._path}: has inputs {sorted(inputs)} and outputs {sorted(outputs)}; '
                'a classifier has the input image and the output probabilities'
            )
        shape = image.shape
        if (
            image.type != 'tensor(uint8)'
            or len(shape) != 4
            or shape[3] != 3
            or not isinstance(shape[1], int)
            or shape[1] != shape[2]
        ):
            raise ModelFileError(
                f'{self._path}: input image is {image.type} {shape}, not uint8 [N, S, S, 3]'
            )
        if (
            probabilities.type != 'tensor(float)'
            or len(probabilities.shape) != 2
            or not isinstance(probabilities.shape[1], int)
        ):
            raise ModelFileError(
                f'{self._path}: output probabilities is {probabilities.type} '
                f'{probabilities.shape}, not float32 [N, C]'
            )
        self._image_size = int(shape[1])
        self._labels = int(probabilities.shape[1])
        self._names = ['probabilities']
        posterior = outputs.get('posterior')
        if posterior is not None:
            if (posterior.type, posterior.shape[1:]) != (
                probabilities.type,
                probabilities.shape[1:],
            ):
                raise ModelFileError(
                    f'{self._path}: output posterior is {posterior.type} {posterior.shape}, not '
                    'that of the probabilities'
                )
            self._names.append('posterior')

    @property
    def image_size(self) -> int:
        """Return the side (pixels) of the square images that the model takes."""
        return self._image_size

    @property
    def labels(self) -> int:
        """Return the number of classes."""
        return self._labels

    @property
    def has_posterior(self) -> bool:
        """Return whether the model tells a posterior."""
        return len(self._names) > 1

    def classify(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities float32 `[C]` of one image uint8 `[S, S, 3]` RGB.

        Raises:
            BadImage: If the image has another shape or type.
            BadProbabilities: If the model's answer is no distribution.
        """
        probabilities: NDArray[np.float32] = self.classify_batch(image[np.newaxis])[0]
        return probabilities

    def classify_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities float32 `[N, C]` of images uint8 `[N, S, S, 3]` RGB.

        Raises:
            BadImage: If the images have another shape or type.
            BadProbabilities: If an answer is no distribution.
        """
        return self._run(images, 1)[0]

    def classify_doubting(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return probabilities and posteriors, float32 `[N, C]`, of images uint8 `[N, S, S, 3]`.

        The posteriors are None if the model tells none.

        Raises:
            BadImage: If the images have another shape or type.
            BadProbabilities: If an answer is no distribution.
        """
        answers = self._run(images, len(self._names))
        return answers[0], answers[1] if self.has_posterior else None

    def look_inside(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[NDArray[Any]]]:
        """Return probabilities and posteriors like `classify_doubting`, and the tensors inside.

        Raises:
            BadImage: If the images have another shape or type.
            BadProbabilities: If an answer is no distribution.
        """
        answers = self._run(images, len(self._names), self._inside)
        told = len(self._names)
        return answers[0], answers[1] if self.has_posterior else None, answers[told:]

    def _run(
        self, images: NDArray[np.uint8], outputs: int, inside: Sequence[str] = ()
    ) -> list[NDArray[np.float32]]:
        size = self._image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise BadImage(
                f'the classifier takes uint8 [N, {size}, {size}, 3], not {images.dtype} '
                f'{list(images.shape)}'
            )
        answers: list[NDArray[np.float32]] = self._session.run(
            [*self._names[:outputs], *inside], {'image': np.ascontiguousarray(images)}
        )
        for rows in answers[:outputs]:
            for row in rows:
                check_probabilities(row, self._labels)
        return answers
