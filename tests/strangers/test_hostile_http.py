"""Strangers at the REST service, which runs as a user starts it: its memory is bounded, and the others are served."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from pixel_encoder import CARD, PixelEncoder, at

from ae_search.index import IndexBuilder

MIB = 2**20
# Bodies may hold 256 MiB, each for a moment twice, as parts and as a whole; the rest is the process itself.
MOST_MIB = 2 * 256 + 350


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index"
    pixels = np.random.default_rng(0).integers(1, 256, (50, 2, 2, 1), np.uint8)
    with IndexBuilder(path, CARD) as builder:
        builder.add(PixelEncoder(at(2)).encode(pixels), [f"photos/{one}.png" for one in range(50)])
    return path


@pytest.fixture(scope="module")
def service(place):
    """Process and address of a service whose model server is away: what strangers do does not get that far."""
    command = [sys.executable, "-m", "ae_search", "web", "--index", place, "--server", "127.0.0.1:1", "--port", "0"]
    with subprocess.Popen(
        [*map(str, command), "--timeout", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        drained = threading.Thread(target=process.stderr.read)
        try:
            found = re.search(r"on http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            drained.start()
            for _ in range(300):
                try:
                    httpx.get(f"http://127.0.0.1:{found[1]}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield process, int(found[1])
        finally:
            process.terminate()
            assert process.wait(60) == 0
            drained.join()


def peak_mib(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def is_served(port):
    found = httpx.get(f"http://127.0.0.1:{port}/v1/search", params={"key": "photos/3.png"}, timeout=30)
    return found.status_code == 200 and len(found.json()["neighbours"]) == 10


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


HEAD = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"


def test_large_bodies_from_many(service):
    process, port = service
    half = HEAD + b"content-length: %d\r\n\r\n" % (60 * MIB)
    peers, refused = [], 0
    try:
        for _ in range(20):
            peer = connected(port)
            peer.settimeout(5)
            try:
                peer.sendall(half + bytes(40 * MIB))
                peers.append(peer)
            except OSError:
                refused += 1
                peer.close()
        assert is_served(port)
        assert refused  # there is not room for all
    finally:
        for peer in peers:
            peer.close()
    assert peak_mib(process) < MOST_MIB
    assert is_served(port)


def test_a_body_without_end(service):
    process, port = service
    with connected(port) as peer:
        sent = 0
        try:
            peer.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(400):
                peer.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
                sent += 1
        except OSError:
            pass
    assert sent < 400
    assert peak_mib(process) < MOST_MIB and is_served(port)


def test_a_form_with_many_parts(service):
    process, port = service
    part = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n'
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/search",
        content=part * 200_000 + b"--x--\r\n",
        headers={"content-type": "multipart/form-data; boundary=x"},
        timeout=60,
    )
    assert answer.json()["code"] == "BadRequest"
    assert peak_mib(process) < MOST_MIB and is_served(port)


def test_many_connections_that_say_little(service):
    process, port = service
    peers = [connected(port) for _ in range(300)]
    try:
        for number, peer in enumerate(peers):
            peer.sendall((b"", b"GET", b"GET / HTTP/1.1\r\n", HEAD + b"content-length: 9\r\n\r\nx")[number % 4])
        assert all(is_served(port) for _ in range(5))
    finally:
        for peer in peers:
            peer.close()
    assert peak_mib(process) < MOST_MIB


def test_answers_that_nobody_takes(service):
    process, port = service
    peers = []
    try:
        for _ in range(50):
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", port))
            peer.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 30)
            peers.append(peer)
        assert is_served(port)
    finally:
        for peer in peers:
            peer.close()
    assert peak_mib(process) < MOST_MIB and is_served(port)


def test_two_hundred_at_once(service):
    process, port = service

    async def ask(http, number):
        while True:
            answer = await http.get("/v1/search", params={"key": f"photos/{number % 50}.png", "k": 3})
            if answer.status_code != 429:
                return answer.status_code, len(answer.json().get("neighbours", []))
            await asyncio.sleep(float(answer.headers["retry-after"]) / 10)

    async def every():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
            return await asyncio.gather(*(ask(http, number) for number in range(200)))

    codes = asyncio.run(every())
    assert codes == [(200, 3)] * 200
    assert peak_mib(process) < MOST_MIB


def test_no_path_of_a_request_is_opened(service, victim, tmp_path):
    _, port = service
    secret = tmp_path / "secret.txt"
    secret.write_text("precious")
    ways = [str(secret), f"file://{secret}", f"../../../../../../../..{secret}", f"/proc/self/root{secret}"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        for way in ways:
            text = quote(way, safe="")
            for address in (
                f"/{text}",
                f"/page/{text}",
                f"/page/..%2f..%2f{text}",
                f"/v1/uploads/{text}",
                f"/v1/item?key={text}",
                f"/v1/thumbnail?key={text}",
                f"/v1/search?key={text}",
                f"/v1/search?image={text}",
            ):
                answer = http.get(address)
                assert answer.status_code in (400, 404), address
                assert "precious" not in answer.text
            for name in ("key", "image", "latent", "where", "like"):
                assert "precious" not in http.post("/v1/search", json={name: way}).text
    assert os.path.exists(secret)


def test_heads_and_lines_of_all_kinds(service):
    _, port = service
    random = np.random.default_rng(0)
    base = b"GET /v1/search?key=a&where=%7B%7D HTTP/1.1\r\nhost: localhost\r\ncookie: ae-search-session=1.2.3\r\n\r\n"
    for _ in range(150):
        line = bytearray(base)
        for at_byte in random.integers(0, len(line), 3):
            line[at_byte] = random.integers(0, 256)
        with connected(port) as peer:
            peer.sendall(bytes(line) + b"\r\n\r\n")
            peer.shutdown(socket.SHUT_WR)
            said = b""
            while part := peer.recv(65536):
                said += part
            assert b"HTTP/1.1 500" not in said, bytes(line)
    assert is_served(port)
