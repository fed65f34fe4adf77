"""Images of sources as the model takes them, and where the images of an index's items are."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from ae_search.contract import Fit
from ae_search.data import ArraySource, Source
from ae_search.data.decode import decode_image, resize_image
from ae_search.errors import ImageError
from ae_search.image_file import for_graph, thumbnail
from ae_search.views import Pixels

log = logging.getLogger(__name__)

ImageShape = tuple[int, int, int]

# 128 photographs of 512 x 512 px are 100 MB.
BLOCK = 128


@dataclass(frozen=True)
class Reader:
    """Decodes images to the model's shape, as the encoder does, and takes note of those that cannot be read.

    Attributes:
        image_shape: Height and width in px, channels.
        damaged: Key and reason of each image that was left out so far.
        fit: How images of another aspect ratio are brought to the shape.
    """

    image_shape: ImageShape
    damaged: dict[str, str] = field(default_factory=dict)
    fit: Fit = "crop"

    def read(self, source: Source, positions: Sequence[int]) -> tuple[Pixels, list[int]]:
        """Return the readable images among some of a source, uint8 `[n, h, w, c]`, and the n positions.

        They are in the order of `positions`, or in their own where the source can only be read in its order.
        """
        if isinstance(source, ArraySource) and source.image_shape == self.image_shape:
            return source.images[list(positions)], list(positions)
        pixels: list[Pixels] = []
        read: list[int] = []
        for position in positions if source.any_order else sorted(positions):
            try:
                pixels.append(self._pixels(source, position))
                read.append(position)
            except ImageError as error:
                self._leave_out(source.key(position), str(error))
        return np.array(pixels, np.uint8).reshape(-1, *self.image_shape), read

    def _leave_out(self, key: str, reason: str) -> None:
        if key not in self.damaged:
            log.warning("left out %s: %s", key, reason)
        self.damaged[key] = reason

    def _pixels(self, source: Source, position: int) -> Pixels:
        image = source.read(position)
        if not isinstance(image, bytes):
            return _as_bytes(resize_image(tf.constant(image), self.image_shape, self.fit))
        place = source.place(position)
        image = for_graph(image, place)
        try:
            return _as_bytes(self._decode(image))
        except tf.errors.OpError as error:
            thumbnail(image, place)  # Pillow says more clearly what is wrong
            raise ImageError(f"{place}: cannot be decoded.") from error

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        # As a graph it takes a quarter of the time.
        signature = [tf.TensorSpec([], tf.string)]
        return tf.function(lambda data: decode_image(data, self.image_shape, self.fit), signature)  # type: ignore[no-any-return]


def _as_bytes(image: Any) -> Pixels:
    """Return what is in [0, 1] as uint8."""
    return np.asarray(np.rint(np.asarray(image) * 255), np.uint8)


@dataclass(frozen=True)
class ItemImages:
    """Where the images of an index's items are, by their keys.

    Attributes:
        sources: The first one that has a key counts.
        reader: What decodes them.
        missing: Keys asked for so far that no source has.
    """

    sources: Sequence[Source]
    reader: Reader
    missing: set[str] = field(default_factory=set)

    def blocks(self, keys: Sequence[str]) -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
        """Yield readable images, uint8 `[m, h, w, c]`, and which of the keys they belong to, `[m]`, rising."""
        for start in range(0, len(keys), BLOCK):
            pixels, at = self.read(keys[start : start + BLOCK])
            if len(at):
                yield pixels, at + start

    def read(self, keys: Sequence[str]) -> tuple[Pixels, npt.NDArray[np.int64]]:
        """Return the same for a few keys."""
        wanted: list[dict[int, int]] = [{} for _ in self.sources]
        for at, key in enumerate(keys):
            for places, source in zip(wanted, self.sources, strict=True):
                if (position := source.position(key)) is not None:
                    places[position] = at
                    break
            else:
                self.missing.add(key)
        pixels, order = [np.empty((0, *self.reader.image_shape), np.uint8)], []
        for places, source in zip(wanted, self.sources, strict=True):
            some, read = self.reader.read(source, list(places))
            pixels.append(some)
            order += [places[position] for position in read]
        by_key = np.argsort(np.array(order, np.int64))
        return np.concatenate(pixels)[by_key], np.array(order, np.int64)[by_key]


def small_shape(image_shape: ImageShape, side_px: int) -> ImageShape:
    """Return a shape of the same aspect with no side above `side_px`."""
    height, width, channels = image_shape
    scale = min(1.0, side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale)), channels


def shrunk(images: Pixels, shape: ImageShape) -> Pixels:
    """Return uint8 images `[n, *, *, c]` in a smaller shape, bilinearly with antialiasing."""
    height, width, channels = shape
    if images.shape[1:] == shape:
        return images
    small = np.empty((len(images), *shape), np.uint8)
    for at, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        small[at] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(shape)
    return small
