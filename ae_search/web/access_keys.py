"""Who may read and who may write: keys from files, and the cookie that the page gets for one."""

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

from ae_search.errors import ConfigurationError
from ae_search.files import read_private

SHORTEST_KEY = 16
LONGEST_KEY = 1024
SESSION_S = 12 * 3600
COOKIE = "ae-search-session"


class Role(IntEnum):
    """What a caller may do."""

    NOBODY = 0
    READER = 1
    WRITER = 2


@dataclass(frozen=True)
class AccessKeys:
    """The keys of a service, as digests; each comparison takes the same time whatever is wrong.

    Attributes:
        readers: Digests of the keys that may read; none where anybody may.
        writers: Digests of the keys that may read and write.
        open_writes: Whether whoever may read may write as well.
    """

    readers: tuple[bytes, ...] = ()
    writers: tuple[bytes, ...] = ()
    open_writes: bool = False

    @classmethod
    def from_files(cls, read: Path | None, write: Path | None, *, open_writes: bool = False) -> Self:
        """Read the keys, one a line.

        Raises:
            ConfigurationError: A file cannot be read, others may read it, or a key is too short to be one.
        """
        return cls(_keys(read, "--read-key-file"), _keys(write, "--write-key-file"), open_writes)

    @property
    def anybody(self) -> Role:
        """What a caller without a key may do."""
        if self.readers:
            return Role.NOBODY
        return Role.WRITER if self.open_writes else Role.READER

    def of_key(self, key: str) -> Role:
        """Return what a key allows."""
        given = _digest(key)
        writes, reads = _is_one_of(given, self.writers), _is_one_of(given, self.readers)
        if writes:
            return Role.WRITER
        return (Role.WRITER if self.open_writes else Role.READER) if reads else Role.NOBODY

    def session(self, role: Role, *, now: float | None = None) -> str:
        """Return a cookie that says so for 12 hours; every process that has the same keys believes it."""
        told = f"{int(role)}.{int((time.time() if now is None else now) + SESSION_S)}"
        return f"{told}.{self._seal(told)}"

    def of_session(self, cookie: str, *, now: float | None = None) -> Role:
        """Return what a cookie allows."""
        told, _, seal = cookie.rpartition(".")
        if not hmac.compare_digest(self._seal(told).encode(), seal.encode(errors="replace")):
            return Role.NOBODY
        role, _, expires = told.partition(".")
        return Role(int(role)) if int(expires) > (time.time() if now is None else now) else Role.NOBODY

    def _seal(self, told: str) -> str:
        # Made of the keys: another machine with the same ones takes the cookie, and a new key ends all sessions.
        secret = hashlib.sha256(b"ae-search session" + b"".join((*self.readers, b"|", *self.writers))).digest()
        return hmac.new(secret, told.encode(errors="replace"), "sha256").hexdigest()


def _keys(path: Path | None, option: str) -> tuple[bytes, ...]:
    if path is None:
        return ()
    try:
        keys = [line.strip() for line in read_private(path, option).decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{option} {path} must hold printable ASCII, one key a line.") from error
    if not keys or not all(SHORTEST_KEY <= len(key) <= LONGEST_KEY and key.isprintable() for key in keys):
        raise ConfigurationError(
            f"{option} {path} must hold one key a line, of at least {SHORTEST_KEY} characters; `openssl rand -hex 32` "
            "makes one."
        )
    return tuple(map(_digest, keys))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="replace")).digest()


def _is_one_of(given: bytes, digests: Sequence[bytes]) -> bool:
    # All of them, so that the time does not tell which.
    return any([hmac.compare_digest(given, digest) for digest in digests])
