"""The index folder as a writer sees it: may it be written, by whom, and how a generation goes live."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ae_search.errors import AeSearchError, ConfigurationError, IndexBusyError
from ae_search.files import LEFTOVER, discard, locked, make_folder, open_regular, remove_leftovers, write_atomically
from ae_search.index.manifest import CURRENT, GENERATION, Manifest, live_generation
from ae_search.index.store.following import EPOCH, changing

_LOCK = ".lock"
_OURS = re.compile(rf"{re.escape(_LOCK)}|{re.escape(EPOCH)}|{CURRENT}|{GENERATION.pattern}|{LEFTOVER.pattern}")
_POLL_S = 0.05
_OWNER_BYTES = 60


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
    try:
        remove_leftovers(index)
        # Without a generation that is live, one of the others may be all that is left of the index.
        with suppress(AeSearchError):
            live = live_generation(index)
            remove_leftovers(live)
            _remove_others(live)
    except OSError as error:
        raise ConfigurationError(f"Cannot write an index to {index}: {error}.") from error


def _remove_others(generation: Path) -> None:
    for entry in generation.parent.iterdir():
        if GENERATION.fullmatch(entry.name) and entry != generation:
            discard(entry)


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    with ExitStack() as stack:
        descriptor = _lock(path, deadline, stack)
        with suppress(OSError):  # on a full disk the lock holds without its owner's name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode("ascii"), 0)
        yield


def _lock(path: Path, deadline: float, stack: ExitStack) -> int:
    """Take the lock, for as long as the stack lasts, and return its descriptor."""
    while True:
        try:
            return stack.enter_context(locked(path))
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConfigurationError(f"Cannot lock {path} to write the index: {error.strerror}.") from error
        if time.monotonic() >= deadline:
            raise IndexBusyError(
                f"{path.parent} is being written by process {_owner(path)}; wait for it (--wait SECONDS)."
            )
        time.sleep(_POLL_S)


def _owner(path: Path) -> str:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return file.read(_OWNER_BYTES).decode("ascii", "replace").strip() or "another"
    except OSError:
        return "another"


def _contents(index: Path) -> str:
    try:
        manifest = Manifest.read(live_generation(index))
    except AeSearchError:
        return "an index that cannot be read"
    return f"an index of {manifest.items} items of model {manifest.model.name!r} version {manifest.model.version}"
