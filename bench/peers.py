"""The adapters of the engines that ae-search is compared with, besides Annoy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from bench.datasets import DIM, DataSet, K
from bench.engines import Seconds, library
from bench.progress import CORES

# hnswlib's own defaults, given to all three graphs.
M = 16
EF_CONSTRUCTION = 200

# From faiss's guidelines for up to a million vectors: 4 sqrt(n) lists, and at least 30 vectors to learn each from.
LISTS_PER_ROOT = 4
LEARNED_FROM = 64

_ITEMS_PER_BLOCK = 16_384


class BruteForce:
    """NumPy in float32, by blocks of items."""

    name, library, parameter, first = "numpy", "numpy", "", 0

    def __init__(self) -> None:
        self.options: dict[str, Any] = {"items_per_block": _ITEMS_PER_BLOCK}

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Save the normalised latents."""
        latents = np.array(data.latents())
        clock = Seconds()
        folder.mkdir(parents=True)
        np.save(folder / "latents.npy", _normalised(latents))
        clock.stage("save")
        return clock.stages

    def open(self, folder: Path) -> None:
        """Map the latents."""
        self.latents = np.load(folder / "latents.npy", mmap_mode="r")
        self.blas, self.cores = library("threadpoolctl").ThreadpoolController(), 0

    def tell(self, setting: int) -> None:
        """Do nothing: the search is exact."""

    def query(self, latent: Latents) -> Any:
        """Compare with all items, a block at a time."""
        return self._nearest(latent[np.newaxis], cores=1)[0]

    def batch(self, latents: Latents) -> Any:
        """Compare with all items, a block at a time."""
        return self._nearest(latents, cores=CORES)

    def ids(self, answer: Any) -> list[int]:
        """Return the row of ids."""
        return list(map(int, answer))

    def _nearest(self, latents: Latents, cores: int) -> Any:
        if cores != self.cores:
            self.blas.limit(limits=cores)
            self.cores = cores
        best = np.full((len(latents), K), -np.inf, np.float32)
        ids = np.zeros((len(latents), K), np.int64)
        for start in range(0, len(self.latents), _ITEMS_PER_BLOCK):
            scores = latents @ self.latents[start : start + _ITEMS_PER_BLOCK].T
            better = scores > best.min(axis=1)[:, np.newaxis]
            for row in np.flatnonzero(better.any(axis=1)):
                chosen = np.flatnonzero(better[row])
                values = np.concatenate([best[row], scores[row, chosen]])
                top = np.argpartition(-values, K - 1)[:K]
                best[row], ids[row] = values[top], np.concatenate([ids[row], chosen + start])[top]
        order = np.argsort(-best, axis=1)
        return np.take_along_axis(ids, order, axis=1)


class Hnswlib:
    """hnswlib with cosine distance."""

    name, library, parameter, first = "hnswlib", "hnswlib", "ef", K

    def __init__(self, seed: int) -> None:
        self.options: dict[str, Any] = {"M": M, "ef_construction": EF_CONSTRUCTION, "random_seed": seed}

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Build the graph on all cores and save it."""
        index = library(self.library).Index(space="cosine", dim=DIM)
        latents = np.array(data.latents())
        clock = Seconds()
        index.init_index(max_elements=data.items, **self.options)
        index.add_items(latents, num_threads=CORES)
        clock.stage("add")
        folder.mkdir(parents=True)
        index.save_index(str(folder / "index.bin"))
        clock.stage("save")
        return clock.stages

    def open(self, folder: Path) -> None:
        """Read the graph into memory."""
        self.index = library(self.library).Index(space="cosine", dim=DIM)
        self.index.load_index(str(folder / "index.bin"))

    def tell(self, setting: int) -> None:
        """Set `ef`."""
        self.index.set_ef(setting)

    def query(self, latent: Latents) -> Any:
        """Ask on one thread."""
        return self.index.knn_query(latent, K, num_threads=1)

    def batch(self, latents: Latents) -> Any:
        """Ask on one thread a core."""
        return self.index.knn_query(latents, K, num_threads=CORES)

    def ids(self, answer: Any) -> list[int]:
        """Return the only row of labels."""
        return list(map(int, answer[0][0]))


class Faiss:
    """faiss by inner product of normalised items; the length of a query does not change the order of its neighbours.

    Args:
        kind: "HNSW", a flat HNSW graph, or "IVF", inverted lists.
    """

    library = "faiss"

    def __init__(self, kind: str) -> None:
        self.is_graph = kind == "HNSW"
        self.name = f"faiss {kind}"
        self.parameter, self.first = ("efSearch", K) if self.is_graph else ("nprobe", 1)
        lists = {"nlist": f"{LISTS_PER_ROOT} sqrt(n)", "learned_from": f"{LEARNED_FROM} nlist"}
        self.options: dict[str, Any] = {"M": M, "efConstruction": EF_CONSTRUCTION} if self.is_graph else lists

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Learn the lists, add the items on all cores, and save."""
        faiss = library(self.library)
        faiss.omp_set_num_threads(CORES)
        latents = np.array(data.latents())
        clock = Seconds()
        if self.is_graph:
            index = faiss.IndexHNSWFlat(DIM, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
        else:
            nlist = round(LISTS_PER_ROOT * math.sqrt(data.items))
            index = faiss.index_factory(DIM, f"IVF{nlist},Flat", faiss.METRIC_INNER_PRODUCT)
            # Taken from the first items: they are in no order.
            index.train(_normalised(latents[: LEARNED_FROM * nlist]))
            clock.stage("train")
        index.add(_normalised(latents))
        clock.stage("add")
        folder.mkdir(parents=True)
        faiss.write_index(index, str(folder / "index.faiss"))
        clock.stage("save")
        return clock.stages

    def open(self, folder: Path) -> None:
        """Read the index into memory."""
        faiss = library(self.library)
        # A single query is one thread's work all the same.
        faiss.omp_set_num_threads(CORES)
        self.index = faiss.read_index(str(folder / "index.faiss"))

    def tell(self, setting: int) -> None:
        """Set `efSearch` or `nprobe`."""
        if self.is_graph:
            self.index.hnsw.efSearch = setting
        else:
            self.index.nprobe = setting

    def query(self, latent: Latents) -> Any:
        """Ask with one row."""
        return self.index.search(latent[np.newaxis], K)

    def batch(self, latents: Latents) -> Any:
        """Ask with all rows."""
        return self.index.search(latents, K)

    def ids(self, answer: Any) -> list[int]:
        """Return the only row of ids, without the -1 of places left empty."""
        return [int(item) for item in answer[1][0] if item >= 0]


class Usearch:
    """usearch with cosine distance in float32, its file mapped."""

    name, library, parameter, first = "usearch", "usearch.index", "expansion_search", K

    def __init__(self) -> None:
        self.options: dict[str, Any] = {"connectivity": M, "expansion_add": EF_CONSTRUCTION}

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Build the graph on all cores and save it."""
        index = library(self.library).Index(ndim=DIM, metric="cos", dtype="f32", **self.options)
        latents = np.array(data.latents())
        clock = Seconds()
        index.add(np.arange(data.items), latents, threads=CORES)
        clock.stage("add")
        folder.mkdir(parents=True)
        index.save(folder / "index.usearch")
        clock.stage("save")
        return clock.stages

    def open(self, folder: Path) -> None:
        """Map the graph."""
        self.index = library(self.library).Index.restore(folder / "index.usearch", view=True)

    def tell(self, setting: int) -> None:
        """Set `expansion_search`."""
        self.index.expansion_search = setting

    def query(self, latent: Latents) -> Any:
        """Ask on one thread."""
        return self.index.search(latent, K, threads=1)

    def batch(self, latents: Latents) -> Any:
        """Ask on one thread a core."""
        return self.index.search(latents, K, threads=CORES)

    def ids(self, answer: Any) -> list[int]:
        """Return the keys."""
        return list(map(int, answer.keys))


def _normalised(latents: Latents) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = latents / np.linalg.norm(latents, axis=1, keepdims=True)
    return unit
