"""Folders as people have them: files of any name, links, pipes, names that are not UTF-8, kinds without a decoder."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from pictures import coloured_picture, encoded

from ae_search.data import open_source
from ae_search.data.sources.image_kinds import PassedOver, taken_kinds
from ae_search.errors import ConfigurationError, ImageError

JPEG, PNG = encoded(coloured_picture(1), "JPEG"), encoded(coloured_picture(2), "PNG")
JPEG_XL, HEIC = b"\xff\x0a" + bytes(30), b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(30)


def folder(root, **files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_files_are_known_by_their_content(tmp_path):
    names = ["a.jfif", "b.jpe", "no_suffix", "c.txt", "d.png", "e.tiff", "f.JPG", "sub/g.dat"]
    folder(tmp_path, **dict.fromkeys(names, JPEG))
    assert open_source(str(tmp_path)).files == sorted(names)


def test_what_is_no_image_is_told_by_kind(tmp_path):
    folder(tmp_path, **{"a.jpg": JPEG, "n.txt": b"no", "o.txt": b"no", "README": b"no", "x.jxl": JPEG_XL, ".h": JPEG})
    (note,) = open_source(str(tmp_path)).notes
    assert (
        note == "skipped 1 .jxl (JXL, for which there is no decoder here; save them as PNG), 2 .txt, 1 without a suffix"
    )


def test_a_kind_that_needs_an_extra_is_told_with_it(monkeypatch):
    monkeypatch.setattr("ae_search.data.sources.image_kinds.find_spec", lambda name: None)
    taken_kinds.cache_clear()
    try:
        over = PassedOver()
        assert not over.takes("IMG_1.HEIC", lambda: HEIC)
        assert not over.takes("IMG_1.jpg", lambda: HEIC)
        assert over.sentence() == (
            "skipped 1 .heic (pip install 'ae-search[heif]'), 1 .jpg (pip install 'ae-search[heif]')"
        )
    finally:
        taken_kinds.cache_clear()


def test_kinds_that_can_be_decoded_here_are_taken(tmp_path):
    picture = coloured_picture(3)
    for suffix, form in {"tif": "TIFF", "avif": "AVIF", "webp": "WEBP", "bmp": "BMP", "gif": "GIF"}.items():
        picture.save(tmp_path / f"picture.{suffix}", form)
    (tmp_path / "phone").write_bytes(HEIC)
    expected = {"picture.tif", "picture.avif", "picture.webp", "picture.bmp", "picture.gif"}
    found = set(open_source(str(tmp_path)).files)
    assert found == expected | ({"phone"} if "HEIC" in taken_kinds() else set())


def test_a_damaged_file_with_an_images_name_is_kept_to_be_named(tmp_path):
    source = open_source(str(folder(tmp_path, **{"a.jpg": b"", "b.png": b"text", "c": b"text", "d.png": PNG})))
    assert source.files == ["a.jpg", "b.png", "d.png"]


def test_a_name_that_is_not_utf8_is_left_out_and_told(tmp_path):
    folder(tmp_path, **{"good.jpg": JPEG})
    for name in (b"caf\xe9.jpg", b"caf\xe8.jpg"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(JPEG)
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"d\xff"))
    with open(os.path.join(os.fsencode(tmp_path), b"d\xff/x.jpg"), "wb") as file:
        file.write(JPEG)
    source = open_source(str(tmp_path))
    assert source.files == ["good.jpg"]
    assert source.notes == [
        r"left out 3 whose names are not valid UTF-8; rename them, such as caf\udce8.jpg",
    ]


def test_linked_folders_are_followed_each_once(tmp_path):
    outside = folder(tmp_path / "outside", **{"o.jpg": JPEG, "deep/p.jpg": JPEG})
    root = folder(tmp_path / "root", **{"a/1.jpg": JPEG, "b/2.jpg": JPEG})
    (root / "linked").symlink_to(outside)
    (root / "aaa_again").symlink_to(root / "b")  # comes before b by name, and yet b is read as b
    (root / "a" / "loop").symlink_to(root)
    (outside / "self").symlink_to(outside)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "one.jpg").symlink_to(outside / "o.jpg")
    source = open_source(str(root))
    assert source.files == ["a/1.jpg", "b/2.jpg", "linked/deep/p.jpg", "linked/o.jpg", "one.jpg"]
    assert source.labels == ["a", "b", "linked", "linked", None]
    assert source.notes == [
        "left out 3 linked folders that lead to a folder that is read already, such as a/loop",
        "left out 1 links that lead nowhere, such as gone",
    ]
    assert source.unread == ["gone"]


def test_links_that_multiply_end_soon(tmp_path):
    for level in range(40):
        here = tmp_path / f"level{level:02}"
        here.mkdir()
        for name in ("x", "y"):
            (here / name).symlink_to(tmp_path / f"level{level + 1:02}")
    (tmp_path / "level40").mkdir()
    (tmp_path / "level40" / "one.jpg").write_bytes(JPEG)
    assert open_source(str(tmp_path / "level00")).files == ["x/" * 40 + "one.jpg"]


def test_pipes_sockets_and_links_to_devices_are_never_opened(tmp_path):
    folder(tmp_path, **{"good.jpg": JPEG})
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(tmp_path)  # a socket's path is short
        try:
            one.bind("socket.jpg")
        finally:
            os.chdir(here)
        source = open_source(str(tmp_path))
    assert source.files == ["good.jpg"]
    assert source.notes == ["left out 3 pipes, sockets or devices, such as pipe.jpg"]


@pytest.mark.parametrize("what", ["pipe", "device", "large", "gone", "folder"])
def test_what_takes_a_files_place_later_is_not_read(tmp_path, what):
    source = open_source(str(folder(tmp_path, **{"a.jpg": JPEG, "b.jpg": JPEG})))
    path = source.path(0)
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "large":
        with path.open("wb") as file:
            file.truncate(65 << 20)
    with pytest.raises(ImageError, match=r"a.jpg: (no regular file|larger than 64 MiB|there is no such)"):
        source.read(0)


def test_folders_that_cannot_be_read_are_told(tmp_path):
    folder(tmp_path, **{"a.jpg": JPEG, "locked/b.jpg": JPEG})
    if os.geteuid() == 0:
        shutil.rmtree(tmp_path / "locked")
        (tmp_path / "locked").symlink_to(tmp_path / "locked")  # it leads to itself: nobody can read it
    else:
        (tmp_path / "locked").chmod(0)
    source = open_source(str(tmp_path))
    assert source.files == ["a.jpg"]
    assert source.unread == ["locked"]
    assert "such as locked" in source.notes[0]


def test_a_folder_of_nothing_says_what_lies_there(tmp_path):
    folder(tmp_path, **{"a.txt": b"no"})
    with pytest.raises(ConfigurationError, match=r"holds no image; skipped 1 \.txt\.$"):
        open_source(str(tmp_path))


def test_ten_thousand_files_are_looked_at_in_a_moment(tmp_path):
    (tmp_path / "0.png").write_bytes(PNG)
    for number in range(1, 10_000):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    began = time.monotonic()
    assert len(open_source(str(tmp_path))) == 10_000
    # Half a second here; a read of the whole files would take minutes on a slow disk.
    assert time.monotonic() - began < 60


def test_the_cases_are_found():
    cases = Path(os.environ.get("AE_SEARCH_DATA", "/nowhere")) / "cases"
    if not cases.is_dir():
        pytest.skip("AE_SEARCH_DATA holds no cases/")
    source = open_source(str(cases))
    assert {"saved_by_a_browser.jfif", "no_suffix", "scan.tiff", "phone.avif", "one_pixel.png"} <= set(source.files)
    assert source.notes == ["skipped 1 .md"]
