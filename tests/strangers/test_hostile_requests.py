"""Requests of strangers to the embedded server, which must go on answering everybody else."""

import io
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from attacked_server import attacked
from hostile_requests import AMPLIFYING, EXPANDING, FLOAT, LARGE, MIB, ROWS, field, many, predict, tensor
from PIL import Image
from raw_http2 import RawConnection, message_head

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
C = grpc.StatusCode
# Python's and gRPC's copies of one large message, and what an allocator keeps.
COPIES_MIB = 4 * LARGE // MIB


@pytest.fixture(scope="module", params=["alone", "joined"])
def server(request, tiny_export, tmp_path_factory):
    log = tmp_path_factory.mktemp("attacked") / "stderr"
    with attacked(tiny_export, log, joined=request.param == "joined") as server:
        server.latents()
        server.forget_peak()
        yield server


@pytest.mark.parametrize("name", AMPLIFYING)
def test_large_requests_of_absurd_structure(server, name):
    server.forget_peak()
    with server.answering_others():
        code, text = server.predict(AMPLIFYING[name])
    assert code == (C.INTERNAL if name == "no message" else C.INVALID_ARGUMENT), text
    assert server.growth_mib() < COPIES_MIB


@pytest.mark.parametrize("name", EXPANDING)
def test_small_requests_that_ask_for_much(server, name):
    server.forget_peak()
    with server.answering_others():
        code, text = server.predict(EXPANDING[name])
    assert code == C.INVALID_ARGUMENT, text
    assert server.growth_mib() < 200


def test_more_descriptions_than_an_answer_holds(server):
    server.forget_peak()
    assert server.predict(ROWS)[0] == C.INVALID_ARGUMENT
    assert server.growth_mib() < 2 * COPIES_MIB


@pytest.mark.parametrize("method", [METADATA, STATUS, CHECK], ids=["metadata", "status", "health"])
@pytest.mark.parametrize("data", [many(field(2, b"")), field(1, b"x" * LARGE)], ids=["many", "long"])
def test_large_requests_to_methods_of_small_ones(server, method, data):
    server.forget_peak()
    with server.answering_others():
        code, _ = server.call(method, data)
    assert code == (C.NOT_FOUND if method == CHECK else C.INVALID_ARGUMENT)
    assert server.growth_mib() < COPIES_MIB


def test_large_requests_that_are_right_are_answered(server):
    rows = 18_000
    request = predict(b"images", tensor(FLOAT, [rows, 16, 16, 3], field(4, bytes(rows * 16 * 16 * 3 * 4))))
    code, text = server.predict(request)
    if "maximum input batch size" in text:  # joined
        assert code == C.INVALID_ARGUMENT
    else:
        assert (code, text) == (C.OK, "")


def test_half_sent_messages(server):
    """Forty of them, 60 MiB each: without a bound 2.4 GB."""
    server.forget_peak()
    with server.answering_others(), ExitStack() as opened:
        for connection in [opened.enter_context(RawConnection(server.address)) for _ in range(4)]:
            streams = [connection.begin(PREDICT) for _ in range(10)]
            connection.send({stream: message_head(60 * MIB) + bytes(60 * MIB - 1) for stream in streams})
        assert server.growth_mib() < 800


@pytest.mark.slow
def test_a_slow_message_finds_a_place_beside_half_sent_ones(server):
    """When those have had their time."""
    with RawConnection(server.address) as attack, RawConnection(server.address) as honest:
        half = [attack.begin(PREDICT) for _ in range(8)]
        attack.send({stream: message_head(60 * MIB) + bytes(MIB) for stream in half})
        attack.read(10.0, until=lambda: len(attack.reset) == 4)
        assert len(attack.reset) == 4
        deadline = time.monotonic() + 60
        while True:
            stream = honest.begin(PREDICT)
            honest.send({stream: message_head(4 * MIB) + bytes(MIB)})
            honest.read(1.0)
            if stream not in honest.reset:
                break
            assert time.monotonic() < deadline
        honest.send({stream: bytes(3 * MIB)})
        honest.read(30.0, until=lambda: stream in honest.reset)
        assert stream in honest.reset  # it is answered
        attack.read(10.0, until=lambda: len(attack.reset) == 5)
        assert len(attack.reset) == 5


def test_a_method_that_is_no_text(server):
    """It ends the loop of grpcio's server; another one must take over the port, and no honest call fails."""
    with server.answering_others():
        for _ in range(3):
            with RawConnection(server.address) as connection:
                connection.begin(b"/tensorflow.serving\xff\xfe/Predict")
                connection.read(10.0, until=lambda connection=connection: connection.ended)
                assert connection.ended
            time.sleep(1)
    assert server.latents().shape == (2, 8)


def test_compressed_requests(server):
    """A megabyte of gzip is a gigabyte."""
    with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        call = channel.unary_unary(CHECK).future(bytes(MIB), timeout=30)
        assert call.code() == C.UNIMPLEMENTED


@pytest.mark.slow
def test_calls_that_do_not_end(server):
    """All who want to watch the health are not let in; everybody else is."""
    with RawConnection(server.address) as connection, server.answering_others():
        for _ in range(400):
            connection.send({connection.begin(WATCH): message_head(0)})
        connection.read(30.0, until=lambda: len(connection.reset) >= 144)
        connection.read(1.0)
        assert len(connection.reset) == 144


def test_no_message_at_all(server):
    with RawConnection(server.address) as connection:
        stream = connection.begin(PREDICT)
        connection.half_close(stream)
        connection.read(30.0, until=lambda: stream in connection.reset)
        assert stream in connection.reset


@pytest.mark.slow
def test_idle_connections_to_the_metrics_port(server):
    before = server.threads()
    idle = [socket.create_connection(("127.0.0.1", server.metrics_port), timeout=30) for _ in range(300)]
    assert server.threads() <= before + 8
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    assert b"ae_search_requests_total" in urllib.request.urlopen(url, timeout=30).read()
    for connection in idle:
        connection.settimeout(60)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
        connection.close()


def test_a_scrape_that_never_ends(server):
    for head in (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, b"GET /" + b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", server.metrics_port), timeout=60) as connection:
            try:
                connection.sendall(head)
                assert connection.recv(1) == b""
            except (ConnectionResetError, BrokenPipeError):
                pass


def test_files_that_unfold_are_decoded_few_at_a_time(server):
    """Each takes about half a gigabyte; the answers are those of one at a time."""
    picture = io.BytesIO()
    Image.new("1", (6000, 6000)).save(picture, "PNG")
    (one, six) = (
        predict(b"image_bytes", tensor(7, [count], field(8, picture.getvalue()) * count), "encode_bytes")
        for count in (1, 6)
    )
    server.forget_peak()
    with server.answering_others(), ThreadPoolExecutor(6) as callers:
        assert {code for code, _ in callers.map(server.predict, [one] * 6)} == {C.OK}
    assert server.predict(six)[0] == C.OK
    assert server.growth_mib() < 1500


def test_bad_requests_leave_few_lines(server):
    """No traceback, and no more than a line each, however often they come."""
    before = len(server.log_lines())
    bad = [*EXPANDING.values(), b"\xff" * 100, predict(b"\x1b[31m\n", tensor(FLOAT, [1]))]
    picture = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture, "BMP")
    for wild in (0x80, 0xC3, 0xFF):
        data = bytearray(picture.getvalue())
        data[15] = wild
        bad.append(predict(b"image_bytes", tensor(7, [1], field(8, bytes(data))), "encode_bytes"))
    for data in bad * 5:
        assert server.predict(data)[0] == (C.INTERNAL if data[:1] == b"\xff" else C.INVALID_ARGUMENT)
    new = server.log_lines()[before:]
    assert len(new) <= len(bad) * 5
    assert not [line for line in new if "Traceback" in line or len(line) > 1000]
