"""Writes that are all there or not at all, and reads of what nobody else may read."""

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ae_search.errors import ConfigurationError

MAX_SECRET_BYTES = 2**20


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object] | str) -> None:
    """Put a file in place with one rename.

    Args:
        path: Where it goes; an existing file is replaced.
        write: The text, or a function that writes the file at the path it is given (same suffix).
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        if isinstance(write, str):
            temporary.write_text(write, encoding="utf-8")
        else:
            write(temporary)
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `final` that becomes `final` when the block ends without an error.

    Raises:
        FileExistsError: `final` exists already (it is never overwritten).
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=final.parent))
    try:
        yield temporary
        if final.exists():
            raise FileExistsError(f"{final} exists already.")
        temporary.chmod(0o777 & ~umask())  # mkdtemp makes it private; a server may run as another user
        for folder, _, names in os.walk(temporary):
            for name in names:
                _fsync(Path(folder, name))
            _fsync(Path(folder))
        os.rename(temporary, final)
        _fsync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def umask() -> int:
    """Return the permissions that new files of this process lack."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)
    except (OSError, StopIteration):
        # Elsewhere it can only be seen by changing it, for a moment and for all threads.
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


def make_folder(path: Path, purpose: str) -> Path:
    """Make a folder for output.

    Raises:
        ConfigurationError: A file is in the way, or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"Cannot make the {purpose} folder {path}: {error.strerror}.") from error
    return path


def read_private(path: Path | str, name: str) -> bytes:
    """Read a file that holds a secret, of at most 1 MiB.

    Args:
        path: The file; links are followed.
        name: What to call it in an error, such as "--token-file".

    Raises:
        ConfigurationError: It cannot be read, or is not private, see `exposure`.
    """
    try:
        with open(path, "rb") as file:
            if trouble := exposure(os.fstat(file.fileno()), os.geteuid()):
                raise ConfigurationError(f"{name} {path} {trouble}: chmod 600 {shlex.quote(str(path))}.")
            return file.read(MAX_SECRET_BYTES)
    except OSError as error:
        raise ConfigurationError(f"{name} {path} cannot be read: {error.strerror}.") from error


def exposure(status: os.stat_result, caller: int) -> str | None:
    """Return who else than its owner may use a file that holds a secret, None if that is as it should be.

    As ssh treats private keys: it belongs to the caller, and nobody else may read or write it. It may also belong to
    root, who can read everything anyway; then a group may read it, too, which is how Kubernetes mounts secrets for
    containers that are not root, and Debian keeps keys for servers.

    Args:
        status: Of the file.
        caller: User id; root may use the files of all users.
    """
    if caller != 0 and status.st_uid not in (0, caller):
        return f"belongs to user {status.st_uid}, who is neither you nor root; make it your own, chown, and private"
    if status.st_mode & (0o027 if status.st_uid == 0 else 0o077):
        return f"has mode {stat.S_IMODE(status.st_mode):04o}, with which others may use the secret; make it private"
    return None
