# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What may stand between a client and a server: connections that end, fall silent, or are few."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading

RESET, CLOSED = 'reset', 'closed'


class Relay:
    """Passes every connection to a port of this machine on to another one.

    `most`: connections at a time; the next is closed at once, or with `silent_beyond` taken and
    never answered. `on_request`: called with what a client sent, before it is passed on; returns
    whether it is. `ends`: how clients ended their connections. `accepted`: how many there were.
    """

    def __init__(self, target):
        """Listen on a free port, for the server on port `target`."""
        self.target, self.most, self.silent_beyond = target, 100, False
        self.on_request = lambda data: True
        self.ends, self.accepted = queue.Queue(), 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._muted: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def open(self):
        """Return how many connections there are."""
        with self._lock:
            return len(self._pairs)

    def drop(self):
        """Close all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mute(self):
        """Swallow what comes over the connections that there are, and say nothing."""
        with self._lock:
            self._muted |= {client for client, _ in self._pairs}

    def close(self):
        """Close everything."""
        self._listener.close()
        self.drop()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.open >= self.most:
                if not self.silent_beyond:
                    client.close()
                    continue
                server = socket.socket()  # not connected: nothing is passed on
                self.mute_one(client)
            else:
                server = socket.create_connection(('127.0.0.1', self.target))
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            if client not in self._muted:
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def mute_one(self, client):
        """Swallow what comes over a connection."""
        with self._lock:
            self._muted.add(client)

    def _up(self, client, server):
        end = CLOSED
        try:
            while data := client.recv(4096):
                if client not in self._muted and self.on_request(data):
                    server.sendall(data)
        except ConnectionResetError:
            end = RESET
        except OSError:
            pass
        self._part(client, server)
        self.ends.put(end)

    def _down(self, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(4096):
                if client not in self._muted:
                    client.sendall(data)
        if client not in self._muted:
            self._part(client, server)

    def _part(self, client, server):
        with self._lock:
            self._pairs = [pair for pair in self._pairs if pair[0] is not client]
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
