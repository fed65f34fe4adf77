"""What an index on PostgreSQL holds, in figures."""

from typing import Any

from ae_search.contract import IndexInfo
from ae_search.remote_index.figures import reason_to_compact
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import HnswOptions
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.schema import SCHEMA
from ae_search.remote_index.postgres.state import load

_LAG = """
SELECT pg_is_in_recovery(), CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0.0
    ELSE extract(epoch FROM clock_timestamp() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()))
    END::float8
"""


def info(session: Session, place: PostgresPlace) -> IndexInfo:
    """Return the figures of an index."""
    state = load(session, place)
    manifest = state.manifest
    ((size,),) = session.execute(
        "SELECT pg_total_relation_size(to_regclass(%s))", (f"{SCHEMA}.generation_{state.number}",)
    )
    options: dict[str, Any] = {**manifest.options.to_json(), "pgvector": session.pgvector}
    if (behind_s := replica_lag_s(session)) is not None:
        options["replica_behind_s"] = behind_s
    return IndexInfo(
        place=place.name,
        generation=f"generation-{state.number:06d}",
        items=state.items,
        latents=state.latents,
        in_base=state.in_base,
        added=state.added,
        removed=state.removed,
        bytes=size or 0,
        model=manifest.model,
        image_shape=manifest.image_shape,
        latent_dim=manifest.latent_dim,
        metric=manifest.metric,
        engine=HnswOptions.engine,
        engine_options=options,
        effort=manifest.effort,
        recall=manifest.recall,
        target_recall=manifest.target_recall,
        recall_curve=manifest.recall_curve,
        sources=manifest.sources,
        fields=manifest.options.fields,
        created=manifest.created,
        compact_because=reason_to_compact(state.in_base, state.added, state.removed),
    )


def replica_lag_s(session: Session) -> float | None:
    """Return how far behind its primary a replica is, in s; None for a server that is a primary.

    Where nothing has been written for long, the replica has all there is, and is 0 s behind.
    """
    ((is_replica, behind_s),) = session.execute(_LAG)
    return None if not is_replica else float(behind_s or 0.0)
