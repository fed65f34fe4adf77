"""A file of the user that hostile input is made to reach for."""

import os
from pathlib import Path


class Victim:
    """A file outside, which must stay as it was, as must all that lies beside it: content, kind, size, inode, times.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path, content: bytes = b"what the user would not want to lose\n" * 8) -> None:
        self.path = path
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        self.note()

    def note(self) -> None:
        """Take what is there now for what must stay: for a test that prepares more beside it."""
        self._before = self._seen()

    def assert_untouched(self) -> None:
        """Fail if anything about it has changed."""
        assert self._seen() == self._before

    def _seen(self):
        return {entry: _state(entry) for entry in [self.path.parent, *sorted(self.path.parent.rglob("*"))]}


def _state(path):
    stat = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    # Not its names: whoever takes a hard link to it away does it no harm.
    return content, stat.st_mode, stat.st_ino, stat.st_mtime_ns
