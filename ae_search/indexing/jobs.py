"""Build an index from a source, and bring it up to date with one."""

import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ae_search.calibration import calibrate, store
from ae_search.contract import Encoder, Index, IndexInfo, OnItems, no_progress
from ae_search.data import Source, source_name
from ae_search.errors import AeSearchError, IndexBusyError
from ae_search.handshake import matching
from ae_search.index import BuildOptions
from ae_search.indexing.comparing import changed_files
from ae_search.indexing.encoding import SourceEncoder
from ae_search.indexing.held_out import errors_of_items
from ae_search.indexing.metadata_file import MetadataFile
from ae_search.indexing.views_calibration import views_calibration
from ae_search.indexing.writing import add_positions, described, update_positions
from ae_search.open_index import build_index, open_index
from ae_search.regions import Regions, mark, regions_of
from ae_search.trust import remember

log = logging.getLogger(__name__)

T = TypeVar("T")
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
        outdated: Keys of images that were passed over although their pictures have changed since (add).
    """

    changed: int
    passed_over: int
    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)


def index_source(
    source: Source,
    encoder: Encoder,
    place: str | Path,
    options: BuildOptions = _DEFAULT,
    *,
    metadata: Path | None = None,
    strict: bool = False,
    regions: bool = False,
    on_progress: OnItems = no_progress,
) -> IndexReport:
    """Encode every image of a source and build an index of the latents, which is then calibrated.

    Args:
        source: The images.
        encoder: Served or in this process; it is pinned to the version that describes itself now.
        place: Where the index is to be; see `open_index.build_index`.
        options: How it is built.
        metadata: File with labels and metadata; see `MetadataFile`.
        strict: Whether JPEG files that are cut short count as damaged.
        regions: Whether to hold latents of 18 parts of each image as well, for searches for originals and by views.
            What is added later gets them too. The index is 19 times as large then, and encoding takes 19 times as long.
        on_progress: Called with the number of images done since the last call.

    Raises:
        ConfigurationError: No image can be read, or the folder cannot take an index.
        ImageRefusedError: The server took no image.
        ServerError: The encoder does not answer.
    """
    card = encoder.describe()
    cut = Regions.of(card) if regions else None
    images = SourceEncoder(source, encoder.at_version(card.version), card.image_shape, strict=strict, regions=cut)
    builder = build_index(place, card, options, sources=[source_name(source)])
    with _lines(metadata) as known, builder:
        began = time.monotonic()
        mark(builder, cut)
        for block in images.blocks(range(len(source)), on_progress):
            labels, own = described(block, known)
            builder.add(
                block.latents, block.keys, labels, metadata=own, thumbnails=block.thumbnails, digests=block.digests
            )
        seconds = time.monotonic() - began
        images.check_some_were_read(range(len(source)))
    with open_index(place) as index:
        measure_if_free(index, images.encoder, [source], wait_s=options.wait_s)
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
    images = encoder_of(source, encoder, index, strict=strict)
    with _lines(metadata) as known:
        new, old = _positions(source, index)
        outdated = [source.key(position) for position in changed_files(source, index, old)]
        on_progress(len(old))
        added = add_positions(images, new, index, known, on_progress=on_progress, wait_s=wait_s)
    there = len(source) - added - len(images.damaged) - len(images.refused)
    return ChangeReport(added, there, images.damaged, images.refused, images.truncated, outdated)


def update_source(
    source: Source,
    encoder: Encoder,
    index: Index,
    *,
    among: Container[str] | None = None,
    metadata: Path | None = None,
    strict: bool = False,
    on_progress: OnItems = no_progress,
    wait_s: float = 0.0,
) -> ChangeReport:
    """Encode again the images of a source whose keys the index has, and put their new latents in place.

    Labels and metadata stay as they are where `metadata` does not name them. Arguments and errors as in `add_source`;
    `among` are the keys to do, None for all.
    """
    images = encoder_of(source, encoder, index, strict=strict)
    with _lines(metadata) as known:
        _, old = _positions(source, index)
        if among is not None:
            old = [position for position in old if source.key(position) in among]
        on_progress(len(source) - len(old))
        update_positions(images, old, index, known, on_progress=on_progress, wait_s=wait_s)
    updated = len(old) - len(images.damaged) - len(images.refused)
    return ChangeReport(updated, len(source) - len(old), images.damaged, images.refused, images.truncated)


def encoder_of(source: Source, encoder: Encoder, index: Index, *, strict: bool = False) -> SourceEncoder:
    """Return what encodes a source with the index's model."""
    matched = matching(encoder, index.model, index.place)
    card = matched.describe()
    return SourceEncoder(source, matched, card.image_shape, strict=strict, regions=regions_of(index, card))


def measure_if_free(index: Index, encoder: Encoder, sources: Sequence[Source], *, wait_s: float) -> None:
    """Measure what tells an original and what is usual, unless somebody else writes the index by now.

    Args:
        index: The index, which was written a moment ago.
        encoder: An encoder of its model.
        sources: Where its images are.
        wait_s: How long to wait for another writer, in s.
    """
    try:
        card = _if_answered(lambda _index, asked, _sources: asked.describe(), index, encoder, sources)
        calibration = calibrate(index, card=card, wait_s=wait_s)
        if calibration is not None:
            views = _if_answered(views_calibration, index, encoder, sources)
            store(index, replace(calibration, views=views), wait_s=wait_s)
        remember(index, _if_answered(errors_of_items, index, encoder, sources), wait_s=wait_s)
    except IndexBusyError as error:
        log.warning("%s is not calibrated; `ae-search index tune` does it (%s)", index.place, error)


def _if_answered(
    measure: Callable[[Index, Encoder, Sequence[Source]], T | None],
    index: Index,
    encoder: Encoder,
    sources: Sequence[Source],
) -> T | None:
    """Return what is measured with images; None where that fails: the index is there, and can be searched without."""
    try:
        return measure(index, encoder, sources)
    except AeSearchError as error:
        log.warning("%s: it could not be measured with its images (%s)", index.place, error)
        return None


def _positions(source: Source, index: Index) -> tuple[list[int], list[int]]:
    """Return the positions of the images whose keys the index has not, and of those whose keys it has."""
    new: list[int] = []
    old: list[int] = []
    for start in range(0, len(source), _KEYS_PER_LOOK):
        keys = [source.key(at) for at in range(start, min(start + _KEYS_PER_LOOK, len(source)))]
        known = index.known(keys)
        for at, key in enumerate(keys, start):
            (old if key in known else new).append(at)
    return new, old


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
