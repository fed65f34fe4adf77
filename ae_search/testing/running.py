"""A model server that runs, stops and comes back on the same port."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ae_search.testing.faults import Faults

if TYPE_CHECKING:
    from ae_search.model_server import Batching, ModelServer, ServerTls

Make = Callable[[int, Faults], "ModelServer"]
PORT_FREE_WITHIN_S = 10.0


class RunningServer:
    """An embedded model server under test.

    Attributes:
        faults: What goes wrong with its requests; kept over `restart`.
    """

    def __init__(self, make: Make, *, port: int = 0, faults: Faults | None = None) -> None:
        """Take what makes a server for a port and faults; `serving` is the usual way to get here."""
        self.faults = faults or Faults()
        self._make = make
        self._server = make(port, self.faults)
        self._started = self._running = False

    @property
    def address(self) -> str:
        """Host and port as a gRPC target; the same after `restart`."""
        return self._server.address

    @property
    def port(self) -> int:
        """Its port."""
        return self._server.port

    @property
    def model_name(self) -> str:
        """The name that it serves the model under."""
        return self._server.model_name

    @property
    def version(self) -> int | None:
        """The newest version that it serves now."""
        return self._server.version

    def start(self) -> None:
        """Load the model and listen, on the port of before if it ran before; nothing happens while it runs."""
        if self._running:
            return
        if self._started:
            _wait_until_free(self._server.host, self.port)
            self._server = self._make(self.port, self.faults)
        self._started = True
        self._server.start()
        self._running = True

    def stop(self, grace_s: float = 0.0) -> None:
        """Refuse new requests, and cut those under way off after `grace_s` seconds."""
        if self._running:
            self._running = False
            self._server.stop(grace_s)

    def restart(self, *, grace_s: float = 0.0, down_s: float = 0.0) -> None:
        """Stop, stay away for `down_s` seconds, and come back on the same port."""
        self.stop(grace_s)
        time.sleep(down_s)
        self.start()


@contextmanager
def serving(
    base_path: Path | str,
    *,
    model_name: str | None = None,
    faults: Faults | None = None,
    port: int = 0,
    workers: int | None = None,
    version_policy: str = "latest:1",
    labels: dict[str, int] | None = None,
    batching: "Batching | None" = None,
    tls: "ServerTls | None" = None,
    enable_serialization_as_tensor_content: bool = False,
    max_message_mib: int = 64,
    metrics_port: int | None = None,
    poll_interval_s: float = 0.1,
) -> Iterator[RunningServer]:
    """Serve exported versions on this machine, for the length of a `with` block.

    Args:
        base_path: Folder with the version folders.
        model_name: Name to answer to; the folder's name when left out.
        faults: What goes wrong from the first request on; none when left out.
        port: Port on 127.0.0.1; 0 picks a free one.
        workers: Predict requests run at a time; 4 for each core when left out.
        version_policy: Which versions are served: latest:N, all or specific:V,V.
        labels: Version by label.
        batching: Join requests that arrive together.
        tls: Files for TLS.
        enable_serialization_as_tensor_content: Answer outputs as `tensor_content`.
        max_message_mib: MiB of the largest request and answer.
        metrics_port: Port for Prometheus; none when left out.
        poll_interval_s: Seconds between two looks at the base path.

    Yields:
        The server, with `address`, `model_name`, `version`, `faults`, `stop()`, `start()` and `restart()`.

    Raises:
        ConfigurationError, ExportError: As `ModelServer.start`.
    """
    from ae_search.model_server import Labels, ModelServer, VersionPolicy

    def make(port: int, faults: Faults) -> ModelServer:
        return ModelServer(
            base_path,
            model_name=model_name,
            port=port,
            workers=workers,
            version_policy=VersionPolicy.parse(version_policy),
            labels=Labels(labels or {}),
            batching=batching,
            tls=tls,
            enable_serialization_as_tensor_content=enable_serialization_as_tensor_content,
            max_message_mib=max_message_mib,
            metrics_port=metrics_port,
            poll_interval_s=poll_interval_s,
            interceptors=[faults.interceptor()],
        )

    server = RunningServer(make, port=port, faults=faults)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _wait_until_free(host: str, port: int) -> None:
    """Wait for the port: gRPC closes it a moment after the server has stopped."""
    deadline = time.monotonic() + PORT_FREE_WITHIN_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return probe.bind((host, port))
            except OSError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.01)
