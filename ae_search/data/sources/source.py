"""What a source of images is, whatever it lies in: a folder, arrays, records, a table or a data set."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ae_search.errors import ImageError

# uint8 `[h, w, c]`.
Pixels = npt.NDArray[np.uint8]


class Stamp(NamedTuple):
    """What is known of an image file before it is read.

    Attributes:
        size: Its bytes.
        time_ns: When it was last written, in ns since 1970; 0 where that is not known.
    """

    size: int
    time_ns: int = 0


class Source(Protocol):
    """Images with a key, and maybe a label and metadata. They are read one by one; none stays in memory."""

    @property
    def name(self) -> str:
        """Short name, for people and for a model card."""

    @property
    def argument(self) -> str:
        """The SOURCE argument that opens all of it again, from any working directory."""

    @property
    def labels(self) -> Sequence[str | None]:
        """One label an image, or None."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height and width in px, channels, where all images are pixels of one size; None elsewhere."""

    @property
    def any_order(self) -> bool:
        """Whether images can be read in any order; else each step back reads again from the beginning."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of it, such as what was passed over: one sentence each."""

    @property
    def unread(self) -> Sequence[str]:
        """Parts of it that could not be read: what was there before need not be gone."""

    def __len__(self) -> int:
        """Return the number of images."""

    def key(self, position: int) -> str:
        """Return the stable key of an image."""

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""

    def place(self, position: int) -> str:
        """Return where an image lies, for messages."""

    def path(self, position: int) -> Path | None:
        """Return the image's own local file, None where it has none."""

    def read(self, position: int) -> bytes | Pixels:
        """Return the bytes of an image file as they are, or pixels.

        Raises:
            ImageError: It is gone, damaged or too large.
            ConfigurationError: The place where the images lie does not answer.
        """

    def metadata(self, position: int) -> dict[str, Any] | None:
        """Return what the source says of an image beside its label."""

    def stamp(self, position: int) -> Stamp | None:
        """Return what is known of an image file without reading it; None where that is nothing.

        Raises:
            ImageError: It is gone.
        """


class SourceDefaults:
    """What holds for most kinds of sources."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """None: images of any size."""
        return None

    @property
    def any_order(self) -> bool:
        """Whether images can be read in any order."""
        return True

    @property
    def notes(self) -> Sequence[str]:
        """Nothing to tell."""
        return ()

    @property
    def unread(self) -> Sequence[str]:
        """All of it was read."""
        return ()

    def path(self, position: int) -> Path | None:
        """Return None: an image has no file of its own."""
        return None

    def metadata(self, position: int) -> dict[str, Any] | None:
        """Return None: there are no metadata."""
        return None

    def stamp(self, position: int) -> Stamp | None:
        """Return None: nothing is known before an image is read."""
        return None


def source_name(source: Source) -> str:
    """Return the SOURCE argument that opens a source again, from any working directory; all of a folder."""
    return source.argument


def class_counts(source: Source) -> dict[str, int]:
    """Return how many images each label has, sorted by label; empty where nothing is labelled."""
    counts: Counter[str] = Counter(label for label in source.labels if label is not None)
    return dict(sorted(counts.items()))


def summary(source: Source) -> dict[str, Any]:
    """Return name, number of images and number of classes, as a model card tells them."""
    return {"source": source.name, "images": len(source), "classes": len(class_counts(source))}


def damaged(place: str, reason: str) -> ImageError:
    """Return the error for an image that cannot be read."""
    return ImageError(f"{place}: {reason}.")
