"""What is said of faults between client and model: proxies, closed ports, versions without weights."""

import subprocess
import sys

import grpc
import pytest
from pictures import coloured_picture, encoded

from ae_search.client import Access
from ae_search.client.addresses import proxy_of
from ae_search.errors import ModelNotServedError, ServerUnavailableError

NO_WEIGHTS = (
    "Could not find variable dense/kernel. This could mean that the variable has been deleted. In TF1, it can also "
    "mean the variable is uninitialized. Debug info: container=localhost, status error message=Resource "
    "localhost/dense/kernel/N10tensorflow3VarE does not exist."
)
VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("version", [3, None])
def test_a_version_that_was_copied_in_part(serve, connect, script, version):
    script.refuse = lambda request, context: (
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_WEIGHTS)
        if request.model_spec.signature_name != "describe"
        else None
    )
    client = connect(serve(script), version=version)
    with pytest.raises(ModelNotServedError, match=r"loaded pixels.* without its weights.*one rename") as caught:
        client.encode_files([encoded(coloured_picture(1))])
    assert "serve that version" not in str(caught.value)


def test_a_port_that_is_closed(connect):
    with pytest.raises(ServerUnavailableError, match="wait: TensorFlow Serving opens the port when every"):
        connect(1, timeout_s=5).describe()


# Environment, target, and the variable by which its calls go through a proxy.
PROXIED = [
    ({}, "model.example:1", None),
    ({"http_proxy": "http://p:1"}, "model.example:1", "http_proxy"),
    ({"https_proxy": "http://p:1", "http_proxy": "http://q:1"}, "dns:///model.example:1", "https_proxy"),
    ({"grpc_proxy": "http://p:1", "https_proxy": "http://q:1"}, "10.0.0.1:1", "grpc_proxy"),
    ({"http_proxy": "http://p:1"}, "127.0.0.1:1", None),
    ({"http_proxy": "http://p:1"}, "[::1]:1", None),
    ({"http_proxy": "http://p:1"}, "unix:/socket", None),
    ({"http_proxy": "http://p:1", "no_proxy": "other, .example"}, "model.example:1", None),
    ({"http_proxy": "http://p:1", "no_proxy": "other"}, "model.example:1", "http_proxy"),
    ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:1", None),
    ({"http_proxy": "http://p:1", "no_grpc_proxy": "x", "no_proxy": ".example"}, "model.example:1", "http_proxy"),
    ({"http_proxy": ""}, "model.example:1", None),
]


@pytest.mark.parametrize(("variables", "target", "expected"), PROXIED)
def test_which_proxy_applies(monkeypatch, variables, target, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(target) == expected


def test_a_proxy_in_the_environment_is_named(connect, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:s3cret@127.0.0.1:1")
    with pytest.raises(ServerUnavailableError, match=r"the proxy in http_proxy.*no_proxy") as caught:
        connect("model.example:8500", timeout_s=5, access=Access(insecure=True)).describe()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("options", [["--tls"], []])
def test_grpc_says_nothing_before_our_answer(serve, script, tmp_path, options):
    port = serve(script) if options else 1
    (tmp_path / "pictures").mkdir()
    coloured_picture(1).save(tmp_path / "pictures" / "1.png")
    command = [sys.executable, "-m", "ae_search", "--quiet", "embed", tmp_path / "pictures", "--out", tmp_path / "out"]
    command += ["--server", f"127.0.0.1:{port}", "--timeout", "5", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and ended.stdout == ""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("encoding")]  # the progress bar
    assert len(lines) == 1 and lines[0].startswith("error: "), ended.stderr


def test_the_library_leaves_the_process_as_it_is():
    code = "import os, ae_search; ae_search.LatentClient; assert 'GRPC_VERBOSITY' not in os.environ"
    environment = {"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
