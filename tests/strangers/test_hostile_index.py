"""Every command that takes an index, over every hostile index: a sentence or an answer, and nothing outside changes."""

import shutil
import sqlite3

import numpy as np
import pytest
from bounded import run_bounded
from hostile_index import CASES, MAGIC, generation, super_journal
from pictures import coloured_picture
from typer.testing import CliRunner
from victim import Victim

from ae_search.cli import app
from ae_search.errors import AeSearchError
from ae_search.index import LatentIndex

# In a folder of photos, and beside it an index, a server's address and a file of latents.
COMMANDS = {
    "query by key": "query --key a.png --index {index} -k 2",
    "query by photo": "query {photos}/a.png --index {index} -k 2 --server {address} --json",
    "info": "index info --index {index}",
    "verify": "index verify --index {index}",
    "duplicates": "index duplicates --index {index}",
    "export": "index export {folder}/out.jsonl --index {index}",
    "add": "index add {photos} --index {index} --server {address}",
    "update": "index update {photos} --index {index} --server {address}",
    "remove": "index remove a.png --index {index}",
    "compact": "index compact --index {index}",
    "tune": "index tune --index {index}",
    "rebuild": "index rebuild {photos} --index {index} --server {address}",
    "build": "index build {photos} --index {index} --server {address} --replace",
    "import": "index import {folder}/latents.npy --index {index} --replace",
    # Nobody is there: the index is opened all the same.
    "doctor": "doctor --server 127.0.0.1:1 --timeout 0.05 --index {index}",
}


@pytest.fixture(scope="module")
def address(tiny_export):
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        yield server.address


@pytest.fixture(scope="module")
def ground(address, tmp_path_factory):
    """A folder with a good index, changed since it was built, the photos that it is of, and a file of latents."""
    folder = tmp_path_factory.mktemp("ground")
    (folder / "photos").mkdir()
    for seed, name in enumerate(["a.png", "b.png", "c.png", *(f"{at}.png" for at in range(10))]):
        coloured_picture(seed, (20, 20)).save(folder / "photos" / name)
    np.save(folder / "latents.npy", np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32))
    words = ["index", "build", folder / "photos", "--index", folder / "good", "--server", address, "--trees", "2"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    with LatentIndex.open(folder / "good") as index:
        index.remove(["c.png"])
    return folder


def words_of(command, folder, address):
    places = {"index": folder / "index", "folder": folder, "photos": folder / "photos", "address": address}
    return [word.format(**places) for word in COMMANDS[command].split()]


def _one_in_three(names):
    """Leave the others to `make slowtest`: each runs all commands."""
    return [name if at % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for at, name in enumerate(names)]


@pytest.fixture
def hostile(ground, tmp_path, request):
    """Return a function that makes a fresh hostile index for a command, and its victim."""

    def make(name, command):
        case, folder = CASES[name], tmp_path / command.replace(" ", "-")
        shutil.copytree(ground, folder)
        (folder / "good").rename(folder / "index")
        (folder / "outside").mkdir()
        victim = Victim(folder / "outside" / "precious", case.victim(folder / "index"))
        case.make(folder / "index", victim.path)
        victim.note()
        return folder, victim

    return make


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", _one_in_three([name for name, case in CASES.items() if not case.is_run_outside]))
def test_every_command_over_a_hostile_index(hostile, address, name):
    for command in COMMANDS:
        folder, victim = hostile(name, command)
        result = CliRunner().invoke(app, words_of(command, folder, address))
        victim.assert_untouched()
        assert result.exit_code in (0, 1, 2), (command, result)
        assert isinstance(result.exception, AeSearchError | SystemExit | None), (command, result.exception)
        assert "\n" not in str(result.exception), command
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_run_outside])
@pytest.mark.parametrize("command", ["query by key", "duplicates", "tune"])
def test_commands_that_may_be_killed(hostile, address, name, command):
    folder, victim = hostile(name, command)
    ended = run_bounded(["ae-search", *words_of(command, folder, address)], folder=folder)
    victim.assert_untouched()
    assert (ended.code, ended.stderr.count("\n")) == (1, 1), ended
    assert ended.stderr.startswith("error: ")


@pytest.mark.timeout(300)
def test_the_commands_go_through_on_a_good_index(ground, address, tmp_path):
    """Else the tests above could not fail."""
    for command in COMMANDS:
        folder = tmp_path / command.replace(" ", "-")
        shutil.copytree(ground, folder)
        (folder / "good").rename(folder / "index")
        result = CliRunner().invoke(app, words_of(command, folder, address))
        assert result.exit_code == (1 if command == "doctor" else 0), (command, result.output, result.exception)


def test_sqlite_deletes_the_file_that_such_a_journal_names(ground, tmp_path):
    """Else the journals above would be harmless; a database of ours is opened here as SQLite itself opens it."""
    shutil.copytree(ground / "good", tmp_path / "index")
    victim, database = tmp_path / "victim", generation(tmp_path / "index") / "changes.sqlite"
    victim.write_text("x")
    journal = database.with_name("changes.sqlite-journal")
    journal.write_bytes(super_journal(victim))
    assert journal.read_bytes().endswith(MAGIC)
    sqlite3.connect(database).execute("PRAGMA schema_version").fetchall()
    assert not victim.exists()
