"""Connections of strangers, bounded in number and in time: what uvicorn leaves open."""

import asyncio
import math
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Headers hold a cookie, an address a filter and a few keys; what is read at once may begin the body.
MAX_HEAD_BYTES = 128 * 1024
# A client that takes nothing of an answer for so long, in s, is cut off.
STALLED_S = 30.0


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, and how many connections there may be.

    Attributes:
        most_connections: Beyond them, the one that waited for a request for longest makes way.
    """

    most_connections = 1024


class BoundedConnection(HttpToolsProtocol):
    """A connection on which the head of a request has to arrive in time, and its answer has to be taken in time.

    `timeout_keep_alive` says how long a head may take, from the opening of the connection or from its first byte.
    """

    config: ServerConfig
    waits_since: float | None = None
    _head_bytes = 0
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection, and let another one go where there are too many."""
        super().connection_made(transport)
        self._wait()
        self._limit_time()
        if len(self.connections) > self.config.most_connections:
            waiting = [one for one in self.connections if isinstance(one, BoundedConnection)]
            min(waiting, key=BoundedConnection.since).transport.abort()

    def since(self) -> float:
        """Return since when it waits for a request; one that does not is to be kept."""
        return math.inf if self.waits_since is None else self.waits_since

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self.waits_since = None
        self._stop("_late", "_stalled")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived."""
        if self.waits_since is not None:
            self._head_bytes += len(data)
            self._limit_time()
            if self._head_bytes > MAX_HEAD_BYTES and len(data) < self._head_bytes:
                self.transport.abort()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self.waits_since = None
        self._stop("_late")
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """End a request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()
        elif self.cycle.response_complete:  # no other one is queued
            self._wait()

    def pause_writing(self) -> None:
        """Note that an answer is not being taken."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Note that it is."""
        self._stop("_stalled")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection without a request."""
        super().timeout_keep_alive_handler()
        self._watch()

    def shutdown(self) -> None:
        """End a connection, or its last request first."""
        super().shutdown()
        if self.transport.is_closing():
            self._watch()

    def _wait(self) -> None:
        self.waits_since, self._head_bytes = self.loop.time(), 0

    def _limit_time(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _watch(self) -> None:
        """Cut the connection off unless what was written is taken in time."""
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def _stop(self, *names: str) -> None:
        for name in names:
            if (timer := getattr(self, name)) is not None:
                timer.cancel()
                setattr(self, name, None)
