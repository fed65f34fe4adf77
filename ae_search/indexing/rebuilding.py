"""Rebuild an index with another model: the same items, encoded anew."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ae_search.contract import Encoder
from ae_search.data import Source
from ae_search.errors import ConfigurationError, ImageRefusedError, IndexDamagedError
from ae_search.index.items.checking import Items
from ae_search.index.upkeep.writing import rebuilding
from ae_search.indexing.encoding import OnProgress, SourceEncoder, no_progress
from ae_search.indexing.jobs import IndexReport

log = logging.getLogger(__name__)


def rebuild(
    path: Path,
    encoder: Encoder,
    sources: Sequence[Source],
    *,
    drop_missing: bool = False,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> IndexReport:
    """Encode the items of an index with another model: a new generation beside the old one, one rename at the end.

    Args:
        path: The index folder.
        encoder: Served or in this process; it is pinned to the version that describes itself now.
        sources: Where the items' images are, by their keys; the first source that has a key counts.
        drop_missing: Whether to leave out items whose image is nowhere or damaged, instead of giving up.
        on_progress: Called with the number of items done since the last call.
        options: `jobs`, `on_disk` and `wait_s` of `IndexBuilder`.

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
    with rebuilding(path, card, **options) as (old, writer):
        for ids in old.live_ids():
            names = {name[0]: name for name in old.names(ids)}
            if len(names) < len(ids):
                raise IndexDamagedError(f"{path} holds a key twice; restore it or build it anew.")
            for source, positions in _found(names, sources, damaged):
                images = SourceEncoder(source, pinned, card.image_shape, damaged=damaged)
                for block in images.blocks(positions, on_progress):
                    kept = [names[key] for key in block.keys]
                    labels, metadata = [name[1] for name in kept], [name[2] for name in kept]
                    writer.add(block.latents, Items(block.keys, labels, metadata, block.thumbnails))
                for key, reason in images.refused.items():  # they are neither missing nor damaged
                    raise ImageRefusedError(f"{path} stays as it is. {key}: {reason}")
            if damaged and not drop_missing:
                key, reason = next(iter(damaged.items()))
                raise ConfigurationError(
                    f"{path} cannot be rebuilt: {key}: {reason} Name the source that has it, or pass --drop-missing to "
                    "leave such items out."
                )
        if len(old) and not len(writer):
            raise ConfigurationError(f"None of the {len(old)} items of {path} has an image; it stays as it is.")
        seconds = time.monotonic() - began
    return IndexReport(writer.manifest, damaged, {"latents": seconds, **writer.seconds})


def _found(names: dict[str, Any], sources: Sequence[Source], damaged: dict[str, str]) -> list[tuple[Source, list[int]]]:
    """Return where the images of some keys are; take note of those that are nowhere."""
    positions: list[list[int]] = [[] for _ in sources]
    for key in names:
        for at, source in enumerate(sources):
            if (position := source.position(key)) is not None:
                positions[at].append(position)
                break
        else:
            damaged[key] = f"it is in none of the sources ({', '.join(source.name for source in sources) or 'none'})."
            log.warning("no image of %s", key)
    return [(source, found) for source, found in zip(sources, positions, strict=True) if found]
