# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training of so many minutes or steps that shows progress and goes on from its checkpoint.

Every gradient training of the laboratory that takes minutes goes through here: the optimiser's
step, the clock, the learning rate, the curve and the checkpoint are one piece of code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stl_conveyor_lab.train.checkpoint import load_checkpoint, save_checkpoint

#: Seconds between lines of progress, and between checkpoints.
SHOW, SAVE = 20, 60


class TimedRun:
    """Optimiser, clock, curve and checkpoint of one training.

    Attributes:
        path: The checkpoint.
        rng: NumPy's generator of this training; its state is part of the checkpoint.
        step: Steps that were made.
        done: Part of the training that is over, 0 to 1, when the last step began.
        curve: A row for each line of progress and one for the end: the step, the means of the
            loss and of what was shown since the row before, and what `judge` gave.
    """

    def __init__(
        self,
        path: Path,
        modules: Mapping[str, torch.nn.Module],
        optimiser: torch.optim.Optimizer,
        minutes: float,
        seed: int,
        schedule: Callable[[int, float], float],
        *,
        clip: float = 1.0,
        steps: int = 0,
        judge: Callable[[bool], Mapping[str, float]] | None = None,
    ) -> None:
        """Begin, or go on from the checkpoint.

        The training ends after `minutes` or `steps`, whichever comes first; one that is 0 does
        not count, and with neither nothing is trained.

        Args:
            path: The checkpoint to go on from, if there is one, and to write.
            modules: Networks by name, which the checkpoint holds.
            optimiser: Of their weights; its learning rates are those at factor 1.
            minutes: Of the training, those before an interruption included.
            seed: Of `rng`.
            schedule: Gives the factor of the learning rates from the step and the part of the
                training that is over (0 to 1).
            clip: Gradients longer than this are shortened to it.
            steps: Of the optimiser.
            judge: Measures the networks for a line of progress; is told whether it is the last.

        Raises:
            ConfigError: If the checkpoint is of another training.
        """
        self.path, self.minutes, self.steps = Path(path), minutes, steps
        self._modules, self._optimiser = dict(modules), optimiser
        self._schedule, self._clip, self._judge = schedule, clip, judge
        self._rates = [group['lr'] for group in optimiser.param_groups]
        self.rng = np.random.default_rng(seed)
        self.step, self._spent, self.done = 0, 0.0, 0.0
        self.curve: list[tuple[float, ...]] = []
        self._sums: list[list[float]] = []
        self._begun = self._shown = self._saved = time.monotonic()
        if self.path.exists():
            self._load()
        self._first = self.step

    def _load(self) -> None:
        saved = load_checkpoint(self.path, self._content().keys())
        for name, module in self._modules.items():
            module.load_state_dict(saved[name])
        self._optimiser.load_state_dict(saved['optimiser'])
        self.rng.bit_generator.state = saved['rng']
        torch.set_rng_state(saved['torch_rng'])
        self.step, self._spent, self.curve = saved['step'], saved['spent'], saved['curve']
        self._sums = saved['sums']
        print(f'{self.path.stem}: resumed at step {self.step}', flush=True)

    @property
    def minutes_spent(self) -> float:
        """Return how long the training has taken so far, interruptions left out."""
        return self._seconds() / 60

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
            if self._sums:
                self._add_to_curve(last=True)
            self.save()
        return self.done < 1

    def _add_to_curve(self, last: bool = False) -> dict[str, float]:
        """Add a row to the curve, and return what was judged."""
        means = [float(value) for value in np.mean(self._sums, 0)]
        judged = dict(self._judge(last)) if self._judge else {}
        self.curve.append((self.step, *means, *judged.values()))
        self._sums = []
        return judged

    def _minutes_left(self, now: float) -> float:
        limits = []
        if self.minutes:
            limits.append(self.minutes - self._seconds() / 60)
        if self.steps:
            each = (now - self._begun) / max(1, self.step - self._first)
            limits.append(each * (self.steps - self.step) / 60)
        return min(limits)

    def learn(self, loss: torch.Tensor, **shown: torch.Tensor) -> None:
        """Make one step against a loss, and show it and more now and then.

        Args:
            loss: Scalar whose gradient is followed.
            **shown: Scalars by name that stand beside the loss in progress and curve.
        """
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
            judged = self._add_to_curve()
            self._shown = time.monotonic()
            values = '  '.join(
                f'{name} {value:.4f}'
                for name, value in zip(('loss', *shown, *judged), self.curve[-1][1:])
            )
            print(
                f'{self.path.stem}: step {self.step}  {values}  '
                f'{self._minutes_left(now):.1f} min left',
                flush=True,
            )
        if now - self._saved > SAVE:
            self._saved = now
            self.save()

    def _content(self) -> dict[str, Any]:
        return {
            **{name: module.state_dict() for name, module in self._modules.items()},
            'optimiser': self._optimiser.state_dict(),
            'rng': self.rng.bit_generator.state,
            'torch_rng': torch.get_rng_state(),
            'step': self.step,
            'spent': self._seconds(),
            'curve': self.curve,
            'sums': self._sums,
        }

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.path, self._content())
