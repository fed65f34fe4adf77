"""`WriteLatents`: the Parquet files that `ae-search embed` writes, each of them whole, each key once."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from ae_search.beam.elements import EncodedImage
from ae_search.beam.job_files import finish, shard_name
from ae_search.beam.packing import Packed, by_shard, packed, unpacked
from ae_search.beam.places import below, publish
from ae_search.contract import ModelCard, ModelRef, metadata_json
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_file import parquet_writer
from ae_search.indexing.left_out import LeftOut
from ae_search.indexing.shards import KEYS_KEY, SHARD_ITEMS

_ROWS_AT_A_TIME, _PACK_IMAGES = 4096, 1024


@dataclass(frozen=True)
class Shard:
    """A file that was written.

    Attributes:
        name: Its name.
        images: Latents in it.
        left_out: What is not in it although it belongs there.
    """

    name: str
    images: int
    left_out: LeftOut


class WriteLatents(beam.PTransform):
    """Write latents: `encoded | WriteLatents("gs://latents/2026", encode.model)`, whose output is one `Shard` a file.

    A key's file is told by the key alone. Each file is written under another name and appears whole; a bundle that is
    done again writes the same file again. An image that a runner delivers twice is written once; two images of one key
    end the job. When all files are there, `_left-out.jsonl` is written beside them.

    Args:
        out: The folder: a path that all workers have, or a URL of one of Beam's file systems.
        model: Card of the model.
        shard_items: Images to a file, about, at least 1.

    Raises:
        ConfigurationError: No image could be encoded, two images have the same key, or nothing can be written.
    """

    def __init__(self, out: str, model: ModelCard, *, shard_items: int = SHARD_ITEMS) -> None:
        if shard_items < 1:
            raise ValueError(f"shard_items must be at least 1. Received: {shard_items}.")
        super().__init__()
        self._out, self._model, self._shard_items = out, model, shard_items

    def expand(self, encoded: Any) -> Any:
        """Return the files that were written."""
        packs = (
            encoded
            | "Pack" >> beam.BatchElements(min_batch_size=_PACK_IMAGES, max_batch_size=_PACK_IMAGES)
            | "Packed" >> beam.Map(packed)
        )
        count = (
            packs
            | "Images" >> beam.Map(_images_of).with_output_types(int)
            | "Count" >> beam.CombineGlobally(sum)
            | "Shards" >> beam.Map(_shards, self._shard_items).with_output_types(int)
        )
        written = (
            packs
            | "Choose" >> beam.FlatMap(by_shard, beam.pvalue.AsSingleton(count)).with_output_types(tuple[int, Any])
            | "Collect" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteShard(self._out, self._model)).with_output_types(Shard)
        )
        _ = written | "AllWritten" >> beam.combiners.ToList() | "Finish" >> beam.Map(_finish, self._out)
        return written


def _images_of(pack: Packed) -> int:
    return len(pack[0])


def _shards(images: int, shard_items: int) -> int:
    return max(1, -(-images // shard_items))


class _WriteShard(beam.DoFn):
    """From all images of a shard to its file."""

    def __init__(self, out: str, model: ModelCard) -> None:
        self._out, self._model = out, model

    def process(self, group: tuple[int, Iterable[Packed]]) -> Iterator[Shard]:
        number, packs = group
        ordered = _each_once(unpacked(packs))
        left_out = LeftOut()
        for image in ordered:
            if image.latent is None:
                (left_out.refused if image.refused else left_out.damaged)[image.key] = image.reason or ""
            elif image.truncated:
                left_out.truncated.append(image.key)
        good = [image for image in ordered if image.latent is not None]
        name = shard_name(number)
        publish(below(self._out, name), lambda path: self._write(path, good, _digest(ordered), left_out))
        yield Shard(name, len(good), left_out)

    def _write(self, path: Any, good: list[EncodedImage], keys: str, left_out: LeftOut) -> None:
        card = self._model
        model = ModelRef(card.name, card.version, card.fingerprint)
        about = {KEYS_KEY: keys, **left_out.in_file()}
        with parquet_writer(path, model, card.metric, card.latent_dim, about=about) as write:
            for start in range(0, len(good), _ROWS_AT_A_TIME):
                rows = good[start : start + _ROWS_AT_A_TIME]
                metadata = [None if one.metadata is None else metadata_json(one.key, one.metadata) for one in rows]
                latents = np.stack([one.latent for one in rows])  # type: ignore[misc]
                write(latents, [one.key for one in rows], [one.label for one in rows], metadata)


def _each_once(images: Iterable[EncodedImage]) -> list[EncodedImage]:
    """Return images sorted by key, each once, however often a runner has delivered it."""
    by_key: dict[str, EncodedImage] = {}
    for image in images:
        other = by_key.setdefault(image.key, image)
        if other.place != image.place:
            raise ConfigurationError(
                f"Two images have the key {image.key!r}: {other.place} and {image.place}. Keys must differ."
            )
    return [by_key[key] for key in sorted(by_key)]


def _digest(images: list[EncodedImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.key.encode() + b"\0")
    return digest.hexdigest()


def _finish(shards: list[Shard], out: str) -> None:
    left_out = LeftOut()
    for shard in sorted(shards, key=lambda one: one.name):
        left_out.add(shard.left_out)
    finish(out, sum(shard.images for shard in shards), len(shards), left_out)
