"""Images of one size, in memory: the built-in data sets, and arrays of a user's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.data.sources.source import Pixels, SourceDefaults


@dataclass(frozen=True)
class ArraySource(SourceDefaults):
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
    def argument(self) -> str:
        """The name of the data set."""
        return self.name

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
        position = number_of(number) if name == self.name else None
        return position if position is not None and position < len(self) else None

    def place(self, position: int) -> str:
        """Return the key, which says where an image is."""
        return self.key(position)

    def read(self, position: int) -> Pixels:
        """Return the pixels of an image."""
        pixels: Pixels = self.images[position]
        return pixels


def number_of(text: str) -> int | None:
    """Return the number that a key ends in, None where it is not written as `str` writes it."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or (text[0] == "0" and text != "0"):
        return None
    return int(text)
