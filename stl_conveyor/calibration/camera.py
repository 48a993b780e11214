# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The camera's scale and place over the belt, from a picture of a chequerboard or a plate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import CalibrationError
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.opencv import import_cv2

LARGEST_RESIDUAL = 0.7  # pixels; more means that the corners are not those of a flat board


@dataclass(frozen=True)
class Board:
    """A chequerboard with `columns` x `rows` inner corners, `square` metres apart."""

    columns: int
    rows: int
    square: float


@dataclass(frozen=True)
class CameraMeasurement:
    """What a picture says about the camera.

    Attributes:
        pixels_per_metre: Along the belt, in the middle of the image.
        across: Pixels per metre across the belt.
        rotation: Degrees between the board and the image's axes: nearly 0 if both lie square to
            the belt.
        tilt: By how much the scale along the belt differs between the ends of the board.
        foremost: Metres along the belt from the middle of the image to the foremost corners of the
            board (the far edge of a plate).
        residual: Pixels (RMS) by which the corners miss a flat board.
    """

    pixels_per_metre: float
    across: float
    rotation: float
    tilt: float
    foremost: float
    residual: float


def measure_board(image: NDArray[np.uint8], board: Board, travel: Travel) -> CameraMeasurement:
    """Measure the camera from a picture uint8 `[H, W, 3]` (RGB) of a board that lies on the belt.

    Args:
        travel: Where the belt carries things in the image.

    Raises:
        CalibrationError: If the board is not seen whole, or is not flat.
    """
    cv2 = import_cv2()
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    size = (board.columns, board.rows)
    found, corners = cv2.findChessboardCornersSB(
        grey, size, flags=cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
    )
    if not found:
        raise CalibrationError(
            f'no board of {board.columns} x {board.rows} inner corners is seen; put it flat under '
            'the camera, whole and evenly lit, with a white margin around it'
        )
    on_board = (
        np.array(
            [(column, row) for row in range(board.rows) for column in range(board.columns)], float
        )
        * board.square
    )
    return _measure(cv2, on_board, corners.reshape(-1, 2).astype(float), image.shape, travel)


def measure_plate(
    image: NDArray[np.uint8], length: float, width: float, travel: Travel
) -> CameraMeasurement:
    """Measure the camera from a picture of a rectangular plate that differs from the belt.

    Args:
        length: Metres along the belt; `width` across it.

    Raises:
        CalibrationError: If no rectangle is seen whole.
    """
    cv2 = import_cv2()
    grey = cv2.GaussianBlur(
        cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), (5, 5), 0
    )
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if np.median(np.r_[mask[0], mask[-1], mask[:, 0], mask[:, -1]]) > 0:
        mask = 255 - mask  # a dark plate on a bright belt
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea, default=None)
    if contour is None or cv2.contourArea(contour) < 400:
        raise CalibrationError('no plate is seen; one is needed that differs from the belt')
    points = contour.reshape(-1, 2)
    if (
        points.min() < 1
        or points[:, 0].max() > grey.shape[1] - 2
        or points[:, 1].max() > grey.shape[0] - 2
    ):
        raise CalibrationError('the plate reaches the edge of the image; it must be seen whole')
    (x, y), sides, angle = cv2.minAreaRect(contour)
    if cv2.contourArea(contour) < 0.93 * sides[0] * sides[1]:
        raise CalibrationError('what is seen is no rectangle; take everything else away')
    # A contour runs through the middle of its pixels: half a pixel is missing on each side.
    box = cv2.boxPoints(((x, y), (sides[0] + 1, sides[1] + 1), angle)).astype(float)
    forwards = np.array(travel.shifted(0.0, 0.0, 1.0)[::-1])  # (column, row)
    sideways = np.array([-forwards[1], forwards[0]])
    middle = box.mean(axis=0)
    corners = []
    for along, across in ((0, 0), (1, 0), (0, 1), (1, 1)):
        wanted = forwards * (along - 0.5) + sideways * (across - 0.5)
        corners.append(max(box, key=lambda corner: float((corner - middle) @ wanted)))
    on_plate = np.array([(a * length, b * width) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return _measure(cv2, on_plate, np.array(corners), image.shape, travel)


def _measure(
    cv2: Any,
    on_board: NDArray[Any],
    in_image: NDArray[Any],
    shape: tuple[int, ...],
    travel: Travel,
) -> CameraMeasurement:
    """Measure from points (m) on a flat board and where they are in the image (column, row)."""
    homography, _ = cv2.findHomography(on_board, in_image)
    if homography is None:
        raise CalibrationError('the board is seen too obliquely')
    inverse = np.linalg.inv(homography)
    residual = float(
        np.sqrt(np.mean(np.sum((_project(homography, on_board) - in_image) ** 2, axis=1)))
    )
    if residual > LARGEST_RESIDUAL:
        raise CalibrationError(
            f'the corners miss a flat board by {residual:.2f} pixels; press the board flat'
        )
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    forwards = np.array(travel.shifted(0.0, 0.0, 1.0)[::-1])
    sideways = np.array([-forwards[1], forwards[0]])

    def metres(pixel: NDArray[Any], direction: NDArray[Any]) -> NDArray[Any]:
        """Return the way on the board (m) of one pixel in a direction."""
        ends = _project(inverse, np.array([pixel - direction / 2, pixel + direction / 2]))
        return ends[1] - ends[0]

    along = metres(centre, forwards)
    across = metres(centre, sideways)
    places = _project(inverse, centre[None])[0]
    unit = along / np.linalg.norm(along)
    ways = (on_board - places) @ unit
    ends = [
        float(np.linalg.norm(metres(in_image[index], forwards)))
        for index in (int(ways.argmin()), int(ways.argmax()))
    ]
    angle = math.degrees(math.atan2(unit[1], unit[0])) % 90.0
    return CameraMeasurement(
        pixels_per_metre=1.0 / float(np.linalg.norm(along)),
        across=1.0 / float(np.linalg.norm(across)),
        rotation=angle - 90.0 if angle > 45.0 else angle,
        tilt=ends[1] / ends[0] - 1.0,
        foremost=float(ways.max()),
        residual=residual,
    )


def _project(homography: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return float64 [N, 2] where a homography takes points [N, 2]."""
    homogeneous = np.c_[points, np.ones(len(points))] @ homography.T
    return homogeneous[:, :2] / homogeneous[:, 2:]
