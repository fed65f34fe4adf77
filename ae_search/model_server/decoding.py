"""A bound on the memory that image files take while they are decoded: a kilobyte may hold a gigabyte of pixels."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ae_search.cores import cores
from ae_search.image_file import decoded_bytes

# More than a photograph of 12 megapixels for each core.
BYTES_PER_CORE = 2**30
MIN_BYTES = 2 * 2**30


class Room:
    """Bytes that several threads may fill at a time; who finds no room waits, and whoever is alone finds it."""

    def __init__(self, most: int) -> None:
        """Take the bytes, at least 1."""
        self.most = most
        self._used = 0
        self._freed = threading.Condition()
        # Only one waits for room, so that those that need little do not pass one that needs much again and again.
        self._turn = threading.Lock()

    @contextmanager
    def taken(self, n_bytes: int) -> Iterator[None]:
        """Wait for room, and hold it."""
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + n_bytes <= self.most)
            self._used += n_bytes
        try:
            yield
        finally:
            with self._freed:
                self._used -= n_bytes
                self._freed.notify()


# Memory is the process's, whatever it serves.
ROOM = Room(max(MIN_BYTES, BYTES_PER_CORE * cores()))


def runs(files: Iterable[bytes | str], most: int) -> list[tuple[int, int, int]]:
    """Cut image files into runs that need not much more memory than allowed.

    Args:
        files: The bytes of each.
        most: Decoded bytes of one run of several files.

    Returns:
        For each run: its first file, the one after its last, and the bytes that decoding takes at most. There is at
        least one run.
    """
    found: list[tuple[int, int, int]] = []
    start = end = total = 0
    for file in files:
        size = decoded_bytes(file) if isinstance(file, bytes) else 0
        if end > start and total + size > most:
            found.append((start, end, total))
            start, total = end, 0
        total += size
        end += 1
    return [*found, (start, end, total)]
