"""A place on Milvus is told without its secrets, and speaks TLS unless it is on this machine."""

import multiprocessing
import pickle
import socket
import time
from concurrent.futures import ProcessPoolExecutor

import grpc
import pytest
from index_items import CARD

from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ConfigurationError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from ae_search.open_index import SharedPlace, build_index, open_index, place_name, verify_index
from ae_search.remote_index.milvus import MilvusPlace
from ae_search.remote_index.milvus.failures import MilvusException, failure
from ae_search.remote_index.milvus.place import TOKEN_VARIABLE

SECRET = "s3cr%40t"
PLAIN = "s3cr@t"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"milvus://me:{SECRET}@h/photos", "milvus://me@h/photos"),
        (f"milvus://me:{SECRET}@h:1/photos?consistency=strong", "milvus://me@h:1/photos?consistency=strong"),
        (f"milvus://:{SECRET}@[::1]:5/a?timeout_s=3", "milvus://@[::1]:5/a?timeout_s=3"),
        (f"milvus://m%40e:{SECRET}@h/a?database=d&tls=off", "milvus://m%40e@h/a?database=d&tls=off"),
    ],
)
def test_its_name_has_no_secret_and_leads_back(url, name):
    place = MilvusPlace.parse(url)
    assert place.name == place_name(url) == name
    assert place.token.endswith(f":{PLAIN}")
    assert not any(text in shown for text in (SECRET, PLAIN) for shown in (repr(place), str(place), place.uri))
    # Within this process.
    assert MilvusPlace.parse(name) == place
    assert PLAIN.encode() not in pickle.dumps(place.name)


@pytest.mark.parametrize(
    "url",
    [
        f"milvus://me:{SECRET}@h",
        f"milvus://me:{SECRET}@h/",
        f"milvus://me:{SECRET}@/photos",
        f"milvus://me:{SECRET}@h/a b",
        f"milvus://me:{SECRET}@h/a/b",
        f"milvus://me:{SECRET}@h/1a",
        f"milvus://me:{SECRET}@h/a-b",
        f"milvus://me:{SECRET}@h/{'a' * 64}",
        f"milvus://me:{SECRET}@h/ae_search_writers",
        f"milvus://me:{SECRET}@h/photos_generation_000001",
        f"milvus://me:{SECRET}@h/a?consistency=eventual",
        f"milvus://me:{SECRET}@h/a?consistency=strong&consistency=strong",
        f"milvus://me:{SECRET}@h/a?password={SECRET}",
        f"milvus://me:{SECRET}@h/a?token={SECRET}&timeout_s=1",
        f"milvus://me:{SECRET}@h/a?timeout_s=0",
        f"milvus://me:{SECRET}@h/a?timeout_s=nan",
        f"milvus://me:{SECRET}@h/a?tls=maybe",
        f"milvus://me:{SECRET}@h:port/a",
        f"milvus://me:{SECRET}@h:0/a",
        f"milvus://me:{SECRET}@h:65536/a",
        f"milvus://me:{SECRET}@h i/a",
        f"milvus://me:{SECRET}%zz@h/a",
        f"milvus:/me:{SECRET}@h/a",
    ],
)
@pytest.mark.parametrize("use", [open_index, verify_index, place_name, lambda url: build_index(url, None)])
def test_malformed_urls_are_refused_without_their_secrets(url, use):
    with pytest.raises(AeSearchError) as told:
        use(url)
        pytest.fail("no error")
    error = told.value
    while error is not None:
        assert SECRET not in str(error) and PLAIN not in str(error)
        error = error.__cause__


def test_tls_unless_the_server_is_on_this_machine():
    for local in ("localhost", "127.0.0.1", "[::1]", "127.8.8.8"):
        assert MilvusPlace.parse(f"milvus://{local}/a").uri == f"http://{local}:19530"
        assert MilvusPlace.parse(f"milvus://{local}/a?tls=on").uri == f"https://{local}:19530"
    for remote in ("db.example.org", "10.0.0.1", "localhost.example.org", "[2001:db8::1]"):
        assert MilvusPlace.parse(f"milvus://{remote}:1/a").uri == f"https://{remote}:1"
        assert MilvusPlace.parse(f"milvus://{remote}:1/a?tls=off").uri == f"http://{remote}:1"


def test_the_token_of_the_environment(monkeypatch):
    for given, url, token in (
        ("root:word", "milvus://h/a", "root:word"),
        ("word", "milvus://me@h/a", "me:word"),
        ("a-key", "milvus://h/a", "a-key"),
        ("root:word", "milvus://me:own@h/b", "me:own"),
    ):
        monkeypatch.setenv(TOKEN_VARIABLE, given)
        assert MilvusPlace.parse(url).token == token


@pytest.mark.parametrize("use", [open_index, verify_index, lambda url: build_index(url, CARD)])
def test_a_server_that_is_not_there(use):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises((ServerUnavailableError, ServerTimeoutError)) as told:
        use(f"milvus://me:{SECRET}@127.0.0.1:{port}/photos?timeout_s=1")
    assert PLAIN not in str(told.value) and "milvus://me@127.0.0.1" in str(told.value)


def test_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises((ServerUnavailableError, ServerTimeoutError)):
            open_index(f"milvus://127.0.0.1:{silent.getsockname()[1]}/photos?timeout_s=1")
        # Bounded, whatever the machine does besides; the client's own limit would be 75 attempts.
        assert time.monotonic() - began < 60.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MilvusException(100, "collection not found[collection=1]"), ConfigurationError),
        (MilvusException(1, "can't find collection: x"), ConfigurationError),
        (MilvusException(8, "rate limit exceeded"), ServerUnavailableError),
        (MilvusException(65535, "auth check failure, check username [me], password [s3cr@t]"), AccessDeniedError),
        (MilvusException(1401, "privilege not permitted"), AccessDeniedError),
        (MilvusException(grpc.StatusCode.UNAVAILABLE, "Retry timeout: 3s, DEADLINE_EXCEEDED"), ServerTimeoutError),
        (MilvusException(2, "Fail connecting to server on h:1, illegal connection params"), ServerUnavailableError),
        (MilvusException(1100, "invalid parameter"), ServerAnswerError),
        (MilvusException(12345, "new in the next release"), ServerAnswerError),
    ],
)  # fmt: skip
def test_each_error_is_one_of_ours_in_one_sentence(error, kind):
    told = failure(error, "milvus://h/a", f"me:{PLAIN}")
    assert type(told) is kind
    assert str(told).startswith("milvus://h/a: ") and str(told).endswith(".")
    assert PLAIN not in str(told)


def test_a_process_that_serves_it_too_can_open_it(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    shared = SharedPlace.of(place_name(f"milvus://worker:{SECRET}@h/a"))
    assert not any(text in repr(shared) for text in (SECRET, PLAIN))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        assert other.submit(token_there, shared).result() == f"worker:{PLAIN}"


def token_there(place):
    place.know()
    return MilvusPlace.parse(place.name).token
