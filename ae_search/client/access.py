"""How a server is reached: where, by TLS or in plain text, with which credentials."""

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from ae_search.errors import ConfigurationError
from ae_search.files import read_private

# HOST:PORT, or one of gRPC's name-resolution schemes (github.com/grpc/grpc, doc/naming.md).
TARGET = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.%\w]+\]):\d{1,5}|(dns|ipv4|ipv6|unix|unix-abstract|xds):\S+")
_PORT = re.compile(r":(\d+)(?=,|$)")
# What HTTP/2 and gRPC allow (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md, "Custom-Metadata").
METADATA_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
METADATA_VALUE = re.compile(r"[\x20-\x7e]+")
# One address of a target, without the percent signs that gRPC would decode into something else.
ADDRESS = re.compile(r"(?:\[([^\[\]%]+)\]|([^:\[\]%]+))(?::\d+)?")
# Of /etc/hosts, on Debian and its like too.
LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")

CallMetadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Access:
    """TLS, credentials, and whether plain text may leave this machine.

    Attributes:
        tls: Speak TLS; implied by any of the files.
        ca_file: PEM file of the authorities to trust; the system's own where there is none.
        certificate_file: PEM file of the client's certificate chain, for mutual TLS.
        key_file: PEM file of its private key, which nobody else may read: `files.exposure`.
        server_name: Name that the server's certificate must carry, where it is not the target's.
        token: Sent with each call as `authorization: Bearer ...`.
        token_file: File with that token, private as well, read again whenever it changes.
        metadata: Sent with each call: lower-case keys, printable ASCII values.
        insecure: Allow plain text to servers that are not on this machine.
    """

    tls: bool = False
    ca_file: Path | str | None = None
    certificate_file: Path | str | None = None
    key_file: Path | str | None = None
    server_name: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """Read AE_SEARCH_TLS, _TLS_CA, _TLS_CERT, _TLS_KEY, _TLS_SERVER_NAME, _TOKEN, _TOKEN_FILE and _INSECURE.

        Raises:
            ConfigurationError: A flag is neither 1 nor 0.
        """

        def text(name: str) -> str | None:
            return os.environ.get(f"AE_SEARCH_{name}", "").strip() or None

        return cls(
            tls=_flag("AE_SEARCH_TLS"),
            ca_file=text("TLS_CA"),
            certificate_file=text("TLS_CERT"),
            key_file=text("TLS_KEY"),
            server_name=text("TLS_SERVER_NAME"),
            token=text("TOKEN"),
            token_file=text("TOKEN_FILE"),
            insecure=_flag("AE_SEARCH_INSECURE"),
        )

    @property
    def uses_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls or any((self.ca_file, self.certificate_file, self.key_file, self.server_name))

    def check(self, target: str) -> None:
        """Check that a server may be reached in this way.

        Raises:
            ConfigurationError: It is no gRPC target, it is elsewhere and plain text was not asked for, or the options
                contradict each other.
        """
        if not TARGET.fullmatch(target):
            raise ConfigurationError(f"The server must be HOST:PORT, for example 127.0.0.1:8500. Received: {target!r}.")
        for port in _PORT.findall("" if target.startswith(("unix", "xds")) else target):
            if not 0 < int(port) < 2**16:  # gRPC would take the rest of a division by 65536
                raise ConfigurationError(f"A port is from 1 to 65535. Received: {target!r}.")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ConfigurationError("Mutual TLS needs both files, --tls-cert and --tls-key.")
        if self.token and self.token_file:
            raise ConfigurationError("Give the token in the environment or in --token-file, one of them.")
        if self.token is not None and not METADATA_VALUE.fullmatch(self.token):
            raise ConfigurationError("The token must be printable ASCII, on one line.")
        if self.uses_tls and self.insecure:
            raise ConfigurationError("--insecure is plain text; leave it out, or the TLS options.")
        if not (self.uses_tls or self.insecure or is_loopback(target)):
            raise ConfigurationError(
                f"{target} is not on this machine, and plain text shows images and credentials to the network. Give "
                "--tls (or --tls-ca FILE for an authority of your own), or --insecure where the network is trusted."
            )
        for key, value in self.metadata.items():
            if not METADATA_KEY.fullmatch(key) or not METADATA_VALUE.fullmatch(value):
                raise ConfigurationError(f"Metadata are a lower-case key and printable ASCII. Received: key {key!r}.")

    def tls_files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the contents of the authorities', key and certificate files, None for those that are not there.

        Without authorities of its own it is the system's, which Python's `ssl` uses too; gRPC would take a list that it
        brings along.

        Raises:
            ConfigurationError: One cannot be read or is no PEM file, or others may read the key.
        """
        self._check_files()
        return (
            _read_pem(self.ca_file, "--tls-ca") if self.ca_file else _system_authorities(),
            self._key(),
            _read_pem(self.certificate_file, "--tls-cert"),
        )

    def _key(self) -> bytes | None:
        return (
            None
            if self.key_file is None
            else _pem(read_private(self.key_file, "--tls-key"), self.key_file, "--tls-key")
        )

    def _check_files(self) -> None:
        """Try the files with OpenSSL: gRPC would say no more than that a handshake failed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for path, option in ((self.ca_file, "--tls-ca"), (self.certificate_file, "--tls-cert")):
            try:
                if path is not None and _read_pem(path, option):
                    context.load_verify_locations(path)
            except ssl.SSLError as error:
                raise ConfigurationError(f"{option} {path} has no certificate that can be read: {error}.") from error
        if self.certificate_file is None or self.key_file is None:
            return
        self._key()
        try:
            context.load_cert_chain(self.certificate_file, self.key_file, password="")
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(
                f"--tls-cert {self.certificate_file} and --tls-key {self.key_file} are no pair: {error}."
            ) from error

    def call_metadata(self) -> CallMetadata | None:
        """Return what to send with a call, None for nothing.

        Raises:
            ConfigurationError: The token file cannot be read, or others may read it.
        """
        if not (self.metadata or self.token or self.token_file):
            return None
        token = self.token if self.token_file is None else _read_token(Path(self.token_file))
        sent = tuple(self.metadata.items())
        return sent if token is None else (*sent, ("authorization", f"Bearer {token}"))


def is_loopback(target: str) -> bool:
    """Return whether all addresses of a target are on this machine for certain."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if scheme in ("ipv4", "ipv6", "dns") and not rest.isdigit():
        target = rest.removeprefix("///") if rest.startswith("///") else rest
        if target.startswith("//"):  # a DNS server of its own
            return False
    return all(_is_local_host(address) for address in target.split(","))


def _is_local_host(address: str) -> bool:
    found = ADDRESS.fullmatch(address)
    host = (found[1] or found[2]) if found else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOCAL_NAMES


def _flag(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text in ("1", "true", "yes", "on", "t", "y"):
        return True
    if text in ("", "0", "false", "no", "off", "f", "n"):
        return False
    raise ConfigurationError(f"{name} must be 1 or 0. Received: {text!r}.")


def _read_pem(path: Path | str | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option} {path} cannot be read: {error.strerror}.") from error
    return _pem(data, path, option)


def _pem(data: bytes, path: Path | str, option: str) -> bytes:
    if b"-----BEGIN " not in data:
        raise ConfigurationError(f"{option} {path} must be a PEM file, with -----BEGIN ...; it is not.")
    return data


def _system_authorities() -> bytes | None:
    file = ssl.get_default_verify_paths().cafile
    return Path(file).read_bytes() if file else None


def _read_token(path: Path) -> str:
    try:
        status = path.stat()
        token = _token_at(path, status.st_ino, status.st_ctime_ns, status.st_size)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--token-file {path} cannot be read: {error}.") from error
    if not METADATA_VALUE.fullmatch(token):
        raise ConfigurationError(f"--token-file {path} must hold one token, of printable ASCII.")
    return token


@lru_cache(maxsize=8)
def _token_at(path: Path, inode: int, changed_ns: int, size: int) -> str:
    return read_private(path, "--token-file").decode("ascii").strip()
