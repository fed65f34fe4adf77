"""The file of cells: latents sorted by the centre that each is nearest to, as plain arrays, without faiss.

faiss's own format is never read: its reader follows whatever numbers it finds. Here every place in the file follows
from counts that the manifest tells and from one array of sizes, which are proved first. In this order, little-endian:

    sizes      int64   [cells]        latents in each cell
    lists              for each cell: its prepared latents float32 [room, d], then their numbers int64 [room], where
                       room is the cell's size made even, so that the numbers lie on whole words; of codes, uint8
                       [room, d], where it is made a multiple of 8
    vectors    float32 [n, d]         the latents as they came, by number
    centres    float32 [cells, d]
    ranges     float32 [2, d]         of codes only: where the range of each number begins, and how wide it is
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
from ae_search.index.engine.codes import Ranges
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
        coded: Whether the lists hold codes.
    """

    shape: BaseShape
    cells: int
    coded: bool

    @property
    def row(self) -> int:
        """Bytes of one latent."""
        return 4 * self.shape.latent_dim

    @property
    def code(self) -> int:
        """Bytes of one latent in a list."""
        return self.shape.latent_dim if self.coded else self.row

    @property
    def extra(self) -> int:
        """Rows of floats behind the latents and the centres."""
        return 3 if self.coded else 1

    def rooms(self, sizes: Ids) -> Ids:
        """Return for how many latents each list has room, `[cells]`."""
        return sizes + -sizes % _room_step(self.coded)

    @property
    def lists(self) -> int:
        """Where the lists begin."""
        return 8 * self.cells

    def starts(self, sizes: Ids) -> Ids:
        """Return where each list begins, and where the last one ends, `[cells + 1]`."""
        starts: Ids = self.lists + np.concatenate([[0], np.cumsum(self.rooms(sizes) * (self.code + 8))])
        return starts

    def bytes(self, lists_end: int) -> int:
        """Return the size of the file."""
        return lists_end + self.row * (self.shape.latents + self.cells + self.extra)


class Cells:
    """Maps a file of cells.

    Args:
        path: The file.
        shape: What it must hold.
        cells: How many cells it must have, at least 1.
        coded: Whether it must hold codes.

    Attributes:
        sizes: Latents in each cell, int64 `[cells]`.
        starts: Where each list begins, and where the last one ends, int64 `[cells + 1]`.
        rooms: For how many latents each list has room, int64 `[cells]`.
        code: Bytes of one latent in a list.
        vectors: The latents, float32 `[n, d]`, a view of the file.
        centres: Float32 `[cells, d]`, a view of the file.
        ranges: What the codes stand for; None where there are none.
        shift: Float32 `[d]`.

    Raises:
        IndexDamagedError: Its size is not what follows from the sizes of its cells.
    """

    def __init__(self, path: Path, shape: BaseShape, cells: int, *, coded: bool = False) -> None:
        self._path, self._places, dim = path, Places(shape, cells, coded), shape.latent_dim
        self.shape, self.bytes = shape, path.stat().st_size
        if self.bytes < self._places.bytes(self._places.lists):
            raise self._damaged(f"{shape.latents} latents of {dim} floats in {cells} cells", f"{self.bytes} bytes")
        self._map = np.memmap(path, np.uint8, "r")
        self.sizes: Ids = np.array(self._part(0, cells, "<i8"))
        # Before anything is added up: sums of wild numbers wrap around.
        if ((self.sizes < 0) | (self.sizes > shape.latents)).any() or self.sizes.sum() != shape.latents:
            raise self._damaged(f"cells that hold {shape.latents} latents", f"sizes that add up to {self.sizes.sum()}")
        self.starts, self.rooms, self.code = (
            self._places.starts(self.sizes),
            self._places.rooms(self.sizes),
            self._places.code,
        )
        end = int(self.starts[-1])
        if self.bytes != self._places.bytes(end):
            raise self._damaged(f"{self._places.bytes(end)} bytes", f"{self.bytes} bytes")
        floats: Any = self._part(end, (shape.latents + cells + self._places.extra) * dim, "<f4").reshape(-1, dim)
        self.vectors: Latents = floats[: shape.latents]
        self.centres: Latents = floats[shape.latents : shape.latents + cells]
        self.ranges = Ranges(np.array(floats[-3]), np.array(floats[-2])) if coded else None
        self.shift: Latents = np.array(floats[-1])

    def list_of(self, cell: int) -> tuple[npt.NDArray[Any], Ids]:
        """Return a cell's prepared latents `[m, d]`, or their codes, and their numbers `[m]`; views of the file."""
        size, start, dim = int(self.sizes[cell]), int(self.starts[cell]), self.shape.latent_dim
        room = int(self.rooms[cell])
        rows: Any = self._part(start, room * dim, "|u1" if self.ranges else "<f4").reshape(-1, dim)
        return rows[:size], self._part(start + room * self.code, size, "<i8")

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
            for block in () if self.ranges else _blocks(rows):  # any byte is a code
                self._check_floats(block, f"in cell {cell}")
        # As many numbers as latents: where each was seen, none came twice.
        if not seen.all():
            raise self._damaged("each latent in one cell", f"latent {int(np.argmin(seen))} in none")
        parts = {"latents": self.vectors, "centres": self.centres, "the shift": self.shift[np.newaxis]}
        if self.ranges:
            parts["the ranges"] = np.stack([self.ranges.low, self.ranges.width])
        for what, floats in parts.items():
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


def write_cells(path: Path, latents: Latents, centres: Centres, owner: Ids, ranges: Ranges | None = None) -> None:
    """Write a file of cells as a stream; memory grows by 16 bytes for each latent.

    Args:
        path: Where it goes.
        latents: Float32 `[n, d]`, may be a memory map.
        centres: What the latents were sorted by.
        owner: The cell of each latent `[n]`.
        ranges: What codes are to stand for; None to write prepared latents.
    """
    sizes = np.bincount(owner, minlength=len(centres.rows)).astype(np.int64)
    # Stable, so that the numbers of a cell ascend.
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(sizes)
    with path.open("wb") as file:
        file.write(sizes.astype("<i8").tobytes())
        for first, last in _cells_at_a_time(sizes * 4 * latents.shape[1]):
            numbers = order[ends[first] - sizes[first] : ends[last - 1]]
            rows = centres.prepared(latents[numbers]).astype("<f4", copy=False)
            _write_lists(file, ranges.codes(rows) if ranges else rows, numbers, sizes[first:last])
        behind = (centres.rows, *((ranges.low, ranges.width) if ranges else ()), centres.shift)
        for block in (*_blocks(latents), *behind):
            file.write(block.astype("<f4", copy=False).tobytes())


def _room_step(coded: bool) -> int:
    """Return what the room of a list is a multiple of."""
    return 8 if coded else 2


def _write_lists(file: BinaryIO, rows: npt.NDArray[Any], numbers: Ids, sizes: Ids) -> None:
    """Write latents as they stand in the lists, or their codes, and their numbers."""
    start = 0
    for size in sizes.tolist():
        some = slice(start, start + size)
        pad = -size % _room_step(rows.dtype == np.uint8)
        file.write(rows[some].tobytes() + bytes(rows.itemsize * rows.shape[1] * pad))
        file.write(numbers[some].astype("<i8", copy=False).tobytes() + bytes(8 * pad))
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
