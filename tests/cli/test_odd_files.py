"""Odd image files through the commands as a user types them: other formats, files that are cut short, blank pages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from odd_images import heic, upright
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.model_server import ModelServer

TOOL = Path(sys.executable).with_name("ae-search")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(12):
        coloured_picture(seed, (64, 48)).save(photos / f"{seed}.png")
    whole = encoded(coloured_picture(20, (640, 480)), "JPEG")
    files = {
        "scan.tiff": encoded(upright(), "TIFF"),
        "phone.heic": heic(upright(), quality=95),
        "phone.avif": encoded(upright(), "AVIF", quality=95),
        "moving.webp": encoded(upright(), "WEBP", save_all=True, append_images=[coloured_picture(1, (96, 72))]),
        "upright.png": encoded(upright()),
        "short.jpg": whole[:-2],
        "blank.png": encoded(Image.new("RGB", (60, 80), "white")),
    }
    for name, data in files.items():
        (photos / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def run(folder, tiny_export):
    with ModelServer(tiny_export) as server:

        def run_tool(*words, code=0):
            command = [TOOL, *map(str, words), "--server", server.address]
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
            assert result.returncode == code, result.stderr
            assert "Traceback" not in result.stderr
            return result

        yield run_tool


@pytest.fixture(scope="module")
def built(run):
    return run("index", "build", "photos", "--index", "i", "--trees", "4")


def test_building_names_what_is_cut_short(built):
    assert "1 truncated JPEG files, taken as far as they go (short.jpg); --strict refuses them" in built.stderr
    assert "19 images of" in built.stdout


def test_strict_commands_leave_it_out(run, folder):
    strict = run("index", "build", "photos", "--index", "s", "--trees", "4", "--strict")
    assert "short.jpg: truncated: the file ends too early" in strict.stderr
    assert "18 images of" in strict.stdout and "1 damaged images left out" in strict.stdout
    run("embed", "photos", "--out", "latents", "--strict", code=3)
    left_out = [json.loads(line) for line in (folder / "latents" / "_left-out.jsonl").read_text().splitlines()]
    assert [(line["key"], line["refused"]) for line in left_out] == [("short.jpg", False)]


@pytest.mark.parametrize("name", ["scan.tiff", "phone.heic", "phone.avif", "moving.webp"])
def test_the_same_picture_is_found_whatever_its_format(built, run, name):
    (answer,) = json.loads(run("query", f"photos/{name}", "--index", "i", "--json", "-k", "5", "--exact").stdout)
    assert answer["plain"] is False
    found = {neighbour["key"] for neighbour in answer["neighbours"]}
    assert found == {"scan.tiff", "phone.heic", "phone.avif", "moving.webp", "upright.png"}


def test_a_query_that_is_cut_short_says_so(built, run):
    answer = run("query", "photos/short.jpg", "--index", "i", "--json", "-k", "1")
    assert json.loads(answer.stdout)[0]["neighbours"][0]["key"] == "short.jpg"
    assert answer.stderr.count("truncated: the file ends too early") == 1


def test_a_blank_page_is_told(built, run):
    words = ["query", "photos/blank.png", "photos/upright.png", "--key", "blank.png", "--key", "1.png"]
    answer = run(*words, "--index", "i", "--json")
    assert [row["plain"] for row in json.loads(answer.stdout)] == [True, False, True, False]
    assert answer.stderr.count("is of one colour: images like that have no meaningful neighbours") == 2
    assert "photos/blank.png is of one colour" in answer.stderr
