"""Name resolution, port and TLS, by plain sockets: gRPC itself tells all three as one "unavailable"."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from ae_search.client import Access
from ae_search.client.addresses import addresses_of, proxy_of
from ae_search.diagnosis.finding import Finding, Verdict, ok, skipped, warning, wrong

NAME, PROXY, PORT, TLS, ADDRESSES = "name resolution", "proxy", "port", "TLS", "addresses"
SOCKET_TIMEOUT_S = 5.0
WAITING = "TensorFlow Serving opens the port when every model of its configuration has a version."
SILENT = "A server that hangs, or runs with --grpc_max_threads=1, accepts connections and answers nothing."
# The HTTP/2 connection preface and an empty SETTINGS frame (RFC 9113, 3.4): a gRPC server answers with its own.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass(frozen=True)
class Place:
    """One numeric address behind a target, the host that it was found by, and what to call it."""

    number: str
    port: int
    host: str
    name: str

    @property
    def address(self) -> tuple[str, int]:
        """What a socket connects to."""
        return self.number, self.port


def check_network(target: str, access: Access, timeout_s: float = SOCKET_TIMEOUT_S) -> Iterator[Finding]:
    """Yield what is found about reaching each address of a target; wrong only where none can be reached.

    Args:
        target: "HOST:PORT" or a gRPC target.
        access: TLS and its files.
        timeout_s: Seconds allowed for each step, `SOCKET_TIMEOUT_S` at most.
    """
    patience_s = min(timeout_s, SOCKET_TIMEOUT_S)
    addresses = addresses_of(target)
    if addresses is None:
        yield skipped(NAME, f"{target} is resolved by gRPC")
        return
    if (variable := proxy_of(target)) is not None:
        told = f"calls to {target} go through the proxy that {variable} names"
        yield warning(PROXY, told, "Name the host in no_proxy if they should not; the proxy must let HTTP/2 through.")
        return
    names, reached = [], []
    for host, port in addresses:
        name, numbers = _resolve(host, port)
        names.append(name)
        reached += _reach(host, port, numbers, access, patience_s)
    answering = [findings for findings in reached if findings[-1].verdict is Verdict.OK]
    if answering:
        away = len(reached) - len(answering) + sum(name.verdict is Verdict.WRONG for name in names)
        yield from (_lessened(finding) for finding in chain(names, *reached))
        if away:
            told = f"{len(answering)} of {len(answering) + away} addresses of {target} answer"
            yield warning(
                ADDRESSES, told, "Calls go to those that do. Start the others, or take them out of the target."
            )
        return
    for findings in [[name] for name in names if name.verdict is Verdict.WRONG] + reached:
        yield from findings


def _reach(host: str, port: int, numbers: list[str], access: Access, timeout_s: float) -> list[list[Finding]]:
    """Return what is found at each numeric address of a host; a family that is all away counts only by itself."""
    found: dict[bool, list[list[Finding]]] = {}
    for number in numbers:
        place = Place(number, port, host, f"{host if len(numbers) == 1 else f'{host} ({number})'}:{port}")
        findings = [_connect(place, timeout_s)]
        if findings[-1].verdict is Verdict.OK:
            speak = _speak_tls(place, access, timeout_s) if access.uses_tls else _speak_plain(place, timeout_s)
            findings.append(speak)
        found.setdefault(":" in number, []).append(findings)
    good = [one for one in found.values() if any(findings[-1].verdict is Verdict.OK for findings in one)]
    # localhost has an address of IPv6 as well, at which few servers listen.
    return [findings for one in good or found.values() for findings in one]


def _lessened(finding: Finding) -> Finding:
    return replace(finding, verdict=Verdict.WARNING) if finding.verdict is Verdict.WRONG else finding


def _resolve(host: str, port: int) -> tuple[Finding, list[str]]:
    """Return what is found about a name, and its numeric addresses."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return wrong(NAME, f"{host} has no address ({error.strerror or error})", "Check the spelling, and the DNS."), []
    numbers = sorted({str(entry[4][0]) for entry in found})
    return ok(NAME, f"{host} is {', '.join(numbers)}"), numbers


def _connect(place: Place, timeout_s: float) -> Finding:
    try:
        with socket.create_connection(place.address, timeout_s):
            return ok(PORT, f"{place.name} accepts connections")
    except TimeoutError:
        told = f"{place.name} does not answer within {timeout_s:g} s"
        return wrong(PORT, told, "A firewall may drop the packets, or the machine is down.")
    except OSError as error:
        told = f"{place.name} refuses connections ({error.strerror or error})"
        return wrong(PORT, told, f"Is the server running, and is this its gRPC port (8500 by default)? {WAITING}")


def _speak_plain(place: Place, timeout_s: float) -> Finding:
    try:
        with socket.create_connection(place.address, timeout_s) as plain:
            plain.sendall(PREFACE)
            answer = plain.recv(512)
    except OSError:
        answer = b""
    if _is_settings(answer):
        return ok(TLS, f"{place.name} speaks gRPC in plain text, as asked")
    if b"HTTP" in answer:
        told = f"{place.name} speaks HTTP/1, not gRPC"
        return wrong(
            TLS,
            told,
            "That may be the REST port (8501); give the gRPC port (8500), or a proxy that lets HTTP/2 through.",
        )
    if _speaks_tls(place, timeout_s):
        return wrong(TLS, f"{place.name} speaks TLS", "Give --tls, or --tls-ca FILE for an authority of your own.")
    told = f"{place.name} does not answer as a gRPC server does"
    return wrong(TLS, told, f"Is this a TensorFlow Serving gRPC port? {SILENT}")


def _speaks_tls(place: Place, timeout_s: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(place.address, timeout_s) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _speak_tls(place: Place, access: Access, timeout_s: float) -> Finding:
    at = place.name
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.certificate_file and access.key_file:
            context.load_cert_chain(access.certificate_file, access.key_file)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(place.address, timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=access.server_name or place.host) as secure,
        ):
            secure.sendall(PREFACE)
            answer = secure.recv(64)  # a missing client certificate is complained of after the handshake
            version = secure.version()
    except ssl.SSLCertVerificationError as error:
        return wrong(TLS, f"the certificate of {at} is not trusted: {error.verify_message}", _trust_advice(error))
    except ssl.SSLError as error:
        return _tls_failure(at, error)
    except OSError as error:
        return wrong(TLS, f"{at} ended the TLS handshake ({error.strerror or error})", "Is this its TLS port?")
    if not answer:
        told = f"{at} ended the connection after the TLS handshake"
        return wrong(TLS, told, "It wants a client's certificate that it trusts: --tls-cert FILE --tls-key FILE.")
    if not _is_settings(answer):
        return wrong(TLS, f"{at} speaks {version}, but not gRPC", "Is a proxy in between that ends HTTP/2?")
    return ok(TLS, f"{at} speaks {version}, its certificate is trusted")


def _is_settings(answer: bytes) -> bool:
    """Return whether bytes begin with an HTTP/2 SETTINGS frame."""
    return len(answer) >= 9 and answer[3] == 4


def _trust_advice(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message.lower()
    if "hostname" in text or "ip address" in text:
        return "Give the name in the certificate: --tls-server-name NAME."
    if "expired" in text or "not yet valid" in text:
        return "Renew the server's certificate, or set the clock of this machine."
    return "Give the authority that signed it: --tls-ca FILE."


def _tls_failure(at: str, error: ssl.SSLError) -> Finding:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        return wrong(TLS, f"{at} does not speak TLS", "Leave the TLS options out; --insecure where that is all right.")
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason or "handshake" in reason):
        told = f"{at} does not accept this client's certificate ({reason})"
        return wrong(TLS, told, "Give one that it trusts: --tls-cert FILE --tls-key FILE.")
    return wrong(TLS, f"the TLS handshake with {at} failed ({reason})", "Check the TLS files of both sides.")
