"""What the database holds: one schema, and one table for each generation of an index."""

import hashlib

import psycopg
from psycopg import sql

from ae_search.contract import Metric
from ae_search.errors import ConfigurationError, NotSupportedError
from ae_search.remote_index.postgres.conditions import LABEL_PART, number_of, text_of
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_HALFVEC_DIM, MAX_HNSW_DIM, HnswOptions

SCHEMA = "ae_search"
FORMAT = 1

# `manifest` is null while a generation is being built; then nobody's `indexes` row leads to it. The counts change with
# every change, in the same transaction. `epoch` counts what a reader must read anew, `changes` counts all changes.
_TABLES = """
CREATE SCHEMA IF NOT EXISTS ae_search;
CREATE TABLE IF NOT EXISTS ae_search.generations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, index text COLLATE "C" NOT NULL, manifest json,
    epoch bigint NOT NULL DEFAULT 0, changes bigint NOT NULL DEFAULT 0, next_id bigint NOT NULL DEFAULT 0,
    items bigint NOT NULL DEFAULT 0, latents bigint NOT NULL DEFAULT 0, most_latents integer NOT NULL DEFAULT 1,
    in_base bigint NOT NULL DEFAULT 0, added bigint NOT NULL DEFAULT 0, removed bigint NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS ae_search.indexes (
    name text COLLATE "C" PRIMARY KEY, generation bigint NOT NULL REFERENCES ae_search.generations
);
CREATE TABLE IF NOT EXISTS ae_search.calibration (
    generation bigint NOT NULL REFERENCES ae_search.generations ON DELETE CASCADE, name text COLLATE "C" NOT NULL,
    value json NOT NULL, PRIMARY KEY (generation, name)
);
"""
# One row for each latent; `at` counts those of one item, and the thumbnail is with the first. Keys and labels may be
# longer than a B-tree takes, so an item is looked up by the hash of its key.
_GENERATION = """
CREATE TABLE {table} (
    id bigint NOT NULL, at smallint NOT NULL, name uuid NOT NULL, key text COLLATE "C" NOT NULL,
    label text COLLATE "C", metadata json, digest text COLLATE "C", thumbnail bytea, latent {type} NOT NULL,
    PRIMARY KEY (id, at), UNIQUE (name, at)
)
"""


def key_of_lock(index: str) -> int:
    """Return the number of the advisory lock that a writer of an index holds."""
    return int.from_bytes(hashlib.sha256(f"ae-search index {index}".encode()).digest()[:8], "big", signed=True)


def table_of(generation: int) -> sql.Identifier:
    """Return the name of a generation's table."""
    return sql.Identifier(SCHEMA, f"generation_{generation}")


def prepare_database(session: Session, place: str, timeout_s: float) -> None:
    """Make what an index needs, where it is not there yet.

    Raises:
        ConfigurationError: The database is not in UTF-8, or pgvector must be installed by somebody else.
    """
    ((encoding,),) = session.execute("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(f"{place}: the database's encoding is {encoding}; create one with ENCODING 'UTF8'.")
    with session.transaction():
        # Two at once would be in each other's way.
        session.execute("SELECT pg_advisory_xact_lock(%s)", (key_of_lock(""),))
        if not session.pgvector:
            _create_extension(session, place)
        (row,) = session.execute("SELECT to_regclass('ae_search.calibration')")
        if row[0] is None:
            session.execute(_TABLES)
    if not session.pgvector:
        session.look_for_pgvector(timeout_s)


def _create_extension(session: Session, place: str) -> None:
    try:
        with session.transaction():
            # Where an administrator's would be. By our own path it would be in pg_catalog, and dumps of the index would
            # ask for it there.
            session.execute("SET LOCAL search_path TO DEFAULT")
            session.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"{place}: this role may not create the extension vector; an administrator must run CREATE EXTENSION "
            "vector in this database once."
        ) from error


def check_size(latent_dim: int, options: HnswOptions) -> None:
    """Check that pgvector can hold latents of a size.

    Raises:
        NotSupportedError: They are too large.
    """
    most = MAX_HALFVEC_DIM if options.halfvec else MAX_HNSW_DIM
    if latent_dim > most:
        advice = "one with halfvec takes 4,000" if latent_dim <= MAX_HALFVEC_DIM else "an index in a folder takes more"
        raise NotSupportedError(
            f"pgvector's graph holds latents of up to {most} floats; {advice}. Received: {latent_dim}."
        )


def create_generation(session: Session, index: str, latent_dim: int) -> int:
    """Make the table of a generation that nobody reads yet; return its number."""
    with session.transaction():
        ((number,),) = session.execute(
            "INSERT INTO ae_search.generations (index) VALUES (%s) RETURNING number", (index,)
        )
        kind = sql.SQL("vector({})").format(sql.Literal(latent_dim))
        session.execute(sql.SQL(_GENERATION).format(table=table_of(number), type=kind))
        session.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN thumbnail SET STORAGE EXTERNAL").format(table_of(number)))
    return int(number)


def ordered_by(metric: Metric, latent_dim: int, *, halfvec: bool) -> tuple[sql.Composed, str, str]:
    """Return what is in the graph, its operator and its operator class.

    By the angle, the graph holds latents of length 1, and compares inner products: cosine distance would leave out
    latents of zeros, and lose digits of very small ones.
    """
    kind = "halfvec" if halfvec else "vector"
    inner = "l2_normalize(latent)" if metric == "angular" else "latent"
    column = sql.SQL(f"({inner}::{kind}({{}}))").format(sql.Literal(latent_dim))
    return (column, "<#>", f"{kind}_ip_ops") if metric == "angular" else (column, "<->", f"{kind}_l2_ops")


def create_indexes(session: Session, generation: int, metric: Metric, latent_dim: int, options: HnswOptions) -> None:
    """Build the graph and the indexes of the label and of the asked fields, and let the planner count."""
    column, _, kind = ordered_by(metric, latent_dim, halfvec=options.halfvec)
    table = table_of(generation)
    graph = sql.SQL("CREATE INDEX ON {} USING hnsw (({}) {}) WITH (m = {}, ef_construction = {})")
    session.execute(
        graph.format(
            table,
            column,
            sql.SQL(kind),
            sql.Literal(options.m),
            sql.Literal(options.ef_construction),
        )
    )
    session.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, LABEL_PART))
    for name in options.fields:
        for part in (text_of(name), number_of(name)):
            session.execute(sql.SQL("CREATE INDEX ON {} (({}))").format(table, part), ())
    session.execute(sql.SQL("ANALYZE {}").format(table))
