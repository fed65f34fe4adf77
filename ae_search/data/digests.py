"""What an index stores of an item's picture, so that a later look tells whether it has changed, and whose it is."""

import hashlib
from typing import NamedTuple, Self

from ae_search.data.sources import Pixels, Source, Stamp, source_name

_ALGORITHM = "sha256"
_SOURCE_LETTERS = 16


class ItemDigest(NamedTuple):
    """The digest of an item, as one text of at most 128 characters.

    Attributes:
        content: Hex sha256 of the bytes of the image file, or of shape and pixels.
        stamp: Size, and the time when the file was last written.
        source: The beginning of the hex sha256 of the name of the source that the item came from.
    """

    content: str
    stamp: Stamp
    source: str

    @classmethod
    def of(cls, image: bytes | Pixels, stamp: Stamp | None, source: str) -> Self:
        """Return the digest of a picture.

        Args:
            image: The bytes of an image file, or pixels.
            stamp: What was known of the file before it was read.
            source: What `source_tag` returns.
        """
        size = len(image) if isinstance(image, bytes) else image.nbytes
        return cls(content_digest(image), Stamp(size, stamp.time_ns if stamp else 0), source)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Return what a stored text says, None where there is none, or one of somebody else's."""
        algorithm, *parts = (text or "").split(":")
        if algorithm != _ALGORITHM or len(parts) != 4:
            return None
        content, size, time_ns, source = parts
        numbers = (size, time_ns)
        if not all(number.isascii() and number.isdecimal() and len(number) <= 20 for number in numbers):
            return None
        return cls(content, Stamp(int(size), int(time_ns)), source)

    def __str__(self) -> str:
        """Return the text that is stored."""
        return f"{_ALGORITHM}:{self.content}:{self.stamp.size}:{max(0, self.stamp.time_ns)}:{self.source}"


# Images that were sent to the service say this of themselves: no source has them, so none can miss them.
SENT = "web"


def content_digest(image: bytes | Pixels) -> str:
    """Return the hex sha256 of the bytes of an image file, or of shape and pixels."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def source_tag(source: Source | str) -> str:
    """Return what the digests of a source's items call it."""
    name = source if isinstance(source, str) else source_name(source)
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:_SOURCE_LETTERS]
