"""Reading an index: each answer is of one moment, and of the generation that was live then."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from ae_search.errors import AeSearchError, ModelMismatchError
from ae_search.remote_index.postgres.connections import Connections, Session
from ae_search.remote_index.postgres.failures import mapped
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.rows import ITEM_COLUMNS, latents_of
from ae_search.remote_index.postgres.schema import table_of
from ae_search.remote_index.postgres.state import State, load
from ae_search.remote_index.rows import Row, check_texts

Answer = TypeVar("Answer")

_ROWS_AT_A_TIME = 2048
# What is read and the state that it belongs to come from one snapshot: one statement.
_LIVE = """
SELECT s.number, s.epoch, s.changes, s.items, f.* FROM (
    SELECT number, epoch, changes, items FROM ae_search.generations
    WHERE number = (SELECT generation FROM ae_search.indexes WHERE name = %s)
) s LEFT JOIN LATERAL ({}) f ON true
"""


class MovedError(Exception):
    """Another generation is live by now, or it was tuned again."""


def live(select: sql.Composable) -> sql.Composed:
    """Return a statement that tells beside its rows which state they are of; its first value is the index's name."""
    return sql.SQL(_LIVE).format(select)


def rows_of(found: list[tuple[Any, ...]], state: State) -> tuple[list[tuple[Any, ...]], State]:
    """Return the rows of such a statement, and the state with the counts of that moment.

    Raises:
        MovedError: They are not of this generation.
    """
    if not found or found[0][:2] != state.version:
        raise MovedError
    _, _, changes, items, *rest = found[0]
    rows = [] if all(value is None for value in rest) else [row[4:] for row in found]
    if (changes, items) != (state.changes, state.items):
        state = replace(state, changes=changes, items=items)
    return rows, state


class Reader:
    """Reads an index by whatever generation is live.

    Args:
        place: The index.
        connections: Its sessions.
    """

    def __init__(self, place: PostgresPlace, connections: Connections) -> None:
        self._place, self._connections = place, connections
        self._state: State | None = None

    def state(self) -> State:
        """Return the state of this moment."""
        self._state = self._connections.read(lambda session: load(session, self._place))
        return self._state

    def known_state(self) -> State:
        """Return the state of some moment since the index was opened."""
        self._connections.check_open()
        return self._state or self.state()

    def read(self, work: Callable[[Session, State], Answer]) -> Answer:
        """Return what is read with a state; again with the newest one, where another is live by now."""
        state = self.known_state()
        while True:
            try:
                return self._connections.read(lambda session, state=state: work(session, state))  # type: ignore[misc]
            except MovedError:
                state = self.state()
            except AeSearchError as error:
                # A writer has removed the table of a generation that was live a moment ago, or put another model's in
                # its place.
                if not isinstance(error, ModelMismatchError) and not _is_gone(error):
                    raise
                old, state = state, self.state()
                if state.number == old.number:
                    raise

    def first_state(self, session: Session) -> State:
        """Return the state, read in a session of the caller's."""
        with mapped(self._place.name):
            self._state = load(session, self._place)
        return self._state

    def rows(self, select: str, values: Sequence[Any] = (), **parts: sql.Composable) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT, in which `{table}` is the live generation's and `{number}` its number."""
        return self.read(lambda session, state: self.rows_in(session, state, select, values, **parts))

    def rows_in(
        self, session: Session, state: State, select: str, values: Sequence[Any] = (), **parts: sql.Composable
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT in a session, which may be those of no other state."""
        given = {"table": table_of(state.number), "number": sql.Literal(state.number), **parts}
        statement = live(sql.SQL(select).format(**given))
        session.use_graph(None)
        found = session.execute(statement, (self._place.index, *values), binary=True).fetchall()
        rows, self._state = rows_of(found, state)
        return rows

    def stream(self, *, thumbnails: bool = False) -> Iterator[Row]:
        """Return an iterator over all latents of this moment, by id; it holds a session until it ends."""
        while True:
            rows = self._stream(thumbnails)
            try:
                next(rows)  # the moment is now, and not when the first one is asked for
            except AeSearchError as error:
                if not _is_gone(error):
                    raise
                continue
            return rows  # type: ignore[return-value]

    def _stream(self, thumbnails: bool) -> Iterator[Row | None]:
        picture = sql.SQL("thumbnail" if thumbnails else "NULL::bytea")
        name = self._place.name
        session = self._connections.connect()
        with closing(session), mapped(name), session.transaction():
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            state = load(session, self._place)
            table, dim = table_of(state.number), state.manifest.latent_dim
            select = sql.SQL(f"SELECT {ITEM_COLUMNS}, {{}} FROM {{}} ORDER BY id, at").format(picture, table)
            with session.cursor("items", binary=True) as cursor:
                cursor.execute(select)
                yield None
                while found := cursor.fetchmany(_ROWS_AT_A_TIME):
                    latents = latents_of([row[2] for row in found], dim)
                    for (number, at, _, *rest), latent in zip(found, latents, strict=True):
                        check_texts(rest[:4])
                        yield Row(number, at, latent, *rest)


def _is_gone(error: AeSearchError) -> bool:
    return isinstance(error.__cause__, psycopg.errors.UndefinedTable)
