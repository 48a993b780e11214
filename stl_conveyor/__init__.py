# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sort items on a conveyor with a weak classifier on the device and a strong one on the edge.

What a script needs is here, by name, and each name opens with an example that runs::

    from stl_conveyor import Decoder, Encoder, ModelFolder, read_image, share_path

Everything is loaded when it is first asked for, so that importing the package costs nothing and
needs nothing: neither NumPy nor ONNX Runtime nor ROS. `examples/` holds whole scripts,
docs/architecture.md says what lies where.
"""

from __future__ import annotations

import os
from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stl_conveyor.cell.deadline import sorting_deadline
    from stl_conveyor.cell.description import CellDescription
    from stl_conveyor.cell.ledger import ItemLedger
    from stl_conveyor.codec.decoder import Decoder
    from stl_conveyor.codec.encoder import Encoder
    from stl_conveyor.errors import ConveyorError
    from stl_conveyor.models.classifier import Classifier
    from stl_conveyor.models.model_folder import ModelFolder
    from stl_conveyor.policy import make_policy
    from stl_conveyor.policy.play import play
    from stl_conveyor.policy.reward import RewardEstimator
    from stl_conveyor.policy.token_bucket import TokenBucket
    from stl_conveyor.resources import share_path
    from stl_conveyor.vision.image import read_image

# The source tree holds the Python code and the built prefix holds the generated messages;
# both are `stl_conveyor`, and this joins them.
__path__ = extend_path(__path__, __name__)

# ONNX Runtime 1.32 sends reports on its use and keeps an id of the device and a database of events
# in the home folder, unless it finds this when it is first imported. Nothing may leave a cell but
# what its topics carry, so this is no matter of taste; processes that are started inherit it.
os.environ['ORT_DISABLE_TELEMETRY'] = '1'

__version__ = '0.1.0'

__all__ = [
    'CellDescription',
    'Classifier',
    'ConveyorError',
    'Decoder',
    'Encoder',
    'ItemLedger',
    'ModelFolder',
    'RewardEstimator',
    'TokenBucket',
    'make_policy',
    'play',
    'read_image',
    'share_path',
    'sorting_deadline',
]

_HOMES = {
    'CellDescription': 'cell.description',
    'Classifier': 'models.classifier',
    'ConveyorError': 'errors',
    'Decoder': 'codec.decoder',
    'Encoder': 'codec.encoder',
    'ItemLedger': 'cell.ledger',
    'ModelFolder': 'models.model_folder',
    'RewardEstimator': 'policy.reward',
    'TokenBucket': 'policy.token_bucket',
    'make_policy': 'policy',
    'play': 'policy.play',
    'read_image': 'vision.image',
    'share_path': 'resources',
    'sorting_deadline': 'cell.deadline',
}

# A type checker that saw these would take any name for one of the package.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load one of `__all__` when it is first asked for (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        value = getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List what is loaded and what can be."""
        return sorted({*globals(), *__all__})
