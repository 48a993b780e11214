# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fitting the codec, and the network that reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.entropy import GroupCoder
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.codec.fit import (
    fit_spec,
    group_bits,
    pca_transform,
    quantise,
    ring_regions,
    symbol_bits,
    transform,
)
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

LABELS = ('red', 'green', 'blue')


@pytest.fixture(scope='module')
def images():
    return tiny_images(24, len(LABELS), seed=2)[0]


@pytest.fixture(scope='module')
def spec(images):
    mean, analysis = pca_transform(images, 16, 24, 2, 8)
    return fit_spec(images, mean, analysis, labels=len(LABELS), rings=2, max_groups=200)


def test_transform_is_orthonormal_and_sorted(images):
    mean, analysis = pca_transform(images, 16, 24, 2, 8)
    assert analysis.shape == (24 + 2 * 4, 16 * 16 * 3)
    assert np.allclose(analysis @ analysis.T, np.eye(32), atol=1e-4)
    values = transform(images, mean, analysis, 16)
    spread = values.std((0, 2))[:24]
    assert (np.diff(spread) < 1e-3).all()
    assert abs(values.mean((0, 2))).max() < 1e-3


def test_regions_are_rings_around_the_centre():
    rings = ring_regions(5, 3).reshape(5, 5)
    assert rings[2, 2] == 0 and (rings[1:4, 1:4].sum() == 8) and (rings[0] == 2).all()
    assert not ring_regions(5, 1).any()


def test_groups_come_coarse_before_fine_and_every_table_row_is_complete(spec):
    assert (spec.order.chain_start >= 0).all()
    assert (spec.tables.astype(int).sum(-1) == 32768).all()
    coarse = spec.group_plane == 0
    assert (spec.tables[coarse] > 0).all()
    assert (spec.tables[~coarse][..., 2:5] > 0).all()
    assert not spec.tables[~coarse][..., [0, 1, 5, 6]].any()


def test_rare_large_coefficients_are_not_clipped(images):
    mean, analysis = pca_transform(images, 16, 24, 0, 8)
    lonely = np.full_like(images, 30)
    lonely[:, 64:96, 64:96] = images[:, 64:96, 64:96]
    spec = fit_spec(lonely, mean, analysis, labels=3, max_groups=120)
    values = transform(lonely, spec.mean, spec.analysis, 16) / spec.finest_step[:, None]
    assert (np.abs(values) > 94.5).mean() < 1e-3


def test_fitting_is_deterministic(images, spec):
    mean, analysis = pca_transform(images, 16, 24, 2, 8)
    again = fit_spec(images, mean, analysis, labels=len(LABELS), rings=2, max_groups=200)
    assert np.array_equal(again.tables, spec.tables)
    assert np.array_equal(again.group_channel, spec.group_channel)


def test_counted_bits_are_the_bytes_that_are_sent(images, spec):
    quantised = quantise(transform(images, spec.mean, spec.analysis, 16), spec.finest_step)
    counted = group_bits(spec, quantised).sum(1) / 8
    coder = GroupCoder(spec)
    sent = [len(coder.stream(q).encode(0, 60_000, None).data) for q in quantised]
    assert np.abs(counted - sent).max() < 3
    plain = symbol_bits(spec, quantised)
    assert plain.shape == (spec.groups, 7)
    assert np.isfinite(plain).all() and (plain >= 0).all()


def test_importance_changes_the_order_and_more_of_it_comes_first(images):
    mean, analysis = pca_transform(images, 16, 12, 0, 8)
    weight = np.ones((12, 1), np.float32)
    weight[7] = 1e4
    plain = fit_spec(images, mean, analysis, labels=3, max_groups=40)
    heavy = fit_spec(images, mean, analysis, labels=3, max_groups=40, importance=weight)
    assert heavy.group_channel[0] == 7
    assert plain.group_channel[0] != 7


@pytest.fixture(scope='module')
def torch():
    return pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')


def test_sampler_holds_what_the_decoder_holds(torch, images, tmp_path):
    from stl_conveyor_lab.train.codec.prefixes import PrefixSampler

    folder = ModelFolder(make_tiny_model_folder(tmp_path, LABELS))
    encoder, decoder = Encoder(folder), Decoder(folder)
    spec = encoder.spec
    quantised = np.stack([encoder.quantise(image) for image in images])
    sampler = PrefixSampler(spec, symbol_bits(spec, quantised))
    symbols, joined = sampler.split(sampler.quantise(torch.from_numpy(images[:4])))
    assert np.array_equal(joined[:, -1].numpy(), quantised[:4])
    for number in range(4):
        item = encoder.encode(images[number], max_bytes=200 * (number + 1))
        session, groups = decoder.start(), 0
        for packet in item.packets:
            session.add(packet)
        known = torch.from_numpy(session._known[None])
        found = sampler.decode(joined[number : number + 1], known)[0].numpy()
        assert np.allclose(found, session.latents(), atol=1e-5)
        groups = int((sampler.rank < spec.groups).sum())
        assert groups > 0
        estimate = sampler.cumulative_bytes(symbols)[number]
        whole = group_bits(spec, quantised[number : number + 1])[0].cumsum() / 8
        assert abs(float(estimate[-1]) - whole[-1]) < 0.5 * whole[-1]


@pytest.fixture
def strong(torch, tmp_path, request):
    """Return an untrained strong network (Lite0, if none is named); it lies in `strong.pt` too."""
    pytest.importorskip(
        'efficientnet_lite_pytorch', reason='training needs the laboratory: make setup-lab'
    )
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    name = f'efficientnet-{getattr(request, "param", "lite0")}'
    network = EfficientNet.from_name(name, num_classes=3, image_size=160).eval()
    torch.save(network.state_dict(), tmp_path / 'strong.pt')
    return network


@pytest.mark.parametrize('strong', ('lite0', 'lite2'), indirect=True)
def test_edge_network_starts_as_the_strong_one_and_exports(torch, strong, spec, images, tmp_path):
    from stl_conveyor.models.classifier import make_session
    from stl_conveyor_lab.train.codec.edge_network import EDGE_INPUTS, EdgeNetwork
    from stl_conveyor_lab.train.codec.prefixes import PrefixSampler
    from stl_conveyor_lab.train.lite0 import load_strong
    from stl_conveyor_lab.train.onnx_export import export_onnx

    network = EdgeNetwork(load_strong(tmp_path / 'strong.pt', 3, 160), spec).eval()
    quantised = quantise(transform(images, spec.mean, spec.analysis, 16), spec.finest_step)
    sampler = PrefixSampler(spec, symbol_bits(spec, quantised))
    with torch.no_grad():
        latents, received = sampler(
            torch.from_numpy(images[:3]), torch.tensor([60.0, 200.0, 5000.0])
        )
        assert float(received[0]) <= 66 < float(received[1]) <= 206
        ours, _ = network.logits(latents, received)
        assert torch.allclose(ours, strong(network.image(latents)), atol=1e-4)
        side = torch.full((3, 3), 1 / 3)
        expected = network(latents, received, side, torch.tensor([0.0, 1.0, 1.0]))
    example = (latents, received, side, torch.ones(3))
    export_onnx(network, example, tmp_path / 'edge.onnx', EDGE_INPUTS, ['probabilities'])
    found = make_session(tmp_path / 'edge.onnx').run(
        None,
        {
            'latents': latents.numpy(),
            'bytes_received': received.numpy(),
            'side': side.numpy(),
            'has_side': np.array([0, 1, 1], np.float32),
        },
    )[0]
    assert np.allclose(found, expected.numpy(), atol=5e-3)


def test_restoration_starts_as_nothing_and_takes_error_away(torch, strong, tmp_path, monkeypatch):
    from stl_conveyor.vision.image_folder import LabelledImages
    from stl_conveyor_lab.train.augment import AUGMENT
    from stl_conveyor_lab.train.codec import training
    from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork, Restoration
    from stl_conveyor_lab.train.codec.prefixes import PrefixSampler
    from stl_conveyor_lab.train.codec.recipe import CodecRecipe
    from stl_conveyor_lab.train.lite0 import load_strong

    class StepRun(training.TimedRun):
        def _seconds(self):
            return self.step / 80

    monkeypatch.setattr(training, 'TimedRun', StepRun)
    # What goes on across the edges of patches can be told from the patches beside.
    rng = np.random.default_rng(0)
    axis = np.arange(160)
    waves = [
        np.sin(across * axis + down * axis[:, None] + 30 * phase)
        for across, down, phase in rng.uniform(-0.2, 0.2, (40, 3))
    ]
    images = np.uint8(127 + 100 * np.stack(waves))[..., None].repeat(3, 3)
    mean, analysis = pca_transform(images, 16, 3, 0, 8)
    spec = fit_spec(images, mean, analysis, labels=3, max_groups=12)
    network = EdgeNetwork(load_strong(tmp_path / 'strong.pt', 3, 160), spec, restore=16).eval()
    quantised = quantise(transform(images, spec.mean, spec.analysis, 16), spec.finest_step)
    sampler = PrefixSampler(spec, symbol_bits(spec, quantised))
    original = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        latents, received = sampler(torch.from_numpy(images), torch.full((len(images),), 400.0))
        decoded = network.image(latents)
        assert torch.equal(network.restored(decoded, received), decoded)
    training.train_restoration(
        network,
        sampler,
        LabelledImages(images, np.zeros(len(images), np.int64)),
        CodecRecipe(restore_minutes=1 / 60),
        AUGMENT['none'],
        tmp_path / 'restoration.pt',
    )
    with torch.no_grad():
        restored = network.restored(decoded, received)
    assert float(training.restoration_error(restored, decoded, original)) < 0.9
    with pytest.raises(ValueError, match='12 pixels'):
        Restoration(12, 16)


def test_of_mixed_images_the_teacher_alone_tells(torch, strong, spec, images, tmp_path):
    from stl_conveyor.vision.image_folder import LabelledImages
    from stl_conveyor_lab.train.augment import AUGMENT
    from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
    from stl_conveyor_lab.train.codec.prefixes import prefix_sampler
    from stl_conveyor_lab.train.codec.recipe import CodecRecipe
    from stl_conveyor_lab.train.codec.training import train_edge
    from stl_conveyor_lab.train.lite0 import load_strong

    recipe = CodecRecipe(batch=4, repeat=2, mixed=0.5, steps=1)
    mixed, alone = np.random.default_rng(recipe.seed + 2).permutation(len(images))[:2]

    def last_layer(changed: int | None) -> object:
        classes = np.zeros(len(images), np.int64)
        if changed is not None:
            classes[changed] = 1
        network = EdgeNetwork(load_strong(tmp_path / 'strong.pt', 3, 160), spec)
        network, run = train_edge(
            network,
            prefix_sampler(spec, images),
            load_strong(tmp_path / 'strong.pt', 3, 160).eval(),
            LabelledImages(images, classes),
            None,
            recipe,
            AUGMENT['photos'],
            tmp_path / f'{changed}.pt',
        )
        assert run.step == 1
        return network.trunk.classifier.weight

    assert torch.equal(last_layer(None), last_layer(int(mixed)))
    assert not torch.equal(last_layer(None), last_layer(int(alone)))


def test_mixed_images_show_both(torch):
    from stl_conveyor_lab.train.augment import mixed_with

    black, white = np.zeros((50, 2, 2, 3), np.uint8), np.full((50, 2, 2, 3), 255, np.uint8)
    both = mixed_with(black, white, np.random.default_rng(3))
    assert both.dtype == np.uint8 and (both == both[:, :1, :1, :1]).all()
    assert 0.3 * 255 - 1 <= both.min() < 90 and 165 < both.max() <= 0.7 * 255 + 1
    assert not len(mixed_with(black[:0], white[:0], np.random.default_rng(3)))


def test_the_network_weighs_less_where_the_local_answer_is_right_more_often(torch):
    from types import SimpleNamespace

    from stl_conveyor_lab.train.codec.edge_network import BYTE_KNOTS, byte_features
    from stl_conveyor_lab.train.codec.temperature import keep_to_the_local_answer

    rng = np.random.default_rng(4)
    classes = torch.from_numpy(rng.integers(0, 3, 600))
    received = torch.from_numpy(2.0 ** rng.uniform(5, 12, 600)).float()
    truth = torch.nn.functional.one_hot(classes, 3).float()
    wrong = truth.roll(1, 1)
    few = (received < 300)[:, None]
    logits = torch.where(few, 4 * wrong, 4 * truth)  # the network needs its bytes
    log_side = torch.where(few, 2 * truth, 2 * wrong)
    share = torch.zeros(len(BYTE_KNOTS))
    network = SimpleNamespace(
        fused_temperature=share,
        fuse=lambda logits, received, side, has: (
            torch.exp(byte_features(received) @ share)[:, None] * logits + side
        ),
    )
    keep_to_the_local_answer(network, logits, received, log_side, classes)
    right = network.fuse(logits, received, log_side, None).argmax(1) == classes
    assert right[received < 200].all() and right[received > 600].all()
    assert share[-1] == share[-2] == 0  # where the network is better nothing changes
    assert share.min() >= -np.log(3) - 1e-6


def test_lengths_are_drawn_within_their_range_and_more_of_the_long_ones(torch):
    from stl_conveyor_lab.train.codec.prefixes import draw_lengths
    from stl_conveyor_lab.train.codec.recipe import CodecRecipe

    level, rising = (
        draw_lengths(np.random.default_rng(0), 4000, CodecRecipe(lengthen=power))
        for power in (1.0, 0.7)
    )
    for lengths in (level, rising):
        assert lengths.min() >= CodecRecipe().shortest and lengths.max() <= CodecRecipe().longest
    middle = (CodecRecipe().shortest * CodecRecipe().longest) ** 0.5
    assert abs((level > middle).mean() - 0.5) < 0.03 < (rising > middle).mean() - 0.5


def short_training(folder):
    """Return the options of a training of seconds, and its model folder."""
    data, models = folder / 'data', make_tiny_model_folder(folder / 'models', LABELS)
    for split, seed in (('train', 1), ('val', 2), ('test', 3)):
        (data / split).mkdir(parents=True)
        images, classes = tiny_images(16, len(LABELS), seed=seed)
        np.savez(data / split / '0.npz', pixels=images, labels=classes)
    options = {
        'data': data,
        'strong': folder / 'strong.pt',
        'work': folder / 'work',
        'models': models,
        'threads': 1,
        'test-images': 4,
        'coarse': 12,
        'patch': 16,
        'fine-patch': 8,
        'fine': 2,
        'banded': 3,
        'groups': 100,
        'fit-images': 16,
        'importance-images': 4,
        'batch': 4,
        'restore': 8,
        'restore-minutes': 0.01,
    }
    return [part for name, value in options.items() for part in (f'--{name}', str(value))], models


@pytest.mark.timeout(1200)  # trains twice
@pytest.mark.parametrize('strong', ('lite2',), indirect=True)
def test_one_command_makes_a_model_folder_and_resumes(torch, strong, tmp_path, capsys):
    from stl_conveyor_lab.train.codec import codec

    command, models = short_training(tmp_path)
    before = ModelFolder(models).model_id('edge')
    codec.main([*command, '--steps', '2'])
    folder = ModelFolder(models)
    assert folder.model_id('edge') != before and folder.labels == LABELS
    assert 'resumed' not in capsys.readouterr().out
    codec.main([*command, '--steps', '3'])
    assert 'resumed at step 2' in capsys.readouterr().out
    encoder, decoder = Encoder(folder := ModelFolder(models)), Decoder(folder)
    assert encoder.identity == decoder.identity
    card = json.loads((models / 'edge.card.json').read_text())
    assert len(card['accuracy_by_bytes']) == len(card['accuracy_by_bytes_with_local_answer']) == 6
    assert card['recipe']['steps'] == 3 and card['trunk'] == 'EfficientNet-Lite2'
    assert (tmp_path / 'work' / 'codec.png').exists()


def test_a_training_begins_with_the_restoration_of_a_start(torch, strong, spec, tmp_path, capsys):
    from stl_conveyor_lab.train.codec import codec
    from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
    from stl_conveyor_lab.train.codec.running_start import RunningStart
    from stl_conveyor_lab.train.lite0 import load_strong

    network = EdgeNetwork(load_strong(tmp_path / 'strong.pt', 3, 160), spec, restore=8)
    RunningStart.of_restoration(network).save(tmp_path / 'start.npz')
    command, models = short_training(tmp_path)
    codec.main([*command, '--start', str(tmp_path / 'start.npz'), '--steps', '1'])
    assert 'transform: 20 channels' in capsys.readouterr().out  # its own, as without a start
    assert not (tmp_path / 'work' / 'restoration.checkpoint.pt').exists()
    card = json.loads((models / 'edge.card.json').read_text())
    assert card['running_start'] and card['running_start_share_of_trunk'] is None
