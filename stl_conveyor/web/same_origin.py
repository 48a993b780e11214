# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keeps the pages of others from talking to this one in a visitor's name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# A page may neither be framed by others, nor tell them where a visitor came from.
HEADERS = (
    (b'x-frame-options', b'DENY'),
    (b'x-content-type-options', b'nosniff'),
    (b'referrer-policy', b'no-referrer'),
)


class SameOrigin:
    """An ASGI application before another: it refuses what comes from elsewhere.

    A request that names another origin than the host it asks is refused, and so is a host that is
    not this machine's name where the page is for this machine alone (DNS rebinding).
    """

    def __init__(self, app: Application, hosts: Sequence[str] | None = None) -> None:
        """Stand before an application.

        Args:
            hosts: Names by which it may be asked; None: any.
        """
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, a connection, or the begin and end of the application."""
        if scope['type'] not in ('http', 'websocket'):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope['headers']}
        host = headers.get(b'host', b'').decode('latin-1')
        origin = headers.get(b'origin', b'').decode('latin-1')
        if self._is_foreign(host, origin):
            await _refuse(scope, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message['type'] == 'http.response.start':
                message['headers'] = [*message.get('headers', ()), *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _is_foreign(self, host: str, origin: str) -> bool:
        try:
            name = urlsplit(f'//{host}').hostname
            asking = urlsplit(origin).netloc if origin else host
        except ValueError:
            return True
        return asking != host or (self._hosts is not None and name not in self._hosts)


async def _refuse(scope: Scope, send: Send) -> None:
    if scope['type'] == 'websocket':
        await send({'type': 'websocket.close', 'code': 1008})
        return
    body = b'This page answers its own visitors only.'
    length = str(len(body)).encode()
    headers = [(b'content-type', b'text/plain'), (b'content-length', length)]
    await send({'type': 'http.response.start', 'status': 403, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})
