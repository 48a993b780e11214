# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""stl-conveyor evaluate and export, on tiny models; and how commands refuse what is wrong."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stl_conveyor.assess.evaluation import play_offloading, top_confusions
from stl_conveyor.assess.reliability import expected_calibration_error, reliability
from stl_conveyor.cli.main import main
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.manifest import register_model, write_card, write_readme
from stl_conveyor_lab.train.reward.estimators import fit_entropy_reward
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_pictures

ROOT = Path(__file__).resolve().parents[2]
LABELS = ('red', 'green', 'blue')
SIZE = 96


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = make_tiny_model_folder(tmp_path_factory.mktemp('own') / 'tiny', LABELS, SIZE)
    write_card(folder, 'weak', {'role': 'weak', 'accuracy': 0.5})
    write_readme(folder, LABELS, 'Made in a test.')
    return folder


@pytest.fixture
def pictures(tmp_path):
    for split in ('test', 'train'):
        tiny_pictures(tmp_path / 'pictures' / split, LABELS, 24, SIZE, seed=9)
    return tmp_path / 'pictures'


def read_json(path):
    """Return the content of a file of JSON, which knows no NaN."""

    def refuse(constant):
        raise ValueError(f'{path}: {constant} is not JSON')

    return json.loads(path.read_text(), parse_constant=refuse)


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert 'Traceback' not in said.err
    return code, said.out, said.err


# Evaluate -------------------------------------------------------------------------------------


def test_evaluate_writes_its_report_pictures_and_numbers(models, pictures, tmp_path, capsys):
    code, out, err = run(
        capsys, 'evaluate', models, '--data', pictures, '--out', tmp_path / 'out', '--budget', 300
    )
    assert code == 0, err
    result = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    assert result['images'] == 24 and result['split'] == 'test' and result['budget'] == 300
    rows = {(row['bytes'], row['local_answer']): row for row in result['by_bytes']}
    assert {size for size, _ in rows} == {64, 128, 256, 300, 512, 1024, 2048, 4096}
    for (size, _), row in rows.items():
        assert 0 < row['mean_bytes'] <= size
        assert row['low'] <= row['accuracy'] <= row['high']
    assert rows[300, True]['accuracy'] == result['accuracy']['edge']['accuracy']
    assert [row['bytes'] for row in result['webp_by_bytes']] == sorted({size for size, _ in rows})
    for row in result['webp_by_bytes']:
        assert row['mean_bytes'] <= row['bytes']
        assert row['low'] <= row['accuracy'] <= row['high']
    assert 'offloading every item with 300 bytes brings' in result['gain'][0]
    assert result['gain'][0] in out
    assert abs(sum(result['outcomes'].values()) - 1) < 1e-3
    assert set(result['milliseconds']) == {
        'weak classifier',
        'encode',
        'decode',
        'edge classifier',
        'strong classifier',
    }
    with open(tmp_path / 'out' / 'items.csv', newline='', encoding='utf-8') as stream:
        items = list(csv.DictReader(stream))
    assert len(items) == 24
    for role in ('weak', 'strong', 'edge'):
        right = sum(item[role] == item['class'] for item in items) / 24
        assert abs(right - result['accuracy'][role]['accuracy']) < 1e-3
    page = (tmp_path / 'out' / 'evaluation.md').read_text()
    named = {line.split('(')[1].rstrip(')') for line in page.splitlines() if line.startswith('![')}
    assert len(named) == 7
    for name in named:
        assert Image.open(tmp_path / 'out' / name).size[0] > 200
    assert 'not set aside' not in page
    assert 'WebP, may downscale' in page and 'Offloading every item with 300 bytes' in page


def test_evaluate_reports_the_lanes_of_a_cell(models, pictures, tmp_path, capsys):
    content = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text())
    content['costs'] = {'reject': 0.4}
    content['lanes'] = [
        {'name': 'A', 'diverter_x': 0.36, 'classes': ['red', 'green']},
        {'name': 'B', 'diverter_x': 0.60, 'classes': ['blue']},
    ]
    cell_file = tmp_path / 'cell.yaml'
    cell_file.write_text(yaml.safe_dump(content))
    strangers = tmp_path / 'strangers'
    strangers.mkdir()
    Image.new('RGB', (80, 60), 'white').save(strangers / 'paper.png')
    given = ('evaluate', models, '--data', pictures, '--out', tmp_path / 'out')
    code, out, err = run(capsys, *given, '--cell', cell_file, '--strangers', strangers)
    assert code == 0, err
    cell = read_json(tmp_path / 'out' / 'evaluation.json')['cell']
    assert {'device alone', 'edge, every item', 'offloading, r = 0.1'} <= set(cell['ways'])
    for way in cell['ways'].values():
        assert set(way['lanes']) == {'A', 'B'}
        entered = sum(lane['entered'] for lane in way['lanes'].values())
        assert entered + round(24 * way['rejected']['value']) == 24
        for share in (way['purity'], way['yield'], way['rejected'], way['cost_per_1000']):
            assert share['low'] <= share['value'] <= share['high']
        assert set(way['foreign_caught'].values()) == {None}  # no such picture is labelled
    assert cell['strangers']['images'] == 1
    page = (tmp_path / 'out' / 'evaluation.md').read_text()
    assert '| lane B: purity / yield |' in page and 'Strangers caught, of 1:' in page
    assert (tmp_path / 'out' / 'cell_purity.png').exists()


def test_evaluate_refuses_strangers_and_targets_before_its_work(
    models, pictures, tmp_path, capsys
):
    given = ('evaluate', models, '--data', pictures, '--out', tmp_path / 'out')
    content = yaml.safe_load((ROOT / 'config' / 'cell.yaml').read_text())
    content['lanes'] = [{'name': 'A', 'diverter_x': 0.36, 'classes': ['red']}]
    usual, pure = tmp_path / 'usual.yaml', tmp_path / 'pure.yaml'
    usual.write_text(yaml.safe_dump(content))
    content['lanes'][0]['purity'] = 0.99
    pure.write_text(yaml.safe_dump(content))
    nothing = tmp_path / 'nothing'
    nothing.mkdir()
    for more, named in (
        (('--strangers', pictures), '--cell'),
        (('--strangers', nothing, '--cell', usual), 'has no picture that can be read'),
        (('--cell', pure), 'A has a purity target'),
    ):
        code, out, err = run(capsys, *given, *more)
        assert code == 2 and named in err
        assert 'weak' not in out and not (tmp_path / 'out').exists()


def test_evaluate_warns_of_images_that_nobody_set_aside(models, pictures, tmp_path, capsys):
    code, _, err = run(
        capsys, 'evaluate', models, '--data', pictures / 'train', '--out', tmp_path / 'out'
    )
    assert code == 0, err
    assert 'not set aside' in (tmp_path / 'out' / 'evaluation.md').read_text()


def test_evaluate_refuses_what_does_not_belong_together(models, pictures, tmp_path, capsys):
    out = tmp_path / 'out'
    shutil.copytree(pictures / 'test' / 'red', pictures / 'test' / 'violet')
    shutil.copytree(pictures / 'test' / 'red', pictures / 'train' / 'violet')
    code, _, err = run(capsys, 'evaluate', models, '--data', pictures, '--out', out)
    assert code == 2 and "'violet'" in err and 'tiny' in err
    code, _, err = run(capsys, 'evaluate', tmp_path, '--data', pictures, '--out', out)
    assert code == 2 and 'manifest.json' in err
    code, _, err = run(
        capsys, 'evaluate', models, '--data', pictures, '--out', out, '--split', 'val'
    )
    assert code == 2 and "'val'" in err
    assert not out.exists()


def test_offloading_is_bounded_by_chance_and_hindsight():
    rng = np.random.default_rng(3)
    count = 400
    sure = rng.uniform(0.35, 1, count)
    probabilities = np.stack([sure, 1 - sure], 1)
    probabilities[:, 1] *= 0.7
    probabilities = np.concatenate([probabilities, 1 - probabilities.sum(1, keepdims=True)], 1)
    weak = rng.random(count) < sure
    edge = rng.random(count) < 0.93
    estimator = fit_entropy_reward(probabilities, weak, edge)
    rates = (Fraction(0), Fraction(1, 5), Fraction(1, 2), Fraction(1))
    rows = play_offloading(estimator, estimator.expected_rewards(probabilities), weak, edge, rates)
    assert abs(rows[0]['mdp']['accuracy'] - weak.mean()) < 0.002  # what the full bucket buys
    assert rows[3]['random'] == round(float(edge.mean()), 4)
    for row in rows[1:3]:
        assert row['mdp_offloaded'] <= row['rate'] + 0.01
        assert row['random'] < row['mdp']['accuracy'] < row['hindsight']
        assert row['mdp']['low'] < row['mdp']['accuracy'] < row['mdp']['high']
    assert rows[1]['mdp']['accuracy'] < rows[2]['mdp']['accuracy']


def test_calibration_error_is_that_of_the_definition():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.6, 0.4]])
    classes = np.array([0, 1, 0, 0])
    assert np.allclose(reliability(probabilities, classes, 10), [(0.6, 1, 2), (0.95, 0.5, 2)])
    assert np.isclose(
        expected_calibration_error(probabilities, classes, 10), 0.5 * 0.4 + 0.5 * 0.45
    )


def test_confusions_count_wrong_answers_alone():
    found = top_confusions(np.array([0, 1, 1, 2, 1]), np.array([0, 0, 0, 1, 1]), LABELS)
    assert found == [
        {'true': 'red', 'answer': 'green', 'images': 2},
        {'true': 'green', 'answer': 'blue', 'images': 1},
    ]


# Export ---------------------------------------------------------------------------------------


def check_same(one, other):
    one, other = ModelFolder(one), ModelFolder(other)
    assert (one.name, one.labels, one.image_size) == (other.name, other.labels, other.image_size)
    for role in ('weak', 'strong', 'encoder', 'edge', 'reward'):
        assert one.path(role).read_bytes() == other.path(role).read_bytes()
    assert Encoder(one).identity == Decoder(other).identity


def test_a_folder_goes_into_a_zip_file_and_back(models, tmp_path, capsys):
    (models / 'notes.txt').write_text('stays at home')
    archive, back = tmp_path / 'mine.zip', tmp_path / 'sub' / 'back'
    assert run(capsys, 'export', models, '--out', archive)[0] == 0
    code, out, err = run(capsys, 'export', archive, '--out', back)
    assert code == 0 and f'models_dir:={back}' in out, err
    check_same(models, back)
    assert (back / 'README.md').exists() and (back / 'weak.card.json').exists()
    assert not (back / 'notes.txt').exists()
    assert run(capsys, 'export', models, '--out', tmp_path / 'again.zip')[0] == 0
    with zipfile.ZipFile(archive) as one, zipfile.ZipFile(tmp_path / 'again.zip') as other:
        assert [e.CRC for e in one.infolist()] == [e.CRC for e in other.infolist()]
    # Nothing unfinished stays behind.
    assert {path.name for path in tmp_path.iterdir()} == {'mine.zip', 'again.zip', 'sub'}


def test_a_folder_goes_into_a_folder(models, tmp_path, capsys):
    code, out, err = run(capsys, 'export', models, '--out', tmp_path / 'folder')
    assert code == 0 and 'models_dir:=' in out, err
    check_same(models, tmp_path / 'folder')


def damaged(models, tmp_path, change):
    copy = tmp_path / 'copy'
    shutil.copytree(models, copy)
    change(copy)
    return copy


def rewrite(copy, **fields):
    manifest = json.loads((copy / 'manifest.json').read_text())
    manifest.update(fields)
    (copy / 'manifest.json').write_text(json.dumps(manifest))


def without(role):
    def change(copy):
        manifest = json.loads((copy / 'manifest.json').read_text())
        del manifest['files'][role]
        (copy / 'manifest.json').write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda copy: (copy / 'edge.onnx').unlink(), ('edge.onnx', 'restore')),
        (
            lambda copy: (copy / 'weak.onnx').write_bytes(
                (copy / 'weak.onnx').read_bytes() + b'x'
            ),
            ('weak.onnx', 'SHA-256'),
        ),
        (lambda copy: (copy / 'manifest.json').unlink(), ('manifest.json',)),
        (lambda copy: rewrite(copy, labels=[*LABELS, 'violet']), ('weak', '3 labels')),
        (lambda copy: rewrite(copy, image_size=128), ('weak', '128')),
        (without('strong'), ('strong',)),
        (without('reward'), ('reward',)),
    ],
)
def test_what_is_missing_or_changed_is_refused_by_name(models, tmp_path, capsys, change, words):
    copy = damaged(models, tmp_path, change)
    for out in ('out', 'out.zip'):
        code, _, err = run(capsys, 'export', copy, '--out', tmp_path / out)
        assert code == 2 and all(word in err for word in words), err
    assert [path.name for path in tmp_path.iterdir()] == ['copy']


def test_nothing_is_overwritten(models, tmp_path, capsys):
    archive = tmp_path / 'a.zip'
    run(capsys, 'export', models, '--out', archive)
    before = archive.read_bytes()
    for out in (archive, tmp_path):
        code, _, err = run(capsys, 'export', models, '--out', out)
        assert code == 2 and 'exists already' in err
    code, _, err = run(capsys, 'export', archive, '--out', tmp_path)
    assert code == 2 and 'exists already' in err
    assert archive.read_bytes() == before


@pytest.mark.parametrize(
    'names, words',
    [
        (['a/weak.onnx'], ('0 manifest.json',)),
        (['a/manifest.json', 'b/manifest.json'], ('2 manifest.json',)),
        (['manifest.json', '../evil.txt'], ('outside',)),
    ],
)
def test_archives_that_are_none_of_ours_are_refused(tmp_path, capsys, names, words):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        for name in names:
            archive.writestr(name, '{}')
    code, _, err = run(capsys, 'export', tmp_path / 'x.zip', '--out', tmp_path / 'sub' / 'out')
    assert code == 2 and all(word in err for word in words), err
    assert not (tmp_path / 'evil.txt').exists() and not list((tmp_path / 'sub').iterdir())


def test_a_file_that_is_no_archive_is_refused(tmp_path, capsys):
    (tmp_path / 'x.zip').write_bytes(b'PK no zip')
    code, _, err = run(capsys, 'export', tmp_path / 'x.zip', '--out', tmp_path / 'out')
    assert code == 2 and 'x.zip' in err and not (tmp_path / 'out').exists()


def test_files_of_other_roles_go_along_and_are_checked_too(models, tmp_path, capsys):
    copy = damaged(models, tmp_path, lambda copy: (copy / 'budget.json').write_text('{}'))
    register_model(copy, 'budget', copy / 'budget.json', LABELS, SIZE)
    assert run(capsys, 'export', copy, '--out', tmp_path / 'a.zip')[0] == 0
    with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
        assert 'a/budget.json' in archive.namelist()
    (copy / 'budget.json').write_text('[]')
    code, _, err = run(capsys, 'export', copy, '--out', tmp_path / 'b.zip')
    assert code == 2 and 'budget.json' in err


# The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize('command', ['collect', 'evaluate', 'export'])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, '--help'])
    assert end.value.code == 0
    assert '--out' in capsys.readouterr().out


def test_a_process_that_the_command_starts_does_not_run_it_again(repo_root):
    # So does multiprocessing's spawn, with which the training measures its times.
    names = runpy.run_path(str(repo_root / 'scripts' / 'stl-conveyor'), run_name='__mp_main__')
    assert callable(names['main'])
