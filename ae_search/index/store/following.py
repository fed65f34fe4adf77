"""Following an index as it changes: the newest state, looked for only where something may have changed."""

import os
import threading
import weakref
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.index.store.epoch import EpochReader
from ae_search.index.store.generation import Generation, Snapshot
from ae_search.index.store.manifest import live_generation
from ae_search.index.store.shortage import shortage_named


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
