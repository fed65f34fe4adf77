"""The part that touches Annoy: growing a forest, and mapping one that was checked first."""

import hashlib
import shutil
from pathlib import Path
from typing import Self

import numpy as np
from annoy import AnnoyIndex

from ae_search.contract import Latents, Metric
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index.manifest import MAX_COUNT, ForestFile, Manifest

FOREST = "forest.ann"

# Bytes before the vector of a node (annoylib.h, Angular::Node and Euclidean::Node).
_NODE_HEAD_BYTES: dict[Metric, int] = {"angular": 12, "euclidean": 16}

_ROWS_PER_BLOCK = 4096


class Forest:
    """A forest that is mapped into memory, for as long as anybody refers to it.

    Args:
        annoy: The Annoy index, built or loaded from `path`.
        path: The file.
        metric: Annoy's name of the distance.

    Attributes:
        vectors: The items' latents, float32 `[n, d]`, a view of the file.
        metric: Annoy's name of the distance.
    """

    def __init__(self, annoy: AnnoyIndex, path: Path, metric: Metric) -> None:
        self._annoy = annoy
        self.metric = metric
        self.vectors = _item_vectors(path, annoy.get_n_items(), annoy.f, metric)
        # A search of this many candidates walks through all trees.
        self._exhaustive = min(annoy.get_n_items() * annoy.get_n_trees(), MAX_COUNT)

    @classmethod
    def grow(cls, path: Path, latents: Latents, metric: Metric, *, n_trees: int, seed: int) -> Self:
        """Build a forest on disk.

        Args:
            path: Where the file goes.
            latents: Float32 `[n, d]`; may be a memory map, it is read once, by blocks.
            metric: Annoy's name of the distance.
            n_trees: Trees to grow, at least 1.
            seed: Seed in [0, 2**32).

        Raises:
            ConfigurationError: The disk has no room for it.
        """
        n, dim = latents.shape
        _check_room(path, n, dim, n_trees)
        annoy = AnnoyIndex(dim, metric)
        annoy.set_seed(seed)
        annoy.on_disk_build(str(path))
        for start in range(0, n, _ROWS_PER_BLOCK):
            # Annoy reads a list several times faster than it reads an array.
            for item, row in enumerate(latents[start : start + _ROWS_PER_BLOCK].tolist(), start):
                annoy.add_item(item, row)
        annoy.build(n_trees, n_jobs=-1)
        return cls(annoy, path, metric)

    @classmethod
    def checked_load(cls, path: Path, manifest: Manifest) -> Self:
        """Map a forest, after its file proved to be the one that the manifest describes.

        Annoy itself checks nothing: a wrong or truncated file answers nonsense or kills the process.

        Raises:
            IndexDamagedError: The file is missing, cut short, altered or another one.
        """
        _check_file(path, manifest)
        annoy = AnnoyIndex(manifest.latent_dim, manifest.metric)
        try:
            annoy.load(str(path))
        except OSError as error:
            raise IndexDamagedError(f"Annoy cannot map {path} ({error}).") from error
        # Not its trees: of a tiny forest that was loaded, Annoy counts each root twice.
        if annoy.get_n_items() != manifest.items:
            raise _damaged(path, f"{manifest.items} items", f"{annoy.get_n_items()} items")
        return cls(annoy, path, manifest.metric)

    def candidates(self, latent: list[float], k: int, search_k: int) -> list[int]:
        """Return the ids of about the k nearest items.

        Args:
            latent: d floats.
            k: How many, in [1, n]; so many always come back.
            search_k: Candidates to look at; raised only while fewer than k come out.
        """
        search_k = min(search_k, self._exhaustive)
        ids = self._annoy.get_nns_by_vector(latent, k, search_k)
        while len(ids) < k and search_k < self._exhaustive:
            search_k = min(4 * search_k, self._exhaustive)
            ids = self._annoy.get_nns_by_vector(latent, k, search_k)
        return ids

    @property
    def exhaustive_search_k(self) -> int:
        """The `search_k` that looks at every item."""
        return self._exhaustive


def describe_file(path: Path) -> ForestFile:
    """Return size and digest of a file, read as a stream."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return ForestFile(path.stat().st_size, digest.hexdigest())


def _check_file(path: Path, manifest: Manifest) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise IndexDamagedError(f"Cannot read {path}: {error.strerror}; restore it or build the index anew.") from error
    if size != manifest.forest.size:
        raise _damaged(path, f"{manifest.forest.size} bytes", f"{size} bytes")
    node = _NODE_HEAD_BYTES[manifest.metric] + 4 * manifest.latent_dim
    if size % node or size // node < manifest.items:
        raise _damaged(path, f"{manifest.items} or more nodes of {node} bytes", f"{size} bytes")
    if (digest := describe_file(path).sha256) != manifest.forest.sha256:
        raise _damaged(path, f"sha256 {manifest.forest.sha256}", digest)


def _damaged(path: Path, expected: str, received: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"{path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
        "Restore it or build the index anew."
    )


def _item_vectors(path: Path, items: int, dim: int, metric: Metric) -> Latents:
    # Annoy's nodes all have one size, and items 0 to n-1 are the first n of them.
    head = _NODE_HEAD_BYTES[metric]
    node = np.dtype(
        {"names": ["latent"], "formats": [(np.float32, (dim,))], "offsets": [head], "itemsize": head + 4 * dim}
    )
    vectors: Latents = np.asarray(np.memmap(path, node, mode="r", shape=(items,)))["latent"]
    return vectors


def _check_room(path: Path, items: int, dim: int, n_trees: int) -> None:
    # Annoy writes through a sparse mapping: on a full disk the process dies of SIGBUS instead of raising.
    # A leaf holds up to d + 2 ids; trees were seen to take 3n / (d + 2) nodes, and the file to grow by 30 %.
    nodes = items + n_trees * (4 * items // (dim + 2) + 4)
    needed = int(1.3 * nodes * (16 + 4 * dim))
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ConfigurationError(
            f"A forest of {items} items needs up to {needed >> 20} MiB beside {path}. Received: {free >> 20} MiB free."
        )
