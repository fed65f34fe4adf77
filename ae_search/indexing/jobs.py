"""Build an index from a source, and bring it up to date with one."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ae_search.contract import Encoder, Index, IndexInfo, OnItems, no_progress
from ae_search.data import Source, source_name
from ae_search.errors import ConfigurationError
from ae_search.handshake import matching
from ae_search.index import BuildOptions
from ae_search.indexing.encoding import EncodedBlock, SourceEncoder
from ae_search.indexing.metadata_file import MetadataFile
from ae_search.open_index import build_index

log = logging.getLogger(__name__)

_DEFAULT = BuildOptions()

_KEYS_PER_LOOK = 4096


@dataclass(frozen=True)
class IndexReport:
    """What came of indexing a source.

    Attributes:
        info: Figures of the index.
        damaged: Key and reason of each image that was left out because it cannot be read.
        seconds: Seconds by stage: "latents" (encode and store) and those of the index builder.
        refused: Key and reason of each image that the server refused, although it can be decoded here.
        truncated: Keys of JPEG files that are cut short, of which the part that is there was encoded.
    """

    info: IndexInfo
    damaged: dict[str, str]
    seconds: dict[str, float]
    refused: dict[str, str] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ChangeReport:
    """What came of bringing an index up to date with a source.

    Attributes:
        changed: Images that were added or updated.
        passed_over: Images that were there already (add), or were not (update).
        damaged: Key and reason of each image that was left out because it cannot be read.
        refused: Key and reason of each image that the server refused, although it can be decoded here.
        truncated: Keys of JPEG files that are cut short, of which the part that is there was encoded.
    """

    changed: int
    passed_over: int
    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)


def index_source(
    source: Source,
    encoder: Encoder,
    place: str | Path,
    options: BuildOptions = _DEFAULT,
    *,
    metadata: Path | None = None,
    strict: bool = False,
    on_progress: OnItems = no_progress,
) -> IndexReport:
    """Encode every image of a source and build an index of the latents.

    Args:
        source: The images.
        encoder: Served or in this process; it is pinned to the version that describes itself now.
        place: Where the index is to be; see `open_index.build_index`.
        options: How it is built.
        metadata: File with labels and metadata; see `MetadataFile`.
        strict: Whether JPEG files that are cut short count as damaged.
        on_progress: Called with the number of images done since the last call.

    Raises:
        ConfigurationError: No image can be read, or the folder cannot take an index.
        ImageRefusedError: The server took no image.
        ServerError: The encoder does not answer.
    """
    card = encoder.describe()
    images = SourceEncoder(source, encoder.at_version(card.version), card.image_shape, strict=strict)
    builder = build_index(place, card, options, sources=[source_name(source)])
    with _lines(metadata) as known, builder:
        began = time.monotonic()
        for block in images.blocks(range(len(source)), on_progress):
            labels, own = _described(block, known)
            builder.add(block.latents, block.keys, labels, metadata=own, thumbnails=block.thumbnails)
        seconds = time.monotonic() - began
        images.check_some_were_read(range(len(source)))
    seconds_by_stage = {"latents": seconds, **builder.seconds}
    return IndexReport(builder.info, images.damaged, seconds_by_stage, images.refused, images.truncated)


def add_source(
    source: Source,
    encoder: Encoder,
    index: Index,
    *,
    metadata: Path | None = None,
    strict: bool = False,
    on_progress: OnItems = no_progress,
    wait_s: float = 0.0,
) -> ChangeReport:
    """Add the images of a source whose keys the index does not have.

    Each block is in the index as soon as it is encoded; after an interruption the same call goes on where it stopped.

    Args:
        source: The images.
        encoder: Served or in this process; it must have the index's model.
        index: The index.
        metadata: File with labels and metadata; see `MetadataFile`.
        strict: Whether JPEG files that are cut short count as damaged.
        on_progress: Called with the number of images done since the last call.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ModelMismatchError: The encoder does not have the index's model.
        ServerError: The encoder does not answer.
    """
    images = _encoder_of(source, encoder, index, strict=strict)
    new = _positions(source, index, there=False)
    on_progress(len(source) - len(new))
    added = 0
    with _lines(metadata) as known:
        for block in images.blocks(new, on_progress):
            labels, own = _described(block, known)
            added += _add_unknown(index, block, labels, own, source=source_name(source), wait_s=wait_s)
    there = len(source) - added - len(images.damaged) - len(images.refused)
    return ChangeReport(added, there, images.damaged, images.refused, images.truncated)


def update_source(
    source: Source,
    encoder: Encoder,
    index: Index,
    *,
    metadata: Path | None = None,
    strict: bool = False,
    on_progress: OnItems = no_progress,
    wait_s: float = 0.0,
) -> ChangeReport:
    """Encode again the images of a source whose keys the index has, and put their new latents in place.

    Labels and metadata stay as they are where `metadata` does not name them. Arguments and errors as in `add_source`.
    """
    images = _encoder_of(source, encoder, index, strict=strict)
    old = _positions(source, index, there=True)
    on_progress(len(source) - len(old))
    with _lines(metadata) as known:
        for block in images.blocks(old, on_progress):
            labels, own = None, None
            if known is not None:
                stored = index.details(block.keys)
                labels, own = known.of(block.keys, [name[0] for name in stored], [name[1] for name in stored])
            index.update(
                block.keys,
                latents=block.latents,
                labels=labels,
                metadata=own,
                thumbnails=block.thumbnails,
                wait_s=wait_s,
            )
    updated = len(old) - len(images.damaged) - len(images.refused)
    return ChangeReport(updated, len(source) - len(old), images.damaged, images.refused, images.truncated)


def _add_unknown(
    index: Index,
    block: EncodedBlock,
    labels: Sequence[str | None],
    metadata: Sequence[dict[str, Any] | None] | None,
    *,
    source: str,
    wait_s: float,
) -> int:
    """Add the items that nobody else has added meanwhile; return how many."""
    while True:
        known = index.known(block.keys)
        at = [at for at, key in enumerate(block.keys) if key not in known]
        if not at:
            return 0
        keys = [block.keys[i] for i in at]
        try:
            index.add(
                block.latents[at],
                keys,
                [labels[i] for i in at],
                metadata=None if metadata is None else [metadata[i] for i in at],
                thumbnails=[block.thumbnails[i] for i in at],
                source=source,
                wait_s=wait_s,
            )
        except ConfigurationError:
            if not index.known(keys):
                raise
        else:
            return len(keys)


def _encoder_of(source: Source, encoder: Encoder, index: Index, *, strict: bool) -> SourceEncoder:
    matched = matching(encoder, index.model, index.place)
    return SourceEncoder(source, matched, matched.describe().image_shape, strict=strict)


def _positions(source: Source, index: Index, *, there: bool) -> list[int]:
    """Return the positions of the images whose keys the index has, or has not."""
    chosen: list[int] = []
    for start in range(0, len(source), _KEYS_PER_LOOK):
        block = range(start, min(start + _KEYS_PER_LOOK, len(source)))
        known = index.known([source.key(position) for position in block])
        chosen += [position for position in block if (source.key(position) in known) == there]
    return chosen


@contextmanager
def _lines(path: Path | None) -> Iterator[MetadataFile | None]:
    if path is None:
        yield None
        return
    with MetadataFile(path) as known:
        yield known
        count, key = known.unused()
        if count:
            log.warning("%d of the keys in %s belong to no image that was encoded, such as %r", count, path, key)


def _described(
    block: EncodedBlock, known: MetadataFile | None
) -> tuple[list[str | None], list[dict[str, Any] | None] | None]:
    return (block.labels, None) if known is None else known.of(block.keys, block.labels, [None] * len(block.keys))
