"""Scripted servers, and clients of either kind."""

from contextlib import ExitStack

import numpy as np
import pytest
import scripted_server
from both_clients import KINDS
from scripted_server import Script


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def serve():
    """Start a server for a script; return its port."""
    with ExitStack() as started:

        def run(script, address="127.0.0.1:0", **options):
            server, port = scripted_server.start(script, address, **options)
            started.callback(lambda: server.stop(None).wait())
            return port

        yield run


@pytest.fixture(params=KINDS)
def connect(request):
    """Make a client, blocking or asynchronous, of a port of this machine or of a target."""
    with ExitStack() as made:

        def client(where, model="pixels", **options):
            target = f"127.0.0.1:{where}" if isinstance(where, int) else where
            one = KINDS[request.param](target, model, **{"timeout_s": 20, **options})
            made.callback(one.end)
            return one

        yield client


@pytest.fixture
def client(script, serve, connect):
    return connect(serve(script))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (1000, 4, 4, 1), np.uint8)
