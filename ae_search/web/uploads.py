"""Images that callers sent, kept on disk for a while by digest, so that the address of a search can be passed on."""

import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from ae_search.web.options import UploadOptions

_DIGEST = re.compile(r"[0-9a-f]{64}")
# What a writer that was killed leaves behind.
_UNFINISHED = ".unfinished-"
_UNFINISHED_S = 600.0


def is_digest(text: str) -> bool:
    """Return whether a text can be the digest of an image; nothing else becomes a file's name."""
    return _DIGEST.fullmatch(text) is not None


class Uploads:
    """The images that are kept; the folder is the only state, so that all processes have the same.

    All methods block. The bounds hold after each `keep`, whichever process calls it.
    """

    def __init__(self, folder: Path, options: UploadOptions) -> None:
        """Take a folder, which is made where it is not there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._options = folder, options

    def keep(self, image: bytes) -> str | None:
        """Keep an image; return its digest, None where it alone is larger than what is kept.

        Args:
            image: The bytes of a file.

        Raises:
            OSError: The disk is full.
        """
        if len(image) > self._options.most_bytes:
            return None
        digest = hashlib.sha256(image).hexdigest()
        path = self._folder / digest
        try:
            os.utime(path)
        except FileNotFoundError:
            unfinished = self._folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
            try:
                with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(image)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        self._make_room(digest)
        return digest

    def read(self, digest: str) -> bytes | None:
        """Return the bytes of an image, None where it is not kept any more."""
        if not is_digest(digest):
            return None
        path = self._folder / digest
        try:
            if path.stat().st_mtime < time.time() - self._options.kept_s:
                path.unlink(missing_ok=True)
                return None
            image = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        return image

    def _make_room(self, newest: str) -> None:
        now, kept, size = time.time(), 0, 0
        with os.scandir(self._folder) as entries:
            found = []
            for entry in entries:
                with suppress(FileNotFoundError):  # another process was faster
                    status = entry.stat(follow_symlinks=False)
                    found.append((entry.name != newest, -status.st_mtime, entry.name, status.st_size))
        for is_older, minus_time, name, its_size in sorted(found):
            age = now + minus_time
            if name.startswith(_UNFINISHED):
                if age > _UNFINISHED_S:
                    (self._folder / name).unlink(missing_ok=True)
                continue
            if not is_digest(name):
                continue
            kept, size = kept + 1, size + its_size
            beyond = kept > self._options.most or size > self._options.most_bytes or age > self._options.kept_s
            if is_older and beyond:
                (self._folder / name).unlink(missing_ok=True)
                kept, size = kept - 1, size - its_size
