# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The page, and how what is new of a cell comes to those who look at it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.panel.accounts import Right
from stl_conveyor.panel.language import Language, best_language, languages
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.policy import POLICIES
from stl_conveyor.web.access import COOKIE, Access
from stl_conveyor.web.crop_images import EdgeEyes, png

LEAST_PERIOD_S = 0.1  # between two pieces of news
TOGETHER_S = 0.2  # that news wait for others where nobody waits for them
MOST_EYES = 4  # model folders that are kept loaded; each takes some megabytes
QUIET_PERIOD_S = 1.0  # after which something is told in any case, so that silence is noticed
BELT_PERIOD_S = 0.5  # after which the belt is told in any case that moves as it was told ...
STEADY = 0.01  # ... within so many m/s


@dataclass(frozen=True)
class Told:
    """What a page was told last, and when: `at` in seconds of a clock that nobody sets."""

    revision: int
    belt: dict[str, Any]
    at: float

    def knows(self, news: dict[str, Any], now: float) -> bool:
        """Return whether the page says the same by itself.

        It moves what is on the belt on by the speed that it knows.
        """
        belt = news['belt']
        return (
            set(news) == {'revision', 'belt'}
            and now - self.at < BELT_PERIOD_S
            and belt['state'] == self.belt['state']
            and abs(belt['speed'] - self.belt['speed']) <= STEADY
            and [key for key, _ in belt['places']] == [key for key, _ in self.belt['places']]
        )


class CellView(Element, component='cell_view.js'):
    """The element that draws a cell; what it shows comes by `tell`."""

    def __init__(
        self,
        cells: Sequence[LiveCell],
        number: int,
        language: Language,
        *,
        access: Access,
        token: str,
    ) -> None:
        """Make the element for one of the cells.

        Args:
            access: Who may what.
            token: Of the visitor's session.
        """
        super().__init__()
        self.cell = cells[number]
        self.told: Told | None = None  # None: nothing yet
        self.token = token
        user = access.sessions.user(token)
        rights = [] if user is None or self.cell.control is None else user.rights
        props: dict[str, Any] = {
            'scene': self.cell.scene(),
            'texts': dict(language.texts),
            'lang': language.code,
            'languages': [[each.code, each.name] for each in languages().values()],
            'cells': [
                {'name': cell.name, 'href': f'?cell={n}&lang={language.code}'}
                for n, cell in enumerate(cells)
            ],
            'number': number,
            'base': f'/cells/{number}',
            'rights': sorted(right.value for right in rights),
            'user': None if user is None else {'name': user.name, 'role': user.role.value},
            'login': access.accounts is not None,
            'policies': list(POLICIES),
        }
        for name, value in props.items():
            self._props[name] = value

    def tell(self, news: dict[str, Any], now: float) -> None:
        """Hand over what is new, at a time (see `Told`)."""
        self.told = Told(news['revision'], news['belt'], now)
        self.run_method('take', news)


class Site:
    """Which cells are shown, and to whom. What comes from other threads may call `show`."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self.cells: tuple[LiveCell, ...] = ()
        self.access = Access()
        self._eyes: dict[Path, EdgeEyes] = {}
        self._eyes_lock = threading.Lock()
        self._views: set[CellView] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None
        self._teller: asyncio.Task[None] | None = None

    def show(self, cells: Sequence[LiveCell]) -> None:
        """Show these cells from now on."""
        for cell in self.cells:
            cell.changed = lambda _: None
        self.cells = tuple(cells)
        with self._eyes_lock:
            self._eyes.clear()  # a folder may hold others by now
        for cell in self.cells:
            cell.changed = self._has_news
        self._has_news(True)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell what is new from now on; called in the loop."""
        self._loop, self._news, self._hurry = loop, asyncio.Event(), asyncio.Event()
        self._teller = loop.create_task(self._tell())

    def stop(self) -> None:
        """Tell nothing any more."""
        self.show(())
        if self._loop is not None and self._teller is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._teller.cancel)

    def page(self, request: Request) -> None:
        """Build the page for a visitor."""
        asked = request.query_params
        language = best_language(asked.get('lang', ''), request.headers.get('accept-language', ''))
        ui.add_head_html('<link rel="stylesheet" href="/panel/panel.css">')
        ui.page_title(language.texts['title'])
        cells = self.cells
        if not cells:
            ui.label(language.texts['connecting'])
            ui.timer(2.0, lambda: ui.navigate.reload() if self.cells else None)
            return
        number = asked.get('cell', '0')
        chosen = int(number) if number.isdecimal() and int(number) < len(cells) else 0
        view = CellView(
            cells, chosen, language, access=self.access, token=request.cookies.get(COOKIE, '')
        )
        view.on('all', lambda _: self._begin_view(view))
        view.on('acknowledge', lambda event: self._acknowledge(view, event))
        view.on('change', lambda event: self._change(view, values=event.args))
        view.on('undo', lambda event: self._change(view, undo=event.args))

    def edge_picture(self, crop: np.ndarray, byte_count: int, models: Path | None) -> bytes:
        """Return what the edge saw of a crop, as PNG.

        Args:
            crop: uint8 [S, S, 3] RGB.
            byte_count: Of the stream.
            models: The model folder that held when the crop was captured.

        Raises:
            ConveyorError: If there are no models for it.
        """
        if models is None:
            raise ConfigError('no model folder is known here; set models_dir')
        with self._eyes_lock:
            if models not in self._eyes:
                eyes = EdgeEyes(ModelFolder(models))
                while len(self._eyes) >= MOST_EYES:
                    del self._eyes[next(iter(self._eyes))]
                self._eyes[models] = eyes
            return png(self._eyes[models].picture(crop, byte_count))

    def _begin_view(self, view: CellView) -> None:
        self._views.add(view)
        view.tell(view.cell.news(), time.monotonic())

    def _acknowledge(self, view: CellView, event: GenericEventArguments) -> None:
        user = self.access.sessions.user(view.token)
        if user is not None and Right.ACKNOWLEDGE in user.rights:
            view.cell.acknowledge(str(event.args), user.name)

    async def _change(self, view: CellView, *, values: Any = None, undo: Any = 0) -> None:
        """Make a change for a visitor, and tell them if it failed."""
        user = self.access.sessions.user(view.token)
        if user is None:
            view.run_method('refused', 'login')
            return
        number = undo if isinstance(undo, int) else 0
        try:
            made = await asyncio.to_thread(view.cell.change, user, values, undo=number)
        except ConveyorError as error:
            view.run_method('refused', str(error))
            return
        view.run_method('refused', made.failed)

    def _has_news(self, hurry: bool) -> None:
        if self._loop is None or self._news is None or self._hurry is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if hurry:
                self._loop.call_soon_threadsafe(self._hurry.set)
            self._loop.call_soon_threadsafe(self._news.set)

    async def _tell(self) -> None:
        assert self._news is not None and self._hurry is not None
        while True:
            for event, patience in ((self._news, QUIET_PERIOD_S), (self._hurry, TOGETHER_S)):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), patience)
            self._news.clear()
            self._hurry.clear()
            self._tell_all()
            await asyncio.sleep(LEAST_PERIOD_S)

    def _tell_all(self) -> None:
        told: dict[tuple[int, int], dict[str, Any]] = {}
        now = time.monotonic()
        for view in list(self._views):
            if view.is_deleted or view.client.is_deleted or view.cell not in self.cells:
                self._views.discard(view)
                continue
            since = -1 if view.told is None else view.told.revision
            key = (id(view.cell), since)
            if key not in told:
                told[key] = view.cell.news(since)
            if view.told is None or not view.told.knows(told[key], now):
                view.tell(told[key], now)
