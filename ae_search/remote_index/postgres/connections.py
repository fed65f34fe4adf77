"""Sessions on the server: a pool that outlives a server's restart, and sessions of their own for what takes long."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from pgvector.psycopg.vector import register_vector_info
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool, PoolTimeout

from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.remote_index.postgres.failures import failure, mapped
from ae_search.remote_index.postgres.options import MAX_EFFORT
from ae_search.remote_index.postgres.place import PostgresPlace

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

NEEDED_PGVECTOR = (0, 8)
_MOST_SESSIONS = 8
_POOL_WAIT_S = 5.0
_ATTEMPTS = 4
# Which says that the session is gone, or that a replica had to choose between a query and its primary.
_AGAIN = ("08", "57P", "25P03", "40001")

_EXTENSION = """
SELECT n.nspname, e.extversion FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""
# Only with iterative scans does a graph return as many as were asked for; pgvector's default gives up after its effort.
_SETTINGS = """
SELECT set_config('search_path', 'pg_catalog, ' || quote_ident(%(schema)s), false),
    set_config('hnsw.iterative_scan', 'relaxed_order', false), set_config('statement_timeout', %(ms)s, false),
    set_config('extra_float_digits', '1', false)
"""
# So that the planner takes the graph where the graph is asked for, however small the table is.
_PLANNER = """
SELECT set_config('hnsw.ef_search', %(effort)s, false), set_config('enable_seqscan', %(others)s, false),
    set_config('enable_sort', %(others)s, false), set_config('enable_bitmapscan', %(others)s, false)
"""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """One connection, and what it is set to.

    Attributes:
        effort: Effort of the graph that the planner is bound to; None where it is free.
        pgvector: Version of pgvector in the database, "" where there is none.
    """

    effort: int | None = None
    pgvector: str = ""

    def use_graph(self, effort: int | None) -> None:
        """Bind the planner to the graph, or set it free."""
        if effort != self.effort:
            self.effort = -1  # not known, should the next line fail
            given = {"effort": str(min(effort or 40, MAX_EFFORT)), "others": "off" if effort else "on"}
            self.execute(_PLANNER, given)
            self.effort = effort

    def look_for_pgvector(self, timeout_s: float) -> None:
        """Learn the types of pgvector, where the database has it.

        Raises:
            ConfigurationError: It is older than 0.8.
        """
        row = self.execute(_EXTENSION).fetchone()
        schema, self.pgvector = row or ("public", "")
        numbers = tuple(int(part) for part in self.pgvector.split(".")[:2] if part.isdigit())
        if row is not None and numbers < NEEDED_PGVECTOR:
            raise ConfigurationError(
                f"The server's pgvector is {self.pgvector}, and 0.8 or newer is needed; an administrator must install "
                "it and run ALTER EXTENSION vector UPDATE."
            )
        self.execute(_SETTINGS, {"schema": schema, "ms": str(round(1000 * timeout_s))})
        if row is not None:
            register_vector_info(self, TypeInfo.fetch(self, "vector"))


class Connections:
    """The sessions of one open index; safe to share between threads, and made anew after a fork.

    Args:
        place: The index.
    """

    def __init__(self, place: PostgresPlace) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Session] | None = None
        self._inherited: list[object] = []
        self._pid = os.getpid()
        self._is_closed = False

    def close(self) -> None:
        """End all sessions; a second time does nothing."""
        with self._lock:
            self._is_closed = True
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def check_open(self) -> None:
        """Raise a ValueError where the index is closed."""
        if self._is_closed:
            raise ValueError(f"The index {self._place.name} is closed.")

    def connect(self, *, writes: bool = False) -> Session:
        """Return a session of its own, to be closed by the caller.

        Args:
            writes: Whether it must be with a server that takes changes.

        Raises:
            ServerUnavailableError: No server answers.
            AccessDeniedError: The role may not.
        """
        self.check_open()
        parameters = self._place.parameters
        if writes and self._place.has_several_servers:
            parameters = {**parameters, "target_session_attrs": "read-write"}
        with mapped(self._place.name):
            session = Session.connect(autocommit=True, **parameters)
            try:
                self._configure(session)
            except BaseException:
                session.close()
                raise
        return session

    @contextmanager
    def session(self, *, writes: bool = False) -> Iterator[Session]:
        """Lend a session for a short while; nothing is tried again."""
        if writes and self._place.has_several_servers:
            with self.connect(writes=True) as own:
                yield own
            return
        pool = self._now()
        try:
            lent = pool.getconn(_POOL_WAIT_S)
        except PoolTimeout:
            with self.connect() as own:  # or its error, which says more
                yield own
            return
        try:
            with mapped(self._place.name):
                yield lent
        finally:
            pool.putconn(lent)

    def read(self, work: Callable[[Session], Answer]) -> Answer:
        """Return what is read in a session; again in another one, where the first is lost."""
        for attempt in range(_ATTEMPTS):
            try:
                with self.session() as session:
                    return work(session)
            except AeSearchError as error:
                if attempt + 1 == _ATTEMPTS or not is_lost(error.__cause__):
                    raise
                log.info("reading %s again: %s", self._place.name, error)
                time.sleep(0.05 * attempt)
                self._drop_lost()
        raise AssertionError

    def _drop_lost(self) -> None:
        pool = self._pool
        if pool is not None:
            pool.check()

    def _now(self) -> "ConnectionPool[Session]":
        with self._lock:
            self.check_open()
            if self._pid != os.getpid():
                # The parent's sessions go on in the parent; neither are they used here nor ended.
                self._inherited.append(self._pool)
                self._pool, self._pid = None, os.getpid()
            if self._pool is None:
                self._pool = ConnectionPool(
                    kwargs={"autocommit": True, **self._place.parameters},
                    connection_class=Session,
                    min_size=0,
                    max_size=_MOST_SESSIONS,
                    max_waiting=0,
                    configure=self._configure,
                    num_workers=1,
                    open=True,
                )
            return self._pool

    def _configure(self, session: Session) -> None:
        session.look_for_pgvector(self._place.timeout_s)


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error of psycopg means that another session may do better."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate.startswith(_AGAIN)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(error, PoolTimeout)


def refused(error: psycopg.Error, place: PostgresPlace) -> AeSearchError:
    """Return the error to raise for one of psycopg."""
    return failure(error, place.name)
