# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What lies between a perfect rendering and a camera's pixels: light, lens, motion and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAMMA = 2.2
_TO_LINEAR = ((np.arange(256) / 255.0) ** GAMMA).astype(np.float32)
_LEVELS = 4096
_TO_DISPLAY = np.rint(255.0 * (np.arange(_LEVELS) / (_LEVELS - 1)) ** (1 / GAMMA)).astype(np.uint8)


@dataclass(frozen=True)
class Exposure:
    """The conditions of one exposure."""

    light: float  # scene light against the nominal, 0..1.2
    gain: float  # analogue gain of the sensor, at least 1
    defocus: float  # standard deviation of the lens blur, pixels
    motion: float  # way of the belt during the exposure, pixels along the image's rows
    noise_seed: tuple  # seeds the sensor noise


def exposure_for(difficulty, motion, seed):
    """Return the conditions under which an item of a given difficulty is seen.

    A hard item is in poor light, so the sensor turns its gain up and its noise with it, and it is
    out of focus. difficulty: 0..1. motion: pixels. seed: tuple of non-negative integers.
    """
    rng = np.random.default_rng(seed)
    light = (1.0 - 0.86 * difficulty) * rng.uniform(0.88, 1.08)
    return Exposure(
        light=float(light),
        gain=float(min((1.0 / light) ** 0.75, 5.0)),
        defocus=float(0.45 + 1.25 * difficulty**2 * rng.uniform(0.7, 1.2)),
        motion=float(motion),
        noise_seed=(*seed, 1),
    )


def _blur_rows(image, kernel):
    """Convolve along axis 0, edges repeated; kernel: odd length."""
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (0, 0), (0, 0)), mode='edge')
    out = kernel[0] * padded[: image.shape[0]]
    for shift in range(1, len(kernel)):
        out += kernel[shift] * padded[shift : shift + image.shape[0]]
    return out


def _gaussian(sigma):
    reach = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def _box(length):
    """Return the footprint of a uniform motion over `length` pixels."""
    reach = int(np.ceil(max(length, 1.0) / 2 - 0.5))
    edges = np.clip(np.arange(-reach, reach + 2) - 0.5, -length / 2, length / 2)
    kernel = np.diff(edges)
    return (kernel / kernel.sum()).astype(np.float32)


def photograph(rendering, exposure):
    """Turn a rendering into what the camera delivers.

    rendering: uint8 [H, W, 3], display-coded. Everything that moves in the picture moves at the
    belt's speed along the rows, so the blur of motion is a box along axis 0, in linear light.
    Returns uint8 [H, W, 3].
    """
    rng = np.random.default_rng(exposure.noise_seed)
    signal = _TO_LINEAR[rendering] * np.float32(exposure.light)
    if exposure.motion > 1.0:
        signal = _blur_rows(signal, _box(exposure.motion))
    kernel = _gaussian(exposure.defocus)
    signal = _blur_rows(signal, kernel)
    signal = _blur_rows(signal.transpose(1, 0, 2), kernel).transpose(1, 0, 2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    sigma = np.sqrt(np.float32(0.0030**2) + np.float32(0.00045) * np.maximum(signal, 0))
    signal = (signal + sigma * noise) * np.float32(exposure.gain)
    return _TO_DISPLAY[np.clip(signal * (_LEVELS - 1), 0, _LEVELS - 1).astype(np.uint16)]


def belt_texture(seed, size=512):
    """Draw a stretch of worn and dirty belt that tiles along the belt.

    seed: tuple of integers. size: pixels of a side. Returns uint8 [size, size, 3]; axis 1 runs
    along the belt.
    """
    rng = np.random.default_rng(seed)
    freq = np.fft.fftfreq(size)
    radius = np.hypot(freq[:, None], freq[None, :])

    def cloud(scale, power):
        """Return tileable noise with a 1/f spectrum, zero mean and unit variance."""
        spectrum = np.fft.fft2(rng.standard_normal((size, size)))
        field = np.real(np.fft.ifft2(spectrum / np.maximum(radius, 1.0 / scale) ** power))
        return (field - field.mean()) / field.std()

    shade = rng.uniform(0.24, 0.38)
    tint = np.array([1.0, rng.uniform(0.97, 1.03), rng.uniform(0.94, 1.06)])
    wear = rng.uniform(0.3, 1.0)
    grey = shade * (1 + 0.16 * wear * cloud(256, 1.6)) + 0.012 * cloud(4, 0.0)
    weave = np.arange(size) * 2 * np.pi / 8
    grey += 0.006 * (np.sin(weave)[:, None] + np.sin(weave)[None, :])
    y, x = np.ogrid[0:size, 0:size]
    for _ in range(rng.poisson(14 * wear)):  # scratches, mostly along the belt
        angle = rng.normal(0, 0.25)
        cx, cy, half = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(8, 70)
        dx = (x - cx + size / 2) % size - size / 2
        dy = (y - cy + size / 2) % size - size / 2
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = -dx * np.sin(angle) + dy * np.cos(angle)
        grey += rng.uniform(0.04, 0.20) * np.exp(-((across / 1.1) ** 2)) * (np.abs(along) < half)
    for _ in range(rng.poisson(16 * wear)):  # oil and dust
        cx, cy = rng.uniform(0, size, 2)
        dx = (x - cx + size / 2) % size - size / 2
        dy = (y - cy + size / 2) % size - size / 2
        r = rng.uniform(3, 22)
        spot = np.exp(-(((dx / r) ** 2 + (dy / (r * rng.uniform(0.6, 1.4))) ** 2) ** 2))
        grey += rng.choice([-0.16, 0.12]) * rng.uniform(0.3, 1.0) * spot
    return np.clip(255 * grey[..., None] * tint, 0, 255).astype(np.uint8)
