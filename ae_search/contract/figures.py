"""What an index says of itself: its figures, what was checked, and its duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ae_search.contract.card import Metric, ModelRef


@dataclass(frozen=True)
class RecallPoint:
    """One measurement of an engine.

    Attributes:
        effort: Work that it did for a query, in its own unit.
        recall: Share in [0, 1] of the true neighbours that were found.
        error: Standard error of that share.
        latency_ms: Median of one query, in ms.
    """

    effort: int
    recall: float
    error: float
    latency_ms: float


@dataclass(frozen=True)
class IndexInfo:
    """Figures of an index.

    Attributes:
        place: Where the index is: a folder, or a URL without its password.
        generation: Name of the live generation.
        items: Items that a search can find.
        latents: Latents of these items; more than items where some have several.
        in_base: Items in the engine's base, removed ones among them.
        added: Items added since the base was built.
        removed: Items of the base removed since.
        bytes: Size of the generation on disk.
        model: The model whose latents it holds.
        image_shape: Height and width in px, channels, as that model takes images; None where it is not known.
        latent_dim: Floats in one latent.
        metric: Distance of the index.
        engine: Name of the engine.
        engine_options: What the engine builds its base with.
        effort: Work that a query does, in the engine's own unit; for Annoy, its `search_k`.
        recall: Recall@10 measured at that effort.
        target_recall: Recall@10 that was asked for.
        recall_curve: Everything that was measured, by rising effort.
        sources: Sources that the items came from.
        created: When the base was built, UTC time in ISO 8601.
        compact_because: Why compacting is worth it, None where it is not yet.
        fields: Fields of the metadata that filters look up instead of reading every item.
    """

    place: str
    generation: str
    items: int
    latents: int
    in_base: int
    added: int
    removed: int
    bytes: int
    model: ModelRef
    image_shape: tuple[int, int, int] | None
    latent_dim: int
    metric: Metric
    engine: str
    engine_options: Mapping[str, Any]
    effort: int
    recall: float
    target_recall: float
    recall_curve: tuple[RecallPoint, ...]
    sources: tuple[str, ...]
    created: str
    compact_because: str | None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One thing that `verify` checked.

    Attributes:
        what: What.
        fault: What is wrong, None where nothing is.
    """

    what: str
    fault: str | None


@dataclass(frozen=True)
class DuplicateGroup:
    """Items each of which is almost the same as another one of the group.

    Attributes:
        keys: Their keys, by id.
        similarity: The least cosine similarity that ties the group together; where latents have a part that tells
            copies, and no similarity was given, it is that of the latents with more weight on that part.
    """

    keys: list[str]
    similarity: float
