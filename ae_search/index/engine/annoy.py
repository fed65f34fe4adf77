"""The part that touches Annoy: growing a forest, and mapping one that was checked first."""

import re
import shutil
from pathlib import Path
from typing import Self

import numpy as np
from annoy import AnnoyIndex

from ae_search.checked_json import MAX_COUNT
from ae_search.contract import Latents, Metric
from ae_search.cores import cores
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.files import umask
from ae_search.index.engine.annoy_nodes import Nodes
from ae_search.index.search.comparing import Found, Query, compare, compare_many

FOREST = "forest.ann"

_ROWS_PER_BLOCK = 4096


class Forest:
    """A forest that is mapped into memory, for as long as anybody refers to it.

    Args:
        path: The file, proved to be the one that its manifest describes; empty where there are no items.
        items: Items that it must hold.
        latent_dim: Floats in one latent.
        metric: Annoy's name of the distance.

    Attributes:
        vectors: The items' latents, float32 `[n, d]`, a view of the file.
        metric: Annoy's name of the distance.

    Raises:
        IndexDamagedError: Annoy cannot map it, or finds other items.
    """

    def __init__(self, path: Path, items: int, latent_dim: int, metric: Metric) -> None:
        self.metric = metric
        self._annoy = AnnoyIndex(latent_dim, metric)
        self._exhaustive = 1
        if not items:
            self.vectors: Latents = np.empty((0, latent_dim), np.float32)
            return
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise IndexDamagedError(f"Annoy cannot map {path} ({error}).") from error
        # Not its trees: of a tiny forest, Annoy counts each root twice.
        if self._annoy.get_n_items() != items:
            raise IndexDamagedError(
                f"{path} is damaged or belongs to another index: expected {items} items. "
                f"Received: {self._annoy.get_n_items()}. Restore it or build the index anew."
            )
        self.vectors = Nodes(path, latent_dim, metric).vectors(items)
        # A search of this many candidates walks through all trees.
        self._exhaustive = min(items * self._annoy.get_n_trees(), MAX_COUNT)

    @classmethod
    def grow(
        cls, path: Path, latents: Latents, metric: Metric, *, n_trees: int, seed: int, jobs: int, on_disk: bool | None
    ) -> Self:
        """Build a forest.

        Args:
            path: Where the file goes.
            latents: Float32 `[n, d]`; may be a memory map, it is read once, by blocks.
            metric: Annoy's name of the distance.
            n_trees: Trees to grow, at least 1.
            seed: Seed in [0, 2**32).
            jobs: Threads, -1 for all cores; only with 1 is the file the same each time.
            on_disk: Whether Annoy builds within the file instead of in memory. None: only if the forest would take
                more than half of the memory that is free.

        Raises:
            ConfigurationError: The disk has no room for it.
        """
        n, dim = latents.shape
        if not n:
            path.touch()
            return cls(path, n, dim, metric)
        needed = _room(n, dim, n_trees)
        _check_disk(path, n, needed)
        annoy = AnnoyIndex(dim, metric)
        annoy.set_seed(seed)
        if on_disk or (on_disk is None and needed > _free_memory() / 2):
            annoy.on_disk_build(str(path))
            path.chmod(0o666 & ~umask())  # Annoy lets nobody else read it
        for start in range(0, n, _ROWS_PER_BLOCK):
            # Annoy reads a list several times faster than it reads an array.
            for item, row in enumerate(latents[start : start + _ROWS_PER_BLOCK].tolist(), start):
                annoy.add_item(item, row)
        annoy.build(n_trees, n_jobs=cores() if jobs == -1 else jobs)
        annoy.save(str(path))
        annoy.unload()
        return cls(path, n, dim, metric)

    def candidates(self, latent: list[float], k: int, search_k: int) -> list[int]:
        """Return the ids of about the k nearest items, the nearest first.

        Args:
            latent: d floats.
            k: How many, in [1, n]; so many always come back.
            search_k: Candidates to look at; raised only while fewer than k come out.
        """
        search_k = min(search_k, self._exhaustive)
        ids: list[int] = self._annoy.get_nns_by_vector(latent, k, search_k)
        while len(ids) < k and search_k < self._exhaustive:
            search_k = min(4 * search_k, self._exhaustive)
            ids = self._annoy.get_nns_by_vector(latent, k, search_k)
        return ids

    def nearest(self, query: Query, k: int, search_k: int) -> list[Found]:
        """Return about the k nearest items, equal distances by id; arguments as in `candidates`."""
        ids = self.candidates(query.floats, k, search_k)
        # Annoy's own distances are float32, where an item's distance to itself can come out as 3e-4.
        found = compare(query, ids, self.vectors[ids], self.metric)
        found.sort()
        return found

    def nearest_many(self, latents: Latents, k: int, search_k: int) -> list[list[Found]]:
        """Do the same for some dozens of latents `[m, d]`."""
        ids = [self.candidates(floats, k, search_k) for floats in latents.tolist()]
        return compare_many(latents, ids, self.vectors, self.metric)

    @property
    def exhaustive_effort(self) -> int:
        """The `search_k` that looks at every item."""
        return self._exhaustive


def _room(items: int, dim: int, n_trees: int) -> int:
    """Return about the bytes that a build may need at its largest."""
    # A leaf holds up to d + 2 ids; trees were seen to take 3n / (d + 2) nodes, and the file to grow by 30 %.
    nodes = items + n_trees * (4 * items // (dim + 2) + 4)
    return int(1.3 * nodes * (16 + 4 * dim))


def _check_disk(path: Path, items: int, needed: int) -> None:
    # Annoy writes through a sparse mapping: on a full disk the process dies of SIGBUS instead of raising.
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ConfigurationError(
            f"A forest of {items} items needs up to {needed >> 20} MiB beside {path}. Received: {free >> 20} MiB free."
        )


def _free_memory() -> float:
    """Return the bytes of memory that are available, without limit where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return float("inf")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024.0 if match else float("inf")
