"""A client that a public generator makes of the OpenAPI document, in an environment of its own, works."""

import subprocess
import sys

import pytest
from live import options_of, running
from web_items import key, picture

# It asks for another typer than ours, so it never stands in the same environment.
GENERATOR = "openapi-python-client==0.29.1"

CALLS = """
import sys
from pathlib import Path

from ae_search_client import Client
from ae_search_client.api.{index} import get_index
from ae_search_client.api.{items} import get_item, list_items
from ae_search_client.api.{search} import search, search_by_body
from ae_search_client.types import File

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
"""


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    place = tmp_path_factory.mktemp("generator")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin/pip", "install", "-q", "--disable-pip-version-check", GENERATOR], check=True)
    return place / "bin"
