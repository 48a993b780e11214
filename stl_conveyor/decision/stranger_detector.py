# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How unlike an item is to what a model was taught, from what the model computes anyway.

What a source has of these is added up, each in units of its spread over the cell's own items,
distances as their logarithm:

* to the nearest of some reference items, in the mean, spread and peak of each channel of several
  layers, over their length (Sun, Ming, Zhu, Li, "Out-of-Distribution Detection with Deep Nearest
  Neighbors", ICML 2022);
* to the nearest class, in the last layer, in units of how much the items of a class vary (Lee,
  Lee, Lee, Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
  Adversarial Attacks", NeurIPS 2018);
* on which side of a learned boundary between the cell's own items and things that do not belong
  it lies, and how far, in the features that neighbours are sought in (outlier exposure: Hendrycks,
  Mazeika, Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR 2019): a network of one
  hidden layer, whose units are bounded, so that what is far from all that it has seen moves it no
  further.

The sum is ranked among that of the cell's own items, at each length of the prefix; that rank is
the unknown score.

The file ``strangers.npz`` (role ``strangers``) holds, for the sources ``local`` and ``edge``, and
P lengths at which references were taken, Q at which own items were ranked::

    format                    int64 []            2; 1: nothing is learned
    <source>_tensors          str [T]             outputs of the graph that are read
    <source>_last             bool []             the first of them is for the classes alone
    <source>_unit             bool []             neighbours by angle
    <source>_offset, _scale   float32 [F]         of the features that neighbours are sought in
    <source>_lengths          int32 [P]
    <source>_references       float16 [P, R, F]
    <source>_stretch          float32 [P, D]      of the last layer; D = 0: no distance to classes
    <source>_means            float16 [P, C, D]   of the classes in the stretched layer
    <source>_axes             float16 [P, D, K]   directions that count less, by how much
    <source>_hidden           float32 [P, F, H]   of the boundary; H = 0: none was learned
    <source>_bias, _outward   float32 [P, H]
    <source>_centre, _spread  float32 [P, 3]      of both logarithms and of the boundary's side
    <source>_own_lengths      int32 [Q]
    <source>_own              float32 [Q, N]      ascending
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.decision.strangeness import unknown_scores
from stl_conveyor.errors import ModelFileError
from stl_conveyor.outside_files import UnusableFile, read_arrays

FORMAT = 2
ROLE = 'strangers'
LOCAL, EDGE = 'local', 'edge'
#: The terms of the sum, in the order of centre and spread.
REFERENCE, CLASS, BOUNDARY = 'reference', 'class', 'boundary'
TERMS = (REFERENCE, CLASS, BOUNDARY)
NEIGHBOURS = 2
_FIELDS = (
    'tensors',
    'last',
    'unit',
    'offset',
    'scale',
    'lengths',
    'references',
    'stretch',
    'means',
    'axes',
    'hidden',
    'bias',
    'outward',
    'centre',
    'spread',
    'own_lengths',
    'own',
)
_COARSE = ('references', 'means', 'axes')
_LEARNED = ('hidden', 'bias', 'outward')
_LEAST = 1e-9

Floats = NDArray[np.float32]


def pooled(tensor: NDArray[Any]) -> Floats:
    """Return mean, spread and peak of each channel of [N, C, H, W]; [N, C] stays as it is."""
    values = np.asarray(tensor, np.float32)
    if values.ndim == 2:
        return values
    flat = values.reshape(len(values), values.shape[1], -1)
    return np.concatenate([flat.mean(axis=2), flat.std(axis=2), flat.max(axis=2)], axis=1)


def neighbour_features(
    inside: Sequence[NDArray[Any]], last: bool, offset: Floats, scale: Floats, unit: bool
) -> Floats:
    """Return the features [N, F] that neighbours are sought in."""
    parts = [pooled(tensor) for tensor in inside[1 if last else 0 :]]
    features = (np.concatenate(parts, axis=1) - offset) / scale
    if unit:
        features /= np.linalg.norm(features, axis=1, keepdims=True) + np.float32(_LEAST)
    return np.asarray(features, np.float32)


def nearest(features: Floats, references: Floats, squares: Floats | None = None) -> Floats:
    """Return the squared distance [N] to the second nearest reference.

    Args:
        squares: [R], the squared lengths of the references, where they are known.
    """
    if squares is None:
        squares = (references * references).sum(axis=1)
    distances = squares - 2.0 * (features @ references.T)
    which = min(NEIGHBOURS, len(references)) - 1
    found = np.partition(distances, which, axis=1)[:, which]
    return np.asarray(np.maximum(found + (features * features).sum(axis=1), _LEAST), np.float32)


def nearest_class(last: Floats, stretch: Floats, means: Floats, axes: Floats) -> Floats:
    """Return the squared distance [N] to the nearest class mean.

    It is the Mahalanobis distance where the covariance within the classes is `stretch` ** -2 in
    all directions but those of `axes`, whose share of the distance is taken away again.
    """
    scaled: Floats = np.asarray(last * stretch, np.float32)
    along: Floats = np.asarray(scaled @ axes, np.float32)
    centres: Floats = np.asarray(means @ axes, np.float32)
    distances = np.subtract(squared_distances(scaled, means), squared_distances(along, centres))
    return np.asarray(np.maximum(distances.min(axis=1), _LEAST), np.float32)


def beyond(features: Floats, hidden: Floats, bias: Floats, outward: Floats) -> Floats:
    """Return how far [N] features [N, F] lie on the outer side of a boundary; see the module."""
    return np.asarray(np.tanh(features @ hidden + bias) @ outward, np.float32)


def squared_distances(points: Floats, centres: Floats) -> Floats:
    """Return the squared distances [N, C] of points [N, D] to centres [C, D]."""
    return np.asarray(
        (points * points).sum(axis=1)[:, None]
        - 2.0 * points @ centres.T
        + (centres * centres).sum(axis=1),
        np.float32,
    )


@dataclass(frozen=True, eq=False)
class StrangerDetector:
    """The detector of one source; see the module for the fields."""

    tensors: tuple[str, ...]
    last: bool
    unit: bool
    offset: Floats
    scale: Floats
    lengths: NDArray[np.int64]
    references: Floats
    stretch: Floats
    means: Floats
    axes: Floats
    hidden: Floats
    bias: Floats
    outward: Floats
    centre: Floats
    spread: Floats
    own_lengths: NDArray[np.int64]
    own: Floats

    def __post_init__(self) -> None:
        """Check that the arrays belong together.

        Raises:
            ValueError: Saying which do not.
        """
        places, features = len(self.lengths), len(self.offset)
        good = {
            'tensors': len(self.tensors) > (1 if self.last else 0),
            'scale': self.scale.shape == (features,) and bool((self.scale > 0).all()),
            'references': self.references.ndim == 3
            and self.references.shape[::2] == (places, features)
            and self.references.shape[1] > 0,
            'stretch': self.stretch.ndim == 2 and len(self.stretch) == places,
            'means': self.means.ndim == 3
            and self.means.shape[::2] == (places, self.stretch.shape[-1]),
            'axes': self.axes.ndim == 3
            and self.axes.shape[:2] == (places, self.stretch.shape[-1]),
            'hidden': self.hidden.ndim == 3 and self.hidden.shape[:2] == (places, features),
            'bias': self.bias.shape == (places, self.hidden.shape[-1]),
            'outward': self.outward.shape == (places, self.hidden.shape[-1]),
            'centre': self.centre.shape == (places, len(TERMS)),
            'spread': self.spread.shape == (places, len(TERMS)) and bool((self.spread > 0).all()),
            'own': self.own.ndim == 2
            and len(self.own) == len(self.own_lengths) > 0
            and bool((np.diff(self.own, axis=1) >= 0).all()),
            'lengths': places > 0 and bool((np.diff(self.lengths) > 0).all()),
        }
        for name, fits in good.items():
            if not fits:
                raise ValueError(f'{name} does not fit')
        for name in (
            'offset',
            'references',
            'stretch',
            'means',
            'axes',
            *_LEARNED,
            'centre',
            'own',
        ):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f'{name} holds what is no number')

    @cached_property
    def _squares(self) -> Floats:
        squares: Floats = (self.references * self.references).sum(axis=2)
        return squares

    @classmethod
    def load(cls, path: str | Path, source: str) -> StrangerDetector:
        """Read the detector of a source, LOCAL or EDGE.

        Raises:
            ModelFileError: When the file is missing or cannot be used.
        """
        try:
            names = [f'{source}_{field}' for field in _FIELDS]
            found = read_arrays(path, ['format', *names])
            written = int(found.get('format', FORMAT))
            if written not in (1, FORMAT):
                raise ValueError(f'format is neither 1 nor {FORMAT}')
            if written == 1:
                found |= _nothing_learned(found, source)
            missing = sorted({'format', *names} - set(found))
            if missing:
                raise ValueError(f'{missing[0]} is missing')
            values = {field: found[f'{source}_{field}'] for field in _FIELDS}
            floats = {
                field: values[field].astype(np.float32)
                for field in _FIELDS
                if field not in ('tensors', 'last', 'unit', 'lengths', 'own_lengths')
            }
            return cls(
                tensors=tuple(str(name) for name in values['tensors']),
                last=bool(values['last']),
                unit=bool(values['unit']),
                lengths=values['lengths'].astype(np.int64),
                own_lengths=values['own_lengths'].astype(np.int64),
                **floats,
            )
        except (UnusableFile, ValueError, TypeError) as error:
            raise ModelFileError(
                f'{path} tells no strangers of {source} ({error}); make it again with '
                'python -m stl_conveyor_lab.train.decision'
            ) from error

    def arrays(self, source: str) -> dict[str, NDArray[Any]]:
        """Return what the file holds of this detector."""
        return {
            f'{source}_{field}': np.asarray(
                getattr(self, field), np.float16 if field in _COARSE else None
            )
            for field in _FIELDS
        }

    def distances(
        self, inside: Sequence[NDArray[Any]], received: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Return how strange items are, in spreads of the cell's own items, all terms added.

        Args:
            inside: What the graph gave for `tensors`, each [N, ...].
            received: Payload bytes behind each item; None = all of it.
        """
        return np.asarray(sum(self.terms(inside, received).values()), np.float64)

    def terms(
        self, inside: Sequence[NDArray[Any]], received: Sequence[int] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Return the terms [N] of `distances` that this source has, each by its name."""
        features = neighbour_features(inside, self.last, self.offset, self.scale, self.unit)
        places = _nearest_places(self.lengths, received, len(features))
        result = {name: np.zeros(len(features)) for name in self._names}
        for place, rows in _groups(places):
            for name, term in self._terms_at(place, features[rows], inside, rows).items():
                k = TERMS.index(name)
                result[name][rows] = (term - self.centre[place, k]) / self.spread[place, k]
        return result

    @cached_property
    def _names(self) -> tuple[str, ...]:
        has = (True, bool(self.stretch.shape[-1]), bool(self.hidden.shape[-1]))
        return tuple(name for name, there in zip(TERMS, has) if there)

    def _terms_at(
        self,
        place: int,
        features: Floats,
        inside: Sequence[NDArray[Any]],
        rows: slice | NDArray[np.bool_],
    ) -> dict[str, Floats]:
        found = {}
        for name in self._names:
            if name == REFERENCE:
                near = nearest(features, self.references[place], self._squares[place])
                found[name] = np.log(near)
            elif name == CLASS:
                last = np.asarray(inside[0], np.float32)[rows]
                found[name] = np.log(
                    nearest_class(last, self.stretch[place], self.means[place], self.axes[place])
                )
            else:
                found[name] = beyond(
                    features, self.hidden[place], self.bias[place], self.outward[place]
                )
        return found

    def unknown(
        self, inside: Sequence[NDArray[Any]], received: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Return the unknown scores [N]; see `distances`."""
        found = self.distances(inside, received)
        places = _places(self.own_lengths, received, len(found))
        result = np.zeros(len(found))
        for place, rows in _groups(places):
            result[rows] = unknown_scores(found[rows], self.own[place])
        return result


def _nothing_learned(found: dict[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Return what a file of format 1 lacks."""
    references = found.get(f'{source}_references')
    if references is None or references.ndim != 3:
        return {}
    places, features = references.shape[::2]
    none = np.zeros((places, 0), np.float32)
    wider = {
        name: np.pad(found[name], ((0, 0), (0, 1)), constant_values=filled)
        for name, filled in ((f'{source}_centre', 0.0), (f'{source}_spread', 1.0))
        if name in found and found[name].ndim == 2
    }
    return {
        f'{source}_hidden': np.zeros((places, features, 0), np.float32),
        f'{source}_bias': none,
        f'{source}_outward': none,
        **wider,
    }


def _groups(places: NDArray[np.int64]) -> Iterator[tuple[int, slice | NDArray[np.bool_]]]:
    """Yield each place with its rows; where there is one alone, as on the device, with all."""
    if len(places) and (places == places[0]).all():
        yield int(places[0]), slice(None)
        return
    for place in np.unique(places):
        yield int(place), places == place


def _places(
    lengths: NDArray[np.int64], received: Sequence[int] | None, count: int
) -> NDArray[np.int64]:
    """Return the longest length that is not above what had arrived, for each item."""
    if received is None:
        return np.full(count, len(lengths) - 1, np.int64)
    found = np.searchsorted(lengths, np.asarray(received), side='right') - 1
    return np.asarray(np.maximum(found, 0), np.int64)


def _nearest_places(
    lengths: NDArray[np.int64], received: Sequence[int] | None, count: int
) -> NDArray[np.int64]:
    """Return the length that is nearest by its logarithm, for each item; of two the longer."""
    if received is None:
        return np.full(count, len(lengths) - 1, np.int64)
    octaves = np.log(np.maximum(np.asarray(received, np.float64), 1.0))[:, None]
    apart = np.abs(octaves - np.log(np.maximum(lengths, 1)))[:, ::-1]
    return np.asarray(len(lengths) - 1 - apart.round(6).argmin(axis=1), np.int64)
