"""From the images of a source to what an index takes of them: latents, keys, labels, thumbnails."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ae_search.contract import Encoder, Latents, OnItems
from ae_search.data import ArraySource, Source
from ae_search.data.digests import ItemDigest, source_tag
from ae_search.data.sources import Pixels
from ae_search.errors import ConfigurationError, ImageError, ImageRefusedError
from ae_search.image_file import check_image, pixels_to_png, thumbnail

log = logging.getLogger(__name__)

ARRAY_BLOCK = 2048
# Files of a block are in memory together: 64 photographs of 5 MB are 320 MB.
FILE_BLOCK = 64
# Without thumbnails the encoder reads the files itself, few at a time.
PATH_BLOCK = 512


@dataclass(frozen=True)
class EncodedBlock:
    """Encoded images.

    Attributes:
        latents: Float32 `[n, d]`.
        keys: n keys.
        labels: n labels, None where an image has none.
        thumbnails: n JPEG files; none where none were asked for.
        digests: n digests; none where no thumbnails were asked for.
        metadata: What the source says of each image beside its label, None where it says nothing.
    """

    latents: Latents
    keys: list[str]
    labels: list[str | None]
    thumbnails: list[bytes]
    digests: list[str]
    metadata: list[dict[str, Any] | None]


@dataclass
class SourceEncoder:
    """Encodes images of a source, block by block, and takes note of those that cannot be read.

    Attributes:
        source: The images.
        encoder: Served or in this process, pinned to a version.
        image_shape: Height and width in px, channels, as its model takes them.
        thumbnails: Whether to make thumbnails and digests.
        damaged: Key and reason of each image that was left out so far because it cannot be read.
        refused: The same of those that the server refused, although they can be decoded here: to be tried again.
    """

    source: Source
    encoder: Encoder
    image_shape: tuple[int, int, int]
    thumbnails: bool = True
    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def blocks(self, positions: Sequence[int], on_progress: OnItems) -> Iterator[EncodedBlock]:
        """Yield the images at some positions, encoded, as many as one request or the memory should take."""
        size = ARRAY_BLOCK if isinstance(self.source, ArraySource) else FILE_BLOCK if self.thumbnails else PATH_BLOCK
        for start in range(0, len(positions), size):
            chosen = positions[start : start + size]
            block = self._encode(chosen)
            if block.keys:
                yield block
            on_progress(len(chosen))

    def _encode(self, positions: Sequence[int]) -> EncodedBlock:
        source, image_shape = self.source, self.image_shape
        images: dict[int, Any] = {}
        thumbnails: dict[int, bytes] = {}
        digests: dict[int, str] = {}
        tag = source_tag(source)
        for position in positions:
            try:
                path = None if self.thumbnails else source.path(position)
                if path is not None:
                    images[position] = path
                    continue
                stamp = source.stamp(position)  # first: what is written meanwhile counts as changed
                image = source.read(position)
                _check(image, source.place(position))
                if self.thumbnails:
                    thumbnails[position] = thumbnail(image, source.place(position))
                    digests[position] = str(ItemDigest.of(image, stamp, tag))
                images[position] = _as_sent(image, image_shape if source.image_shape == image_shape else None)
            except ImageError as error:
                self._leave_out(position, error)
        read = list(images)
        if isinstance(source, ArraySource) and source.image_shape == image_shape:
            latents = self.encoder.encode(np.stack([images[position] for position in read]))
        else:
            bad: dict[int, ImageError] = {}
            latents = self.encoder.encode_files(list(images.values()), on_bad=bad.__setitem__)
            for at, reason in bad.items():
                self._leave_out(read[at], reason)
            read = [position for at, position in enumerate(read) if at not in bad]
        return EncodedBlock(
            latents,
            [source.key(position) for position in read],
            [source.labels[position] for position in read],
            [thumbnails[position] for position in read if self.thumbnails],
            [digests[position] for position in read if self.thumbnails],
            [source.metadata(position) for position in read],
        )

    def _leave_out(self, position: int, error: ImageError) -> None:
        key = self.source.key(position)
        (self.refused if isinstance(error, ImageRefusedError) else self.damaged)[key] = str(error)
        log.warning("left out %s: %s", key, error)

    def check_some_were_read(self, positions: Sequence[int]) -> None:
        """Check that not every image was left out.

        Raises:
            ConfigurationError: None of them can be read.
            ImageRefusedError: The server took none of those that can be.
        """
        if not positions or len(self.damaged) + len(self.refused) < len(positions):
            return
        if self.refused:
            key, reason = next(iter(self.refused.items()))
            raise ImageRefusedError(f"No image of {self.source.name} was taken. {key}: {reason}")
        raise ConfigurationError(f"None of the {len(positions)} images of {self.source.name} can be read.")


def _check(image: bytes | Pixels, place: str) -> None:
    if isinstance(image, bytes):
        check_image(image, place)


def _as_sent(image: bytes | Pixels, shape: tuple[int, int, int] | None) -> bytes | Pixels:
    """Return what to send: the bytes of a file, or pixels of the model's size."""
    # Of another size than the model's: the model's own decode resizes it.
    return pixels_to_png(image) if isinstance(image, np.ndarray) and image.shape != shape else image
