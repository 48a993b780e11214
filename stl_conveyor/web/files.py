# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the page loads beside itself: crops, and the hours as a table."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response

from stl_conveyor.errors import ConveyorError
from stl_conveyor.panel.items import Item
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.web.crop_images import png
from stl_conveyor.web.site import Site

# A crop never changes: who has it need not ask again.
FOR_EVER = {'Cache-Control': 'private, max-age=86400, immutable'}


def add_files(app: FastAPI, site: Site) -> None:
    """Add the addresses below /cells to an application."""

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
        picture = await asyncio.to_thread(png, crop)
        return Response(picture, media_type='image/png', headers=FOR_EVER)

    @app.get('/cells/{number}/items/{stamp}/edge.png')
    async def edge(
        number: int, stamp: int, byte_count: Annotated[int, Query(alias='bytes')]
    ) -> Response:
        item = item_of(number, stamp)
        assert item.crop is not None
        try:
            picture = await asyncio.to_thread(
                site.edge_picture, item.crop, byte_count, item.models
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
