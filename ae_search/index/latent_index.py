"""Searching an index."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.errors import IndexDamagedError
from ae_search.index.catalogue import CATALOGUE, Catalogue
from ae_search.index.exact import Floats, Ids, checked_latents, compare, nearest
from ae_search.index.forest import FOREST, Forest
from ae_search.index.manifest import MAX_COUNT, Manifest, ModelRef, live_generation
from ae_search.index.tuning import TUNED_K


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One answer to a query.

    Attributes:
        rank: Place among the answers, from 1.
        key: Key of the item.
        label: Label of the item, if it has one.
        similarity: Cosine similarity in [-1, 1].
        distance: Distance by the index's metric.
        id: Number of the item in this generation.
    """

    rank: int
    key: str
    label: str | None
    similarity: float
    distance: float
    id: int


class LatentIndex:
    """One generation of an index, opened for search; safe to share between threads.

    Attributes:
        path: Folder of the index.
        manifest: Manifest of the generation.
    """

    def __init__(self, path: Path, generation: Path) -> None:
        """Open one generation; callers use `open`."""
        self.path = path
        self.manifest = Manifest.read(generation)
        self._catalogue = Catalogue(generation / CATALOGUE, self.manifest.items)
        try:
            self._forest: Forest | None = Forest.checked_load(generation / FOREST, self.manifest)
        except BaseException:
            self._catalogue.close()
            raise

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the live generation of an index and check its files.

        Raises:
            ConfigurationError: `path` is no index, or one of a newer format.
            IndexDamagedError: A file is missing, cut short or altered.
        """
        index = Path(path)
        generation = live_generation(index)
        while True:
            try:
                return cls(index, generation)
            except IndexDamagedError:
                # A writer may have published the next generation and removed this one meanwhile.
                newer = live_generation(index)
                if newer == generation:
                    raise
                generation = newer

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        # Not unmapped here: another thread may be in the middle of a search.
        self._forest = None
        self._catalogue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.manifest.items

    @property
    def model(self) -> ModelRef:
        """The model whose latents the index holds."""
        return self.manifest.model

    def search(
        self, latents: npt.ArrayLike, k: int = 10, *, search_k: int | None = None, exact: bool = False
    ) -> list[list[Neighbour]]:
        """Find the items that are nearest to each latent.

        Args:
            latents: Float32 `[n, d]`, or one latent `[d]`.
            k: Neighbours for each latent, at least 1; an index with fewer items returns all of them.
            search_k: Candidates to look at. None takes the manifest's tuned figure, which for more than 10
                neighbours grows with k.
            exact: Whether to compare with every item instead of asking the forest.

        Returns:
            One list for each latent, nearest first, equal distances by id.

        Raises:
            ValueError: `k` or `search_k` is below 1, or the latents are of another size or not finite.
            IndexDamagedError: The catalogue cannot be read.
        """
        rows = checked_latents(latents, self.manifest.latent_dim)
        if k < 1 or (search_k is not None and search_k < 1):
            raise ValueError(f"Expected k and search_k of at least 1. Received: k={k}, search_k={search_k}.")
        k = min(k, len(self))
        forest = self._opened()
        if exact:
            found = list(zip(*nearest(rows, forest.vectors, k, forest.metric), strict=True))
        else:
            found = [_approximate(forest, row, k, search_k or self._search_k(k)) for row in rows]
        catalogued = self._catalogue.rows([item for ids, _, _ in found for item in ids.tolist()])
        return [
            _neighbours(ids, distances, similarities, catalogued[start : start + k])
            for start, (ids, distances, similarities) in zip(range(0, k * len(found), k), found, strict=True)
        ]

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""
        number = self._catalogue.id_of(item) if isinstance(item, str) else item.id
        return None if number is None else self._catalogue.thumbnail(number)

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        return self._catalogue.labels()

    def keys(self) -> list[str]:
        """Return the keys of all items, by id."""
        return self._catalogue.keys()

    def _search_k(self, k: int) -> int:
        # Tuned for 10: with the same work, the recall of a longer list would fall.
        return min(-(-self.manifest.search_k * max(k, TUNED_K) // TUNED_K), MAX_COUNT)

    def _opened(self) -> Forest:
        if self._forest is None:
            raise ValueError("The index is closed.")
        return self._forest


def _approximate(forest: Forest, latent: Latents, k: int, search_k: int) -> tuple[Ids, Floats, Floats]:
    ids = np.array(forest.candidates(latent.tolist(), k, search_k), dtype=np.int64)
    # Annoy's own distances are float32, where an item's distance to itself can come out as 3e-4.
    distances, similarities = compare(latent, forest.vectors[ids], forest.metric)
    order = np.lexsort((ids, distances))
    return ids[order], distances[order], similarities[order]


def _neighbours(
    ids: Ids, distances: Floats, similarities: Floats, rows: list[tuple[str, str | None]]
) -> list[Neighbour]:
    columns = zip(rows, similarities.tolist(), distances.tolist(), ids.tolist(), strict=True)
    return [
        Neighbour(rank, key, label, similarity, distance, item)
        for rank, ((key, label), similarity, distance, item) in enumerate(columns, 1)
    ]
