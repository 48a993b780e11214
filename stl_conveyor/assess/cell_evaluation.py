# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a cell would make of labelled images: purity, yield, rejects and cost of each lane.

The decision is that of the nodes (`stl_conveyor.decision`), with the costs and targets of the cell
description; what is offloaded is played by the policy of the node, by the worth that it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.assess.lane_pictures import purity_figure, reliability_figure
from stl_conveyor.assess.lanes import CellResult, Interval, cell_result, purity_curve
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.received import BATCH
from stl_conveyor.assess.reliability import reliability_of
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.decision.calibration_record import CellDecider
from stl_conveyor.decision.decide import Choices, Doubt
from stl_conveyor.decision.guarantee import SENTENCE
from stl_conveyor.decision.of_folder import decider_of, detector_of
from stl_conveyor.decision.stranger_detector import EDGE, LOCAL
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import make_policy
from stl_conveyor.policy.for_cell import load_worth
from stl_conveyor.policy.play import play
from stl_conveyor.policy.worth import ItemWorth
from stl_conveyor.resources import writing

RATES = (Fraction(1, 20), Fraction(1, 10), Fraction(1, 4))
DEPTH = Fraction(4)
DEVICE, ON_EDGE = 'device alone', 'edge, every item'


@dataclass(frozen=True, eq=False)
class Told:
    """What device and edge say of N items.

    Attributes:
        local: Probabilities [N, C] of the local model.
        posterior: [N, C] of a local model that tells it.
        local_unknown: Unknown scores [N]; None where the folder tells none.
        edge: Probabilities [N, C] of the edge with `received` bytes.
        edge_unknown: Likewise.
        received: Payload bytes of the budget.
    """

    local: NDArray[np.float32]
    posterior: NDArray[np.float32] | None
    local_unknown: NDArray[np.float64] | None
    edge: NDArray[np.float32]
    edge_unknown: NDArray[np.float64] | None
    received: int


def told_of(folder: ModelFolder, images: NDArray[np.uint8], budget: int) -> Told:
    """Ask both sources about images, uint8 [N, S, S, 3]."""
    detectors = {source: detector_of(folder, source) for source in (LOCAL, EDGE)}
    inside = {
        source: () if detector is None else detector.tensors
        for source, detector in detectors.items()
    }
    weak = Classifier(folder.path('weak'), inside=inside[LOCAL])
    encoder, decoder = Encoder(folder), Decoder(folder, inside=inside[EDGE])
    local, posteriors, local_unknown, edge, edge_unknown = [], [], [], [], []
    for at in range(0, len(images), BATCH):
        part = images[at : at + BATCH]
        probabilities, posterior, seen = weak.look_inside(part)
        local.append(probabilities)
        if posterior is not None:
            posteriors.append(posterior)
        if (detector := detectors[LOCAL]) is not None:
            local_unknown.append(detector.unknown(seen))
        sessions = []
        for image, known in zip(part, probabilities):
            session = decoder.start()
            for packet in encoder.encode(image, known, max_bytes=budget).packets:
                session.add(packet)
            sessions.append(session)
        answers, seen = decoder.look_inside(sessions)
        edge.append(answers)
        if (detector := detectors[EDGE]) is not None:
            edge_unknown.append(detector.unknown(seen, [s.bytes_received for s in sessions]))
    return Told(
        np.concatenate(local),
        np.concatenate(posteriors) if posteriors else None,
        np.concatenate(local_unknown) if local_unknown else None,
        np.concatenate(edge),
        np.concatenate(edge_unknown) if edge_unknown else None,
        budget,
    )


def choices_of(decider: CellDecider, told: Told) -> dict[str, Choices]:
    """Return where device and edge would send the items."""
    return {
        name: decider.decider(received).choose_all(decider.calibrated(answers, received), unknown)
        for name, answers, unknown, received in (
            (DEVICE, told.local, told.local_unknown, None),
            (ON_EDGE, told.edge, told.edge_unknown, told.received),
        )
    }


def offloaded(worth: ItemWorth, told: Told, rate: Fraction, seed: int = 0) -> NDArray[np.bool_]:
    """Return which items bool [N] the policy `mdp` offloads, a whole token each, at a rate."""
    policy = make_policy('mdp', rate=rate, depth=DEPTH, rewards=worth.distribution)
    expected = worth.of_all(told.local, told.posterior, told.local_unknown)
    count = len(expected)
    order = np.random.default_rng(seed).permutation(count)
    decisions = play(expected[order], np.ones(count, np.int64), rate, DEPTH, policy)
    found = np.zeros(count, bool)
    found[order] = decisions
    return found


def cell_decider(folder: ModelFolder, cell: CellDescription) -> CellDecider:
    """Return what decides in a cell, by cost or not.

    Raises:
        ConveyorError: When costs or targets do not fit the models, or cannot be promised.
    """
    return decider_of(folder, cell) or CellDecider(cell, folder.labels)


def evaluate_cell(
    folder: ModelFolder,
    decider: CellDecider,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    out: Path,
    budget: int = 512,
    strangers: NDArray[np.uint8] | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluate a cell on labelled images, and draw its pictures into `out`.

    Args:
        decider: Of the cell and the folder.
        images: uint8 [N, S, S, 3].
        classes: [N], of the folder's labels.
        budget: Payload bytes of an offload.
        strangers: uint8 [M, S, S, 3] of things that belong to no class.

    Returns:
        What evaluation.json holds under ``cell``.
    """
    told = told_of(folder, images, budget)
    ways = choices_of(decider, told)
    lanes = {name: choices.lanes for name, choices in ways.items()}
    worth = load_worth(folder, decider.cell, decider, '', told.received)
    for rate in RATES:
        sent = offloaded(worth, told, rate)
        lanes[f'offloading, r = {float(rate):g}'] = np.where(sent, lanes[ON_EDGE], lanes[DEVICE])
    names = [folder.labels[c] for c in classes]
    results: dict[str, CellResult] = {
        name: cell_result(decider.cell, names, [decider.lanes[k] for k in found])
        for name, found in lanes.items()
    }
    for name, result in results.items():
        show(f'{name}: purity {result.purity}, yield {result.gain}, reject {result.rejected}')
    trusted = {}
    table = decider.decider(None).table
    for name, answers, received in (
        (DEVICE, told.local, None),
        (ON_EDGE, told.edge, told.received),
    ):
        belongs = table.lane_probabilities(decider.calibrated(answers, received))
        best = belongs.argmax(axis=1)
        trusted[name] = (belongs.max(axis=1), table.members[classes, best])
    pyplot = file_pyplot()
    for file, figure in (
        ('cell_purity.png', purity_figure(pyplot, trusted)),
        ('cell_reliability.png', reliability_figure(pyplot, trusted)),
    ):
        with writing(out / file):
            figure.savefig(out / file, dpi=110, bbox_inches='tight')
        pyplot.close(figure)
    return {
        'promises': _promises(decider, told.received),
        'ways': {name: result.as_json() for name, result in results.items()},
        'rows': {name: result.rows() for name, result in results.items()},
        'reasons': {
            name: {
                doubt.name.lower(): int((choices.doubts == doubt).sum())
                for doubt in Doubt
                if doubt is not Doubt.NONE
            }
            for name, choices in ways.items()
        },
        'purity_curve': {
            name: purity_curve(probabilities, right)
            for name, (probabilities, right) in trusted.items()
        },
        'reliability': {name: reliability_of(*pair, 10) for name, pair in trusted.items()},
        'strangers': _strangers_caught(folder, decider, strangers, budget),
    }


def _promises(decider: CellDecider, received: int) -> list[str]:
    if decider.record is None:
        return []
    place = decider.record.place(received)
    return [
        SENTENCE.format(
            confidence=decider.cell.purity_confidence, share=1.0 - lane.purity, lane=lane.name
        )
        for lane in decider.cell.lanes
        if lane.purity is not None and place not in decider.refused
    ]


def _strangers_caught(
    folder: ModelFolder, decider: CellDecider, images: NDArray[np.uint8] | None, budget: int
) -> dict[str, Any] | None:
    if images is None or not len(images):
        return None
    reject = len(decider.lanes) - 1
    found = choices_of(decider, told_of(folder, images, budget))
    return {
        'images': len(images),
        **{
            name: asdict(Interval.of_share(int((c.lanes == reject).sum()), len(images)))
            for name, c in found.items()
        },
    }


def cell_page(result: dict[str, Any]) -> Sequence[str]:
    """Return the lines of evaluation.md about the cell."""
    ways = list(result['rows'])
    lines = ['', '## Lane by lane', '', *(f'{sentence}' for sentence in result['promises'])]
    lines += ['', f'| | {" | ".join(ways)} |', f'|---|{"---|" * len(ways)}']
    for k, (row, _) in enumerate(result['rows'][ways[0]]):
        if row.startswith('foreign'):
            continue
        values = ' | '.join(result['rows'][way][k][1] for way in ways)
        lines.append(f'| {row} | {values} |')
    for name, reasons in result['reasons'].items():
        told = ', '.join(f'{reason} {count}' for reason, count in reasons.items() if count)
        lines += ['', f'Rejected by {name}: {told or "none"}.']
    strangers = result['strangers']
    if strangers is None:
        lines += ['', 'Strangers caught: no pictures of strangers were given (`--strangers`).']
    else:
        caught = '; '.join(f'{n} {Interval(**strangers[n])}' for n in (DEVICE, ON_EDGE))
        lines += ['', f'Strangers caught, of {strangers["images"]}: {caught}.']
    return [
        *lines,
        '',
        '![Purity over reject share](cell_purity.png)',
        '',
        '![Reliability of the lanes](cell_reliability.png)',
    ]
