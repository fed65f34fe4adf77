"""Rebuild an index with another model: the same items, encoded anew."""

import logging
import time
from collections.abc import Sequence

from ae_search.contract import Encoder, Index, Items, OnItems, Resources, no_progress
from ae_search.data import Source
from ae_search.errors import ConfigurationError, ImageRefusedError
from ae_search.indexing.encoding import EncodedBlock, SourceEncoder
from ae_search.indexing.jobs import IndexReport, measure_if_free
from ae_search.open_index import open_index
from ae_search.regions import mark, regions_of

log = logging.getLogger(__name__)

_ALL_THERE_IS = Resources()


def rebuild(
    index: Index,
    encoder: Encoder,
    sources: Sequence[Source],
    resources: Resources = _ALL_THERE_IS,
    *,
    engine: str | None = None,
    drop_missing: bool = False,
    on_progress: OnItems = no_progress,
    wait_s: float = 0.0,
) -> IndexReport:
    """Encode the items of an index with another model: new ones beside the old ones, one step at the end.

    An index with regions has them afterwards too, and it is calibrated anew.

    Args:
        index: The index.
        encoder: Served or in this process; it is pinned to the version that describes itself now.
        sources: Where the items' images are, by their keys; the first source that has a key counts.
        resources: What the build may use of the machine.
        engine: Name of the engine to move to at the same time; None for the one that is there.
        drop_missing: Whether to leave out items whose image is nowhere or damaged, instead of giving up.
        on_progress: Called with the number of items done since the last call.
        wait_s: How long to wait for another writer, in s.

    Raises:
        ConfigurationError: An image is missing or damaged, and `drop_missing` is False; nothing has changed then.
        ImageRefusedError: The server refuses an image that can be decoded here; nothing has changed then either.
        IndexBusyError: Another process writes the index.
        ServerError: The encoder does not answer.
    """
    card = encoder.describe()
    pinned = encoder.at_version(card.version)
    began = time.monotonic()
    damaged: dict[str, str] = {}
    truncated: list[str] = []
    regions = regions_of(index, card)
    with index.rebuilding(card, resources, engine=engine, wait_s=wait_s) as writer:
        mark(writer, regions)
        count = 0
        for _, items in index.blocks(thumbnails=False):
            count += len(items)
            for source, positions in _found(items, sources, damaged):
                images = SourceEncoder(
                    source, pinned, card.image_shape, damaged=damaged, truncated=truncated, regions=regions
                )
                for block in images.blocks(positions, on_progress):
                    writer.add_items(block.latents.reshape(len(block.keys), -1, card.latent_dim), _again(items, block))
                for key, reason in images.refused.items():  # they are neither missing nor damaged
                    raise ImageRefusedError(f"{index.place} stays as it is. {key}: {reason}")
            if damaged and not drop_missing:
                key, reason = next(iter(damaged.items()))
                raise ConfigurationError(
                    f"{index.place} cannot be rebuilt: {key}: {reason} Name the source that has it, or pass "
                    "--drop-missing to leave such items out."
                )
        if count and not len(writer):
            raise ConfigurationError(f"None of the {count} items of {index.place} has an image; it stays as it is.")
        seconds = time.monotonic() - began
    with open_index(index.place) as fresh:  # the caller's expects the old model
        measure_if_free(fresh, pinned, sources, wait_s=wait_s)
    return IndexReport(index.info(), damaged, {"latents": seconds, **writer.seconds}, truncated=truncated)


def _again(items: Items, block: EncodedBlock) -> Items:
    """Return what items had before, with the thumbnails and digests of their pictures as they are now."""
    place = {key: at for at, key in enumerate(items.keys)}
    at = [place[key] for key in block.keys]
    labels, metadata = ([column[one] for one in at] for column in (items.labels, items.metadata))
    return Items(block.keys, labels, metadata, block.thumbnails, block.digests)


def _found(items: Items, sources: Sequence[Source], damaged: dict[str, str]) -> list[tuple[Source, list[int]]]:
    """Return where the images of some keys are; take note of those that are nowhere."""
    positions: list[list[int]] = [[] for _ in sources]
    for key in items.keys:
        for at, source in enumerate(sources):
            if (position := source.position(key)) is not None:
                positions[at].append(position)
                break
        else:
            damaged[key] = f"it is in none of the sources ({', '.join(source.name for source in sources) or 'none'})."
            log.warning("no image of %s", key)
    return [(source, found) for source, found in zip(sources, positions, strict=True) if found]
