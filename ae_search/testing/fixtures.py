"""The pytest fixtures; `pytest_plugins = ["ae_search.testing.fixtures"]` makes them known.

Where only some tests need them, import all four into the `conftest.py` of those.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ae_search.testing.running import RunningServer, serving
from ae_search.testing.tiny_model import write_tiny_model

_SHARED = pytest.StashKey[RunningServer]()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a tiny exported model, version 1; do not write to it."""
    base_path = tmp_path_factory.mktemp("ae_search") / "tiny"
    write_tiny_model(base_path)
    return base_path


@pytest.fixture(scope="session")
def model_server(tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server on the tiny model for the whole session; its faults and its count of requests end with each test."""
    with serving(tiny_model) as server:
        request.config.stash[_SHARED] = server
        yield server
        del request.config.stash[_SHARED]


@pytest.fixture(autouse=True)
def healthy_model_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave `model_server` without faults, and running, to the next test."""
    yield
    server = request.config.stash.get(_SHARED, None)
    if server is not None:
        server.faults.reset()
        server.start()


@pytest.fixture
def serve_model() -> Iterator[Callable[[Path], RunningServer]]:
    """Start a server of its own for a base path, which ends with the test: `serve_model(base_path)`."""
    with ExitStack() as started:
        yield lambda base_path: started.enter_context(serving(base_path))
