"""Building an index: all of it appears, or nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy.typing as npt

from ae_search.contract import Latents, Metric, ModelRef
from ae_search.errors import ConfigurationError
from ae_search.index.items.checking import Items, Metadata
from ae_search.index.search.comparing import MAX_MAGNITUDE, as_float32, checked_latents, first_bad_row
from ae_search.index.store.generation_writer import ALL_CORES, GenerationWriter, new_generation
from ae_search.index.store.manifest import MAX_LATENT_DIM, MAX_N_TREES, Manifest, Recipe
from ae_search.index.store.place import check_place, sole_writer

# Measured with 60,000 clustered latents of 128: built in 2 s on two cores, recall 0.98 at 0.4 ms a query.
# 20 trees need more candidates for it, 80 take twice the time and half as much disk again.
DEFAULT_N_TREES = 40


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


class IndexBuilder:
    """Builds an index from latents that are added in blocks.

    On a clean exit the forest is built, its `effort` chosen and the new generation published; an existing
    index answers until that moment. After an exception nothing is left behind and an existing index is unchanged.

    Example:
        with IndexBuilder(Path("index"), card) as builder:
            builder.add(latents, keys, labels)

    Args:
        path: Folder of the index: absent, empty, or an index to be replaced.
        card: Card of the model that the latents come from, or what else tells the same of it.
        n_trees: Trees in the forest; more are more exact, slower to build and larger.
        seed: Seed of the forest and of the measurement, in [0, 2**32).
        recall: Share of the 10 true neighbours that a query shall find, in (0, 1].
        replace: Whether an existing index may be replaced.
        jobs: Threads that grow the forest, at least 1, or -1 for all cores. Only with 1 is the forest of the same
            items the same file each time; it then takes about as many times longer as there are cores.
        on_disk: Whether Annoy builds within the file instead of in memory, which is slower. None: only if the forest
            would take more than half of the memory that is free.
        sources: Names of the sources that the items come from.
        wait_s: How long to wait for another writer of this index, in s.

    Attributes:
        manifest: The manifest, once the index is built.
        seconds: How long the stages "catalogue", "forest" and "tuning" took, in s, once the index is built.

    Raises:
        ConfigurationError: The place must not be written, or the latents are too large.
        IndexBusyError: Another process writes it.
        ValueError: An option is out of range.
    """

    manifest: Manifest

    def __init__(
        self,
        path: Path,
        card: Origin,
        *,
        n_trees: int = DEFAULT_N_TREES,
        seed: int = 42,
        recall: float = 0.98,
        replace: bool = False,
        jobs: int = ALL_CORES,
        on_disk: bool | None = None,
        sources: Sequence[str] = (),
        wait_s: float = 0.0,
    ) -> None:
        if (
            not 1 <= n_trees <= MAX_N_TREES
            or not 0 <= seed < 2**32
            or not 0.0 < recall <= 1.0
            or not (jobs >= 1 or jobs == ALL_CORES)
        ):
            raise ValueError(
                f"Expected n_trees in [1, {MAX_N_TREES}], seed in [0, 2**32), recall in (0, 1] and jobs >= 1 or -1. "
                f"Received: n_trees={n_trees}, seed={seed}, recall={recall}, jobs={jobs}."
            )
        if not 1 <= card.latent_dim <= MAX_LATENT_DIM:
            raise ConfigurationError(
                f"An index holds latents of 1 to {MAX_LATENT_DIM} floats. Received: {card.latent_dim} from {card.name}."
            )
        self.seconds: dict[str, float] = {}
        self._path = Path(path)
        model = ModelRef(card.name, card.version, card.fingerprint)
        self._recipe = Recipe(
            model, card.image_shape, card.latent_dim, card.metric, n_trees, seed, recall, tuple(sources)
        )
        self._replace, self._jobs, self._on_disk, self._wait_s = replace, jobs, on_disk, wait_s
        self._writer: GenerationWriter | None = None
        self._session = self._write()
        check_place(self._path, replace=replace)

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._session.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return 0 if self._writer is None else len(self._writer)

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
    ) -> None:
        """Add a block of items, all of them or none.

        Args:
            latents: Float32 `[n, d]`.
            keys: n keys, unique in the index, each of at most 8 KiB as UTF-8.
            labels: n labels of at most 8 KiB, None where an item has none.
            thumbnails: n JPEG files, None where an item has none.
            metadata: n JSON objects of at most 1 MiB, None where an item has none.

        Raises:
            ValueError: The latents do not fit the model or are not finite, or the lengths differ.
            TypeError: A key or a label is no string.
            ConfigurationError: A key occurs twice, or the disk is full.
        """
        if self._writer is None:
            raise ValueError("Items can be added only inside the builder's with block.")
        rows = checked_rows(latents, keys, self._recipe.latent_dim)
        items = Items.checked(keys, labels, metadata, thumbnails)
        self._writer.add(rows, items)

    @contextmanager
    def _write(self) -> Iterator[None]:
        with sole_writer(self._path, wait_s=self._wait_s):
            # Again, now that nobody else can change it.
            check_place(self._path, replace=self._replace)
            try:
                with new_generation(self._path, self._recipe, jobs=self._jobs, on_disk=self._on_disk) as writer:
                    self._writer = writer
                    yield
                    self._writer = None
                    if not len(writer):
                        raise ConfigurationError(f"No images came in, so there is no index to write to {self._path}.")
            finally:
                self._writer = None
            self.manifest, self.seconds = writer.manifest, writer.seconds


def checked_rows(latents: npt.ArrayLike, keys: Sequence[str], latent_dim: int) -> Latents:
    """Return latents as float32 `[n, d]`.

    Raises:
        ValueError: They have another size, or are not finite; the text names the key.
    """
    array = as_float32(latents)
    bad = first_bad_row(array) if array.ndim == 2 and len(array) == len(keys) else None
    if bad is not None:
        raise ValueError(
            f"Expected finite latents, at most {MAX_MAGNITUDE:g} in magnitude. Received others for {keys[bad]!r}."
        )
    try:
        rows = checked_latents(array, latent_dim)
    except ValueError as error:
        raise ValueError(f"{error} The block begins with key {keys[0] if keys else None!r}.") from None
    if len(rows) != len(keys):
        raise ValueError(f"Expected as many latents as keys. Received: {len(rows)}, {len(keys)}.")
    return rows
