# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The codec's benchmark counts what it says it counts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_limitnet import make_tiny_limitnet
from tiny_st import make_tiny_st

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.sim.link import MILLISECOND, named_link
from stl_conveyor.vision.image_folder import load_images
from stl_conveyor_lab.bench.codec.accuracy import bench_codec, load_test, main, missing_references
from stl_conveyor_lab.bench.codec.deadline import (
    Plan,
    Sender,
    budgets,
    byte_budget,
    deadline_cells,
    delivered,
    starts_ns,
)
from stl_conveyor_lab.measure.cache import PART, BenchCache
from stl_conveyor_lab.measure.codec_time import device_megabytes, st_encoder_shape
from stl_conveyor_lab.measure.scores import (
    above_all,
    accuracy_row,
    bytes_to_reach,
    paired,
    reached,
    right_answers,
    wilson,
)
from stl_conveyor_lab.references import BestQuality, StCodec, image_codecs
from stl_conveyor_lab.train.manifest import register_model
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

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


@pytest.fixture(scope='module')
def references(tmp_path_factory, models):
    folder = make_tiny_st(tmp_path_factory.mktemp('references'), LABELS)
    make_tiny_limitnet(folder, LABELS)
    tuned = folder / 'tuned_webp_6_may_downscale.onnx'
    tuned.write_bytes((models / 'strong.onnx').read_bytes())
    register_model(folder, 'tuned_webp_6_may_downscale', tuned, LABELS, 160)
    return folder


def test_no_answer_is_a_wrong_answer():
    answers = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8], [0.6, 0.4]], np.float32)
    row = accuracy_row('x', 10, 7.5, answers, np.array([0, 0, 1, 1]))
    assert row.accuracy == 0.5 and row.low < 0.5 < row.high
    assert row.top5 == 0.75 and row.top5_low < 0.75 < row.top5_high
    assert row.overconfidence == pytest.approx((0.9 + 0.8 + 0.6 - 2) / 4, abs=1e-3)
    assert right_answers(answers, np.array([0, 0, 1, 1])).tolist() == [1, 0, 1, 0]


def test_intervals_are_the_published_examples():
    # Newcombe, Statistics in Medicine 1998: single proportion, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=2e-4)
    # Paired differences, table II, method 10: 36, 12, 2, 0.
    a = np.repeat([True, True, False, False], (36, 12, 2, 0))
    b = np.repeat([True, False, True, False], (36, 12, 2, 0))
    found = paired('a', 'b', 1, a, b)
    assert (found.difference, found.low, found.high) == pytest.approx(
        (0.2, 0.0569, 0.3404), abs=1e-4
    )


def test_findings_say_by_how_much():
    a, b = np.arange(20) < 15, np.arange(20) < 13
    better, equal = paired('ours', 'x', 64, a, b), paired('ours', 'y', 128, b, b)
    assert above_all('c', [better]).met
    finding = above_all('c', [better, equal])
    assert not finding.met and 'against y at 128 B; 1 of 2' in finding.seen
    assert above_all('not below', [better, equal], -1e-9).met
    assert above_all('c', []).met is None
    row = accuracy_row('x', 64, 60, np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))
    high, low = reached('r', {64: row}, {64: 0.7, 128: 0.9}), reached('r', {64: row}, {64: 0.8})
    assert len(high) == 1 and high[0].met and not low[0].met and '-0.050' in low[0].seen
    rows = [replace(row, budget=n, accuracy=n / 1000) for n in (64, 512, 128)]
    assert bytes_to_reach(rows, 0.1) == 128 and bytes_to_reach(rows, 0.9) is None


def test_encodings_are_kept_and_new_sizes_added(tmp_path):
    images = tiny_images(PART + 3, 4, seed=1)[0]
    codec, lines = BestQuality('WEBP', method=0), []
    cache = BenchCache(tmp_path, images)
    first = cache.encodings(codec, (200, 600), lines.append)
    assert len(lines) == 2 and len(first[600]) == len(images)
    assert first[600] == [codec.encode(image, 600) for image in images]
    again = BenchCache(tmp_path, images, jobs=2).encodings(codec, (600, 200, 300), lines.append)
    assert again[200] == first[200] and again[600] == first[600] and len(lines) == 4
    assert again[300] == [codec.encode(image, 300) for image in images]
    BenchCache(tmp_path, images).encodings(codec, (200, 300, 600), lines.append)
    assert len(lines) == 4
    assert BenchCache(tmp_path, images[1:]).encodings(codec, (200,))[200] == first[200][1:]


def test_answers_are_those_of_the_decoded_image(models, tmp_path):
    images = tiny_images(5, 4, seed=2)[0]
    codec, lines = BestQuality('JPEG', downscale=True), []
    cache, strong = BenchCache(tmp_path, images), Classifier(models / 'strong.onnx')
    strings = cache.encodings(codec, (300, 900))
    strings[300][1] = None
    answers = cache.answers(codec, {'strong-1': strong}, strings, lines.append)['strong-1']
    assert np.isnan(answers[300][1]).all()
    assert np.allclose(answers[900][2], strong.classify(codec.decode(strings[900][2], 160)))
    again = cache.answers(codec, {'strong-1': strong}, strings, lines.append)['strong-1']
    assert np.array_equal(again[900], answers[900]) and len(lines) == 1


def test_budget_of_a_constant_link_is_exactly_what_arrives():
    settings = named_link('heavy')
    for deadline, ready in ((300, 0.0), (700, 12.5)):
        size = byte_budget(settings, deadline, ready)
        assert delivered([size], lambda k: ready, settings, 0, deadline, 1) == 1
        late = size + settings.jitter_ns * settings.bandwidth.rates[0] // (8 * 10**9) + 1
        assert delivered([late], lambda k: ready, settings, 0, deadline, 1) == 0
    # 34.3 kbit/s for 297 ms less the overhead of one message.
    assert byte_budget(settings, 300, 0) == 34_300 * 297 // 8000 - 150
    assert max(budgets(0, 4096)) == 4096 and len(budgets(0, 4096)) == 8


def test_packets_that_are_not_ready_do_not_arrive():
    settings = named_link('none')
    sizes = [100, 100, 100]
    assert delivered(sizes, lambda k: 0, settings, 0, 300, 0) == 3
    assert delivered(sizes, lambda k: 120 * (k + 1), settings, 0, 300, 0) == 2
    assert delivered([], lambda k: 0, settings, 0, 300, 0) == 0
    # Each message costs 150 bytes beside its own.
    ends = (250 * 8 * 1000 / 67_500) * np.arange(1, 4)
    for n, end in enumerate(ends, 1):
        assert delivered(sizes, lambda k: 0, settings, 0, end + 3.1, 0) == n
        assert delivered(sizes, lambda k: 0, settings, 0, end + 1.9, 0) == n - 1


def test_items_start_along_the_whole_trace():
    starts = starts_ns(6, 'trace')
    lap = 60 * 500 * MILLISECOND
    assert starts == [lap * k // 6 for k in range(6)]
    assert starts_ns(3, 'none') == [0, 0, 0]


def test_sizes_are_chosen_on_the_other_half():
    # A big file that arrives too late over the heavy link at 300 ms, and a small one.
    never, right = np.zeros((10, 2), bool), np.zeros((10, 2), bool)
    right[:, 1] = np.arange(10) % 5 != 0
    small = Plan(500, [[500]] * 10, right)
    big = Plan(3000, [[3000]] * 10, np.stack([never[:, 0], np.ones(10, bool)], 1))
    cells = deadline_cells(Sender('x', [small, big], lambda k: 1.0, False))
    late, soon = cells['heavy', 300], cells['none', 700]
    assert late[0].accuracy == 0.8 and late[0].choices == (500, 500) and late[0].clairvoyant == 0.8
    assert late[1].tolist() == right[:, 1].tolist() and late[0].mean_bytes == 500
    assert soon[0].accuracy == 1 and soon[0].choices == (3000, 3000)
    # Right on the even items only, the small size looks worst to the odd half's judge.
    right[:, 1] = np.arange(10) % 2 == 0
    middle = Plan(600, [[600]] * 10, np.stack([never[:, 0], np.arange(10) % 2 == 1], 1))
    crossed = deadline_cells(Sender('x', [small, middle], lambda k: 1.0, False))['none', 700][0]
    assert crossed.accuracy == 0 and crossed.choices == (600, 500)


def test_whole_benchmark_runs_and_adds_up(data, models, references, tmp_path, capsys):
    result = bench_codec(
        models, data, tmp_path, images=8, sizes=(64, 512, 4096), references=references
    )
    written = json.loads((tmp_path / 'codec.json').read_text())
    assert written == json.loads(json.dumps(result))
    for picture in ('codec.png', 'codec_deadlines.png'):
        assert (tmp_path / picture).stat().st_size > 1000
    rows = {(row['codec'], row['budget']): row for row in result['codecs']}
    # Ours twice, seven files, one of them tuned, ST and LimitNet.
    assert len(rows) == 3 * 12
    for row in rows.values():
        assert row['mean_bytes'] <= row['budget']
    strong = result['originals'][0]['accuracy']
    assert rows['this codec', 4096]['accuracy'] >= strong - 0.13
    assert rows['JPEG', 64]['accuracy'] == 0
    same = [rows[f'WebP 6, may downscale{kind}', 512]['accuracy'] for kind in ('', ', tuned')]
    assert same[0] == same[1]
    difference = next(
        d
        for d in result['differences']
        if d['budget'] == 512 and d['ours'] == 'this codec' and d['reference'] == 'ST'
    )
    assert difference['difference'] == pytest.approx(
        rows['this codec', 512]['accuracy'] - rows['ST', 512]['accuracy'], abs=1e-3
    )
    assert len(result['deadlines']) == 2
    for cells in result['deadlines'].values():
        assert len(cells) == 12 * 12
        assert all(0 <= cell['accuracy'] <= 1 for cell in cells)
    assert all(value > 0 for value in result['milliseconds'].values())
    assert result['device_megabytes'] > 20
    page = (tmp_path / 'codec.md').read_text()
    assert '| codec | 64 B | 512 B | 4096 B |' in page and 'Not in this comparison' in page
    assert '--codec jpeg_may_downscale' in capsys.readouterr().out
    assert not any('--codec webp_6_may_downscale ' in line for line in result['missing'])


def test_a_second_run_goes_on_from_the_first(data, models, tmp_path, capsys):
    command = [
        '--out',
        tmp_path,
        '--data',
        data,
        '--models',
        models,
        '--images',
        4,
        '--only',
        'jpeg',
    ]
    assert main([*map(str, command)]) == 0
    first = json.loads((tmp_path / 'codec.json').read_text())
    assert 'JPEG: encoded 1/1 parts' in capsys.readouterr().out
    assert main([*map(str, command)]) == 0
    assert 'JPEG: encoded 1/1 parts' not in capsys.readouterr().out
    second = json.loads((tmp_path / 'codec.json').read_text())
    assert first['codecs'] == second['codecs'] and len(first['codecs']) == 3 * 11


def test_what_is_missing_is_named_with_its_command(models, references):
    everything = [*image_codecs(), StCodec(ModelFolder(references))]
    lines = missing_references(ModelFolder(references), everything, references)
    assert any('recurrent is not trained' in line for line in lines)
    assert not any(line.startswith('limitnet is') for line in lines)
    (line,) = (line for line in missing_references(None, (), None) if line.startswith('limitnet'))
    assert 'train.references.limitnet --data' in line
    assert not any(line.startswith('st is') for line in lines)
    assert any('--codec st ' in line and 'references.tune' in line for line in lines)


def test_wrong_folders_and_slugs_are_refused(data, models, references, tmp_path, capsys):
    with pytest.raises(ConfigError, match='belong together'):
        load_test(tmp_path, ModelFolder(models), 10)
    other = make_tiny_model_folder(tmp_path / 'other', ('a', 'b'))
    with pytest.raises(ConfigError, match='other labels'):
        bench_codec(models, data, tmp_path / 'out', 4, references=other)
    arguments = ['--out', tmp_path / 'o', '--data', data, '--models', models, '--only', 'gif']
    assert main([*map(str, arguments)]) == 2
    assert 'webp_6_may_downscale' in capsys.readouterr().err


def test_images_named_by_index_are_read(models, tmp_path):
    from PIL import Image

    images, classes = tiny_images(3, 4, seed=3)
    for number, (image, label) in enumerate(zip(images, classes)):
        Image.fromarray(image).save(tmp_path / f'{label:04d}_n{number:08d}_thing.jpg', quality=95)
    found = load_test(tmp_path, ModelFolder(models), 10)
    assert sorted(found.classes) == sorted(classes) and found.images.shape == (3, 160, 160, 3)


def test_st_shape_is_that_of_the_paper():
    session = st_encoder_shape(224)
    (levels,) = session.run(['levels'], {'image': np.zeros((1, 224, 224, 3), np.uint8)})
    assert levels.shape == (1, 10, 32, 32) and levels.dtype == np.uint8


def test_memory_is_that_of_a_fresh_process(models):
    assert 20 < device_megabytes(models) < 500


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
