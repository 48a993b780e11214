# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An evaluation reads the files of a folder that a training reads, and says what it leaves out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

Image = pytest.importorskip('PIL.Image')

from stl_conveyor.assess.evaluation_images import TestImages, load_test_images  # noqa: E402
from stl_conveyor.assess.evaluation_pictures import draw_pictures  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402

MODELS = SimpleNamespace(name='tiny', labels=('b', 'a'), image_size=16)


def test_what_cannot_be_read_is_left_out_and_said(tmp_path):
    rng = np.random.default_rng(0)
    for name in 'ab':
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f'{i}.png')
    (tmp_path / 'a' / 'broken.jpg').write_bytes(b'no image')
    (tmp_path / 'a' / '@eaDir').mkdir()
    (tmp_path / 'a' / '@eaDir' / 'preview.jpg').write_bytes(b'x')
    (tmp_path / 'b' / 'again.png').write_bytes((tmp_path / 'b' / '0.png').read_bytes())
    said = []
    test = load_test_images(tmp_path, MODELS, show=said.append)
    # Of the two that are the same the first by name stays.
    kept = [*(f'a/{i}.png' for i in range(3)), 'b/0.png', 'b/1.png', 'b/2.png']
    assert test.names == tuple(kept)
    assert test.classes.tolist() == [1, 1, 1, 0, 0, 0]  # the numbers of the models
    text = ' | '.join(said)
    assert 'cannot be read as images' in text and 'a/broken.jpg' in text
    assert '@eaDir' in text and 'exact duplicates' in text


def test_folder_without_a_readable_picture_is_named(tmp_path):
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(ConfigError, match='no image of all can be read'):
        load_test_images(tmp_path, MODELS, show=lambda line: None)


def test_names_of_classes_are_no_formulas_in_the_pictures(tmp_path):
    pytest.importorskip('matplotlib')
    labels = ['$x^{', '5$']
    classes = np.array([0, 1, 0, 1])
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])  # two of them wrong
    share = {'accuracy': 0.5, 'low': 0.2, 'high': 0.8}
    of_bytes = {'bytes': 64, **share}
    result = {
        'labels': labels,
        'by_bytes': [{**of_bytes, 'local_answer': side} for side in (True, False)],
        'webp_by_bytes': [of_bytes],
        'accuracy': {'strong': share, 'weak': share},
        'offloading': [
            {'rate': 0.1, 'mdp': share, 'adaptive': share, 'hindsight': 0.6, 'random': 0.4}
        ],
        'calibration_error': {'strong': 0.1, 'weak': 0.1},
    }
    images = np.zeros((4, 8, 8, 3), np.uint8)
    test = TestImages(images, classes, tuple('abcd'), 'test')
    draw_pictures(tmp_path, result, {'strong': answers, 'weak': answers}, test)
    for name in ('confusion_strong', 'confusion_weak', 'mistakes'):
        assert (tmp_path / f'{name}.png').stat().st_size > 100
