"""What a search answers with."""

from typing import Any, NamedTuple

from ae_search.index.items.names import metadata_of
from ae_search.index.search.comparing import Found
from ae_search.index.store.generation import Snapshot

# Half the time of Neighbour(...), which unpacks its arguments first.
_new = tuple.__new__


class Neighbour(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: Place among the answers, from 1.
        key: Key of the item.
        label: Label of the item, if it has one.
        similarity: Cosine similarity in [-1, 1].
        distance: Distance by the index's metric.
        id: Number of the item in this generation.
        metadata_json: Metadata of the item as a JSON object, if it has any.
    """

    rank: int
    key: str
    label: str | None
    similarity: float
    distance: float
    id: int
    metadata_json: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the item; empty where it has none."""
        return metadata_of(self.metadata_json)


def neighbours(snapshot: Snapshot, found: list[Found]) -> list[Neighbour]:
    """Return what was found with keys, labels and metadata."""
    answers = []
    rank = 0
    names = snapshot.answer_names([item for _, item, _ in found])
    for (distance, item, similarity), (key, label, metadata) in zip(found, names):  # noqa: B905
        rank += 1
        answers.append(_new(Neighbour, (rank, key, label, similarity, distance, item, metadata)))
    return answers
