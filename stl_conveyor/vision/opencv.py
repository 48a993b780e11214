# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""OpenCV, which only some of the tasks need, and what to do where it is missing."""

from __future__ import annotations

from typing import Any

from stl_conveyor.errors import MissingDependency


def import_cv2() -> Any:
    """Return OpenCV.

    Raises:
        MissingDependency: If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(
            'this needs OpenCV: apt install python3-opencv, or pip install opencv-python-headless'
        ) from error
    return cv2
