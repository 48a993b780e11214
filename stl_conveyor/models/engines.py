# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What computes a network: this process, or servers elsewhere of which any may die."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from numpy.typing import NDArray

from stl_conveyor.errors import ConveyorError

Arrays = list[NDArray[Any]]
Feeds = Mapping[str, NDArray[Any]]

# A server's answer is waited for so many times as long as its answers took of late (the median),
# before another one is asked, too.
PATIENCE = 3.0
# Share of the time left that is kept for the local engine.
KEPT_FOR_LOCAL = 0.3
UNLIMITED_S = 5.0  # where no time is given, such as for the first run


class EngineGone(ConveyorError):
    """Nothing that computes the network has answered in time."""


class Engine(Protocol):
    """Computes the outputs of one network."""

    def run(self, outputs: Sequence[str], feeds: Feeds, within: float | None = None) -> Arrays:
        """Return the outputs that are named.

        Args:
            feeds: Input name → array.
            within: Seconds after which nobody needs them any more; None: no limit.
        """


class Server(Protocol):
    """A place elsewhere that computes the network."""

    name: str

    def infer(self, outputs: Sequence[str], feeds: Feeds, timeout: float) -> Arrays:
        """Return the outputs that are named; raise anything if that fails within `timeout` s."""

    def is_ready(self, timeout: float) -> bool:
        """Return whether it has the network and takes requests."""

    def close(self) -> None:
        """Let go of the connection."""


class LocalEngine:
    """A session of onnxruntime in this process."""

    def __init__(self, session: Any) -> None:
        """Use an onnxruntime.InferenceSession."""
        self._session = session

    def run(self, outputs: Sequence[str], feeds: Feeds, within: float | None = None) -> Arrays:
        """Return the outputs; nothing can make it quicker, so `within` changes nothing."""
        return list(self._session.run(list(outputs), dict(feeds)))


class _Seat:
    """A server with what is known of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_well = True
        self.under_way = 0
        self.times: deque[float] = deque(maxlen=32)

    @property
    def usual(self) -> float:
        """Return how long its answers take (s), for who chooses among several."""
        return statistics.median(self.times) if self.times else 0.0


class ServerGroup:
    """Servers that compute the same network, with a local engine for when none of them does.

    The one with the least to do is asked. If it is not back in three times its usual time a second
    one is asked, too, while there is time (a hedged request: Dean and Barroso, "The tail at
    scale", Communications of the ACM 56(2), 2013), and the first answer counts. One that fails is
    left aside until a look finds it ready again. What is left of the time then goes to the local
    engine, if there is one.

    Any thread may call.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        local: Engine | None,
        *,
        hedge: float = 0.03,
        again: float = 1.0,
        workers: int = 16,
        changed: Callable[[str, bool, str], None] = lambda name, is_well, why: None,
    ) -> None:
        """Ask nobody yet.

        Args:
            servers: One at least.
            local: For when no server answers; None: then there is no answer.
            hedge: Seconds after which a second server is asked at the earliest.
            again: Seconds between two looks at servers that failed.
            workers: Most requests under way.
            changed: Called from any thread when a server falls out or is back, with its name,
                whether it is well, and why not.
        """
        self._seats = [_Seat(server) for server in servers]
        self._local = local
        self._hedge, self._again = hedge, again
        self._changed = changed
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix='inference')
        self._stop = threading.Event()
        self.used_local = 0
        self.hedged = 0
        self._looker = threading.Thread(target=self._look, name='inference health', daemon=True)
        self._looker.start()

    def close(self) -> None:
        """Ask nobody any more."""
        self._stop.set()
        self._looker.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for seat in self._seats:
            seat.server.close()

    @property
    def well(self) -> tuple[str, ...]:
        """Return the names of the servers that answer."""
        return tuple(seat.server.name for seat in self._seats if seat.is_well)

    def run(self, outputs: Sequence[str], feeds: Feeds, within: float | None = None) -> Arrays:
        """Return the outputs, from whoever has them first.

        Raises:
            EngineGone: If no server has answered, and there is no local engine.
        """
        began = time.monotonic()
        budget = UNLIMITED_S if within is None else max(0.0, within)
        end = began + budget * (1.0 - KEPT_FOR_LOCAL if self._local is not None else 1.0)
        under_way: set[Future[Arrays]] = set()
        asked: list[_Seat] = []
        next_at = began
        while (now := time.monotonic()) < end:
            if now >= next_at or not under_way:
                seat = self._choose(asked)
                if seat is None and not under_way:
                    break
                if seat is not None:
                    if asked and under_way:
                        self.hedged += 1
                    asked.append(seat)
                    under_way.add(self._pool.submit(self._ask, seat, outputs, feeds, end - now))
                next_at = end if seat is None else now + self._patience(seat)
            done, under_way = wait(
                under_way, max(0.0, min(next_at, end) - time.monotonic()), FIRST_COMPLETED
            )
            for future in done:
                if not future.cancelled() and future.exception() is None:
                    return future.result()
        if self._local is None:
            raise EngineGone(
                'no inference server has answered in time: '
                + ', '.join(seat.server.name for seat in self._seats)
            )
        self.used_local += 1
        return self._local.run(outputs, feeds)

    def _choose(self, asked: Sequence[_Seat]) -> _Seat | None:
        """Return the server with the least to do, of those that are well and not asked yet."""
        with self._lock:
            free = [seat for seat in self._seats if seat.is_well and seat not in asked]
            if not free:
                return None
            seat = min(free, key=lambda seat: (seat.under_way, seat.usual))
            seat.under_way += 1
            return seat

    def _patience(self, seat: _Seat) -> float:
        return max(self._hedge, PATIENCE * seat.usual)

    def _ask(self, seat: _Seat, outputs: Sequence[str], feeds: Feeds, timeout: float) -> Arrays:
        began = time.monotonic()
        try:
            answer = seat.server.infer(outputs, feeds, timeout)
        except Exception as error:  # whatever the client calls it
            self._failed(seat, f'{type(error).__name__}: {error}')
            raise
        finally:
            with self._lock:
                seat.under_way -= 1
        with self._lock:
            seat.times.append(time.monotonic() - began)
        return answer

    def _failed(self, seat: _Seat, why: str) -> None:
        with self._lock:
            was_well, seat.is_well = seat.is_well, False
        if was_well:
            self._changed(seat.server.name, False, why)

    def _look(self) -> None:
        while not self._stop.wait(self._again):
            for seat in self._seats:
                if seat.is_well or self._stop.is_set():
                    continue
                try:
                    ready = seat.server.is_ready(self._again)
                except Exception:  # likewise
                    ready = False
                if ready:
                    with self._lock:
                        seat.is_well = True
                        seat.times.clear()
                    self._changed(seat.server.name, True, '')
