"""A client that a public generator makes of the OpenAPI document works, in an environment of its own."""

import json
import os
import re
import subprocess
import sys

import pytest
from live import options_of, running
from web_items import key, picture

# It wants another typer than ours.
GENERATOR = "openapi-python-client==0.29.1"
USED = """
import io, sys
from ae_search_client import Client
from ae_search_client.api.items import get_item, list_items, list_labels
from ae_search_client.api.search import search, search_by_body
from ae_search_client.api.service import get_index
from ae_search_client.models import ProblemAnswer
from ae_search_client.types import File

address, key, picture = sys.argv[1:]
client = Client(base_url=address, raise_on_unexpected_status=True)
found = search.sync(client=client, key=key, k=3)
assert [one.rank for one in found.neighbours] == [1, 2, 3], found
with open(picture, "rb") as file:
    body = File(payload=io.BytesIO(file.read()), mime_type="application/octet-stream")
sent = search_by_body.sync(client=client, body=body, k=2)
assert sent.neighbours[0].key == key, sent
listed = list_items.sync(client=client, limit=5)
assert len(listed.items) == 5, listed
assert get_item.sync(client=client, key=key).key == key
assert get_index.sync(client=client).items > 5
assert list_labels.sync(client=client).labels
assert isinstance(search.sync(client=client, key="none"), ProblemAnswer)
print("worked")
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    place = tmp_path_factory.mktemp("generator")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    install = [place / "bin/pip", "install", "-q", "--disable-pip-version-check", GENERATOR]
    subprocess.run(install, check=True, env={**os.environ, "PYTHONPATH": ""})
    return place / "bin"


@pytest.mark.slow
def test_a_client_of_a_public_generator_works(web_index, served, programs, tmp_path):
    with running(options_of(web_index, served, tmp_path / "uploads")) as http:
        (tmp_path / "openapi.json").write_text(json.dumps(http.get("/openapi.json").json()))
        made = subprocess.run(
            [
                programs / "openapi-python-client", "generate", "--path", tmp_path / "openapi.json",
                "--meta", "none", "--output-path", tmp_path / "ae_search_client",
            ],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr
        # It knows no ranges of media types; application/octet-stream is beside them.
        lacks = set(re.findall(r"^WARNING parsing .*\n+(.*)", made.stdout, re.MULTILINE))
        assert lacks <= {"Unsupported content type image/*"}, made.stdout
        (tmp_path / "query.png").write_bytes(picture(2))
        used = subprocess.run(
            [programs / "python", "-c", USED, str(http.base_url), key(2), tmp_path / "query.png"],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False,
        )  # fmt: skip
        assert used.stdout == "worked\n", used.stderr
