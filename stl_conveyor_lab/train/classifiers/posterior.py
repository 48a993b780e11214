# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A second head for the weak model, which knows better when the first one is wrong.

The weak model answers from the mean of its last activations. The head reads more of what is
computed anyway (mean, spread and peak of the last two stages) and gives the probability q of each
class; 1 - q of the weak model's first choice is the doubt about it. Trained on the classes, it
learns more from an image than from whether one answer was right. It is written into the weak
model's graph as a second output, ``posterior``; the first one stays what it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import make_session
from stl_conveyor_lab.train.onnx_export import halve_weights

HIDDEN = 128
MEMBERS = 2  # networks averaged in the logits
EPOCHS = 40
BATCH = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.3
_PREFIX = 'posterior/'
_FLOOR = 1e-6  # of a variance


def without_posterior(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its first output alone."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = plain.graph
    for kind in (graph.node, graph.initializer):
        kept = [one for one in kind if not one.name.startswith(_PREFIX)]
        del kind[:]
        kind.extend(kept)
    kept = [output for output in graph.output if output.name == 'probabilities']
    del graph.output[:]
    graph.output.extend(kept)
    return plain


def _stages(graph: onnx.GraphProto) -> list[str]:
    """Return the activations after the last two dense convolutions, the last one first."""
    dense = set()
    for node in graph.node:
        if node.op_type == 'Conv':
            groups = [a.i for a in node.attribute if a.name == 'group'] or [1]
            if groups == [1]:
                dense.add(node.output[0])
    found = [
        node.output[0]
        for node in graph.node
        if node.op_type in ('Relu', 'Clip') and node.input[0] in dense
    ]
    if len(found) < 2:
        raise ModelFileError(
            'the weak model has no two convolutions with activations to read a posterior from'
        )
    return found[:-3:-1]


def _node(kind: str, inputs: list[str], output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [_PREFIX + output], name=_PREFIX + output, **attributes)


def with_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the output ``posterior/features``, float32 [N, F].

    Raises:
        ModelFileError: For a graph that is not built of convolutions.
    """
    model = without_posterior(model)
    graph = model.graph
    graph.initializer.append(
        numpy_helper.from_array(np.array([_FLOOR], np.float32), _PREFIX + 'floor')
    )
    parts = []
    for place, stage in enumerate(_stages(graph)):
        name = f'stage{place}_'
        mean = _PREFIX + name + 'mean'
        graph.node.extend(
            [
                _node('ReduceMean', [stage], name + 'mean', axes=[2, 3], keepdims=1),
                _node('Sub', [stage, mean], name + 'centred'),
                _node('Mul', [_PREFIX + name + 'centred'] * 2, name + 'squared'),
                _node(
                    'ReduceMean',
                    [_PREFIX + name + 'squared'],
                    name + 'variance',
                    axes=[2, 3],
                    keepdims=1,
                ),
                _node('Add', [_PREFIX + name + 'variance', _PREFIX + 'floor'], name + 'raised'),
                _node('Sqrt', [_PREFIX + name + 'raised'], name + 'spread'),
            ]
        )
        parts += [mean, _PREFIX + name + 'spread']
        if place == 0:
            graph.node.append(_node('ReduceMax', [stage], name + 'peak', axes=[2, 3], keepdims=1))
            parts.append(_PREFIX + name + 'peak')
    graph.node.extend(
        [
            _node('Concat', parts, 'joined', axis=1),
            _node('Flatten', [_PREFIX + 'joined'], 'features'),
        ]
    )
    graph.output.append(
        helper.make_tensor_value_info(_PREFIX + 'features', TensorProto.FLOAT, None)
    )
    return model


def features_of(model: onnx.ModelProto, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Return the features float32 [N, F] of images uint8 [N, S, S, 3]."""
    session = make_session(with_features(model).SerializeToString())
    return np.concatenate(
        [
            session.run([_PREFIX + 'features'], {'image': images[begin : begin + batch]})[0]
            for begin in range(0, len(images), batch)
        ]
    )


def fit_members(
    features: np.ndarray, classes: np.ndarray, labels: int, seed: int = 0
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Train the networks; return for each its layers, weights [out, in] and biases [out]."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    x = torch.from_numpy(((features - mean) / spread).astype(np.float32))
    y = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    members = []
    for member in range(MEMBERS):
        torch.manual_seed(seed + member)
        net = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Dropout(DROPOUT),
            torch.nn.Linear(HIDDEN, HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Dropout(DROPOUT),
            torch.nn.Linear(HIDDEN, labels),
        )
        optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = EPOCHS * max(1, len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=steps + 1
        )
        for _ in range(steps):
            pick = torch.randint(0, len(x), (min(BATCH, len(x)),))
            loss = torch.nn.functional.cross_entropy(net(x[pick]), y[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        layers = [
            (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
            for layer in net
            if isinstance(layer, torch.nn.Linear)
        ]
        # The scaling of the features becomes part of the first layer.
        weight, bias = layers[0]
        layers[0] = (weight / spread, bias - (weight / spread) @ mean)
        members.append(layers)
    return members


def with_posterior(model: onnx.ModelProto, members: list) -> onnx.ModelProto:
    """Return the model with the output ``posterior``, float32 [N, C]."""
    model = with_features(model)
    graph = model.graph
    del graph.output[1:]
    logits = []
    for number, layers in enumerate(members):
        value = _PREFIX + 'features'
        for place, (weight, bias) in enumerate(layers):
            name = f'member{number}_layer{place}_'
            last = place == len(layers) - 1
            share = 1 / len(members) if last else 1.0
            for part, array in (('weight', weight * share), ('bias', bias * share)):
                graph.initializer.append(
                    numpy_helper.from_array(array.astype(np.float32), _PREFIX + name + part)
                )
            graph.node.append(
                _node(
                    'Gemm',
                    [value, _PREFIX + name + 'weight', _PREFIX + name + 'bias'],
                    name + 'sum',
                    transB=1,
                )
            )
            value = _PREFIX + name + 'sum'
            if not last:
                graph.node.append(_node('Relu', [value], name + 'relu'))
                value = _PREFIX + name + 'relu'
        logits.append(value)
    graph.node.append(_node('Sum', logits, 'logits'))
    graph.node.append(
        helper.make_node(
            'Softmax', [_PREFIX + 'logits'], ['posterior'], name=_PREFIX + 'softmax', axis=1
        )
    )
    labels = len(members[0][-1][1])
    graph.output.append(
        helper.make_tensor_value_info('posterior', TensorProto.FLOAT, ['N', labels])
    )
    onnx.checker.check_model(model)
    return model


def add_posterior(
    path: str | Path, images: np.ndarray, classes: np.ndarray, labels: int, seed: int = 0
) -> None:
    """Train the head on images uint8 [N, S, S, 3] and write it into the weak model's file.

    The images may be those that the weak model was trained on, as long as it is about as often
    right on them as on others.

    Raises:
        ModelFileError: For a model that it cannot be added to.
    """
    model = onnx.load(str(path))
    members = fit_members(features_of(model, images), classes, labels, seed)
    onnx.save(with_posterior(model, members), str(path))
    halve_weights(path)
