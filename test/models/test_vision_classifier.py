# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The classifier's guards around onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.errors import BadImage, BadProbabilities, ModelFileError
from stl_conveyor.models.classifier import Classifier, check_probabilities

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


def save_model(path, *, output='probabilities', size=8, bias=0.0, softmax=True):
    """Write a model whose two classes are dark and bright."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node('Cast', ['image'], ['f'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['f'], ['m'], axes=[1, 2, 3], keepdims=0),
        helper.make_node('Unsqueeze', ['m', 'axis'], ['u']),
        helper.make_node('MatMul', ['u', 'w'], ['l']),
        helper.make_node('Add', ['l', 'b'], ['s']),
        helper.make_node('Softmax', ['s'], [output], axis=1)
        if softmax
        else helper.make_node('Identity', ['s'], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        'g',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['N', size, size, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ['N', 2])],
        [
            numpy_helper.from_array(np.array([1], np.int64), 'axis'),
            numpy_helper.from_array(np.array([[-0.1, 0.1]], np.float32), 'w'),
            numpy_helper.from_array(np.array([bias, -bias], np.float32), 'b'),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), path
    )
    return path


def test_classifies_one_and_many(tmp_path):
    classifier = Classifier(save_model(tmp_path / 'm.onnx', bias=12.0))
    assert (classifier.image_size, classifier.labels) == (8, 2)
    dark, bright = (np.full((8, 8, 3), value, np.uint8) for value in (10, 240))
    assert classifier.classify(dark).argmax() == 0
    assert classifier.classify(bright).argmax() == 1
    both = classifier.classify_batch(np.stack([dark, bright]))
    assert both.shape == (2, 2) and both.dtype == np.float32
    assert np.allclose(both[1], classifier.classify(bright), atol=1e-6)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((9, 9, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_refuses_other_images(tmp_path, image):
    classifier = Classifier(save_model(tmp_path / 'm.onnx'))
    with pytest.raises(BadImage):
        classifier.classify(image)


def test_refuses_answers_that_are_no_distribution(tmp_path):
    with pytest.raises(BadProbabilities, match='distribution'):
        Classifier(save_model(tmp_path / 'm.onnx', softmax=False, bias=3.0))
    with pytest.raises(BadProbabilities, match='NaN'):
        Classifier(save_model(tmp_path / 'n.onnx', bias=float('nan')))


def test_refuses_other_models(tmp_path):
    (tmp_path / 'x.onnx').write_bytes(b'no model')
    for path in (tmp_path / 'x.onnx', tmp_path / 'none.onnx'):
        with pytest.raises(ModelFileError, match=path.name):
            Classifier(path)
    with pytest.raises(ModelFileError, match='logits'):
        Classifier(save_model(tmp_path / 'l.onnx', output='logits'))


@pytest.mark.parametrize(
    'values, named',
    [
        ([0.5, 0.5, 0.0], 'shape'),
        ([], 'shape'),
        ([[0.5, 0.5]], 'shape'),
        ([float('nan'), 1.0], 'NaN'),
        ([float('inf'), 0.0], 'infinity'),
        ([1.5, -0.5], 'least'),
        ([0.2, 0.2], 'sum'),
    ],
)
def test_check_probabilities(values, named):
    with pytest.raises(BadProbabilities, match=named):
        check_probabilities(values, 2)
    assert check_probabilities([0.25, 0.75], 2).dtype == np.float32
