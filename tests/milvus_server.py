"""Servers that speak Milvus's API for tests: milvus-lite within this process, and a Milvus standalone of its own.

milvus-lite is another program than Milvus, written in Python: it shows the shape of the API, and neither consistency
nor graphs. The standalone is the binary of the wheel `milvus`, the last one that there is: 2.3.5.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from ae_search.remote_index.milvus import MilvusPlace
from ae_search.remote_index.milvus.lock import Claim
from ae_search.remote_index.milvus.schema import (
    ITEMS,
    create_generation,
    generation_name,
)
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import load, write
from ae_search.remote_index.milvus.writing import Change

START_S = 300
_COMPONENTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
# Addresses of this machine only, and a coordinator that looks more often at what is to be loaded. The clock that reads
# wait for stays as it comes: at 20 ms it falls behind on two busy cores, and each read waits longer than the last.
SETTINGS = {f"{name}.ip": "127.0.0.1" for name in _COMPONENTS} | {"queryCoord.checkInterval": "200"}

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


@cache
def standalone():
    """Return the URL of a Milvus standalone: the one of `AE_SEARCH_MILVUS_SERVER`, or one that is started here."""
    given = os.environ.get("AE_SEARCH_MILVUS_SERVER")
    return f"milvus://{given}" if given else MilvusStandalone().url


class MilvusStandalone:
    """One Milvus in a folder of its own, which goes with it. It takes a minute to start, and about 1 GB.

    It listens on all addresses of its network; `make test-milvus` gives it one of its own where the system lets it.
    """

    def __init__(self):
        import milvus

        self.folder = Path(tempfile.mkdtemp(prefix="ae-milvus-"))
        self._server = milvus.MilvusServer(milvus.MilvusServerConfig(data_dir=str(self.folder)), wait_for_started=False)
        for name, value in SETTINGS.items():
            self._server.config.set(name, value)
        self.start()
        atexit.register(self.close)

    @property
    def url(self):
        return f"milvus://127.0.0.1:{self._server.listen_port}"

    @property
    def pid(self):
        """Process number of the server."""
        return self._server.server_proc.pid

    def start(self):
        """Start it, or start it again, and wait until it answers."""
        self._server.start()
        self._server.wait_started(timeout=1000 * START_S)

    def kill(self):
        """Kill it, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        self._server.server_proc.wait()

    def close(self):
        """Stop it, and remove its folder; a second time does nothing."""
        if self._server.server_proc is not None:
            self._server.server_proc.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.server_proc.wait(30)
            self._server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def copied_index(place, new):
    """Copy an index to another name, with the ids and counts that it has."""
    old, target = MilvusPlace.parse(place), MilvusPlace.parse(new)
    with closing(Server(old)) as server:
        state = load(server, old)
        manifest, name = state.manifest, generation_name(target.index, 1)
        create_generation(server, name, manifest.metric, manifest.latent_dim, manifest.options)
        rows = server.query(state.collection, "pk >= 0", _ALL, partition=ITEMS, level="strong")
        for start in range(0, len(rows), 1000):
            server.insert(name, [dict(row) for row in rows[start : start + 1000]], ITEMS)
        write(server, replace(state, collection=name), target.name)
        server.call(lambda client, limit: client.create_alias(name, target.index, timeout=limit))
    return new


def leave_like_a_killed_writer(place, latents, keys):
    """Write the rows of new items that no state counts, and leave the claim."""
    at = MilvusPlace.parse(place)
    with closing(Server(at)) as server:
        claim = Claim(server, at)
        claim.take(0.0)
        change = Change(server, at, load(server, at))
        change.add(latents, keys, labels=None, metadata=None, thumbnails=None, digests=None, source=None)
        claim.abandoned = True
        claim.release()


if __name__ == "__main__":
    # python tests/milvus_server.py COMMAND: run a command beside a server of its own.
    with closing(MilvusStandalone()) as running:
        told = {**os.environ, "AE_SEARCH_MILVUS_SERVER": running.url.removeprefix("milvus://")}
        sys.exit(subprocess.call(sys.argv[1:], env=told))
