"""Whether a database is fit for its index: pgvector, the plan of a search, and how far behind a replica is."""

import json
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import sql

from ae_search.remote_index.health import Health
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_EFFORT
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.schema import table_of
from ae_search.remote_index.postgres.state import load
from ae_search.remote_index.postgres.tuning import nearness_in_graph
from ae_search.remote_index.postgres.upkeep.info import replica_lag_s

MUCH_LAG_S = 10.0

_METHOD = """
SELECT a.amname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE c.relname = %s AND c.relnamespace = 'ae_search'::regnamespace
"""


def health(session: Session, place: PostgresPlace) -> list[Health]:
    """Look at the extension, at the plan of a search, and at the replica, where it is one."""
    ((version,),) = session.execute("SHOW server_version")
    found = [Health(f"PostgreSQL {version} with pgvector {session.pgvector}", None), _plan(session, place)]
    behind_s = replica_lag_s(session)
    if behind_s is not None:
        advice = None if behind_s <= MUCH_LAG_S else "Look at the primary, and at the network between the two."
        found.append(Health(f"a replica, {behind_s:.1f} s behind its primary", advice))
    return found


def _plan(session: Session, place: PostgresPlace) -> Health:
    state = load(session, place)
    manifest = state.manifest
    if manifest.effort > MAX_EFFORT:
        return Health("searches compare with every item, by the recall that was asked for", None)
    session.use_graph(manifest.effort)
    near = nearness_in_graph(manifest)
    select = sql.SQL("EXPLAIN (FORMAT JSON) SELECT id FROM {} ORDER BY {} LIMIT 10").format(
        table_of(state.number), near
    )
    ((plan,),) = session.execute(select, [Vector(np.ones(manifest.latent_dim, np.float32))])
    session.use_graph(None)
    name = _index_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    method = session.execute(_METHOD, (name,)).fetchone() if name else None
    if method is not None and method[0] == "hnsw":
        return Health(f"searches use the graph {name}", None)
    return Health(
        f"searches do not use the graph, by the server's plan ({name or 'a look at every row'})",
        "ANALYZE the table, or build the index anew by `ae-search index compact`.",
    )


def _index_of(plan: dict[str, Any]) -> str | None:
    """Return the first index of a plan."""
    if name := plan.get("Index Name"):
        return str(name)
    return next(filter(None, map(_index_of, plan.get("Plans", ()))), None)
