"""How an embedded server runs, in groups."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ae_search.cores import cores
from ae_search.errors import ConfigurationError
from ae_search.files import read_private

# As TensorFlow Serving's default for --grpc_max_threads.
THREADS_PER_CORE = 4
# Calls of one connection; a client keeps more waiting.
MAX_STREAMS = 1000
HANDSHAKE_S = 20
KEEPALIVE_S = 120
PING_INTERVAL_S = 5


@dataclass(frozen=True)
class Batching:
    """Run requests that arrive together for the same version and signature together.

    The names are those of TensorFlow Serving's `BatchingParameters`.

    Attributes:
        max_batch_size: Rows of one run, at least 1; a request of more rows is refused.
        batch_timeout_micros: The longest that requests wait for others while nothing runs, microseconds; a caller that
            was alone of late does not wait.
        max_enqueued_batches: Full batches that may wait for each version and signature; what comes then is refused.
    """

    max_batch_size: int = 256
    batch_timeout_micros: int = 2000
    max_enqueued_batches: int = 16

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_enqueued_batches < 1 or self.batch_timeout_micros < 0:
            raise ConfigurationError(
                "Batching needs max_batch_size and max_enqueued_batches of at least 1 and batch_timeout_micros of at "
                f"least 0. Received: {self}."
            )


@dataclass(frozen=True)
class Limits:
    """What strangers may hold of a server at a time.

    Attributes:
        max_connections: Connections; more are closed as they come.
        max_calls: Calls under way, at least 1; more are refused with RESOURCE_EXHAUSTED.
        receiving_mib: MiB of messages that are slow to arrive, and again of large requests that are being answered. A
            single one may be larger.
        max_connection_idle_s: Seconds without a call after which a connection is closed.
        max_connection_age_s: Seconds after which a connection takes no new calls; clients make another one by
            themselves.
        age_grace_s: Seconds that the calls on such a connection have to end.
    """

    max_connections: int = 1024
    max_calls: int = 2048
    receiving_mib: int = 256
    max_connection_idle_s: float = 600.0
    max_connection_age_s: float = 3600.0
    age_grace_s: float = 600.0

    def __post_init__(self) -> None:
        if not all(value > 0 for value in vars(self).values()):
            raise ConfigurationError(f"The limits of a server must be above 0. Received: {self}.")

    def channel_options(self) -> list[tuple[str, int]]:
        """Return what gRPC is told."""
        return [
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_concurrent_streams", min(self.max_calls, MAX_STREAMS)),
            ("grpc.max_connection_idle_ms", int(self.max_connection_idle_s * 1000)),
            ("grpc.max_connection_age_ms", int(self.max_connection_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", int(self.age_grace_s * 1000)),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
            # Peers that are gone without a word are noticed.
            ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
            ("grpc.keepalive_timeout_ms", HANDSHAKE_S * 1000),
            # Clients may look as often whether the server is there while a long answer is made.
            ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_S * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            # A measured bandwidth would open the window of each call by megabytes before anybody reads it.
            ("grpc.http2.bdp_probe", 0),
            # A kilobyte of gzip unfolds to the largest message.
            ("grpc.compression_enabled_algorithms_bitset", 1),
        ]


@dataclass(frozen=True)
class ServerTls:
    """The files of a server's side of TLS, PEM.

    Attributes:
        certificate: Certificate chain of the server, its own first.
        key: Its private key, without a passphrase; nobody else may read it, see `files.exposure`.
        client_ca: Certificates that sign the clients'; a client without one is refused. None asks for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> Any:
        """Read the files.

        Raises:
            ConfigurationError: One cannot be read, certificate and key do not belong together, or others may read the
                key.
        """
        self._check()
        pair = (read_private(self.key, "The TLS key"), self.certificate.read_bytes())
        if self.client_ca is None:
            return grpc.ssl_server_credentials([pair])
        return grpc.ssl_server_credentials([pair], self.client_ca.read_bytes(), require_client_auth=True)

    def _check(self) -> None:
        """Try the files with OpenSSL: gRPC would say no more than that it cannot listen."""
        for path in (self.certificate, self.client_ca):
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"The TLS file {path} cannot be read: {error.strerror}.") from error
        read_private(self.key, "The TLS key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a passphrase would otherwise ask for it on the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(
                f"{self.certificate} and {self.key} are no pair of PEM certificate and its key without passphrase: "
                f"{error}."
            ) from error
        try:
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except ssl.SSLError as error:
            raise ConfigurationError(f"{self.client_ca} has no PEM certificate: {error}.") from error


def default_threads() -> int:
    """Return the number of threads that requests are run on where none is given."""
    return THREADS_PER_CORE * cores()
