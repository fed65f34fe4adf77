"""Images of one colour: what has no meaningful neighbours is told, and nothing else is."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import coloured_picture, encoded
from PIL import Image, ImageDraw

from ae_search import AsyncImageSearch, ImageSearch
from ae_search.data import open_source
from ae_search.image_file import PLAIN_SHAPE, image_pixels, is_plain

SHARED = os.environ.get("AE_SEARCH_DATA", "")
PAGE = np.full((600, 450, 3), 245.0)
RNG = np.random.default_rng(0)


def page(pixels, form="PNG", **options):
    return encoded(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), form, **options)


def written():
    picture = Image.fromarray(PAGE.astype(np.uint8))
    for row in range(18):
        ImageDraw.Draw(picture).text((30, 20 + 30 * row), 5 * "a line of text ", fill=0, font_size=14)
    return encoded(picture)


BLANK = {
    "white": page(PAGE * 2),
    "black": page(PAGE * 0),
    "red": encoded(Image.new("RGB", (300, 200), "red")),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "transparent": encoded(Image.new("RGBA", (300, 200))),
    "noise of a scanner": page(PAGE + RNG.normal(0, 12, PAGE.shape)),
    "noise and JPEG": page(PAGE + RNG.normal(0, 12, PAGE.shape), "JPEG", quality=60),
    "lit from above": page(PAGE - np.linspace(0, 16, 600)[:, None, None]),
    "TIFF": page(PAGE, "TIFF"),
}
FULL = {
    "text": written(),
    "gradient": page(PAGE * np.linspace(0, 1, 600)[:, None, None]),
    "colours of one brightness": encoded(
        Image.fromarray(np.tile(np.array([[200, 40, 40], [40, 122, 40]], np.uint8).repeat(50, 0), (100, 1, 1)))
    ),
    "picture": encoded(coloured_picture(3)),
}


@pytest.mark.parametrize("name", BLANK)
def test_what_is_of_one_colour_is_plain(name):
    assert is_plain(image_pixels(BLANK[name], name, PLAIN_SHAPE))


@pytest.mark.parametrize("name", FULL)
def test_what_shows_something_is_not(name):
    assert not is_plain(image_pixels(FULL[name], name, PLAIN_SHAPE))


@pytest.mark.skipif(not SHARED, reason="AE_SEARCH_DATA does not name photographs")
def test_no_photograph_is_plain():
    found = [
        path
        for source in (open_source(str(Path(SHARED, name))) for name in ("photos", "objects"))
        for path in (source.path(at) for at in range(0, len(source), 7))
        if is_plain(image_pixels(path.read_bytes(), str(path), PLAIN_SHAPE))
    ]
    assert found == []


class Nobody:
    """Neither an encoder nor an index is asked whether an image is plain."""


def test_searches_tell_it_of_paths_bytes_and_pixels(tmp_path):
    blank, full = tmp_path / "blank.png", tmp_path / "full.png"
    blank.write_bytes(BLANK["white"])
    full.write_bytes(FULL["text"])
    grey = np.full((28, 28, 1), 0.5, np.float32)
    queries = [blank, full, BLANK["red"], FULL["picture"], grey, np.zeros((28, 28, 1), np.uint8), RNG.random((9, 9, 3))]
    wanted = [True, False, True, False, True, True, False]
    search = ImageSearch.__new__(ImageSearch)
    assert [search.plain(query) for query in queries] == wanted

    async def ask():
        asked = AsyncImageSearch(Nobody(), Nobody())
        try:
            return [await asked.plain(query) for query in queries]
        finally:
            await asked.close()

    assert asyncio.run(ask()) == wanted
