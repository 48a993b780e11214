# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where an item's time goes: models, link, and the overhead of everything in between.

The overhead is what is left of the time from the capture stamp to the final answer at the
actuator when the camera's readout, the models' own time and the time that messages spend on the
link are taken away: middleware, Python, scheduling, the pacing of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stl_conveyor.assess.scoring import CompleteRecord, ItemRecord, Quantiles, complete_records

FEATURES = 'features'
FEEDBACK = 'feedback'
EDGE_CLASSIFICATION = 'edge_classification'
VERDICT_NS = 5_000_000  # feedback sent this close to an answer belongs to it


@dataclass(frozen=True)
class Passage:
    """One message about an item on its way over the link; ns of the run's clock."""

    stamp_ns: int  # of the item's capture
    channel: str  # FEATURES, FEEDBACK or EDGE_CLASSIFICATION
    wire_bytes: int
    sent_ns: int
    delivered_ns: int | None  # None: dropped or lost


@dataclass(frozen=True)
class _Delivered:
    """A passage that came to its end."""

    passage: Passage
    delivered_ns: int

    @property
    def sent_ns(self) -> int:
        return self.passage.sent_ns


@dataclass(frozen=True)
class ItemTiming:
    """An item's time from its capture stamp to the final answer at the actuator, in ms."""

    total: float
    camera: float  # from mid-exposure until the frame is handed over
    local_model: float
    encoder: float
    link: float
    edge_model: float

    @property
    def overhead(self) -> float:
        """Milliseconds that neither camera, models nor link account for."""
        return (
            self.total
            - self.camera
            - self.local_model
            - self.encoder
            - self.link
            - self.edge_model
        )


def covered(intervals: Iterable[tuple[int, int]], first: int, last: int) -> int:
    """Return how much of [first, last] the intervals cover together."""
    total, reached = 0, first
    for start, end in sorted(intervals):
        start, end = max(start, reached), min(end, last)
        if end > start:
            total += end - start
            reached = end
    return total


def item_timing(
    complete: CompleteRecord, readout_ns: int, passages: Sequence[Passage]
) -> ItemTiming | None:
    """Split up the time of one item; None if the way of the answer that was used is not known.

    With an answer of the edge, the path is: readout, local model, encoder, then link and edge
    model in turn, once for each answer that the encoder waited for, and the way of the answer
    that was used. Only messages that are waited for count as link time: packets of the stream,
    the feedback that goes with an answer, and the used answer, not acknowledgements. What
    overlaps counts once, as model time.

    Args:
        readout_ns: From the capture stamp until the camera driver handed the frame over.
        passages: The item's messages on the link.
    """
    record, action = complete.item, complete.action
    camera, local = readout_ns / 1e6, 1e3 * complete.local.compute_time
    if complete.edge is None:
        return ItemTiming(1e3 * action.local_delay, camera, local, 0.0, 0.0, 0.0)
    arrived = record.stamp_ns + round(action.edge_delay * 1e9)
    delivered = [_Delivered(p, p.delivered_ns) for p in passages if p.delivered_ns is not None]
    answers = [
        d
        for d in delivered
        if d.passage.channel == EDGE_CLASSIFICATION and d.delivered_ns <= arrived
    ]
    if not answers:  # no emulator in between: the link cannot be told from the rest
        return None
    answers.sort(key=lambda d: d.delivered_ns)
    times = record.edge_compute_times
    if len(times) < len(answers):  # the monitor missed some
        answers, times = answers[-1:], (complete.edge.compute_time,)
    used = answers[-1]
    computing = [
        (d.sent_ns - round(1e9 * seconds), d.sent_ns) for d, seconds in zip(answers, times)
    ]
    last_begun = computing[-1][0]
    waited_for = [
        (d.sent_ns, d.delivered_ns)
        for d in delivered
        if d.passage.channel == FEATURES
        or d.passage.channel == FEEDBACK
        and any(abs(d.sent_ns - answer.sent_ns) < VERDICT_NS for answer in answers)
    ]
    model = covered(computing[:-1], record.stamp_ns, last_begun)
    on_link = covered(waited_for + computing[:-1], record.stamp_ns, last_begun) - model
    on_link += used.delivered_ns - used.sent_ns
    model += used.sent_ns - last_begun
    encoder = 0.0 if record.transfer is None else 1e3 * record.transfer.compute_time
    return ItemTiming(1e3 * action.edge_delay, camera, local, encoder, on_link / 1e6, model / 1e6)


def item_timings(
    records: Sequence[ItemRecord], readout_ns: Mapping[int, int], passages: Sequence[Passage]
) -> list[tuple[CompleteRecord, ItemTiming | None]]:
    """Return the items of which everything was heard, and the time of each.

    Args:
        readout_ns: Camera readout by capture stamp; an item without counts as 0.
        passages: Of all items.
    """
    by_item: dict[int, list[Passage]] = {}
    for passage in passages:
        by_item.setdefault(passage.stamp_ns, []).append(passage)
    return [
        (c, item_timing(c, readout_ns.get(c.item.stamp_ns, 0), by_item.get(c.item.stamp_ns, ())))
        for c in complete_records(records)
    ]


def stage_latencies(
    records: Sequence[ItemRecord], readout_ns: Mapping[int, int], passages: Sequence[Passage]
) -> dict[str, Quantiles]:
    """Return the quantiles of every stage in ms, by name; see `item_timings`."""
    pairs = item_timings(records, readout_ns, passages)
    timed = [timing for _, timing in pairs if timing is not None]
    device = [t for c, t in pairs if t is not None and c.action.edge_delay < 0]
    edge = [t for c, t in pairs if t is not None and c.action.edge_delay >= 0]
    return {
        'camera': Quantiles.of([t.camera for t in timed]),
        'capture_to_local': Quantiles.of([1e3 * c.action.local_delay for c, _ in pairs]),
        'local_model': Quantiles.of(
            [1e3 * r.local.compute_time for r in records if r.local is not None]
        ),
        'decision': Quantiles.of(
            [
                (r.decision.received_ns - r.local.received_ns) / 1e6
                for r in records
                if r.local is not None and r.decision is not None
            ]
        ),
        'encode': Quantiles.of(
            [1e3 * r.transfer.compute_time for r in records if r.transfer is not None]
        ),
        'link': Quantiles.of([t.link for t in edge]),
        'edge_model': Quantiles.of([t.edge_model for t in edge]),
        'capture_to_edge': Quantiles.of([t.total for t in edge]),
        'overhead': Quantiles.of([t.overhead for t in timed]),
        'overhead_local': Quantiles.of([t.overhead for t in device]),
        'overhead_edge': Quantiles.of([t.overhead for t in edge]),
    }
