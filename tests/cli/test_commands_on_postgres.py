"""Every command that takes an index takes the URL of one on PostgreSQL, and none repeats its password."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from index_items import clustered
from postgres_server import shared_server

# What the commands ask of an index, the contract asks of PostgreSQL as well; `make slowtest` runs these.
pytestmark = pytest.mark.slow

PASSWORD = "hush-hush-9"


@pytest.fixture(scope="module")
def place():
    url = shared_server().database("commands")
    return url.replace("postgres@", f"postgres:{PASSWORD}@") + "&index=photos"


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    np.save(folder / "all.npy", clustered(300))

    def command(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "ae_search", *words],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=120,
            check=False,
            env=os.environ | {"AE_SEARCH_INDEX": place},
        )
        assert done.returncode == code, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout if not code else done.stderr

    command("index", "import", "all.npy", "--index-field", "price")
    return command


def test_every_command(run, place):
    name = place.replace(f":{PASSWORD}", "")
    figures = json.loads(run("index", "info", "--json"))
    assert (figures["place"], figures["items"], figures["engine"]) == (name, 300, "pgvector")
    assert figures["engine_options"]["fields"] == ["price"]
    assert name in run("index", "info")
    found = json.loads(run("query", "--key", "17", "--json"))
    assert found and "17" not in [one["key"] for one in found[0]["neighbours"]]
    assert "FAULT" not in run("index", "verify")
    run("index", "duplicates", "--similarity", "0.9999")
    run("index", "remove", "3", "4")
    run("index", "compact")
    run("index", "tune", "--recall", "0.9")
    run("index", "export", "out.jsonl")
    assert json.loads(run("index", "info", "--json"))["items"] == 298


@pytest.mark.parametrize(
    "option", [("--trees", "5"), ("--deterministic",), ("--on-disk",)], ids=lambda option: option[0]
)
def test_what_it_cannot_do_is_said(run, option):
    assert "error" in run("index", "import", "all.npy", "--replace", *option, code=1)


def test_options_of_postgres_are_refused_for_a_folder(run):
    assert "PostgreSQL" in run("index", "import", "all.npy", "--index", "folder", "--halfvec", code=1)


@pytest.mark.parametrize("option", [("--engine", "faiss"), ("--index-field", "price")], ids=lambda option: option[0])
def test_a_compaction_cannot_change_what_it_is_built_with(run, option):
    assert "export it" in run("index", "compact", *option, code=1)


def test_there_is_nothing_to_warm(run):
    assert "0.0 MB" in run("index", "warm")


def test_an_error_names_the_place_without_the_password(run, place):
    told = run("index", "info", "--index", place.replace("photos", "absent"), code=1)
    assert "There is no index" in told
    assert "index=NAME" in run("index", "info", "--index", place.partition("&index")[0], code=1)
