"""What Milvus holds: a collection for each generation, an alias to the live one, and a collection for all writers."""

import re
from typing import Any

from pymilvus import DataType, MilvusClient

from ae_search.contract import MAX_TEXT_BYTES, Metric
from ae_search.errors import NotSupportedError
from ae_search.remote_index.milvus.options import MAX_DIM, MAX_TEXT, MilvusOptions
from ae_search.remote_index.milvus.server import Server

# Latents lie in one partition, and what an index says of itself in another, so that no search meets it.
ITEMS, STATES = "_default", "state"
# The collection by which one writer of an index at a time is found.
WRITERS = "ae_search_writers"
# The primary key is the item's id times this, plus which of its latents it is. A state has a negative one.
ROWS_PER_ITEM = 64
_DIGEST_BYTES = 128
_OWNER_BYTES = 512


def generation_name(index: str, number: int) -> str:
    """Return the name of a generation's collection."""
    return f"{index}_generation_{number:06d}"


def generations_of(server: Server, index: str) -> dict[int, str]:
    """Return the collections that are generations of an index, by their numbers."""
    pattern = re.compile(rf"{index}_generation_([0-9]{{6,18}})")
    found = ((pattern.fullmatch(name), name) for name in server.collections())
    return {int(match[1]): name for match, name in found if match}


def remove_others(server: Server, index: str, live: str | None) -> None:
    """Remove all generations of an index but the live one."""
    for name in generations_of(server, index).values():
        if name != live:
            server.drop(name)


def check_size(latent_dim: int) -> None:
    """Check that Milvus can hold latents of a size.

    Raises:
        NotSupportedError: They are too large.
    """
    if latent_dim > MAX_DIM:
        raise NotSupportedError(
            f"Milvus holds latents of up to {MAX_DIM} floats; an index in a folder takes more. Received: {latent_dim}."
        )


def width_of(latent_dim: int) -> int:
    """Return how many floats a row has: Milvus wants at least two."""
    return max(2, latent_dim)


def create_generation(server: Server, name: str, metric: Metric, latent_dim: int, options: MilvusOptions) -> None:
    """Make the collection of a generation, which nobody reads yet."""

    def create(client: MilvusClient, limit: float) -> None:
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description="ae-search: latents")
        schema.add_field("pk", DataType.INT64, is_primary=True)
        for field in ("key_hash", "label_hash", "has", "scale"):
            schema.add_field(field, DataType.INT64)
        schema.add_field("key", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        schema.add_field("label", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        schema.add_field("metadata", DataType.VARCHAR, max_length=MAX_TEXT)
        schema.add_field("digest", DataType.VARCHAR, max_length=_DIGEST_BYTES)
        schema.add_field("thumbnail", DataType.VARCHAR, max_length=MAX_TEXT)
        schema.add_field("fields", DataType.JSON)
        schema.add_field("latent", DataType.FLOAT_VECTOR, dim=width_of(latent_dim))
        client.create_collection(
            name, schema=schema, num_shards=options.shards, consistency_level="Strong", timeout=limit
        )
        client.create_partition(name, STATES, timeout=limit)

    server.call(create)
    _index_and_load(server, name, _graph(metric, options), ("key_hash", "label_hash"), options.replicas)


def create_writers(server: Server) -> None:
    """Make the collection of the writers of all indexes, where it is not there yet, and have it loaded."""

    def create(client: MilvusClient, limit: float) -> None:
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description="ae-search: writers")
        for field in ("pk", "index_hash", "claim"):
            schema.add_field(field, DataType.INT64, is_primary=field == "pk")
        schema.add_field("owner", DataType.VARCHAR, max_length=_OWNER_BYTES)
        schema.add_field("latent", DataType.FLOAT_VECTOR, dim=2)
        client.create_collection(WRITERS, schema=schema, num_shards=1, consistency_level="Strong", timeout=limit)

    if server.resolved(WRITERS) is None:
        server.call(create)
    if server.call(lambda client, limit: client.list_indexes(WRITERS, timeout=limit)):
        server.call_long(lambda client, limit: client.load_collection(WRITERS, timeout=limit))
    else:
        _index_and_load(server, WRITERS, {"index_type": "FLAT", "metric_type": "L2", "params": {}}, (), 1)


def owner_text(text: str) -> str:
    """Return what a writer says of itself, as short as its column is."""
    return text.encode()[:_OWNER_BYTES].decode(errors="ignore")


def _graph(metric: Metric, options: MilvusOptions) -> dict[str, Any]:
    return {
        "index_type": "HNSW",
        "metric_type": "COSINE" if metric == "angular" else "L2",
        "params": {"M": options.m, "efConstruction": options.ef_construction},
    }


def _index_and_load(
    server: Server, name: str, graph: dict[str, Any], looked_up: tuple[str, ...], replicas: int
) -> None:
    # The one of newer servers is not known to 2.3, and takes less memory.
    kind = "STL_SORT" if re.match(r"v?2\.[0-3]\b", server.version()) else "INVERTED"

    def index(client: MilvusClient, limit: float) -> None:
        params = client.prepare_index_params()
        params.add_index("latent", **graph)
        for field in looked_up:
            params.add_index(field, index_type=kind)
        # There is nothing to build yet; the client would look every half second.
        client.create_index(name, params, timeout=limit, sync=False)
        client.load_collection(name, replica_number=replicas, timeout=limit)

    server.call_long(index)
