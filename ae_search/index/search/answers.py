"""What was found, as the answers of a search."""

from ae_search.contract import Neighbour
from ae_search.index.search.comparing import Found
from ae_search.index.store.snapshot import Snapshot

# Half the time of Neighbour(...), which unpacks its arguments first.
_new = tuple.__new__


def neighbours(snapshot: Snapshot, found: list[Found]) -> list[Neighbour]:
    """Return what was found with keys, labels and metadata."""
    answers = []
    rank = 0
    names = snapshot.answer_names([item for _, item, _ in found])
    for (distance, item, similarity), (key, label, metadata) in zip(found, names):  # noqa: B905
        rank += 1
        answers.append(_new(Neighbour, (rank, key, label, similarity, distance, item, metadata)))
    return answers
