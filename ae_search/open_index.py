"""The one door to an index: open, build or verify one, wherever it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from ae_search.contract import Builder, Check, Index, Origin
from ae_search.errors import ConfigurationError, NotSupportedError
from ae_search.index import AnnoyOptions, BuildOptions, IndexBuilder, LatentIndex
from ae_search.index.options import ENGINE_OPTIONS

_DEFAULT = BuildOptions()
_POSTGRES = ("postgresql://", "postgres://")
_MILVUS = "milvus://"


def open_index(place: str | Path) -> Index:
    """Open the index that is at a place.

    Args:
        place: A folder, "postgresql://USER@HOST/DATABASE?index=NAME", or "milvus://HOST:PORT/NAME".

    Raises:
        ConfigurationError: There is no index, or one of another format, or no index can be at such a place.
        IndexDamagedError: It is damaged.
        ServerError: The server does not answer, or lets nobody in.
    """
    if is_postgres(place):
        from ae_search.remote_index.postgres import PostgresIndex, PostgresPlace

        return PostgresIndex(PostgresPlace.parse(str(place)))
    if is_milvus(place):
        from ae_search.remote_index.milvus import MilvusIndex, MilvusPlace

        return MilvusIndex(MilvusPlace.parse(str(place)))
    return LatentIndex.open(_folder(place))


def build_index(
    place: str | Path, model: Origin, options: BuildOptions = _DEFAULT, *, sources: Sequence[str] = ()
) -> Builder:
    """Return a builder of the index at a place; all of it appears, or nothing.

    Args:
        place: A folder that is absent, empty, or holds an index to be replaced; "postgresql://...?index=NAME", or
            "milvus://HOST:PORT/NAME".
        model: Card of the model that the latents come from, or what else tells the same of it.
        options: How it is built. The engine's are `AnnoyOptions` or `FaissOptions` in a folder, `HnswOptions` on
            PostgreSQL, `MilvusOptions` on Milvus; the default ones become those of the place.
        sources: Names of the sources that the items come from.

    Raises:
        ConfigurationError: The place must not be written, the latents are too large, or the options are those of
            another engine.
        NotSupportedError: The place cannot do what the options ask for.
        ServerError: The server does not answer, or lets nobody in.

    Example:
        with build_index("index", card) as builder:
            builder.add(latents, keys, labels)
    """
    if is_postgres(place):
        return _build_on_postgres(str(place), model, options, sources)
    if is_milvus(place):
        return _build_on_milvus(str(place), model, options, sources)
    if options.engine.engine not in ENGINE_OPTIONS:
        raise ConfigurationError(
            f"An index in a folder is built by {' or '.join(ENGINE_OPTIONS)}. Received: options of "
            f"{options.engine.engine}."
        )
    return IndexBuilder(_folder(place), model, options, sources=sources)


def verify_index(place: str | Path) -> list[Check]:
    """Check everything about the index at a place, also one that is too damaged to be opened; see `Index.verify`.

    Raises:
        ConfigurationError: There is no index, or memory or file descriptors ran out.
        ServerError: The server does not answer, or lets nobody in.
    """
    if is_postgres(place):
        from ae_search.remote_index import postgres

        return postgres.verify(postgres.PostgresPlace.parse(str(place)))
    if is_milvus(place):
        from ae_search.remote_index import milvus

        return milvus.verify(milvus.MilvusPlace.parse(str(place)))
    from ae_search.index.upkeep.verify import verify

    return verify(_folder(place))


def is_postgres(place: str | Path) -> bool:
    """Tell whether a place is one on PostgreSQL."""
    return isinstance(place, str) and place.startswith(_POSTGRES)


def is_milvus(place: str | Path) -> bool:
    """Tell whether a place is one on Milvus."""
    return isinstance(place, str) and place.startswith(_MILVUS)


def is_folder(place: str | Path) -> bool:
    """Tell whether a place is a folder of this machine."""
    return not is_postgres(place) and not is_milvus(place)


def place_name(place: str) -> str:
    """Return a place as it may be shown: a folder as it is, and a URL without its password.

    What is returned leads to the same place for as long as this process lives.

    Raises:
        ConfigurationError: It is a URL that is malformed, or one of another kind.
    """
    if is_postgres(place):
        from ae_search.remote_index.postgres import PostgresPlace

        return PostgresPlace.parse(place).name
    if is_milvus(place):
        from ae_search.remote_index.milvus import MilvusPlace

        return MilvusPlace.parse(place).name
    return str(_folder(place))


@dataclass(frozen=True)
class SharedPlace:
    """A place that a process of our own can open too: its name, and the secrets that the name leaves out."""

    name: str
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, name: str) -> Self:
        """Take what this process knows of a place; see `place_name`."""
        if is_postgres(name):
            from ae_search.remote_index.postgres import PostgresPlace

            return cls(name, PostgresPlace.parse(name).secrets)
        if is_milvus(name):
            from ae_search.remote_index.milvus import MilvusPlace

            return cls(name, MilvusPlace.parse(name).secrets)
        return cls(name)

    def know(self) -> None:
        """Let the name lead to the place in this process."""
        if not self.secrets:
            return
        if is_postgres(self.name):
            from ae_search.remote_index.postgres.place import know
        else:
            from ae_search.remote_index.milvus.place import know
        know(self.name, self.secrets)


def _build_on_postgres(place: str, model: Origin, options: BuildOptions, sources: Sequence[str]) -> Builder:
    from ae_search.remote_index.postgres import HnswOptions, PostgresBuilder, PostgresPlace

    at = PostgresPlace.parse(place)
    engine = HnswOptions() if options.engine == AnnoyOptions() else options.engine
    if not isinstance(engine, HnswOptions):
        raise NotSupportedError(
            f"{at.name} is built by pgvector, which has no trees and the like. Received: options of {engine.engine}."
        )
    if options.fields:
        try:
            engine = replace(engine, fields=tuple(dict.fromkeys((*engine.fields, *options.fields))))
        except ValueError as error:
            raise ConfigurationError(f"{at.name}: {error}") from error
    if options.resources.on_disk is not None:
        raise NotSupportedError(f"{at.name}: where a graph is built is the server's decision; leave on_disk out.")
    return PostgresBuilder(
        at,
        model,
        engine,
        seed=options.seed,
        recall=options.recall,
        replace=options.replace,
        resources=options.resources,
        wait_s=options.wait_s,
        sources=sources,
    )


def _build_on_milvus(place: str, model: Origin, options: BuildOptions, sources: Sequence[str]) -> Builder:
    from ae_search.remote_index.milvus import MilvusBuilder, MilvusOptions, MilvusPlace

    at = MilvusPlace.parse(place)
    engine = MilvusOptions() if options.engine == AnnoyOptions() else options.engine
    if not isinstance(engine, MilvusOptions):
        raise NotSupportedError(
            f"{at.name} is built by Milvus, which has no trees and the like. Received: options of {engine.engine}."
        )
    if options.fields:
        raise NotSupportedError(f"{at.name}: filters on Milvus look up no fields; leave them out.")
    if options.resources.on_disk is not None:
        raise NotSupportedError(f"{at.name}: where a graph is built is the server's decision; leave on_disk out.")
    return MilvusBuilder(
        at,
        model,
        engine,
        seed=options.seed,
        recall=options.recall,
        replace=options.replace,
        wait_s=options.wait_s,
        sources=sources,
    )


def _folder(place: str | Path) -> Path:
    if "://" in str(place) or str(place).startswith(("postgresql:/", "postgres:/", "milvus:/")):
        # Not all of it: there may be a password in it. A Path has lost one of the two slashes.
        kind = str(place).partition(":")[0]
        raise ConfigurationError(
            "An index is in a folder of this machine, or has a URL (a str): postgresql://HOST/DATABASE?index=NAME or "
            f"milvus://HOST:PORT/NAME. Received: {kind}:..."
        )
    return Path(place)
