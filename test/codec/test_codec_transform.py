# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The device's transform: every kernel makes the same integers, near those of the real matrix."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from codec_specs import banded_spec, shipped_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.codec.transform import (
    FINEST_LIMIT,
    PatchTransform,
    available_kernels,
    device_analysis,
    device_offset,
)
from stl_conveyor.errors import BadImage
from stl_conveyor_lab.train.codec.fit import transform
from stl_conveyor_lab.train.tiny import tiny_images

RELAXED = settings(deadline=None, max_examples=30)


def uneven_spec():
    """Five positions a side: no multiple of a tile."""
    return banded_spec(80, fine=1)


@pytest.fixture(scope='module', params=[uneven_spec, shipped_spec])
def spec(request):
    return request.param()


@pytest.fixture(scope='module')
def transforms(spec):
    return {name: PatchTransform(spec, name) for name in ('numpy', *available_kernels())}


def drawn_image(spec, seed, kind):
    rng = np.random.default_rng(seed)
    shape = (spec.image_size, spec.image_size, 3)
    if kind == 'noise':
        return rng.integers(0, 256, shape, np.uint8)
    if kind == 'extreme':
        return rng.choice(np.array([0, 255], np.uint8), shape)
    return np.full(shape, rng.integers(256), np.uint8)


@RELAXED
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(['noise', 'extreme', 'flat']),
    share=st.floats(0, 1),
)
def test_every_kernel_makes_the_same_integers(spec, transforms, seed, kind, share):
    image = drawn_image(spec, seed, kind)
    channels = round(share * spec.channels)
    made = {name: found.quantise(image, channels) for name, found in transforms.items()}
    for name, integers in made.items():
        assert integers.dtype == np.int8
        assert integers.shape == (spec.channels, spec.grid**2)
        assert np.array_equal(integers, made['numpy']), name
    assert not made['numpy'][spec.order.channel_order[channels:]].any()
    everything = transforms['numpy'].quantise(image)
    used = spec.order.channel_order[:channels]
    assert np.array_equal(everything[used], made['numpy'][used])


def test_what_is_no_number_becomes_the_same_integer_everywhere(spec):
    offset = spec.offset.copy()
    offset[:, ::3] = np.nan
    broken = replace(spec, offset=offset)
    image = drawn_image(spec, 1, 'noise')
    for name in ('numpy', *available_kernels()):
        made = PatchTransform(broken, name).quantise(image)
        assert (made[:, ::3] == -FINEST_LIMIT).all(), name


def test_integers_are_those_of_the_real_matrix(spec, transforms):
    images = tiny_images(8, 3, seed=5)[0][:, : spec.image_size, : spec.image_size]
    weights, scale = device_analysis(spec)
    assert np.abs(weights).max() == 127
    assert np.abs(weights * scale - spec.analysis).max() <= 0.501 * scale.max()
    values = transform(images, spec.mean, spec.analysis, spec.patch) - spec.offset
    for channel, matrix in enumerate(spec.spatial):
        values[:, channel] = values[:, channel] @ matrix.T
    wanted = np.clip(np.rint(values / spec.finest_step[:, None]), -FINEST_LIMIT, FINEST_LIMIT)
    for image, expected in zip(images, wanted):
        found = next(iter(transforms.values())).quantise(image)
        # The coarsest plane, which is sent first, has steps of 27 of these.
        assert np.abs(found - expected).max() <= 9
        assert np.abs(found - expected).mean() < 0.6


def test_the_offset_is_exact_whatever_the_order_of_summation(spec):
    weights, scale = device_analysis(spec)
    made = device_offset(spec)
    for k in range(0, spec.channels, 9):
        exact = sum(Fraction(int(w)) * Fraction(float(m)) for w, m in zip(weights[k], spec.mean))
        wanted = float(exact) * float(scale[k, 0]) + spec.offset[k].astype(np.float64)
        assert np.array_equal(made[k], wanted)
    turned = replace(spec, mean=spec.mean[::-1], analysis=spec.analysis[:, ::-1])
    assert np.array_equal(device_offset(turned), made)


#: Prints what a transform without compiled loops makes of an image.
ONE_IMAGE = """
import sys
import numpy as np
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.transform import PatchTransform
spec = CodecSpec.load(sys.argv[1])
image = np.random.default_rng(8).integers(0, 256, (spec.image_size, spec.image_size, 3), np.uint8)
transform = PatchTransform(spec, 'numpy')
print(transform._offset.tobytes().hex(), transform.quantise(image).tobytes().hex())
"""


@pytest.mark.skipif(
    platform.machine() != 'x86_64', reason='the kernels named here are those of x86-64'
)
def test_every_kernel_of_the_matrix_library_makes_the_same(spec, tmp_path):
    """NumPy's OpenBLAS adds in another order for each processor; nothing may depend on it."""
    spec.save(tmp_path / 'encoder.npz')
    made = set()
    for kernel in ('Prescott', 'Nehalem', 'Sandybridge', 'Haswell'):
        done = subprocess.run(
            [sys.executable, '-c', ONE_IMAGE, str(tmp_path / 'encoder.npz')],
            env={**os.environ, 'OPENBLAS_CORETYPE': kernel},
            capture_output=True,
            text=True,
            check=True,
        )
        made.add(done.stdout)
    assert len(made) == 1


def test_images_of_another_size_or_type_are_refused(spec, transforms):
    size = spec.image_size
    for transform_of in transforms.values():
        for image in (
            np.zeros((size, size + 1, 3), np.uint8),
            np.zeros((size, size, 3)),
            np.zeros((size, size), np.uint8),
        ):
            with pytest.raises(BadImage, match='crop and resize it first'):
                transform_of.quantise(image)
        # A view that is not contiguous is as good as a copy of it.
        image = drawn_image(spec, 1, 'noise')
        assert np.array_equal(
            transform_of.quantise(image[:, ::-1]), transform_of.quantise(image[:, ::-1].copy())
        )


@pytest.mark.skipif(not available_kernels(), reason='the compiled transform is not built here')
def test_arrays_that_do_not_fit_are_refused(spec):
    from stl_conveyor import _transform

    good = [
        spec.channels,
        spec.grid,
        spec.patch,
        len(spec.spatial),
        np.ascontiguousarray(device_analysis(spec)[0]),
        np.zeros(spec.channels, np.float32),
        np.zeros((spec.channels, spec.grid**2), np.float32),
        np.arange(spec.channels, dtype=np.int16),
        np.ascontiguousarray(spec.spatial, np.float32),
        None,
    ]
    whole = _transform.Transform(*good)
    for place, wrong in (
        (0, spec.channels + 1),
        (1, 0),
        (2, spec.patch * 2),
        (3, -1),
        (4, b'short'),
        (7, np.full(spec.channels, spec.channels, np.int16)),
        (9, 'abacus'),
    ):
        with pytest.raises(ValueError):
            _transform.Transform(*good[:place], wrong, *good[place + 1 :])
    image = bytes(3 * spec.image_size**2)
    for arguments in (
        (image[1:], 1, 94),
        (image, -1, 94),
        (image, spec.channels + 1, 94),
        (image, 1, 0),
        (image, 1, 128),
    ):
        with pytest.raises(ValueError):
            whole.quantise(*arguments)
