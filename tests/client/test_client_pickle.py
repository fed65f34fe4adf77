"""Clients that are pickled and copied: to their arguments, with a channel of their own on the other side."""

import asyncio
import copy
import inspect
import multiprocessing
import pickle

import pytest
from both_clients import KINDS, PREDICT_KINDS

from ae_search.client import Access, AsyncLatentClient, AsyncPredictClient, LatentClient, PredictClient

ALL = [LatentClient, AsyncLatentClient, PredictClient, AsyncPredictClient]
ADAPTED = {f"latents {name}": kind for name, kind in KINDS.items()}
ADAPTED |= {f"predict {name}": kind for name, kind in PREDICT_KINDS.items()}
WAYS = {"pickle": lambda one: pickle.loads(pickle.dumps(one)), "deepcopy": copy.deepcopy, "copy": copy.copy}
SECRET = "s3cret-t0ken"


@pytest.fixture(params=ADAPTED)
def kind(request):
    return ADAPTED[request.param]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ALL)
def test_every_argument_arrives(kind, way):
    client = kind(
        "127.0.0.1:1",
        "pixels",
        label="stable",
        access=Access(token=SECRET, metadata={"x-team": "search"}),
        timeout_s=3.5,
        total_timeout_s=7.0,
        **({"max_in_flight": 2, "max_megapixels": 5.0} if "Latent" in kind.__name__ else {"max_answer_bytes": 1234}),
    )
    made = WAYS[way](client)
    assert type(made) is kind and made is not client and made.line is not client.line
    assert made.asked == client.asked and made.asked.label == "stable"
    assert (made.timeout_s, made.total_timeout_s, made._access) == (3.5, 7.0, client._access)
    assert made._max_answer_bytes == client._max_answer_bytes
    if "Latent" in kind.__name__:
        assert (made.talk.max_in_flight, made.talk.max_megapixels, made.talk.asked) == (2, 5.0, client.asked)
    pinned = WAYS[way](kind("127.0.0.1:1", "pixels").at_version(3))
    assert (pinned.version, pinned.asked.label) == (3, None)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_a_channel_of_its_own_and_is_open(serve, script, kind, way):
    client = kind(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=20)
    pinned = client.at_version(3)
    client.end()
    for closed in (client, pinned):
        closed = getattr(closed, "client", closed)  # what the adapter holds
        with pytest.raises(ValueError, match="closed"):
            _status_of(closed)
        made = WAYS[way](closed)
        assert made.version == closed.version
        assert _status_of(made)[0].version == 3


def _status_of(client):
    """The states that a client is told; one for asyncio is asked on a loop of its own."""
    told = client.status()
    if not inspect.isawaitable(told):
        return told

    async def ask():
        try:
            return await told
        finally:
            await client.close()

    return asyncio.run(ask())


def _told(client):
    try:
        return client.version, client.status()[0].version
    finally:
        client.end()


def test_a_spawned_process_takes_it(serve, script, kind):
    client = kind(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=60)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_told, (client,)) == (None, 3)
            assert pool.apply(_told, (client.at_version(3),)) == (3, 3)
            # It ends by itself: measuring coverage, one that is told to might wait for a lock of its own.
            pool.close()
            pool.join()
        assert client.status()[0].version == 3
    finally:
        client.end()


def test_a_pickle_holds_the_path_of_a_token_file_and_not_the_token(serve, script, tmp_path):
    file = tmp_path / "token"
    file.write_text(SECRET)
    file.chmod(0o600)
    with LatentClient(f"127.0.0.1:{serve(script)}", "pixels", access=Access(token_file=str(file))) as client:
        client.describe()
        data = pickle.dumps(client)
    assert SECRET.encode() not in data and str(file).encode() in data
    with pickle.loads(data) as made:
        made.describe()
    assert [sent["authorization"] for sent in script.metadata] == [f"Bearer {SECRET}"] * 2
