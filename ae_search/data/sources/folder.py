"""Image files below a local folder."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from ae_search.data.sources.local_file import local_stamp, read_local
from ae_search.data.sources.source import SourceDefaults, Stamp
from ae_search.data.sources.walking import Walk, walk
from ae_search.errors import ConfigurationError


@dataclass(frozen=True)
class FolderSource(SourceDefaults):
    """Image files below a folder, known by their content.

    Attributes:
        name: The folder's own name; of a part of it "photos[train_*,val_*]".
        root: The folder.
        files: Paths relative to `root`, with forward slashes, sorted.
        labels: The first folder level of each file, None for files that lie directly in `root`.
        found: What was passed over.
    """

    name: str
    root: Path
    files: Sequence[str]
    labels: Sequence[str | None]
    found: Walk = field(default_factory=Walk)

    @classmethod
    def below(cls, root: Path) -> Self:
        """Return all image files below a folder.

        Raises:
            ConfigurationError: There is none.
        """
        found = walk(root)
        if not found.files:
            told = "; ".join(found.notes()) or "it is empty"
            raise ConfigurationError(f"{root} holds no image; {told}.")
        return cls(root.resolve().name, root, found.files, first_levels(found.files), found)

    def __len__(self) -> int:
        """Return the number of image files."""
        return len(self.files)

    @property
    def argument(self) -> str:
        """The folder's whole path."""
        return str(self.root.resolve())

    @property
    def notes(self) -> Sequence[str]:
        """What was passed over."""
        return self.found.notes()

    @property
    def unread(self) -> Sequence[str]:
        """Files and folders that could not be read."""
        return self.found.unread

    def key(self, position: int) -> str:
        """Return the stable key of an image: its path relative to the folder."""
        return self.files[position]

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        return position_among(self.files, key)

    def place(self, position: int) -> str:
        """Return the path of an image."""
        return str(self.path(position))

    def path(self, position: int) -> Path:
        """Return where an image lies."""
        return self.root / self.files[position]

    def read(self, position: int) -> bytes:
        """Return the bytes of an image file."""
        return read_local(self.path(position))

    def stamp(self, position: int) -> Stamp:
        """Return size and time of an image file."""
        return local_stamp(self.path(position))

    def only(self, patterns: Sequence[str]) -> Self:
        """Return the part whose file names match one of some patterns; keys and labels stay as they are.

        Args:
            patterns: At least one, as a shell has them, such as "test_*", for the name without its folders; upper and
                lower case differ.

        Raises:
            ConfigurationError: No file matches.
        """
        kept = matching(self.files, patterns, self.name)
        files, labels = [self.files[at] for at in kept], [self.labels[at] for at in kept]
        return replace(self, name=f"{self.name}[{','.join(patterns)}]", files=files, labels=labels)


def first_levels(files: Sequence[str]) -> list[str | None]:
    """Return the first folder of each path, None where it has none."""
    shared: dict[str, str] = {}  # one text for all that have it
    firsts = (file.partition("/") for file in files)
    return [shared.setdefault(first, first) if slash else None for first, slash, _ in firsts]


def position_among(files: Sequence[str], key: str) -> int | None:
    """Return where a key is among sorted ones, None where it is none of them."""
    position = bisect_left(files, key)
    return position if position < len(files) and files[position] == key else None


def matching(files: Sequence[str], patterns: Sequence[str], name: str) -> list[int]:
    """Return the positions of the files whose names match one of some patterns, folders aside.

    Raises:
        ConfigurationError: There is none.
    """
    if isinstance(patterns, str):
        raise TypeError(f"patterns must be a list of texts. Received: {patterns!r}.")

    def matches(file: str) -> bool:
        return any(fnmatchcase(file.rpartition("/")[2], pattern) for pattern in patterns)

    kept = [at for at, file in enumerate(files) if matches(file)]
    if not kept:
        raise ConfigurationError(
            f"None of the {len(files)} images of {name} has a name like {' '.join(patterns)}, folders aside. "
            f"The first one is {files[0]}."
        )
    return kept
