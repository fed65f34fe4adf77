"""A counter beside CURRENT that tells open readers, in a tenth of a microsecond, that nothing has changed.

A writer makes it odd before a change becomes visible and even afterwards. A reader that sees the even number of
its last look may answer from what it knows; any other number makes it look. So a change is visible when the
writer's call returns, and a writer that was killed in between leaves an odd number, at which readers look at
every query until the next writer comes.
"""

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_search.files import open_regular, write_atomically

EPOCH = ".epoch"

_BYTES = 8
_LOOK_AGAIN_S = 0.5


class EpochReader:
    """Maps the counter of an index; where there is none, every look finds a change."""

    def __init__(self, index: Path) -> None:
        self._path = index / EPOCH
        self._look()

    def _look(self) -> None:
        """Map the file that has the counter's name now."""
        self._map: mmap.mmap | bytes = b""
        self._file = _identity(self._path)
        self._look_again = time.monotonic() + _LOOK_AGAIN_S
        with suppress(OSError, ValueError):
            descriptor = _open(self._path)
            try:
                if os.fstat(descriptor).st_size == _BYTES:
                    self._map = mmap.mmap(descriptor, _BYTES, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)

    def is_still(self, counter: bytes) -> bool:
        """Tell whether the counter vouches for what was true when `now` returned these bytes."""
        # Those of an odd counter are never returned, so they never match.
        if self._map[:_BYTES] != counter or not counter:
            return False
        if time.monotonic() < self._look_again:
            return True
        # Somebody may have removed the index and made it anew, or moved another one to its place.
        self._look_again = time.monotonic() + _LOOK_AGAIN_S
        return _identity(self._path) == self._file

    def now(self) -> bytes:
        """Return the counter's bytes, or none if it cannot vouch for anything."""
        if _identity(self._path) != self._file:
            self._look()
        counter = self._map[:_BYTES]
        return b"" if counter[:1] and counter[0] & 1 else counter


def _open(path: Path) -> int:
    """Open for writing where that is allowed: on an overlay file system, others are shown the file before any write."""
    try:
        return open_regular(path, writable=True)
    except OSError:
        return open_regular(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


@contextmanager
def changing(index: Path) -> Iterator[None]:
    """Hold the counter odd while a change becomes visible; only the holder of the index's lock may."""
    descriptor = _own_counter(index / EPOCH)
    try:
        counter = mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
    with counter:
        odd = int.from_bytes(counter[:_BYTES], "little") | 1
        counter[:_BYTES] = odd.to_bytes(_BYTES, "little")
        try:
            yield
        finally:
            counter[:_BYTES] = ((odd + 1) % 2**64).to_bytes(_BYTES, "little")


def _own_counter(path: Path) -> int:
    """Open the counter; what is none, as a link or a hard link to another file, is replaced and not written."""
    with suppress(OSError):
        descriptor = open_regular(path, writable=True)
        if os.fstat(descriptor).st_size == _BYTES:
            return descriptor
        os.close(descriptor)
    write_atomically(path, bytes(_BYTES))
    return open_regular(path, writable=True)
