# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Logging in and out of the operator's page."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from stl_conveyor.panel.accounts import SESSION_S, Accounts, Sessions

COOKIE = 'session'
LONGEST = 1000  # characters of a name or password


class Access:
    """Accounts and sessions of the page; without accounts nobody can log in."""

    def __init__(self) -> None:
        """Have no accounts."""
        self.accounts: Accounts | None = None
        self.sessions = Sessions()


def add_login(app: FastAPI, access: Access) -> None:
    """Add the address /session to an application: POST logs in, DELETE out."""

    @app.post('/session')
    async def log_in(request: Request) -> Response:
        try:
            content: Any = await request.json()
        except (ValueError, RecursionError):
            return Response(status_code=400)
        given = content if isinstance(content, dict) else {}
        name, password = _text(given.get('name')), _text(given.get('password'))
        if access.accounts is None or not (name and password):
            return Response(status_code=403)
        user = await asyncio.to_thread(access.accounts.check, name, password)
        if user is None:
            return Response(status_code=403)
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE,
            access.sessions.begin(user),
            max_age=int(SESSION_S),
            httponly=True,
            samesite='strict',
            secure=request.url.scheme == 'https',
        )
        return response

    @app.delete('/session')
    def log_out(request: Request) -> Response:
        access.sessions.end(request.cookies.get(COOKIE, ''))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE)
        return response


def _text(value: Any) -> str:
    """Return a text of a length that can be, else an empty one."""
    return value if isinstance(value, str) and len(value) <= LONGEST else ''
