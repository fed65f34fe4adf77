"""Connections of strangers to the embedded server: how many, how long, and for how long without a word."""

import socket

import pytest
from attacked_server import attacked
from raw_http2 import RawConnection, message_head

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
def serve(tiny_export, tmp_path):
    """Start a server with limits."""
    return lambda **limits: attacked(tiny_export, tmp_path / "stderr", **limits)


@pytest.mark.slow
def test_old_connections_end(serve):
    """Also those with a call that does not end; honest clients go on over another one."""
    with serve(max_connection_age_s=1.0, age_grace_s=1.0) as server, server.answering_others():
        with RawConnection(server.address) as connection:
            connection.send({connection.begin(WATCH): message_head(0)})
            connection.read(60.0)
            assert connection.ended
            # Not only told to go: the socket is closed.
            connection.socket.settimeout(60)
            while connection.socket.recv(2**16):
                pass


@pytest.mark.slow
def test_idle_connections_end(serve):
    with serve(max_connection_idle_s=1.0) as server:
        with RawConnection(server.address) as connection:
            connection.send({connection.begin(CHECK): message_head(0)})
            connection.read(60.0)
            assert connection.ended
        assert server.latents().shape == (2, 8)


@pytest.mark.slow
def test_more_connections_than_allowed(serve):
    with serve(max_connections=20) as server:
        with RawConnection(server.address) as first:
            stream = first.begin(CHECK)
            first.send({stream: message_head(0)})
            first.read(30.0, until=lambda: stream in first.reset)
            others = [socket.create_connection(first.socket.getpeername(), timeout=60) for _ in range(40)]
            closed = 0
            for other in others:
                other.settimeout(1)
                try:
                    closed += not other.recv(1)
                except (TimeoutError, ConnectionResetError) as error:
                    closed += isinstance(error, ConnectionResetError)
            assert closed >= 20
            stream = first.begin(CHECK)
            first.send({stream: message_head(0)})
            first.read(30.0, until=lambda: stream in first.reset)
            assert stream in first.reset
            for other in others:
                other.close()
        assert server.latents().shape == (2, 8)
