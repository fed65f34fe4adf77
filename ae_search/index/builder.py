"""Building an index: all of it appears, or nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy.typing as npt

from ae_search.contract import MAX_ITEM_DIM, IndexInfo, Items, Latents, Metadata, ModelRef, Origin, check_text
from ae_search.errors import ConfigurationError
from ae_search.index.items.fields import checked_fields
from ae_search.index.manifest import BuildPlan, Manifest
from ae_search.index.options import BuildOptions
from ae_search.index.store.generation_writer import GenerationWriter, new_generation
from ae_search.index.store.place import check_place, sole_writer
from ae_search.index.upkeep.info import info_of

_DEFAULT = BuildOptions()


class IndexBuilder:
    """Builds an index from latents that are added in blocks.

    On a clean exit the base is built, its effort chosen and the new generation published; an existing
    index answers until that moment. After an exception nothing is left behind and an existing index is unchanged.

    Example:
        with IndexBuilder(Path("index"), card) as builder:
            builder.add(latents, keys, labels)

    Args:
        path: Folder of the index: absent, empty, or an index to be replaced.
        model: Card of the model that the latents come from, or what else tells the same of it.
        options: How it is built.
        sources: Names of the sources that the items come from.

    Attributes:
        manifest: The manifest, once the index is built.
        seconds: How long the stages "catalogue", "base" and "tuning" took, in s, once the index is built.

    Raises:
        ConfigurationError: The place must not be written, or the latents are too large.
        IndexBusyError: Another process writes it.
    """

    manifest: Manifest

    def __init__(
        self, path: str | Path, model: Origin, options: BuildOptions = _DEFAULT, *, sources: Sequence[str] = ()
    ) -> None:
        if not 1 <= model.latent_dim <= MAX_ITEM_DIM:
            raise ConfigurationError(
                f"An index holds latents of 1 to {MAX_ITEM_DIM} floats. Received: {model.latent_dim} from {model.name}."
            )
        for source in sources:
            check_text(source, "Sources")
        self.seconds: dict[str, float] = {}
        self._path, self._options = Path(path), options
        self._plan = BuildPlan(
            ModelRef(model.name, model.version, model.fingerprint),
            model.image_shape,
            model.latent_dim,
            model.metric,
            options.engine,
            options.seed,
            options.recall,
            tuple(sources),
            checked_fields(options.fields),
        )
        self._writer: GenerationWriter | None = None
        self._session = self._write()
        check_place(self._path, replace=options.replace)

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._session.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return 0 if self._writer is None else len(self._writer)

    @property
    def info(self) -> IndexInfo:
        """Figures of the index, once it is built."""
        return info_of(self._path)

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
        """Add a block of items, all of them or none.

        Args:
            latents: Float32 `[n, d]`, or `[n, r, d]` for r latents of each item.
            keys: n keys, unique in the index, each of at most 8 KiB as UTF-8.
            labels: n labels of at most 8 KiB, None where an item has none.
            metadata: n JSON objects of at most 1 MiB, None where an item has none.
            thumbnails: n JPEG files, None where an item has none.
            digests: n digests of the items' content, of at most 128 characters, None where an item has none.

        Raises:
            ValueError: The latents do not fit the model or are not finite, or the lengths differ.
            TypeError: A key or a label is no string.
            ConfigurationError: A key occurs twice, or the disk is full.
        """
        self._now().add(latents, keys, labels, metadata=metadata, thumbnails=thumbnails, digests=digests)

    def add_items(self, latents: Latents, items: Items) -> None:
        """Add a block as `LatentIndex.blocks` yields it: latents `[n, r, d]`, and what else the items have."""
        self._now().add_items(latents, items)

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""
        self._now().calibrate(name, values)

    def _now(self) -> GenerationWriter:
        if self._writer is None:
            raise ValueError("Items can be added only inside the builder's with block.")
        return self._writer

    @contextmanager
    def _write(self) -> Iterator[None]:
        with sole_writer(self._path, wait_s=self._options.wait_s):
            # Again, now that nobody else can change it.
            check_place(self._path, replace=self._options.replace)
            try:
                with new_generation(self._path, self._plan, self._options.resources) as writer:
                    self._writer = writer
                    yield
                    self._writer = None
                    if not len(writer):
                        raise ConfigurationError(f"No images came in, so there is no index to write to {self._path}.")
            finally:
                self._writer = None
            self.manifest, self.seconds = writer.manifest, writer.seconds
