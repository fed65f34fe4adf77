"""Latents as codes of 8 bits a number, which faiss compares a query with: a quarter of the size, and about right."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents

_MOST = 255


@dataclass(frozen=True)
class Ranges:
    """The range of each of d numbers that its codes divide into 256 steps, as faiss's `ScalarQuantizer` does.

    Attributes:
        low: Where it begins, float32 `[d]`.
        width: How wide it is, float32 `[d]`, at least 0.
    """

    low: npt.NDArray[np.float32]
    width: npt.NDArray[np.float32]

    @classmethod
    def of(cls, sample: Latents) -> Self:
        """Return the ranges that some prepared latents `[n, d]` fill; what goes beyond gets the nearest code."""
        low = sample.min(axis=0)
        return cls(low, sample.max(axis=0) - low)

    def codes(self, rows: Latents) -> npt.NDArray[np.uint8]:
        """Return the codes of prepared latents, uint8 `[n, d]`."""
        steps: Any = np.divide(rows - self.low, self.width, out=np.zeros_like(rows), where=self.width > 0.0)
        np.clip(steps, 0.0, 1.0, out=steps)
        steps *= _MOST
        codes: npt.NDArray[np.uint8] = steps.astype(np.uint8)
        return codes
