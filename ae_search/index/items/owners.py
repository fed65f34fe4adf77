"""Which item each latent of the base belongs to, where items may have several."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_search.errors import IndexDamagedError
from ae_search.index.search.comparing import Ids

# Item of each latent, ascending: n little-endian 32-bit numbers. Where each item has one latent, there is no such file.
OWNERS = "owners.u32"


class Owners:
    """Maps the file.

    Args:
        path: The file, proved to be the one that its manifest describes.
        items: How many items there are, at least 1.
        latents: How many latents they have.

    Raises:
        IndexDamagedError: It has another size.
    """

    def __init__(self, path: Path, items: int, latents: int) -> None:
        if path.stat().st_size != 4 * latents:
            raise IndexDamagedError(f"{path} does not hold {latents} numbers; restore it or build the index anew.")
        self._path, self._items = path, items
        self._owners: npt.NDArray[np.uint32] = np.memmap(path, "<u4", "r", shape=(latents,))

    def of(self, latents: npt.ArrayLike) -> Ids:
        """Return the items that some latents belong to."""
        owners: Ids = self._owners[np.asarray(latents, np.int64)].astype(np.int64)
        return owners

    def first(self, items: npt.ArrayLike) -> Ids:
        """Return the number of the first latent of some items; that of one item more than there are is the end."""
        return np.searchsorted(self._owners, np.asarray(items, np.uint32)).astype(np.int64)

    def latents_of(self, items: Ids) -> Ids:
        """Return the numbers of all latents of some items; both ascending."""
        starts, ends = self.first(items), self.first(items + 1)
        counts = ends - starts
        # Where each item's run begins in the answer, taken off its numbers: 0, 1, 2, ... from there on.
        offsets = np.repeat(starts - (np.cumsum(counts) - counts), counts)
        numbers: Ids = np.arange(len(offsets)) + offsets
        return numbers

    def check(self, most_latents: int) -> None:
        """Check that each item has at least one latent and at most so many, in order.

        Raises:
            IndexDamagedError: It is not so.
        """
        steps = np.diff(self._owners.astype(np.int64), prepend=-1, append=self._items)
        runs = np.diff(np.flatnonzero(steps))
        if steps.min() < 0 or steps.max() > 1 or not steps[-1] or runs.max() != most_latents:
            raise IndexDamagedError(
                f"{self._path} is damaged: expected each of {self._items} items with 1 to {most_latents} latents. "
                "Restore it or build the index anew."
            )


def write_owners(path: Path, blocks: Sequence[tuple[int, int]]) -> None:
    """Write the file of items that come in blocks of n with r latents each."""
    first = 0
    with path.open("wb") as file:
        for count, latents in blocks:
            file.write(np.repeat(np.arange(first, first + count, dtype="<u4"), latents).tobytes())
            first += count
