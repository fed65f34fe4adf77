"""A full disk, for every command that writes: one sentence, nothing half-written, and it works later."""

import shutil

import pytest
from bounded import run_bounded
from pictures import coloured_picture
from small_disk import MIB, small_disk

pytestmark = pytest.mark.slow

SMALL = ["--image-size", "16x16", "--latent-dim", "4", "--batch-size", "8", "--cache", "memory"]


@pytest.fixture(scope="module")
def address(tiny_export):
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        yield server.address


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk") / "pictures"
    for seed in range(120):
        file = folder / "ab"[seed % 2] / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coloured_picture(seed, (40, 30)).save(file)
    return folder


@pytest.fixture
def disk(tmp_path):
    """An almost full disk: its folder, and a function that leaves so many bytes on it."""
    with small_disk(tmp_path / "disk", 128) as leave:
        yield tmp_path / "disk", leave


def files(disk):
    return {str(path.relative_to(disk)) for path in disk.rglob("*") if path.name != "filler"}


def run(disk, *words, code=0):
    ended = run_bounded(["ae-search", *words], folder=disk.parent, timeout_s=300)
    assert ended.code == code, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def refused(disk, *words):
    """Run a command that finds no room, and return its one sentence."""
    ended = run(disk, *words, code=1)
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "the disk is full; make room, and run the same command again" in line
    assert not [name for name in files(disk) if ".tmp-" in name]
    return line


@pytest.mark.parametrize("free", [0, 8192, 60_000, 200_000])
def test_building_an_index(disk, pictures, address, free):
    place, leave = disk
    command = ["index", "build", pictures, "--index", place / "i", "--server", address]
    leave(free)
    assert str(place / "i") in refused(place, *command)
    assert files(place) == set()
    leave(None)
    run(place, *command)
    assert "120: 120 in the base" in run(place, "index", "info", "--index", place / "i").stdout


def test_changing_an_index_and_what_is_made_of_it(disk, pictures, address):
    place, leave = disk
    index, server = ["--index", place / "i"], ["--server", address]
    run(place, "index", "build", pictures / "a", *index, *server)
    before = files(place)
    commands = {
        "add": ["index", "add", pictures, *index, *server],
        "compact": ["index", "compact", *index],
        "export": ["index", "export", place / "all.jsonl", *index],
        "export as Parquet": ["index", "export", place / "all.parquet", *index],
        "embed": ["embed", pictures, "--out", place / "out", *server],
        "plot": ["query", "--key", "a/10.png", *index, "--plot", place / "n.png"],
    }
    for name, command in commands.items():
        leave(0)
        refused(place, *command)
        assert files(place) - {"out", "out/.lock"} == before - {"out", "out/.lock"}, name
        leave(None)
        run(place, *command)
        run(place, "index", "verify", *index)
        if name == "add":
            assert "180: 60 in the base, 120 added" in run(place, "index", "info", *index).stdout
        before = files(place)


def test_training_and_exporting(disk, pictures, tmp_path):
    place, leave = disk
    train = ["train", pictures, "--run", place / "run", "--epochs", "2", *SMALL]
    for free in (0, 300_000, 2 * MIB):
        leave(free)
        told = refused(place, *train)
        assert told.startswith(f"error: Cannot write the run {place / 'run'}: ")
    leave(None)
    assert "2 of 2 epochs" in run(place, *train).stdout
    shutil.copytree(place / "run", tmp_path / "run")
    export = ["export", tmp_path / "run", "--to", place / "export"]
    for free in (0, 100_000, 400_000):
        leave(free)
        refused(place, *export)
        assert "export" not in files(place)
    leave(None)
    run(place, *export)
    assert "export/1/saved_model.pb" in files(place)


def test_the_report_of_an_evaluation(disk, pictures, address, tmp_path):
    place, leave = disk
    index = ["--index", tmp_path / "i", "--server", address]
    run(place, "index", "build", pictures, *index)
    few = ["--queries", "20", "--reverse", "0", "--no-baselines"]
    leave(0)
    refused(place, "evaluate", pictures, *index, *few, "--report", place / "r.html")
    refused(place, "evaluate", pictures, *index, *few, "--projector", place / "p")
    assert files(place) <= {"p"}
