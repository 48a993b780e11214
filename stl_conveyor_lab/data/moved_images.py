# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Find images that show the same, moved: frames of one item that passes the camera.

A fingerprint is a small grey image without what is uniform over a sixth of its side (light,
background) and without single pixels (noise). Candidates are images whose spectra have the same
magnitudes, which a movement does not change; the movement at which two of them agree best comes
from their circular cross-correlation, and counts where the overlap then correlates.

Measured on photos of Clothing, cut out twice, moved by up to 3, 6, 10 and 15 % of their side, one
of them lit otherwise and with noise: of 120 pairs each, 98, 100, 92 and 78 % are found, where
`dataset.difference_hash` finds 38, 8, 2 and 2 %. Of 106,606 pairs of different photos of one class
16 are taken for the same. A thousand images take four seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

#: Side of a fingerprint, the widths in its pixels between which details count, and how far two may
#: be moved.
SIDE, FINEST, COARSEST, REACH = 64, 1.0, 6.0, 12
#: Correlation of the overlap from which on two images show the same.
SAME = 0.9
#: Waves per side of the magnitudes that are compared, how alike they must be, and how many
#: candidates an image has at most.
WAVES, CANDIDATE, MOST_CANDIDATES = 16, 0.77, 24
#: Pairs that are correlated at once.
_BATCH = 1024


@dataclass(frozen=True)
class Fingerprints:
    """What images are compared by.

    Attributes:
        maps: f32[N, SIDE, SIDE].
        spectra: c64[N, SIDE, SIDE // 2 + 1], of the maps.
        magnitudes: f32[N, K], of length one.
    """

    maps: np.ndarray
    spectra: np.ndarray
    magnitudes: np.ndarray


def fingerprints(images: np.ndarray) -> Fingerprints:
    """Return the fingerprints of images u8[N, S, S, 3]."""
    grey = np.zeros((len(images), SIDE, SIDE), np.float32)
    for place, image in enumerate(images):
        picture = Image.fromarray(image).convert('L')
        grey[place] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    maps = gaussian_filter(grey, (0, FINEST, FINEST)) - gaussian_filter(
        grey, (0, COARSEST, COARSEST)
    )
    spectra = np.fft.rfft2(maps).astype(np.complex64)
    low = np.concatenate([spectra[:, :WAVES, :WAVES], spectra[:, 1 - WAVES :, :WAVES]], axis=1)
    size = np.abs(low).reshape(len(images), low.shape[1] * WAVES)
    size = size - size.mean(1, keepdims=True)
    # A picture without any structure is like no other.
    length = np.linalg.norm(size, axis=1, keepdims=True)
    size = np.divide(size, length, out=np.zeros_like(size), where=length > 1e-3)
    return Fingerprints(maps, spectra, size.astype(np.float32))


def moved_pairs(first: Fingerprints, second: Fingerprints | None = None) -> np.ndarray:
    """Return the pairs i64[M, 2] of images that show the same, moved or not.

    Args:
        first: Of some images.
        second: Of those to compare them with; None compares the first with each other, each pair
            once.
    """
    other = first if second is None else second
    candidates = _candidates(first.magnitudes, other.magnitudes, within=second is None)
    same = [
        _overlap_correlation(first, other, candidates[at : at + _BATCH]) >= SAME
        for at in range(0, len(candidates), _BATCH)
    ]
    return candidates[np.concatenate(same)] if same else candidates


def _candidates(first: np.ndarray, second: np.ndarray, within: bool) -> np.ndarray:
    """Return the pairs i64[M, 2] whose magnitudes are alike."""
    most = min(MOST_CANDIDATES, len(second))
    found = [np.zeros((0, 2), np.int64)]
    for begin in range(0, len(first), 512):
        alike = first[begin : begin + 512] @ second.T
        if within:
            # A pair stands once, and no image beside itself.
            alike[np.arange(begin, begin + len(alike))[:, None] >= np.arange(len(second))] = -1
        nearest = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        row, rank = np.nonzero(np.take_along_axis(alike, nearest, 1) >= CANDIDATE)
        found.append(np.stack([row + begin, nearest[row, rank]], axis=1))
    return np.concatenate(found)


def _overlap_correlation(
    first: Fingerprints, second: Fingerprints, pairs: np.ndarray
) -> np.ndarray:
    """Return f64[M]: how what two images share correlates where they agree best."""
    product = first.spectra[pairs[:, 0]] * np.conj(second.spectra[pairs[:, 1]])
    agreement = np.fft.fftshift(np.fft.irfft2(product, s=(SIDE, SIDE)), axes=(1, 2))
    middle, width = SIDE // 2, 2 * REACH + 1
    near = slice(middle - REACH, middle + REACH + 1)
    best = agreement[:, near, near].reshape(len(pairs), -1).argmax(1)
    result = np.zeros(len(pairs))
    for movement in np.unique(best):
        down, right = movement // width - REACH, movement % width - REACH
        here = np.flatnonzero(best == movement)
        one = first.maps[pairs[here, 0], _overlap(down), :][:, :, _overlap(right)]
        two = second.maps[pairs[here, 1], _overlap(-down), :][:, :, _overlap(-right)]
        result[here] = _correlation(one.reshape(len(here), -1), two.reshape(len(here), -1))
    return result


def _overlap(moved: int) -> slice:
    return slice(max(0, moved), SIDE + min(0, moved))


def _correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    one, two = one - one.mean(1, keepdims=True), two - two.mean(1, keepdims=True)
    scale = np.sqrt((one * one).sum(1, dtype=float) * (two * two).sum(1, dtype=float))
    return np.divide(
        (one * two).sum(1, dtype=float), scale, out=np.zeros(len(one)), where=scale > 0
    )
