"""`ae-search index sync`, choosing items by --where and --match, and the kinds of SOURCE, as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import coloured_picture, encoded
from records import example, write_records

from ae_search.index import LatentIndex

TOOL = Path(sys.executable).with_name("ae-search")


@pytest.fixture(scope="module")
def address(tiny_export):
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        yield server.address


@pytest.fixture
def run(tmp_path, address):
    def run_tool(*words, code=0, server=True):
        where = ["--server", address] if server else []
        command = [TOOL, *map(str, words), *where]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run_tool


@pytest.fixture
def built(run, tmp_path):
    for seed in range(6):
        path = tmp_path / "p" / ("cats" if seed % 2 else "dogs") / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coloured_picture(seed).save(path)
    run("index", "build", "p", "--index", "i", "--trees", "3")
    return tmp_path


def keys(folder):
    with LatentIndex.open(folder / "i") as index:
        return sorted(index.keys())


def test_sync_tells_what_it_would_do_and_does_it(run, built):
    coloured_picture(50).save(built / "p" / "new.png")
    coloured_picture(51).save(built / "p" / "cats" / "1.png")
    (built / "p" / "cats" / "3.png").unlink()
    before = keys(built)
    dry = run("index", "sync", "p", "--index", "i", "--dry-run", server=False)
    assert dry.stdout.splitlines() == ["add new.png", "update cats/1.png", "remove cats/3.png"]
    assert "1 images would be added, 1 would be updated, 1 would be removed, 4 unchanged" in dry.stderr
    assert keys(built) == before
    done = run("index", "sync", "p", "--index", "i")
    assert done.stdout.startswith("i: 1 images added, 1 updated, 1 removed, 4 unchanged, 0 damaged")
    assert keys(built) == ["cats/1.png", "cats/5.png", "dogs/0.png", "dogs/2.png", "dogs/4.png", "new.png"]


def test_add_tells_of_changed_pictures(run, built):
    coloured_picture(51, (90, 90)).save(built / "p" / "cats" / "1.png")
    told = run("index", "add", "p", "--index", "i").stderr
    assert "changed under the same key: 1, such as cats/1.png; `ae-search index sync p --index i` encodes them" in told


def test_items_are_removed_by_pattern_and_by_condition(run, built):
    listed = run("index", "remove", "--index", "i", "--match", "cats/*", "--dry-run", server=False).stdout
    assert sorted(listed.splitlines()) == ["remove cats/1.png", "remove cats/3.png", "remove cats/5.png"]
    run(
        "index",
        "remove",
        "--index",
        "i",
        "--match",
        "*/1.*",
        "--match",
        "*/0.*",
        "--where",
        '{"label": "cats"}',
        server=False,
    )
    assert keys(built) == ["cats/3.png", "cats/5.png", "dogs/0.png", "dogs/2.png", "dogs/4.png"]
    run("index", "remove", "--index", "i", "--where", '{"label": "dogs"}', server=False)
    assert keys(built) == ["cats/3.png", "cats/5.png"]
    assert "0 items removed" in run("index", "remove", "--index", "i", "--match", "none", server=False).stdout
    for words in ([], ["cats/3.png", "--match", "*"], ["--where", "{"], ["--where", '{"a": {"b": 1}}']):
        run("index", "remove", "--index", "i", *words, code=1, server=False)
    assert keys(built) == ["cats/3.png", "cats/5.png"]


def test_only_some_are_updated(run, built):
    told = run("index", "update", "p", "--index", "i", "--match", "cats/*").stdout
    assert "3 images updated, 3 are not in it or were not chosen" in told
    told = run("index", "update", "p", "--index", "i", "--where", '{"label": "dogs"}').stdout
    assert "3 images updated, 3 are not in it or were not chosen" in told


@pytest.mark.slow
def test_records_are_indexed_and_found(run, tmp_path):
    files = [encoded(coloured_picture(seed), "JPEG") for seed in range(6)]
    for name, gzipped, numbers in (("a-0", False, range(4)), ("a-1", True, range(4, 6))):
        rows = [example(image__encoded=files[n], kind=f"k{n % 2}", id=n) for n in numbers]
        write_records(tmp_path / name, rows, gzipped=gzipped)
    words = ("--label-feature", "kind", "--key-feature", "id")
    told = run("index", "build", "tfrecord:a-*", *words, "--index", "i", "--trees", "3")
    assert "6 records in 2 files: images from image/encoded, labels from kind" in told.stderr
    assert keys(tmp_path) == list("012345")
    (tmp_path / "q.jpg").write_bytes(files[5])
    found = json.loads(run("query", "q.jpg", "--index", "i", "--json").stdout)[0]["neighbours"][0]
    assert (found["key"], found["label"]) == ("5", "k1")
    # Another time, and from elsewhere, the index itself says how its source is opened.
    with LatentIndex.open(tmp_path / "i") as index:
        (name,) = index.info().sources
    assert "6 unchanged" in run("index", "sync", name, "--index", "i").stdout
    run("embed", "tfrecord:a-*", *words, "--out", "o")
    assert (tmp_path / "o" / "latents-00000.parquet").exists()
    told = run("index", "build", "tfrecord:a-*", "--image-feature", "x", "--index", "j", code=1).stderr
    assert "has no feature x; it has id, image/encoded, kind" in told


@pytest.mark.slow
def test_a_folder_with_odd_files_is_indexed_and_what_is_left_out_is_told(run, tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    (root / "photo.jfif").write_bytes(encoded(coloured_picture(1), "JPEG"))
    (root / "no_suffix").write_bytes(encoded(coloured_picture(2), "PNG"))
    (root / "one_pixel.png").write_bytes(encoded(coloured_picture(3, (1, 1)), "PNG"))
    (root / "text.txt").write_text("no")
    os.mkfifo(root / "pipe.jpg")
    with open(os.path.join(os.fsencode(root), b"caf\xe9.jpg"), "wb") as file:
        file.write(encoded(coloured_picture(4), "JPEG"))
    told = run("index", "build", "odd", "--index", "i", "--trees", "3").stderr
    assert "skipped 1 .txt\n" in told
    assert r"left out 1 whose names are not valid UTF-8; rename them, such as caf\udce9.jpg" in told
    assert "left out 1 pipes, sockets or devices, such as pipe.jpg" in told
    assert keys(tmp_path) == ["no_suffix", "one_pixel.png", "photo.jfif"]
    shutil.rmtree(tmp_path / "i")
    trained = run(
        "train", "odd", "--run", "r", "--epochs", "1", "--image-size", "16x16", "--validation", "0", server=False
    )
    assert "left out 1 pipes" in trained.stderr
    assert (tmp_path / "r" / "samples.png").exists()
