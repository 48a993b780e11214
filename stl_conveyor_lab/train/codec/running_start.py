# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a training of the codec starts from instead of from nothing.

A running start knows no classes, and leaves each codec its own transform. It has the weights of
the restoration and, unless the trunk was kept, what reading decoded images changed in the trunk of
EfficientNet-Lite0, as a difference from the published weights. That difference is added to a trunk
that was tuned on somebody's items (task arithmetic: Ilharco et al., ICLR 2023). None of it depends
on the side of the images. Where the trunk is another than that of the running start, the
restoration alone is taken over. `pretraining.py` makes it. One ships, made from photographs that
may be used for anything; `shipped/README.md` says from which, and what it does.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.outside_files import ZIP_ERRORS, UnusableFile, read_arrays
from stl_conveyor_lab.train.codec.edge_network import CELL, EdgeNetwork
from stl_conveyor_lab.train.lite0 import FoldedTrunk

#: What ships, for photographs.
SHIPPED = Path(__file__).resolve().parent / 'shipped' / 'photos.npz'
#: Begins the names of what is taken over as it is.
_RESTORATION = 'restoration.'
#: Begins the names of the trunk's differences; its last layer belongs to the classes.
_TRUNK, _LAST_LAYER = 'trunk.', 'trunk.classifier.'
#: Begins the names in an exported strong classifier.
_STRONG = 'network.'
#: Tells the width of a restoration, and the patches that it was made for.
_FIRST, _PLACE = f'{_RESTORATION}first.weight', f'{_RESTORATION}place'
#: Ends the name of the steps of a tensor that is kept in 8 bits.
_STEP = ':step'
_LEVELS = 127


def exported_weights(path: Path) -> dict[str, Tensor]:
    """Return the constants of an exported network by name, in single precision.

    Raises:
        ConfigError: If the file is no network.
    """
    try:
        constants = onnx.load(str(path)).graph.initializer
    except (OSError, DecodeError) as error:
        raise ConfigError(f'{path}: cannot be read as a network ({error})') from error
    return {
        tensor.name.removesuffix('_half'): torch.from_numpy(
            numpy_helper.to_array(tensor).astype(np.float32)
        )
        for tensor in constants
    }


@dataclass(frozen=True)
class RunningStart:
    """The parts that a training of the codec starts from.

    Attributes:
        weights: Tensors by the names that they have in an EdgeNetwork: the restoration, and
            differences of the trunk unless that was kept.
    """

    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: EdgeNetwork, published: FoldedTrunk) -> RunningStart:
        """Return what a trained network knows beyond the trunk that it began with.

        Args:
            network: The network, whose trunk has the shape of `published`.
            published: The trunk before the training.
        """
        before = {f'{_TRUNK}{name}': value for name, value in published.state_dict().items()}
        weights = {}
        for name, value in network.state_dict().items():
            if name.startswith(_RESTORATION):
                weights[name] = value.clone()
            elif name.startswith(_TRUNK) and not name.startswith(_LAST_LAYER):
                weights[name] = value - before[name]
        return cls(weights)

    @classmethod
    def of_restoration(cls, network: EdgeNetwork) -> RunningStart:
        """Return the restoration of a network alone."""
        return cls(
            {
                name: value.clone()
                for name, value in network.state_dict().items()
                if name.startswith(_RESTORATION)
            }
        )

    @classmethod
    def of_models(cls, models: str | Path) -> RunningStart:
        """Return what the codec of a model folder knows beyond its strong classifier.

        Raises:
            ConfigError: If the folder's networks are not such as this laboratory trains with a
                restoration.
        """
        folder = ModelFolder(models)
        edge, strong = (exported_weights(folder.path(role)) for role in ('edge', 'strong'))
        weights = {}
        for name, value in edge.items():
            if name.startswith(_RESTORATION):
                weights[name] = value
            elif name.startswith(_TRUNK) and not name.startswith(_LAST_LAYER):
                before = strong.get(f'{_STRONG}{name}')
                if before is None or before.shape != value.shape:
                    raise ConfigError(
                        f'{models}: its strong classifier is not what its edge began with'
                    )
                weights[name] = value - before
        if _FIRST not in weights:
            raise ConfigError(f'{models}: its edge restores nothing; train one with --restore 96')
        return cls(weights)

    @classmethod
    def load(cls, path: str | Path) -> RunningStart:
        """Read a running start.

        Raises:
            ConfigError: If the file cannot be read or is none.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix('.npy') for name in archive.namelist()}
            arrays = read_arrays(path, names)
        except (UnusableFile, *ZIP_ERRORS) as error:
            raise ConfigError(
                f'{path}: cannot be read as a running start ({error}); make one with '
                'stl_conveyor_lab.train.codec.pretraining, or train with --running-start none'
            ) from error
        if _FIRST not in arrays:
            raise ConfigError(f'{path}: restores nothing, so it is no running start')
        weights = {}
        for name, value in arrays.items():
            # Files from before have a transform and a branch as well.
            if name.endswith(_STEP) or not name.startswith((_RESTORATION, _TRUNK)):
                continue
            tensor = torch.from_numpy(value.astype(np.float32))
            if value.dtype == np.int8:
                step = torch.from_numpy(arrays[name + _STEP].astype(np.float32))
                tensor = tensor * step.reshape(-1, *[1] * (tensor.ndim - 1))
            weights[name] = tensor
        return cls(weights)

    def save(self, path: str | Path) -> None:
        """Write the file: kernels in 8 bits with a step for each output, the rest in 16."""
        arrays: dict[str, np.ndarray] = {}
        for name, tensor in sorted(self.weights.items()):
            value = tensor.detach().cpu().float().numpy()
            if value.ndim < 4 or value.shape[0] == 1:
                arrays[name] = value.astype(np.float16)
                continue
            largest = np.abs(value).reshape(len(value), -1).max(1)
            step = np.maximum(largest / _LEVELS, 1e-7).astype(np.float16)
            wide = step.astype(np.float32).reshape(-1, 1, 1, 1)
            levels = np.rint(value / np.maximum(wide, 1e-8))
            arrays[name] = np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8)
            arrays[name + _STEP] = step
        # What numpy.savez_compressed calls its first argument cannot be the name of an array.
        np.savez_compressed(str(path), **arrays)  # type: ignore[arg-type]

    @property
    def patch(self) -> int:
        """Return the side of a patch in pixels."""
        return CELL * self.weights[_PLACE].shape[2]

    @property
    def restore(self) -> int:
        """Return the width of the restoration."""
        return len(self.weights[_FIRST])

    @property
    def moves_trunk(self) -> bool:
        """Return whether it has differences for the trunk."""
        return any(name.startswith(_TRUNK) for name in self.weights)

    def suits(self, network: EdgeNetwork) -> bool:
        """Return whether the differences are of a trunk such as the network's."""

        def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
            return {
                name: value.shape
                for name, value in weights.items()
                if name.startswith(_TRUNK) and not name.startswith(_LAST_LAYER)
            }

        return shapes(self.weights) == shapes(network.state_dict())

    @torch.no_grad()
    def give(self, network: EdgeNetwork, share: float | None = 1.0) -> None:
        """Put everything into a network: the restoration as it is, the differences added.

        Args:
            network: Made with the patches and the width of this running start; its trunk has
                been tuned on somebody's items.
            share: Of the trunk's differences that is added. None gives the restoration alone.

        Raises:
            ConfigError: If the network has other shapes.
        """
        own = dict(network.state_dict())
        weights = self.weights
        if share is None:
            weights = {name: weights[name] for name in weights if name.startswith(_RESTORATION)}
        other = [
            name
            for name, value in weights.items()
            if name not in own or own[name].shape != value.shape
        ]
        other += [name for name in own if name.startswith(_RESTORATION) and name not in weights]
        if other:
            raise ConfigError(
                f'the running start does not fit this network ({", ".join(other[:3])}):'
                ' it is of another version or trunk; train with --running-start none'
            )
        for name, value in weights.items():
            value = value.to(own[name].device)
            if name.startswith(_TRUNK):
                own[name].add_(value, alpha=share)
            else:
                own[name].copy_(value)
