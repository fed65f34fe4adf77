"""`ae-search index ...` and `query` as a user types them, against a model server over loopback."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import coloured_picture

from ae_search.calibration import stored
from ae_search.index import LatentIndex

TOOL = Path(sys.executable).with_name("ae-search")


@pytest.fixture(scope="module")
def served(tiny_encoder, tiny_export, tmp_path_factory):
    """A server with version 1, and a function that publishes version 2."""
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_encoder
    from ae_search.model_server import ModelServer

    base = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_export, base)

    def publish():
        keras.utils.set_random_seed(2)
        export_encoder(build_encoder((16, 16, 3), latent_dim=8), base)

    with ModelServer(base, poll_interval_s=0.1) as server:
        yield server.address, publish


@pytest.fixture(scope="module")
def address(served):
    return served[0]


@pytest.fixture
def folder(tmp_path, photos):
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path


@pytest.fixture
def run(folder, address):
    def run_tool(*words, code=0, server=True):
        where = ["--server", address] if server else []
        command = [TOOL, *map(str, words), *where]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run_tool


@pytest.fixture
def built(run):
    run("index", "build", "photos", "--index", "i", "--trees", "4")


def keys(folder, name="i"):
    with LatentIndex.open(folder / name) as index:
        return sorted(index.keys())


def files(folder):
    """Return all paths but the note of a reader that it has proved the files."""
    return sorted(folder.rglob("*"))


def info(run):
    return json.loads(run("index", "info", "--index", "i", "--json", server=False).stdout)


def test_a_folder_is_kept_up_to_date(folder, built, run):
    assert len(keys(folder)) == 20
    coloured_picture(70).save(folder / "photos" / "cats" / "new.png")
    added = run("index", "add", "photos", "--index", "i")
    assert "1 images added, 20 were there already, 2 damaged images left out; 21 in all" in added.stdout
    coloured_picture(71).save(folder / "photos" / "cats" / "new.png")
    updated = run("index", "update", "photos", "--index", "i")
    assert "21 images updated, 2 are not in it" in updated.stdout
    removed = run("index", "remove", "cats/new.png", "cats/image 01.PNG", "--index", "i", server=False)
    assert "2 items removed; 19 in all" in removed.stdout
    assert (info(run)["items"], info(run)["added"], info(run)["removed"]) == (19, 19, 20)
    assert "19 items in generation-000002" in run("index", "compact", "--index", "i", server=False).stdout
    assert "nothing to do" in run("index", "compact", "--index", "i", server=False).stdout
    assert (info(run)["items"], info(run)["added"], info(run)["removed"]) == (19, 0, 0)
    assert "cats/new.png" not in keys(folder)


def test_keys_to_remove_come_from_a_file(folder, built, run):
    (folder / "gone.txt").write_text("cats/image 01.PNG\ndögs/image 02.GIF\n")
    run("index", "remove", "--keys", "gone.txt", "--index", "i", server=False)
    assert len(keys(folder)) == 18


def test_metadata_and_filters(folder, run):
    rows = [
        {"key": key, "metadata": {"price": at}} for at, key in enumerate(["cats/image 01.PNG", "cats/image 03.BMP"])
    ]
    (folder / "prices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("index", "build", "photos", "--index", "i", "--metadata", "prices.jsonl")
    where = json.dumps({"price": {"gte": 1}, "label": "cats"})
    words = ["query", "photos/cats/image 01.PNG", "--index", "i", "--json", "--where", where]
    (answer,) = json.loads(run(*words).stdout)
    assert [(n["key"], n["metadata"]) for n in answer["neighbours"]] == [("cats/image 03.BMP", {"price": 1})]


def test_an_indexed_item_is_a_query_that_needs_no_server(folder, built, run):
    words = ["query", "--key", "cats/image 01.PNG", "--index", "i", "--json", "-k", "3", "--plot", "n.png", "--exact"]
    (answer,) = json.loads(run(*words, server=False).stdout)
    found = [n["key"] for n in answer["neighbours"]]
    assert len(found) == 3 and "cats/image 01.PNG" not in found
    assert (folder / "n.png").read_bytes().startswith(b"\x89PNG")
    assert "cats/image 01.PNG" in run(*words[:5], server=False).stdout


def test_info_tells_when_to_compact(folder, built, run):
    assert "not worth it yet" in run("index", "info", "--index", "i", server=False).stdout
    with LatentIndex.open(folder / "i") as index:
        index.add(np.ones((150, 8), np.float32), [f"n{at}" for at in range(150)])
    text = run("index", "info", "--index", "i", server=False).stdout
    assert "170: 20 in the base, 150 added, 0 removed since" in text
    assert "worth it: 150 items were added" in text
    assert "takes images of 16 x 16 x 3" in text


def test_tuning_prints_the_curve(built, run):
    out = run("index", "tune", "--recall", "0.5", "--index", "i", server=False).stdout
    assert out.count("<- used") == 1
    assert info(run)["target_recall"] == 0.5


def test_verify_names_what_is_damaged(folder, built, run):
    out = run("index", "verify", "--index", "i", server=False).stdout
    assert out.count("ok ") == 6 and "FAULT" not in out
    [names] = (folder / "i").glob("generation-*/names.bin")
    names.write_bytes(names.read_bytes().replace(b"cats", b"bats", 1))
    result = run("index", "verify", "--index", "i", code=1, server=False)
    assert "FAULT" in result.stdout and "names.bin" in result.stderr
    faults = json.loads(run("index", "verify", "--index", "i", "--json", code=1, server=False).stdout)
    assert "names.bin" in faults[0]["fault"]


def test_copies_are_listed_as_duplicates(folder, run):
    for name in ("copy 1.png", "copy 2.png"):
        shutil.copy(folder / "photos/cats/image 01.PNG", folder / "photos" / name)
    run("index", "build", "photos", "--index", "i")
    words = ["index", "duplicates", "--similarity", "0.999999", "--index", "i"]
    groups = json.loads(run(*words, "--json", server=False).stdout)
    assert [group["keys"] for group in groups] == [["cats/image 01.PNG", "copy 1.png", "copy 2.png"]]
    assert "3 items, similarity 1.0000 or more" in run(*words, server=False).stdout


def test_latents_go_out_and_come_in(folder, built, run):
    run("index", "export", "all.parquet", "--index", "i", server=False)
    run("index", "export", "all.jsonl", "--index", "i", server=False)
    rows = [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()]
    with LatentIndex.open(folder / "i") as index:
        np.testing.assert_array_equal(
            np.float32([row["embedding"] for row in rows]), index.latents([row["id"] for row in rows])
        )
    run("index", "import", "all.parquet", "--index", "again", server=False)
    assert keys(folder, "again") == keys(folder)
    with LatentIndex.open(folder / "again") as index:
        assert stored(index) is not None  # `query --originals` needs it
    query = ["query", "photos/cats/image 01.PNG", "-k", "3", "--json", "--index"]
    (own,), (again,) = (json.loads(run(*query, name).stdout) for name in ("i", "again"))
    for neighbour in own["neighbours"]:
        # What was imported does not know where its pictures are.
        assert neighbour.pop("path") == str(folder / "photos" / neighbour["key"])
    assert [neighbour.pop("path") for neighbour in again["neighbours"]] == [None] * 3
    assert again == own


def test_another_engine_answers_the_same_and_says_nothing_of_itself(folder, built, run):
    run("index", "export", "moving.parquet", "--index", "i", server=False)
    run("index", "import", "moving.parquet", "--index", "moving", "--engine", "faiss", server=False)
    assert keys(folder, "moving") == keys(folder)
    query = ["query", "--key", "cats/image 01.PNG", "-k", "3", "--exact", "--json", "--index"]
    own, moved = (run(*query, name, server=False) for name in ("i", "moving"))
    assert moved.stderr == own.stderr
    (own,), (moved,) = (json.loads(result.stdout) for result in (own, moved))
    assert [one["key"] for one in moved["neighbours"]] == [one["key"] for one in own["neighbours"]]


def test_the_same_build_twice_is_the_same_forest(folder, run):
    for name in ("a", "b"):
        result = run("index", "build", "photos", "--index", name, "--deterministic")
        assert "one thread, which takes longer" in result.stderr
    [first], [second] = ((folder / name).glob("generation-*/forest.ann") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


WRONG = {
    "index add missing --index i": "SOURCE must be",
    "index add photos --index none": "is no index",
    "index add photos --index i --only x* --only y*": "None of the 23 images of photos has a name like x* y*",
    "index build photos --index new --only x*": "None of the 23 images of photos has a name like x*",
    "index build digits --index new --only x*": "--only chooses files of a folder",
    "index update photos --index none": "is no index",
    "index remove nobody --index i": "has no item 'nobody'",
    "index remove --index i": "at least one KEY",
    "index remove --keys none.txt --index i": "none.txt",
    "index compact --index none": "is no index",
    "index tune --recall 0 --index i": "--recall must be",
    "index info --index none": "is no index",
    "index verify --index photos": "is no index",
    "index duplicates --similarity 1.5 --index i": "--similarity",
    "index export all.csv --index i": "*.parquet or *.jsonl",
    "index export none/all.parquet --index i": "Cannot write none/all.parquet",
    "index import all.csv --index new": "*.parquet or *.npy",
    "index import none.npy --index new": "none.npy cannot be read",
    "index import photos/notes.npy --index new": "notes.npy cannot be read",
    "index import photos/notes.parquet --index new": "notes.parquet cannot be read",
    "index build photos --index new --metadata none.jsonl": "none.jsonl",
    "index build photos --index new --deterministic --jobs 2": "--deterministic is for one thread",
    "index rebuild --index none": "is no index",
    "query --index i": "PHOTO, --key KEY or --like KEY",
    "query --key plain.png --index i --views": "--views alters a PHOTO",
    "query --key nobody --index i": "has no item 'nobody'",
    "query --key plain.png --index i --plot photos": "Cannot write the picture photos: it is a folder",
    "query --key plain.png --index i --plot none/x.png": "there is no folder none",
    "query --key plain.png --index i --plot x.doc": "Cannot write the picture x.doc",
    "query --key nobody --where {} --index i": "--where {}",
    "query --key nobody --where [ --index i": "--where [ is no JSON",
    "index remove --where price=3 --index i": "--where price=3 is no JSON",
}


@pytest.fixture(scope="module")
def spoiled(address, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(photos, folder / "photos")
    coloured_picture(3).save(folder / "photos" / "plain.png")
    for suffix in ("npy", "parquet"):
        (folder / "photos" / f"notes.{suffix}").write_text("no array")
    subprocess.run([TOOL, "index", "build", "photos", "--index", "i", "--server", address], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("command", WRONG)
def test_what_is_wrong_is_told_in_one_sentence(spoiled, address, command):
    before = files(spoiled)
    words = command.split()
    if words[1] in ("build", "add", "update", "rebuild"):
        words += ["--server", address]
    result = subprocess.run([TOOL, *words], cwd=spoiled, capture_output=True, text=True, timeout=120)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1, result.stderr
    assert len(errors) == 1 and WRONG[command] in errors[0], result.stderr
    assert "Traceback" not in result.stderr
    assert files(spoiled) == before


def test_z_a_model_is_rolled_over_with_its_index(folder, built, run, served):
    """Last in this file: from here on the server has a newer version."""
    assert "nothing to do" in run("index", "rebuild", "--index", "i", "--engine", "annoy").stdout
    for engine in ("faiss", "annoy"):
        # With the model that it has: the photographs may be gone meanwhile.
        (folder / "photos").rename(folder / "away")
        moved = run("index", "rebuild", "--index", "i", "--engine", engine).stdout
        (folder / "away").rename(folder / "photos")
        assert re.search(rf"20 items in generation-\d+, {engine}, recall", moved)
    query = ["query", "photos/cats/image 01.PNG", "--index", "i", "--json", "-k", "1"]
    served[1]()
    told = ""
    for _ in range(100):
        result = subprocess.run(
            [TOOL, "index", "rebuild", "--index", "i", "--engine", "faiss", "--server", served[0]],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        told = result.stdout
        if "version 2" in told:
            break
    assert re.search("20 images of tiny version 2", told)
    assert json.loads(run("index", "info", "--index", "i", "--json", server=False).stdout)["engine"] == "faiss"
    (answer,) = json.loads(run(*query).stdout)
    assert answer["neighbours"][0]["key"] == "cats/image 01.PNG"
    assert answer["neighbours"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)
