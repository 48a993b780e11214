# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A complete model folder in a second: for tests, and to try a cell without trained models.

Its classes are colours. The strong model compares the mean colour of the image's centre with
each class's own; the weak one sees little more than the brightness. Nothing is trained, but
every file is of the real kind: the codec is fitted to sample images, the edge model works on
its latents, and the answers are better than chance in the right order.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor_lab.train.codec.fit import fit_spec, image_patches
from stl_conveyor_lab.train.reward.estimators import fit_entropy_reward

_OPSET = 17
_IR_VERSION = 8
_PATCH = 32


def class_colours(labels: int) -> np.ndarray:
    """Return the colours f32[C, 3] (0..1) of the tiny folder's classes."""
    return np.array(
        [colorsys.hsv_to_rgb(k / labels, 0.8, 0.45 + 0.5 * (k % 3) / 2) for k in range(labels)],
        np.float32,
    )


def tiny_images(count: int, labels: int, image_size: int = 160, seed: int = 0) -> tuple:
    """Return (images u8[N, S, S, 3], classes i64[N]) that the tiny models can tell apart.

    A coloured part of random shape and place on a dark, uneven belt.
    """
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, labels, count)
    axis = (np.arange(image_size) + 0.5) / image_size - 0.5
    y, x = np.meshgrid(axis, axis, indexing='ij')
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    for image, colour in zip(images, class_colours(labels)[classes]):
        centre = rng.uniform(-0.04, 0.04, 2)
        angle, long, short = rng.uniform(0, np.pi), rng.uniform(0.3, 0.4), rng.uniform(0.22, 0.3)
        u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        inside = (np.abs(u / long) ** 3 + np.abs(v / short) ** 3 < 1)[..., None]
        belt = 0.12 + 0.03 * np.sin(2 * np.pi * (3 * x + rng.uniform()))[..., None]
        shade = (1 + rng.normal(0, 0.08)) * (1 + 0.3 * u + 0.2 * v)[..., None]
        value = np.where(inside, colour * shade, belt)
        value = value + rng.normal(0, 0.01, value.shape)
        image[:] = np.clip(np.rint(255 * value), 0, 255)
    return images, classes


def tiny_pictures(
    folder: Path, labels: Sequence[str], count: int, image_size: int = 160, seed: int = 0
) -> Path:
    """Write `tiny_images` as PNG files into a folder for each class; return the folder."""
    from PIL import Image  # nothing else here needs Pillow

    images, classes = tiny_images(count, len(labels), image_size, seed)
    for number, (image, label) in enumerate(zip(images, classes)):
        (folder / labels[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / labels[label] / f'{number:03d}.png')
    return folder


def _cosine_transform(patch: int, size: int) -> np.ndarray:
    """Return orthonormal rows: `size`**2 lowest cosine frequencies of each of three colours."""
    k, n = np.arange(size)[:, None], np.arange(patch)[None]
    axis = np.cos(np.pi * (n + 0.5) * k / patch) * np.sqrt(2 / patch)
    axis[0] /= np.sqrt(2)
    grey = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    return (
        np.einsum('iy,jx,kc->kijyxc', axis, axis, grey)
        .reshape(3 * size * size, -1)
        .astype(np.float32)
    )


def _save(path: Path, nodes: list, inputs: list, constants: dict, classes: int) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        inputs,
        [helper.make_tensor_value_info('probabilities', TensorProto.FLOAT, ['N', classes])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', _OPSET)], producer_name='stl_conveyor'
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _colour_head(colours: np.ndarray, sharpness: float) -> tuple:
    """Return weights [3, C] and bias [C]: logits = -sharpness * squared colour distance."""
    return (
        (2 * sharpness * colours.T).astype(np.float32),
        (-sharpness * (colours**2).sum(1)).astype(np.float32),
    )


def _save_classifier(
    path: Path, size: int, mix: np.ndarray, colours: np.ndarray, sharpness: float
) -> None:
    weights, bias = _colour_head(colours @ mix, sharpness)
    quarter = size * 3 // 8
    make = helper.make_node
    nodes = [
        make('Slice', ['image', 'begin', 'end', 'axes'], ['centre']),
        make('Cast', ['centre'], ['pixels'], to=TensorProto.FLOAT),
        make('ReduceMean', ['pixels'], ['mean'], axes=[1, 2], keepdims=0),
        make('MatMul', ['mean', 'mix'], ['colour']),
        make('Gemm', ['colour', 'weights', 'bias'], ['logits']),
        make('Softmax', ['logits'], ['probabilities'], axis=-1),
    ]
    _save(
        path,
        nodes,
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['N', size, size, 3])],
        {
            'begin': np.array([quarter, quarter]),
            'end': np.array([size - quarter] * 2),
            'axes': np.array([1, 2]),
            'mix': (mix / 255).astype(np.float32),
            'weights': weights,
            'bias': bias,
        },
        len(colours),
    )


def _save_edge(path: Path, spec: CodecSpec, colours: np.ndarray, sharpness: float) -> None:
    """Mean colour of the centre patch from its latents; certainty rises with the bytes."""
    weights, bias = _colour_head(colours, sharpness)
    grid, channels = spec.grid, spec.channels
    patch_mean = spec.analysis.reshape(channels, -1, 3).mean(1)
    base = spec.mean.reshape(-1, 3).mean(0)
    make = helper.make_node
    nodes = [
        make('Gather', ['latents', 'middle'], ['row'], axis=2),
        make('Gather', ['row', 'middle'], ['centre'], axis=2),
        make('Gemm', ['centre', 'synthesis', 'base'], ['colour']),
        make('Gemm', ['colour', 'weights', 'bias'], ['sharp']),
        make('Div', ['bytes_received', 'half_trust'], ['share']),
        make('Tanh', ['share'], ['trust']),
        make('Unsqueeze', ['trust', 'last'], ['trust_column']),
        make('Mul', ['sharp', 'trust_column'], ['logits_edge']),
        make('Log', ['side'], ['log_side']),
        make('Unsqueeze', ['has_side', 'last'], ['has_side_column']),
        make('Mul', ['log_side', 'has_side_column'], ['logits_side']),
        make('Add', ['logits_edge', 'logits_side'], ['logits']),
        make('Softmax', ['logits'], ['probabilities'], axis=-1),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info('latents', TensorProto.FLOAT, ['N', channels, grid, grid]),
        info('bytes_received', TensorProto.FLOAT, ['N']),
        info('side', TensorProto.FLOAT, ['N', len(colours)]),
        info('has_side', TensorProto.FLOAT, ['N']),
    ]
    _save(
        path,
        nodes,
        inputs,
        {
            'middle': np.array(grid // 2),
            'synthesis': patch_mean.astype(np.float32),
            'base': base.astype(np.float32),
            'weights': weights,
            'bias': bias,
            'half_trust': np.array(200, np.float32),
            'last': np.array([-1]),
        },
        len(colours),
    )


def write_manifest(
    folder: Path, name: str, labels: Sequence[str], image_size: int, files: dict
) -> None:
    """Write manifest.json for `files`, a mapping of role to file name in the folder."""
    entries = {
        role: {'path': file, 'sha256': hashlib.sha256((folder / file).read_bytes()).hexdigest()}
        for role, file in files.items()
    }
    content = {
        'format': 1,
        'name': name,
        'labels': list(labels),
        'image_size': image_size,
        'files': entries,
    }
    (folder / 'manifest.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def make_tiny_model_folder(
    path: str | Path, labels: Sequence[str], image_size: int = 160, seed: int = 0
) -> Path:
    """Write a small model folder for the given labels and return its path.

    All roles are there: weak, strong, encoder, edge, reward. `image_size` must be a multiple of
    32. The same arguments give the same files; another seed gives another codec identity.

    Raises:
        ValueError: For sizes and labels that cannot be.
    """
    if image_size % _PATCH or image_size <= 0:
        raise ValueError(f'image_size {image_size} is not a multiple of {_PATCH}')
    if len(labels) < 2:
        raise ValueError('a model folder needs two labels or more')
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    images, classes = tiny_images(48, len(labels), image_size, seed)
    colours = class_colours(len(labels))
    luminance = np.array([[0.30, 0.27, 0.28], [0.59, 0.60, 0.56], [0.11, 0.13, 0.16]])
    _save_classifier(folder / 'weak.onnx', image_size, luminance, colours, 250)
    _save_classifier(folder / 'strong.onnx', image_size, np.eye(3), colours, 120)
    mean = image_patches(images, _PATCH).mean((0, 1)).astype(np.float32) / 255
    spec = fit_spec(images, mean, _cosine_transform(_PATCH, 4), labels=len(labels), seed=seed)
    spec.save(folder / 'encoder.npz')
    _save_edge(folder / 'edge.onnx', spec, colours, 120)

    from stl_conveyor.models.classifier import Classifier

    images, classes = tiny_images(64, len(labels), image_size, seed + 1)
    weak, strong = (
        Classifier(folder / f'{role}.onnx').classify_batch(images) for role in ('weak', 'strong')
    )
    fit_entropy_reward(weak, weak.argmax(1) == classes, strong.argmax(1) == classes).save(
        folder / 'reward.json'
    )
    write_manifest(
        folder,
        'tiny',
        labels,
        image_size,
        {
            'weak': 'weak.onnx',
            'strong': 'strong.onnx',
            'encoder': 'encoder.npz',
            'edge': 'edge.onnx',
            'reward': 'reward.json',
        },
    )
    return folder
