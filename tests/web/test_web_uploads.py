"""Images are kept by digest: bounded in number, bytes and time, for all processes of the service."""

import hashlib
import os
import stat
import time

import pytest
from live import options_of, running
from pictures import coloured_picture, encoded
from web_items import PNG, picture

from ae_search.web import UploadOptions
from ae_search.web.uploads import Uploads


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def aged(folder, digest, seconds):
    then = time.time() - seconds
    os.utime(folder / digest, (then, then))


def test_an_image_is_kept_and_read(tmp_path):
    uploads = Uploads(tmp_path / "kept", UploadOptions())
    digest = uploads.keep(b"image")
    assert digest == hashlib.sha256(b"image").hexdigest() == uploads.keep(b"image")
    assert uploads.read(digest) == b"image" and kept(tmp_path / "kept") == [digest]
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "kept" / digest).stat().st_mode) == 0o600


def test_the_one_that_was_asked_for_longest_ago_makes_way(tmp_path):
    uploads = Uploads(tmp_path, UploadOptions(most=3))
    digests = [uploads.keep(bytes([at])) for at in range(3)]
    for age, digest in enumerate(digests):
        aged(tmp_path, digest, 100 - age)
    assert uploads.read(digests[0])
    fourth = uploads.keep(b"fourth")
    assert kept(tmp_path) == sorted([digests[0], digests[2], fourth])


def test_their_bytes_have_a_bound(tmp_path):
    uploads = Uploads(tmp_path, UploadOptions(most_bytes=1000))
    digests = []
    for at in range(20):
        digests.append(uploads.keep(bytes([at]) * 300))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
        assert digests[-1] in kept(tmp_path)
    assert uploads.keep(bytes(1001)) is None


def test_they_go_after_a_while(tmp_path):
    uploads = Uploads(tmp_path, UploadOptions(kept_s=60))
    old, other = uploads.keep(b"old"), uploads.keep(b"other")
    aged(tmp_path, old, 61)
    aged(tmp_path, other, 61)
    assert uploads.read(old) is None
    new = uploads.keep(b"new")
    assert kept(tmp_path) == [new]


def test_what_is_not_its_own_stays_and_what_was_not_finished_goes(tmp_path):
    uploads = Uploads(tmp_path, UploadOptions(most=1))
    for name in ("notes.txt", ".unfinished-old", ".unfinished-new"):
        (tmp_path / name).write_text("x")
    aged(tmp_path, ".unfinished-old", 3600)
    digest = uploads.keep(b"image")
    assert kept(tmp_path) == sorted([".unfinished-new", "notes.txt", digest])


@pytest.mark.parametrize("name", ["../secret", "secret", "A" * 64, "0" * 63, "0" * 64 + "/", "", "\0"])
def test_nothing_else_is_opened(tmp_path, name):
    (tmp_path / "secret").write_bytes(b"secret")
    uploads = Uploads(tmp_path / "kept", UploadOptions())
    (tmp_path / "kept" / "secret").write_bytes(b"secret")
    assert uploads.read(name) is None


FORMS = [
    ("PNG", "image/png"),
    ("JPEG", "image/jpeg"),
    ("GIF", "image/gif"),
    ("BMP", "image/bmp"),
    ("WEBP", "image/webp"),
]


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_an_upload_is_shown_as_it_was_sent(http, form, kind):
    image = encoded(coloured_picture(3, (30, 20)), form)
    told = http.post("/v1/uploads", content=image, headers={"content-type": kind})
    assert (told.status_code, told.json()["width"], told.json()["height"]) == (201, 30, 20)
    shown = http.get(f"/v1/uploads/{told.json()['image']}")
    assert (shown.content, shown.headers["content-type"]) == (image, kind)
    assert shown.headers["content-security-policy"] == "default-src 'none'"


def test_what_browsers_cannot_show_becomes_png(http):
    image = encoded(coloured_picture(3, (30, 20)), "TIFF")
    digest = http.post("/v1/uploads", content=image, headers={"content-type": "image/tiff"}).json()["image"]
    shown = http.get(f"/v1/uploads/{digest}")
    assert shown.headers["content-type"] == "image/png" and shown.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "body", [b"<script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_not_kept(http, body):
    answer = http.post("/v1/uploads", content=body, headers=PNG)
    assert answer.json()["code"] == "ImageError"
    assert http.get(f"/v1/uploads/{hashlib.sha256(body).hexdigest()}").status_code == 404


def test_a_form_can_be_kept_and_processes_share_what_is(http, web_options):
    digest = http.post("/v1/uploads", files={"image": ("a.png", picture(3))}).json()["image"]
    with running(web_options) as other:
        assert other.get("/v1/search", params={"image": digest}).status_code == 200


def test_a_service_may_keep_nothing(web_index, served, tmp_path):
    with running(options_of(web_index, served, tmp_path / "kept", keeping={"kept_s": 0.0})) as client:
        assert client.get("/v1/index").json()["features"]["uploads"] is False
        assert client.post("/v1/uploads", content=picture(1), headers=PNG).json()["code"] == "Forbidden"
        assert client.post("/v1/search", content=picture(1), headers=PNG).status_code == 200
    assert not (tmp_path / "kept").exists()
