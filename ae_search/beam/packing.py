"""Encoded images, many in one element: from worker to worker each costs several times as much by itself."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.beam.elements import EncodedImage

# What each image has beside its latent, whether it has one, and the latents `[n, d]` of those that do, in order.
Packed = tuple[list[tuple[Any, ...]], list[bool], npt.NDArray[np.float32] | None]


def packed(images: Sequence[EncodedImage]) -> Packed:
    """Return some images as one element."""
    latents = [image.latent for image in images if image.latent is not None]
    told = [(*image[:_AT], *image[_AT + 1 :]) for image in images]
    return told, [image.latent is not None for image in images], np.stack(latents) if latents else None


def unpacked(packs: Iterable[Packed]) -> Iterator[EncodedImage]:
    """Yield the images of some elements."""
    for told, are_good, latents in packs:
        rows = iter(() if latents is None else latents)
        for each, is_good in zip(told, are_good, strict=True):
            yield EncodedImage._make((*each[:_AT], next(rows) if is_good else None, *each[_AT:]))


def by_shard(pack: Packed, shards: int) -> Iterator[tuple[int, Packed]]:
    """Yield what of an element belongs to each shard."""
    found: dict[int, list[EncodedImage]] = defaultdict(list)
    for image in unpacked([pack]):
        found[shard_of(image.key, shards)].append(image)
    for shard, images in found.items():
        yield shard, packed(images)


def shard_of(key: str, shards: int) -> int:
    """Return which of some shards a key belongs to."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % shards


_AT = EncodedImage._fields.index("latent")
