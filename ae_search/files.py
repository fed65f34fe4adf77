"""Files that are opened with precautions, locks, secrets that are private, and writes that are all there or not at all.

What remains after the checks: who may write in a folder at this very moment can exchange a file between the check and
an opening by its name, as SQLite and Annoy do it. Such a neighbour could alter the bytes below a reader as well.
"""

import errno
import fcntl
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_search.errors import ConfigurationError

MAX_SECRET_BYTES = 2**20
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# As `tempfile.mkdtemp` names what `write_atomically` and `new_folder` work in; it stays when the process is killed.
_PREFIX = ".tmp-"
# HDF5, SQLite and TensorFlow keep the number of the error to themselves.
_FULL = re.compile(r"no space left on device|disk (?:is )?full|quota exceeded", re.IGNORECASE)
LEFTOVER = re.compile(rf"{re.escape(_PREFIX)}[a-z0-9_]{{8}}")


def regular_stat(path: str | Path) -> os.stat_result:
    """Return what `os.lstat` says of a regular file.

    Raises:
        OSError: It is missing, or a link, a folder, a pipe, a socket or a device.
    """
    found = os.lstat(path)
    _check_regular(path, found)
    return found


def open_regular(path: Path, *, writable: bool = False, create: bool = False) -> int:
    """Open a regular file that a stranger may have put there; never wait, never follow a link in its last place.

    Args:
        path: The file.
        writable: Whether to open it for reading and writing. Then it must have no other name: a hard link to a file of
            the user would be written as well.
        create: Whether to make it, empty, where there is none.

    Returns:
        A descriptor, to be closed by the caller.

    Raises:
        OSError: It cannot be opened, or is a link, a folder, a pipe, a socket or a device, or has another name.
    """
    # Before it is opened, which has effects of its own on a device.
    with suppress(FileNotFoundError):
        regular_stat(path)
    flags = (os.O_RDWR if writable else os.O_RDONLY) | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        found = os.fstat(descriptor)
        _check_regular(path, found)
        if writable:
            check_one_name(path, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_one_name(path: Path, found: os.stat_result) -> None:
    """Check that a file has no second name, below which it would change with the first.

    Raises:
        OSError: It has one.
    """
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name (a hard link) that would change with it; copy it", str(path))


def _check_regular(path: str | Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "a device")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object] | str | bytes) -> None:
    """Put a file in place with one rename.

    It is written in a new folder beside its place, which nobody else may enter, so that no name is there already.

    Args:
        path: Where it goes; an existing file is replaced, and so is a link, whose target stays as it is.
        write: The content, or a function that writes the file at the path it is given (same name).
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=path.parent))
    try:
        temporary = folder / path.name
        if isinstance(write, str):
            write = write.encode("utf-8")
        if isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            write(temporary)
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trouble_in_words(error: Exception) -> str:
    """Return why something could not be written, and what to do about a full disk, in words without a full stop.

    Args:
        error: An OSError, or what SQLite, HDF5 or TensorFlow makes of one.
    """
    if is_full_disk(error):
        return "the disk is full; make room, and run the same command again"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error, whoever raised it, says that a disk or a quota is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or bool(_FULL.search(str(error)))


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `final` that becomes `final` when the block ends without an error.

    Raises:
        FileExistsError: `final` exists already (it is never overwritten).
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=final.parent))
    try:
        yield temporary
        if os.path.lexists(final):
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


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder; for the one who holds its lock."""
    for entry in folder.iterdir():
        if LEFTOVER.fullmatch(entry.name):
            discard(entry)


def discard(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it, as far as that is possible."""
    if is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


_held: dict[object, int] = {}


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold the lock on a file, which is made where there is none; yields its descriptor, open for reading and writing.

    Args:
        path: The file.
        wait: Whether to wait while another process or another opening of this one holds it.

    Raises:
        BlockingIOError: Another one holds it.
        OSError: The file cannot be opened or locked, or is no regular file of one name.
    """
    held = object()
    _held[held] = descriptor = _lock(path, wait)
    try:
        yield descriptor
    finally:
        # A forked child shares the lock and comes by here as well, but only its parent may let go of it; by then, and
        # whatever children live on, nobody holds it.
        if (mine := _held.pop(held, None)) is not None:
            fcntl.flock(mine, fcntl.LOCK_UN)
            os.close(mine)


def _lock(path: Path, wait: bool) -> int:
    while True:
        descriptor = open_regular(path, writable=True, create=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_there = os.fstat(descriptor).st_nlink > 0
        except BaseException:
            os.close(descriptor)
            raise
        if is_there:
            return descriptor
        os.close(descriptor)  # its owner failed just now and removed it


def _forget_locks() -> None:
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


# Else a child that outlives a killed parent would hold the lock in its name.
os.register_at_fork(after_in_child=_forget_locks)


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
        raise ConfigurationError(f"Cannot make the {purpose} folder {path}: {trouble_in_words(error)}.") from error
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
        status: What `os.stat` says of the file.
        caller: User id; root may use the files of all users.
    """
    if caller != 0 and status.st_uid not in (0, caller):
        return f"belongs to user {status.st_uid}, who is neither you nor root; make it your own, chown, and private"
    if status.st_mode & (0o027 if status.st_uid == 0 else 0o077):
        return f"has mode {stat.S_IMODE(status.st_mode):04o}, with which others may use the secret; make it private"
    return None
