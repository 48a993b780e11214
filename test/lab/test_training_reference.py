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
