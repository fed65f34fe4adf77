"""Name resolution, port and TLS, by plain sockets: gRPC itself tells all three as one "unavailable"."""

import socket
import ssl
from collections.abc import Iterator

from ae_search.client import Access
from ae_search.client.addresses import Address, addresses_of
from ae_search.diagnosis.finding import Finding, Verdict, ok, skipped, wrong

NAME, PORT, TLS = "name resolution", "port", "TLS"
SOCKET_TIMEOUT_S = 5.0
# The HTTP/2 connection preface and an empty SETTINGS frame (RFC 9113, 3.4): a gRPC server answers with its own.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def check_network(target: str, access: Access, timeout_s: float = SOCKET_TIMEOUT_S) -> Iterator[Finding]:
    """Yield what is found about reaching a target, up to the first thing that is wrong.

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
    for host, port in addresses:
        findings = [_resolve(host, port)]
        if findings[-1].verdict is Verdict.OK:
            findings.append(_connect((host, port), patience_s))
        if findings[-1].verdict is Verdict.OK:
            if access.uses_tls:
                findings.append(_speak_tls((host, port), access, patience_s))
            else:
                findings.append(_speak_plain((host, port), patience_s))
        yield from findings
        if findings[-1].verdict is Verdict.WRONG:
            return


def _resolve(host: str, port: int) -> Finding:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return wrong(NAME, f"{host} has no address ({error.strerror or error})", "Check the spelling, and the DNS.")
    numbers = sorted({str(entry[4][0]) for entry in found})
    return ok(NAME, f"{host} is {', '.join(numbers)}")


def _connect(address: Address, timeout_s: float) -> Finding:
    host, port = address
    try:
        with socket.create_connection(address, timeout_s):
            return ok(PORT, f"{host}:{port} accepts connections")
    except TimeoutError:
        told = f"{host}:{port} does not answer within {timeout_s:g} s"
        return wrong(PORT, told, "A firewall may drop the packets, or the machine is down.")
    except OSError as error:
        told = f"{host}:{port} refuses connections ({error.strerror or error})"
        return wrong(PORT, told, "Is the server running, and is this its gRPC port (8500 unless told otherwise)?")


def _speak_plain(address: Address, timeout_s: float) -> Finding:
    host, port = address
    try:
        with socket.create_connection(address, timeout_s) as plain:
            plain.sendall(PREFACE)
            answer = plain.recv(512)
    except OSError:
        answer = b""
    if _is_settings(answer):
        return ok(TLS, f"{host}:{port} speaks gRPC in plain text, as asked")
    if b"HTTP" in answer:
        told = f"{host}:{port} speaks HTTP/1, not gRPC"
        return wrong(
            TLS,
            told,
            "That may be the REST port (8501); give the gRPC port (8500), or a proxy that lets HTTP/2 through.",
        )
    if _speaks_tls(address, timeout_s):
        return wrong(TLS, f"{host}:{port} speaks TLS", "Give --tls, or --tls-ca FILE for an authority of your own.")
    return wrong(TLS, f"{host}:{port} does not answer as a gRPC server does", "Is this a TensorFlow Serving gRPC port?")


def _speaks_tls(address: Address, timeout_s: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(address, timeout_s) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _speak_tls(address: Address, access: Access, timeout_s: float) -> Finding:
    host, port = address
    at = f"{host}:{port}"
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.certificate_file and access.key_file:
            context.load_cert_chain(access.certificate_file, access.key_file)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(address, timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=access.server_name or host) as secure,
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
