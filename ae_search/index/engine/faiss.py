"""faiss: latents in cells around centres that were learned, and a search of the cells that are nearest to a query."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np
import numpy.typing as npt

from ae_search.contract import ALL_CORES, Latents, Resources
from ae_search.cores import cores
from ae_search.errors import IndexDamagedError
from ae_search.files import open_regular
from ae_search.index.engine.cells import Cells, Centres, prepared, write_cells
from ae_search.index.options import BaseShape, FaissOptions
from ae_search.nearest.comparing import Ids

# faiss asks for 39 to 256 latents to learn a centre from; with more than 64 the recall was the same.
_LEARNED_FROM = 64
_ROUNDS = 10
_ROWS_PER_BLOCK = 16_384


class FaissEngine:
    """Cells that are mapped into memory, for as long as anybody refers to them; see `Engine`.

    Attributes:
        index: faiss's own index of the cells.
    """

    name: ClassVar[str] = FaissOptions.engine
    file: ClassVar[str] = "cells.bin"

    def __init__(self, path: Path, shape: BaseShape, options: FaissOptions) -> None:
        """Map cells; `open` is the same."""
        self.shape, self._cells = shape, options.cells(shape.latents)
        if not shape.latents:
            self.vectors: Latents = np.empty((0, shape.latent_dim), np.float32)
            return
        cells = Cells(path, shape, self._cells)
        self.vectors, self._file = cells.vectors, cells
        self._centres = _flat(cells.centres, shape)
        self._lists = _mapped(path, cells)
        self.index = faiss.IndexIVFFlat(self._centres, shape.latent_dim, self._cells, self._centres.metric_type)
        self.index.replace_invlists(self._lists, False)
        self.index.ntotal, self.index.is_trained = shape.latents, True
        self._by_effort: dict[int, Any] = {}

    @classmethod
    def open(cls, path: Path, shape: BaseShape, options: FaissOptions) -> Self:
        """Map cells that were checked."""
        return cls(path, shape, options)

    @classmethod
    def probe(cls) -> None:
        """Do nothing: faiss chooses its instructions when it is imported."""

    @classmethod
    def check(cls, path: Path, shape: BaseShape, options: FaissOptions) -> None:
        """Check a stranger's cells; see `Cells.check`."""
        if shape.latents:
            Cells(path, shape, options.cells(shape.latents)).check()

    @classmethod
    def grow(
        cls, path: Path, latents: Latents, shape: BaseShape, options: FaissOptions, *, seed: int, resources: Resources
    ) -> Self:
        """Learn the centres, and sort the latents into cells; see `Engine.grow`."""
        if not shape.latents:
            path.touch()
            return cls(path, shape, options)
        threads = cores() if resources.jobs == ALL_CORES else resources.jobs
        # In a thread of its own, which takes the threads of OpenMP along when it ends: a process that was forked while
        # they wait would never get an answer from them.
        with ThreadPoolExecutor(1) as own:
            own.submit(_grow, path, latents, shape, options, seed=seed, threads=threads).result()
        return cls(path, shape, options)

    @property
    def most_effort(self) -> int:
        """The number of cells."""
        return self._cells

    def first_effort(self, k: int, options: FaissOptions) -> int:
        """Return the number of cells to try first when it is tuned for k neighbours."""
        return 1

    def selection(self, numbers: Ids) -> "Selection":
        """Prepare a search of some latents only."""
        return Selection(numbers, self._owner[numbers], self.shape.latents)

    @cached_property
    def _owner(self) -> npt.NDArray[np.int32]:
        """The cell of each latent `[n]`."""
        owner = np.empty(self.shape.latents, np.int32)
        for cell in range(self._cells):
            owner[self._file.list_of(cell)[1]] = cell
        return owner

    def candidates(self, latent: npt.NDArray[Any], k: int, effort: int, only: "Selection | None" = None) -> list[int]:
        """Return the numbers of about the k nearest latents, the nearest first; see `Engine.candidates`.

        Args:
            latent: Float32 `[d]`.
            k: How many, in [1, n]; so many always come back.
            effort: Cells to look into; raised only while fewer than k come out.
            only: What `selection` returned for the latents that count; None for all.
        """
        row = self._prepared(latent[np.newaxis])
        if only is not None:
            effort = only.cells_for(effort, self.shape.latents / self._cells)
        numbers: list[int] = self._search(row, k, effort, only)[0].tolist()
        while numbers[-1] < 0 and effort < self._cells:
            effort *= 4
            numbers = self._search(row, k, effort, only)[0].tolist()
        return numbers

    def candidates_of_many(self, latents: Latents, k: int, effort: int) -> Ids:
        """Return the same for each of many latents `[m, d]`, `[m, k]`."""
        rows = self._prepared(latents)
        with _threads(1):
            numbers = self._search(rows, k, effort)
            while (few := np.flatnonzero(numbers[:, -1] < 0)).size and effort < self._cells:
                effort *= 4
                numbers[few] = self._search(rows[few], k, effort)
        return numbers

    def _prepared(self, latents: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return queries as they are compared; the length of one does not matter to the order of its neighbours."""
        return np.ascontiguousarray(latents if self.shape.metric == "angular" else latents - self._file.shift)

    def _search(self, rows: npt.NDArray[Any], k: int, effort: int, only: "Selection | None" = None) -> Ids:
        """Ask faiss, without the checks of its Python part, which take as long as a tenth of a query."""
        count, effort = len(rows), min(effort, self._cells)
        known = self._by_effort if only is None else only.by_effort
        if (parameters := known.get(effort)) is None:
            parameters = known[effort] = _parameters(effort) if only is None else only.parameters(effort)
        distances, numbers = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
        pointer = faiss.swig_ptr
        self.index.search_c(count, pointer(rows), k, pointer(distances), pointer(numbers), parameters)
        return numbers


class Selection:
    """Some of the latents, and the cells that hold any of them.

    Args:
        numbers: Numbers of the latents `[m]`.
        owner: The cell of each `[m]`.
        latents: How many latents the base holds.

    Attributes:
        by_effort: Parameters for faiss, by how many cells are looked into.
    """

    def __init__(self, numbers: Ids, owner: npt.NDArray[np.int32], latents: int) -> None:
        cells = np.unique(owner)
        self.by_effort: dict[int, Any] = {}
        self._held, self._cells = len(numbers), len(cells)
        self._among, self._within = _bitmap(numbers, latents), _bitmap(cells, int(cells[-1]) + 1)

    def cells_for(self, effort: int, usual: float) -> int:
        """Return how many cells to look into for as many latents as a search of all sees with some effort.

        Only cells that hold any count, so that it is the fuller ones' number where the latents lie together.
        """
        return min(self._cells, math.ceil(effort * usual * self._cells / self._held))

    def parameters(self, effort: int) -> Any:
        """Return parameters for faiss."""
        nearest = faiss.SearchParameters(sel=self._within)
        return faiss.SearchParametersIVF(nprobe=effort, sel=self._among, quantizer_params=nearest)


def _parameters(effort: int) -> Any:
    return faiss.SearchParametersIVF(nprobe=effort)


def _bitmap(numbers: npt.NDArray[Any], count: int) -> Any:
    """Return a selector of some of `count` numbers, at one bit each."""
    chosen = np.zeros(count, np.bool_)
    chosen[numbers] = True
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let this thread's calls of faiss use so many: readers share the cores among themselves."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _flat(centres: Latents, shape: BaseShape) -> Any:
    """Return faiss's index of the centres, a copy of them."""
    kind = faiss.IndexFlatIP if shape.metric == "angular" else faiss.IndexFlatL2
    flat = kind(shape.latent_dim)
    if len(centres):
        flat.add(np.ascontiguousarray(centres))
    return flat


def _mapped(path: Path, cells: Cells) -> Any:
    """Return faiss's inverted lists, mapped from the file where `cells` says that they lie."""
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size = len(cells.sizes), 4 * cells.shape.latent_dim
    lists.read_only, lists.prefetch_nthread = True, 0
    lists.lists.clear()
    one = faiss.OnDiskOneList()
    for size, start in zip(cells.sizes.tolist(), cells.starts.tolist(), strict=False):
        one.size, one.capacity, one.offset = size, size + (size & 1), start
        lists.lists.push_back(one)
    descriptor = open_regular(path)
    try:
        # By its descriptor: a path need not be UTF-8.
        lists.filename, lists.totsize = f"/dev/fd/{descriptor}", cells.bytes
        lists.do_mmap()
    except RuntimeError as error:
        raise IndexDamagedError(f"faiss cannot map {path} ({error}).") from error
    finally:
        os.close(descriptor)
    return lists


def _grow(path: Path, latents: Latents, shape: BaseShape, options: FaissOptions, *, seed: int, threads: int) -> None:
    with _threads(threads):
        centres = _learned(latents, shape, options.cells(shape.latents), seed)
        nearest = _flat(centres.rows, shape)
        owner = np.empty(shape.latents, np.int64)
        for start in range(0, shape.latents, _ROWS_PER_BLOCK):
            block = centres.prepared(latents[start : start + _ROWS_PER_BLOCK])
            owner[start : start + len(block)] = nearest.assign(block, 1)[:, 0]
    write_cells(path, latents, centres, owner)


def _learned(latents: Latents, shape: BaseShape, cells: int, seed: int) -> Centres:
    """Learn the centres from a sample of latents."""
    size, dim = min(shape.latents, _LEARNED_FROM * cells), shape.latent_dim
    sample = latents[np.sort(np.random.default_rng(seed).choice(shape.latents, size, replace=False))]
    shift = np.zeros(dim, np.float32)
    if shape.metric == "euclidean":
        # faiss adds up squares, which keep more of their digits around zero.
        shift = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    clustering = faiss.Clustering(dim, cells)
    clustering.niter, clustering.seed, clustering.spherical = _ROUNDS, seed % 2**31, shape.metric == "angular"
    # The sample has as many as it should: without these, faiss draws another from it, or warns on stderr.
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, 2 * _LEARNED_FROM
    clustering.train(prepared(sample, shift, shape.metric), _flat(sample[:0], shape))
    return Centres(faiss.vector_to_array(clustering.centroids).reshape(cells, dim), shift, shape.metric)
