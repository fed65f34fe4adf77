"""Building an index on Milvus: all of it appears, or nothing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Self

import numpy.typing as npt

from ae_search.contract import IndexInfo, Items, Latents, Metadata, ModelRef, Origin, check_text
from ae_search.errors import ConfigurationError
from ae_search.remote_index.milvus.generations import GenerationWriter, new_generation
from ae_search.remote_index.milvus.lock import Claim, hold
from ae_search.remote_index.milvus.options import MilvusOptions
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.schema import check_size, create_writers
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import Manifest, find, load
from ae_search.remote_index.milvus.upkeep.info import info

_DEFAULT = MilvusOptions()


class MilvusBuilder:
    """Builds an index on Milvus from latents that are added in blocks.

    Each block goes to the server at once, into a collection that nobody reads. On a clean exit its graph is built and
    measured, and one change of the alias makes it the index; an existing one answers until that moment. After an
    exception, a kill or a lost connection, the existing index is unchanged, and the next writer removes what was left.

    Args:
        place: The index.
        model: Card of the model that the latents come from, or what else tells the same of it.
        options: How the graph is built.
        seed: Seed of the measurement of recall; the graph itself has levels by chance, which Milvus draws.
        recall: Share of the 10 true neighbours that a query shall find, in (0, 1].
        replace: Whether an existing index may be replaced.
        wait_s: How long to wait for another writer, in s.
        sources: Names of the sources that the items come from.

    Raises:
        ConfigurationError: There is an index, or the name is taken.
        NotSupportedError: The latents are too large for Milvus.
        AccessDeniedError: The user may not write there.
    """

    def __init__(
        self,
        place: MilvusPlace,
        model: Origin,
        options: MilvusOptions = _DEFAULT,
        *,
        seed: int = 42,
        recall: float = 0.98,
        replace: bool = False,
        wait_s: float = 0.0,
        sources: Sequence[str] = (),
    ) -> None:
        if model.latent_dim < 1:
            raise ConfigurationError(f"An index holds latents of at least one float. Received: {model.latent_dim}.")
        check_size(model.latent_dim)
        for source in sources:
            check_text(source, "Sources")
        self._place, self._replace, self._wait_s = place, replace, wait_s
        self._manifest = Manifest(
            ModelRef(model.name, model.version, model.fingerprint),
            model.image_shape,
            model.latent_dim,
            model.metric,
            options,
            seed,
            recall,
            tuple(sources),
        )
        self._server = Server(place)
        self._writer: GenerationWriter | None = None
        self._seconds: Mapping[str, float] = {}
        self._session = self._write()
        try:
            self._check_place()
        except BaseException:
            self._server.close()
            raise

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
    def seconds(self) -> Mapping[str, float]:
        """How long the stages "catalogue", "base" and "tuning" took, in s, once the index is built."""
        return self._seconds

    @property
    def info(self) -> IndexInfo:
        """Figures of the index, once it is built."""
        with closing(Server(self._place)) as server:
            return info(server, load(server, self._place), self._place.name)

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
        self._now().add(latents, keys, labels, metadata=metadata, thumbnails=thumbnails, digests=digests)

    def add_items(self, latents: Latents, items: Items) -> None:
        """Add a block as `Index.blocks` yields it: latents `[n, r, d]`, and what else the items have."""
        self._now().add_items(latents, items)

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""
        self._now().calibrate(name, values)

    def _now(self) -> GenerationWriter:
        if self._writer is None:
            raise ValueError("Items can be added only inside the builder's with block.")
        return self._writer

    def _check_place(self) -> None:
        there = None if self._replace else find(self._server, self._place)
        if there is not None:
            items, model = there.items, there.manifest.model
            raise ConfigurationError(
                f"{self._place.name} holds an index of {items} items of model {model.name!r} version {model.version}; "
                "--replace builds another in its place."
            )

    @contextmanager
    def _write(self) -> Iterator[None]:
        with closing(self._server), self._held() as claim:
            # Again, now that nobody else can change it.
            self._check_place()
            try:
                with new_generation(self._server, self._place, self._manifest, claim) as writer:
                    self._writer = writer
                    yield
                    self._writer = None
                    if not len(writer):
                        raise ConfigurationError(
                            f"No images came in, so there is no index to write to {self._place.name}."
                        )
            finally:
                self._writer = None
            self._seconds = writer.seconds

    @contextmanager
    def _held(self) -> Iterator[Claim]:
        create_writers(self._server)
        with hold(self._server, self._place, self._wait_s) as claim:
            yield claim
