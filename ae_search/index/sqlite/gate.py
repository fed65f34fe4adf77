"""A gate that forks wait at: a child is never born while a thread is within SQLite.

SQLite guards its memory by one mutex for the whole process. A thread that held it when the process forked is not there
in the child, and the mutex stays locked: the child's first call of SQLite never returns (seen in gdb:
`sqlite3Malloc` below `sqlite3.connect`), though it opens the index anew. It also keeps account of the locks that its
process holds on a file, and the child believes that account, while the locks are its parent's alone: so a transaction
is within as a whole.
"""

import os
import threading
from types import TracebackType

from ae_search.errors import ConfigurationError

# Far longer than any statement of ours takes on an index that one machine can hold.
_LONGEST_WAIT_S = 30.0


class SqliteGate:
    """Lets any number of threads into SQLite, and a fork only while none is there; a thread may enter it twice."""

    def __init__(self) -> None:
        self._is_usable = True
        self._renew()

    def _renew(self) -> None:
        self._door = threading.Lock()
        self._change = threading.Condition(threading.Lock())
        self._threads_within = 0
        self._mine = threading.local()

    @property
    def _depth(self) -> int:
        """How many times the calling thread is within."""
        return getattr(self._mine, "depth", 0)

    def __enter__(self) -> None:
        """Wait while a fork is under way.

        Raises:
            ConfigurationError: This process came from a fork that could not wait.
        """
        if not self._is_usable:
            raise ConfigurationError(
                "This process was forked in the middle of a use of an index, and cannot use one itself; start it anew "
                "instead (multiprocessing: the start method 'spawn')."
            )
        depth = self._depth
        if not depth:
            with self._door, self._change:
                self._threads_within += 1
        self._mine.depth = depth + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mine.depth -= 1
        if not self._mine.depth:
            with self._change:
                self._threads_within -= 1
                self._change.notify_all()

    def close(self) -> None:
        """Keep others out and wait until none of them is within; the calling thread itself cannot be waited for."""
        self._door.acquire()
        with self._change:
            own = 1 if self._depth else 0
            self._change.wait_for(lambda: self._threads_within <= own, _LONGEST_WAIT_S)

    def open(self) -> None:
        """Let others in again."""
        self._door.release()

    def open_in_child(self) -> None:
        """Begin anew in a process of one thread."""
        self._is_usable = self._is_usable and not self._threads_within
        self._renew()


within_sqlite = SqliteGate()
os.register_at_fork(
    before=within_sqlite.close, after_in_parent=within_sqlite.open, after_in_child=within_sqlite.open_in_child
)
