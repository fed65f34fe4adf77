"""What the labels of neighbours say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.results import RANKS, Confusion, Retrieval
from ae_search.nearest import NONE, Ids
from ae_search.precision import precision

# Ranks that the average precision looks at.
DEPTH = 1000
# Neighbours that precision by label and the confusion look at.
SHORT = 10

Floats = npt.NDArray[np.float64]


def average_precision(relevant: npt.NDArray[np.bool_], totals: Ids) -> Floats:
    """Return the average precision of each query over the ranks looked at.

    It is `sum(P(r) * relevant(r) for r in 1..K) / min(K, total)`, where `P(r)` is the precision at rank r, K the depth
    (here 1000) and total the relevant items that there are. Its mean over all queries is mAP@K as in Weyand et al.,
    Google Landmarks Dataset v2 (CVPR 2020), where K is 100.

    Args:
        relevant: Whether the neighbour at each rank is relevant, `[q, K]`; False where there is none.
        totals: Relevant items in the whole index `[q]`.

    Returns:
        float64 `[q]` in [0, 1]; 0 where nothing is relevant.
    """
    depth = relevant.shape[1]
    precisions = np.cumsum(relevant, axis=1, dtype=np.int32) / np.arange(1, depth + 1)
    sums: Floats = np.where(relevant, precisions, 0.0).sum(axis=1)
    return sums / np.maximum(1, np.minimum(depth, totals))


@dataclass(frozen=True)
class NumberedLabels:
    """Labels of queries and items as numbers.

    Attributes:
        names: L label names, sorted.
        queries: The number of each query's label `[q]`.
        items: The same of each item `[n]`; -1 where it has none.
    """

    names: tuple[str, ...]
    queries: Ids
    items: Ids

    @classmethod
    def of(cls, queries: Sequence[str], items: Sequence[str | None]) -> "NumberedLabels":
        """Number the labels of q queries and n items."""
        names = tuple(sorted({*queries, *(label for label in items if label is not None)}))
        number = {name: at for at, name in enumerate(names)}
        return cls(
            names,
            np.array([number[label] for label in queries], np.int64),
            np.array([NONE if label is None else number[label] for label in items], np.int64),
        )

    def at(self, chosen: Ids) -> "NumberedLabels":
        """Return the same with only some of the items."""
        return NumberedLabels(self.names, self.queries, self.items[chosen])


@dataclass(frozen=True)
class Judged:
    """The neighbours of each query and how many of them have its label.

    Attributes:
        labels: What they were judged by.
        neighbours: Ids `[q, K]`, the nearest first, -1 where there is none.
        relevant: Whether each has the query's label `[q, K]`.
        average_precision: Over the K ranks `[q]`.
    """

    labels: NumberedLabels
    neighbours: Ids
    relevant: npt.NDArray[np.bool_]
    average_precision: Floats

    @classmethod
    def of(cls, neighbours: Ids, labels: NumberedLabels, skip: Ids) -> "Judged":
        """Compare the labels of neighbours `[q, K]` with those of the queries; `skip` as in `top_k`."""
        wanted = labels.queries[:, np.newaxis]
        relevant = (neighbours != NONE) & (labels.items[neighbours] == wanted)
        counts = np.bincount(labels.items[labels.items >= 0], minlength=len(labels.names))
        # A query that is an item itself is none of those that could be found.
        own = (skip != NONE) & (labels.items[skip] == labels.queries)
        totals = counts[labels.queries] - own
        return cls(labels, neighbours, relevant, average_precision(relevant, totals))

    def precision(self, k: int) -> Floats:
        """Return the share of each query's first k neighbours that have its label `[q]`; 0 where there is none."""
        return precision(self.relevant[:, :k], self.neighbours[:, :k] != NONE)

    def retrieval(self, name: str, floats: int) -> Retrieval:
        """Return the means, under the name and the size of a representation."""
        short = self.precision(SHORT)
        present = np.unique(self.labels.queries)
        return Retrieval(
            name=name,
            floats=floats,
            precision={k: float(self.precision(k).mean()) for k in RANKS},
            mean_average_precision=float(self.average_precision.mean()),
            precision_by_label={
                self.labels.names[label]: float(short[self.labels.queries == label].mean()) for label in present
            },
        )

    def confusion(self) -> Confusion:
        """Return the labels of the first 10 neighbours, by the label of the query."""
        count = len(self.labels.names)
        shares = np.zeros((count, count))
        found = self.neighbours[:, :SHORT]
        columns = np.where(found == NONE, NONE, self.labels.items[found])
        rows = np.broadcast_to(self.labels.queries[:, np.newaxis], columns.shape)
        np.add.at(shares, (rows[columns >= 0], columns[columns >= 0]), 1.0)
        # Neighbours without a label count as found.
        totals = np.bincount(self.labels.queries, (found != NONE).sum(axis=1), minlength=count)
        return Confusion(self.labels.names, shares / np.maximum(1, totals)[:, np.newaxis])
