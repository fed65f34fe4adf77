"""Encode some images of a source and write them to an index, a block at a time."""

from collections.abc import Sequence
from typing import Any

from ae_search.contract import Index, OnItems
from ae_search.data import source_name
from ae_search.errors import ConfigurationError
from ae_search.indexing.encoding import EncodedBlock, SourceEncoder
from ae_search.indexing.metadata_file import MetadataFile


def add_positions(
    images: SourceEncoder,
    positions: Sequence[int],
    index: Index,
    known: MetadataFile | None = None,
    *,
    on_progress: OnItems,
    wait_s: float,
) -> int:
    """Encode and add some images, a block at a time; return how many nobody else has added meanwhile."""
    added = 0
    for block in images.blocks(positions, on_progress):
        labels, own = described(block, known)
        added += add_unknown(index, block, labels, own, source=source_name(images.source), wait_s=wait_s)
    return added


def update_positions(
    images: SourceEncoder,
    positions: Sequence[int],
    index: Index,
    known: MetadataFile | None = None,
    *,
    on_progress: OnItems,
    wait_s: float,
) -> None:
    """Encode some images that the index has, and put their new latents in place, a block at a time."""
    for block in images.blocks(positions, on_progress):
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
            digests=block.digests,
            wait_s=wait_s,
        )


def add_unknown(
    index: Index,
    block: EncodedBlock,
    labels: Sequence[str | None],
    metadata: Sequence[dict[str, Any] | None] | None,
    *,
    source: str,
    wait_s: float,
) -> int:
    """Add those items of a block that the index does not have, also while others add some; return how many.

    Args:
        index: The index.
        block: The items.
        labels: Label of each, None where one has none.
        metadata: Metadata of each, None where none has any.
        source: Name of the source that they come from.
        wait_s: How long to wait for another writer, in s.

    Raises:
        ConfigurationError: An item is not one that the index can take.
        IndexBusyError: Another process writes the index.
    """
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
                digests=[block.digests[i] for i in at],
                source=source,
                wait_s=wait_s,
            )
        except ConfigurationError:
            if not index.known(keys):
                raise
        else:
            return len(keys)


def described(
    block: EncodedBlock, known: MetadataFile | None
) -> tuple[list[str | None], list[dict[str, Any] | None] | None]:
    """Return labels and metadata of a block: what the source says, and above it what a file says."""
    own = block.metadata if any(block.metadata) else None
    return (block.labels, own) if known is None else known.of(block.keys, block.labels, block.metadata)
