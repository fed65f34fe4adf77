"""The shape of Milvus's API, on milvus-lite: it has neither consistency nor graphs, which `make test-milvus` shows."""

import copy
import pickle
import subprocess
import sys

import milvus_server
import numpy as np
import pytest
from index_items import CARD, clustered, small_block
from index_oracle import Oracle

from ae_search.diagnosis.diagnose import WithHealth
from ae_search.errors import (
    ConfigurationError,
    IndexBusyError,
    NotSupportedError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from ae_search.index import BuildOptions, FaissOptions
from ae_search.open_index import build_index, open_index, verify_index
from ae_search.remote_index.milvus import MilvusPlace, lock
from ae_search.remote_index.milvus import state as states
from ae_search.remote_index.milvus.generations import new_generation
from ae_search.remote_index.milvus.options import MAX_EFFORT
from ae_search.remote_index.milvus.server import Server

NEW = clustered(20, seed=3)


@pytest.fixture(scope="module")
def built():
    place, oracle = f"{milvus_server.lite()}/photos", Oracle()
    with build_index(place, CARD, sources=("photos",)) as builder:
        builder.add(**small_block())
    oracle.add(**small_block())
    return place, oracle


@pytest.fixture
def changed(built):
    """A copy of an index, and what it must hold."""
    place, oracle = built
    return milvus_server.copied_index(place, f"{place}_{np.random.default_rng().integers(2**31)}"), oracle.copy()


def test_changes(changed):
    place, oracle = changed
    with open_index(place) as index, open_index(place) as reader:
        for name, arguments in (
            ("add", {"latents": NEW[:6].reshape(2, 3, 8), "keys": ["a", "b"], "labels": ["x", None]}),
            ("update", {"keys": ["b", "key-1"], "labels": ["y", "z"], "thumbnails": [b"b", None]}),
            ("remove", {"keys": ["a", "key-2"]}),
            ("calibrate", {"name": "null", "values": {"mean": 0.5}}),
        ):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        oracle.check(reader)
        index.compact()
        oracle.check(reader)
        assert index.info().sources == ("photos",)
    assert [check.fault for check in verify_index(place) if check.fault] == []


@pytest.mark.parametrize(
    "where", [{"label": "label-1"}, {"n": {"gte": 5, "lt": 30}}, {"label": None}, {"key": "key-1"}]
)
def test_filters(built, where):
    place, oracle = built
    with open_index(place) as index:
        expected = oracle.ranked(NEW[0], where)
        for options in ({}, {"exact": True}, {"consistency": "strong"}):
            assert [n.key for n in index.search(NEW[0], 60, where=where, **options)[0]] == expected
        assert index.keys(where=where) == [key for key in oracle.items if key in expected]


def test_blocks_that_were_changed_while_they_were_read(changed):
    place, _ = changed
    with open_index(place) as index:
        blocks = index.blocks()
        index.remove(["key-1"])
        with pytest.raises(IndexBusyError, match="changed while"):
            list(blocks)
        assert sum(len(items) for _, items in index.blocks()) == 59


@pytest.mark.parametrize(
    "large",
    [
        {"metadata": [{"x": "y" * 70_000}]},
        {"thumbnails": [bytes(50_000)]},
        {"metadata": [{f"{i}": i for i in range(2000)}]},
    ],
    ids=["metadata", "thumbnail", "fields"],
)
def test_what_is_larger_than_milvus_takes(built, large):
    place, oracle = built
    with open_index(place) as index:
        with pytest.raises(NotSupportedError, match=r"65535 bytes.*'large'; nothing was changed"):
            index.add(NEW[:1], ["large"], **large)
        oracle.check(index)


@pytest.mark.parametrize("options", [{"engine": FaissOptions()}, {"fields": ("price",)}])
def test_options_of_other_places_are_refused(options):
    with pytest.raises(NotSupportedError):
        build_index(f"{milvus_server.lite()}/other", CARD, BuildOptions(**options))
    with pytest.raises(ConfigurationError, match="no index"):
        open_index(f"{milvus_server.lite()}/other")


def test_a_writer_that_is_gone_is_followed_and_its_rows_never_count(changed, monkeypatch):
    """Its claim stays, and rows that no state counts, as after a kill between the two."""
    place, oracle = changed
    monkeypatch.setattr(lock, "LEASE_S", 0.5)
    with open_index(place) as index:
        milvus_server.leave_like_a_killed_writer(place, NEW[:3], ["x", "y", "z"])
        oracle.check(index)
        with pytest.raises(IndexBusyError, match="written by process"):
            index.add(NEW[:1], ["new"])
        index.add(NEW[:1], ["new"], wait_s=10.0)
        oracle.add(NEW[:1], ["new"])
        oracle.check(index)
        # Those that arrive late have ids that nobody uses again.
        index.add(NEW[3:4], ["x"])
        oracle.add(NEW[3:4], ["x"])
        oracle.check(index)
        index.compact()
        oracle.check(index)


def test_a_pickle_and_a_copy_lead_to_the_same_place(built):
    place, oracle = built
    with open_index(place) as index:
        for again in (pickle.loads(pickle.dumps(index)), copy.copy(index)):
            with again:
                assert again.keys() == list(oracle.items)


def test_what_doctor_is_told(built):
    place, _ = built
    with open_index(place) as index:
        assert isinstance(index, WithHealth)
        version, loaded, reads = index.health()
    assert "milvus_lite" in version.told and "use a Milvus server" in version.advice
    assert (loaded.told, loaded.advice) == ("photos_generation_000001 in memory: Loaded", None)
    assert reads.told.startswith("reads are session by default; a small one takes strong ") and reads.advice is None


def test_the_client_is_not_loaded_before_it_is_needed():
    code = "import sys, ae_search, ae_search.cli, ae_search.open_index; sys.exit('pymilvus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_client_leaves_logging_and_the_environment_of_the_process_alone(tmp_path):
    (tmp_path / ".env").write_text("FROM_A_FILE=1\n")
    code = """
import io, logging, os
stream = io.StringIO()
class Handler(logging.StreamHandler):
    def close(self):
        self.stream.close()
        super().close()
logging.getLogger().addHandler(Handler(stream))
import ae_search.remote_index.milvus
assert not stream.closed
assert "FROM_A_FILE" not in os.environ and "PYTHON_DOTENV_DISABLED" not in os.environ
logging.getLogger("mine").warning("told")
assert stream.getvalue() == "told\\n"
os._exit(0)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_a_tuning_after_a_write_that_failed_still_asks_by_items(changed, monkeypatch):
    place, oracle = changed
    with open_index(place) as index:
        fail_once(monkeypatch)
        with pytest.raises(ServerTimeoutError):
            index.add(NEW[:1], ["new"])
        voided = states.find(*server_of(place))
        assert voided.voids
        drawn = voided.drawn(np.random.default_rng(0), 400)
        assert len(drawn) > 20 and drawn.max() < voided.voids[0]
        assert index.tune().effort < MAX_EFFORT
        oracle.check(index)


def test_a_writer_whose_claim_is_old_writes_nothing_more(changed, monkeypatch):
    place, oracle = changed
    with open_index(place) as index:
        before = states.find(*server_of(place))
        # As if the server had not answered for so long.
        monkeypatch.setattr(lock, "_FRESH_S", -1.0)
        with pytest.raises(ServerUnavailableError, match="another process may write"):
            index.add(NEW[:1], ["new"])
        assert states.find(*server_of(place)) == before
        oracle.check(index)


def test_a_builder_whose_claim_is_old_leaves_what_another_one_builds(changed):
    place, _ = changed
    server, at = server_of(place)
    manifest = states.find(server, at).manifest
    with pytest.raises(ServerUnavailableError), new_generation(server, at, manifest, Held(False)) as stalled:
        stalled.add(NEW, [str(n) for n in range(20)])
        other = new_generation(server, at, manifest, Held(True))
        other.__enter__().add(NEW, [str(n) for n in range(20)])
    other.__exit__(None, None, None)
    with open_index(place) as index:
        assert len(index) == 20


def test_a_claim_that_is_interrupted_is_taken_back(changed, monkeypatch):
    place, _ = changed
    with open_index(place) as index:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(lock.Claim, "_others", interrupted)
            index.remove(["key-1"])
        index.remove(["key-1"])
        assert "key-1" not in index


class Held:
    """A claim that is fresh or old, whatever the time."""

    def __init__(self, is_fresh):
        self._is_fresh = is_fresh

    def check(self):
        if not self._is_fresh:
            raise ServerUnavailableError("another process may write by now")


def server_of(place):
    at = MilvusPlace.parse(place)
    return Server(at), at


def fail_once(monkeypatch):
    """Let the next state not arrive."""
    real, failed = states.write, []

    def write(server, state, name):
        if not failed:
            failed.append(state)
            raise ServerTimeoutError("no answer")
        real(server, state, name)

    monkeypatch.setattr(states, "write", write)


def interrupted(_):
    raise KeyboardInterrupt
