# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files that others wrote are read, or refused in words: damaged, endless, forged."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cli.export import import_models
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import ConfigError, ConveyorError, ModelFileError
from stl_conveyor.models.classifier import make_session
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.outside_files import (
    UnusableFile,
    parse_yaml,
    read_arrays,
    read_bytes,
    read_json,
    read_yaml,
)
from stl_conveyor.policy.byte_budget import BudgetTable
from stl_conveyor.policy.reward import RewardEstimator
from stl_conveyor.resources import share_path

FUZZ = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def npz(entries):
    """Return an archive from name -> bytes of a .npy file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f'{name}.npy', content)
    return data.getvalue()


def npy(array, shape=None):
    """Return a .npy file, with another shape in its header if one is given."""
    data = io.BytesIO()
    if shape is None:
        np.save(data, array)
    else:
        np.lib.format.write_array_header_1_0(
            data, {'descr': array.dtype.str, 'fortran_order': False, 'shape': shape}
        )
        data.write(array.tobytes())
    return data.getvalue()


@pytest.mark.parametrize(
    'make, word',
    [
        (lambda path: None, 'No such file'),
        (lambda path: path.mkdir(), 'no regular file'),
        (os.mkfifo, 'no regular file'),
        (lambda path: path.symlink_to('/dev/zero'), 'no regular file'),
    ],
)
@pytest.mark.parametrize('read', [read_bytes, read_json, read_yaml, lambda p: read_arrays(p, 'a')])
def test_what_is_no_file_is_refused_at_once(tmp_path, make, word, read):
    make(tmp_path / 'thing')
    with pytest.raises(UnusableFile, match=word):
        read(tmp_path / 'thing')


@pytest.mark.parametrize('path', ['a\0b', 'a' * 5000])
def test_paths_that_no_file_can_have_are_refused(path):
    with pytest.raises(UnusableFile):
        read_bytes(path)


def test_no_more_is_read_than_asked_for(tmp_path):
    (tmp_path / 'big').write_bytes(bytes(3 << 20))
    assert len(read_bytes(tmp_path / 'big', 3 << 20)) == 3 << 20
    with pytest.raises(UnusableFile, match='larger than 2 MB'):
        read_bytes(tmp_path / 'big', 2 << 20)


@pytest.mark.parametrize(
    'text', [b'', b'{', b'[' * 200_000, b'\xff\xfe{', b'{"format": 1' + b'0' * 10_000 + b'}']
)
def test_bad_json_is_refused_wherever_it_is_read(tmp_path, text):
    for name in ('manifest.json', 'budget.json', 'reward.json'):
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UnusableFile):
        read_json(tmp_path / 'manifest.json')
    with pytest.raises(ModelFileError, match='manifest.json'):
        ModelFolder(tmp_path)
    with pytest.raises(ModelFileError, match='budget.json'):
        BudgetTable.load(tmp_path / 'budget.json')
    with pytest.raises(ModelFileError, match='reward.json'):
        RewardEstimator.load(tmp_path / 'reward.json')


LAUGHS = 'a: &a [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{name}: &{name} [{", ".join([f"*{before}"] * 10)}]\n'
    for before, name in zip('abcdefgh', 'bcdefghi')
)


@pytest.mark.parametrize(
    'text, word',
    [
        ('[' * 5000, 'not valid YAML'),
        ('a: [', 'not valid YAML'),
        ('a: \0', 'not valid YAML'),
        ('a: !!python/object/apply:os.system [ls]', 'not valid YAML'),
        (LAUGHS, 'more than 200000 values'),
        ('a: &a [*a]', 'line 1 holds itself'),
        ('belt: {speed: 1, speed: 2}', 'speed stands twice, in line 1 and again in line 1'),
        ('a: 1\nb: 2\n\na: 3\n', 'a stands twice, in line 1 and again in line 4'),
        ('a: 2026-99-99', 'not valid YAML'),
        ('? [a, b]\n: 1\n? {c: d}\n: 1\n', 'not valid YAML'),
    ],
)
def test_bad_yaml_is_refused(tmp_path, text, word):
    (tmp_path / 'cell.yaml').write_text(text)
    with pytest.raises(UnusableFile, match=word):
        parse_yaml(text)
    with pytest.raises(ConfigError, match='cell.yaml'):
        CellDescription.load(tmp_path / 'cell.yaml')


@pytest.mark.parametrize('levels', [200, 100_000])
@pytest.mark.parametrize('begin', ['[', '{a: ', '- ', '? '])
def test_yaml_of_any_depth_is_read_or_refused(begin, levels):
    # In a process of its own: what a parser in C does with too deep a text ends the process.
    script = (
        'import sys\n'
        'from stl_conveyor.outside_files import UnusableFile, parse_yaml\n'
        'try:\n    parse_yaml(sys.argv[1] * int(sys.argv[2]))\n'
        'except UnusableFile:\n    print("refused")\n'
        'else:\n    print("read")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, begin, str(levels)], capture_output=True, text=True
    )
    assert done.stdout.strip() in ('read', 'refused'), (done.returncode, done.stderr)


def test_both_parsers_read_the_shipped_files_alike(monkeypatch):
    texts = [path.read_text(encoding='utf-8') for path in share_path('config').glob('*.yaml')]
    assert len(texts) > 5
    by_libyaml = list(map(parse_yaml, texts))
    monkeypatch.delattr(yaml, 'CSafeLoader', raising=False)
    assert list(map(parse_yaml, texts)) == by_libyaml


def test_aliases_and_merges_of_an_honest_file_are_followed():
    text = 'usual: &usual {rate: 1, depth: 2}\nother: {<<: *usual, rate: 3}\nlast: *usual\n'
    assert parse_yaml(text)['other'] == {'rate': 3, 'depth': 2}
    assert parse_yaml('') is None


@FUZZ
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=30,
    )
)
def test_json_is_read_as_it_was_written(tmp_path, content):
    (tmp_path / 'some.json').write_text(json.dumps(content))
    assert read_json(tmp_path / 'some.json') == content


@pytest.mark.parametrize(
    'entry, word',
    [
        (npy(np.zeros(3, np.float32), (10**12,)), 'claims 4000000000000 bytes'),
        (npy(np.zeros(3, np.float32), (2,)), 'claims 8 bytes'),
        (npy(np.zeros(3, np.float32), (-1, -3)), 'no archive|claims'),
        (npy(np.array([{}], object)), 'Python objects'),
        (b'\x93NUMPY\x09\0', 'no archive'),
        (b'\x93NUMPY\x01\0\x10\0' + b'(' * 16, 'no archive'),
        (pickle.dumps([]), 'no archive'),
        (b'', 'no archive'),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, entry, word):
    (tmp_path / 'some.npz').write_bytes(npz({'a': entry}))
    with pytest.raises(UnusableFile, match=word):
        read_arrays(tmp_path / 'some.npz', ['a'])


def test_arrays_that_nobody_asks_for_are_not_read(tmp_path):
    (tmp_path / 'some.npz').write_bytes(npz({'a': npy(np.arange(3)), 'b': b'nonsense'}))
    assert read_arrays(tmp_path / 'some.npz', ['a', 'c'])['a'].tolist() == [0, 1, 2]


def encrypted(data):
    """Set the bit of an encrypted entry in an archive's headers."""
    changed = bytearray(data)
    for signature, offset in ((b'PK\1\2', 8), (b'PK\3\4', 6)):
        at = -1
        while (at := changed.find(signature, at + 1)) >= 0:
            changed[at + offset] |= 1
    return bytes(changed)


def test_encrypted_archives_are_refused(tmp_path):
    (tmp_path / 'some.zip').write_bytes(encrypted(npz({'manifest': b'{}', 'a': npy(np.ones(2))})))
    with pytest.raises(UnusableFile, match='encrypted'):
        read_arrays(tmp_path / 'some.zip', ['a'])
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w') as archive:
        archive.writestr('items/manifest.json', '{}')
    (tmp_path / 'models.zip').write_bytes(encrypted(data.getvalue()))
    with pytest.raises(ModelFileError, match='models.zip.*encrypted.*export the models again'):
        import_models(tmp_path / 'models.zip', tmp_path / 'out')


@pytest.fixture(scope='module')
def shipped():
    return share_path('models/items/encoder.npz')


@FUZZ
@given(data=st.data())
def test_a_damaged_codec_file_is_read_or_refused(tmp_path, shipped, data):
    content = bytearray(shipped.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        near = data.draw(st.sampled_from([(0, 300), (0, len(content)), (-1500, 0)]))
        at = data.draw(st.integers(near[0], near[1] - 1)) % len(content)
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / 'encoder.npz').write_bytes(content)
    try:
        CodecSpec.load(tmp_path / 'encoder.npz')
    except ModelFileError as error:
        assert 'encoder.npz' in str(error)


@FUZZ
@given(data=st.data())
def test_a_damaged_archive_of_models_is_unpacked_or_refused(tmp_path, data):
    source = io.BytesIO()
    with zipfile.ZipFile(source, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('items/manifest.json', json.dumps({'format': 1, 'name': 'x' * 300}))
        archive.writestr('items/weak.onnx', bytes(range(256)) * 8)
    content = bytearray(source.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / 'models.zip').write_bytes(content)
    with pytest.raises(ConveyorError):  # the manifest is never a whole one
        import_models(tmp_path / 'models.zip', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'change, reason',
    [
        (lambda s: {'finest_step': np.zeros_like(s.finest_step)}, 'width of zero'),
        (lambda s: {'finest_step': -s.finest_step}, 'width of zero'),
        (lambda s: {'finest_step': np.full_like(s.finest_step, 1e-30)}, 'width of 1e-06 or less'),
        (
            lambda s: {'finest_step': np.full_like(s.finest_step, 1e30)},
            'finest_step.*1e.06 or more',
        ),
        (lambda s: {'mean': np.full_like(s.mean, -1e6)}, 'mean holds a number of 1e.06 or more'),
        (lambda s: {'analysis': np.full_like(s.analysis, 3e38)}, 'analysis.*1e.06 or more'),
        (lambda s: {'shrink': np.full_like(s.shrink, -3e38)}, 'shrink.*1e.06 or more'),
        (
            lambda s: {'offset': np.full((s.channels, len(s.region_map)), 1e37, np.float32)},
            'offset.*1e.06 or more',
        ),
        (lambda s: {'mean': np.full_like(s.mean, np.nan)}, 'mean.*not finite'),
        (lambda s: {'region_map': s.region_map.astype(float) + 0.5}, 'region_map'),
        (lambda s: {'region_map': s.region_map.astype(np.int64) + 256}, 'region_map'),
        (lambda s: {'group_channel': np.full(s.groups, np.nan)}, 'group_channel'),
        (lambda s: {'mean': s.mean.astype(complex)}, 'mean is complex128'),
        (lambda s: {'header': np.array(['a', 'b', 'c'])}, 'header'),
        (lambda s: {'header': np.array([2, 160, -1], np.int32)}, '-1 labels'),
        (lambda s: {'header': np.array([2, 160, 2**31 - 1], np.int32)}, 'labels'),
        (lambda s: {'header': np.array([2, 160], np.int32)}, 'format'),
        (lambda s: {'tables': np.full_like(s.tables, 65535)}, 'does not sum'),
    ],
)
def test_a_codec_of_wrong_numbers_is_refused(tmp_path, shipped, change, reason):
    spec = CodecSpec.load(shipped)
    values = {f.name: getattr(spec, f.name) for f in fields(spec)} | change(spec)
    np.savez(tmp_path / 'encoder.npz', **values)
    with pytest.raises(ModelFileError, match=reason):
        CodecSpec.load(tmp_path / 'encoder.npz')


def test_the_compiled_coder_refuses_rows_that_do_not_sum_up(shipped):
    from stl_conveyor.codec.entropy import GroupCoder, has_extension

    if not has_extension():
        pytest.skip('the compiled inner loops are not built here')
    spec = CodecSpec.load(shipped)
    GroupCoder(spec, compiled=True)
    wrong = replace(spec, tables=np.full_like(spec.tables, 40_000))
    with pytest.raises(ValueError, match='do not fit together'):
        GroupCoder(wrong, compiled=True)


def field(number, content):
    """Return a field of a protobuf message: a number, or what is counted in bytes."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    content = content.encode() if isinstance(content, str) else content
    assert len(content) < 1 << 14
    return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


def product(weight):
    """Return an ONNX model that multiplies f32[1, 2] by the 2 x 2 weight, a TensorProto's end."""
    shape = field(1, field(1, 1)) + field(1, field(1, 2))
    kind = field(1, field(1, 1) + field(2, shape))
    graph = (
        field(1, field(1, 'x') + field(1, 'w') + field(2, 'y') + field(4, 'MatMul'))
        + field(2, 'product')
        + field(5, field(1, 2) + field(1, 2) + field(2, 1) + field(8, 'w') + weight)
        + field(11, field(1, 'x') + field(2, kind))
        + field(12, field(1, 'y') + field(2, kind))
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


def test_weights_in_a_second_file_are_refused(tmp_path, monkeypatch):
    weights = np.eye(2, dtype=np.float32).tobytes()
    (tmp_path / 'whole.onnx').write_bytes(product(field(9, weights)))
    x = np.array([[3, 4]], np.float32)
    assert make_session(tmp_path / 'whole.onnx').run(None, {'x': x})[0].tolist() == [[3, 4]]
    place = field(1, 'location') + field(2, 'weights.bin')
    (tmp_path / 'parts.onnx').write_bytes(product(field(13, place) + field(14, 1)))
    (tmp_path / 'weights.bin').write_bytes(weights)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match='parts.onnx.*second file'):
        make_session(tmp_path / 'parts.onnx')
