"""Checking an index on PostgreSQL thoroughly."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
from psycopg import sql

from ae_search.contract import Check
from ae_search.errors import AeSearchError, IndexDamagedError
from ae_search.nearest.comparing import compare, queries
from ae_search.remote_index.postgres.connections import Connections, Session
from ae_search.remote_index.postgres.failures import mapped
from ae_search.remote_index.postgres.options import MAX_EFFORT
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.rows import latents_of
from ae_search.remote_index.postgres.schema import SCHEMA, table_of
from ae_search.remote_index.postgres.state import State, load
from ae_search.remote_index.postgres.tuning import nearest_in_graph

_SAMPLE = 100
_SAME_DISTANCE = 1e-3

_COUNTS = """
SELECT count(*) FILTER (WHERE at = 0), count(*), coalesce(max(at) + 1, 1), coalesce(max(id), -1) FROM {}
"""
# What an item's rows must have in common, and what stands for its key.
_ROWS = """
SELECT key FROM (
    SELECT min(key) AS key, count(*) AS latents, max(at) + 1 AS last, count(DISTINCT key) AS keys,
        bool_and(name = encode(substring(sha256(convert_to(key, 'UTF8')) FOR 16), 'hex')::uuid) AS named,
        bool_and(metadata IS NULL OR json_typeof(metadata) = 'object') AS described
    FROM {} GROUP BY id
) items WHERE latents <> last OR keys <> 1 OR NOT named OR NOT described LIMIT 1
"""
_GRAPH = """
SELECT coalesce(bool_and(i.indisvalid AND i.indisready), false)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE i.indrelid = to_regclass(%s) AND a.amname = 'hnsw'
"""
_SOME = "SELECT id, latent FROM {} WHERE id = ANY(%s) AND at = 0"


def verify(place: PostgresPlace) -> list[Check]:
    """Check everything about an index; it may be searched meanwhile.

    Returns:
        What was checked, up to the first fault that leaves nothing more to check.

    Raises:
        ConfigurationError: There is no index.
        ServerError: The server does not answer.
    """
    with closing(Connections(place)) as connections, closing(connections.connect()) as session:
        with mapped(place.name):
            session.execute("SELECT set_config('statement_timeout', '0', false)")
        return _checks(session, place)


def _checks(session: Session, place: PostgresPlace) -> list[Check]:
    try:
        # One moment for all of it: nobody's change comes in between.
        with mapped(place.name), session.transaction():
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            state = load(session, place)
            first = Check("the manifest", None)
            return [first, *(_check(what, step, session, state) for what, step in _STEPS)]
    except IndexDamagedError as error:
        return [Check("the manifest", str(error))]


def _check(what: str, step: Callable[[Session, State], None], session: Session, state: State) -> Check:
    try:
        with mapped(f"Checking {what}"), session.transaction():
            step(session, state)
    except AeSearchError as error:
        return Check(what, str(error))
    return Check(what, None)


def _counts(session: Session, state: State) -> None:
    (row,) = session.execute(sql.SQL(_COUNTS).format(table_of(state.number)))
    items, latents, most, last = row
    if (items, latents) != (state.items, state.latents) or most > state.most_latents or last >= state.next_id:
        raise IndexDamagedError(
            f"There should be {state.items} items with {state.latents} latents, up to {state.most_latents} each, with "
            f"ids below {state.next_id}. Received: {items} with {latents}, up to {most}, with ids up to {last}."
        )


def _rows(session: Session, state: State) -> None:
    strange = session.execute(sql.SQL(_ROWS).format(table_of(state.number))).fetchone()
    if strange is not None:
        raise IndexDamagedError(f"The rows of item {strange[0]!r:.80} do not belong together.")


def _graph(session: Session, state: State) -> None:
    (found,) = session.execute(_GRAPH, (f"{SCHEMA}.generation_{state.number}",))
    if not found[0]:
        raise IndexDamagedError("The graph is missing or was not built to its end; build the index anew.")


def _sample(session: Session, state: State) -> None:
    manifest = state.manifest
    drawn = np.unique(np.random.default_rng(0).integers(max(1, state.next_id), size=4 * _SAMPLE)).tolist()
    found = session.execute(sql.SQL(_SOME).format(table_of(state.number)), (drawn,), binary=True).fetchall()[:_SAMPLE]
    rows = queries(latents_of([row[1] for row in found], manifest.latent_dim))
    # As far as the graph goes: at the effort of queries, a few of many items are not found even where all is well.
    session.use_graph(MAX_EFFORT)
    for (item, _), query in zip(found, rows, strict=True):
        answer = nearest_in_graph(session, state.number, manifest, query, 1)
        near = latents_of([row[2] for row in answer], manifest.latent_dim)
        distances = [distance for distance, _, _ in compare(query, range(len(near)), near, manifest.metric)]
        # A latent of zeros is near to nothing, not even to itself.
        if query.square and min(distances, default=np.inf) > _SAME_DISTANCE:
            raise IndexDamagedError(f"Searched by item {item}, the graph does not return it.")


_STEPS: tuple[tuple[str, Callable[[Session, State], None]], ...] = (
    ("counts of items and latents", _counts),
    ("each item's rows, keys and metadata", _rows),
    ("the graph, built to its end", _graph),
    ("a sample of latents against the graph", _sample),
)
