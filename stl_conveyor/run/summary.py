# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The result of a run in one object, as summary.json and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stl_conveyor.assess.lanes import CellResult
from stl_conveyor.assess.scoring import Quantiles, Score, finite
from stl_conveyor.resources import writing
from stl_conveyor.run.settings import RunSettings

# Behind by more than this, the simulated camera does not deliver as a real one would.
LATE_PICTURE_MS = 300
TOLERABLE_SHARE = 0.25  # of late pictures, in a run that still says something


@dataclass(frozen=True)
class Summary:
    """Everything that summary.json holds."""

    settings: RunSettings
    score: Score
    strong_correct: int | None  # by lane; None: the strong model could not be asked
    strong_class_correct: int | None
    link_bytes: Mapping[str, int]  # on the wire, headers included, by channel, of what arrived
    tokens_spent: float | None  # None: no bucket was heard of
    slack_ms: Quantiles
    latency_ms: Mapping[str, Quantiles]
    cpu_seconds_per_item: Mapping[str, float]
    seconds_to_first_item: float
    seconds: float
    simulation_lag_ms: float  # from exposure to picture, the worst; NaN: not measured
    troubles: tuple[str, ...]  # what nodes complained of
    deaths: tuple[str, ...]  # processes that ended when nobody asked them to
    complete: bool  # every item came to rest
    versions: Mapping[str, str]
    held_seconds: float = 0.0  # for which the simulation was held, to let the clock go ahead
    late_pictures: int = 0  # that came more than LATE_PICTURE_MS after their exposure
    lanes: CellResult | None = None  # purity, yield, rejects and cost of where items rest

    @property
    def too_slow(self) -> str:
        """Say that this machine could not simulate the cell in real time; empty if it could."""
        remedy = (
            'so the result says nothing about the cell; end other programs, or take a longer '
            '--time-unit'
        )
        if self.late_pictures > self.score.items * TOLERABLE_SHARE:
            return (
                f'this machine is too slow to simulate the cell now: {self.late_pictures} of '
                f'{self.score.items} pictures came more than {LATE_PICTURE_MS} ms late, the '
                f'latest {self.simulation_lag_ms / 1e3:.1f} s, {remedy}'
            )
        if self.held_seconds > self.seconds * TOLERABLE_SHARE:
            return (
                f'this machine is too slow to simulate the cell now: it was held for '
                f'{self.held_seconds:.1f} of {self.seconds:.1f} s, {remedy}'
            )
        return ''

    @property
    def incomplete(self) -> str:
        """Say how far a run came that ended early; empty if every item came to rest."""
        if self.complete:
            return ''
        return (
            f'incomplete: the run ended when {self.score.items} of {self.settings.items} items '
            'had passed the camera'
        )

    def as_json(self) -> Mapping[str, Any]:
        """Return the content of summary.json; what was not measured is null."""
        settings = asdict(self.settings)
        content = {
            **asdict(self.score),
            'strong_correct': self.strong_correct,
            'strong_class_correct': self.strong_class_correct,
            'link_bytes': dict(self.link_bytes),
            'tokens_spent': self.tokens_spent,
            'slack_ms': asdict(self.slack_ms),
            'latency_ms': {k: asdict(v) for k, v in self.latency_ms.items()},
            'cpu_seconds_per_item': dict(self.cpu_seconds_per_item),
            'seconds_to_first_item': self.seconds_to_first_item,
            'seconds': self.seconds,
            'simulation_lag_ms': self.simulation_lag_ms,
            'troubles': list(self.troubles),
            'deaths': list(self.deaths),
            'held_seconds': self.held_seconds,
            'late_pictures': self.late_pictures,
            'complete': self.complete,
            'lanes': None if self.lanes is None else self.lanes.as_json(),
            'planned': self.settings.items,
            'seed': settings.pop('seed'),
            'versions': dict(self.versions),
        }
        settings.pop('items')
        return {**content, 'settings': settings}

    def write(self, path: Path) -> None:
        """Write summary.json."""
        with writing(path):
            path.write_text(json.dumps(finite(self.as_json()), indent=1) + '\n', encoding='utf-8')

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values for people."""
        score, n = self.score, max(self.score.items, 1)

        def milliseconds(*values: float) -> str:
            if not all(map(math.isfinite, values)):
                return 'not measured'
            return ' / '.join(f'{value:.1f}' for value in values) + ' ms'

        def part(count: int | None) -> str:
            return 'not measured' if count is None else f'{count} of {n} ({count / n:.1%})'

        overhead = self.latency_ms.get('overhead', Quantiles.of([]))
        return [
            ('items at rest where they belong', part(score.correct)),
            ('sent to the right lane', part(score.outcome_correct)),
            ('local answer alone, right lane', part(score.local_correct)),
            ('strong model on every crop, right lane', part(self.strong_correct)),
            ('in no bin', str(score.lost)),
            *([] if self.lanes is None else self.lanes.rows()),
            ('reject: doubtful', str(score.rejected_doubtful)),
            ('reject: unknown', str(score.rejected_unknown)),
            ('reject: no answer', str(score.rejected_no_answer)),
            ('outcomes', str(score.outcomes)),
            ('not acted on', str(score.unacted)),
            ('missed deadlines', str(score.missed_deadlines)),
            ('offloaded', part(score.offloaded)),
            ('answers of the edge', str(score.edge_answers)),
            (
                'bytes sent (payload)',
                f'{score.bytes_sent}'
                + (
                    f', {score.bytes_sent / score.offloaded:.0f} per offloaded item'
                    if score.offloaded
                    else ''
                ),
            ),
            (
                'bytes that crossed the link',
                ', '.join(
                    f'{name.replace("_", " ")} {size}' for name, size in self.link_bytes.items()
                )
                or 'not measured',
            ),
            (
                'tokens spent',
                'not measured' if self.tokens_spent is None else f'{self.tokens_spent:.2f}',
            ),
            (
                'slack p01 / p50 / p99',
                milliseconds(self.slack_ms.p01, self.slack_ms.p50, self.slack_ms.p99),
            ),
            ('middleware and Python p50 / p99', milliseconds(overhead.p50, overhead.p99)),
            (
                'CPU per item',
                f'{1e3 * self.cpu_seconds_per_item["total"]:.0f} ms'
                if self.cpu_seconds_per_item.get('total')
                else 'not measured',
            ),
            (
                'latest picture after its exposure',
                f'{self.simulation_lag_ms:.0f} ms'
                if math.isfinite(self.simulation_lag_ms)
                else 'not measured',
            ),
            ('start to first item', f'{self.seconds_to_first_item:.1f} s'),
        ]
