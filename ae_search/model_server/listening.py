"""The port of a model server, kept open."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from ae_search.errors import ConfigurationError

log = logging.getLogger(__name__)

LOOK_S = 0.1


class Listening:
    """A `grpc.aio.Server`, and another one after it where its loop has ended.

    A method name that is no UTF-8 ends the loop of grpcio's asynchronous server (seen on 1.85), and with it the port;
    the calls under way go on. All methods are to be called in one event loop.
    """

    def __init__(
        self,
        add_services: Callable[[Any], None],
        *,
        credentials: Any,
        options: Sequence[tuple[str, Any]],
        interceptors: Sequence[Any],
        drain_s: float,
    ) -> None:
        """Take what a server is made of.

        Args:
            add_services: Adds the services to a `grpc.aio.Server`.
            credentials: Credentials for TLS, None for plain text.
            options: Options of gRPC.
            interceptors: The first one outermost.
            drain_s: Seconds that the calls of a server that has ended have to end.
        """
        self._add_services = add_services
        self._credentials = credentials
        self._options = list(options)
        self._interceptors = list(interceptors)
        self._drain_s = drain_s
        self._server: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Args:
            host: Address, as in a gRPC target.
            port: 0 picks a free one.

        Returns:
            The port.

        Raises:
            ConfigurationError: The port cannot be listened on.
        """
        port = await self._listen(host, port)
        self._watch = asyncio.create_task(self._keep(host, port))
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and cancel those that have not ended in time."""
        if self._watch is not None:
            self._watch.cancel()
        servers = [] if self._server is None else [asyncio.create_task(self._server.stop(grace_s))]
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*servers)

    async def _listen(self, host: str, port: int) -> int:
        server = grpc.aio.server(interceptors=self._interceptors, options=self._options)
        self._add_services(server)
        address = f"{host}:{port}"
        try:
            if self._credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ConfigurationError(
                f"Cannot listen on {address}; is the port in use, or the host not of this machine?"
            ) from error
        await server.start()
        self._server = server
        return port

    async def _keep(self, host: str, port: int) -> None:
        while True:
            try:
                await self._server.wait_for_termination(LOOK_S)
            except Exception as error:
                log.error("listening anew; a request ended gRPC's own loop (%s)", type(error).__name__)
                ending = asyncio.create_task(self._server.stop(self._drain_s))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
                await self._listen_again(host, port)

    async def _listen_again(self, host: str, port: int) -> None:
        while True:
            try:
                await self._listen(host, port)
                return
            except ConfigurationError:  # the port is closed a moment later
                await asyncio.sleep(LOOK_S)
