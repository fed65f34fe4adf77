"""TLS and mutual TLS: what must work, and each thing that may be wrong."""

import datetime
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
import scripted_server
import trustme
from both_clients import KINDS
from scripted_server import Script, latents_of

from ae_search.client import Access
from ae_search.errors import AccessDeniedError, ConfigurationError, ServerUnavailableError

NAMES = ("localhost", "127.0.0.1")
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@dataclass
class Certificates:
    """Files of one authority, of another one, and of certificates for server and client."""

    folder: object
    authority: trustme.CA = field(default_factory=trustme.CA)
    other: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self):
        self.ca, self.other_ca = self.file("ca.pem", self.authority.cert_pem), self.file("o.pem", self.other.cert_pem)

    def file(self, name, *blobs):
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        path.chmod(0o600)
        return path

    def client(self, name, authority):
        """The options of a client certificate."""
        made = authority.issue_cert("client@example.org")
        return {
            "certificate_file": self.file(f"{name}.pem", *made.cert_chain_pems),
            "key_file": self.file(f"{name}.key", made.private_key_pem),
        }

    def server(self, *names, mutual=False, **validity):
        made = self.authority.issue_cert(*(names or NAMES), **validity)
        pair = (made.private_key_pem.bytes(), b"".join(blob.bytes() for blob in made.cert_chain_pems))
        roots = self.authority.cert_pem.bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=mutual)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ports(certificates):
    """Ports of servers, by what is special about them."""
    credentials = {
        "good": certificates.server(),
        "mutual": certificates.server(mutual=True),
        "named otherwise": certificates.server("models.example.org"),
        "expired": certificates.server(not_before=PAST, not_after=PAST + datetime.timedelta(1)),
        "plain": None,
    }
    started = {
        name: scripted_server.start(Script(), credentials=credential) for name, credential in credentials.items()
    }
    yield {name: port for name, (_, port) in started.items()}
    for server, _ in started.values():
        server.stop(None).wait()


def test_tls_with_an_authority_of_ones_own(ports, certificates, connect, pixels):
    client = connect(ports["good"], access=Access(ca_file=certificates.ca))
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    assert connect(f"localhost:{ports['good']}", access=Access(ca_file=str(certificates.ca))).describe().version == 3


def test_mutual_tls(ports, certificates, connect, pixels):
    access = Access(ca_file=certificates.ca, **certificates.client("own", certificates.authority))
    np.testing.assert_array_equal(connect(ports["mutual"], access=access).encode(pixels), latents_of(pixels))


def test_a_server_under_another_name(ports, certificates, connect):
    access = Access(ca_file=certificates.ca, server_name="models.example.org")
    assert connect(ports["named otherwise"], access=access).describe().version == 3


DENIED, EITHER = (AccessDeniedError,), (AccessDeniedError, ServerUnavailableError)
# What is wrong: at which server, and the errors that it may come to.
WRONG = {
    "unknown authority": ("good", DENIED),
    "the system's authorities": ("good", DENIED),
    "another name": ("named otherwise", DENIED),
    "a name that is not in it": ("good", DENIED),
    "expired": ("expired", DENIED),
    "no certificate": ("mutual", EITHER),
    "a stranger's certificate": ("mutual", EITHER),
    "TLS to plain text": ("plain", DENIED),
    "plain text to TLS": ("good", (ServerUnavailableError,)),
}


def wrong_access(certificates):
    """The access of each of them."""
    ca, foreign = certificates.ca, certificates.client("foreign", certificates.other)
    good = Access(ca_file=ca)
    return {
        "unknown authority": Access(ca_file=certificates.other_ca),
        "the system's authorities": Access(tls=True),
        "another name": good,
        "a name that is not in it": Access(ca_file=ca, server_name="a.example.org"),
        "expired": good,
        "no certificate": good,
        "a stranger's certificate": Access(ca_file=ca, **foreign),
        "TLS to plain text": good,
        "plain text to TLS": Access(),
    }


def tried(kind, port, access):
    began = time.monotonic()
    client = KINDS[kind](f"127.0.0.1:{port}", "pixels", access=access, timeout_s=20)
    try:
        return client.describe(), time.monotonic() - began
    except Exception as error:
        return error, time.monotonic() - began
    finally:
        client.end()


@pytest.fixture(scope="module")
def outcomes(ports, certificates):
    """What each wrong access comes to; all at once, because gRPC tries each of them for some seconds."""
    cases, access = [(kind, what) for kind in KINDS for what in WRONG], wrong_access(certificates)
    with ThreadPoolExecutor(len(cases)) as threads:
        ends = threads.map(lambda case: tried(case[0], ports[WRONG[case[1]][0]], access[case[1]]), cases)
        return dict(zip(cases, ends, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", WRONG)
def test_wrong_access_is_told_by_name_and_within_seconds(outcomes, kind, what):
    error, seconds = outcomes[kind, what]
    assert type(error) in WRONG[what][1], repr(error)
    assert "127.0.0.1" in str(error) and "\n" not in str(error)
    assert seconds < 15


def test_files_that_are_no_pem_files_are_told_at_once(certificates, connect, tmp_path):
    text, garbage = tmp_path / "text.pem", tmp_path / "garbage.pem"
    text.write_text("a text")
    text.chmod(0o600)
    garbage.write_text("-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n")
    foreign = certificates.client("foreign", certificates.other)
    own = certificates.client("own", certificates.authority)
    for access in (
        Access(ca_file=text),
        Access(ca_file=tmp_path / "none.pem"),
        Access(ca_file=tmp_path),
        Access(ca_file=garbage),
        Access(ca_file=own["key_file"]),
        Access(ca_file=certificates.ca, **{**own, "key_file": foreign["key_file"]}),
        Access(certificate_file=own["certificate_file"]),
        Access(key_file=own["key_file"]),
        Access(**{**own, "key_file": text}),
        Access(tls=True, insecure=True),
    ):
        with pytest.raises(ConfigurationError, match="--"):
            connect("example.org:8500", access=access)
