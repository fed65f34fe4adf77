"""Following an index as it changes: the newest state, looked for only where a counter says that something changed.

The counter lies beside CURRENT and tells open readers, in a tenth of a microsecond, that nothing has changed. A writer
makes it odd before a change becomes visible and even afterwards. A reader that sees the even number of its last look
may answer from what it knows; any other number makes it look. So a change is visible when the writer's call returns,
and a writer that was killed in between leaves an odd number, at which readers look at every query until the next
writer comes.
"""

import mmap
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.files import open_regular, write_atomically
from ae_search.index.manifest import live_generation
from ae_search.index.shortage import shortage_named
from ae_search.index.store.generation import Generation
from ae_search.index.store.snapshot import Snapshot

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


class Follower:
    """Holds the newest state of an index; safe to share between threads.

    Args:
        path: The index folder.

    Raises:
        ConfigurationError: `path` is no index, or one of another format.
        IndexDamagedError: A file is missing, cut short or altered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._why_closed = "is closed"
        self._parents: Snapshot | None = None
        self._epoch = EpochReader(path)
        self._snapshot: Snapshot | None = self._newest(None)
        _followers.add(self)

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        # Not unmapped here: another thread may be in the middle of a search.
        with self._lock:
            self._snapshot = None

    def snapshot(self) -> Snapshot:
        """Return the state of this moment.

        Raises:
            ValueError: It is closed, or was opened before this process was forked.
            IndexDamagedError: A file of a new generation is missing, cut short or altered.
        """
        snapshot = self._snapshot
        if snapshot is None:
            raise ValueError(f"The index {self._why_closed}.")
        return snapshot if self._epoch.is_still(snapshot.epoch) else self.look()

    def check_open(self) -> None:
        """Raise a ValueError where `snapshot` would for being closed."""
        if self._snapshot is None:
            raise ValueError(f"The index {self._why_closed}.")

    def look(self) -> Snapshot:
        """Look for changes whatever the counter says, and return the state of this moment; errors as in `snapshot`."""
        with self._lock:
            if self._snapshot is None:
                raise ValueError(f"The index {self._why_closed}.")
            self._snapshot = self._newest(self._snapshot)
            return self._snapshot

    def leave_to_parent(self) -> None:
        """Refuse all use in a forked child: SQLite's connections and locks are its parent's."""
        # Not let go of: even closing is the parent's.
        self._parents, self._snapshot = self._snapshot, None
        self._lock = threading.Lock()
        self._why_closed = "was opened before this process was forked; open it anew here"

    def _newest(self, seen: Snapshot | None) -> Snapshot:
        """Look at CURRENT and at the changes; what has not changed is taken over."""
        with shortage_named(self._path):
            return self._looked(seen)

    def _looked(self, seen: Snapshot | None) -> Snapshot:
        epoch = self._epoch.now()
        folder = live_generation(self._path)
        while True:
            try:
                if seen is not None and seen.generation.is_still(folder):
                    delta = seen.generation.changes.after(seen.delta)
                    if delta is seen.delta and epoch == seen.epoch:
                        return seen
                    return Snapshot(seen.generation, delta, epoch)
                generation = Generation(folder)
                return Snapshot(generation, generation.changes.first(), epoch)
            except IndexDamagedError:
                # A writer may have published the next generation and removed this one meanwhile.
                newer = live_generation(self._path)
                if newer == folder:
                    raise
                folder = newer


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for follower in _followers:
        follower.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)
