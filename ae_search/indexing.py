"""Fetch the latents of a source and write them to an index."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import Encoder, Latents, ModelCard
from ae_search.data import ArraySource, FolderSource, Source
from ae_search.errors import ConfigurationError, ImageError
from ae_search.image_file import pixels_to_png, read_image_file, thumbnail
from ae_search.index import IndexBuilder, Manifest

log = logging.getLogger(__name__)

ARRAY_BLOCK = 2048
# Files of a block are in memory together: 64 photographs of 5 MB are 320 MB.
FILE_BLOCK = 64


@dataclass(frozen=True)
class IndexReport:
    """What came of indexing a source.

    Attributes:
        manifest: The index's manifest.
        damaged: Key and reason of each image that was left out.
        seconds: Seconds by stage: "latents" (encode and store) and those of the index builder.
    """

    manifest: Manifest
    damaged: dict[str, str]
    seconds: dict[str, float]


def index_source(
    source: Source,
    encoder: Encoder,
    path: Path,
    *,
    on_progress: Callable[[int], Any] = lambda images: None,
    **options: Any,
) -> IndexReport:
    """Encode every image of a source and build an index of the latents.

    Args:
        source: The images.
        encoder: Served or in this process; it is pinned to the version that describes itself now.
        path: The index folder.
        on_progress: Called with the number of images done since the last call.
        options: Options of `IndexBuilder`.

    Raises:
        ConfigurationError: No image can be read, or the folder cannot take an index.
        ServerError: The encoder does not answer.
    """
    card = encoder.describe()
    pinned = encoder.at_version(card.version)
    damaged: dict[str, str] = {}
    with IndexBuilder(path, card, **options) as builder:
        began = time.monotonic()
        block = ARRAY_BLOCK if isinstance(source, ArraySource) else FILE_BLOCK
        for start in range(0, len(source), block):
            positions = range(start, min(start + block, len(source)))
            encoded = _encode_block(source, positions, pinned, card, damaged)
            builder.add(*encoded)
            on_progress(len(positions))
        seconds = time.monotonic() - began
        if len(damaged) == len(source):
            raise ConfigurationError(f"None of the {len(source)} images of {source.name} can be read.")
    return IndexReport(builder.manifest, damaged, {"latents": seconds, **builder.seconds})


Block = tuple[Latents, list[str], list[str | None], list[bytes]]


def _encode_block(
    source: Source, positions: range, encoder: Encoder, card: ModelCard, damaged: dict[str, str]
) -> Block:
    """Return latents, keys, labels and thumbnails of the images that can be read; take note of the others."""
    images: dict[int, Any] = {}
    thumbnails: dict[int, bytes] = {}
    for position in positions:
        try:
            images[position], thumbnails[position] = _read(source, position, card)
        except ImageError as error:
            _leave_out(source, position, error, damaged)
    read = list(images)
    if isinstance(source, ArraySource) and source.image_shape == card.image_shape:
        latents = encoder.encode(np.stack([images[position] for position in read]))
    else:
        bad: dict[int, ImageError] = {}
        latents = encoder.encode_files(list(images.values()), on_bad=bad.__setitem__)
        for at, reason in bad.items():
            _leave_out(source, read[at], reason, damaged)
        read = [position for at, position in enumerate(read) if at not in bad]
    keys = [source.key(position) for position in read]
    return latents, keys, [source.labels[position] for position in read], [thumbnails[p] for p in read]


def _read(source: Source, position: int, card: ModelCard) -> tuple[Any, bytes]:
    """Return what to send, pixels or the bytes of a file, and a thumbnail."""
    if isinstance(source, FolderSource):
        path = source.path(position)
        data = read_image_file(path)
        return data, thumbnail(data, str(path))
    pixels = source.images[position]
    small = thumbnail(pixels, source.key(position))
    # Of another size than the model's: the model's own decode resizes it.
    return (pixels if source.image_shape == card.image_shape else pixels_to_png(pixels)), small


def _leave_out(source: Source, position: int, error: ImageError, damaged: dict[str, str]) -> None:
    damaged[source.key(position)] = str(error)
    log.warning("left out %s: %s", source.key(position), error)
