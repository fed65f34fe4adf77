"""`ae-search web` as a process: it serves, shares, drains, and says what is wrong."""

import os
import re
import signal
import ssl
import threading
import time

import httpx
import pytest
import trustme
from command import command, until_ready
from live import options_of, running
from typer.testing import CliRunner
from web_items import PNG, key, picture

from ae_search.cli import app
from ae_search.web import AccessKeys, Doors


def over(index, server):
    return "--index", index, "--server", server, "--model-name", "tiny"


def test_several_processes_share_uploads_and_figures_and_drain(web_index, model_address):
    with command("--index", web_index, "--server", model_address, "--model-name", "tiny", "--workers", 2) as (
        process,
        at,
    ):
        until_ready(at)
        kept = httpx.post(f"{at}/v1/uploads", content=picture(3), headers=PNG).json()["image"]
        for _ in range(12):  # each over a connection of its own, so that both are asked
            assert httpx.get(f"{at}/v1/search", params={"image": kept}).json()["neighbours"][0]["key"] == key(3)
        text = httpx.get(f"{at}/metrics").text
        asked = re.search(r'requests_total\{method="GET",route="/v1/search",status="200"\} (\d+)', text)
        assert int(asked[1]) == 12
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_requests_under_way_are_answered_before_it_stops(web_index, model_address):
    """A body is half there when the service is told to stop; the other half comes later."""
    with command(*over(web_index, model_address)) as (process, at):
        until_ready(at)
        image, stopped = picture(5), threading.Event()

        def slowly():
            yield image[:20]
            stopped.wait(20)
            time.sleep(0.5)
            yield image[20:]

        answers = []
        sender = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{at}/v1/search", content=slowly(), headers=PNG, timeout=60))
        )
        sender.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stopped.set()
        sender.join()
        assert answers[0].json()["neighbours"][0]["key"] == key(5)
        assert process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{at}/healthz")
        assert "Traceback" not in process.stderr.read()


def test_https_by_certificate_files(web_index, served, tmp_path):
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    os.chmod(tmp_path / "key.pem", 0o600)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "read").write_text("k" * 16)
    os.chmod(tmp_path / "read", 0o600)
    keys = AccessKeys.from_files(tmp_path / "read", None)
    doors = Doors(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem", keys=keys)
    options = options_of(web_index, served, tmp_path / "uploads", doors=doors)
    with running(options, verify=ssl.create_default_context(cafile=tmp_path / "ca.pem")) as http:
        assert http.get("/healthz").status_code == 200
        assert "; secure" in http.post("/v1/session", json={"key": "k" * 16}).headers["set-cookie"].lower()


WRONG = [
    (["--server", "127.0.0.1:1", "--host", "0.0.0.0"], "--read-key-file"),
    (["--server", "127.0.0.1:1", "--model", "x"], "either --server"),
    ([], "either --server"),
    (["--server", "127.0.0.1:1", "--host", "0.0.0.0", "--public", "--writable"], "--write-key-file"),
    (["--server", "127.0.0.1:1", "--web-cert", "none.pem"], "--web-key"),
    (["--server", "127.0.0.1:1", "--read-key-file", "none"], "cannot be read"),
    (["--server", "127.0.0.1:1", "--trust"], "--trust"),
    (["--server", "127.0.0.1:1", "--query-log-latents"], "--query-log DIR"),
    (["--server", "127.0.0.1:1", "--query-log", "/dev/null"], "query log"),
    (["--server", "127.0.0.1:1", "--host", "192.0.2.1", "--public"], "Cannot listen"),
    (["--model", "/nowhere", "--port", "0"], "/nowhere cannot be read"),
]


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_what_is_wrong_is_told_in_a_line(web_index, at):
    options, told = WRONG[at]
    result = CliRunner().invoke(app, ["web", "--index", str(web_index), *options])
    assert result.exit_code == 1
    assert told in str(result.exception)


def test_an_index_that_is_not_there(tmp_path):
    result = CliRunner().invoke(app, ["web", "--index", str(tmp_path), "--server", "127.0.0.1:1"])
    assert "index" in str(result.exception)
