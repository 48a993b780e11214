# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A training that lasts so many minutes, shows its progress and goes on from its checkpoint."""
from collections.abc import Callable, Mapping
from pathlib import Path
import time

import numpy as np
import torch

#: Seconds between lines of progress, and between checkpoints.
SHOW, SAVE = 20, 60


class TimedRun:
    """Optimiser, clock, curve and checkpoint of one training."""

    def __init__(self, path: Path, modules: 'Mapping[str, torch.nn.Module]',
                 optimiser: torch.optim.Optimizer, minutes: float, seed: int,
                 schedule: 'Callable[[int, float], float]', clip: float = 1.) -> None:
        """
        Begin, or go on from the checkpoint at `path`.

        `modules` by name are kept in it. `schedule` gives the factor of the learning rate from
        the step and the part of the time that is over (0..1); gradients longer than `clip` are
        shortened.
        """
        self.path, self.minutes = Path(path), minutes
        self._modules, self._optimiser = dict(modules), optimiser
        self._schedule, self._clip = schedule, clip
        self._rates = [group['lr'] for group in optimiser.param_groups]
        self.rng = np.random.default_rng(seed)
        self.step, self._spent, self.curve, self.done = 0, 0., [], 0.
        if self.path.exists():
            saved = torch.load(self.path, weights_only=False)
            for name, module in self._modules.items():
                module.load_state_dict(saved[name])
            optimiser.load_state_dict(saved['optimiser'])
            self.rng.bit_generator.state = saved['rng']
            self.step, self._spent, self.curve = saved['step'], saved['spent'], saved['curve']
            print(f'{self.path.stem}: resumed at step {self.step}', flush=True)
        self._begun = self._shown = self._saved = time.monotonic()
        self._sums: list = []

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._begun

    def goes_on(self) -> bool:
        """Return whether there is time left, and set the rate; at the end save."""
        self.done = self._seconds() / (60 * self.minutes) if self.minutes else 1.
        factor = self._schedule(self.step, min(self.done, 1.))
        for group, rate in zip(self._optimiser.param_groups, self._rates):
            group['lr'] = rate * factor
        if self.done >= 1:
            self.save()
        return self.done < 1

    def learn(self, loss: torch.Tensor, **shown: torch.Tensor) -> None:
        """Make one step against a loss, and show it and more now and then."""
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for group in self._optimiser.param_groups for p in group['params']], self._clip)
        self._optimiser.step()
        self.step += 1
        self._sums.append([float(value.detach()) for value in (loss, *shown.values())])
        now = time.monotonic()
        if now - self._shown > SHOW:
            self._shown = now
            means = [float(value) for value in np.mean(self._sums, 0)]
            self._sums = []
            self.curve.append((self.step, *means))
            values = '  '.join(f'{name} {value:.4f}'
                               for name, value in zip(('loss', *shown), means))
            left = self.minutes - self._seconds() / 60
            print(f'{self.path.stem}: step {self.step}  {values}  {left:.1f} min left', flush=True)
        if now - self._saved > SAVE:
            self._saved = now
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        partial = self.path.with_suffix('.part')
        torch.save({**{name: module.state_dict() for name, module in self._modules.items()},
                    'optimiser': self._optimiser.state_dict(),
                    'rng': self.rng.bit_generator.state, 'step': self.step,
                    'spent': self._seconds(), 'curve': self.curve}, partial)
        partial.rename(self.path)
