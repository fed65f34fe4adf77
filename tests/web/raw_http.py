"""HTTP by hand, for clients that keep no rules."""

import socket
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def connected(http, timeout_s=30.0):
    """Yield a socket to the service that a client belongs to."""
    address = urlsplit(str(http.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=timeout_s) as peer:
        yield peer


def head(method, path, **headers):
    lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
    return "\r\n".join(
        [*lines, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    ).encode()


def answer(peer):
    """Return all that comes until the other side closes; what was sent before a reset counts."""
    parts = []
    try:
        while part := peer.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def is_closed(peer):
    """Wait for the other side to close; return whether it does."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
