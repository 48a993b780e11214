# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Each reference is trained by one command, goes on from its checkpoint, and is then found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references import find_codec, image_codecs
from stl_conveyor_lab.train.references.tensor_bundle import read_tensor_bundle
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

LABELS = ('red', 'green', 'blue')
SIZE = 96


def _varint(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _block(entries):
    """Return a table block whose keys share what they can, with one restart."""
    data, before = b'', b''
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        data += _varint(shared) + _varint(len(key) - shared) + _varint(len(value))
        data += key[shared:] + value
        before = key
    return data + bytes(4) + (1).to_bytes(4, 'little')


def write_tensor_bundle(prefix, arrays):
    """Write float32 arrays as a TensorFlow checkpoint does."""
    entries, values = [(b'', b'\x08\x01')], b''
    for name, array in sorted(arrays.items()):
        shape = b''.join(
            b'\x12' + _varint(len(dim)) + dim
            for dim in (b'\x08' + _varint(n) for n in array.shape)
        )
        raw = array.astype('<f4').tobytes()
        offset = b'\x20' + _varint(len(values)) if values else b''
        entries.append(
            (
                name.encode(),
                b'\x08\x01\x12'
                + _varint(len(shape))
                + shape
                + offset
                + b'\x28'
                + _varint(len(raw))
                + b'\x35'
                + bytes(4),
            )
        )
        values += raw
    block = _block(entries)
    index = _block([(b'~', _varint(0) + _varint(len(block)))])
    data = block + bytes(5)
    footer = _varint(0) + _varint(0) + _varint(len(data)) + _varint(len(index))
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + '.index').write_bytes(
        data
        + index
        + bytes(5)
        + footer
        + bytes(40 - len(footer))
        + bytes.fromhex('57fb808b247547db')
    )
    prefix.with_name(prefix.name + '.data-00000-of-00001').write_bytes(values)


def test_checkpoints_are_read_without_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        'variables/0/v': rng.normal(size=(3, 2, 1, 4)).astype(np.float32),
        'variables/1/v': rng.normal(size=200).astype(np.float32),
    }
    write_tensor_bundle(tmp_path / 'variables', arrays)
    found = read_tensor_bundle(tmp_path / 'variables')
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
    (tmp_path / 'variables.index').write_bytes(b'nothing of the kind' * 9)
    with pytest.raises(ValueError, match='no checkpoint'):
        read_tensor_bundle(tmp_path / 'variables')


@pytest.fixture(scope='module')
def torch():
    pytest.importorskip(
        'efficientnet_lite_pytorch', reason='training needs the laboratory: make setup-lab'
    )
    return pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')


@pytest.fixture(scope='module')
def setting(torch, tmp_path_factory):
    """Return the common options of the training commands, and the reference folder."""
    from efficientnet_lite_pytorch import EfficientNet

    folder = tmp_path_factory.mktemp('setting')
    models = make_tiny_model_folder(folder / 'models', LABELS, SIZE)
    for split, seed in (('train', 1), ('val', 2)):
        (folder / 'data' / split).mkdir(parents=True)
        images, classes = tiny_images(12, len(LABELS), SIZE, seed=seed)
        np.savez(folder / 'data' / split / '0.npz', pixels=images, labels=classes)
    torch.manual_seed(0)
    strong = EfficientNet.from_name('efficientnet-lite0', num_classes=3, image_size=SIZE)
    torch.save(strong.state_dict(), folder / 'strong.pt')
    references = folder / 'references'
    return (
        [
            *map(
                str,
                (
                    '--data',
                    folder / 'data',
                    '--models',
                    models,
                    '--work',
                    folder / 'work',
                    '--references',
                    references,
                    '--threads',
                    1,
                ),
            )
        ],
        references,
        folder,
    )


def test_st_is_trained_in_two_stages(setting, capsys):
    from stl_conveyor_lab.train.references import st as reference_st

    options, references, folder = setting
    command = [*options, '--strong', str(folder / 'strong.pt'), '--crops', '2', '--batch', '1']
    reference_st.main([*command, '--minutes-1', '.01', '--minutes-2', '.01'])
    assert 'resumed' not in capsys.readouterr().out
    reference_st.main([*command, '--minutes-1', '.01', '--minutes-2', '.02'])
    assert 'stage_2: resumed at step' in capsys.readouterr().out
    codec = find_codec('st', references)
    image = tiny_images(1, 3, SIZE, seed=5)[0][0]
    packets = codec.packets(image, 1 << 20)
    assert len(packets) == 10
    assert codec.decode(packets[0], SIZE).shape == (SIZE, SIZE, 3)
    card = json.loads((references / 'st.card.json').read_text())
    assert card['encoder_parameters'] == 5354 and card['decoder_parameters'] == 361_027


def test_published_weights_are_taken_as_they_are(torch, setting):
    from stl_conveyor_lab.train.references import st as reference_st

    options, references, folder = setting
    torch.manual_seed(3)
    encoder, decoder = reference_st.StEncoder(), reference_st.StDecoder()
    for part, layers in (
        ('encoder', [encoder.first, encoder.second]),
        ('decoder', [decoder.enlarge, *decoder.layers, decoder.last]),
    ):
        arrays = {}
        for k, layer in enumerate(layers):
            for which, value in enumerate((layer.weight, layer.bias)):
                array = value.detach().numpy()
                arrays[f'variables/{2 * k + which}/.ATTRIBUTES/VARIABLE_VALUE'] = (
                    array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
                )
        write_tensor_bundle(
            folder / 'ae' / f'best_model_save_{part}' / 'variables' / 'variables', arrays
        )
    reference_st.main([*options, '--st-weights', str(folder / 'ae'), '--only-convert'])
    codec = find_codec('st_published', references)
    image = tiny_images(1, 3, SIZE, seed=5)[0][0]
    data = codec.encode(image, 1 << 20)
    with torch.no_grad():
        from stl_conveyor_lab.references.st import StCode, padded

        scale = StCode.load(references / 'st_published.code.json').scale
        levels = reference_st.LevelsOf(encoder, scale)(torch.from_numpy(padded(image[None])))
        made = reference_st.ImageOf(decoder, scale)(levels)[0, :SIZE, :SIZE].numpy()
    # The files hold half precision.
    assert np.abs(codec.decode_levels(data).astype(int) - levels[0].numpy()).mean() < 0.05
    assert np.abs(codec.decode(data, SIZE).astype(int) - made).mean() < 2


def test_tail_drop_keeps_the_first_features(torch):
    from stl_conveyor_lab.train.references.st import drop_tail

    features = torch.ones(2, 10, 3, 3)
    assert drop_tail(features, 4).sum((0, 2, 3)).tolist() == [18.0] * 4 + [0.0] * 6


def test_a_classifier_is_tuned_on_decoded_images(setting, capsys):
    from stl_conveyor_lab.train.references import tune as reference_tune

    options, references, folder = setting
    command = [
        *options,
        '--strong',
        str(folder / 'strong.pt'),
        '--codec',
        'webp_6_may_downscale',
        '--variants',
        '1',
        '--batch',
        '2',
        '--jobs',
        '1',
        '--mixed',
        '.5',
    ]
    reference_tune.main([*command, '--only-encode'])
    assert 'encoded copy 1/1: 12/12' in capsys.readouterr().out
    reference_tune.main([*command, '--minutes', '.01'])
    shown = capsys.readouterr().out
    assert 'encoded copy' not in shown and 'resumed' not in shown
    reference_tune.main([*command, '--minutes', '.02'])
    assert 'resumed at step' in capsys.readouterr().out
    role = 'tuned_webp_6_may_downscale'
    model = Classifier(ModelFolder(references).path(role))
    image = tiny_images(1, 3, SIZE, seed=5)[0][0]
    assert model.classify(image).shape == (3,)
    card = json.loads((references / f'{role}.card.json').read_text())
    assert card['steps'] >= 2 and len(card['validation_accuracy_by_bytes']) == 3


def test_half_of_the_copies_are_mixed_and_always_in_the_same_way(torch):
    from stl_conveyor_lab.train.references.tune import TuningRecipe, drawn, partner

    images = tiny_images(40, 3, SIZE, seed=6)[0]
    plain, recipe = TuningRecipe(), TuningRecipe(mixed=0.5)

    def mixed_in(variant):
        return [n for n in range(40) if partner(images, variant, n, recipe) is not None]

    def copy_of(number, recipe):
        other = partner(images, 0, number, recipe)
        return drawn(images[number], other, 0, number, recipe, 'none')

    mixed = mixed_in(0)
    assert 10 < len(mixed) < 30 and mixed != mixed_in(1)
    for number in range(40):
        assert partner(images, 0, number, plain) is None
        (image, size), (again, same) = copy_of(number, recipe), copy_of(number, recipe)
        assert np.array_equal(image, again) and size == same == copy_of(number, plain)[1]
        assert np.array_equal(image, images[number]) == (number not in mixed)


def test_quick_encoding_keeps_within_the_size(torch):
    from stl_conveyor_lab.train.references.tune import best_scales, quick_encode

    codec = next(c for c in image_codecs() if c.slug == 'webp_6_may_downscale')
    images = tiny_images(3, 3, SIZE, seed=6)[0]
    scales = best_scales(codec, images[:2])
    assert list(scales.values()) == sorted(scales.values())
    for size in (60, 200, 900, 4000):
        data = quick_encode(codec, images[2], size, scales)
        assert data is None and size < 100 or len(data) <= size
        if data is not None:
            assert codec.decode(data, SIZE).shape == (SIZE, SIZE, 3)


def test_the_recurrent_codec_is_trained_and_decodes_every_prefix(setting, capsys):
    from stl_conveyor.errors import BadPacket
    from stl_conveyor_lab.train.references import recurrent as reference_recurrent

    options, references, _ = setting
    command = [*options, '--blocks', '2', '--trained-iterations', '2', '--iterations', '3']
    reference_recurrent.main([*command, '--minutes', '.01'])
    reference_recurrent.main([*command, '--minutes', '.02'])
    assert 'resumed at step' in capsys.readouterr().out
    codec = find_codec('recurrent', references)
    image = tiny_images(1, 3, SIZE, seed=5)[0][0]
    packets = codec.packets(image, 1 << 20)
    assert [len(packet) for packet in packets] == [36] * 3
    images = [codec.decode(b''.join(packets[:n]), SIZE) for n in (1, 2, 3)]
    fresh = find_codec('recurrent', references)
    assert np.array_equal(fresh.decode(b''.join(packets), SIZE), images[2])
    assert np.array_equal(fresh.decode(packets[0] + b'half of the next', SIZE), images[0])
    assert codec.encode(image, 80) == packets[0] + packets[1] and codec.encode(image, 35) is None
    with pytest.raises(BadPacket):
        codec.decode(b'short', SIZE)


def test_limitnet_is_trained_in_three_stages(setting, capsys):
    from stl_conveyor_lab.train.references import limitnet as reference_limitnet

    options, references, folder = setting
    command = [
        *options,
        *('--strong', str(folder / 'strong.pt'), '--width', '8'),
        *('--crops', '2', '--windows', '2', '--window', '4', '--batch', '1'),
    ]
    reference_limitnet.main([*command, '--minutes', '.02'])
    assert 'resumed' not in capsys.readouterr().out
    reference_limitnet.main([*command, '--minutes', '.04'])
    shown = capsys.readouterr().out
    assert all(f'limitnet_{stage}: resumed at step' in shown for stage in (1, 2, 3))
    codec = find_codec('limitnet', references)
    image = tiny_images(1, 3, SIZE, seed=5)[0][0]
    data = codec.encode(image, 1 << 20)
    found, arrived = codec.decode_levels(data)
    assert arrived == found.size == 12 * 12 * 12
    assert np.array_equal(found, codec.levels(image)[0])
    assert codec.decode(codec.encode(image, 120), SIZE).shape == (SIZE, SIZE, 3)
    card = json.loads((references / 'limitnet.card.json').read_text())
    assert card['encoder_parameters'] == 16_077 and card['decoder_macs'] > 0
    curves = json.loads((folder / 'work' / 'limitnet.curves.json').read_text())
    assert [len(curves[f'stage_{stage}'][-1]) for stage in (1, 2, 3)] == [2, 4, 5]


def test_limitnet_at_published_width_has_sides_of_eight(torch):
    from stl_conveyor_lab.train.references.limitnet import LimitNet, size_of

    network = LimitNet(64)
    pixels = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        latents = network.encoder(pixels)
        assert latents.shape == (1, 12, 28, 28)
        assert network.saliency(latents).shape == (1, 1, 28, 28)
        assert network.decoder(latents).shape == pixels.shape
    # Transposed: 28^2 * 12 * 64 * 7^2 and 56^2 * 64 * 64 * 5^2; then 224^2 * 64 * (128 + 3) * 3^2.
    assert size_of(network, 28)['decoder_macs'] == 29_503_488 + 321_126_400 + 3_786_080_256


def test_what_the_sent_map_holds_is_kept_in_training(torch):
    from stl_conveyor_lab.references.limitnet import latent_order
    from stl_conveyor_lab.train.references.limitnet import (
        first_channels,
        highest_scores,
        noisy,
        sent_map,
        window_of,
    )

    torch.manual_seed(2)
    saliency = torch.rand(2, 1, 28, 28)
    levels = sent_map(saliency)
    assert levels.shape == (2, 8, 8)
    assert levels.amin((1, 2)).tolist() == [0, 0] and levels.amax((1, 2)).tolist() == [31, 31]
    ramp = sent_map(torch.arange(28.0).expand(1, 1, 28, 28) / 28)[0, 0]
    assert torch.allclose(ramp, torch.round(torch.arange(8) * 31 / 7), atol=1)
    kept = highest_scores(saliency, np.random.default_rng(3)).view(2, -1)
    for row, levels_sent in zip(kept.numpy(), levels.numpy()):
        order = latent_order(levels_sent, 28)
        count = int(row.sum())
        assert 0 < count <= len(order) and row[order[:count]].all()
    channels = first_channels(50, np.random.default_rng(4))[:, :, 0, 0]
    assert (channels[:, 0] == 1).all() and (channels.diff(dim=1) <= 0).all()
    latents = torch.rand(2, 12, 28, 28)
    sent = noisy(latents, kept.view(2, 12, 28, 28), 0.01)
    assert (sent.view(2, -1)[kept == 0] == 0).all()
    assert ((sent - latents).view(2, -1)[kept == 1].abs() <= 0.01).all()
    pixels = latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
    some, seen = window_of(latents, pixels, 14, np.random.default_rng(5))
    assert some.shape == (2, 12, 14, 14) and torch.equal(seen[:, :, ::8, ::8], some[:, :3])


def test_saliency_is_where_the_answer_comes_from(torch, setting):
    from stl_conveyor_lab.train.lite0 import load_strong
    from stl_conveyor_lab.train.references.limitnet import teach
    from stl_conveyor_lab.train.references.pixels import answers, unit

    strong = load_strong(setting[2] / 'strong.pt', 3, SIZE).eval().requires_grad_(False)
    pixels = unit(tiny_images(2, 3, SIZE, seed=9)[0])
    logits, saliency = teach(strong, pixels, 12)
    assert torch.allclose(logits, answers(strong, pixels), atol=1e-4)
    assert saliency.shape == (2, 1, 12, 12) and not saliency.requires_grad
    assert saliency.min() >= 0 and 0.5 < saliency.max() <= 1
    # Where the network sees nothing, nothing is salient.
    block = strong.blocks[10]
    hook = block.register_forward_hook(lambda m, i, made: made * corner(made))

    def corner(made):
        mask = torch.ones_like(made)
        mask[:, :, :3, :3] = 0
        return mask

    try:
        _, saliency = teach(strong, pixels, 12)
    finally:
        hook.remove()
    assert not saliency[:, :, :2, :2].any() and saliency.any()
    assert not strong.blocks[10]._forward_hooks


def test_encoder_and_decoder_of_the_recurrent_codec_agree(torch):
    from stl_conveyor_lab.train.references.recurrent import (
        DecoderStep,
        EncoderStep,
        RecurrentDecoder,
        RecurrentEncoder,
    )

    torch.manual_seed(1)
    encoder, decoder = RecurrentEncoder(8), RecurrentDecoder(8)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    rest, made = pixels, 0
    states = [*encoder.states(1, 64), *decoder.states(1, 64)]
    other = decoder.states(1, 64)
    with torch.no_grad():
        for _ in range(3):
            bits, rest, *states = EncoderStep(encoder, decoder)(rest, *states)
            more, *other = DecoderStep(decoder)(bits, *other)
            made = made + more
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    assert torch.allclose(pixels - made, rest, atol=1e-5)


def test_a_codec_is_made_for_a_classifier_that_stays_as_it_is(torch, tmp_path):
    from efficientnet_lite_pytorch import EfficientNet

    from stl_conveyor.codec import Decoder, Encoder
    from stl_conveyor.vision.image_folder import LabelledImages
    from stl_conveyor_lab.train.codec.recipe import CodecRecipe
    from stl_conveyor_lab.train.references.untuned import make_untuned

    torch.manual_seed(0)
    torch.save(EfficientNet.from_name('efficientnet-lite0').state_dict(), tmp_path / 'w.pt')
    images, classes = tiny_images(8, 3, 224, seed=7)
    recipe = CodecRecipe(
        coarse=24,
        groups=150,
        fit_images=8,
        importance_images=2,
        rings=1,
        restore=4,
        restore_minutes=0.02,
    )
    make_untuned(
        LabelledImages(images, classes),
        tmp_path / 'w.pt',
        tmp_path / 'work',
        tmp_path / 'models',
        recipe,
    )
    folder = ModelFolder(tmp_path / 'models')
    assert len(folder.labels) == 1000 and folder.name == 'imagenet'
    decoder = Decoder(folder)
    session = decoder.start()
    for packet in Encoder(folder).encode(images[0], max_bytes=900).packets:
        session.add(packet)
    answer = decoder.classify([session])[0]
    clean = Classifier(folder.path('strong')).classify(images[0])
    assert answer.shape == clean.shape == (1000,) and abs(answer.sum() - 1) < 1e-4


def test_a_mirrored_classifier_answers_alike_for_mirror_images(torch, setting):
    from stl_conveyor_lab.train.lite0 import load_strong
    from stl_conveyor_lab.train.references.tune import TunedClassifier

    strong = load_strong(setting[2] / 'strong.pt', 3, SIZE).eval()
    image = torch.from_numpy(tiny_images(2, 3, SIZE, seed=8)[0])
    with torch.no_grad():
        model = TunedClassifier(strong, 2.0, True)
        assert torch.allclose(model(image), model(image.flip(2)), atol=1e-5)
        plain = TunedClassifier(strong).logits(image) + TunedClassifier(strong).logits(
            image.flip(2)
        )
        assert torch.allclose(model.logits(image), plain / 2, atol=1e-4)
