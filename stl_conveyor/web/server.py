# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Serves the operator's page from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConfigError, MissingDependency, install_words
from stl_conveyor.panel.accounts import Accounts
from stl_conveyor.panel.live_cell import LiveCell

try:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles
    from nicegui import ui
except ImportError as _error:
    raise MissingDependency(
        f"the operator's page needs NiceGUI ({_error}): {install_words('hmi')}"
    ) from _error

from stl_conveyor.web.access import add_login
from stl_conveyor.web.files import add_files
from stl_conveyor.web.same_origin import SameOrigin
from stl_conveyor.web.site import Site

LOCAL = ('localhost', '127.0.0.1', '::1')
START_PATIENCE_S = 30.0


class PanelServer:
    """The page of one cell or several. NiceGUI has one server for each process, and so has this.

    What the page shows may be exchanged while it is served, as a node is deactivated and activated
    again; `stop` ends it for good.
    """

    def __init__(
        self, address: str, port: int, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        """Take the address.

        Args:
            address: Of this machine; localhost: nobody else reaches the page.
            port: 0 takes a free one.
            certificate: For TLS (PEM), with those that signed it; None: without TLS.
            key: Of the certificate (PEM).

        Raises:
            ConfigError: If it cannot be had.
        """
        self.site = _application()[1]
        self._socket = _listening(address, port)
        self._address = address
        self._certificate, self._key = certificate, key
        for path in filter(None, (certificate, key)):
            if not path.is_file():
                self._socket.close()
                raise ConfigError(f'there is no certificate or key {path}')
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Return the address of the page."""
        host = f'[{self._address}]' if ':' in self._address else self._address
        scheme = 'https' if self._certificate else 'http'
        return f'{scheme}://{host}:{self.port}/'

    def let_in(self, accounts: Accounts | None) -> None:
        """Let people log in by these accounts; None: the page is read-only."""
        self.site.access.accounts = accounts

    def show(self, cells: Sequence[LiveCell]) -> None:
        """Show these cells from now on; none: the page says that nothing runs."""
        self.site.show(cells)

    def start(self) -> None:
        """Serve; return as soon as the page can be had.

        Raises:
            ConfigError: If the server does not come up.
        """
        app, _ = _application()
        local = self._address in LOCAL
        config = uvicorn.Config(
            SameOrigin(app, LOCAL if local else None),
            log_level='warning',
            access_log=False,
            ws='websockets-sansio',
            # What is told is short, the network is the cell's, and this machine may be sorting.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate,
            ssl_keyfile=self._key,
        )
        self._server = uvicorn.Server(config)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, started), name='page', daemon=True
        )
        self._thread.start()
        if not started.wait(START_PATIENCE_S):
            raise ConfigError(f'the page did not come up within {START_PATIENCE_S:.0f} s')

    def stop(self) -> None:
        """End the server, and the connections of those who look on."""
        self.site.stop()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=5.0)
        with contextlib.suppress(OSError):
            self._socket.close()

    def _serve(self, server: uvicorn.Server, started: threading.Event) -> None:
        async def serve() -> None:
            self.site.begin(asyncio.get_running_loop())
            serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.02)
            started.set()
            await serving

        asyncio.run(serve())


@cache
def _application() -> tuple[FastAPI, Site]:
    """Return the application of this process, of which NiceGUI allows one."""
    app, site = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), Site()
    add_files(app, site)
    add_login(app, site.access)
    app.mount('/panel', StaticFiles(directory=Path(__file__).parent / 'static'), name='panel')
    ui.run_with(
        app,
        root=site.page,
        title='stl_conveyor',
        binding_refresh_interval=None,
        reconnect_timeout=5.0,
        message_history_length=200,
        tailwind=False,
        show_welcome_message=False,
        favicon=_FAVICON,
    )
    return app, site


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise ConfigError(
            f'the page cannot be served on {address}, port {port} ({error.strerror}): name an '
            'address of this machine, and a port that nobody else has; 0 takes a free one'
        ) from error
    return opened


_FAVICON: Any = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect x="1" y="18" width="30" '
    'height="9" rx="4.5" fill="#3a4148"/><rect x="6" y="6" width="11" height="11" rx="2" '
    'fill="#2a6bb0"/><rect x="20" y="9" width="8" height="8" rx="2" fill="#b57a12"/></svg>'
)
