"""Running the service: one process or several behind one port, until they are told to stop."""

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from ae_search.errors import ConfigurationError
from ae_search.open_index import SharedPlace, open_index
from ae_search.web.connections import BoundedConnection, ServerConfig
from ae_search.web.metrics import SHARED
from ae_search.web.options import Doors, ServiceOptions
from ae_search.web.service import query_log

log = logging.getLogger(__name__)

# A process that loads TensorFlow says nothing for a while.
_START_S = 120


@dataclass(frozen=True)
class Factory:
    """Makes the application in each process; a pickle of it is what they are started with."""

    options: ServiceOptions
    place: SharedPlace

    def __call__(self) -> Any:
        """Return the ASGI application."""
        if self.options.prepare is not None:
            self.options.prepare()
        from ae_search.web.app import create_app

        self.place.know()
        return create_app(self.options)


def serve(options: ServiceOptions, on_listening: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are then answered, within `Limits.drain_s`.

    Args:
        options: The service.
        on_listening: Called with its address, such as http://127.0.0.1:8600, once it listens.

    Raises:
        ConfigurationError: There is no index, queries cannot be noted, or the port cannot be listened on.
        AeSearchError: The model that is to run in this process cannot be loaded.
    """
    open_index(options.place).close()
    if options.query_log is not None:
        query_log(options.query_log).close()
    if options.workers == 1:  # several would each load it again
        options.encoder.check()
    with _shared_folders(options) as options, _listening(options.doors) as listener:
        on_listening(_address(options.doors, listener))
        config = _config(options)
        if options.workers > 1:
            Multiprocess(config, [listener]).run()
        else:
            # uvicorn ends with the signal that stopped it, and a service that was told to stop has not failed.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            uvicorn.Server(config).run([listener])


def _config(options: ServiceOptions) -> ServerConfig:
    doors, limits = options.doors, options.limits
    config = ServerConfig(
        Factory(options, SharedPlace.of(options.place)),
        factory=True,
        workers=options.workers,
        http=BoundedConnection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",  # what strangers send that is no HTTP is no warning
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, round(limits.idle_s)),
        timeout_graceful_shutdown=max(1, round(limits.drain_s)),
        timeout_worker_healthcheck=_START_S,
        ssl_certfile=doors.certificate,
        ssl_keyfile=doors.key,
    )
    config.most_connections = limits.connections
    return config


@contextmanager
def _listening(doors: Doors) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(doors.host, doors.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"Cannot listen on {doors.host}: {error.strerror}.") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1024)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {doors.host}:{doors.port}: {error.strerror}; choose another --port."
            ) from error
        yield listener


def _address(doors: Doors, listener: socket.socket) -> str:
    host = f"[{doors.host}]" if ":" in doors.host else doors.host
    return f"{'http' if doors.certificate is None else 'https'}://{host}:{listener.getsockname()[1]}"


@contextmanager
def _shared_folders(options: ServiceOptions) -> Iterator[ServiceOptions]:
    """Make the folders that the processes share, where they are not named: for uploads, and for figures."""
    folder = Path(tempfile.mkdtemp(prefix="ae-search-web-"))
    try:
        if options.workers > 1:
            figures = folder / "figures"
            figures.mkdir()
            os.environ[SHARED] = str(figures)
        if options.uploads.folder is None:
            options = replace(options, uploads=replace(options.uploads, folder=folder / "uploads"))
        yield options
    finally:
        os.environ.pop(SHARED, None)
        shutil.rmtree(folder, ignore_errors=True)
