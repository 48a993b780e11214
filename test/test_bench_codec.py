# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The codec's benchmark counts what it says it counts."""
import json

import numpy as np
import pytest

from stl_conveyor.bench.codec import bench_codec, load_test, score, wilson
from stl_conveyor.errors import ConfigError
from stl_conveyor.training.image_folder import load_images
from stl_conveyor.training.tiny import make_tiny_model_folder, tiny_images
from stl_conveyor.vision.model_folder import ModelFolder

LABELS = ('red', 'yellow', 'green', 'blue')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    (folder / 'test').mkdir()
    images, classes = tiny_images(24, len(LABELS), seed=11)
    np.savez(folder / 'test' / '1.npz', pixels=images, labels=classes)
    return folder


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return make_tiny_model_folder(tmp_path_factory.mktemp('models'), LABELS)


def test_no_answer_is_a_wrong_answer():
    answers = np.array([[.9, .1], [np.nan, np.nan], [.2, .8], [.6, .4]], np.float32)
    row = score('x', 10, 7.5, answers, np.array([0, 0, 1, 1]))
    assert row.accuracy == .5 and row.low < .5 < row.high
    assert row.overconfidence == pytest.approx((.9 + .8 + .6 - 2) / 4, abs=1e-3)


def test_interval_is_the_published_example():
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((.2553, .3662), abs=2e-4)


def test_whole_benchmark_runs_and_adds_up(data, models, tmp_path):
    result = bench_codec(models, data, tmp_path, images=8, sizes=(64, 512, 4096))
    written = json.loads((tmp_path / 'codec.json').read_text())
    assert written == json.loads(json.dumps(result))
    assert (tmp_path / 'codec.png').stat().st_size > 1000
    rows = {(row['codec'], row['budget']): row for row in result['codecs']}
    assert len(rows) == 3 * 9
    for row in rows.values():
        assert row['mean_bytes'] <= row['budget']
    strong = result['originals'][0]['accuracy']
    assert rows['this codec', 4096]['accuracy'] >= strong - .13
    assert rows['JPEG', 64]['accuracy'] == 0
    assert all(value > 0 for value in result['milliseconds'].values())
    assert '| 512 |' in (tmp_path / 'codec.md').read_text()


def test_data_without_these_labels_is_refused(models, tmp_path):
    with pytest.raises(ConfigError, match='belong together'):
        load_test(tmp_path, ModelFolder(models), 10)


def test_images_are_read_from_folders_and_tables(tmp_path):
    from PIL import Image
    images, classes = tiny_images(6, 2, seed=1)
    lines = []
    for number, (image, label) in enumerate(zip(images, classes)):
        path = tmp_path / 'train' / 'ab'[label] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        lines.append(f'train/{"ab"[label]}/{number}.png,{"ab"[label]}\n')
    (tmp_path / 'val.csv').write_text(''.join(lines))
    by_folder = load_images(tmp_path, 'train', ['a', 'b'], 160)
    by_table = load_images(tmp_path, 'val', ['a', 'b'], 160)
    assert np.array_equal(by_table.images, images)
    assert np.array_equal(by_table.classes, classes)
    assert sorted(by_folder.classes) == sorted(classes)
    assert load_images(tmp_path, 'test', ['a', 'b'], 160) is None
    parts = by_table.split(0)
    assert sum(len(part.classes) for part in parts) == 6
