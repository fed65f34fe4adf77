"""faiss: latents in cells around centres that were learned, and a search of the cells that are nearest to a query."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
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
from ae_search.index.engine.cells import Cells
from ae_search.index.engine.faiss_cells import flat, grow_cells, threads_of
from ae_search.index.engine.faiss_selection import Selection
from ae_search.index.options import BaseShape, FaissCodesOptions, FaissOptions
from ae_search.nearest.comparing import Ids

# Scores that differ by less may be equal; and how many times k are looked at for the end of a row of equal ones.
_SAME = 2e-6
_MOST_TIED, _LEAST_TIED = 16, 256
# How many times k are compared exactly, where the cells hold codes.
_LOOKS_AT_CODES = 3


class FaissEngine:
    """Cells that are mapped into memory, for as long as anybody refers to them; see `Engine`.

    Attributes:
        index: faiss's own index of the cells.
    """

    name: ClassVar[str] = FaissOptions.engine
    file: ClassVar[str] = "cells.bin"

    def __init__(self, path: Path, shape: BaseShape, options: FaissOptions) -> None:
        """Map cells; `open` is the same."""
        self.shape, self._cells, self.looks = shape, options.cells(shape.latents), 1
        if not shape.latents:
            self.vectors: Latents = np.empty((0, shape.latent_dim), np.float32)
            return
        cells = Cells(path, shape, self._cells, coded=isinstance(options, FaissCodesOptions))
        self.vectors, self._file = cells.vectors, cells
        self._centres = flat(cells.centres, shape)
        self._lists = _mapped(path, cells)
        self.index = _around(self._centres, cells)
        self.looks = _LOOKS_AT_CODES if cells.ranges else 1
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
            coded = isinstance(options, FaissCodesOptions)
            Cells(path, shape, options.cells(shape.latents), coded=coded).check()

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
            own.submit(grow_cells, path, latents, shape, options, seed=seed, threads=threads).result()
        return cls(path, shape, options)

    @property
    def most_effort(self) -> int:
        """The number of cells."""
        return self._cells

    def first_effort(self, k: int, options: FaissOptions) -> int:
        """Return the number of cells to try first when it is tuned for k neighbours."""
        return 1

    def selection(self, numbers: Ids) -> Selection:
        """Prepare a search of some latents only."""
        return Selection(numbers, self._owner[numbers], self.shape.latents)

    @cached_property
    def _owner(self) -> npt.NDArray[np.int32]:
        """The cell of each latent `[n]`."""
        owner = np.empty(self.shape.latents, np.int32)
        for cell in range(self._cells):
            owner[self._file.list_of(cell)[1]] = cell
        return owner

    def candidates(self, latent: npt.NDArray[Any], k: int, effort: int, only: Selection | None = None) -> list[int]:
        """Return the numbers of about the k nearest latents, the nearest first; see `Engine.candidates`.

        Args:
            latent: Float32 `[d]`.
            k: How many, in [1, n]; so many always come back.
            effort: Cells to look into; raised only while fewer than k come out.
            only: What `selection` returned for the latents that count; None for all.
        """
        row, most = self._prepared(latent), self.shape.latents if only is None else len(only)
        if only is not None:
            effort = only.cells_for(effort, self.shape.latents / self._cells)
        k = min(self.looks * k, most)
        products = row if self.shape.metric == "angular" else None
        # One more, to see whether those that are as near come to an end.
        fetch = min(k + 1, most)
        scores, numbers = self._search(row, 1, fetch, effort, only)
        while numbers[0, k - 1] < 0 and effort < self._cells:
            effort *= 4
            scores, numbers = self._search(row, 1, fetch, effort, only)
        tied = _one_tied(scores, k, products)
        while tied and _one_tied(scores, k, products) and fetch < min(max(_MOST_TIED * k, _LEAST_TIED), most):
            fetch = min(4 * fetch, most)
            scores, numbers = self._search(row, 1, fetch, effort, only)
        chosen: list[int] = numbers[0, : fetch if tied else k].tolist()
        return chosen if chosen[-1] >= 0 else [number for number in chosen if number >= 0]

    def candidates_of_many(self, latents: Latents, k: int, effort: int) -> Ids | list[list[int]]:
        """Return the same for each of many latents `[m, d]`; `[m, k]` where none has more."""
        with threads_of(1):
            rows, wide = self._prepared(latents), min(self.looks * k, self.shape.latents)
            scores, found = self._search(rows, len(rows), min(wide + 1, self.shape.latents), effort)
            numbers = found[:, :wide]
            again = np.flatnonzero(
                (numbers[:, -1] < 0) | _tied(scores, wide, rows if self.shape.metric == "angular" else None)
            )
            if not again.size:
                return numbers
            lists: list[list[int]] = numbers.tolist()
            for row in again.tolist():
                lists[row] = self.candidates(latents[row], k, effort)
        return lists

    def _prepared(self, latents: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return queries as they are compared; the length of one does not matter to the order of its neighbours."""
        return np.ascontiguousarray(latents if self.shape.metric == "angular" else latents - self._file.shift)

    def _search(
        self, rows: npt.NDArray[Any], count: int, k: int, effort: int, only: Selection | None = None
    ) -> tuple[Latents, Ids]:
        """Ask faiss, without the checks of its Python part, which take as long as a tenth of a query.

        Args:
            rows: Queries `[count, d]`, or the one `[d]`.
            count: How many.
            k: How many to fetch for each.
            effort: Cells to look into.
            only: As in `candidates`.

        Returns:
            Scores and numbers, both `[m, k]`; where there are too few, the last numbers are -1.
        """
        effort = min(effort, self._cells)
        known = self._by_effort if only is None else only.by_effort
        if (parameters := known.get(effort)) is None:
            parameters = known[effort] = _parameters(effort) if only is None else only.parameters(effort)
        scores, numbers = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
        pointer = faiss.swig_ptr
        self.index.search_c(count, pointer(rows), k, pointer(scores), pointer(numbers), parameters)
        return scores, numbers


def _tied(scores: Latents, k: int, rows: Latents | None) -> npt.NDArray[np.bool_]:
    """Tell of each row whether what comes after the k-th is as near, but for rounding.

    faiss adds up equal latents in another order by where they lie in their cell.

    Args:
        scores: Float32 `[m, k]` or more.
        k: How many are wanted.
        rows: The queries `[m, d]` where the scores are inner products, which may be 0; None for squared distances.
    """
    if scores.shape[1] <= k:
        return np.zeros(len(scores), np.bool_)
    last, after = scores[:, k - 1], scores[:, -1]
    scale = np.abs(last) if rows is None else np.sqrt(np.vecdot(rows, rows))
    tied: npt.NDArray[np.bool_] = np.abs(after - last) <= _SAME * scale
    return tied


def _one_tied(scores: Latents, k: int, row: Latents | None) -> bool:
    """Tell the same of one row, in plain floats: NumPy would take longer than all else beside faiss."""
    if scores.shape[1] <= k:
        return False
    last, after = scores.item(k - 1), scores.item(-1)
    scale = abs(last) if row is None else math.sqrt(row.dot(row))
    return abs(after - last) <= _SAME * scale


def _around(centres: Any, cells: Cells) -> Any:
    """Return faiss's index of some centres, for lists of latents or of codes."""
    kind = centres.metric_type
    if cells.ranges is None:
        return faiss.IndexIVFFlat(centres, cells.shape.latent_dim, len(cells.sizes), kind)
    eight = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(centres, cells.shape.latent_dim, len(cells.sizes), eight, kind, False)
    faiss.copy_array_to_vector(np.concatenate([cells.ranges.low, cells.ranges.width]), index.sq.trained)
    return index


def _parameters(effort: int) -> Any:
    return faiss.SearchParametersIVF(nprobe=effort)


def _mapped(path: Path, cells: Cells) -> Any:
    """Return faiss's inverted lists, mapped from the file where `cells` says that they lie."""
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size = len(cells.sizes), cells.code
    lists.read_only, lists.prefetch_nthread = True, 0
    lists.lists.clear()
    one = faiss.OnDiskOneList()
    for size, room, start in zip(cells.sizes.tolist(), cells.rooms.tolist(), cells.starts.tolist(), strict=False):
        one.size, one.capacity, one.offset = size, room, start
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
