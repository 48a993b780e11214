# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make strangers.npz and decision.npz of a model folder from calibration items.

    python -m stl_conveyor_lab.train.decision --models DIR --images FOLDER

FOLDER holds shards as `stl_conveyor_lab.data.render` writes them, one for each belt, that no model
was trained on; or, with `--split`, it is a prepared folder of images (WORK/images of a training).
What each belt's items look like is compared with the items of the other belts alone, as items to
come will be. Nothing is trained; what the networks say of each shard is kept in WORK, so that the
command can be stopped and run again.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.decision import calibration_record, stranger_detector
from stl_conveyor.decision.calibration_record import CalibrationRecord
from stl_conveyor.decision.strangeness import unknown_scores
from stl_conveyor.decision.stranger_detector import (
    BOUNDARY,
    CLASS,
    EDGE,
    LOCAL,
    REFERENCE,
    TERMS,
    StrangerDetector,
    beyond,
    nearest,
    nearest_class,
    neighbour_features,
)
from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages, load_images
from stl_conveyor_lab.data.arrays import save_arrays
from stl_conveyor_lab.train.boundary import Boundary, belts_apart, fit_boundary
from stl_conveyor_lab.train.manifest import update_manifest
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

LENGTHS = (64, 128, 256, 512, 1024)
REFERENCE_LENGTHS = (64, 128, 512)
REFERENCES = {LOCAL: 800, EDGE: 600}
#: How much each term of a detector counts, by source.
WEIGHTS = {
    LOCAL: {REFERENCE: 0.5, CLASS: 1.0, BOUNDARY: 1.0},
    EDGE: {REFERENCE: 1.0, CLASS: 1.0, BOUNDARY: 1.0},
}
AXES = 128
LEAST_SHARE = 1e-3  # of the mean of a value, that its spread is taken for at least
LEAST_SPREAD = 1e-6  # within the classes, where each has but one item
SHRINKAGE = 0.03  # of the covariance within the classes, towards its mean
FOLDS = 8  # where the images tell no belts
LEAST_ITEMS = 64  # that are looked at however short the time is
BATCH = 16
_EDGE_BLOCKS = (1, 3, 5, 8, 11, 14)  # whose outputs are read: of every size that there is


@dataclass(frozen=True)
class Looked:
    """What the networks say of N items.

    Attributes:
        classes: int64 [N]; -1 = a stranger.
        belts: int64 [N], which items belong together.
        names: str [N], what they are.
        local: [N, C] probabilities.
        edge: [P, N, C] at LENGTHS.
        local_inside: What the weak model computes, each [N, ...].
        edge_inside: Likewise of the edge, for each of LENGTHS.
        posterior: [N, C] of a weak model that tells it.
    """

    classes: NDArray[np.int64]
    belts: NDArray[np.int64]
    names: NDArray[Any]
    local: NDArray[np.float32]
    edge: NDArray[np.float32]
    local_inside: list[NDArray[np.float32]]
    edge_inside: list[list[NDArray[np.float32]]]
    posterior: NDArray[np.float32] | None = None


def local_tensors(folder: ModelFolder) -> tuple[str, ...]:
    """Return what is read of the weak model.

    Raises:
        ModelFileError: For a graph that has no layer to read.
    """
    graph = onnx.load(str(folder.path('weak'))).graph
    for node in graph.node:
        if 'posterior/features' in node.output:
            return ('posterior/features',)
    for node in reversed(graph.node):
        if node.op_type in ('Gemm', 'MatMul') and node.output[0] != 'probabilities':
            return (node.input[0],)
    raise ModelFileError(f'{folder.path("weak")}: has no last layer to read')


def edge_tensors(folder: ModelFolder) -> tuple[str, ...]:
    """Return what is read of the edge model: the last layer, then blocks of its trunk.

    Raises:
        ModelFileError: For a graph that is built otherwise.
    """
    graph = onnx.load(str(folder.path('edge'))).graph
    last = [n.input[0] for n in graph.node if 'trunk.classifier.weight' in n.input]
    blocks = [n.output[0] for n in graph.node if n.op_type == 'Conv' and 'project' in n.name]
    if len(last) != 1 or len(blocks) <= max(_EDGE_BLOCKS):
        raise ModelFileError(f'{folder.path("edge")}: is not the trunk whose layers are known')
    return (last[0], *(blocks[k] for k in _EDGE_BLOCKS))


class Onlooker:
    """Weak model, codec and edge of a folder, opened once, and what they compute inside."""

    def __init__(self, folder: ModelFolder) -> None:
        """Open them."""
        self._weak = Classifier(folder.path('weak'), inside=local_tensors(folder))
        self._encoder = Encoder(folder)
        self._decoder = Decoder(folder, inside=edge_tensors(folder))

    def look(
        self,
        images: NDArray[np.uint8],
        classes: NDArray[np.int64],
        belt: int,
        names: NDArray[Any],
        lengths: Sequence[int] = LENGTHS,
    ) -> Looked:
        """Show images [N, S, S, 3] of one belt to weak model and edge, at each length."""
        local, posterior, local_inside = self._weak.look_inside(images)
        edge, edge_inside = [], []
        for length in lengths:
            sessions = []
            for image, known in zip(images, local):
                session = self._decoder.start()
                for packet in self._encoder.encode(image, known, max_bytes=length).packets:
                    session.add(packet)
                sessions.append(session)
            answers = [
                self._decoder.look_inside(sessions[k : k + BATCH])
                for k in range(0, len(images), BATCH)
            ]
            edge.append(np.concatenate([probabilities for probabilities, _ in answers]))
            edge_inside.append(
                [
                    np.concatenate(
                        [stranger_detector.pooled(inside[k]) for _, inside in answers]
                    ).astype(np.float32)
                    for k in range(len(answers[0][1]))
                ]
            )
        return Looked(
            classes,
            np.full(len(images), belt, np.int64),
            names,
            local,
            np.stack(edge),
            [stranger_detector.pooled(tensor) for tensor in local_inside],
            edge_inside,
            posterior,
        )


def joined(parts: Sequence[Looked]) -> Looked:
    """Return several belts as one."""
    first = parts[0]
    return Looked(
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.belts for p in parts]),
        np.concatenate([p.names for p in parts]),
        np.concatenate([p.local for p in parts]),
        np.concatenate([p.edge for p in parts], axis=1),
        [
            np.concatenate([p.local_inside[k] for p in parts])
            for k in range(len(first.local_inside))
        ],
        [
            [
                np.concatenate([p.edge_inside[place][k] for p in parts])
                for k in range(len(first.edge_inside[place]))
            ]
            for place in range(len(first.edge_inside))
        ],
        None
        if first.posterior is None
        else np.concatenate([p.posterior for p in parts if p.posterior is not None]),
    )


def looked_at(folder: ModelFolder, shards: Sequence[Path], work: Path) -> Looked:
    """Look at shards of rendered belts; what was looked at before with these models is read."""
    parts = []
    key = f'{folder.model_id("weak"):08x}_{folder.model_id("edge"):08x}'
    for belt, shard in enumerate(shards):
        kept = work / f'{shard.stem}_2_{hashlib.sha256(key.encode()).hexdigest()[:10]}.npz'
        if not kept.exists():
            with np.load(shard) as data:
                images = data['pixels']
                names = data['names'] if 'names' in data else None
                classes = (
                    np.full(len(images), -1) if names is not None else data['labels']
                ).astype(np.int64)
            if names is None:
                names = np.array([folder.labels[k] for k in classes])
            part = Onlooker(folder).look(images, classes, belt, names)
            arrays: dict[str, Any] = {
                'classes': part.classes,
                'names': part.names,
                'local': part.local,
                'edge': part.edge,
                **{f'local_{k}': tensor for k, tensor in enumerate(part.local_inside)},
                **{
                    f'edge_{place}_{k}': tensor
                    for place, tensors in enumerate(part.edge_inside)
                    for k, tensor in enumerate(tensors)
                },
            }
            if part.posterior is not None:
                arrays['posterior'] = part.posterior
            save_arrays(kept, **arrays)
            print(f'{shard.name}: {len(images)} items', flush=True)
        with np.load(kept) as data:
            parts.append(
                Looked(
                    data['classes'],
                    np.full(len(data['classes']), belt, np.int64),
                    data['names'],
                    data['local'],
                    data['edge'],
                    [data[f'local_{k}'] for k in range(_count(data.files, 'local_'))],
                    [
                        [
                            data[f'edge_{place}_{k}']
                            for k in range(_count(data.files, f'edge_{place}_'))
                        ]
                        for place in range(len(data['edge']))
                    ],
                    data['posterior'] if 'posterior' in data else None,
                )
            )
    return joined(parts)


def looked_images(
    folder: ModelFolder, found: LabelledImages, seed: int, allowance: Allowance = UNLIMITED
) -> Looked:
    """Look at images that tell no belts, for which FOLDS parts of them stand.

    Args:
        allowance: Time for it; it ends with the images that were looked at by then, drawn at
            random.
    """
    mixed = found.sample(len(found.classes), seed)
    names = np.array([folder.labels[k] for k in mixed.classes])
    told = _looked_in_turn(folder, mixed.images, mixed.classes, names, allowance)
    folds = np.random.default_rng(seed).permutation(len(told.classes)) % FOLDS
    return replace(told, belts=folds)


def looked_unlabelled(
    folder: ModelFolder, images: NDArray[np.uint8], seed: int, allowance: Allowance = UNLIMITED
) -> Looked:
    """Look at images [N, S, S, 3] of what belongs to no class; see `looked_images`."""
    mixed = images[np.random.default_rng(seed).permutation(len(images))]
    none = np.full(len(mixed), -1, np.int64)
    return _looked_in_turn(folder, mixed, none, np.full(len(mixed), 'stranger'), allowance)


def _looked_in_turn(
    folder: ModelFolder,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    names: NDArray[Any],
    allowance: Allowance,
) -> Looked:
    onlooker = Onlooker(folder)
    return joined(
        [
            onlooker.look(images[part], classes[part], 0, names[part])
            for part in allowance.blocks(len(names), BATCH, LEAST_ITEMS)
        ]
    )


def looked_split(folder: ModelFolder, data: Path, split: str, seed: int) -> Looked:
    """Look at a split of a prepared folder of images; see `looked_images`.

    Raises:
        ConfigError: If there is none.
    """
    found = load_images(data, split, folder.labels, folder.image_size)
    if found is None:
        raise ConfigError(
            f'{data}: has no split {split!r}; give images/ of the work folder of a training'
        )
    return looked_images(folder, found, seed)


def _count(names: Sequence[str], prefix: str) -> int:
    return sum(name.startswith(prefix) for name in names)


def whitened(
    last: NDArray[np.float32], classes: NDArray[np.int64], labels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return stretch [D], class means [C, D] and axes [D, K] of a last layer [N, D].

    The covariance within the classes of the standardised layer is shrunk towards its mean; its K
    largest directions are kept, the others count as equally wide.
    """
    # What hardly differs must not count beyond what a file can hold.
    scale = np.maximum(last.std(axis=0), LEAST_SHARE * np.abs(last).mean(axis=0)) + 1e-6
    standard = last / scale
    means = np.stack(
        [
            standard[classes == c].mean(axis=0) if (classes == c).any() else standard.mean(axis=0)
            for c in range(labels)
        ]
    )
    within = standard - means[classes]
    covariance = within.T @ within / len(within)
    floor = max(SHRINKAGE * float(np.trace(covariance)) / len(covariance), LEAST_SPREAD)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:AXES], vectors[:, ::-1][:, :AXES]
    stretch = 1.0 / (scale * np.sqrt(floor))
    weights = np.sqrt(np.maximum(values, 0.0) / (np.maximum(values, 0.0) + floor))
    return (
        stretch.astype(np.float32),
        (means / np.sqrt(floor)).astype(np.float32),
        (vectors * weights).astype(np.float32),
    )


def fit_detector(
    source: str,
    tensors: tuple[str, ...],
    inside: Sequence[list[NDArray[np.float32]]],
    lengths: Sequence[int],
    looked: Looked,
    labels: int,
    seed: int = 0,
    decoys: Sequence[list[NDArray[np.float32]]] | None = None,
) -> tuple[StrangerDetector, NDArray[np.float64]]:
    """Fit the detector of a source.

    Args:
        inside: What the graph computes at each of `lengths`.
        decoys: Likewise, of things that do not belong; None: no boundary is learned.

    Returns:
        The detector, and the unknown scores [P, N] of the items, each compared with the items of
        other belts alone.
    """
    rng = np.random.default_rng((seed, 53))
    last, unit = source == EDGE, source == EDGE
    places = [
        lengths.index(length)
        for length in (REFERENCE_LENGTHS if source == EDGE else lengths)
        if length in lengths
    ]
    count = len(looked.classes)
    chosen = rng.permutation(count)[: REFERENCES[source]]
    plain = np.concatenate(inside[places[-1]][1 if last else 0 :], axis=1)
    offset = np.zeros(plain.shape[1], np.float32) if unit else plain.mean(axis=0)
    scale = np.ones(plain.shape[1], np.float32) if unit else plain.std(axis=0) + 1e-6
    features = [neighbour_features(here, last, offset, scale, unit) for here in inside]
    nearest_place = [
        max(places, key=lambda p: (-abs(round(np.log(lengths[p] / max(length, 1)), 6)), p))
        if length
        else places[-1]
        for length in lengths
    ]
    outside = (
        [neighbour_features(here, last, offset, scale, unit) for here in decoys]
        if decoys is not None
        else None
    )
    sides = _boundary_terms(features, outside, nearest_place, looked.belts, seed)
    terms: list[dict[str, NDArray[np.float64]]] = []
    for place, at in enumerate(nearest_place):
        found = {REFERENCE: _neighbour_term(features[place], features[at], looked.belts, chosen)}
        if last:
            found[CLASS] = _class_term(inside[place][0], inside[at][0], looked, labels)
        if sides is not None:
            found[BOUNDARY] = sides[place]
        terms.append(found)
    references, shapes, boundaries, centres, spreads = [], [], [], [], []
    for at in places:
        references.append(features[at][chosen])
        shapes.append(
            whitened(inside[at][0], looked.classes, labels)
            if last
            else (np.zeros(0), np.zeros((labels, 0)), np.zeros((0, 0)))
        )
        boundaries.append(
            Boundary.none(plain.shape[1])
            if outside is None
            else fit_boundary(features[at], outside[at], seed)
        )
        all_terms = [terms[at].get(name, np.zeros(count)) for name in TERMS]
        centres.append([float(term.mean()) for term in all_terms])
        spreads.append(
            [
                max(float(term.std()), 1e-3) / WEIGHTS[source][name]
                for name, term in zip(TERMS, all_terms)
            ]
        )
    sums = np.zeros((len(lengths), count))
    for place, at in enumerate(nearest_place):
        k = places.index(at)
        for name, term in terms[place].items():
            which = TERMS.index(name)
            sums[place] += (term - centres[k][which]) / spreads[k][which]
    own = np.sort(sums, axis=1)
    detector = StrangerDetector(
        tensors=tensors,
        last=last,
        unit=unit,
        offset=np.asarray(offset, np.float32),
        scale=np.asarray(scale, np.float32),
        lengths=np.array([lengths[at] for at in places], np.int64),
        references=np.stack(references).astype(np.float16).astype(np.float32),
        stretch=np.stack([shape[0] for shape in shapes]).astype(np.float32),
        means=np.stack([shape[1] for shape in shapes]).astype(np.float32),
        axes=np.stack([shape[2] for shape in shapes]).astype(np.float32),
        hidden=np.stack([boundary.hidden for boundary in boundaries]),
        bias=np.stack([boundary.bias for boundary in boundaries]),
        outward=np.stack([boundary.outward for boundary in boundaries]),
        centre=np.array(centres, np.float32),
        spread=np.array(spreads, np.float32),
        own_lengths=np.array(lengths, np.int64),
        own=own.astype(np.float32),
    )
    scores = np.stack([unknown_scores(sums[p], own[p]) for p in range(len(lengths))])
    return detector, scores


def _neighbour_term(
    here: NDArray[np.float32],
    there: NDArray[np.float32],
    belts: NDArray[np.int64],
    chosen: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return how far each item is from those of other belts, as a logarithm [N].

    Args:
        here: Features [N, D] of the items.
        there: Those of the same items at the length of the references.
        belts: Of each item.
        chosen: Which are references.
    """
    term = np.zeros(len(belts))
    for belt in np.unique(belts):
        rows, others = belts == belt, belts != belt
        term[rows] = np.log(nearest(here[rows], there[chosen[others[chosen]]]))
    return term


def _boundary_terms(
    features: Sequence[NDArray[np.float32]],
    outside: Sequence[NDArray[np.float32]] | None,
    nearest_place: Sequence[int],
    belts: NDArray[np.int64],
    seed: int,
) -> list[NDArray[np.float64]] | None:
    """Return at each length how far [N] items lie beyond a boundary that knows other belts alone.

    Args:
        features: Of the items at each length [N, D].
        outside: Of decoys at each length; None: there are none.
        nearest_place: The length at which the boundary for each length is learned.
    """
    if outside is None:
        return None
    found = [np.zeros(len(belts)) for _ in features]
    for at in sorted(set(nearest_place)):
        for number, rows in enumerate(belts_apart(belts, seed)):
            boundary = fit_boundary(features[at][~rows], outside[at], seed + 1 + number)
            for place, used in enumerate(nearest_place):
                if used == at:
                    found[place][rows] = beyond(
                        features[place][rows], boundary.hidden, boundary.bias, boundary.outward
                    )
    return found


def _class_term(
    here: NDArray[np.float32], there: NDArray[np.float32], looked: Looked, labels: int
) -> NDArray[np.float64]:
    """Return how far each item is from the classes of other belts, as a logarithm [N].

    Args:
        here: Last layer [N, D] of the items.
        there: That of the same items at the length of the references.
    """
    term = np.zeros(len(looked.classes))
    for belt in np.unique(looked.belts):
        rows, others = looked.belts == belt, looked.belts != belt
        shape = whitened(there[others], looked.classes[others], labels)
        term[rows] = np.log(nearest_class(here[rows], *shape))
    return term


def fit_decision(
    folder: ModelFolder, looked: Looked, seed: int = 0, decoys: Looked | None = None
) -> dict[str, Any]:
    """Return the detectors and the record of calibration items.

    Args:
        looked: The calibration items.
        decoys: Things that do not belong, from which a boundary is learned; None: none is.

    Returns:
        ``local`` and ``edge``, StrangerDetector, and ``record``, CalibrationRecord.
    """
    labels = len(folder.labels)
    local, local_unknown = fit_detector(
        LOCAL,
        local_tensors(folder),
        [looked.local_inside],
        (0,),
        looked,
        labels,
        seed,
        None if decoys is None else [decoys.local_inside],
    )
    edge, edge_unknown = fit_detector(
        EDGE,
        edge_tensors(folder),
        looked.edge_inside,
        LENGTHS,
        looked,
        labels,
        seed,
        None if decoys is None else decoys.edge_inside,
    )
    # Whole belts are fitted or promised on: items of one belt look alike.
    belts = np.unique(looked.belts)
    order = np.random.default_rng((seed, 59)).permutation(belts)
    fitted = np.isin(looked.belts, order[: max(1, len(order) // 3)])
    record = CalibrationRecord(
        looked.classes,
        fitted,
        np.array(LENGTHS, np.int64),
        looked.local.astype(np.float64),
        looked.edge.astype(np.float64),
        local_unknown[0],
        edge_unknown,
        None if looked.posterior is None else looked.posterior.astype(np.float64),
    )
    return {'local': local, 'edge': edge, 'record': record}


def write_decision(models: Path, fitted: dict[str, Any]) -> None:
    """Write both files and enter them in the manifest."""
    np.savez_compressed(
        models / 'strangers.npz',
        format=np.int64(stranger_detector.FORMAT),
        **fitted['local'].arrays(LOCAL),
        **fitted['edge'].arrays(EDGE),
    )
    fitted['record'].save(models / 'decision.npz')
    update_manifest(models, stranger_detector.ROLE, 'strangers.npz')
    update_manifest(models, calibration_record.ROLE, 'decision.npz')


def _shards(folder: Path, least: int) -> list[Path]:
    found = sorted(path for path in folder.glob('*.npz') if '.part' not in path.name)
    if len(found) < least:
        raise ConfigError(f'{folder}: has {len(found)} belts; render {least} at least')
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make both files."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--models', type=Path, required=True, help='the model folder')
    parser.add_argument('--images', type=Path, required=True)
    parser.add_argument('--split', help='of a prepared folder of images')
    parser.add_argument(
        '--decoys',
        type=Path,
        help='shards of things that do not belong (stl_conveyor_lab.data.decoys)',
    )
    parser.add_argument('--work', type=Path, help='kept answers (MODELS/../decision)')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    folder = ModelFolder(options.models)
    work = options.work or options.models.parent / 'decision'
    if options.split:
        looked = looked_split(folder, options.images, options.split, options.seed)
    else:
        looked = looked_at(folder, _shards(options.images, 3), work)
    decoys = looked_at(folder, _shards(options.decoys, 1), work) if options.decoys else None
    fitted = fit_decision(folder, looked, options.seed, decoys)
    write_decision(options.models, fitted)
    print(f'{len(looked.classes)} calibration items: strangers.npz, decision.npz')


if __name__ == '__main__':
    main()
