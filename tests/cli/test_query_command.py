"""`ae-search query` as a person and a program use it: folders, damaged images among good ones, long keys, pictures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture, encoded
from PIL import Image
from typer.testing import CliRunner

from ae_search import ImageSearch
from ae_search.cli import app
from ae_search.cli.answers import path_of
from ae_search.client import LatentClient
from ae_search.errors import ConfigurationError
from ae_search.index import IndexBuilder, LatentIndex

TOOL = Path(sys.executable).with_name("ae-search")
LONG = "a category with a rather long name/a second level of folders/the first picture of a holiday in the mountains"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(tiny_export):
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        yield server.address


@pytest.fixture(scope="module")
def place(address, tmp_path_factory):
    """An index of ten pictures with long names, and folders of queries."""
    place = tmp_path_factory.mktemp("query")
    for seed in range(10):
        file = place / "photos" / f"{LONG}, number {seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coloured_picture(seed, (60, 40)).save(file)
    (place / "queries" / "below").mkdir(parents=True)
    coloured_picture(3, (60, 40)).save(place / "queries" / "three.png")
    coloured_picture(4, (60, 40)).save(place / "queries" / "below" / "four.png")
    (place / "text.jpg").write_text("no image")
    data = encoded(coloured_picture(5, (60, 40)), "PNG")
    (place / "cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (1, 1), "red").save(place / "one pixel.png")
    run(place, "index", "build", "photos", "--index", "i", "--server", address)
    return place


def run(place, *words, code=0, **environment):
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "ae_search", *map(str, words)]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, env=variables)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def query(place, address, *words, **options):
    return run(place, "query", *words, "--index", "i", "--server", address, **options)


def rows(result):
    return json.loads(result.stdout)


def test_a_folder_stands_for_its_images(place, address):
    found = rows(query(place, address, "queries", "-k", 1, "--json"))
    assert [row["query"] for row in found] == ["queries/below/four.png", "queries/three.png"]
    assert [row["neighbours"][0]["key"] for row in found] == [f"{LONG}, number {at}.png" for at in (4, 3)]


@pytest.mark.parametrize("options", [[], ["--views"]])
def test_bad_images_among_good_ones_are_told_and_the_others_answered(place, address, options):
    words = ["cut.png", "queries/three.png", "text.jpg", "none.jpg", "one pixel.png", "-k", 1, "--json", *options]
    result = query(place, address, *words, code=3)
    found = {row["query"]: row for row in rows(result)}
    assert list(found) == ["cut.png", "queries/three.png", "text.jpg", "none.jpg", "one pixel.png"]
    assert found["queries/three.png"]["neighbours"][0]["key"] == f"{LONG}, number 3.png"
    assert len(found["one pixel.png"]["neighbours"]) == 1
    for bad, told in (("cut.png", "damaged"), ("text.jpg", "not a"), ("none.jpg", "no such image file")):
        assert found[bad]["neighbours"] == [] and told in found[bad]["error"]
        assert f"left out {bad}: " in result.stderr
    assert "error" not in found["queries/three.png"]
    shown = query(place, address, "cut.png", "queries/three.png", "-k", 1, code=3)
    assert "number 3.png" in shown.stdout and "left out cut.png" in shown.stderr


@pytest.mark.parametrize(
    ("photo", "told"), [("cut.png", "the PNG data are damaged or cut short"), ("text.jpg", "not a")]
)
def test_where_all_are_bad_it_is_an_error(place, address, photo, told):
    result = query(place, address, photo, photo, code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {photo}: ") and told in line
    assert result.stdout == ""


@pytest.mark.parametrize("address_of", ["https://example.org/a.jpg", "s3://bucket/a.jpg"])
def test_an_address_is_refused_with_advice(place, address, address_of):
    assert f"{address_of} is an address" in query(place, address, address_of, code=1).stderr
    assert "download it first" in query(place, address, address_of, code=1).stderr


def test_no_key_is_cut_in_a_pipe_and_nothing_is_coloured(place, address):
    result = query(place, address, "queries/three.png", COLUMNS="80", FORCE_COLOR="")
    lines = result.stdout.splitlines()
    for seed in range(10):
        assert sum(f" {LONG}, number {seed}.png " in line for line in lines) == 1
    assert "…" not in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_folds_keys_and_is_not_coloured_where_that_is_asked(place, address, plain):
    sys.path.insert(0, str(ROOT / "tests" / "strangers"))
    from pseudo_terminal import run_on_terminal

    words = ["query", "queries/three.png", "-k", "2", "--index", "i", "--server", address]
    code, received = run_on_terminal(words, folder=place, environment={"COLUMNS": "80", **plain})
    text = received.decode()
    assert code == 0 and "…" not in text and "\x1b[" not in text
    cells = [line.split("│")[2].strip() for line in text.splitlines() if line.count("│") == 5]
    assert f"{LONG}, number 3.png".replace(" ", "") in "".join(cells).replace(" ", "")


def test_json_has_the_path_of_a_file_that_is_there(place, address):
    (row,) = rows(query(place, address, "queries/three.png", "-k", 2, "--json"))
    assert row["neighbours"][0]["path"] == str(place / "photos" / f"{LONG}, number 3.png")
    moved = place / "elsewhere"
    shutil.copytree(place / "i", place / "i2")
    (place / "photos").rename(moved)
    try:
        (row,) = rows(query(place, address, "queries/three.png", "-k", 1, "--json"))
        assert row["neighbours"][0]["path"] is None
        told = run(place, "index", "info", "--index", "i2", "--set-source", f"{place / 'photos'}=elsewhere")
        assert f"{moved} has images of 10 of 10 items" in told.stderr
        assert f"sources    {moved}" in told.stdout
        words = ["query", "queries/three.png", "-k", 1, "--json", "--index", "i2", "--server", address]
        assert rows(run(place, *words))[0]["neighbours"][0]["path"].startswith(str(moved))
    finally:
        moved.rename(place / "photos")
    wrong = run(place, "index", "info", "--index", "i2", "--set-source", "nowhere=photos", code=1)
    assert "OLD being one of the index's sources" in wrong.stderr
    wrong = run(place, "index", "info", "--index", "i2", "--set-source", f"{moved}=nowhere", code=1)
    assert "nowhere" in wrong.stderr


@pytest.mark.parametrize("key", ["../secret.png", "/etc/passwd", "a/../../b", "", "a\0b", "x" * 5000])
def test_a_key_that_leads_out_of_its_folder_has_no_path(tmp_path, key):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_text("")
    assert path_of(key, [tmp_path / "in"]) is None


def test_a_filter_on_a_field_that_no_item_has_says_so(place, address):
    result = query(place, address, "queries/three.png", "--where", '{"prize": 3}')
    assert "No item has a field 'prize'; there are: key, label" in result.stderr
    with LatentIndex.open(place / "i") as index:
        index.update(index.keys()[:1], metadata=[{"price": 3}])
    result = query(place, address, "queries/three.png", "--where", '{"prize": 3, "price": 3}')
    assert "No item has a field 'prize'; there are: key, label, price" in result.stderr
    assert "'price'" not in result.stderr
    assert query(place, address, "queries/three.png", "--where", '{"price": 3}').stderr == ""
    assert query(place, address, "queries/three.png", "--where", '{"price": 4}').stderr == ""


def test_there_is_nothing_to_draw_where_no_neighbour_has_a_picture(tmp_path, tiny_export):
    from ae_search.model_server import LocalEncoder

    with IndexBuilder(tmp_path / "bare", LocalEncoder(tiny_export).describe(), build_options()) as builder:
        builder.add(np.random.default_rng(0).normal(size=(9, 8)), [f"key {at}" for at in range(9)])
    result = run(tmp_path, "query", "--key", "key 1", "--index", "bare", "--plot", "n.png", code=1)
    assert "key 2" in result.stdout
    assert "error: There is nothing to draw in n.png: the index holds no thumbnail of what was found." in result.stderr
    assert "wrote" not in result.stderr
    assert not (tmp_path / "n.png").exists()


def test_a_picture_is_drawn_of_one_pixel_and_beside_bad_images(place, address):
    words = ["one pixel.png", "cut.png", "--key", f"{LONG}, number 3.png", "--plot", "n.png"]
    result = query(place, address, *words, code=3)
    assert "wrote n.png" in result.stderr
    with Image.open(place / "n.png") as drawn:
        assert drawn.size[0] > 1000


def test_quiet_is_quiet(place, address, tmp_path):
    result = run(place, "-q", "index", "build", "photos", "--index", tmp_path / "again", "--server", address)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1


def test_more_like_some_items_and_less_like_others(place, address):
    def named(at):
        return f"{LONG}, number {at}.png"

    examples = {"like": [named(1), named(2)], "unlike": [named(4)]}
    words = ["--like", named(1), f"--like={named(2)}", "--unlike", named(4), "-k", 4, "--json"]
    with LatentIndex.open(place / "i") as index, LatentClient(address, index.model.name) as client:
        search = ImageSearch(client, index)
        by_key = search.search(k=4, like=[named(5), *examples["like"]], unlike=examples["unlike"])
        expected = [search.search(k=4, **examples), search.search(place / "queries/three.png", 4, **examples), by_key]
    (alone,) = json.loads(run(place, "query", *words, "--index", "i").stdout)
    both = ["queries/three.png", "--key", named(5)]
    photo, item = json.loads(run(place, "query", *both, *words, "--index", "i", "--server", address).stdout)
    for told, found in zip([alone, photo, item], expected, strict=True):
        assert [one["key"] for one in told["neighbours"]] == [one.key for one in found]
    assert alone["query"] == f"{named(1)}, {named(2)}"


EXAMPLES_REFUSED = [
    (["--unlike", "a"], "--unlike needs something to be near to"),
    (["queries/three.png", "--like", "a", "--views"], "--views goes with a PHOTO alone"),
    (["--like", "none"], "none"),
]


@pytest.mark.parametrize("at", range(len(EXAMPLES_REFUSED)))
def test_examples_that_do_not_fit_are_refused(place, monkeypatch, at):
    words, told = EXAMPLES_REFUSED[at]
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, ["query", *words, "--index", "i"])
    assert isinstance(result.exception, ConfigurationError)
    assert told in str(result.exception)


def test_originals_are_told_with_verdicts_in_a_table_and_in_json(place, address):
    words = ("query", "queries/three.png", "text.jpg", "--index", "i", "--server", address, "--originals", "-k", "3")
    result = run(place, *words, "--json", code=3)
    told, bad = json.loads(result.stdout)
    assert told["verdict"] == told["neighbours"][0]["verdict"] == "this is it"
    assert told["neighbours"][0]["key"] == f"{LONG}, number 3.png"
    assert told["neighbours"][0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert {row["verdict"] for row in told["neighbours"]} <= {"this is it", "probably", "not here"}
    assert len(told["neighbours"]) == 3
    assert "error" in bad
    assert "three.png: this is it" in " ".join(run(place, *words, code=3).stdout.split())
    plain = json.loads(run(place, "query", "queries/three.png", "--index", "i", "--server", address, "--json").stdout)
    assert "verdict" not in plain[0]


def test_originals_of_a_key_are_refused(place, address):
    key = f"{LONG}, number 3.png"
    told = run(place, "query", "--key", key, "--index", "i", "--server", address, "--originals", code=1).stderr
    assert "--originals alters a PHOTO" in told
