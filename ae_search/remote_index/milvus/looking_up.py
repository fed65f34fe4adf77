"""Looking items up: by their keys, by a filter, or all of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ae_search.contract import Condition, Latents, Where, metadata_of, parse_where
from ae_search.errors import ConfigurationError
from ae_search.remote_index.milvus.conditions import meets
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace
from ae_search.remote_index.milvus.reading import BehindError, Reader
from ae_search.remote_index.milvus.rows import NAMES, digest_of, latents_of, names_of, thumbnail_of
from ae_search.remote_index.milvus.schema import ROWS_PER_ITEM
from ae_search.remote_index.milvus.server import Row
from ae_search.remote_index.milvus.state import State

_LATENT = ("pk", "key", "scale", "latent")


class LookUps:
    """What an index tells of items that are named; see `Index`.

    Args:
        place: The index.
        reader: Reads it.
    """

    def __init__(self, place: MilvusPlace, reader: Reader) -> None:
        self._place, self._reader = place, reader

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""
        return set(self._reader.read(lambda state, level: self._rows(state, level, keys, ("pk", "key"))))

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the first latent of each key, float32 `[n, d]`."""

        def work(state: State, level: Consistency) -> Latents:
            found = self._of_all(state, level, keys, _LATENT)
            return latents_of([found[key][0] for key in keys], state.manifest.latent_dim)

        return self._reader.read(work)

    def all_latents(self, keys: Sequence[str]) -> list[Latents]:
        """Return all latents of each key, float32 `[r, d]`."""

        def work(state: State, level: Consistency) -> list[Latents]:
            found = self._of_all(state, level, keys, _LATENT, first=False)
            return [latents_of(found[key], state.manifest.latent_dim) for key in keys]

        return self._reader.read(work)

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys."""
        names = [names_of(row) for row in self._first(keys, NAMES)]
        return [(label, metadata_of(metadata)) for _, label, metadata in names]

    def digests(self, keys: Sequence[str]) -> list[str | None]:
        """Return the digests of the content of some keys, None where an item has none."""
        return [digest_of(row) for row in self._first(keys, ("pk", "has", "key", "digest"))]

    def thumbnail(self, key: str) -> bytes | None:
        """Return the JPEG of a key; None if it is unknown or has none."""
        fields = ("pk", "has", "key", "thumbnail")
        found = self._reader.read(lambda state, level: self._rows(state, level, [key], fields))
        return thumbnail_of(found[key][0]) if found else None

    def keys(self, where: Where | None) -> list[str]:
        """Return the keys of all items, or of those that meet some conditions, by id."""
        conditions = () if where is None else parse_where(where)
        fields = NAMES if conditions else ("pk", "key")
        rows = self._reader.read(lambda state, level: list(self._first_rows(state, level, fields, conditions)))
        return [str(row["key"]) for row in rows]

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        rows = self._reader.read(lambda state, level: list(self._first_rows(state, level, NAMES, ())))
        return [names_of(row)[1] for row in rows]

    def first_latent(self, state: State, level: Consistency, key: str) -> Latents:
        """Return the first latent of a key in a state, float32 `[1, d]`."""
        found = self._of_all(state, level, [key], _LATENT)
        return np.array(latents_of(found[key][:1], state.manifest.latent_dim))

    def _first_rows(
        self, state: State, level: Consistency, fields: Sequence[str], conditions: tuple[Condition, ...]
    ) -> Iterator[Row]:
        for rows in self._reader.pages(state, level, fields, conditions=conditions, latents=False):
            for row in rows:
                is_first = int(row["pk"]) % ROWS_PER_ITEM == 0
                if is_first and (not conditions or meets(conditions, *names_of(row))):
                    yield row

    def _first(self, keys: Sequence[str], fields: Sequence[str]) -> list[Row]:
        """Return the first row of each key."""
        found = self._reader.read(lambda state, level: self._of_all(state, level, keys, fields))
        return [found[key][0] for key in keys]

    def _of_all(
        self, state: State, level: Consistency, keys: Sequence[str], fields: Sequence[str], *, first: bool = True
    ) -> dict[str, list[Row]]:
        """Return the rows of some keys, all of which must be there."""
        found = self._rows(state, level, keys, fields, first=first)
        if missing := [key for key in keys if key not in found]:
            # A reader that is behind lacks what is there by now.
            if not self._reader.is_newest(state, level):
                raise BehindError
            raise ConfigurationError(f"{self._place.name} has no item {missing[0]!r}.")
        return found

    def _rows(
        self, state: State, level: Consistency, keys: Sequence[str], fields: Sequence[str], *, first: bool = True
    ) -> dict[str, list[Row]]:
        return self._reader.of_keys(state, keys, fields, level, first=first)
