"""Which image files lie below a local folder, linked folders among them, and what was passed over."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ae_search.data.sources.image_kinds import PassedOver
from ae_search.data.sources.local_file import read_local
from ae_search.errors import ImageError
from ae_search.image_file.kinds import KIND_BYTES
from ae_search.printable import printable


@dataclass
class Walk:
    """The image files below a folder.

    Attributes:
        files: Paths relative to the folder, with forward slashes, sorted.
        passed_over: Files that are no images.
        unnamable: Names that are not UTF-8, which can be neither keys nor printed.
        twice: Linked folders that lead to one that is read already, or to one above them.
        dangling: Links that lead nowhere.
        special: Pipes, sockets and devices.
        unread: Files and folders that cannot be read, links that lead nowhere among them.
    """

    files: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)
    unnamable: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return what was left out, a sentence for each kind."""
        told = (
            (self.unnamable, "whose names are not valid UTF-8; rename them"),
            (self.twice, "linked folders that lead to a folder that is read already"),
            (self.dangling, "links that lead nowhere"),
            (self.special, "pipes, sockets or devices"),
            ([one for one in self.unread if one not in self.dangling], "that cannot be read"),
        )
        notes = [f"left out {len(some)} {why}, such as {printable(min(some))}" for some, why in told if some]
        return [self.passed_over.sentence(), *notes] if len(self.passed_over) else notes


def walk(root: Path) -> Walk:
    """Look at all files below a folder, without names that begin with a dot.

    Each folder is read once, by its own name where it has one below `root`: links to folders come last.
    """
    found = Walk()
    seen: set[tuple[int, int]] = set()
    links: deque[str] = deque()
    pending = [""]
    while pending or links:
        if not pending:
            # What is linked is looked at when all folders that lie here are read.
            linked = links.popleft()
            (found.twice if _identity(root / linked) in seen else pending).append(linked)
            continue
        folder = pending.pop()
        try:
            seen.add(_identity(root / folder))
            entries = sorted(_entries(root / folder), key=lambda entry: entry.name)
        except OSError:
            found.unread.append(folder or ".")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            _look(entry, path, found, pending, links)
    found.files.sort()
    return found


def _look(entry: "os.DirEntry[str]", path: str, found: Walk, pending: list[str], links: deque[str]) -> None:
    try:
        if entry.is_dir(follow_symlinks=False):
            pending.append(path)
        elif entry.is_dir():
            links.append(path)
        elif any("\ud800" <= letter <= "\udfff" for letter in path):
            found.unnamable.append(path)
        elif entry.is_file():
            if found.passed_over.takes(path, lambda: read_local(entry.path, count=KIND_BYTES)):
                found.files.append(path)
        elif entry.is_symlink() and not os.path.exists(entry.path):
            found.dangling.append(path)
            found.unread.append(path)
        else:
            found.special.append(path)
    except (OSError, ImageError):
        found.unread.append(path)


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        # .DS_Store, ._photo.jpg and the like are no files of the user's.
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino
