"""How good retrieval is and how long a query takes."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Neighbour
from ae_search.precision import precision as precision_of_each


@dataclass(frozen=True)
class QueryFigures:
    """Figures over a set of single queries.

    Attributes:
        precision_at_k: Mean share of the k neighbours that have the query's label.
        precision_by_label: The same for the queries of each label.
        k: Neighbours asked for.
        queries: Number of queries.
        median_ms: Median latency of one query, from pixels to neighbours with keys, in milliseconds.
        p99_ms: 99th percentile of the same.
        neighbours: What was found for each query.
    """

    precision_at_k: float
    precision_by_label: dict[str, float]
    k: int
    queries: int
    median_ms: float
    p99_ms: float
    neighbours: list[list[Neighbour]]


def evaluate_queries(
    search: Callable[[npt.NDArray[Any], int], list[Neighbour]],
    images: npt.NDArray[Any],
    labels: Sequence[str | None],
    *,
    k: int = 10,
) -> QueryFigures:
    """Search each image by itself and compare labels.

    Args:
        search: Takes one image and k, for example `ImageSearch.search`.
        images: Queries `[n, h, w, c]`, uint8; n at least 1.
        labels: Their labels.
        k: Neighbours a query.

    Raises:
        ValueError: There is no query.
    """
    if not len(images):
        raise ValueError("Expected at least one query. Received: none.")
    search(images[0], k)  # the first call opens the connection
    found, seconds = [], []
    for image in images:
        began = time.perf_counter()
        found.append(search(image, k))
        seconds.append(time.perf_counter() - began)
    shares = [precision(neighbours, label) for neighbours, label in zip(found, labels, strict=True)]
    by_label: defaultdict[str, list[float]] = defaultdict(list)
    for share, label in zip(shares, labels, strict=True):
        by_label[str(label)].append(share)
    return QueryFigures(
        precision_at_k=float(np.mean(shares)),
        precision_by_label={label: float(np.mean(of)) for label, of in sorted(by_label.items())},
        k=k,
        queries=len(images),
        median_ms=float(np.median(seconds) * 1e3),
        p99_ms=float(np.percentile(seconds, 99) * 1e3),
        neighbours=found,
    )


def precision(neighbours: Sequence[Neighbour], label: str | None) -> float:
    """Return the share of neighbours with this label, 0 where there are none; None is like no label, not even None."""
    right = [label is not None and neighbour.label == label for neighbour in neighbours]
    return float(precision_of_each(np.array([right], np.bool_))[0])
