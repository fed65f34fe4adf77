"""Another export's encoder beside the index's, on the same items and queries: the check before a roll-over."""

import logging

import numpy as np

from ae_search.contract import Encoder, Index, Latents
from ae_search.evaluation.items import IndexedItems, Queries
from ae_search.evaluation.measures.metrics import Judged, NumberedLabels
from ae_search.evaluation.reading import BLOCK, ItemImages, Reader
from ae_search.evaluation.results import Against
from ae_search.nearest import NONE, Ids, top_k

log = logging.getLogger(__name__)

# As many neighbours as a user sees.
SHOWN = 10
# Ranks at which precision is compared.
RANKS = (1, 10)


def compare_encoders(
    index: Index, other: Encoder, items: IndexedItems, queries: Queries, images: ItemImages
) -> Against | None:
    """Search the same items for the same queries by the index's latents and by those of another encoder.

    Both searches are exact, by the index's distance. Items and queries count that both encoders can be given; a query
    that is an item is not its own neighbour.

    Args:
        index: The index.
        other: The other encoder; it may take images of another size.
        items: What the index holds.
        queries: What is searched for.
        images: Where the images of the items are.

    Returns:
        What was found; None where no item or no query has an image that can be read.

    Raises:
        ServerError: The other encoder does not answer.
    """
    card = other.describe()
    reader = Reader(card.image_shape, images.reader.damaged, fit=card.fit)
    log.info(
        "encoding %d items and %d queries by %s version %d", len(items.keys), len(queries), card.name, card.version
    )
    theirs, at = _of_items(other, items, ItemImages(images.sources, reader))
    asked, rows = _of_queries(other, queries, reader)
    if not len(at) or not len(rows):
        return None
    queries = queries.at(rows)
    own = _place(at, len(items.keys))[queries.own]
    found = [
        top_k(ours_or_theirs, among, SHOWN, index.metric, skip=own)
        for ours_or_theirs, among in ((queries.latents, items.latents[at]), (asked, theirs))
    ]
    ours, others = (_precision(ids, items, queries, at, own) for ids in found)
    return Against(
        model=card.name,
        version=card.version,
        fingerprint=card.fingerprint,
        floats=card.latent_dim,
        items=len(at),
        queries=len(rows),
        overlap=overlap(*found),
        precision=others,
        ours=ours,
    )


def overlap(some: Ids, others: Ids) -> float:
    """Return the mean share of the ids of each row `[q, k]` that are in the same row of others; -1 counts as none."""
    shares = []
    for ours, theirs in zip(some, others, strict=True):
        known = set(ours[ours != NONE].tolist())
        shares.append(len(known & set(theirs.tolist())) / max(1, len(known)))
    return float(np.mean(shares))


def _of_items(other: Encoder, items: IndexedItems, images: ItemImages) -> tuple[Latents, Ids]:
    """Return the latents of the items whose image can be read, and their ids."""
    latents, at = [], []
    for pixels, ids in images.blocks(items.keys):
        latents.append(other.encode(pixels))
        at.append(ids)
    if not at:
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
    return np.concatenate(latents), np.concatenate(at)


def _of_queries(other: Encoder, queries: Queries, reader: Reader) -> tuple[Latents, list[int]]:
    """Return the latents of the queries that can be read in the other's shape, and which of them those are."""
    row = {position: at for at, position in enumerate(queries.positions)}
    latents, rows = [], []
    for start in range(0, len(queries), BLOCK):
        pixels, read = reader.read(queries.source, queries.positions[start : start + BLOCK])
        if read:
            latents.append(other.encode(pixels))
            rows += [row[position] for position in read]
    return (np.concatenate(latents) if latents else np.empty((0, 0), np.float32)), rows


def _place(at: Ids, count: int) -> Ids:
    """Return where each of `count` ids is among some of them, -1 where it is not; the last place answers for -1."""
    place = np.full(count + 1, NONE)
    place[at] = np.arange(len(at))
    return place


def _precision(found: Ids, items: IndexedItems, queries: Queries, at: Ids, own: Ids) -> dict[int, float] | None:
    """Return the precision of the queries with a label, by rank; None where there is no label."""
    labelled = [row for row, label in enumerate(queries.labels) if label is not None]
    labels = [items.labels[one] for one in at]
    if not labelled or all(label is None for label in labels):
        return None
    names = [str(queries.labels[row]) for row in labelled]
    judged = Judged.of(found[labelled], NumberedLabels.of(names, labels), own[labelled])
    return {k: float(judged.precision(k).mean()) for k in RANKS}
