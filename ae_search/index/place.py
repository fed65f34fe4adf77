"""The index folder as a writer sees it: may it be written, by whom, and how a generation goes live."""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ae_search.errors import AeSearchError, ConfigurationError, IndexBusyError
from ae_search.files import make_folder, write_atomically
from ae_search.index.epoch import EPOCH, changing
from ae_search.index.manifest import CURRENT, GENERATION, Manifest, live_generation

_LOCK = ".lock"
# What `files.new_folder` and `files.write_atomically` leave behind when the process is killed.
_LEFTOVER = re.compile(rf"\.tmp-([a-z0-9_]{{8}}|\d+-({CURRENT}|{re.escape(EPOCH)}))")
_OURS = re.compile(rf"{re.escape(_LOCK)}|{re.escape(EPOCH)}|{CURRENT}|{GENERATION.pattern}|{_LEFTOVER.pattern}")
_POLL_S = 0.05


def check_place(index: Path, *, replace: bool) -> None:
    """Refuse a place that must not be written.

    Raises:
        ConfigurationError: It is no folder, holds other files, or holds an index and `replace` is False.
    """
    try:
        names = os.listdir(index)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"Cannot write an index to {index}: {error.strerror}.") from error
    foreign = sorted(name for name in names if not _OURS.fullmatch(name))
    if foreign:
        raise ConfigurationError(f"{index} is no index and not empty (it holds {foreign[0]!r}); name another folder.")
    if not replace and any(name == CURRENT or GENERATION.fullmatch(name) for name in names):
        raise ConfigurationError(f"{index} holds {_contents(index)}; pass --replace to build it anew.")


@contextmanager
def sole_writer(index: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Make the folder and hold its lock; a folder that was new is removed again when the block fails.

    Args:
        index: The index folder.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ConfigurationError: The folder cannot be written.
    """
    is_new = not index.exists()
    make_folder(index, "index")
    with _locked(index / _LOCK, time.monotonic() + wait_s):
        try:
            _clear_leftovers(index)
            yield
        except BaseException:
            if not (index / CURRENT).exists():
                for name in (EPOCH, _LOCK):
                    (index / name).unlink(missing_ok=True)
                if is_new:
                    with suppress(OSError):
                        index.rmdir()
            raise


def next_generation(index: Path) -> Path:
    """Return the folder of the generation to write."""
    numbers = [int(match[1]) for entry in index.iterdir() if (match := GENERATION.fullmatch(entry.name))]
    return index / f"generation-{max(numbers, default=0) + 1:06d}"


def make_live(generation: Path) -> None:
    """Let CURRENT name a published generation and remove all others."""
    index = generation.parent
    try:
        with changing(index):
            write_atomically(index / CURRENT, f"{generation.name}\n")
    except BaseException:
        # It may be live all the same: the rename is done before the folder is known to be on disk.
        with suppress(AeSearchError):
            if live_generation(index) == generation:
                raise
        shutil.rmtree(generation, ignore_errors=True)
        raise
    # Readers that have the old one open keep its files until they have followed.
    _remove_others(generation)


def _clear_leftovers(index: Path) -> None:
    """Remove what a killed writer left behind."""
    for entry in index.iterdir():
        if _LEFTOVER.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    # Without a generation that is live, one of the others may be all that is left of the index.
    with suppress(AeSearchError):
        _remove_others(live_generation(index))


def _remove_others(generation: Path) -> None:
    for entry in generation.parent.iterdir():
        if GENERATION.fullmatch(entry.name) and entry != generation:
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    descriptor = _lock(path, deadline)
    try:
        with suppress(OSError):  # on a full disk the lock holds without its owner's name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, deadline: float) -> int:
    """Return a descriptor that holds the lock."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(f"Cannot write an index to {path.parent}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # its owner failed just now and removed it
            continue
        except BlockingIOError:
            owner = os.pread(descriptor, 60, 0).decode("ascii", "replace").strip() or "another"
        except OSError as error:
            os.close(descriptor)
            raise ConfigurationError(f"Cannot lock {path}: {error.strerror}.") from error
        os.close(descriptor)
        if time.monotonic() >= deadline:
            raise IndexBusyError(f"{path.parent} is being written by process {owner}; wait for it (--wait SECONDS).")
        time.sleep(_POLL_S)


def _contents(index: Path) -> str:
    try:
        manifest = Manifest.read(live_generation(index))
    except AeSearchError:
        return "an index that cannot be read"
    return f"an index of {manifest.items} items of model {manifest.model.name!r} version {manifest.model.version}"
