"""TLS and mutual TLS, right and wrong."""

from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import trustme

from ae_search.errors import ConfigurationError
from ae_search.model_server import ModelServer, ServerTls

IMAGES = np.zeros((1, 2, 2, 3), np.float32)
DEADLINE_S = 20


def key_pair(certificate):
    return certificate.private_key_pem.bytes(), b"".join(pem.bytes() for pem in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two authorities, a server's and two clients' certificates, and the files of the server."""
    folder = tmp_path_factory.mktemp("pki")
    authority, stranger = trustme.CA(), trustme.CA()
    server = key_pair(authority.issue_cert("localhost", "127.0.0.1"))
    files = {"server.key": server[0], "server.pem": server[1], "ca.pem": authority.cert_pem.bytes()}
    files["other.key"] = stranger.issue_cert("localhost").private_key_pem.bytes()
    files["text.pem"] = b"no certificate\n"
    files["empty.pem"] = b""
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    return SimpleNamespace(
        folder=folder,
        ca=authority.cert_pem.bytes(),
        strange_ca=stranger.cert_pem.bytes(),
        client=key_pair(authority.issue_cert("client@example.org")),
        stranger=key_pair(stranger.issue_cert("client@example.org")),
    )


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "m"
    path.mkdir()
    (path / "1").symlink_to(exports / "1")
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mutual"])
def server(base, pki, request):
    client_ca = pki.folder / "ca.pem" if request.param else None
    tls = ServerTls(pki.folder / "server.pem", pki.folder / "server.key", client_ca)
    with ModelServer(base, tls=tls) as server:
        server.is_mutual = request.param
        yield server


@pytest.fixture
def outcome(connect, predict_request, server):
    """Ask with these credentials; return the status."""

    def outcome(ca=None, pair=(None, None), address=None):
        credentials = grpc.ssl_channel_credentials(ca, *pair) if ca else None
        where = address or server.address
        channel = grpc.secure_channel(where, credentials) if credentials else grpc.insecure_channel(where)
        with channel:
            stub = connect(SimpleNamespace(channel=channel)).prediction
            call = stub.Predict.future(predict_request(images=IMAGES), timeout=DEADLINE_S)
            return call.code()

    return outcome


def test_right_certificates(server, outcome, pki):
    assert outcome(pki.ca, pki.client) == grpc.StatusCode.OK
    assert outcome(pki.ca, pki.client, f"localhost:{server.port}") == grpc.StatusCode.OK


def test_a_client_without_certificate(server, outcome, pki):
    assert outcome(pki.ca) == (grpc.StatusCode.UNAVAILABLE if server.is_mutual else grpc.StatusCode.OK)


def test_a_client_of_another_authority(server, outcome, pki):
    expected = grpc.StatusCode.UNAVAILABLE if server.is_mutual else grpc.StatusCode.OK
    assert outcome(pki.ca, pki.stranger) == expected


def test_a_client_that_trusts_another_authority(outcome, pki):
    assert outcome(pki.strange_ca, pki.client) == grpc.StatusCode.UNAVAILABLE


def test_a_client_in_plain_text(outcome, pki):
    assert outcome() == grpc.StatusCode.UNAVAILABLE
    assert outcome(pki.ca, pki.client) == grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "named"),
    [
        ("missing.pem", "server.key", None, r"missing\.pem cannot be read: No such file"),
        ("server.pem", "missing.key", None, r"missing\.key cannot be read"),
        ("server.pem", "server.key", "missing.pem", r"missing\.pem cannot be read"),
        (".", "server.key", None, "cannot be read: Is a directory"),
        ("text.pem", "server.key", None, r"text\.pem and \S*server\.key are no pair"),
        ("server.pem", "text.pem", None, "are no pair"),
        ("server.pem", "other.key", None, "are no pair"),
        ("server.key", "server.pem", None, "are no pair"),
        ("server.pem", "server.key", "text.pem", r"text\.pem has no PEM certificate"),
        ("server.pem", "server.key", "empty.pem", r"empty\.pem has no PEM certificate"),
        ("server.pem", "server.key", "server.key", r"server\.key has no PEM certificate"),
    ],
)
def test_wrong_files_are_told_in_one_line(base, pki, certificate, key, client_ca, named):
    tls = ServerTls(pki.folder / certificate, pki.folder / key, pki.folder / client_ca if client_ca else None)
    with pytest.raises(ConfigurationError, match=named) as caught:
        ModelServer(base, tls=tls).start()
    assert "\n" not in str(caught.value)


def test_a_key_with_a_passphrase(base, pki):
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((pki.folder / "server.key").read_bytes(), None)
    (pki.folder / "locked.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (pki.folder / "locked.key").chmod(0o600)
    with pytest.raises(ConfigurationError, match="key without passphrase"):
        ModelServer(base, tls=ServerTls(pki.folder / "server.pem", pki.folder / "locked.key")).start()
