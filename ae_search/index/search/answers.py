"""What was found, as the answers of a search."""

from ae_search.contract import Neighbour
from ae_search.index.search.comparing import Found
from ae_search.index.store.snapshot import Snapshot


def neighbours(snapshot: Snapshot, found: list[Found]) -> list[Neighbour]:
    """Return what was found with keys, labels and metadata."""
    names = snapshot.names([item for _, item, _ in found])
    return [
        Neighbour(rank, key, label, similarity, distance, item, metadata)
        for rank, ((distance, item, similarity), (key, label, metadata)) in enumerate(
            zip(found, names, strict=True), start=1
        )
    ]
