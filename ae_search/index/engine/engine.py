"""What an engine does for an index, and where each one is."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy.typing as npt

from ae_search.contract import Latents, Resources
from ae_search.errors import ConfigurationError
from ae_search.extras import install, needs
from ae_search.index.options import BaseShape, EngineOptions, FaissOptions
from ae_search.nearest.comparing import Ids


class Engine(Protocol):
    """An immutable base of latents, mapped into memory for as long as anybody refers to it.

    Attributes:
        file: Name of the base's file within a generation.
        shape: What the base holds.
        vectors: The latents, float32 `[n, d]`, a view of the file.
        looks: How many candidates it returns for each one that is wanted, because their order is only about right.
    """

    file: ClassVar[str]
    shape: BaseShape
    vectors: Latents
    looks: int

    @classmethod
    def grow(
        cls, path: Path, latents: Latents, shape: BaseShape, options: Any, *, seed: int, resources: Resources
    ) -> Self:
        """Build a base.

        Args:
            path: Where the file goes.
            latents: Float32 `[n, d]`; may be a memory map, it is read once, by blocks.
            shape: What the base will hold.
            options: The engine's own options.
            seed: Seed in [0, 2**32).
            resources: What the build may use of the machine.

        Raises:
            ConfigurationError: The disk has no room for it.
        """

    @classmethod
    def open(cls, path: Path, shape: BaseShape, options: Any) -> Self:
        """Map a base that was checked.

        Raises:
            IndexDamagedError: The library cannot map it, or finds other latents.
        """

    @classmethod
    def probe(cls) -> None:
        """Check that the library runs on this processor.

        Raises:
            ConfigurationError: It does not.
        """

    @classmethod
    def check(cls, path: Path, shape: BaseShape, options: Any) -> None:
        """Check a stranger's file before the library sees it, so that a search ends soon whatever it holds.

        Raises:
            IndexDamagedError: It is not what the engine writes.
        """

    @property
    def most_effort(self) -> int:
        """The effort that looks at every latent."""

    def first_effort(self, k: int, options: Any) -> int:
        """Return the effort to try first when it is tuned for k neighbours."""

    def selection(self, numbers: Ids) -> Any | None:
        """Prepare a search of some latents only.

        Args:
            numbers: Their numbers `[m]`, ascending, at least one.

        Returns:
            What `candidates` takes as `only`; None where the engine always looks at all latents.
        """

    def candidates(self, latent: npt.NDArray[Any], k: int, effort: int, only: Any | None = None) -> list[int]:
        """Return the numbers of about the k nearest latents, the nearest first, or about so.

        Args:
            latent: Float32 `[d]`.
            k: How many, in [1, n]; so many always come back, and more where others may be as near as the last, or
                where they have to be compared to tell which are the nearest.
            effort: Work to do, at least 1; raised only while fewer than k come out.
            only: What `selection` returned for the latents that count, of which there must be k; None for all.
        """

    def candidates_of_many(self, latents: Latents, k: int, effort: int) -> Ids | list[list[int]]:
        """Return the same for each of many latents `[m, d]`, on one core: the caller shares them out among threads."""


def engine_of(options: EngineOptions) -> type[Engine]:
    """Return the engine that options belong to; its library is imported now.

    Raises:
        ConfigurationError: Its library is not installed; the text says what to install.
    """
    if isinstance(options, FaissOptions):
        with needs(f"An index with the engine {options.engine} needs faiss", "faiss"):
            from ae_search.index.engine.faiss import FaissEngine
        return FaissEngine
    try:
        from ae_search.index.engine.annoy import AnnoyEngine
    except ImportError as error:
        raise ConfigurationError(
            "An index with the engine annoy needs annoy, which cannot be imported: pip install annoy (with a C++ "
            f"compiler), or build it with --engine faiss: {install(FaissOptions.engine)}."
        ) from error
    return AnnoyEngine
