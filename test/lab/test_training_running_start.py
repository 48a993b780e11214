# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a training of the codec starts from, and how that is made."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.codec.fit import fit_spec, pca_transform
from stl_conveyor_lab.train.tiny import tiny_images

torch = pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')
pytest.importorskip(
    'efficientnet_lite_pytorch', reason='training needs the laboratory: make setup-lab'
)

from stl_conveyor_lab.train.classifiers.networks import FoldedStrongNet  # noqa: E402
from stl_conveyor_lab.train.codec import pretraining, trunk_share  # noqa: E402
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork  # noqa: E402
from stl_conveyor_lab.train.codec.export import export_codec  # noqa: E402
from stl_conveyor_lab.train.codec.prefixes import prefix_sampler  # noqa: E402
from stl_conveyor_lab.train.codec.recipe import CodecRecipe  # noqa: E402
from stl_conveyor_lab.train.codec.running_start import SHIPPED, RunningStart  # noqa: E402
from stl_conveyor_lab.train.lite0 import FoldedTrunk, lite  # noqa: E402
from stl_conveyor_lab.train.manifest import register_model  # noqa: E402
from stl_conveyor_lab.train.onnx_export import export_onnx  # noqa: E402
from stl_conveyor_lab.train.temperature import TemperatureScaled  # noqa: E402


def trunk(classes, seed, name='lite0'):
    torch.manual_seed(seed)
    return FoldedTrunk(lite(classes, False, name).eval())


@pytest.fixture(scope='module')
def images():
    return tiny_images(24, 3, 96, seed=2)[0]


@pytest.fixture(scope='module')
def spec(images):
    mean, analysis = pca_transform(images, 16, 12, 2, 8)
    return fit_spec(images, mean, analysis, labels=3, max_groups=80)


@pytest.fixture(scope='module')
def trained(spec):
    """Return a network that differs from the published one by something everywhere."""
    network = EdgeNetwork(trunk(5, 0), spec, restore=8)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network


def test_a_start_survives_its_file_and_moves_a_tuned_trunk(spec, trained, tmp_path):
    start = RunningStart.of(trained, trunk(5, 0))
    path = tmp_path / 'start.npz'
    start.save(path)
    read = RunningStart.load(path)
    assert (read.patch, read.restore) == (16, 8)
    assert path.stat().st_size < 1.1 * sum(w.numel() for w in start.weights.values()) + 65_000
    own = EdgeNetwork(trunk(3, 1), spec, restore=8)  # other classes, other weights
    before = {name: value.clone() for name, value in own.state_dict().items()}
    read.give(own)
    theirs = trained.state_dict()
    published = trunk(5, 0).state_dict()
    for name, value in own.state_dict().items():
        if name.startswith('restoration'):
            assert torch.allclose(value, theirs[name], atol=1.2e-3), name
        elif name.startswith('trunk.') and 'classifier' not in name:
            moved = theirs[name] - published[name.removeprefix('trunk.')]
            assert torch.allclose(value - before[name], moved, atol=5e-4), name
        else:
            assert torch.equal(value, before[name]), name


def test_a_file_from_before_gives_what_is_still_taken(trained, tmp_path):
    start, path = RunningStart.of(trained, trunk(5, 0)), tmp_path / 'start.npz'
    start.save(path)
    with np.load(path) as file:
        before = dict(file)
    old = {'analysis': np.zeros((4, 12), np.float16), 'branch.0.bias': np.zeros(8, np.float16)}
    np.savez(path, **before, **old)
    assert RunningStart.load(path).weights.keys() == start.weights.keys()


def test_a_restoration_alone_leaves_branch_and_trunk(spec, trained, tmp_path):
    path = tmp_path / 'restoration.npz'
    RunningStart.of_restoration(trained).save(path)
    start = RunningStart.load(path)
    assert not start.moves_trunk
    assert (start.patch, start.restore) == (16, 8)
    own, before = (EdgeNetwork(trunk(3, 1), spec, restore=8) for _ in range(2))
    before.load_state_dict(own.state_dict())
    start.give(own)
    for name, value in own.state_dict().items():
        expected = trained if name.startswith('restoration.') else before
        assert torch.allclose(value, expected.state_dict()[name], atol=1.2e-3), name
    assert RunningStart.of(trained, trunk(5, 0)).moves_trunk


def test_a_start_of_other_shapes_or_another_file_is_refused(spec, trained, tmp_path):
    start = RunningStart.of(trained, trunk(5, 0))
    with pytest.raises(ConfigError, match='--running-start none'):
        start.give(EdgeNetwork(trunk(3, 1), spec, restore=16))
    with pytest.raises(ConfigError, match='--running-start none'):
        start.give(EdgeNetwork(trunk(3, 1), spec))
    other = tmp_path / 'other.npz'
    np.savez(other, weights=np.zeros(3))
    with pytest.raises(ConfigError, match='no running start'):
        RunningStart.load(other)
    other.write_bytes(b'PK\x03\x04 and so on')
    with pytest.raises(ConfigError, match='other.npz'):
        RunningStart.load(other)


def test_the_codec_of_a_model_folder_can_be_gone_on_with(spec, trained, tmp_path):
    strong = FoldedStrongNet(5, pretrained=False)
    torch.manual_seed(5)
    with torch.no_grad():  # equal constants, such as biases that are all zero, share one name
        for parameter in strong.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    labels = list('abcde')
    example = torch.zeros(1, 96, 96, 3, dtype=torch.uint8)
    path = tmp_path / 'strong.onnx'
    export_onnx(TemperatureScaled(strong, 1.0), [example], path, ['image'], ['probabilities'])
    register_model(tmp_path, 'strong', path, labels, 96)
    five = replace(spec, header=np.array([2, 96, 5], np.int32))
    export_codec(five, trained, tmp_path, labels, None)
    found = RunningStart.of_models(tmp_path)
    expected = RunningStart.of(trained, strong.trunk)
    assert found.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():  # the files have half precision
        assert torch.allclose(found.weights[name], value, atol=2e-3), name
    bare = EdgeNetwork(trunk(5, 0), five)
    export_codec(five, bare, tmp_path, labels, None)
    with pytest.raises(ConfigError, match='restores nothing'):
        RunningStart.of_models(tmp_path)


def test_pretraining_makes_a_start_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretraining, 'SIZE', 96)
    monkeypatch.setattr(pretraining, 'CLASSES', 5)
    monkeypatch.setattr(pretraining, 'SET_ASIDE', 4)
    network = lite(5, pretrained=False)
    torch.save(network.state_dict(), tmp_path / 'weights.pt')
    data = tmp_path / 'photos'
    (data / 'train').mkdir(parents=True)
    pixels, labels = tiny_images(20, 3, 96, seed=6)
    np.savez(data / 'train' / '0.npz', pixels=pixels, labels=labels)
    recipe = replace(
        pretraining.RECIPE,
        patch=16,
        coarse=12,
        fine=0,
        banded=2,
        groups=80,
        fit_images=12,
        importance_images=4,
        restore=8,
        restore_minutes=1e-3,
        minutes=0.0,
        batch=4,
    )
    out = tmp_path / 'start.npz'

    def make(steps, **more):
        return pretraining.pretrain(
            [data],
            tmp_path / 'weights.pt',
            tmp_path / 'work',
            out,
            replace(recipe, steps=steps),
            licences=['CC0'],
            **more,
        )

    card = make(2)
    assert (card['steps'], card['images'], card['set_aside']) == (2, 16, 4)
    assert card['data'] == [{'folder': 'photos', 'images': 20, 'licence': 'CC0'}]
    assert card['recipe']['seed'] == 7
    assert set(card['before']) == set(card['after']) == {'128', '512', '2048'}
    assert json.loads(out.with_suffix('.card.json').read_text()) == card
    assert RunningStart.load(out).restore == 8
    capsys.readouterr()
    assert make(3)['steps'] == 3
    assert 'resumed at step 2' in capsys.readouterr().out
    assert RunningStart.load(out).moves_trunk and not card['trunk_kept']
    (tmp_path / 'work' / 'reading.checkpoint.pt').unlink()
    assert make(1, keep_trunk=True)['trunk_kept']
    assert not RunningStart.load(out).moves_trunk


def test_what_is_restored_is_learned_with_a_trunk_that_stays(spec, images, tmp_path):
    network, published = EdgeNetwork(trunk(5, 0), spec, restore=8), trunk(5, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe = replace(pretraining.RECIPE, steps=2, minutes=0.0, batch=4)
    sampler = prefix_sampler(spec, images)
    learned, run = pretraining.learn_to_read(
        network, sampler, published, images, recipe, tmp_path / 'checkpoint.pt', keep_trunk=True
    )
    assert run.step == 2
    changed = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    assert changed and all(name.startswith('restoration.') for name in changed)


def test_folders_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ConfigError, match='nowhere'):
        pretraining.read_folders([tmp_path / 'nowhere'], 0)
    (tmp_path / 'empty' / 'train').mkdir(parents=True)
    with pytest.raises(ConfigError, match='empty'):
        pretraining.read_folders([tmp_path / 'empty'], 0)


def test_licences_are_one_for_each_folder(tmp_path):
    with pytest.raises(ConfigError, match='2 licences of 1 folders'):
        pretraining.pretrain(
            [tmp_path], '', tmp_path / 'work', tmp_path, pretraining.RECIPE, licences=['a', 'b']
        )
    assert not (tmp_path / 'work').exists()


def test_a_part_of_what_reading_changed_can_be_added(spec, trained):
    start = RunningStart.of(trained, trunk(5, 0))
    own, before = (EdgeNetwork(trunk(3, 1), spec, restore=8) for _ in range(2))
    start.give(own, share=0.5)
    name = next(name for name in start.weights if name.startswith('trunk.'))
    moved = own.state_dict()[name] - before.state_dict()[name]
    assert torch.allclose(moved, 0.5 * start.weights[name], atol=1e-6)
    name = 'restoration.first.weight'  # what has no counterpart comes as it is
    assert torch.equal(own.state_dict()[name], start.weights[name])


@pytest.mark.parametrize('best', trunk_share.SHARES)
def test_validation_images_choose_the_share_of_the_trunk(
    spec, trained, images, tmp_path, monkeypatch, best
):
    start = RunningStart.of(trained, trunk(5, 0))
    wanted = EdgeNetwork(trunk(3, 1), spec, restore=8)
    start.give(wanted, best)
    monkeypatch.setattr(
        trunk_share,
        'right_answers',
        lambda network, *_: (
            not network.training
            and all(map(torch.equal, network.parameters(), wanted.parameters()))
        ),
    )
    sampler, path = prefix_sampler(spec, images), tmp_path / 'share.json'
    validation = LabelledImages(images, np.zeros(len(images), np.int64))

    def given():
        own = EdgeNetwork(trunk(3, 1), spec, restore=8)
        share = trunk_share.give_best_share(start, own, sampler, validation, 0, path)
        assert own.training and all(map(torch.equal, own.parameters(), wanted.parameters()))
        return share

    assert given() == best
    monkeypatch.setattr(trunk_share, 'right_answers', None)  # one that goes on asks nothing
    assert given() == best


@pytest.mark.parametrize('name', ('lite1', 'lite2'))
def test_another_trunk_gets_the_restoration_alone(spec, trained, images, tmp_path, capsys, name):
    start = RunningStart.of(trained, trunk(5, 0))
    own, before = (EdgeNetwork(trunk(3, 1, name), spec, restore=8) for _ in range(2))
    with pytest.raises(ConfigError, match='--running-start none'):
        start.give(own)
    before.load_state_dict(own.state_dict())
    validation = LabelledImages(images, np.zeros(len(images), np.int64))
    share = trunk_share.give_best_share(
        start, own, prefix_sampler(spec, images), validation, 0, tmp_path / 'share.json'
    )
    assert share is None and f'than EfficientNet-{name.capitalize()}' in capsys.readouterr().out
    theirs, earlier = trained.state_dict(), before.state_dict()
    for part, value in own.state_dict().items():
        expected = theirs if part.startswith('restoration') else earlier
        assert torch.equal(value, expected[part]), part


def test_answers_are_counted_at_all_sizes(spec, trained, images):
    sampler, sizes = prefix_sampler(spec, images), trunk_share.SIZES
    trained.eval()
    with torch.no_grad():
        pixels = torch.from_numpy(images)
        answers = [
            trained.logits(*sampler(pixels, torch.full((len(pixels),), float(size))))[0].argmax(1)
            for size in sizes
        ]
    classes = answers[0].numpy().copy()
    classes[:2] = (classes[:2] + 1) % 5  # two that are not given
    right = sum(int((answer.numpy() == classes).sum()) for answer in answers)
    few = LabelledImages(images, classes)
    assert trunk_share.right_answers(trained, sampler, few) == right
    assert right <= len(images) * len(sizes) - 2


def test_what_ships_fits_the_network_that_is_trained(images):
    start = RunningStart.load(SHIPPED)
    recipe = CodecRecipe()
    assert (start.patch, start.restore) == (recipe.patch, recipe.restore)
    assert SHIPPED.stat().st_size < 6.5e6
    mean, analysis = pca_transform(images, start.patch, 12, 2, 16)
    spec = fit_spec(images, mean, analysis, labels=3, max_groups=80)
    network = EdgeNetwork(trunk(3, 1), spec, restore=start.restore)
    start.give(network)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_what_ships_says_from_what_it_was_made():
    card = json.loads(SHIPPED.with_suffix('.card.json').read_text(encoding='utf-8'))
    assert [one['licence'].split()[0] for one in card['data']] == ['CC0', 'MIT', 'Apache-2.0']
    assert all(one['images'] > 100 for one in card['data'])
    assert card['licence'] == 'Apache-2.0' and 'Apache-2.0' in card['teacher']
    assert isinstance(card['recipe']['seed'], int) and card['bytes'] == SHIPPED.stat().st_size
    read = SHIPPED.with_name('README.md').read_text(encoding='utf-8')
    assert all(word in read for word in ('CC0', 'MIT', 'Apache-2.0', 'seed', 'TrashNet'))
