"""A batch of images, encoded by the code that `ae-search embed` encodes with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ae_search.beam.elements import EncodedImage, Image
from ae_search.contract import Encoder, no_progress
from ae_search.data.sources import ArraySource, Pixels, Source
from ae_search.data.sources.source import SourceDefaults
from ae_search.indexing.encoding import SourceEncoder


@dataclass(frozen=True)
class _BatchSource(SourceDefaults):
    """The images of a batch as a source."""

    images: Sequence[Image]
    name: str = "batch"
    argument: str = "batch"
    labels: Sequence[str | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", [image.label for image in self.images])

    def __len__(self) -> int:
        return len(self.images)

    def key(self, position: int) -> str:
        return self.images[position].key

    def position(self, key: str) -> int | None:
        return next((at for at, image in enumerate(self.images) if image.key == key), None)

    def place(self, position: int) -> str:
        return self.images[position].place

    def read(self, position: int) -> bytes | Pixels:
        data = self.images[position].data
        assert data is not None
        return data


def encode_batch(
    batch: Sequence[Image], encoder: Encoder, image_shape: tuple[int, int, int], *, strict: bool
) -> list[EncodedImage]:
    """Return what becomes of each image of a batch, in order.

    Args:
        batch: The images.
        encoder: Pinned to a version.
        image_shape: Height and width in px, channels, as its model takes them.
        strict: Whether JPEG files that are cut short count as damaged.

    Raises:
        ServerError: The encoder does not answer.
    """
    encoded: list[EncodedImage | None] = [
        None if image.data is not None else _left_out(image, image.reason or "it cannot be read") for image in batch
    ]
    for chosen in _alike(batch, image_shape):
        images = [batch[at] for at in chosen]
        for at, one in zip(chosen, _encoded(images, encoder, image_shape, strict=strict), strict=True):
            encoded[at] = one
    return [one for one in encoded if one is not None]


def _alike(batch: Sequence[Image], image_shape: tuple[int, int, int]) -> list[list[int]]:
    """Return the positions of pixels of the model's size, and those of all other images that there are."""
    pixels = [at for at, image in enumerate(batch) if _shape(image) == image_shape]
    others = [at for at, image in enumerate(batch) if image.data is not None and _shape(image) != image_shape]
    return [some for some in (pixels, others) if some]


def _shape(image: Image) -> tuple[int, ...] | None:
    return image.data.shape if isinstance(image.data, np.ndarray) else None


def _encoded(
    images: list[Image], encoder: Encoder, image_shape: tuple[int, int, int], *, strict: bool
) -> list[EncodedImage]:
    source: Source = _BatchSource(images)
    if _shape(images[0]) == image_shape:
        source = ArraySource("batch", np.stack([image.data for image in images]), source.labels)  # type: ignore[misc]
    encoding = SourceEncoder(source, encoder, image_shape, thumbnails=False, strict=strict)
    latents: dict[str, Any] = {}
    for block in encoding.blocks(range(len(source)), no_progress):
        latents.update(zip(block.keys, block.latents, strict=True))
    truncated = set(encoding.truncated)
    made = []
    for at, image in enumerate(images):
        key = source.key(at)
        if key in latents:
            made.append(_good(image, latents[key], truncated=key in truncated))
        else:
            refused = key in encoding.refused
            made.append(_left_out(image, (encoding.refused if refused else encoding.damaged)[key], refused=refused))
    return made


def _good(image: Image, latent: Any, *, truncated: bool) -> EncodedImage:
    return EncodedImage(image.key, image.place, latent, image.label, image.metadata, truncated=truncated)


def _left_out(image: Image, reason: str, *, refused: bool = False) -> EncodedImage:
    return EncodedImage(image.key, image.place, None, image.label, image.metadata, reason, refused)
