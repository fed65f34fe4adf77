"""What was found, as the answers of a search."""

from functools import partial
from itertools import chain, islice, repeat

from ae_search.contract import Neighbour
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Found

# `Neighbour(...)` is a function in Python, which takes longer than all else that is done for an answer of a batch.
_neighbour = partial(tuple.__new__, Neighbour)


def neighbours(snapshot: Snapshot, found: list[list[Found]]) -> list[list[Neighbour]]:
    """Return what was found for each query, with keys, labels and metadata."""
    every = list(chain.from_iterable(found))
    if not every:
        return [[] for _ in found]
    distances, ids, similarities = zip(*every, strict=True)
    keys, labels, metadata = snapshot.columns(ids)
    ranks = chain.from_iterable(map(range, repeat(1), [len(one) + 1 for one in found]))
    # The ranks end with the others, but a chain cannot tell its length.
    made = map(_neighbour, zip(ranks, keys, labels, similarities, distances, ids, metadata, strict=True))
    return [list(islice(made, len(one))) for one in found]
