"""TLS to PostgreSQL: who shows the right certificate is spoken to, and nobody else.

The server of the tests was built without TLS. What ends TLS in front of it here does so by PostgreSQL's own rules, as
connection poolers do: the client asks with a request of eight bytes, and is answered by one.

All run in a process of their own: where a test before has imported TensorFlow and then psycopg, TLS ends the process.
"""

import asyncio
import os
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
import trustme
from index_items import CARD, clustered
from postgres_server import shared_server

from ae_search.errors import AeSearchError
from ae_search.open_index import build_index, open_index

_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
ROWS = clustered(50)


@contextmanager
def tls_in_front_of(certificate):
    """Yield the port on 127.0.0.1 where TLS is ended in front of the server, and one entry for each that spoke it.

    Without a certificate, nobody speaks TLS there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    # Not from the thread below: the server ends with the thread that started it.
    socket = f"{shared_server().folder}/.s.PGSQL.5432"
    loop, spoke, tasks = asyncio.new_event_loop(), [], set()

    async def passed_on(source, sink):
        with suppress(OSError):
            while data := await source.read(2**16):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def served(reader, writer):
        tasks.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == _REQUEST
            writer.write(b"N" if certificate is None else b"S")
            await writer.drain()
            if certificate is None:
                return writer.close()
            await writer.start_tls(context)
            spoke.append(1)
            behind = await asyncio.open_unix_connection(socket)
            await asyncio.gather(passed_on(reader, behind[1]), passed_on(behind[0], writer))

    async def listening():
        return await asyncio.start_server(served, "127.0.0.1", 0)

    async def ended():
        if tasks:  # their clients have left
            await asyncio.wait(tasks, timeout=30)

    front = loop.run_until_complete(listening())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield front.sockets[0].getsockname()[1], spoke
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        front.close()
        loop.run_until_complete(ended())
        loop.close()


# As a command does that encodes in its own process.
CHILD = """
import sys
import pytest
from ae_search.quiet_import import load_tensorflow
load_tensorflow()
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""
alone = pytest.mark.skipif("AE_SEARCH_TLS_ALONE" not in os.environ, reason="runs in the process of the test above")


@pytest.mark.skipif("AE_SEARCH_TLS_ALONE" in os.environ, reason="this is that process")
def test_tls_beside_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", CHILD, __file__],
        env={**os.environ, "AE_SEARCH_TLS_ALONE": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


WRONG_ORDER = """
import tensorflow
import psycopg
from ae_search.open_index import open_index
from ae_search.remote_index.postgres import PostgresPlace
print([PostgresPlace.parse(url).parameters.get("sslmode") for url in (
    "postgresql://me@127.0.0.1/db?index=a",
    "postgresql://me@/db?host=/run/postgresql&index=a",
    "postgresql://me@db.example/db?index=a&sslmode=disable",
)])
for url in ("postgresql://me@db.example/db?index=a", "postgresql://me@127.0.0.1/db?index=a&sslmode=require"):
    try:
        open_index(url)
    except Exception as error:
        print(error)
"""


@pytest.mark.skipif("AE_SEARCH_TLS_ALONE" in os.environ, reason="this is that process")
def test_tls_is_refused_where_it_would_abort_the_process():
    done = subprocess.run([sys.executable, "-c", WRONG_ORDER], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    modes, *refused = done.stdout.splitlines()
    assert modes == "['disable', 'disable', 'disable']"
    assert len(refused) == 2
    for text, mode in zip(refused, ("verify-full", "require"), strict=True):
        assert f"sslmode={mode}" in text
        assert text.endswith("Import psycopg before TensorFlow.")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def place(port, root):
    return f"postgresql://postgres@localhost:{port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={root}&index=tls"


@pytest.fixture
def root(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@alone
def test_an_index_is_built_and_searched_over_tls(authority, root):
    with tls_in_front_of(authority.issue_cert("localhost")) as (port, spoke):
        with build_index(place(port, root), CARD) as builder:
            builder.add(ROWS, [str(row) for row in range(50)])
        with open_index(place(port, root)) as index:
            assert index.search(ROWS[7], 1)[0][0].key == "7"
    assert len(spoke) >= 2


@alone
def test_a_certificate_of_another_authority_is_refused_before_anything_is_said(root):
    with tls_in_front_of(trustme.CA().issue_cert("localhost")) as (port, spoke):
        with pytest.raises(AeSearchError, match="certificate verify failed"):
            open_index(place(port, root))
    assert not spoke


@alone
def test_a_certificate_of_another_name_is_refused(authority, root):
    with tls_in_front_of(authority.issue_cert("db.example")) as (port, _):
        with pytest.raises(AeSearchError, match='"db.example" does not match host name "localhost"'):
            open_index(place(port, root))


@alone
def test_a_server_without_tls_is_refused(root):
    with tls_in_front_of(None) as (port, _):
        with pytest.raises(AeSearchError, match="does not support SSL"):
            open_index(place(port, root))
