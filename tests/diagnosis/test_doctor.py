"""What is wrong between a client and a server, found step by step on real servers."""

import dataclasses
import json
import socket
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import trustme
from build_options import build_options
from tensorflow_serving.apis import get_model_status_pb2
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.client import Access
from ae_search.diagnosis import Verdict, diagnose
from ae_search.diagnosis.network import addresses_of
from ae_search.errors import ConfigurationError
from ae_search.export import export_encoder
from ae_search.index import IndexBuilder
from ae_search.model import build_encoder
from ae_search.model_server import LocalEncoder, ModelServer
from ae_search.testing import Faults, serving


@pytest.fixture(scope="module")
def server(tiny_export):
    with ModelServer(tiny_export) as server:
        yield server


@pytest.fixture(scope="module")
def card(tiny_export):
    return LocalEncoder(tiny_export).describe()


def index_of(path, card):
    with IndexBuilder(path, card, build_options(n_trees=2)) as builder:
        builder.add(np.random.default_rng(0).normal(size=(30, card.latent_dim)), [str(at) for at in range(30)])
    return path


def found(*args, **options):
    return {finding.check: finding for finding in diagnose(*args, **options)}


def only_wrong(findings):
    (finding,) = [finding for finding in findings.values() if finding.verdict is Verdict.WRONG]
    assert finding.advice
    return finding


def test_all_is_well(server, card, tmp_path):
    findings = found(server.address, index=index_of(tmp_path / "index", card))
    assert {finding.verdict for finding in findings.values()} == {Verdict.OK}
    assert list(findings) == [
        "search engine",
        "name resolution",
        "port",
        "TLS",
        "version",
        "model card",
        "signatures",
        "batch size",
        "message size",
        "index",
        "latency",
    ]
    assert "index 0." in findings["latency"].told
    assert card.fingerprint[:12] in findings["model card"].told


def test_the_wrong_model_version_and_index(server, card, tmp_path):
    assert "nomodel" in only_wrong(found(server.address, "nomodel")).told
    assert "version 9" in only_wrong(found(server.address, version=9)).told
    other = dataclasses.replace(card, fingerprint="ab" * 32, version=7)
    findings = found(server.address, "default", index=index_of(tmp_path / "index", other))
    assert "version 7" in only_wrong(findings).told
    assert findings["latency"].verdict is Verdict.OK
    assert only_wrong(found(server.address, index=tmp_path)).check == "index"


def test_nothing_listens_or_resolves():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        finding = only_wrong(found(f"127.0.0.1:{taken.getsockname()[1]}"))
    assert (finding.check, "refuses" in finding.told) == ("port", True)
    finding = only_wrong(found("nowhere.invalid:8500", access=Access(insecure=True)))
    assert finding.check == "name resolution"
    with pytest.raises(ConfigurationError, match="insecure"):
        found("192.0.2.1:8500")
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        found("nonsense")


def answering(answer):
    """A server that says the same to everybody."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return listening


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1"), (b"220 mail ready\r\n", "does not answer as a gRPC server")],
)
def test_another_protocol(answer, told):
    with answering(answer) as listening:
        finding = only_wrong(found(f"127.0.0.1:{listening.getsockname()[1]}"))
    assert (finding.check, told in finding.told) == ("TLS", True)


def test_a_grpc_server_that_is_no_model_server():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    findings = found(f"127.0.0.1:{port}")
    server.stop(None).wait()
    assert findings["model"].verdict is Verdict.WARNING
    assert only_wrong(findings).check == "model card"


@pytest.fixture(scope="module")
def tls(tiny_export, tmp_path_factory):
    """A server that speaks TLS and one that wants a client's certificate too; the files of a client."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    own, client = authority.issue_cert("localhost"), authority.issue_cert("client")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    (folder / "client.key").chmod(0o600)
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    chain = own.cert_chain_pems[0].bytes()
    ports, servers = {}, []
    for name, authorities in (("tls", None), ("mutual", authority.cert_pem.bytes())):
        server = grpc.server(futures.ThreadPoolExecutor(1))
        credentials = grpc.ssl_server_credentials(
            [(own.private_key_pem.bytes(), chain)], authorities, require_client_auth=authorities is not None
        )
        ports[name] = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
    yield folder, ports
    for server in servers:
        server.stop(None).wait()


def test_tls_that_does_not_fit(tls, server):
    folder, ports = tls
    ca = folder / "ca.pem"

    def tls_finding(target, **files):
        return found(target, access=Access(**files))["TLS"]

    at = f"localhost:{ports['tls']}"
    assert tls_finding(at, ca_file=ca).verdict is Verdict.OK
    for finding, advice in (
        (tls_finding(at), "--tls"),
        (tls_finding(at, tls=True), "--tls-ca"),
        (tls_finding(at, ca_file=folder / "other.pem"), "--tls-ca"),
        (tls_finding(f"127.0.0.1:{ports['tls']}", ca_file=ca), "--tls-server-name"),
        (tls_finding(f"localhost:{ports['mutual']}", ca_file=ca), "--tls-cert"),
        (tls_finding(server.address, ca_file=ca), "Leave the TLS options out"),
    ):
        assert finding.verdict is Verdict.WRONG
        assert advice in finding.advice
    assert tls_finding(f"127.0.0.1:{ports['tls']}", ca_file=ca, server_name="localhost").verdict is Verdict.OK
    own = {"certificate_file": folder / "client.pem", "key_file": folder / "client.key"}
    assert tls_finding(f"localhost:{ports['mutual']}", ca_file=ca, **own).verdict is Verdict.OK


def test_the_command(server, tmp_path):
    good = CliRunner().invoke(app, ["doctor", "--server", server.address])
    assert good.exit_code == 0
    assert "latency" in good.stdout
    bad = CliRunner().invoke(app, ["doctor", "--server", server.address, "--model-name", "nomodel", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)[-1]["verdict"] == "wrong"


@pytest.mark.parametrize(
    ("code", "text", "check", "advice"),
    [
        ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", "model card", "grpc_max_threads"),
        ("UNAUTHENTICATED", "who are you?", "model card", "--token-file"),
        ("UNIMPLEMENTED", "Received http2 header with status: 404", "model card", "proxy"),
        ("FAILED_PRECONDITION", 'Serving signature key "describe" not found.', "signatures", "ae-search export"),
    ],
)
def test_the_advice_fits_the_error(tiny_export, code, text, check, advice):
    faults = Faults()
    faults.fail(code, text)
    with serving(tiny_export, faults=faults) as server:
        finding = only_wrong(found(server.address, timeout_s=1.0))
    assert (finding.check, advice in finding.advice) == (check, True), finding


@pytest.mark.slow
def test_versions_and_labels(tiny_encoder, tmp_path):
    base = tmp_path / "tiny"
    export_encoder(tiny_encoder, base)
    card = LocalEncoder(base).describe()
    export_encoder(build_encoder((16, 16, 3), latent_dim=8), base)
    with serving(base, version_policy="latest:2", labels={"stable": 2}) as server:
        finding = only_wrong(found(server.address, version=9))
        assert finding.check == "version" and "2 AVAILABLE, 1 AVAILABLE" in finding.told
        finding = only_wrong(found(server.address, label="gold"))
        assert finding.check == "label" and "gold" in finding.told
        findings = found(server.address, label="stable", index=index_of(tmp_path / "index", card))
    assert findings["index"].verdict is Verdict.WARNING
    assert "version 1" in findings["index"].told and "version 2" in findings["index"].told
    assert "index" in findings["latency"].told


def test_files_are_read_before_anything_is_tried(server, tmp_path):
    for access in (Access(token_file=tmp_path / "none"), Access(ca_file=tmp_path / "none")):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            next(diagnose(server.address, access=access))


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("host:80", [("host", 80)]),
        ("dns:///host:80", [("host", 80)]),
        ("ipv4:1.2.3.4:80,5.6.7.8:81", [("1.2.3.4", 80), ("5.6.7.8", 81)]),
        ("[::1]:80", [("::1", 80)]),
        ("ipv6:[::1]:80", [("::1", 80)]),
        ("dns:80", [("dns", 80)]),
        ("dns://8.8.8.8/host:80", None),
        ("unix:/tmp/socket", None),
        ("dns:///host", None),
    ],
)
def test_addresses_of_a_target(target, addresses):
    assert addresses_of(target) == addresses


@pytest.fixture(scope="module")
def versions(tiny_encoder, tmp_path_factory):
    """A base path with versions 1 and 2, of the same weights."""
    base = tmp_path_factory.mktemp("versions") / "tiny"
    for _ in range(2):
        export_encoder(tiny_encoder, base)
    return base


def both(*addresses):
    return f"ipv4:{','.join(addresses)}"


def unused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.slow
def test_servers_with_different_versions(versions):
    with serving(versions, version_policy="specific:1") as old, serving(versions, version_policy="latest:2") as new:
        findings = found(both(old.address, new.address), "tiny")
        pinned = found(both(old.address, new.address), "tiny", version=2)
    assert findings["servers"].verdict is Verdict.WARNING
    assert f"ipv4:{old.address} has 1; ipv4:{new.address} has 1, 2" in findings["servers"].told
    assert "--model-version 1" in findings["servers"].advice
    assert not [one for one in findings.values() if one.verdict is Verdict.WRONG]
    assert "version 1" in findings["model card"].told
    assert pinned["version"].verdict is Verdict.OK


@pytest.mark.slow
def test_servers_without_a_version_in_common(versions):
    with serving(versions, version_policy="specific:1") as old, serving(versions, version_policy="specific:2") as new:
        findings = found(both(old.address, new.address), "tiny", timeout_s=2.0)
    assert "none in common" in findings["servers"].advice
    for finding in findings.values():
        assert "Export the model anew" not in finding.advice and "message limit" not in finding.advice, finding


def test_one_of_two_servers_is_away(server):
    findings = found(both(unused(), server.address), "tiny", timeout_s=5.0)
    assert findings["addresses"].verdict is Verdict.WARNING
    assert "1 of 2 addresses" in findings["addresses"].told
    assert findings["latency"].verdict is Verdict.OK
    assert not [one for one in findings.values() if one.verdict is Verdict.WRONG]


def test_nobody_of_two_is_there():
    finding = [one for one in diagnose(both(unused(), unused()), "tiny") if one.verdict is Verdict.WRONG]
    assert {one.check for one in finding} == {"port"}
    assert "when every model of its configuration has a version" in finding[0].advice


def test_a_server_that_answers_nothing():
    """As tensorflow_model_server does with --grpc_max_threads=1, and any that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finding = only_wrong(found(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5))
    assert (finding.check, "--grpc_max_threads=1" in finding.advice) == ("TLS", True)
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[_Silent()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    finding = only_wrong(found(f"127.0.0.1:{port}", timeout_s=0.5))
    _Silent.stop.set()
    server.stop(None).wait()
    assert "--grpc_max_threads=1" in finding.advice and "wrong model" not in finding.told


class _Silent(grpc.GenericRpcHandler):
    """Takes every call and answers none."""

    stop = threading.Event()

    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.stop.wait(30))


def test_the_same_latents_under_a_new_version(versions, card, tmp_path):
    built = index_of(tmp_path / "index", dataclasses.replace(card, version=1))
    with serving(versions, version_policy="latest:2") as server:
        findings = found(server.address, "tiny", index=built)
    assert findings["index"].verdict is Verdict.OK
    assert "latents are those of version 2" in findings["index"].told


def test_a_version_that_is_being_loaded():
    told = scripted(get_model_status_pb2.ModelVersionStatus.LOADING)
    finding = only_wrong(told)
    assert (finding.check, finding.advice) == ("version", "Wait: it is being loaded.")


def test_a_version_without_its_weights(tiny_export):
    faults = Faults()
    faults.fail(
        "FAILED_PRECONDITION",
        "Could not find variable sequential/dense/kernel. This could mean that the "
        "variable has been deleted. In TF1, it can also mean the variable is uninitialized.",
    )
    with serving(tiny_export, faults=faults) as server:
        finding = only_wrong(found(server.address, timeout_s=1.0))
    assert "without its weights" in finding.told
    assert "one rename" in finding.advice


def test_a_proxy_in_the_environment(monkeypatch):
    for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{unused()}")
    findings = found("192.0.2.1:8500", "tiny", access=Access(insecure=True), timeout_s=1.0)
    assert findings["proxy"].verdict is Verdict.WARNING
    assert "http_proxy" in findings["proxy"].told and "no_proxy" in findings["proxy"].advice
    assert "http_proxy" in only_wrong(findings).told


def scripted(state):
    """Return what is found about a server whose only version is in a state."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    answer.model_version_status.add(version=1, state=state)

    class States(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            if handler_call_details.method.endswith("GetModelStatus"):
                return grpc.unary_unary_rpc_method_handler(lambda request, context: answer.SerializeToString())

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[States()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        return found(f"127.0.0.1:{port}", timeout_s=1.0)
    finally:
        server.stop(None).wait()
