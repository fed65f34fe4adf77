"""Building an index: the model that its latents come from, and what takes its items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy.typing as npt

from ae_search.contract.card import Metric
from ae_search.contract.encoder import Latents
from ae_search.contract.figures import IndexInfo
from ae_search.contract.item import Items, Metadata

ALL_CORES = -1


@dataclass(frozen=True)
class Resources:
    """What a build may use of the machine; it does not change what is found.

    Attributes:
        jobs: Threads that grow the base, at least 1, or -1 for all cores. Only with 1 is the base of the same items the
            same file each time; it then takes about as many times longer as there are cores.
        on_disk: Whether the base is grown within its file instead of in memory, which is slower. None: only if it would
            take more than half of the memory that is free.
    """

    jobs: int = ALL_CORES
    on_disk: bool | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if not (self.jobs >= 1 or self.jobs == ALL_CORES):
            raise ValueError(f"Expected jobs of at least 1, or -1 for all cores. Received: {self.jobs}.")


class Origin(Protocol):
    """What an index must know of the model that its latents come from; a `ModelCard` says all of it."""

    @property
    def name(self) -> str:
        """Model name."""

    @property
    def version(self) -> int:
        """Version number, at least 1."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the model."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height and width in px, channels; None where it is not known."""

    @property
    def latent_dim(self) -> int:
        """Floats in one latent."""

    @property
    def metric(self) -> Metric:
        """Distance to compare latents with."""


class IndexWriter(Protocol):
    """Takes the items of an index, in blocks."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long each stage took, in s, once all is written."""

    def __len__(self) -> int:
        """Return the number of items added so far."""

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        """Add a block of items, all of them or none; arguments and errors as in `Index.add`."""

    def add_items(self, latents: Latents, items: Items) -> None:
        """Add a block as `Index.blocks` yields it."""

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""


class Builder(IndexWriter, Protocol):
    """Builds an index within a `with` block: all of it appears, or nothing."""

    @property
    def info(self) -> IndexInfo:
        """Figures of the index, once it is built."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Publish the index, or leave nothing behind after an error."""
