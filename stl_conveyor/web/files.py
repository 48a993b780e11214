# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the page loads beside itself: crops, and the hours as a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Annotated

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Response

from stl_conveyor.errors import ConveyorError
from stl_conveyor.panel.items import Item
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.web.crop_images import png
from stl_conveyor.web.site import Site

# A crop never changes: who has it need not ask again.
FOR_EVER = {'Cache-Control': 'private, max-age=86400, immutable'}
KEPT_PICTURES = 32  # for those who ask for the same a moment later


class Pictures:
    """Pictures of crops, each made once for all who ask for it. Of one event loop."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._kept: dict[Hashable, tuple[np.ndarray, asyncio.Task[bytes]]] = {}

    async def get(self, key: Hashable, crop: np.ndarray, make: Callable[[], bytes]) -> bytes:
        """Return a picture.

        Args:
            key: Of the picture, while its crop is this one.
            make: Called in a thread where it is not kept; what it raises, all get who wait.
        """
        kept = self._kept.get(key)
        if kept is None or kept[0] is not crop:
            kept = self._kept[key] = crop, asyncio.ensure_future(asyncio.to_thread(make))
            while len(self._kept) > KEPT_PICTURES:
                del self._kept[next(iter(self._kept))]
        try:
            # One who leaves does not take it from the others.
            return await asyncio.shield(kept[1])
        except Exception:
            if self._kept.get(key) is kept:
                del self._kept[key]
            raise


def add_files(app: FastAPI, site: Site) -> None:
    """Add the addresses below /cells to an application."""
    pictures = Pictures()

    def cell_of(number: int) -> LiveCell:
        cells = site.cells
        if not 0 <= number < len(cells):
            raise HTTPException(404, 'there is no such cell')
        return cells[number]

    def item_of(number: int, stamp: int) -> Item:
        item = cell_of(number).item(stamp)
        if item is None or item.crop is None:
            raise HTTPException(404, 'the picture of this item is not kept')
        return item

    @app.get('/cells/{number}/items/{stamp}/captured.png')
    async def captured(number: int, stamp: int) -> Response:
        crop = item_of(number, stamp).crop
        assert crop is not None
        picture = await pictures.get((number, stamp), crop, lambda: png(crop))
        return Response(picture, media_type='image/png', headers=FOR_EVER)

    @app.get('/cells/{number}/items/{stamp}/edge.png')
    async def edge(
        number: int, stamp: int, byte_count: Annotated[int, Query(alias='bytes')]
    ) -> Response:
        item = item_of(number, stamp)
        crop, models = item.crop, item.models
        assert crop is not None
        try:
            picture = await pictures.get(
                (number, stamp, byte_count),
                crop,
                lambda: site.edge_picture(crop, byte_count, models),
            )
        except ConveyorError as error:
            raise HTTPException(404, str(error)) from error
        return Response(picture, media_type='image/png', headers=FOR_EVER)

    @app.get('/cells/{number}/hours.csv')
    def hours(number: int) -> Response:
        return Response(
            cell_of(number).csv(),
            media_type='text/csv; charset=utf-8',
            headers={'Content-Disposition': 'attachment; filename="hours.csv"'},
        )

    @app.get('/cells/{number}/shifts.csv')
    def shifts(number: int) -> Response:
        return Response(
            cell_of(number).csv(by_shift=True),
            media_type='text/csv; charset=utf-8',
            headers={'Content-Disposition': 'attachment; filename="shifts.csv"'},
        )
