# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in this package, how severe it is, and how a command ends with it.

Each message names the thing and the remedy.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable

from stl_conveyor.interrupts import lost_interrupts_raised_again


class Level(enum.IntEnum):
    """Severity; equals the levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


class ConveyorError(Exception):
    """Base of every error that this package raises on purpose.

    Examples:
        >>> from stl_conveyor import ConveyorError, ModelFolder
        >>> try:
        ...     ModelFolder('nowhere')
        ... except ConveyorError as error:
        ...     print(f'{type(error).__name__}: {str(error)[:60]} ...')
        ModelFileError: nowhere/manifest.json: cannot be read (No such file or direc ...
    """


class ConfigError(ConveyorError):
    """A parameter, a configuration file or a scenario cannot be used."""


class MissingDependency(ConveyorError):
    """A library that this feature needs is not installed; the message says how to get it."""


#: Libraries of the parts that are installed where they are wanted; as in pyproject.toml.
EXTRAS = {
    'hmi': ('argon2-cffi>=23', 'nicegui>=3.18,<4'),
    'plant': ('argon2-cffi>=23', 'asyncua>=2.1', 'paho-mqtt>=2,<3', 'prometheus-client>=0.20'),
    'recording': ('mcap>=1.2',),
}


def install_words(extra: str) -> str:
    """Return how to get the libraries of a part, in a workspace of colcon as in a checkout.

    Examples:
        >>> install_words('recording')
        "pip install 'mcap>=1.2', or in a checkout: make setup"
    """
    named = ' '.join(f"'{library}'" for library in EXTRAS[extra])
    return f'pip install {named}, or in a checkout: make setup'


class BadImage(ConveyorError):
    """An image message or file cannot be turned into pixels."""


class ModelFileError(ConveyorError):
    """A model file is missing, unreadable, or does not match its hash."""


class BadPacket(ConveyorError):
    """Bytes of a stream that no encoder of ours can have sent."""


class CodecMismatch(ConveyorError):
    """Device and edge hold different codecs."""


class BucketError(ConveyorError):
    """A reservation of tokens was settled twice, overspent, or never made."""


class BadProbabilities(ConveyorError):
    """Class probabilities that no classifier of ours can have sent."""


class HardwareError(ConveyorError):
    """A pin, a controller or a PLC does not do what it was told."""


class CalibrationError(ConveyorError):
    """Something could not be measured; the message says what to change."""


class BadMessage(ConveyorError):
    """A message whose contents cannot be used; its sender is at fault."""


def exit_code(command: str, work: Callable[[], int | None]) -> int:
    """Do a command's work and return the exit code of the process.

    0, or what `work` returns; 2 with a line on standard error if it raises ConveyorError or cannot
    read or write a file; 130 after Ctrl-C.
    """
    try:
        with lost_interrupts_raised_again():
            return work() or 0
    except (ConveyorError, OSError) as error:
        print(f'{command}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nstopped', file=sys.stderr)
        return 130
