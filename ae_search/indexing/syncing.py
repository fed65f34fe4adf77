"""Make an index hold what a source holds: new images in, vanished ones out, changed ones encoded again."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from ae_search.contract import Encoder, Index, OnItems, no_progress
from ae_search.data import Source
from ae_search.data.digests import SENT, ItemDigest, source_tag
from ae_search.errors import ConfigurationError
from ae_search.indexing.comparing import is_other_picture
from ae_search.indexing.encoding import SourceEncoder
from ae_search.indexing.jobs import encoder_of
from ae_search.indexing.writing import add_positions, update_positions

log = logging.getLogger(__name__)

_KEYS_PER_LOOK = 4096


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, or what it would do.

    Attributes:
        added: Keys of images that the index did not have.
        updated: Keys of images that had changed under the same key.
        removed: Keys of items whose images are gone.
        unchanged: Number of images that are as they were.
        kept: Keys of items that no image of the source has and that stay, as they do not say where they came from.
        others: Number of images whose keys belong to items of another source.
        unread: Parts of the source that could not be read; nothing was removed where there are any.
        damaged: Key and reason of each image that cannot be read; an item that the index has of it stays as it was.
        refused: Key and reason of each image that the server refused, although it can be decoded here.
    """

    added: list[str]
    updated: list[str]
    removed: list[str]
    unchanged: int
    kept: list[str]
    others: int
    unread: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class _Plan:
    """What there is to do.

    Attributes:
        new: Positions of images that the index does not have.
        changed: Positions of images that have changed.
        adopted: Positions of unchanged images whose items do not say yet that they came from this source.
        removed: Keys of items whose images are gone.
        kept: Keys of items that no image has, of unknown origin.
        unchanged: Number of images that are as they were.
        others: Number of images whose keys belong to items of another source.
    """

    new: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    adopted: list[int] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unchanged: int = 0
    others: int = 0


def sync_source(
    source: Source,
    encoder: Encoder | None,
    index: Index,
    *,
    dry_run: bool = False,
    on_progress: OnItems = no_progress,
    wait_s: float = 0.0,
) -> SyncReport:
    """Add the images of a source that an index lacks, encode changed ones again, and remove those that are gone.

    Every image that the index has is read and its content compared; size and time alone are not trusted. An item
    remembers which source it came from: of several sources in one index, only the items of this one are touched. An
    item that does not say, as older releases and imports wrote them, is compared where the source has its key, and
    stays where it has not.

    Searches see the changes block by block, removals last and all at once. After an interruption, the same call goes
    on where it stopped. Labels and metadata of changed images stay.

    Args:
        source: All of the images; with a part of a folder, what is not in the part would be gone.
        encoder: Served or in this process; it must have the index's model. May be None for a dry run.
        index: The index.
        dry_run: Whether to change nothing and only tell what would be done.
        on_progress: Called with the number of images done since the last call, compared ones among them.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ModelMismatchError: The encoder does not have the index's model.
        ServerError: The encoder does not answer.
    """
    if encoder is None and not dry_run:
        raise ConfigurationError("A sync needs an encoder.")
    images = None if dry_run or encoder is None else encoder_of(source, encoder, index)
    plan = _planned(source, index, on_progress)
    unread = list(source.unread)
    if unread:
        log.warning(
            "nothing is removed: %d parts of %s cannot be read, such as %s", len(unread), source.name, unread[0]
        )
        plan.removed = []
    if images is not None:
        _carry_out(plan, images, index, on_progress, wait_s=wait_s)
    damaged, refused = ({}, {}) if images is None else (images.damaged, images.refused)
    added, updated = (
        [key for key in map(source.key, positions) if key not in damaged and key not in refused]
        for positions in (plan.new, plan.changed)
    )
    return SyncReport(
        added, updated, plan.removed, plan.unchanged, plan.kept, plan.others, unread, damaged=damaged, refused=refused
    )


def _carry_out(plan: _Plan, images: SourceEncoder, index: Index, on_progress: OnItems, *, wait_s: float) -> None:
    add_positions(images, plan.new, index, on_progress=on_progress, wait_s=wait_s)
    update_positions(images, plan.changed, index, on_progress=on_progress, wait_s=wait_s)
    _adopt(images.source, plan.adopted, index, wait_s)
    # Somebody else may have removed one meanwhile.
    known = index.known(plan.removed)
    if gone := [key for key in plan.removed if key in known]:
        index.remove(gone, wait_s=wait_s)


def _planned(source: Source, index: Index, on_progress: OnItems) -> _Plan:
    plan, own = _Plan(), source_tag(source)
    others = {source_tag(name) for name in index.info().sources} - {own}
    # Tags that no source of the index has are of the time before it was renamed; of several, nobody knows which.
    is_only, sent = not others, source_tag(SENT)
    for position, has, digest in _compared(source, index):
        if not has:
            plan.new.append(position)
            continue
        if digest is not None and digest.source in others:
            plan.others += 1
        elif digest is None or is_other_picture(source, position, digest):
            plan.changed.append(position)
        else:
            plan.unchanged += 1
            if digest.source != own:
                plan.adopted.append(position)
        on_progress(1)
    for _, items in index.blocks(thumbnails=False):
        for key, digest in zip(items.keys, map(ItemDigest.parse, items.digests), strict=True):
            if (digest is not None and digest.source in others) or source.position(key) is not None:
                continue
            is_own = digest is not None and (digest.source == own or (is_only and digest.source != sent))
            (plan.removed if is_own else plan.kept).append(key)
    return plan


def _compared(source: Source, index: Index) -> Iterator[tuple[int, bool, ItemDigest | None]]:
    """Yield each position, whether the index has its key, and the digest that it has of it."""
    for start in range(0, len(source), _KEYS_PER_LOOK):
        keys = [source.key(at) for at in range(start, min(start + _KEYS_PER_LOOK, len(source)))]
        known = index.known(keys)
        there = [key for key in keys if key in known]
        digests = dict(zip(there, map(ItemDigest.parse, index.digests(there)), strict=True))
        for at, key in enumerate(keys, start):
            yield at, key in known, digests.get(key)


def _adopt(source: Source, positions: list[int], index: Index, wait_s: float) -> None:
    """Note of unchanged items that they came from this source: it has moved, or an older release wrote them."""
    own = source_tag(source)
    for start in range(0, len(positions), _KEYS_PER_LOOK):
        keys = [source.key(position) for position in positions[start : start + _KEYS_PER_LOOK]]
        stored = [ItemDigest.parse(text) for text in index.digests(keys)]
        told = [None if digest is None else str(digest._replace(source=own)) for digest in stored]
        index.update(keys, digests=told, wait_s=wait_s)
