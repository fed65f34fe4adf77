"""From the images of a source to what an index takes of them: latents, keys, labels, thumbnails."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Encoder, Latents, OnItems
from ae_search.data import ArraySource, Source
from ae_search.data.digests import ItemDigest, source_tag
from ae_search.errors import ConfigurationError, ImageError, ImageRefusedError
from ae_search.image_file import TRUNCATED, for_graph, pixels_to_png, thumbnail, truncated
from ae_search.regions import Regions

log = logging.getLogger(__name__)

ARRAY_BLOCK = 2048
# Thumbnails take their time, and an index is written block by block.
FILE_BLOCK = 64
FILE_BLOCK_WITHOUT_THUMBNAILS = 512
# Files of a block are in memory together.
BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class EncodedBlock:
    """Encoded images.

    Attributes:
        latents: Float32 `[n, d]`, or `[n, r, d]` where there are latents of regions, the whole first.
        keys: n keys.
        labels: n labels, None where an image has none.
        thumbnails: n JPEG files, None where an image has none; empty where none were asked for.
        digests: n digests, None where an image has none; empty where no thumbnails were asked for.
        metadata: What the source says of each image beside its label, None where it says nothing.
    """

    latents: Latents
    keys: list[str]
    labels: list[str | None]
    thumbnails: Sequence[bytes | None]
    digests: Sequence[str | None]
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
        strict: Whether JPEG files that are cut short count as damaged.
        truncated: Keys of those that were encoded from the part that is there.
        regions: How to cut the regions of each image, None for the whole only.
    """

    source: Source
    encoder: Encoder
    image_shape: tuple[int, int, int]
    thumbnails: bool = True
    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    strict: bool = False
    truncated: list[str] = field(default_factory=list)
    regions: Regions | None = None

    def blocks(self, positions: Sequence[int], on_progress: OnItems) -> Iterator[EncodedBlock]:
        """Yield the images at some positions, encoded, as many as one request or the memory should take."""
        for batch in self._batches(positions):
            block = self._encode(batch)
            if block.keys:
                yield block
            on_progress(batch.passed)

    def _batches(self, positions: Sequence[int]) -> Iterator["_Batch"]:
        """Read the images at some positions, and yield them by batches of bounded number and size."""
        of_files = FILE_BLOCK if self.thumbnails else FILE_BLOCK_WITHOUT_THUMBNAILS
        size = ARRAY_BLOCK if isinstance(self.source, ArraySource) else of_files
        batch = _Batch()
        for position in positions:
            try:
                self._read(position, batch)
            except ImageError as error:
                self._leave_out(position, error)
            batch.passed += 1
            if batch.passed == size or batch.held_bytes >= BLOCK_BYTES:
                yield batch
                batch = _Batch()
        if batch.passed:
            yield batch

    def _read(self, position: int, batch: "_Batch") -> None:
        """Put an image into a batch: pixels, or the bytes of a file as a model's graph decodes them."""
        source, place = self.source, self.source.place(position)
        stamp = source.stamp(position) if self.thumbnails else None  # first: what is written meanwhile has changed
        image = source.read(position)
        sent = for_graph(image, place) if isinstance(image, bytes) else image
        if isinstance(image, bytes) and truncated(image):
            if self.strict:
                raise ImageError(f"{place}: {TRUNCATED}.")
            batch.truncated.add(position)
        if self.thumbnails:
            batch.thumbnails[position] = thumbnail(sent, place)
            batch.digests[position] = str(ItemDigest.of(image, stamp, self._tag))
        if self.regions is not None:
            batch.regions[position] = parts = self.regions.cut(sent, place)
            batch.held_bytes += parts.nbytes
        if not isinstance(sent, bytes) and not self._are_pixels:
            sent = pixels_to_png(sent)  # the model's own decode resizes it
        batch.images[position] = sent
        batch.held_bytes += len(sent) if isinstance(sent, bytes) else 0

    @cached_property
    def _tag(self) -> str:
        return source_tag(self.source)

    @property
    def _are_pixels(self) -> bool:
        """Whether the images are pixels of the model's size."""
        return isinstance(self.source, ArraySource) and self.source.image_shape == self.image_shape

    def _encode(self, batch: "_Batch") -> EncodedBlock:
        source, images, read = self.source, batch.images, list(batch.images)
        if self._are_pixels:
            latents = self.encoder.encode(np.stack([images[position] for position in read]))
        else:
            bad: dict[int, ImageError] = {}
            latents = self.encoder.encode_files(list(images.values()), on_bad=bad.__setitem__)
            for at, reason in bad.items():
                self._leave_out(read[at], _named(reason, at, source.place(read[at])))
            read = [position for at, position in enumerate(read) if at not in bad]
        if self.regions is not None and read:
            latents = self._with_regions(latents, [batch.regions[position] for position in read])
        self.truncated += [source.key(position) for position in read if position in batch.truncated]
        return EncodedBlock(
            latents,
            [source.key(position) for position in read],
            [source.labels[position] for position in read],
            [batch.thumbnails[position] for position in read if self.thumbnails],
            [batch.digests[position] for position in read if self.thumbnails],
            [source.metadata(position) for position in read],
        )

    def _with_regions(self, latents: Latents, regions: list[npt.NDArray[np.uint8]]) -> Latents:
        """Return the latents of some images and of the regions `[r - 1, h, w, c]` of each, `[n, r, d]`."""
        # The n first ones, then the n second ones: as many images at a time as are sent of the whole ones.
        parts = [self.encoder.encode(np.stack(of_all)) for of_all in zip(*regions, strict=True)]
        return np.stack([latents, *parts], axis=1)

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


@dataclass
class _Batch:
    """Images encoded together, by position: what to send, thumbnails, digests, regions, which files are cut short."""

    images: dict[int, Any] = field(default_factory=dict)
    thumbnails: dict[int, bytes] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    truncated: set[int] = field(default_factory=set)
    regions: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    passed: int = 0
    held_bytes: int = 0


def _named(error: ImageError, at: int, name: str) -> ImageError:
    """Return an error of an encoder, which knows only the number of an image, with the image's name."""
    text, number = str(error), f"image {at}: "
    return type(error)(f"{name}: {text.removeprefix(number)}") if text.startswith(number) else error
