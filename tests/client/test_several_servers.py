"""Several servers behind one target: a roll-over that reaches one after the other, and one that hangs."""

import os
import signal
import threading
import time
from contextlib import ExitStack

import answers
import grpc
import numpy as np
import pytest
from scripted_server import Script, latents_of
from tensorflow_serving.apis import get_model_status_pb2
from test_client_restarts import Servers

from ae_search.client.addresses import addresses_of, each_address
from ae_search.errors import ModelNotServedError, ServerError
from ae_search.model_server import ModelServer, VersionPolicy
from ae_search.testing.tiny_model import write_tiny_model

STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "END": 50}


class Serves(Script):
    """Has some versions; each latent is its version's number."""

    def __init__(self, *versions, states=None):
        super().__init__()
        self.served = list(versions)
        self.states = states or {}

    def latents(self, pixels, version):
        return np.full((len(pixels), 16), version, np.float32)

    def answer(self, request, context):
        if not self.served:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(pixels)")
        return super().answer(request, context)

    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        states = {**dict.fromkeys(self.served, "AVAILABLE"), **self.states}
        spec = request.model_spec
        if spec.version_label:
            states = {self.labels[spec.version_label]: "AVAILABLE"} if spec.version_label in self.labels else {}
        if spec.HasField("version"):
            states = {version: state for version, state in states.items() if version == spec.version.value}
        if not states:
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model pixels")
        for version in sorted(states, reverse=True):
            response.model_version_status.add(version=version, state=STATES[states[version]])
        return response


def target_of(*ports):
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture
def several(serve, connect):
    """A client of one target with several servers."""

    def several(*scripts, **options):
        return connect(target_of(*map(serve, scripts)), **options)

    return several


PIXELS = np.zeros((1000, 4, 4, 1), np.uint8)


def test_the_newest_version_that_all_have_is_described_and_used(several):
    client = several(Serves(1), Serves(1, 2))
    assert {client.describe().version for _ in range(10)} == {1}
    for _ in range(200):
        assert np.unique(client.encode(PIXELS[:1])).tolist() == [1.0]
    assert np.unique(client.encode(PIXELS)).tolist() == [1.0]


def test_a_client_that_pins_what_it_was_told_is_never_refused(several):
    client = several(Serves(1), Serves(1, 2))
    for _ in range(10):
        pinned = client.at_version(client.describe().version)
        assert np.unique(pinned.encode(PIXELS)).tolist() == [1.0]


def test_the_roll_over_is_followed_when_it_has_reached_all(several):
    first, second = Serves(1), Serves(1, 2)
    client = several(first, second)
    assert np.unique(client.encode(PIXELS)).tolist() == [1.0]
    first.served = [1, 2]
    assert client.describe().version == 2
    first.served = second.served = [2]
    assert np.unique(client.encode(PIXELS)).tolist() == [2.0]


def test_servers_that_have_no_version_in_common_are_waited_for(several):
    first, second = Serves(1), Serves(2)
    client = several(first, second)
    threading.Timer(1.0, lambda: first.served.__setitem__(0, 2)).start()
    assert np.unique(client.encode(PIXELS)).tolist() == [2.0]


def test_a_pinned_version_that_one_has_is_found_by_taking_turns(several):
    client = several(Serves(1), Serves(1, 2), version=2)
    assert client.describe().version == 2
    for _ in range(20):
        assert np.unique(client.encode(PIXELS[:1])).tolist() == [2.0]


@pytest.mark.parametrize("version", [7, None])
def test_what_nobody_has_is_told_at_once(several, version):
    client = several(Serves(), Serves(), version=version)
    began = time.monotonic()
    for call in (client.describe, lambda: client.encode(PIXELS)):
        with pytest.raises(ModelNotServedError):
            call()
    assert time.monotonic() - began < 10


def test_waiting_for_servers_to_agree_ends_with_the_timeout(several):
    client = several(Serves(1), Serves(2), timeout_s=1.5)
    began = time.monotonic()
    with pytest.raises((ModelNotServedError, ServerError)):
        client.encode(np.concatenate([PIXELS] * 5))
    assert time.monotonic() - began < 15


def test_a_label_that_moves_on_one_server_first(several):
    first, second = Serves(1), Serves(1, 2)
    first.labels, second.labels = {"stable": 1}, {"stable": 2}
    client = several(first, second, label="stable")
    assert client.describe().version == 1
    assert np.unique(client.encode(PIXELS)).tolist() == [1.0]


def test_a_dead_address_does_not_count(serve, connect):
    gone = grpc.server(None)
    port = gone.add_insecure_port("127.0.0.1:0")
    gone.stop(None)
    client = connect(target_of(serve(Serves(1, 2)), port))
    assert client.describe().version == 2
    assert np.unique(client.encode(PIXELS)).tolist() == [2.0]


def test_a_server_that_tells_no_states(several):
    first, second = Serves(1, 2), Serves(1, 2)
    for one in (first, second):
        one.GetModelStatus = lambda request, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
    client = several(first, second)
    assert client.describe().version == 2
    assert np.unique(client.encode(PIXELS)).tolist() == [2.0]


@pytest.mark.parametrize("version", [1, None])
def test_a_version_that_is_being_loaded_is_to_be_waited_for(serve, connect, version):
    client = connect(serve(Serves(states={1: "LOADING"})), version=version)
    with pytest.raises(ModelNotServedError, match=r"Version 1 of pixels is being loaded; wait for it\."):
        client.describe()


def test_the_addresses_of_a_target():
    assert addresses_of("dns:///a:1") == addresses_of("a:1") == addresses_of("dns:a:1") == [("a", 1)]
    assert addresses_of("ipv6:[::1]:1,[::2]:2") == [("::1", 1), ("::2", 2)]
    assert addresses_of("unix:/a") is addresses_of("xds:///a") is addresses_of("dns://8.8.8.8/a:1") is None
    assert each_address("ipv4:127.0.0.1:1,127.0.0.2:2") == [
        ("ipv4:127.0.0.1:1", "127.0.0.1"),
        ("ipv4:127.0.0.2:2", "127.0.0.2"),
    ]
    assert ("ipv4:127.0.0.1:1", "localhost") in each_address("dns:///localhost:1")
    assert each_address("a.invalid:1") == []


def test_the_proxy_resolves_the_names_where_there_is_one(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert each_address("10.0.0.1:1") == []
    monkeypatch.setenv("no_proxy", "10.0.0.0/8")
    assert each_address("10.0.0.1:1") == [("ipv4:10.0.0.1:1", "10.0.0.1")]


@pytest.fixture(scope="module")
def rolling():
    """Two embedded servers behind one target, one of which has the new version already."""
    import tempfile
    from pathlib import Path

    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, versions in (("a", 1), ("b", 2)):
            for seed in range(1, versions + 1):
                write_tiny_model(root / name / "tiny", seed=seed)
        policy = VersionPolicy.parse("all")
        servers = [stack.enter_context(ModelServer(root / one / "tiny", version_policy=policy)) for one in "ab"]
        yield "ipv4:" + ",".join(server.address for server in servers)


@pytest.mark.slow
def test_embedded_servers_in_a_roll_over(rolling, connect, tmp_path):
    from pictures import coloured_picture

    from ae_search.data import open_source
    from ae_search.indexing.shards import embed_source

    (tmp_path / "pictures").mkdir()
    for seed in range(30):
        coloured_picture(seed).save(tmp_path / "pictures" / f"{seed}.png")
    client = connect(rolling, model="tiny")
    for at in range(200):
        assert client.encode(np.full((1, 16, 16, 3), at, np.uint8)).shape == (1, 8)
    for at in range(6):
        client = connect(rolling, model="tiny")
        report = embed_source(open_source(str(tmp_path / "pictures")), client, tmp_path / f"out{at}")
        assert (report.images, report.model.version) == (30, 1)


@pytest.fixture
def processes():
    """Two server processes; a stopped one goes on before it is ended."""
    started = [Servers(), Servers()]
    yield started
    for servers in started:
        os.kill(servers.running.pid, signal.SIGCONT)
        servers.end()


@pytest.mark.slow
def test_one_hung_server_of_two_fails_no_call(processes, connect):
    timeout_s = 12
    client = connect(target_of(*(servers.port for servers in processes)), timeout_s=timeout_s)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
    for _ in range(4):
        client.encode(pixels)
    os.kill(processes[0].running.pid, signal.SIGSTOP)
    longest_s, began = 0.0, time.monotonic()
    while time.monotonic() - began < 2 * timeout_s:
        before = time.monotonic()
        np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
        longest_s = max(longest_s, time.monotonic() - before)
        time.sleep(0.05)
    assert 1 < longest_s < timeout_s  # the hung one was met


@pytest.mark.slow
@pytest.mark.parametrize("gap_s", [1.2, 2.5])
def test_a_slow_server_is_not_pinged_too_often(connect, gap_s):
    """Calls that begin at any time, answers just within the timeout, and a server with less patience than most."""
    timeout_s, asked = 6.0, []

    def slow(method, data):
        asked.append(method)
        time.sleep(timeout_s * 0.9)
        return answers.good_answer(method, data)

    # As it is by default, but that the third ping, and not the fourth, ends the connection.
    server, port = answers.start(slow, options=[("grpc.http2.max_ping_strikes", 1)])
    client = connect(port, timeout_s=timeout_s)
    try:
        calls = [threading.Thread(target=client.status) for _ in range(4)]
        for call in calls:
            call.start()
            time.sleep(gap_s)
        for call in calls:
            call.join()
        assert len(asked) == 4  # none was sent again
    finally:
        server.stop(None).wait()
