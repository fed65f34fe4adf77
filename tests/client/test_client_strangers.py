"""What listens at the address is no model server, or one that answers rubbish."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import answers
import grpc
import numpy as np
import pytest
from answers import card_answer, good_answer, latents_answer, status_answer
from both_clients import KINDS

from ae_search.client import wire
from ae_search.errors import AeSearchError, ServerAnswerError, ServerTimeoutError, ServerUnavailableError

PAGE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<h1>502</h1>\n"


def silent(connection):
    while connection.recv(4096):
        pass


def closes(connection):
    pass


def page(connection):
    connection.recv(4096)
    connection.sendall(PAGE)


def noise(connection):
    connection.recv(4096)
    connection.sendall(bytes(range(256)) * 40)


# What each comes to, and the seconds allowed: gRPC tries those that answer for some 3 s.
STRANGERS = {
    silent: (ServerTimeoutError, 2),
    closes: (ServerUnavailableError, 20),
    page: (ServerUnavailableError, 20),
    noise: (ServerUnavailableError, 20),
}


class Listener:
    """A TCP server that treats each connection in its own way."""

    def __init__(self, behaviour):
        self._behaviour, self._connections = behaviour, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection:
            try:
                self._behaviour(connection)
            except OSError:
                pass

    def end(self):
        for one in (self._socket, *self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self._threads:
            thread.join()


def outcome(make):
    """The error that a call of a new client comes to, and its seconds."""
    began = time.monotonic()
    try:
        client = make()
    except AeSearchError as error:
        return error, time.monotonic() - began
    try:
        return client.describe(), time.monotonic() - began
    except Exception as error:
        return error, time.monotonic() - began
    finally:
        client.end()


@pytest.fixture(scope="module")
def met():
    """What each stranger comes to, for each kind of client; all at once, because each takes seconds."""
    listeners = {behaviour: Listener(behaviour) for behaviour in STRANGERS}
    cases = [(kind, behaviour) for kind in KINDS for behaviour in STRANGERS]

    def meet(case):
        kind, behaviour = case
        target, timeout_s = f"127.0.0.1:{listeners[behaviour].port}", STRANGERS[behaviour][1]
        return outcome(lambda: KINDS[kind](target, timeout_s=timeout_s))

    with ThreadPoolExecutor(len(cases)) as threads:
        met = dict(zip(cases, threads.map(meet, cases), strict=True))
    for listener in listeners.values():
        listener.end()
    return met


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_no_grpc_server_is_told_by_name_and_in_time(met, kind, stranger):
    error, seconds = met[kind, stranger]
    assert type(error) is STRANGERS[stranger][0], repr(error)
    assert "127.0.0.1" in str(error) and "\n" not in str(error)
    assert seconds < 10


def relay(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass


@pytest.mark.parametrize("delay_s", [0.3, 1.5])
def test_a_connection_may_take_its_time(serve, connect, script, delay_s):
    """TLS over a long way, or a server that is short of CPU: half a second must not look like no server."""
    port = serve(script)

    def slow(connection):
        time.sleep(delay_s)
        with socket.create_connection(("127.0.0.1", port)) as onward:
            back = threading.Thread(target=relay, args=(onward, connection))
            back.start()
            relay(connection, onward)
            onward.shutdown(socket.SHUT_RDWR)
            back.join()

    listener = Listener(slow)
    try:
        assert connect(listener.port).describe().version == 3
    finally:
        listener.end()


@pytest.fixture
def answered(connect):
    """Start a server that answers with the bytes that a function makes; return a client of it."""
    started = []

    def run(answer, **options):
        server, port = answers.start(answer, options=[("grpc.max_send_message_length", -1)])
        started.append(server)
        return connect(port, **options)

    yield run
    for server in started:
        server.stop(None).wait()


LATENTS = latents_answer(np.ones((5, 16), np.float32))
RUBBISH = {
    "empty": b"",
    "zeros": b"\0" * 1000,
    "ones": b"\xff" * 1000,
    "text": b"<html>not found</html>",
    "truncated": LATENTS[:-7],
    "twice": LATENTS * 2,  # the fields of a message may come twice: the values are then too many
    "status": status_answer(),
    "card": card_answer(),
    "no rows": latents_answer(np.ones((0, 16), np.float32)),
    "more rows": latents_answer(np.ones((6, 16), np.float32)),
    "turned": latents_answer(np.ones((16, 5), np.float32)),
    "flat": latents_answer(np.ones(80, np.float32)),
    "infinite": latents_answer(np.full((5, 16), np.inf, np.float32), as_content=True),
}


@pytest.mark.parametrize("rubbish", sorted(set(RUBBISH) - {"twice"}))
def test_rubbish_is_not_taken_for_latents(answered, rubbish):
    def answer(method, data):
        describes = wire.PredictRequest.FromString(data).model_spec.signature_name == "describe"
        return card_answer() if describes else RUBBISH[rubbish]

    client = answered(answer, version=3)
    with pytest.raises(ServerAnswerError):
        client.encode(np.zeros((5, 4, 4, 1), np.uint8))


@pytest.mark.parametrize("rubbish", sorted(set(RUBBISH) - {"card"}))
def test_rubbish_is_not_taken_for_a_card(answered, rubbish):
    with pytest.raises(ServerAnswerError):
        answered(lambda method, data: RUBBISH[rubbish]).describe()


CARDS = {
    "deep": b"[" * 100_000,
    "endless side": b'{"image_shape": [1e999, 4, 1]}',
    "endless number": b'{"version": ' + b"1" * 5000 + b"}",
    "half a version": b'{"version": 1.5}',
    "huge version": b'{"version": 99999999999999999999}',
    "true version": b'{"version": true}',
    "half a dimension": b'{"latent_dim": 16.5}',
    "huge dimension": b'{"latent_dim": 4611686018427387904}',
    "number for a name": b'{"name": 5}',
    "no text": b"\xff\xfe",
}


def card_with(changed):
    """A good card but for the one field of a JSON object."""
    name, _, value = changed.strip(b"{}").partition(b": ")
    good = json.loads(answers.CARD.to_json())
    del good[json.loads(name)]
    return json.dumps(good).encode()[:-1] + b", " + name + b": " + value + b"}"


@pytest.mark.parametrize("fields", CARDS)
def test_cards_that_say_what_cannot_be(answered, fields):
    text = CARDS[fields]
    text = card_with(text) if text.startswith(b"{") else text
    with pytest.raises(ServerAnswerError, match="model card"):
        answered(lambda method, data: card_answer(text, version=0)).describe()


def test_a_version_that_cannot_be(answered):
    with pytest.raises(ServerAnswerError, match="version -5 answered"):
        answered(lambda method, data: card_answer(version=-5)).describe()


@pytest.mark.parametrize("dimensions", [9, 100_000])
def test_a_forged_shape_costs_neither_time_nor_memory(answered, dimensions):
    forged = wire.PredictResponse.FromString(LATENTS)
    for _ in range(dimensions):
        forged.outputs["latents"].tensor_shape.dim.add(size=2**62)
    data = forged.SerializeToString()

    def answer(method, request):
        describes = wire.PredictRequest.FromString(request).model_spec.signature_name == "describe"
        return card_answer() if describes else data

    client = answered(answer)
    began = time.monotonic()
    with pytest.raises(ServerAnswerError) as caught:
        client.encode(np.zeros((5, 4, 4, 1), np.uint8))
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_an_answer_larger_than_all_bounds_is_refused(connect, compression):
    asked = []

    def answer(method, data):
        asked.append(data)
        return good_answer(method, data) if len(asked) == 1 else b"\0" * (70 * 2**20)

    options = [("grpc.max_send_message_length", -1), ("grpc.default_compression_algorithm", compression)]
    server, port = answers.start(answer, options=options)
    try:
        client = connect(port)
        with pytest.raises(AeSearchError, match="larger than max"):
            client.encode(np.zeros((5, 4, 4, 1), np.uint8))
        assert len(asked) < 1 + 1 + 5 + 1
    finally:
        server.stop(None).wait()


def test_what_a_server_says_cannot_command_a_terminal(client, script):
    def refuse(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "gone\x1b[2J\x07 for\never " + "x" * 4000)

    script.refuse = refuse
    with pytest.raises(AeSearchError) as caught:
        client.describe()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_latents_may_be_changed_in_place(client, script):
    for script.as_content in (False, True):
        latents = client.encode(np.full((5, 4, 4, 1), 255, np.uint8))
        latents /= 2
        assert np.unique(latents).tolist() == [0.5]
