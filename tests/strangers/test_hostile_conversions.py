"""Strangers' files that are turned into PNG: refused by their head where they ask for much, never a crash."""

import json
from pathlib import Path

import pytest
from bombs import encoded
from bounded import run_bounded
from conversion_bombs import refused, taken
from odd_images import heic, with_alpha
from PIL import Image

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("conversion_child.py")


def converted(files, folder, *, timeout_s=300.0):
    """Return what came of each file, and by how many MiB the memory of the process rose."""
    there = folder / "files"
    there.mkdir()
    for name, data in files.items():
        (there / name).write_bytes(data)
    ended = run_bounded(["python", CHILD, there], folder=folder, timeout_s=timeout_s)
    assert ended.code == 0, ended.stderr[-3000:]
    answer = json.loads(ended.stdout.splitlines()[-1])
    return answer["found"], answer["rise_mib"]


def test_files_that_ask_for_much_are_refused_without_it(tmp_path):
    files = refused()
    found, rise_mib = converted(files, tmp_path)
    assert found.keys() == files.keys()
    assert [name for name, reason in found.items() if reason is None] == []
    assert all(reason.startswith(f"{name}: ") and "\n" not in reason for name, reason in found.items())
    assert "81000000 px is more than 64 megapixels" in found["81 megapixels that lie.avif"]
    assert "60000 x 60000 px is more than 64 megapixels" in found["promises.tiff"]
    assert "more than 65536 strips" in found["many strips.tiff"]
    assert "is more than 32 megapixels" in found["48 megapixels, animated.webp"]
    # Each of them may be copied once or twice; the largest has 5 MiB.
    assert rise_mib < 60


def test_files_that_only_look_like_bombs_are_taken(tmp_path):
    found, rise_mib = converted(taken(), tmp_path)
    assert set(found.values()) == {None}
    assert rise_mib < 60


# What is taken in all, with the file's copy and the PNG; animated WebP may have half of the pixels that others may.
BYTES_A_PIXEL, BYTES_ANIMATED = 12, 18
LARGE = {
    "TIFF": (lambda: encoded(Image.new("RGBA", (8000, 8000), (9, 9, 9, 99)), "TIFF", compression="tiff_lzw"), 64),
    "grey TIFF": (lambda: encoded(Image.new("I;16", (8000, 8000), 999), "TIFF", compression="tiff_lzw"), 64),
    "AVIF": (lambda: encoded(with_alpha(Image.new("RGB", (4000, 4000))), "AVIF", speed=10), 16),
    "HEIC": (lambda: heic(Image.new("RGB", (4000, 4000))), 16),
    "animated WebP": (
        lambda: encoded(
            Image.new("RGBA", (4000, 4000)), "WEBP", save_all=True, append_images=[Image.new("RGBA", (4000, 4000), 9)]
        ),
        16,
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_a_large_picture_takes_is_bounded(kind, tmp_path):
    make, megapixels = LARGE[kind]
    found, rise_mib = converted({"large": make()}, tmp_path)
    assert found == {"large": None}
    assert rise_mib * 2**20 < (BYTES_ANIMATED if kind.startswith("animated") else BYTES_A_PIXEL) * megapixels * 1e6


def test_wild_bytes_are_refused_in_one_line_or_taken(tmp_path):
    ended = run_bounded(["python", CHILD, 40], folder=tmp_path, timeout_s=900)
    assert ended.code == 0, ended.stderr[-3000:]
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["faults"] == []
    assert min(answer["outcomes"]["taken"], answer["outcomes"]["refused"]) > 1000
    assert ended.peak_mib < 1000
