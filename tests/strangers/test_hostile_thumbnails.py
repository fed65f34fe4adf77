"""Thumbnails that an index holds may be any bytes: JPEG and PNG are shown, all else is an empty cell."""

import ast
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from bombs import bombs, encoded, patched, picture
from bounded import run_bounded
from PIL import Image

from ae_search.contract import ModelCard
from ae_search.evaluation.report.pictures import reencoded
from ae_search.image_file import stored_thumbnail
from ae_search.index import IndexBuilder
from ae_search.plots import picture_of, picture_of_file, plot_neighbours

PACKAGE = Path(__file__).parents[2] / "ae_search"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 moveto 9 9 lineto stroke\nshowpage\n"
OTHERS = {
    "EPS": EPS,
    "PPM": encoded(picture(), "PPM"),
    "TIFF": encoded(picture(), "TIFF"),
    "ICO": encoded(picture((16, 16)), "ICO"),
    "TGA": encoded(picture(), "TGA"),
    "PSD": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 5, 7, 8, 3) + b"\0" * 200,
    "GIF": encoded(picture(), "GIF"),
    "BMP": encoded(picture(), "BMP"),
    "WebP": encoded(picture(), "WEBP"),
    "text": b"no picture at all",
    "nothing": b"",
    "none": None,
    "a PNG cut short": encoded(picture((90, 90)), "PNG")[:200],
    "a PNG with a wild chunk": patched(encoded(picture((90, 90)), "PNG"), (60, b"\xff" * 30)),
    "5 MiB": encoded(picture(), "PNG") + b"\0" * (5 * 2**20),
    "17 megapixels": encoded(Image.new("L", (4250, 4000)), "PNG"),
}


@pytest.mark.parametrize("kind", [*OTHERS, *bombs()])
def test_what_is_no_thumbnail_is_an_empty_cell(kind):
    data = (OTHERS | bombs())[kind]
    assert stored_thumbnail(data, 96) is None
    assert picture_of(data, "title").pixels is None
    assert reencoded(data) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5), (200, 96)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_thumbnail_is_shown_whatever_its_size(form, mode, size, tmp_path):
    cell = picture_of(encoded(picture(size).convert(mode), form), "title")
    assert max(cell.pixels.shape[:2]) <= 256
    plot_neighbours([cell], [[cell, picture_of(None, "")]], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_thumbnail_lies_over_white_and_upright():
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert np.asarray(stored_thumbnail(encoded(clear, "PNG"), 96)).min() == 255
    turned = encoded(picture((9, 4)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    assert stored_thumbnail(turned, 96).size == (4, 9)


def test_a_query_in_any_of_the_formats_is_shown():
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        assert picture_of_file(encoded(picture(), form), "title").pixels.shape == (5, 7, 3)
    assert picture_of_file(EPS, "title").pixels is None


@pytest.fixture
def poisoned(tmp_path):
    """An index whose thumbnails are files of other kinds, and one that is right."""
    latents = np.eye(len(OTHERS) + 1, 8, dtype=np.float32) + 0.1
    card = ModelCard(name="m", version=1, fingerprint="ab" * 32, image_shape=(2, 2, 1), latent_dim=8)
    with IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents, [*OTHERS, "right"], thumbnails=[*OTHERS.values(), encoded(picture(), "JPEG")])
    return tmp_path / "index"


def test_a_plot_of_an_index_with_any_thumbnails_starts_no_program(poisoned, tmp_path, victim):
    """Pillow would start Ghostscript, here one that says so, for an EPS file."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    ghost = bin_folder / "gs"
    ghost.write_text(f"#!{sys.executable}\nopen({str(victim.path)!r}, 'w').write('ran')\n")
    ghost.chmod(0o755)
    environment = {"PATH": str(bin_folder)}
    command = ["ae-search", "query", "--index", poisoned, "--key", "right", "-k", "20", "--plot", tmp_path / "plot.png"]
    ended = run_bounded(command, folder=tmp_path, environment=environment)
    assert ended.code == 1
    assert "nothing to draw" in ended.stderr
    assert ended.peak_mib < 600
    assert not (tmp_path / "plot.png").exists()


def _calls():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield f"{path.name}:{node.lineno}", ast.unparse(node.func), {keyword.arg for keyword in node.keywords}


def test_no_picture_is_opened_in_every_format_that_pillow_knows():
    opening = [(where, given) for where, called, given in _calls() if called.split(".")[-2:] == ["Image", "open"]]
    assert len(opening) >= 3
    assert [where for where, given in opening if "formats" not in given] == []
    assert [where for where, called, _ in _calls() if called.endswith((".imread", ".imopen"))] == []
