"""What a SOURCE on the command line stands for: a built-in data set or a folder of images."""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ae_search.data.builtin import BUILTIN, SPLITS, load_builtin
from ae_search.errors import ConfigurationError
from ae_search.image_file import SUFFIXES


@dataclass(frozen=True)
class ArraySource:
    """Images of one size, in memory.

    Attributes:
        name: Name of the source, for example "fashion_mnist/test".
        images: uint8 `[n, h, w, c]`.
        labels: One label an image, or None.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: Sequence[str | None]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in px, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def key(self, position: int) -> str:
        """Return the stable key of an image, for example "fashion_mnist/test/17"."""
        return f"{self.name}/{position}"

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        name, _, number = key.rpartition("/")
        if name != self.name or not number.isdecimal() or len(number) > 10:
            return None
        position = int(number)
        return position if position < len(self) and self.key(position) == key else None


@dataclass(frozen=True)
class FolderSource:
    """Image files below a folder.

    Attributes:
        name: The folder's own name; of a part of it "photos[train_*,val_*]".
        root: The folder.
        files: Paths relative to `root`, with forward slashes, sorted.
        labels: The first folder level of each file, None for files that lie directly in `root`.
        skipped: Number of files that are no images by their suffix.
    """

    name: str
    root: Path
    files: Sequence[str]
    labels: Sequence[str | None]
    skipped: int

    def __len__(self) -> int:
        """Return the number of image files."""
        return len(self.files)

    def key(self, position: int) -> str:
        """Return the stable key of an image: its path relative to the folder."""
        return self.files[position]

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        position = bisect_left(self.files, key)
        return position if position < len(self) and self.files[position] == key else None

    def path(self, position: int) -> Path:
        """Return where an image lies."""
        return self.root / self.files[position]

    def only(self, patterns: Sequence[str]) -> Self:
        """Return the part whose file names match one of some patterns; keys and labels stay as they are.

        Args:
            patterns: At least one, as a shell has them, such as "test_*", for the name without its folders; upper and
                lower case differ.

        Raises:
            ConfigurationError: No file matches.
        """
        if isinstance(patterns, str):
            raise TypeError(f"patterns must be a list of texts. Received: {patterns!r}.")
        kept = [at for at, file in enumerate(self.files) if _matches(file, patterns)]
        if not kept:
            raise ConfigurationError(
                f"None of the {len(self)} images of {self.name} has a name like {' '.join(patterns)}, folders aside. "
                f"The first one is {self.files[0]}."
            )
        files, labels = [self.files[at] for at in kept], [self.labels[at] for at in kept]
        return replace(self, name=f"{self.name}[{','.join(patterns)}]", files=files, labels=labels)


Source = ArraySource | FolderSource


def open_source(text: str, *, only: Sequence[str] = ()) -> Source:
    """Return the source that a SOURCE argument names.

    Args:
        text: A built-in name with an optional split ("fashion_mnist" is "fashion_mnist/train"), or a folder of
            images. A folder that has the name of a built-in is written "./digits".
        only: Patterns of file names, for a part of a folder; see `FolderSource.only`. Without any, all of it.

    Raises:
        ConfigurationError: It is neither, or holds no image, or patterns are given and it is no folder or has no file
            of such a name.
    """
    name, _, split = text.partition("/")
    if name in BUILTIN and (split in SPLITS or not split):
        if only:
            raise ConfigurationError(f"--only chooses files of a folder. Received: {' '.join(only)}, for {text}.")
        split = split or "train"
        images, labels = load_builtin(name, split)
        return ArraySource(f"{name}/{split}", images, labels)
    if name in BUILTIN and not Path(text).is_dir():
        raise ConfigurationError(f"{name} has the splits {' and '.join(SPLITS)}. Received: {text!r}.")
    folder = _scan_folder(text)
    return folder.only(only) if only else folder


def source_name(source: Source) -> str:
    """Return the SOURCE argument that opens a source again, from any working directory; all of a folder."""
    return source.name if isinstance(source, ArraySource) else str(source.root.resolve())


def _matches(file: str, patterns: Sequence[str]) -> bool:
    name = file.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _scan_folder(text: str) -> FolderSource:
    root = Path(text)
    if not root.is_dir():
        raise ConfigurationError(
            f"SOURCE must be one of {', '.join(sorted(BUILTIN))}, or a folder of images. "
            f"Received: {text!r}, which is {'a file' if root.exists() else 'neither a built-in name nor a folder'}."
        )
    files: list[str] = []
    skipped = 0
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue  # .DS_Store, ._photo.jpg and the like are no files of the user's
            if Path(name).suffix.lower() in SUFFIXES:
                files.append(Path(folder, name).relative_to(root).as_posix())
            else:
                skipped += 1
    files = sorted(_encodable(files))
    if not files:
        raise ConfigurationError(
            f"{root} holds no image ({', '.join(sorted(SUFFIXES))}); {skipped} other files were skipped."
        )
    labels = [file.split("/")[0] if "/" in file else None for file in files]
    return FolderSource(root.resolve().name, root, files, labels, skipped)


def _encodable(files: list[str]) -> list[str]:
    """Leave out names that are no valid UTF-8: they could be neither a key nor printed."""
    good = [file for file in files if not any("\ud800" <= letter <= "\udfff" for letter in file)]
    if len(good) < len(files):
        bad = next(file for file in files if file not in set(good))
        raise ConfigurationError(f"The file name {bad.encode(errors='replace')!r} is not valid UTF-8; rename it.")
    return good


def class_counts(source: Source) -> dict[str, int]:
    """Return how many images each label has, sorted by label; empty where nothing is labelled."""
    counts: Counter[str] = Counter(label for label in source.labels if label is not None)
    return dict(sorted(counts.items()))


def summary(source: Source) -> dict[str, Any]:
    """Return name, number of images and number of classes, as a model card tells them."""
    return {"source": source.name, "images": len(source), "classes": len(class_counts(source))}
