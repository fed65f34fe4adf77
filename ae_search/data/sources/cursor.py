"""What can only be read from its beginning on: the place where the last reader was is kept."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Cursor(Generic[T]):
    """Members of something that is read in order; a step back begins anew.

    Args:
        begin: Returns an iterator over all members.
    """

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin, self._lock = begin, threading.Lock()
        self._members: Iterator[T] | None = None
        self._next = 0
        self._last: T | None = None

    def at(self, position: int) -> T | None:
        """Return a member, None where there are fewer."""
        with self._lock:
            if self._members is None or position < self._next - 1:
                self._members, self._next = self._begin(), 0
            while self._next <= position:
                try:
                    self._last = next(self._members)
                except StopIteration:
                    self._members = None
                    return None
                self._next += 1
            return self._last
