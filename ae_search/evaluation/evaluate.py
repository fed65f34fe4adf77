"""Evaluate an index: retrieval beside baselines, strict reverse search, recall, and what a report shows."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ae_search.contract import Encoder, Index
from ae_search.data import Source
from ae_search.evaluation.items import IndexedItems, Queries
from ae_search.evaluation.measures.against import compare_encoders
from ae_search.evaluation.measures.no_original import ScoredSearch
from ae_search.evaluation.measures.recall import measure_recall
from ae_search.evaluation.measures.retrieval import LabelledQueries
from ae_search.evaluation.measures.reverse import FirstKeySearch
from ae_search.evaluation.measures.samples import Pictures, Reconstruct, examples, reconstructions, sample_latents
from ae_search.evaluation.measuring import MAX_GALLERY_BYTES, Bench, MeasuringPlan
from ae_search.evaluation.reading import ItemImages, Reader
from ae_search.evaluation.results import Against, Evaluation, Retrieval
from ae_search.evaluation.shown import Examples
from ae_search.handshake import matching
from ae_search.nearest import NONE

DEFAULT_PLAN = MeasuringPlan()


def evaluate(
    index: Index,
    encoder: Encoder,
    source: Source,
    databases: Sequence[Source] = (),
    *,
    plan: MeasuringPlan = DEFAULT_PLAN,
    searches: Mapping[str, FirstKeySearch] | None = None,
    scored: Mapping[str, ScoredSearch] | None = None,
    reconstruct: Reconstruct | None = None,
    against: Encoder | None = None,
) -> Evaluation:
    """Measure how good an index, and the latents in it, are for the images of a source.

    Retrieval compares each query with every item. The strict reverse search of our latents goes through the index, as a
    user's search does; that of the baselines compares with every item.

    Args:
        index: The index.
        encoder: Served or in this process; the version that the index was built with is taken.
        source: The queries.
        databases: Where the images of the index's items are; the first one that has a key counts.
        plan: What to measure.
        searches: More ways to search, by name, for the strict reverse search.
        scored: More ways to search, by name, for copies whose original is hidden.
        reconstruct: The autoencoder, if its reconstructions are to be shown.
        against: Another encoder, to be compared with the index's.

    Raises:
        ConfigurationError: The index is empty, or no query can be read.
        ModelMismatchError: The encoder has no version with the index's fingerprint.
        ServerError: The encoder does not answer.
    """
    pinned = matching(encoder, index.model, index.place)
    card = pinned.describe()
    images = ItemImages(databases, Reader(card.image_shape, fit=card.fit))
    bench = Bench(index, pinned, card, IndexedItems.of(index), images, plan)
    queries = bench.draw(source)
    labelled = LabelledQueries.of(queries, bench.items)
    ours, judged = _compared(bench, labelled)
    searched, copies = bench.reverse(searches or {})
    beside = list(bench.baselines(labelled, copies))
    other = None if against is None else compare_encoders(index, against, bench.items, queries, images)
    return Evaluation(
        **_facts(bench, queries),
        **judged,
        **_shown(bench, queries, reconstruct),
        retrieval=(*ours, *(row for row, _ in beside if row)),
        reverse_search=(*searched, *(row for _, row in beside if row)),
        missing_originals=tuple(bench.missing(scored or {})),
        recall=measure_recall(index, queries.latents, bench.items.keys_of(queries.own)),
        against=other,
        damaged=dict(images.reader.damaged),
        notes=(*_notes(bench, queries, labelled), *_not_compared(against, other)),
    )


def _facts(bench: Bench, queries: Queries) -> dict[str, Any]:
    return {
        "index": Path(bench.index.place).name,
        "model": bench.index.model,
        "metric": bench.index.metric,
        "latent_dim": bench.card.latent_dim,
        "image_shape": bench.card.image_shape,
        "items": len(bench.items.keys),
        "source": queries.source.name,
        "queries": len(queries),
        "seed": bench.plan.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _compared(bench: Bench, labelled: LabelledQueries | None) -> tuple[list[Retrieval], dict[str, Any]]:
    """Return our figures, and what else needs labels."""
    if labelled is None:
        return [], {"confusion": None, "examples": Examples()}
    judged = bench.judge(labelled)
    shown = examples(judged, labelled.queries, bench.items, Pictures(bench.index, bench.images), seed=bench.plan.seed)
    ours = judged.retrieval(bench.name, bench.card.latent_dim)
    return [ours], {"confusion": judged.confusion(), "examples": shown}


def _shown(bench: Bench, queries: Queries, reconstruct: Reconstruct | None) -> dict[str, Any]:
    made = None if reconstruct is None else reconstructions(reconstruct, queries, bench.images.reader)
    pictures = Pictures(bench.index, bench.images)
    return {"latents": sample_latents(bench.items, pictures, bench.plan.seed), "reconstructions": made}


def _not_compared(against: Encoder | None, found: Against | None) -> Iterator[str]:
    if against is not None and found is None:
        card = against.describe()
        yield f"{card.name} version {card.version} was not compared: no item or no query has an image that can be read."


def _notes(bench: Bench, queries: Queries, labelled: LabelledQueries | None) -> Iterator[str]:
    """Yield what is to be known when the figures are read."""
    unlabelled = sum(label is None for label in queries.labels)
    if labelled is None:
        which = "query" if unlabelled == len(queries) else "item of the index"
        yield f"No {which} has a label, so retrieval was not measured."
    elif unlabelled:
        yield f"{unlabelled} of {len(queries)} queries have no label; retrieval was measured with the others."
    if known := int((queries.own != NONE).sum()):
        yield f"{known} of {len(queries)} queries are items of the index; none is counted as a neighbour of itself."
    images = bench.images
    if not images.sources:
        yield "Where the images of the items are was not told: no strict reverse search and no baselines."
    elif bench.plan.baselines and bench.is_too_large:
        yield f"The index is too large for the baselines: its images take more than {MAX_GALLERY_BYTES >> 30} GiB."
    if images.missing:
        told = ", ".join(source.name for source in images.sources)
        yield f"{len(images.missing)} items have no image in {told}; they are missing where images were needed."
    if images.reader.damaged:
        yield f"{len(images.reader.damaged)} images cannot be read and were left out."
