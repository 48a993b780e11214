# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Get matplotlib, which only reports and benchmarks need, ready to draw into files."""

from __future__ import annotations

from types import ModuleType

from stl_conveyor.errors import MissingDependency


def file_pyplot() -> ModuleType:
    """Return matplotlib's pyplot, which needs no display.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use('Agg')
        # A name of somebody's class is a name, also with a $ in it.
        matplotlib.rcParams['text.parse_math'] = False
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingDependency(
            f'pictures need matplotlib ({error}): pip install matplotlib'
        ) from error
    return pyplot
