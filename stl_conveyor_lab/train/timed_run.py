# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training of so many minutes or steps that shows progress and goes on from its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

#: Seconds between lines of progress, and between checkpoints.
SHOW, SAVE = 20, 60


class TimedRun:
    """Optimiser, clock, curve and checkpoint of one training."""

    def __init__(
        self,
        path: Path,
        modules: Mapping[str, torch.nn.Module],
        optimiser: torch.optim.Optimizer,
        minutes: float,
        seed: int,
        schedule: Callable[[int, float], float],
        clip: float = 1.0,
        steps: int = 0,
    ) -> None:
        """Begin, or go on from the checkpoint at `path`.

        `modules` by name are kept in it. The training ends after `minutes` or `steps`, whichever
        comes first; one that is 0 does not count, and with neither nothing is trained.
        `schedule` gives the factor of the learning rate from the step and the part of the
        training that is over (0..1); gradients longer than `clip` are shortened.
        """
        self.path, self.minutes, self.steps = Path(path), minutes, steps
        self._modules, self._optimiser = dict(modules), optimiser
        self._schedule, self._clip = schedule, clip
        self._rates = [group['lr'] for group in optimiser.param_groups]
        self.rng = np.random.default_rng(seed)
        self.step, self._spent, self.curve, self.done = 0, 0.0, [], 0.0
        self._sums: list = []
        if self.path.exists():
            saved = torch.load(self.path, map_location='cpu', weights_only=False)
            for name, module in self._modules.items():
                module.load_state_dict(saved[name])
            optimiser.load_state_dict(saved['optimiser'])
            self.rng.bit_generator.state = saved['rng']
            torch.set_rng_state(saved['torch_rng'])
            self.step, self._spent, self.curve = saved['step'], saved['spent'], saved['curve']
            self._sums = saved['sums']
            print(f'{self.path.stem}: resumed at step {self.step}', flush=True)
        self._begun = self._shown = self._saved = time.monotonic()
        self._first = self.step

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._begun

    def goes_on(self) -> bool:
        """Return whether time and steps are left, and set the rate; at the end save."""
        spent = ((self._seconds() / 60, self.minutes), (self.step, self.steps))
        self.done = max((used / limit for used, limit in spent if limit), default=1.0)
        factor = self._schedule(self.step, min(self.done, 1.0))
        for group, rate in zip(self._optimiser.param_groups, self._rates):
            group['lr'] = rate * factor
        if self.done >= 1:
            self._average()
            self.save()
        return self.done < 1

    def _average(self) -> list[float]:
        """Add the means since the last time to the curve and return them."""
        means = [float(value) for value in np.mean(self._sums, 0)] if self._sums else []
        if means:
            self.curve.append((self.step, *means))
        self._sums = []
        return means

    def _minutes_left(self, now: float) -> float:
        limits = []
        if self.minutes:
            limits.append(self.minutes - self._seconds() / 60)
        if self.steps:
            each = (now - self._begun) / max(1, self.step - self._first)
            limits.append(each * (self.steps - self.step) / 60)
        return min(limits)

    def learn(self, loss: torch.Tensor, **shown: torch.Tensor) -> None:
        """Make one step against a loss, and show it and more now and then."""
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for group in self._optimiser.param_groups for p in group['params']], self._clip
        )
        self._optimiser.step()
        self.step += 1
        self._sums.append([float(value.detach()) for value in (loss, *shown.values())])
        now = time.monotonic()
        if now - self._shown > SHOW:
            self._shown = now
            values = '  '.join(
                f'{name} {value:.4f}' for name, value in zip(('loss', *shown), self._average())
            )
            print(
                f'{self.path.stem}: step {self.step}  {values}  '
                f'{self._minutes_left(now):.1f} min left',
                flush=True,
            )
        if now - self._saved > SAVE:
            self._saved = now
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        partial = self.path.with_suffix('.part')
        torch.save(
            {
                **{name: module.state_dict() for name, module in self._modules.items()},
                'optimiser': self._optimiser.state_dict(),
                'rng': self.rng.bit_generator.state,
                'torch_rng': torch.get_rng_state(),
                'step': self.step,
                'spent': self._seconds(),
                'curve': self.curve,
                'sums': self._sums,
            },
            partial,
        )
        partial.rename(self.path)
