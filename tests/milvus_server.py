"""Servers that speak Milvus's API for tests: milvus-lite within this process, and a Milvus standalone of its own.

milvus-lite is another program than Milvus, written in Python: it shows the shape of the API, and neither consistency
nor graphs. The standalone is the binary of the wheel `milvus`, the last one that there is: 2.3.5.
"""

import atexit
import shutil
import tempfile
from contextlib import closing
from dataclasses import replace
from functools import cache

from ae_search.remote_index.milvus import MilvusPlace
from ae_search.remote_index.milvus.schema import (
    ITEMS,
    create_generation,
    create_writers,
    generation_name,
    writers_name,
)
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import load, write

_ALL = (
    "pk",
    "key_hash",
    "label_hash",
    "has",
    "scale",
    "key",
    "label",
    "metadata",
    "digest",
    "thumbnail",
    "fields",
    "latent",
)


@cache
def lite():
    """Return the URL of a milvus-lite that all tests of this process share."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    folder = tempfile.mkdtemp(prefix="ae-milvus-lite-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server, database, port = start_server_in_thread(data_dir=folder, host="127.0.0.1", port=0)
    atexit.register(database.close)
    atexit.register(server.stop, 0)
    return f"milvus://127.0.0.1:{port}"


def copied_index(place, new):
    """Copy an index to another name, with the ids and counts that it has."""
    old, target = MilvusPlace.parse(place), MilvusPlace.parse(new)
    with closing(Server(old)) as server:
        state = load(server, old)
        manifest, name = state.manifest, generation_name(target.index, 1)
        create_writers(server, writers_name(target.index))
        create_generation(server, name, manifest.metric, manifest.latent_dim, manifest.options)
        rows = server.query(state.collection, "pk >= 0", _ALL, partition=ITEMS, level="strong")
        for start in range(0, len(rows), 1000):
            server.insert(name, [dict(row) for row in rows[start : start + 1000]], ITEMS)
        write(server, replace(state, collection=name), target.name)
        server.call(lambda client, limit: client.create_alias(name, target.index, timeout=limit))
    return new
