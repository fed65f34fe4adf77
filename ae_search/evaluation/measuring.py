"""The measurements of an evaluation, one by one, on one index and one encoder."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ae_search.calibration import measure, score, stored
from ae_search.contract import Encoder, Index, ModelCard
from ae_search.data import Source
from ae_search.evaluation.items import IndexedItems, Queries, draw_queries
from ae_search.evaluation.measures.baselines import MAX_SIDE_PX
from ae_search.evaluation.measures.copy_alterations import ALTERATION_SETS, AlterationSet
from ae_search.evaluation.measures.metrics import Judged
from ae_search.evaluation.measures.no_original import MOST_ITEMS, Scored, ScoredSearch, search_with_half_hidden
from ae_search.evaluation.measures.retrieval import Gallery, LabelledQueries, measure_baselines
from ae_search.evaluation.measures.reverse import Copies, FirstKeySearch, search_altered
from ae_search.evaluation.reading import ImageShape, ItemImages, small_shape
from ae_search.evaluation.results import MissingOriginals, Retrieval, ReverseSearch
from ae_search.regions import has_regions
from ae_search.views import Pixels

log = logging.getLogger(__name__)

# The small images of all items are in memory for the baselines.
MAX_GALLERY_BYTES = 2**30
# As many as a user sees; the first one counts.
_SEARCHED_K = 10


@dataclass(frozen=True)
class MeasuringPlan:
    """What to measure.

    Attributes:
        queries: Queries at most, at least 1.
        reverse: Items to alter for the strict reverse search, 0 for none.
        baselines: Whether to compare with other representations.
        seed: Seed of everything that is drawn, at least 0.
        alterations: Which ways to alter them: "everyday", "hard" or "all".

    Raises:
        ValueError: A number is below what it may be, or there are no such alterations.
    """

    queries: int = 10_000
    reverse: int = 1_000
    baselines: bool = True
    seed: int = 0
    alterations: AlterationSet = "everyday"

    def __post_init__(self) -> None:
        if self.alterations not in ALTERATION_SETS:
            raise ValueError(f"Expected alterations of {list(ALTERATION_SETS)}. Received: {self.alterations!r}.")
        if self.queries < 1 or self.reverse < 0 or self.seed < 0:
            raise ValueError(f"Expected at least 1 query, and no number below 0. Received: {self}.")


@dataclass(frozen=True)
class Bench:
    """What is measured, and with what.

    Attributes:
        index: The index.
        encoder: Pinned to the index's version.
        card: What it says of itself.
        items: What the index holds.
        images: Where their images are.
        plan: What to measure.
    """

    index: Index
    encoder: Encoder
    card: ModelCard
    items: IndexedItems
    images: ItemImages
    plan: MeasuringPlan

    @property
    def name(self) -> str:
        """Name of our latents."""
        return f"{self.index.model.name} version {self.index.model.version}"

    @property
    def small(self) -> ImageShape:
        """Shape of the images that the baselines see."""
        return small_shape(self.card.image_shape, MAX_SIDE_PX)

    @property
    def is_too_large(self) -> bool:
        """Whether the items are too many for the baselines."""
        return len(self.items.keys) * int(np.prod(self.small)) > MAX_GALLERY_BYTES

    def draw(self, source: Source) -> Queries:
        """Draw and encode the queries."""
        count, seed = self.plan.queries, self.plan.seed
        log.info("encoding up to %d of the %d images of %s", count, len(source), source.name)
        reader = self.images.reader
        return draw_queries(source, self.encoder, reader, self.items, count=count, seed=seed, shape=self.small)

    def judge(self, labelled: LabelledQueries) -> Judged:
        """Find and judge our neighbours of each query."""
        log.info("comparing %d queries with %d items", len(labelled.queries), len(self.items.keys))
        return labelled.judge(labelled.queries.latents, self.items.latents, self.index.metric)

    def reverse(self, searches: Mapping[str, FirstKeySearch]) -> tuple[list[ReverseSearch], Copies | None]:
        """Search with altered images of items, by our latents and in other ways; nothing where there are none."""
        count = min(self.plan.reverse, len(self.items.keys))
        if not count or not self.images.sources:
            return [], None
        log.info("searching with altered images of %d items", count)
        drawn = np.random.default_rng(self.plan.seed).choice(len(self.items.keys), count, replace=False)
        keys = [self.items.keys[at] for at in np.sort(drawn)]
        ways = {self.name: self._search, **searches}
        plan = self.plan
        return search_altered(ways, keys, self.images, shape=self.small, seed=plan.seed, alterations=plan.alterations)

    def missing(self, searches: Mapping[str, ScoredSearch]) -> list[MissingOriginals]:
        """Search with altered images of items, half of which are hidden; nothing where there are none."""
        count, plan = min(self.plan.reverse, len(self.items.keys)), self.plan
        calibration = stored(self.index) or measure(self.index)
        if not count or not self.images.sources or calibration is None:
            return []
        log.info("searching with altered images of up to %d items, half of which are hidden", min(count, MOST_ITEMS))

        def plain(images: Pixels) -> list[list[Scored]]:
            latents = self.encoder.encode(images)
            levels = calibration.levels(latents).tolist()
            rows = self.index.search(latents, 2)
            return [
                [Scored(one.key, one.similarity, score(one.similarity, level)) for one in row]
                for row, level in zip(rows, levels, strict=True)
            ]

        drawn = np.random.default_rng(plan.seed).permutation(len(self.items.keys))[:count]
        keys = [self.items.keys[at] for at in drawn]
        ways = {self.name: plain, **searches}
        return search_with_half_hidden(ways, keys, self.images, seed=plan.seed, alterations=plan.alterations)

    def baselines(
        self, labelled: LabelledQueries | None, copies: Copies | None
    ) -> Iterator[tuple[Retrieval | None, ReverseSearch | None]]:
        """Yield the figures of each baseline; nothing where there is nothing to compare."""
        wanted = self.plan.baselines and self.images.sources and not self.is_too_large
        if not wanted or (labelled is None and copies is None):
            return
        log.info("reading the images of %d items for the baselines", len(self.items.keys))
        gallery = Gallery.of(self.images, self.items, self.small)
        if len(gallery.at):
            yield from measure_baselines(
                labelled, copies, self.items, gallery, latent_dim=self.card.latent_dim, seed=self.plan.seed
            )

    def _search(self, images: Pixels) -> list[str]:
        """Return the key that a user's search finds first for each image."""
        latents = self.encoder.encode(images)
        found = self.index.search(latents, _SEARCHED_K, first_latents=has_regions(self.index))
        return [row[0].key if row else "" for row in found]
