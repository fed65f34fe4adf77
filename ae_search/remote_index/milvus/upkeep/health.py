"""Whether a Milvus is fit for its index: its version, what is loaded, and how long a read at each level takes."""

import time

from ae_search.remote_index.health import Health
from ae_search.remote_index.milvus.place import CONSISTENCIES, MilvusPlace
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import State, is_newest


def health(server: Server, place: MilvusPlace, state: State) -> list[Health]:
    """Look at the server, at the live generation, and at what a read costs."""
    version = server.version()
    loaded = server.call(lambda client, limit: client.get_load_state(state.collection, timeout=limit))
    told = getattr(loaded["state"], "name", str(loaded["state"]))
    is_lite = "milvus_lite" in version
    found = [
        Health(f"Milvus {version}", "milvus-lite is for trying things out; use a Milvus server." if is_lite else None),
        Health(
            f"{state.collection} in memory: {told}",
            None if told == "Loaded" else "Load the collection, and look at the memory of the query nodes.",
        ),
    ]
    times = []
    for level in CONSISTENCIES:
        began = time.perf_counter()
        is_newest(server, state, level)
        times.append(f"{level} {1e3 * (time.perf_counter() - began):.0f} ms")
    return [*found, Health(f"reads are {place.consistency} by default; a small one takes {', '.join(times)}", None)]
