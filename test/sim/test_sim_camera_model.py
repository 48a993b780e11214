# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The sensor model: light, blur and noise do what their names say."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.sim.camera_model import Exposure, belt_texture, exposure_for, photograph


def square(size=64):
    image = np.full((size, size, 3), 40, np.uint8)
    image[24:40, 24:40] = 200
    return image


def exposure(**changes):
    values = {'light': 1.0, 'gain': 1.0, 'defocus': 0.4, 'motion': 0.0, 'noise_seed': (1, 2)}
    return Exposure(**{**values, **changes})


def test_less_light_is_darker_and_gain_brings_it_back():
    bright = photograph(square(), exposure()).mean()
    dark = photograph(square(), exposure(light=0.3)).mean()
    gained = photograph(square(), exposure(light=0.3, gain=1 / 0.3)).mean()
    assert dark < 0.8 * bright
    assert abs(gained - bright) < 4


def test_gain_brings_noise():
    belt = np.full((64, 64, 3), 90, np.uint8)
    quiet = photograph(belt, exposure()).std()
    noisy = photograph(belt, exposure(light=0.15, gain=1 / 0.15)).std()
    assert noisy > 2 * quiet


def test_motion_smears_along_the_belt_alone():
    image = photograph(square(), exposure(motion=9.0)).astype(float)[..., 1]
    along = np.abs(np.diff(image[:, 32])).max()
    across = np.abs(np.diff(image[32])).max()
    assert along < 0.5 * across


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_any_difficulty_gives_a_picture_and_the_same_one_again(difficulty, seed):
    conditions = exposure_for(difficulty, 3.2, (seed, 4))
    assert conditions == exposure_for(difficulty, 3.2, (seed, 4))
    first = photograph(square(), conditions)
    assert first.dtype == np.uint8 and np.array_equal(first, photograph(square(), conditions))


def test_hard_items_are_seen_worse():
    easy, hard = (exposure_for(d, 3.2, (1, 2)) for d in (0.0, 1.0))
    assert hard.light < easy.light and hard.gain > easy.gain and hard.defocus > easy.defocus


def test_the_belt_texture_tiles_and_differs_by_seed():
    one, same, two = belt_texture((1,), 128), belt_texture((1,), 128), belt_texture((2,), 128)
    assert np.array_equal(one, same) and not np.array_equal(one, two)
    grey = one.astype(float).mean(2)
    seam = np.abs(grey[:, 0] - grey[:, -1]).mean()
    inside = np.abs(np.diff(grey, axis=1)).mean()
    assert seam < 3 * inside + 2
