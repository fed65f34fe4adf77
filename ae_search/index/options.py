"""How an index is built, as values: the engine's options, what a build may use of the machine, and all of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from ae_search.checked_json import MAX_COUNT, whole_of
from ae_search.contract import Metric, Resources
from ae_search.errors import ConfigurationError

MAX_N_TREES = 10_000
MAX_N_CELLS = 65_536


class EngineOptions(Protocol):
    """What an engine builds its base with; kept in the manifest, and taken over by the next generation."""

    engine: ClassVar[str]

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check options that a stranger may have written; a ValueError says what is wrong."""

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""

    def most_effort(self, latents: int) -> int:
        """Return the largest effort that there is a use for, with so many latents."""


@dataclass(frozen=True)
class AnnoyOptions:
    """Options of Annoy.

    Attributes:
        n_trees: Trees in the forest, 1 to 10,000; more are more exact, slower to build and larger. Measured with 60,000
            clustered latents of 128: 40 are built in 2 s on two cores, with recall 0.98 at 0.4 ms a query. 20 need more
            effort for it, 80 take twice the time and half as much disk again.
    """

    engine: ClassVar[str] = "annoy"
    n_trees: int = 40

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.n_trees <= MAX_N_TREES:
            raise ValueError(f"Expected n_trees in [1, {MAX_N_TREES}]. Received: {self.n_trees}.")

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check options that a stranger may have written; a ValueError says what is wrong."""
        return cls(whole_of(raw, "n_trees", 1, MAX_N_TREES))

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""
        return {"n_trees": self.n_trees}

    def most_effort(self, latents: int) -> int:
        """Return the largest effort that there is a use for, with so many latents."""
        # In a small forest, Annoy counts each root twice, and a lone item as one more.
        return max(1, min(latents * (2 * self.n_trees + 1), MAX_COUNT))


@dataclass(frozen=True)
class FaissOptions:
    """Options of faiss, which keeps latents in cells around centres and searches the cells that are nearest to a query.

    Attributes:
        n_cells: Cells, 0 to 65,536. 0 chooses 4 sqrt(n) for n latents, anew for each generation. Fewer cells hold more
            latents each, so that a query compares with more of them; more cells take longer to learn.
    """

    engine: ClassVar[str] = "faiss"
    n_cells: int = 0

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.n_cells <= MAX_N_CELLS:
            raise ValueError(f"Expected n_cells in [0, {MAX_N_CELLS}]. Received: {self.n_cells}.")

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check options that a stranger may have written; a ValueError says what is wrong."""
        return cls(whole_of(raw, "n_cells", 0, MAX_N_CELLS))

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""
        return {"n_cells": self.n_cells}

    def cells(self, latents: int) -> int:
        """Return how many cells there are for so many latents, at least 1."""
        # Not more than can be learned: a centre of fewer than 8 latents stands for nothing but these.
        return max(1, min(self.n_cells or round(4 * math.sqrt(latents)), latents // 8, MAX_N_CELLS))

    def most_effort(self, latents: int) -> int:
        """Return the largest effort that there is a use for, with so many latents."""
        return self.cells(latents)


@dataclass(frozen=True)
class FaissCodesOptions(FaissOptions):
    """Options of faiss, whose cells hold 8 bits of each number; what they find is compared again with the latents.

    An index is a third smaller, and a search reads a quarter as much: for more latents than fit into memory.
    """

    engine: ClassVar[str] = "faiss-8bit"


@dataclass(frozen=True)
class BuildOptions:
    """How an index is built.

    Attributes:
        engine: Options of the engine, whose class names the engine.
        seed: Seed of the base and of the measurement, in [0, 2**32).
        recall: Share of the 10 true neighbours that a query shall find, in (0, 1].
        replace: Whether an existing index may be replaced.
        resources: What the build may use of the machine.
        wait_s: How long to wait for another writer of this index, in s.
        fields: Fields of the metadata that filters look up instead of reading every item; at most 16.
    """

    engine: EngineOptions = field(default_factory=AnnoyOptions)
    seed: int = 42
    recall: float = 0.98
    replace: bool = False
    resources: Resources = field(default_factory=Resources)
    wait_s: float = 0.0
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.seed < 2**32 or not 0.0 < self.recall <= 1.0:
            raise ValueError(
                f"Expected seed in [0, 2**32) and recall in (0, 1]. Received: seed={self.seed}, recall={self.recall}."
            )


@dataclass(frozen=True)
class BaseShape:
    """What a base holds.

    Attributes:
        latents: How many latents.
        latent_dim: Floats in one latent.
        metric: Distance that they are compared with.
    """

    latents: int
    latent_dim: int
    metric: Metric


ENGINE_OPTIONS: Mapping[str, type[EngineOptions]] = {
    AnnoyOptions.engine: AnnoyOptions,
    FaissOptions.engine: FaissOptions,
    FaissCodesOptions.engine: FaissCodesOptions,
}


def engine_options(engine: str, trees: int | None = None, cells: int | None = None) -> EngineOptions:
    """Return options of an engine by its name.

    Args:
        engine: Name of the engine.
        trees: `AnnoyOptions.n_trees`, None for the default.
        cells: `FaissOptions.n_cells`, None for the default.

    Raises:
        ConfigurationError: There is no such engine, or it takes no such option.
    """
    if engine not in ENGINE_OPTIONS:
        raise ConfigurationError(f"The engines are {', '.join(ENGINE_OPTIONS)}. Received: {engine!r}.")
    kind = ENGINE_OPTIONS[engine]
    if issubclass(kind, AnnoyOptions) and cells is None:
        return kind() if trees is None else kind(trees)
    if issubclass(kind, FaissOptions) and trees is None:
        return kind() if cells is None else kind(cells)
    raise ConfigurationError(f"Trees are for annoy, cells for faiss. Received one of them for {engine}.")
