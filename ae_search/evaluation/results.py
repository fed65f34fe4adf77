"""What an evaluation finds: plain figures for tables and JSON, and what a report shows beside them."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Metric, ModelRef
from ae_search.evaluation.shown import Examples, LatentSample, Reconstructions

# Ranks at which precision is told.
RANKS = (1, 10, 100)

# What holds pictures or latents, and stays out of the JSON.
_NOT_IN_JSON = frozenset({"latents", "reconstructions"})


@dataclass(frozen=True)
class Retrieval:
    """How often the neighbours of a query have its label, under one representation and exact search.

    Attributes:
        name: Name of the representation.
        floats: Numbers in one vector of it.
        precision: Mean share of the first k neighbours that have the query's label, by k: 1, 10 and 100.
        mean_average_precision: mAP@1000 in [0, 1]; see `metrics.average_precision`.
        precision_by_label: Precision@10 of the queries of each label, sorted by label.
    """

    name: str
    floats: int
    precision: dict[int, float]
    mean_average_precision: float
    precision_by_label: dict[str, float]

    @property
    def worst_label(self) -> str:
        """Label whose queries have the lowest precision@10, the first by name among equals."""
        return min(self.precision_by_label, key=lambda label: (self.precision_by_label[label], label))


@dataclass(frozen=True)
class ReverseSearch:
    """How often an indexed image comes first when an altered copy of it is the query.

    Attributes:
        name: Name of the representation, or of the way to search.
        found_first: Share in [0, 1] of the altered images whose original came first, by alteration.
        queries: Images that were altered, each in every way.
        ms: Median time of one query, from pixels to keys, in ms; None where it was not measured.
    """

    name: str
    found_first: dict[str, float]
    queries: int
    ms: float | None = None

    @property
    def mean(self) -> float:
        """Mean of the shares over the alterations."""
        return float(np.mean(list(self.found_first.values())))


@dataclass(frozen=True)
class MissingOriginals:
    """How well right answers are told from wrong ones, where half of the altered copies have no original to be found.

    Attributes:
        name: Name of the way to search.
        normalised: Whether answers are ranked by score instead of by similarity; see `calibration.Calibration`.
        micro_average_precision: Average precision of the first answers of all queries together, in [0, 1].
        recall_at_precision_90: Largest share in [0, 1] of the copies that have an original, found at a threshold where
            9 of 10 answers above it are right.
        queries: Altered copies, those without an original among them.
    """

    name: str
    normalised: bool
    micro_average_precision: float
    recall_at_precision_90: float
    queries: int


@dataclass(frozen=True)
class Against:
    """Another export's encoder beside the index's, by exact search on the same items and queries.

    Attributes:
        model: Name of the other model.
        version: Its version.
        fingerprint: Its fingerprint.
        floats: Floats in one of its latents.
        items: Items that both were compared on.
        queries: Queries that both were compared on.
        overlap: Mean share in [0, 1] of the first ten neighbours of a query that both find.
        precision: Mean share of the first k neighbours that have the query's label, by k (1 and 10), under the other;
            None without labels.
        ours: The same under the index's latents.
    """

    model: str
    version: int
    fingerprint: str
    floats: int
    items: int
    queries: int
    overlap: float
    precision: dict[int, float] | None
    ours: dict[int, float] | None


@dataclass(frozen=True)
class RecallAtEffort:
    """One measurement of an index's search.

    Attributes:
        effort: Work that a query did, in the engine's own unit.
        recall: Share in [0, 1] of the 10 true neighbours that were found.
        error: Standard error of that share.
        latency_ms: Median time of one search, from latent to keys, in ms.
    """

    effort: int
    recall: float
    error: float
    latency_ms: float


@dataclass(frozen=True)
class IndexRecall:
    """What the index's approximate search finds of what exact search finds, on the latents of real queries.

    Attributes:
        recall_at_10: Share in [0, 1] of the 10 true neighbours that are found at `effort`.
        effort: The tuned figure of the index.
        median_ms: Median of one search of the index, from latent to keys, at that `effort`, in ms.
        p99_ms: 99th percentile of the same, in ms.
        queries: Queries that recall was measured with.
        curve: Recall and median latency at several `effort`, rising; the tuned one is among them.
    """

    recall_at_10: float
    effort: int
    median_ms: float
    p99_ms: float
    queries: int
    curve: tuple[RecallAtEffort, ...]


@dataclass(frozen=True)
class Confusion:
    """Whose neighbours are whose.

    Attributes:
        labels: L label names, sorted: those of the queries and of the items.
        shares: float64 `[L, L]`, in [0, 1]: the share of the 10 neighbours of the queries of label `row` that have
            label `column`. A row sums to 1; less where items have no label, 0 where no query has the label.
    """

    labels: tuple[str, ...]
    shares: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
        index: Name of the index's folder.
        model: The model whose latents it holds.
        metric: Its distance, "angular" or "euclidean".
        latent_dim: Floats in one latent.
        image_shape: Height and width in px, channels, as the model takes them.
        items: Items in the index.
        source: Name of the source of the queries.
        queries: Number of queries.
        seed: Seed of everything that was drawn.
        created: UTC time in ISO 8601.
        retrieval: Ours first, then the baselines; empty where no query or no item has a label.
        reverse_search: Ours first, then the baselines; empty where it was not asked for or the images are nowhere.
        recall: The index's recall.
        confusion: Mix-ups of labels among our neighbours; None where `retrieval` is empty.
        examples: Queries to show; all lists are empty where `retrieval` is.
        latents: For the map of latents.
        missing_originals: Ours by similarity and by score; empty where `reverse_search` is.
        reconstructions: None where no training run was named.
        against: Another export's encoder beside the index's; None where none was named.
        damaged: Key and reason of each image that was left out.
        notes: What was left out or is to be known when the figures are read, one sentence each.
    """

    index: str
    model: ModelRef
    metric: Metric
    latent_dim: int
    image_shape: tuple[int, int, int]
    items: int
    source: str
    queries: int
    seed: int
    created: str
    retrieval: tuple[Retrieval, ...]
    reverse_search: tuple[ReverseSearch, ...]
    recall: IndexRecall
    confusion: Confusion | None
    examples: Examples
    latents: LatentSample
    missing_originals: tuple[MissingOriginals, ...] = ()
    reconstructions: Reconstructions | None = None
    against: Against | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, sorted; none where `retrieval` is empty."""
        return self.confusion.labels if self.confusion else ()

    def to_json(self) -> str:
        """Return all figures as one JSON object, without pictures and latents."""
        raw: dict[str, Any] = {
            one.name: _plain(getattr(self, one.name)) for one in fields(self) if one.name not in _NOT_IN_JSON
        }
        for told, row in zip(raw["retrieval"], self.retrieval, strict=True):
            told["worst_label"] = row.worst_label
        for told, search in zip(raw["reverse_search"], self.reverse_search, strict=True):
            told["mean"] = search.mean
        error = self.reconstructions and self.reconstructions.mean_squared_error
        return json.dumps(raw | {"reconstruction_error": error}, indent=2)


def _plain(value: Any) -> Any:
    """Turn dataclasses and arrays into what JSON has, without pictures."""
    if hasattr(value, "__dataclass_fields__"):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value) if one.name != "picture"}
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
