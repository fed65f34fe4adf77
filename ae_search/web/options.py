"""How a service runs, in groups; what the command line says, and each process of the service is given."""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ae_search.errors import ConfigurationError
from ae_search.files import read_private
from ae_search.image_file import MAX_FILE_MIB
from ae_search.web.access_keys import AccessKeys
from ae_search.web.encoders import EncoderOptions

MIB = 2**20
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """What strangers may hold of one process at a time.

    Attributes:
        requests: Requests under way, at least 1; more are told to come again.
        connections: Connections; beyond them, the one that was idle for longest makes way.
        body_bytes: The largest body.
        held_bytes: Bodies in memory together; a single one may always be there.
        body_s: Seconds that a body has to arrive.
        deadline_s: Seconds from the end of the body to the end of the answer; model and index included.
        idle_s: Seconds that a connection may stay without a request, and that the head of one has to arrive.
        drain_s: Seconds that requests under way have to end, once the service is told to stop.
    """

    requests: int = 128
    connections: int = 1024
    body_bytes: int = MAX_FILE_MIB * MIB
    held_bytes: int = 256 * MIB
    body_s: float = 60.0
    deadline_s: float = 30.0
    idle_s: float = 15.0
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if not all(value > 0 for value in vars(self).values()):
            raise ConfigurationError(f"The limits of a service must be above 0. Received: {self}.")


@dataclass(frozen=True)
class UploadOptions:
    """How images are kept, so that the address of a search can be sent to somebody else.

    Attributes:
        folder: Where; all processes of the service share it. None for a folder of its own, while it runs.
        most: Images, at most; the oldest makes way.
        most_bytes: Their bytes, at most.
        kept_s: Seconds since an image was last asked for, at most; 0 keeps none.
    """

    folder: Path | None = None
    most: int = 1000
    most_bytes: int = 512 * MIB
    kept_s: float = 24 * 3600.0


@dataclass(frozen=True)
class LogOptions:
    """What is kept of queries, so that a drift can be seen later; see `drift.QueryLog`.

    Attributes:
        folder: Where; all processes of the service share it.
        latents: Whether to keep latents, which can be decoded back into images.
    """

    folder: Path
    latents: bool = False


@dataclass(frozen=True)
class Doors:
    """Where a service listens, and whom it lets in.

    Attributes:
        host: Address to listen on.
        port: Port; 0 picks a free one.
        keys: Who may read and write.
        public: Whether anybody may read a service that others than this machine can reach.
        names: Host names that it answers to, beside those of this machine; none for all, where others can reach it.
        origins: Origins of pages elsewhere whose scripts may call it.
        certificate: PEM file of the certificate chain; TLS, if it is there.
        key: PEM file of its private key.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    keys: AccessKeys = field(default_factory=AccessKeys)
    public: bool = False
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not self.is_local and not self.keys.readers and not self.public:
            raise ConfigurationError(
                f"{self.host} can be reached from other machines: give --read-key-file, or --public to let "
                "anybody read."
            )
        if not self.is_local and self.keys.open_writes:
            raise ConfigurationError("--writable is for this machine only: give --write-key-file.")
        if "*" in self.origins or any("//" not in origin or origin.endswith("/") for origin in self.origins):
            raise ConfigurationError(f"An origin is such as https://example.org. Received: {', '.join(self.origins)}.")
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("TLS needs both --web-cert and --web-key.")
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def answered_names(self) -> frozenset[str] | None:
        """Host names that it answers to, None for all.

        Where only this machine can reach it, a page elsewhere could do so under a name of its own (DNS rebinding).
        """
        if not self.names and not self.is_local:
            return None
        return frozenset(name.lower() for name in (*LOCAL_NAMES, *self.names))


@dataclass(frozen=True)
class ServiceOptions:
    """A service.

    Attributes:
        place: Where the index is.
        encoder: Where latents come from.
        doors: Where it listens, and whom it lets in.
        limits: What strangers may hold of it.
        uploads: How images are kept.
        query_log: What is kept of queries; None for nothing.
        workers: Processes, at least 1.
        server: The model server's address, for the command line that the page shows; None where there is none.
        model: The exported model, likewise.
        prepare: Called first in each process; sets up logging.
    """

    place: str
    encoder: EncoderOptions
    doors: Doors = field(default_factory=Doors)
    limits: Limits = field(default_factory=Limits)
    uploads: UploadOptions = field(default_factory=UploadOptions)
    query_log: LogOptions | None = None
    workers: int = 1
    server: str | None = None
    model: str | None = None
    prepare: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigurationError(f"--workers must be at least 1. Received: {self.workers}.")


def _check_pair(certificate: Path, key: Path) -> None:
    read_private(key, "The TLS key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(f"The TLS files {certificate} and {key} are no pair: {error}.") from error
