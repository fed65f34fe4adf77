"""What was found, as the answers of a search."""

from ae_search.contract import Neighbour
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Found

# `Neighbour(...)` itself is a function in Python, and takes as long as all else that is done here.
_new = tuple.__new__


def neighbours(snapshot: Snapshot, found: list[list[Found]]) -> list[list[Neighbour]]:
    """Return what was found for each query, with keys, labels and metadata."""
    # One after the other for all queries, so that each takes as many as it has.
    names = zip(*snapshot.columns([item for one in found for _, item, _ in one]), strict=True)
    return [
        [
            _new(Neighbour, (rank, key, label, similarity, distance, item, metadata))
            for rank, ((distance, item, similarity), (key, label, metadata)) in enumerate(
                zip(one, names, strict=False), start=1
            )
        ]
        for one in found
    ]
