"""Some of the latents of a base, for a search that looks at them only."""

import math
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from ae_search.nearest.comparing import Ids


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

    def __len__(self) -> int:
        return self._held

    def cells_for(self, effort: int, usual: float) -> int:
        """Return how many cells to look into for as many latents as a search of all sees with some effort.

        Only cells that hold any count, so that it is the fuller ones' number where the latents lie together.
        """
        return min(self._cells, math.ceil(effort * usual * self._cells / self._held))

    def parameters(self, effort: int) -> Any:
        """Return parameters for faiss."""
        nearest = faiss.SearchParameters(sel=self._within)
        return faiss.SearchParametersIVF(nprobe=effort, sel=self._among, quantizer_params=nearest)


def _bitmap(numbers: npt.NDArray[Any], count: int) -> Any:
    """Return a selector of some of `count` numbers, at one bit each."""
    chosen = np.zeros(count, np.bool_)
    chosen[numbers] = True
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
