"""The HTML report of an index made to hurt: harmless, bounded, and cut off from the network."""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from report_page import Page, check, sections, written
from synthetic_evaluation import bomb, evaluation, picture, query, sample

from ae_search.evaluation.report import write_report
from ae_search.evaluation.report.page import page as page_of
from ae_search.evaluation.report.pictures import Album, reencoded
from ae_search.evaluation.shown import Examples

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "two\nlines\tand\x00nul\x1b[31m",
    "\u202egnp.exe",
    "\ud800 half a pair",
    "long" * 5000,
    " ",
)


@pytest.fixture
def report(tmp_path):
    return lambda made: written(made, tmp_path)


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "quotes", "controls", "rtl", "surrogate", "long", "blank"])
def test_texts_of_strangers_are_shown_and_do_nothing(report, text):
    made = evaluation(labels=(text, "coat", "shirt"))
    made = replace(
        made,
        model=replace(made.model, name=text, fingerprint=text),
        index=text,
        source=text,
        created=text,
        notes=(text,),
        damaged={text: text},
        retrieval=tuple(replace(row, name=text) for row in made.retrieval),
        reverse_search=tuple(replace(row, name=text, found_first={text: 0.5}) for row in made.reverse_search),
        examples=Examples(hits=(replace(query(text, [text] * 3, key=text)),)),
        latents=replace(made.latents, keys=(text,) * 40),
    )
    page = report(made)
    assert len(sections(page)) == 8
    assert not set(page.text) & set("\x00\x1b\u202e\ud800")
    shown = re.sub(r"\s+", " ", text[:10].replace("\x00", "").replace("\u202e", "").replace("\ud800", "\ufffd")).strip()
    assert shown in page.text
    assert len(page.text) < 100_000


def hostile_pictures():
    yield b""
    yield b"<svg onload=alert(1)>"
    yield b"GIF89a" + bytes(range(256))
    yield bomb()
    yield picture(size=(5000, 4000))
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        whole = picture(3, form)
        yield whole[: len(whole) // 2]
        rng = np.random.default_rng(0)
        for _ in range(5):
            data = bytearray(whole)
            for at in rng.integers(8, len(data), 12):
                data[at] = rng.integers(256)
            yield bytes(data)
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10)).save(buffer, "TIFF")
    yield buffer.getvalue()


def test_pictures_of_strangers_are_encoded_anew(report):
    hostile = list(hostile_pictures())
    shown = [query("bag", ["bag"], data=data) for data in hostile]
    pictures = tuple(hostile[at % len(hostile)] for at in range(40))
    for start in range(0, len(shown), 8):
        made = evaluation(examples=Examples(hits=tuple(shown[start : start + 8])))
        page = report(replace(made, latents=replace(made.latents, pictures=pictures)))
        for attributes in [*page.all("img"), *page.all("image")]:
            data = base64.b64decode((attributes.get("src") or attributes["href"]).partition(",")[2], validate=True)
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                image.load()
                assert max(image.size) <= 64
            assert data not in hostile


def test_what_is_no_picture_gets_a_placeholder(report):
    for data in (b"no picture", bomb(), picture(size=(5000, 4000))):
        assert reencoded(data) is None
        page = report(evaluation(examples=Examples(hits=(query("bag", ["bag"], data=data),)), reconstructions=None))
        assert page.all("img") == []
        told = [attributes["aria-label"] for attributes in page.all("span") if attributes.get("role") == "img"]
        assert told == ["query, bag", "neighbour 1, right: bag"]


def test_a_picture_hides_nothing_behind_its_pixels():
    secret = b"a comment or a program"
    clean = reencoded(picture(1) + secret)
    assert clean is not None and secret not in clean


def test_pictures_together_have_a_limit():
    album = Album(left=4000)
    shown = [album.uri(picture(at)) for at in range(20)]
    assert 1 <= sum(uri is not None for uri in shown) < 20
    assert album.left_out == sum(uri is None for uri in shown)
    assert album.uri(None) is None and album.left_out == sum(uri is None for uri in shown)


def test_a_large_report_stays_below_five_megabytes(report, tmp_path):
    noise = [np.random.default_rng(at).integers(0, 256, (64, 64, 3), np.uint8) for at in range(8)]
    files = []
    for pixels in noise:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    labels = tuple(f"label {at:04} " + "x" * 60 for at in range(500))
    many = tuple(query(labels[at], [labels[at]] * 10, data=files[at % 8]) for at in range(100))
    made = evaluation(labels=labels, examples=Examples(many, many, many))
    latents = sample(3000, labels=labels)
    page = report(
        replace(
            made,
            latents=replace(latents, pictures=tuple(files[at % 8] for at in range(3000))),
            notes=("note " * 500,) * 200,
            damaged={f"image {at}": "why " * 500 for at in range(5000)},
        )
    )
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    assert "470 more labels" in page.text
    assert "20 of 5,000 images" in page.text


def test_pictures_without_room_are_counted():
    page = Page(html := page_of(evaluation(), max_picture_bytes=20_000))
    check(page)
    assert len(html) < 120_000
    shown = len(page.all("img"))
    assert 5 < shown < 30
    assert int(re.search(r"left out ?(\d+) pictures, to keep the file small", page.text)[1]) >= 41 - shown


def test_the_policy_allows_this_style_and_nothing_else(tmp_path):
    html = write_report(evaluation(), tmp_path / "report.html").read_text(encoding="utf-8")
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = Page(html)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    assert "prefers-color-scheme: dark" in style


# Path or name of a Chromium; not looked for by itself, since some are shut off from the folders of tests.
BROWSER = shutil.which(os.environ.get("AE_SEARCH_BROWSER", ""))


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium in AE_SEARCH_BROWSER")
def test_a_browser_draws_it_and_obeys_the_policy(tmp_path):
    path = write_report(evaluation(labels=(HOSTILE[0], HOSTILE[1], "shirt")), tmp_path / "report.html")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--window-size=1000,900", f"--screenshot={tmp_path / 'shot.png'}"]
    run = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "Content Security Policy" not in run.stderr and "Refused" not in run.stderr
    with Image.open(tmp_path / "shot.png") as shot:
        colours = shot.convert("RGB").getcolors(1_000_000)
    # The style was applied: the colour of our bars is there.
    assert (0x34, 0x51, 0xB2) in [colour for _, colour in colours]
