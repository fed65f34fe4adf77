"""The file of cells: latents sorted by the centre that each is nearest to, as plain arrays, without faiss.

faiss's own format is never read: its reader follows whatever numbers it finds. Here every place in the file follows
from counts that the manifest tells and from one array of sizes, which are proved first. In this order, little-endian:

    sizes      int64   [cells]        latents in each cell
    lists              for each cell: its prepared latents float32 [room, d], then their numbers int64 [room], where
                       room is the cell's size made even, so that the numbers lie on whole words
    vectors    float32 [n, d]         the latents as they came, by number
    centres    float32 [cells, d]
    shift      float32 [d]            what was taken off each latent before it was compared

A prepared latent is of length 1 (angular), or less the shift (euclidean).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric
from ae_search.errors import IndexDamagedError
from ae_search.index.options import BaseShape
from ae_search.nearest.comparing import MAX_MAGNITUDE, Ids

_BYTES_PER_BLOCK = 16 << 20
# Both the latents and their shift are within MAX_MAGNITUDE.
_MOST = 2.01 * MAX_MAGNITUDE


@dataclass(frozen=True)
class Places:
    """Where each part of a file of cells lies.

    Attributes:
        shape: What the base holds.
        cells: How many cells.
    """

    shape: BaseShape
    cells: int

    @property
    def row(self) -> int:
        """Bytes of one latent."""
        return 4 * self.shape.latent_dim

    @property
    def lists(self) -> int:
        """Where the lists begin."""
        return 8 * self.cells

    def starts(self, sizes: Ids) -> Ids:
        """Return where each list begins, and where the last one ends, `[cells + 1]`."""
        room = (sizes + (sizes & 1)) * (self.row + 8)
        starts: Ids = self.lists + np.concatenate([[0], np.cumsum(room)])
        return starts

    def bytes(self, lists_end: int) -> int:
        """Return the size of the file."""
        return lists_end + self.row * (self.shape.latents + self.cells + 1)


class Cells:
    """Maps a file of cells.

    Args:
        path: The file.
        shape: What it must hold.
        cells: How many cells it must have, at least 1.

    Attributes:
        sizes: Latents in each cell, int64 `[cells]`.
        starts: Where each list begins, and where the last one ends, int64 `[cells + 1]`.
        vectors: The latents, float32 `[n, d]`, a view of the file.
        centres: Float32 `[cells, d]`, a view of the file.
        shift: Float32 `[d]`.

    Raises:
        IndexDamagedError: Its size is not what follows from the sizes of its cells.
    """

    def __init__(self, path: Path, shape: BaseShape, cells: int) -> None:
        self._path, self._places, dim = path, Places(shape, cells), shape.latent_dim
        self.shape, self.bytes = shape, path.stat().st_size
        if self.bytes < self._places.bytes(self._places.lists):
            raise self._damaged(f"{shape.latents} latents of {dim} floats in {cells} cells", f"{self.bytes} bytes")
        self._map = np.memmap(path, np.uint8, "r")
        self.sizes: Ids = np.array(self._part(0, cells, "<i8"))
        # Before anything is added up: sums of wild numbers wrap around.
        if ((self.sizes < 0) | (self.sizes > shape.latents)).any() or self.sizes.sum() != shape.latents:
            raise self._damaged(f"cells that hold {shape.latents} latents", f"sizes that add up to {self.sizes.sum()}")
        self.starts = self._places.starts(self.sizes)
        end = int(self.starts[-1])
        if self.bytes != self._places.bytes(end):
            raise self._damaged(f"{self._places.bytes(end)} bytes", f"{self.bytes} bytes")
        floats: Any = self._part(end, (shape.latents + cells + 1) * dim, "<f4").reshape(-1, dim)
        self.vectors: Latents = floats[: shape.latents]
        self.centres: Latents = floats[shape.latents : -1]
        self.shift: Latents = np.array(floats[-1])

    def list_of(self, cell: int) -> tuple[Latents, Ids]:
        """Return the prepared latents `[m, d]` of a cell, and their numbers `[m]`; both views of the file."""
        size, start, dim = int(self.sizes[cell]), int(self.starts[cell]), self.shape.latent_dim
        room = size + (size & 1)
        rows: Any = self._part(start, room * dim, "<f4").reshape(-1, dim)
        return rows[:size], self._part(start + room * self._places.row, size, "<i8")

    def check(self) -> None:
        """Check that each latent is in one cell, and that every number is finite and of a size that adds up.

        Raises:
            IndexDamagedError: It is not so.
        """
        seen = np.zeros(self.shape.latents, np.bool_)
        for cell in np.flatnonzero(self.sizes).tolist():
            rows, numbers = self.list_of(cell)
            if numbers.min() < 0 or numbers.max() >= len(seen) or (numbers[1:] <= numbers[:-1]).any():
                raise self._damaged("numbers of latents, ascending", f"others in cell {cell}")
            seen[numbers] = True
            for block in _blocks(rows):
                self._check_floats(block, f"in cell {cell}")
        # As many numbers as latents: where each was seen, none came twice.
        if not seen.all():
            raise self._damaged("each latent in one cell", f"latent {int(np.argmin(seen))} in none")
        for what, floats in (("latents", self.vectors), ("centres", self.centres), ("the shift", self.shift[None])):
            for block in _blocks(floats):
                self._check_floats(block, f"in {what}")

    def _check_floats(self, block: Latents, where: str) -> None:
        # NaN fails the comparison.
        if not (np.abs(block) <= _MOST).all():
            raise self._damaged(f"finite floats, at most {_MOST:g} in magnitude", f"others {where}")

    def _part(self, start: int, count: int, dtype: str) -> Any:
        size = np.dtype(dtype).itemsize
        return np.asarray(self._map)[start : start + count * size].view(dtype)

    def _damaged(self, expected: str, received: str) -> IndexDamagedError:
        return IndexDamagedError(
            f"{self._path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
            "Restore it or build the index anew."
        )


@dataclass(frozen=True)
class Centres:
    """What latents are sorted by.

    Attributes:
        rows: The centres, float32 `[cells, d]`.
        shift: What is taken off each latent, float32 `[d]`; zeros for "angular".
        metric: Distance that latents are compared with.
    """

    rows: Latents
    shift: Latents
    metric: Metric

    def prepared(self, latents: Latents) -> Latents:
        """Return latents `[n, d]` as they are compared: of length 1, but for those of zeros; or less the shift."""
        return prepared(latents, self.shift, self.metric)


def prepared(latents: Latents, shift: Latents, metric: Metric) -> Latents:
    """Return latents `[n, d]` as they are compared; see `Centres.prepared`."""
    if metric == "euclidean":
        return latents - shift
    lengths = np.sqrt(np.vecdot(latents, latents, dtype=np.float64))[:, np.newaxis]
    units: Latents = np.divide(latents, lengths, out=np.zeros(latents.shape), where=lengths > 0.0).astype(np.float32)
    return units


def write_cells(path: Path, latents: Latents, centres: Centres, owner: Ids) -> None:
    """Write a file of cells as a stream; memory grows by 16 bytes for each latent.

    Args:
        path: Where it goes.
        latents: Float32 `[n, d]`, may be a memory map.
        centres: What the latents were sorted by.
        owner: The cell of each latent `[n]`.
    """
    sizes = np.bincount(owner, minlength=len(centres.rows)).astype(np.int64)
    # Stable, so that the numbers of a cell ascend.
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(sizes)
    with path.open("wb") as file:
        file.write(sizes.astype("<i8").tobytes())
        for first, last in _cells_at_a_time(sizes * 4 * latents.shape[1]):
            numbers = order[ends[first] - sizes[first] : ends[last - 1]]
            _write_lists(file, centres.prepared(latents[numbers]), numbers, sizes[first:last])
        for block in (*_blocks(latents), centres.rows, centres.shift):
            file.write(block.astype("<f4", copy=False).tobytes())


def _write_lists(file: BinaryIO, rows: Latents, numbers: Ids, sizes: Ids) -> None:
    start = 0
    for size in sizes.tolist():
        pad = size & 1
        file.write(rows[start : start + size].astype("<f4", copy=False).tobytes() + bytes(4 * rows.shape[1] * pad))
        file.write(numbers[start : start + size].astype("<i8", copy=False).tobytes() + bytes(8 * pad))
        start += size


def _cells_at_a_time(cell_bytes: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield runs of cells `[first, last)` of about a block's size."""
    first, held = 0, 0
    for cell, size in enumerate(cell_bytes.tolist()):
        if cell > first and held + size > _BYTES_PER_BLOCK:
            yield first, cell
            first, held = cell, 0
        held += size
    yield first, len(cell_bytes)


def _blocks(rows: Latents) -> Iterator[Latents]:
    size = max(1, _BYTES_PER_BLOCK // (4 * rows.shape[1]))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
