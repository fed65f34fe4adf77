"""How an embedded server runs, in groups."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ae_search.errors import ConfigurationError
from ae_search.files import read_private

# As TensorFlow Serving's default for --grpc_max_threads.
THREADS_PER_CORE = 4


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


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of threads that requests are run on where none is given."""
    return THREADS_PER_CORE * cores()
