"""A file of the user that hostile input is made to reach for."""

import os
from pathlib import Path


class Victim:
    """A file outside, which must stay as it was: content, kind, size, inode and times.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"what the user would not want to lose\n" * 8)
        os.utime(path, ns=(10**18, 10**18))
        self._before = self._seen()

    def assert_untouched(self) -> None:
        """Fail if anything about it has changed."""
        assert self._seen() == self._before

    def _seen(self):
        stat = self.path.lstat()
        return self.path.read_bytes(), stat.st_mode, stat.st_ino, stat.st_nlink, stat.st_mtime_ns
