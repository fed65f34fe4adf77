"""Labelled queries compared with the items of an index, under our latents and under each baseline."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ae_search.contract import Metric
from ae_search.evaluation.items import IndexedItems, Queries
from ae_search.evaluation.measures.baselines import fit_baselines
from ae_search.evaluation.measures.metrics import DEPTH, Judged, NumberedLabels
from ae_search.evaluation.measures.reverse import Copies, search_baseline
from ae_search.evaluation.reading import ImageShape, ItemImages, shrunk
from ae_search.evaluation.results import Retrieval, ReverseSearch
from ae_search.nearest import NONE, Ids, Rows, top_k
from ae_search.views import Pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledQueries:
    """Queries that have a label, and what counts as found for them.

    Attributes:
        queries: q queries, each with a label.
        labels: Their labels and those of the items.
        own: Id of the item that is the query itself `[q]`, -1 where there is none.
    """

    queries: Queries
    labels: NumberedLabels
    own: Ids

    @classmethod
    def of(cls, queries: Queries, items: IndexedItems) -> "LabelledQueries | None":
        """Return those of some queries that have a label; None where no query or no item has a label."""
        labelled = queries.at([row for row, label in enumerate(queries.labels) if label is not None])
        if not len(labelled) or all(label is None for label in items.labels):
            return None
        names = [label for label in labelled.labels if label is not None]
        return cls(labelled, NumberedLabels.of(names, items.labels), labelled.own)

    def judge(self, queries: Rows, items: Rows, metric: Metric) -> Judged:
        """Find the nearest 1000 of vectors `[n, d]` for each of `[q, d]`, and compare their labels."""
        found = top_k(queries, items, DEPTH, metric, skip=self.own)
        return Judged.of(found, self.labels, self.own)

    def among(self, chosen: Ids) -> "LabelledQueries":
        """Return the same queries with only some of the items, renumbered."""
        place = np.full(len(self.labels.items) + 1, NONE)
        place[chosen] = np.arange(len(chosen))
        # The last place answers for -1.
        return LabelledQueries(self.queries, self.labels.at(chosen), place[self.own])


@dataclass(frozen=True)
class Gallery:
    """Small images of the items, for the baselines.

    Attributes:
        pixels: uint8 `[m, h, w, c]`.
        at: Ids of the m items, rising.
    """

    pixels: Pixels
    at: Ids

    @classmethod
    def of(cls, images: ItemImages, items: IndexedItems, shape: ImageShape) -> "Gallery":
        """Read the images of all items; those without a readable one are left out."""
        pixels = np.empty((len(items.keys), *shape), np.uint8)
        at = np.empty(len(items.keys), np.int64)
        count = 0
        for some, ids in images.blocks(items.keys):
            part = slice(count, count + len(ids))
            pixels[part], at[part] = shrunk(some, shape), ids
            count += len(ids)
        return cls(pixels[:count], at[:count])


def measure_baselines(
    labelled: LabelledQueries | None,
    copies: Copies | None,
    items: IndexedItems,
    gallery: Gallery,
    *,
    latent_dim: int,
    seed: int,
) -> Iterator[tuple[Retrieval | None, ReverseSearch | None]]:
    """Yield the figures of one baseline after the other.

    Args:
        labelled: The queries; None where there are no labels.
        copies: Altered images of items; None where there are none.
        items: The items.
        gallery: Their images, at least one.
        latent_dim: Floats that a baseline may have.
        seed: As in `fit_baselines`.
    """
    keys = [items.keys[at] for at in gallery.at]
    some = None if labelled is None else labelled.among(gallery.at)
    for baseline in fit_baselines(gallery.pixels, latent_dim, seed=seed):
        log.info("comparing by %s", baseline.name)
        vectors = baseline.vectors(gallery.pixels)
        retrieval = None
        if some is not None:
            judged = some.judge(baseline.vectors(some.queries.pixels), vectors, "angular")
            retrieval = judged.retrieval(baseline.name, baseline.floats)
        yield retrieval, None if copies is None else search_baseline(baseline, vectors, keys, copies)
