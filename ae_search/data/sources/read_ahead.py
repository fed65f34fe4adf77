"""Members of something slow and far away: who reads one after the other is read ahead for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

# So many files are in memory at most, and asked for at once.
_AHEAD = 8


class ReadAhead:
    """Reads members by position; those that follow come in threads once two were asked for in order.

    Args:
        read: Returns the bytes of a member; called in threads.
        count: Number of members.
    """

    def __init__(self, read: Callable[[int], bytes], count: int) -> None:
        self._read, self._count = read, count
        self._lock = threading.Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._last: int | None = None

    def at(self, position: int) -> bytes:
        """Return a member; raises what `read` raises for it."""
        with self._lock:
            in_order = self._last is not None and position == self._last + 1
            self._last = position
            wanted = range(position, min(position + _AHEAD, self._count)) if in_order else range(0)
            for old in self._coming.keys() - set(wanted):
                self._coming.pop(old).cancel()
            for one in wanted:
                if one not in self._coming:
                    self._coming[one] = self._threads.submit(self._read, one)
            coming = self._coming.pop(position, None)
        return self._read(position) if coming is None else coming.result()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_AHEAD, thread_name_prefix="ae-search-read-ahead")
