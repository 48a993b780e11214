# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the network brings, beside plain WebP that costs no training."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stl_conveyor.assess.fitted_file import SCALES, FittedFile
from stl_conveyor.assess.network_gain import RESCALED_WEBP, answers_to_webp, gain_lines


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(3)
    axis = np.arange(96)
    return np.stack(
        [
            np.clip(
                127
                + 90 * np.sin(axis[:, None, None] * a + axis[None, :, None] * b)
                + rng.normal(0, 12, (96, 96, 3)),
                0,
                255,
            )
            for a, b in rng.uniform(-0.4, 0.4, (6, 2))
        ]
    ).astype(np.uint8)


class Brightness:
    """Stands in for a strong classifier: class 1 where the left half is the brighter one."""

    def classify_batch(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (96, 96, 3)
        brighter = batch[:, :, :48].mean((1, 2, 3)) > batch[:, :, 48:].mean((1, 2, 3))
        return np.eye(2)[brighter.astype(int)]


def test_webp_may_shrink_what_would_not_fit(images):
    whole = FittedFile('WEBP', method=6)
    sizes = (64, 300, 1200)
    for image in images:
        found = RESCALED_WEBP.encode_all(image, sizes)
        for size, data in zip(sizes, found):
            assert data is None or len(data) <= size
        assert found[1] is not None
        with Image.open(io.BytesIO(found[1])) as small:
            assert small.width in {round(96 * scale) for scale in SCALES}
        assert RESCALED_WEBP.decode(found[1], 96).shape == image.shape
        assert RESCALED_WEBP.encode(image, 300) == found[1]
    assert any(whole.encode(image, 300) is None for image in images)


def test_what_has_no_file_counts_as_wrong(images):
    strong = Brightness()
    classes = strong.classify_batch(images).argmax(1)
    found = answers_to_webp(strong, images, classes, (16, 2000))
    assert not found[16].right.any() and found[16].mean_bytes == 0
    assert found[2000].right.all() and 0 < found[2000].mean_bytes <= 2000


def shares(*accuracies, count=400):
    return [np.arange(count) < round(share * count) for share in accuracies]


def test_a_gain_is_said_with_its_interval_and_with_what_there_is():
    weak, strong, edge, fused, webp = shares(0.80, 0.92, 0.85, 0.90, 0.70)
    lines = gain_lines(weak, strong, {512: edge}, {512: fused}, {512: webp}, 512)
    assert len(lines) == 1
    assert '512 bytes brings +0.100 [' in lines[0] and 'originals has +0.120' in lines[0]
    assert 'little' not in lines[0]


@pytest.mark.parametrize(
    ('weak', 'strong', 'fused', 'remedy'),
    [(0.90, 0.91, 0.905, 'policy:=never'), (0.80, 0.92, 0.84, '--minutes')],
)
def test_little_is_called_little_and_has_a_remedy(weak, strong, fused, remedy):
    weak, strong, fused = shares(weak, strong, fused)
    (line,) = gain_lines(weak, strong, {512: fused}, {512: fused}, {512: weak}, 512)
    assert 'brings little' in line and remedy in line


def test_plain_webp_is_named_where_it_is_ahead():
    weak, strong, few, many, ahead = shares(0.80, 0.92, 0.86, 0.87, 0.90)
    edge = {512: few, 1024: many, 2048: many}
    webp = {512: weak, 1024: ahead, 2048: strong}
    _, line = gain_lines(weak, strong, edge, edge, webp, 512)
    assert 'ahead of the codec alone at 1,024, 2,048 bytes, most at 2,048: +0.050 [' in line
