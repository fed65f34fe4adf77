"""Bodies of requests, bounded before they are read: by their own size, by what all take together, and in time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ae_search.web.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What may still come of a body that nobody reads, so that its sender hears why, in s and bytes.
_LINGER_S = 1.0
_LINGER_BYTES = 4 * 2**20


class Held:
    """Counts the bytes of bodies that are in memory."""

    def __init__(self, most: int) -> None:
        """Take how many they may be; one body may always be there."""
        self._most = most
        self._held = self._bodies = 0

    def take(self, own: int, more: int) -> None:
        """Take more bytes for a body that has some of its own.

        Raises:
            Problem: Others hold too many.
        """
        if self._held + more > self._most and self._held > own:
            raise Problem("Busy", "Other requests have large bodies now; try again.")
        self._held += more

    def give_back(self, own: int) -> None:
        """Let go of a body."""
        self._held -= own


class Body:
    """Receives one request.

    Args:
        receive: The server's, which returns the next message.
        most: Bytes that the body may have.
        held: What all bodies take.
        on_end: Called when all of it is there.
    """

    def __init__(self, receive: Receive, most: int, held: Held, on_end: Callable[[], object]) -> None:
        self._receive, self._most, self._held, self._on_end = receive, most, held, on_end
        self._bytes = self._reserved = 0
        self.is_complete = False

    def announce(self, length: int) -> None:
        """Make room for a body of that length.

        Raises:
            Problem: It is too long, or others hold too much.
        """
        if length > self._most:
            raise self._too_large()
        self._take(length)

    async def receive(self) -> Message:
        """Return the next part.

        Raises:
            Problem: It is longer than it may be.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self._most:
                raise self._too_large()
            if self._bytes > self._reserved:
                self._take(self._bytes - self._reserved)
            if not message.get("more_body", False) and not self.is_complete:
                self.is_complete = True
                self._on_end()
        return message

    def close(self) -> None:
        """Let go of it."""
        self._held.give_back(self._reserved)
        self._reserved = 0

    def _take(self, more: int) -> None:
        self._held.take(self._reserved, more)
        self._reserved += more

    def _too_large(self) -> Problem:
        return Problem("TooLarge", f"A body may have {self._most} bytes here.")


async def linger(receive: Receive) -> None:
    """Take in what is still on its way of a body, for a moment: who closes at once takes the answer along."""
    left = _LINGER_BYTES
    try:
        async with asyncio.timeout(_LINGER_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):  # nothing is left, or nobody
                    return
    except TimeoutError:
        return
