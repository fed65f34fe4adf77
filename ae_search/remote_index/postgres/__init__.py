"""An index on PostgreSQL with pgvector; needs the extra `postgres`."""

from ae_search.extras import needs

with needs("An index on PostgreSQL needs psycopg and pgvector", "postgres"):
    import pgvector  # noqa: F401
    import psycopg  # noqa: F401
    import psycopg_pool  # noqa: F401

from ae_search.remote_index.postgres.builder import PostgresBuilder
from ae_search.remote_index.postgres.options import HnswOptions
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.postgres_index import PostgresIndex
from ae_search.remote_index.postgres.upkeep.verify import verify

__all__ = ["HnswOptions", "PostgresBuilder", "PostgresIndex", "PostgresPlace", "verify"]
