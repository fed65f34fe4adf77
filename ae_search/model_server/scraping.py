"""A port for Prometheus, in an event loop: a connection costs no thread, has a moment, and makes way for newer ones."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 8192
ANSWERED_WITHIN_S = 10.0

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Scraping:
    """Answers one GET for each connection by a WSGI application; whoever is slower than allowed is cut off.

    All methods are to be called in one event loop.
    """

    def __init__(self, app: App) -> None:
        """Take the application, which answers at once."""
        self._app = app
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises:
            OSError: It cannot be listened on.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = str(found[0][4][0])
        self._server = await asyncio.start_server(self._answer, address, port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
        for writer in [*self._open]:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head.decode("latin-1")))
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            pass
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _response(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path, _, query = rest.partition(" ")[0].partition("?")
        if method != "GET":
            return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        for line in lines:
            name, _, value = line.partition(":")
            environ[f"HTTP_{name.strip().upper().replace('-', '_')}"] = value.strip()
        said: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            said[:] = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]

        body = b"".join(self._app(environ, start_response))
        said += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        return "\r\n".join(said).encode("latin-1") + body
