"""What a query loads, so that nothing slow comes back to it unnoticed; how long each module takes is shown on failure.

To look at it by hand: python -X importtime -m ae_search query --key KEY --index DIR --json
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ae_search.contract import ModelCard, Resources
from ae_search.index import AnnoyOptions, BuildOptions, IndexBuilder

ROOT = Path(__file__).parents[1]
# Packages that a query needs, gRPC and protobuf where it asks a server.
BASE = {"ae_search", "annoy", "numpy", "PIL", "typer"}
# What these take along where it is installed.
BASE |= {"annotated_doc", "shellingham", "typing_extensions"}
# Newer releases of Typer check ranges and paths with it, which takes a tenth of a second.
BASE |= {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
# gRPC looks for its own companions.
CALLING = BASE | {"google", "grpc", "grpc_health", "grpc_reflection", "grpc_tools"}
# Parts of the standard library that take more than a few milliseconds and have no business here.
SLOW = {"multiprocessing", "unittest", "xml", "http", "sqlite3.dump", "pydoc", "doctest", "distutils", "tkinter"}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "index"
    card = ModelCard("tiny", 1, "ab" * 32, image_shape=None, latent_dim=4)
    with IndexBuilder(path, card, BuildOptions(AnnoyOptions(2), resources=Resources(1))) as builder:
        builder.add(np.eye(4), list("abcd"))
    return path


def loaded(*arguments, before=""):
    """Run the command; return the names of all modules that it loaded, and a table of the slowest."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sorted(sys.modules), file=sys.stderr))\n"
        f"{before}\n"
        "from ae_search.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-X", "importtime", "-c", code, *map(str, arguments)]
    # Measuring coverage loads much of its own.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
    environment = {**kept, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    (names,) = [line.removeprefix("loaded:").split() for line in lines if line.startswith("loaded:")]
    times = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    rows = sorted(((int(own), name.strip()) for own, _, name in times if own.strip().isdigit()), reverse=True)
    return set(names), "\n".join(f"{own / 1000:8.1f} ms {name}" for own, name in rows[:25])


def foreign(names):
    """Return the packages that are neither of the standard library nor of the interpreter's start."""
    tops = {name.split(".")[0] for name in names}
    # What site loads before the program begins, an editable install's finder for example.
    start = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    known = sys.stdlib_module_names | {name.split(".")[0] for name in start.stdout.split()}
    return {top for top in tops - known if not top.startswith(("_", "cython_runtime"))}


def test_a_query_by_key_loads_what_it_needs(index):
    names, slowest = loaded("query", "--key", "a", "--index", index, "--json")
    assert foreign(names) <= BASE, slowest
    assert not {name.split(".")[0] for name in names} & SLOW, slowest


def test_a_table_for_a_person_adds_rich_and_nothing_else(index):
    names, slowest = loaded("query", "--key", "a", "--index", index)
    assert foreign(names) <= BASE | {"rich", "pygments", "markdown_it", "mdurl"}, slowest


def test_only_the_command_that_is_meant_is_loaded(index):
    names, slowest = loaded("query", "--key", "a", "--index", index, "--json")
    rooms = {name.split(".")[1] for name in names if name.startswith("ae_search.")}
    commands = {name.split(".")[2] for name in names if name.startswith("ae_search.cli.")}
    assert not rooms & {
        "client",
        "data",
        "indexing",
        "training",
        "evaluation",
        "export",
        "model",
        "model_server",
        "diagnosis",
    }, slowest
    assert not commands & {"train", "export", "serve", "evaluate", "embed", "doctor", "demo"}, slowest


def test_the_client_loads_what_it_needs(index):
    names, slowest = loaded("query", "--key", "a", "--index", index, "--json", before="import ae_search.client")
    assert foreign(names) <= CALLING, slowest


def test_each_command_is_the_same_alone_and_among_all():
    from typer.testing import CliRunner

    from ae_search.cli import _COMMANDS, app, app_of

    runner = CliRunner()
    for name in _COMMANDS:
        alone, among = (runner.invoke(one, [name, "--help"]).output for one in (app_of([name]), app))
        assert alone == among
        assert f"ae-search {name}" in alone or f"root {name}" in alone or name in alone


@pytest.mark.parametrize("words", [[], ["--help"], ["-q"], ["qery"], ["--version"], ["--quiet", "query", "--help"]])
def test_a_command_line_says_the_same_as_with_all_commands(words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ways = ("from ae_search.cli import main; main()", "from ae_search.cli import app; app()")
    told = []
    for way in ways:
        command = [sys.executable, "-c", way, *words]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        told.append((ended.returncode, ended.stdout, ended.stderr))
    assert told[0] == told[1]
