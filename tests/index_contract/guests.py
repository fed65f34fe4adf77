"""Who keeps the contract of an index: each engine and each kind of place is a guest of the same tests.

Another guest: write a class as below and add it to `GUESTS`. What it does not promise, it names in `missing`; the tests
that need it are left out then, and `test_contract_missing.py` holds that the index says so.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import milvus_server
from index_items import CARD
from index_oracle import Oracle
from postgres_server import copied_index, shared_server

from ae_search.contract import Builder, Index, Origin, Resources
from ae_search.index import AnnoyOptions, BuildOptions, FaissCodesOptions, FaissOptions
from ae_search.open_index import build_index, open_index

_CHILD = Path(__file__).with_name("contract_child.py")
_ROOT = str(Path(__file__).parents[2])


class Guest(Protocol):
    """One engine at one kind of place.

    Attributes:
        name: For the ids of tests.
        missing: Names of the promises that it does not keep, those that `@pytest.mark.needs` names.
        exhaustive: An effort that looks at everything.
        oracle_options: How its ids go; see `Oracle`.
    """

    name: str
    missing: frozenset[str]
    exhaustive: int
    oracle_options: dict

    def place(self) -> str:
        """Return a place where nothing is yet."""

    def build(self, place: str, card: Origin = CARD, *, sources=(), **options) -> Builder:
        """Return a builder; options are `recall`, `seed`, `replace`, `wait_s`, `fields`, `jobs`."""

    def open(self, place: str) -> Index:
        """Open what is at a place."""

    def copied(self, place: str) -> str:
        """Return another place with the same index."""


class AnnoyInFolder:
    """The local index, with Annoy."""

    name = "annoy"
    engine = AnnoyOptions(3)
    missing = frozenset()
    exhaustive = 10**6
    oracle_options = {"moves": True}

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder

    def place(self):
        return str(self._new_folder() / "index")

    def build(self, place, card=CARD, *, sources=(), **options):
        options = BuildOptions(self.engine, resources=Resources(options.pop("jobs", 1)), **options)
        return build_index(place, card, options, sources=sources)

    def open(self, place):
        return open_index(place)

    def copied(self, place):
        return str(shutil.copytree(place, self.place()))


class FaissInFolder(AnnoyInFolder):
    """The same with faiss."""

    name = "faiss"
    engine = FaissOptions()


class FaissCodesInFolder(AnnoyInFolder):
    """The same with codes of 8 bits."""

    name = "faiss-8bit"
    engine = FaissCodesOptions()


class PgvectorInPostgres:
    """An index in a database of a server that the tests start."""

    name = "pgvector"
    missing = frozenset()
    # Beyond pgvector's limit, which compares with every item.
    exhaustive = 10**6
    oracle_options = {"moves": False}

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._url = shared_server().url("contract")

    def place(self):
        return f"{self._url}&index=i{next(_NUMBERS)}-{os.getpid()}"

    def build(self, place, card=CARD, *, sources=(), **options):
        jobs = options.pop("jobs", 1)
        return build_index(place, card, BuildOptions(resources=Resources(jobs), **options), sources=sources)

    def open(self, place):
        return open_index(place)

    def copied(self, place):
        """Copy the tables: `build` could make neither removed items nor ids."""
        return copied_index(place, self.place())


class MilvusLite:
    """An index in milvus-lite: the shape of the API, and neither consistency nor a graph."""

    name = "milvus-lite"
    missing = frozenset({"blocks of one moment", "large items", "fields"})
    # Beyond Milvus's limit, which compares with every item.
    exhaustive = 10**6
    oracle_options = {"moves": True}
    consistency = "strong"

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._url = self._server()

    def _server(self):
        return milvus_server.lite()

    def place(self):
        return f"{self._url}/i{next(_NUMBERS)}_{os.getpid()}?consistency={self.consistency}"

    def build(self, place, card=CARD, *, sources=(), **options):
        jobs = options.pop("jobs", 1)
        return build_index(place, card, BuildOptions(resources=Resources(jobs), **options), sources=sources)

    def open(self, place):
        return open_index(place)

    def copied(self, place):
        """Copy the rows: `build` could make neither removed items nor ids."""
        return milvus_server.copied_index(place, self.place())


class MilvusStrong(MilvusLite):
    """An index in a Milvus standalone, with reads that wait for all changes."""

    name = "milvus-strong"

    def _server(self):
        return milvus_server.standalone()


class MilvusSession(MilvusStrong):
    """The same with reads that wait for the changes of their own process, which is the default."""

    name = "milvus-session"
    missing = MilvusLite.missing | {"changes of other processes"}
    consistency = "session"


_NUMBERS = itertools.count()
# A Milvus standalone takes a minute and gigabytes: `make test-milvus` asks for it.
GUESTS = {
    None: (AnnoyInFolder, FaissInFolder, FaissCodesInFolder, PgvectorInPostgres),
    "lite": (MilvusLite,),
    "strong": (MilvusStrong,),
    "session": (MilvusSession,),
}[os.environ.get("AE_SEARCH_TEST_MILVUS")]


def oracle_of(guest, metric="angular", **options) -> Oracle:
    """Return an empty oracle for a guest."""
    return Oracle(metric, **guest.oracle_options, **options)


@contextmanager
def child(place):
    """Open a place in another process; yields a function that calls a method there and returns what came as JSON."""
    environment = {**os.environ, "PYTHONPATH": _ROOT}
    command = [sys.executable, str(_CHILD), str(place)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def ask(method, *arguments, **options):
            process.stdin.write(json.dumps([method, arguments, options]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            assert process.stdout.readline() == "ready\n"
            yield ask
        finally:
            process.kill()
