"""Reading an index: each answer belongs to one state of it, and is asked for again where that has changed meanwhile."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ae_search.contract import Condition, Latents
from ae_search.errors import AeSearchError, IndexBusyError, ModelMismatchError
from ae_search.remote_index.milvus.conditions import key_hash, rough
from ae_search.remote_index.milvus.failures import may_be_going
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace
from ae_search.remote_index.milvus.rows import NAMES, WITH_ALL, WITH_LATENT, latents_of, row_of, rows_at_once
from ae_search.remote_index.milvus.schema import ITEMS, ROWS_PER_ITEM
from ae_search.remote_index.milvus.server import Row as Stored
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import State, is_newest, load
from ae_search.remote_index.rows import Row

Answer = TypeVar("Answer")

# Texts go over the wire as 20 digits and a comma.
_KEYS_AT_ONCE = 2048
_IDS_AT_ONCE = 4096
_THUMBNAILS_AT_ONCE = 256
# A writer that changes the index more often than it can be read is in the way.
_MOST_S = 60.0


class BehindError(Exception):
    """The state that was read with is not the newest one."""


class Reader:
    """Reads an index by whatever state is newest.

    Args:
        place: The index.
        server: The server.
    """

    def __init__(self, place: MilvusPlace, server: Server) -> None:
        self._place, self._server = place, server
        self._state: State | None = None

    def state(self) -> State:
        """Return the state of this moment."""
        self._state = load(self._server, self._place)
        return self._state

    def newest_state(self, level: Consistency | None = None) -> State:
        """Return the state of this moment, as far as a level of consistency goes."""
        return self.read(lambda state, _: state, level)

    def read(self, work: Callable[[State, Consistency], Answer], level: Consistency | None = None) -> Answer:
        """Return what is read with a state; again with the newest one, where it has changed meanwhile.

        Raises:
            IndexBusyError: It changes more often than it can be read.
        """
        self._server.check_open()
        level = level or self._place.consistency
        end = time.monotonic() + _MOST_S
        while True:
            state = self._state or self.state()
            try:
                answer = work(state, level)
            except BehindError:
                self.state()
            except AeSearchError as error:
                # A writer has removed a generation that was live a moment ago, or put another model's in its place.
                if not isinstance(error, ModelMismatchError) and not may_be_going(error.__cause__):
                    raise
                if self.state().collection == state.collection:
                    raise
            else:
                if self.is_newest(state, level):
                    return answer
                self.state()
            if time.monotonic() >= end:
                raise IndexBusyError(f"{self._place.name} changes more often than it can be read; try again.")

    def stored(
        self, state: State, condition: str, fields: Sequence[str], level: Consistency, limit: int | None = None
    ) -> list[Stored]:
        """Return the rows of a state that meet an expression, by id."""
        found = self._server.query(state.collection, condition, fields, partition=ITEMS, level=level, limit=limit)
        return sorted((row for row in found if state.has(row)), key=lambda row: int(row["pk"]))

    def of_keys(
        self, state: State, keys: Sequence[str], fields: Sequence[str], level: Consistency, *, first: bool
    ) -> dict[str, list[Stored]]:
        """Return the rows of those of some keys that are there, by the key.

        Args:
            state: The state.
            keys: Keys.
            fields: What to read, the key among it.
            level: How far to wait for changes.
            first: Whether only the first row of each is wanted.
        """
        found: dict[str, list[Stored]] = {}
        wanted, hashes = set(keys), sorted({key_hash(key) for key in keys})
        at_once = _KEYS_AT_ONCE
        if "latent" in fields:
            at_once = max(1, rows_at_once(state.manifest.latent_dim) // state.most_latents)
        if "thumbnail" in fields:
            at_once = min(at_once, _THUMBNAILS_AT_ONCE)
        for start in range(0, len(hashes), at_once):
            listed = ", ".join(map(str, hashes[start : start + at_once]))
            for row in self.stored(state, f"key_hash in [{listed}]", fields, level):
                # Others have the same hash once in a very long time.
                if row["key"] in wanted and not (first and int(row["pk"]) % ROWS_PER_ITEM):
                    found.setdefault(row["key"], []).append(row)
        return found

    def pages(
        self,
        state: State,
        level: Consistency,
        fields: Sequence[str] = NAMES,
        *,
        conditions: Sequence[Condition] = (),
        latents: bool = True,
    ) -> Iterator[list[Stored]]:
        """Yield all rows that meet some rough conditions, by id."""
        ids = _IDS_AT_ONCE if not latents else max(1, rows_at_once(state.manifest.latent_dim) // state.most_latents)
        if "thumbnail" in fields:
            ids = min(ids, _THUMBNAILS_AT_ONCE)
        more = f" and ({rough(conditions)})" if rough(conditions) else ""
        for first, end in state.pages(ids):
            condition = f"pk >= {first * ROWS_PER_ITEM} and pk < {end * ROWS_PER_ITEM}{more}"
            if rows := self.stored(state, condition, fields, level):
                yield rows

    def stream(self, *, thumbnails: bool = False) -> Iterator[Row]:
        """Return an iterator over all latents of this moment, by id.

        Raises:
            IndexBusyError: The index was changed before all of it was read.
        """
        self._server.check_open()
        return self._stream(self.newest_state(), thumbnails)

    def _stream(self, state: State, thumbnails: bool) -> Iterator[Row]:
        level = self._place.consistency
        fields = WITH_ALL if thumbnails else (*WITH_LATENT, "digest")
        try:
            for rows in self.pages(state, level, fields):
                # What was removed before they were read is missing in them.
                if not self.is_newest(state, level):
                    raise IndexBusyError(_CHANGED.format(self._place.name))
                yield from read_rows(rows, state.manifest.latent_dim, thumbnails=thumbnails)
        except AeSearchError as error:
            if may_be_going(error.__cause__):
                raise IndexBusyError(_CHANGED.format(self._place.name)) from error
            raise

    def is_newest(self, state: State, level: Consistency) -> bool:
        """Tell whether a state is the newest one, as far as a level of consistency goes."""
        try:
            return is_newest(self._server, state, level)
        except AeSearchError as error:
            if may_be_going(error.__cause__):
                return False
            raise


def read_rows(rows: Sequence[Stored], latent_dim: int, *, thumbnails: bool = False) -> Iterator[Row]:
    """Yield stored rows in the words of this package."""
    latents: Latents = latents_of(rows, latent_dim)
    for row, latent in zip(rows, latents, strict=True):
        yield row_of(row, latent, thumbnails=thumbnails)


_CHANGED = (
    "{} was changed while all of it was being read, and Milvus keeps no moment of the past; read it again while nobody "
    "writes."
)
