"""The index folder as a writer sees it: may it be written, by whom, and how a generation goes live."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.files import make_folder, write_atomically
from ae_search.index.manifest import CURRENT, GENERATION, Manifest, live_generation

_LOCK = ".lock"
# What `files.new_folder` and `files.write_atomically` leave behind when the process is killed.
_LEFTOVER = re.compile(rf"\.tmp-([a-z0-9_]{{8}}|\d+-{CURRENT})")
_OURS = re.compile(rf"{re.escape(_LOCK)}|{CURRENT}|{GENERATION.pattern}|{_LEFTOVER.pattern}")


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
def sole_writer(index: Path) -> Iterator[None]:
    """Make the folder and hold its lock; a folder that was new is removed again when the block fails.

    Raises:
        ConfigurationError: Another process writes the index, or the folder cannot be written.
    """
    is_new = not index.exists()
    make_folder(index, "index")
    with _locked(index / _LOCK):
        try:
            yield
        except BaseException:
            if not (index / CURRENT).exists():
                (index / _LOCK).unlink(missing_ok=True)
                if is_new:
                    with suppress(OSError):
                        index.rmdir()
            raise


def next_generation(index: Path) -> Path:
    """Return the folder of the generation to write, after removing what a killed writer left behind."""
    numbers = [0]
    for entry in index.iterdir():
        if match := GENERATION.fullmatch(entry.name):
            numbers.append(int(match[1]))
        elif _LEFTOVER.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    return index / f"generation-{max(numbers) + 1:06d}"


def make_live(generation: Path) -> None:
    """Let CURRENT name a published generation and remove all others."""
    index = generation.parent
    try:
        write_atomically(index / CURRENT, f"{generation.name}\n")
    except BaseException:
        shutil.rmtree(generation, ignore_errors=True)
        raise
    for entry in index.iterdir():
        if GENERATION.fullmatch(entry.name) and entry != generation:
            # Readers that have the old one open keep its files until they close them.
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(f"Cannot write an index to {path.parent}: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise ConfigurationError(f"{path.parent} is being written by process {owner}; wait for it.") from None
        except OSError as error:
            raise ConfigurationError(f"Cannot lock {path}: {error.strerror}.") from error
        if not os.fstat(descriptor).st_nlink:  # its owner failed just now and removed it
            raise ConfigurationError(f"{path.parent} was being written by another process; try again.")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _contents(index: Path) -> str:
    try:
        manifest = Manifest.read(live_generation(index))
    except AeSearchError:
        return "an index that cannot be read"
    return f"an index of {manifest.items} items of model {manifest.model.name!r} version {manifest.model.version}"
