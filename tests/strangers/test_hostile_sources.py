"""Record files and tables of strangers: bounded memory and time, whatever they say of themselves."""

import gzip
import os
import struct

import pytest
from bounded import run_bounded

OPEN = """
import sys
from ae_search.data import open_source
from ae_search.errors import AeSearchError
try:
    source = open_source(sys.argv[1])
    for at in range(min(3, len(source))):
        try:
            source.read(at)
        except AeSearchError as error:
            print('left out:', error)
    print('opened', len(source))
except AeSearchError as error:
    print('refused:', error)
"""


def masked(data):
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data):
    head = struct.pack("<Q", len(data))
    return head + masked(head) + data + masked(data)


def opened(tmp_path, source):
    ended = run_bounded(["python", "-c", OPEN, source], folder=tmp_path, timeout_s=120)
    assert ended.code == 0, ended.stderr
    return ended


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(name, value):
    return field(1, field(1, name) + field(2, value))


RECORDS = {
    # 2 bytes a value, of which a parsed list takes many more.
    "many values": lambda: record(field(1, feature(b"image/encoded", field(1, field(1, b"") * 10_000_000)))),
    "many features": lambda: record(field(1, (field(1, b"")) * 10_000_000)),
    "many fields": lambda: record(b"\x08\x01" * 20_000_000),
    "long numbers": lambda: record(b"\xff" * 1_000_000),
    "a length that is not there": lambda: (head := struct.pack("<Q", 60 << 20)) + masked(head) + b"short",
    "a gzip bomb": lambda: gzip.compress(record(bytes(60 << 20)) * 8, 1),
    "a gzip of nothing": lambda: gzip.compress(bytes(1 << 30), 1),
    "a cut gzip": lambda: gzip.compress(record(b"x" * 100_000))[:-20],
}


@pytest.mark.parametrize("name", RECORDS)
def test_hostile_records_are_refused_within_bounds(tmp_path, name):
    (tmp_path / "r").write_bytes(RECORDS[name]())
    ended = opened(tmp_path, f"tfrecord:{tmp_path}/r")
    # The first of many values is an empty one, which is no image file.
    assert ended.stdout.startswith("opened 1" if name == "many values" else ("refused:", "left out:")), ended.stdout
    assert ended.peak_mib < 400


def test_a_table_without_line_ends_is_not_read_as_one_line(tmp_path):
    with (tmp_path / "t.csv").open("wb") as file:
        file.write(b"path\n")
        file.truncate(4 << 30)
    ended = opened(tmp_path, str(tmp_path / "t.csv"))
    assert "a line is longer" in ended.stdout
    assert ended.peak_mib < 200


def test_a_table_of_an_open_quote_ends(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'path\n"' + b"a\n" * 20_000_000)
    ended = opened(tmp_path, str(tmp_path / "t.csv"))
    assert "refused:" in ended.stdout
    assert ended.peak_mib < 300


@pytest.mark.slow
def test_many_rows_take_little_memory(tmp_path):
    with (tmp_path / "t.csv").open("w") as file:
        file.write("path,label,metadata_text\n")
        for number in range(200_000):
            file.write(f"folder/{number}.jpg,l{number % 3},{'x' * 1000}\n")
    ended = opened(tmp_path, str(tmp_path / "t.csv"))
    assert "opened 200000" in ended.stdout
    # The file has 200 MB.
    assert ended.peak_mib < 200


@pytest.mark.parametrize("command", ["train", "index"])
def test_a_pipe_among_the_images_is_not_waited_for(tmp_path, command):
    folder = tmp_path / "pipes"
    folder.mkdir()
    os.mkfifo(folder / "x.jpg")
    (folder / "link.jpg").symlink_to(folder / "x.jpg")
    words = (
        ["train", folder, "--run", "r"]
        if command == "train"
        else ["index", "sync", folder, "--index", "i", "--dry-run"]
    )
    ended = run_bounded(["ae-search", *words], folder=tmp_path, timeout_s=120)
    assert ended.code == 1
    assert "holds no image; left out 2 pipes, sockets or devices, such as link.jpg" in ended.stderr


READ_ALL = """
import sys
from ae_search.data import open_source
source = open_source(sys.argv[1])
total = sum(len(source.read(at)) for at in range(len(source)))
print(total)
"""


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path, packed):
    one = os.urandom(8 << 20)
    framed = record(field(1, feature(b"image/encoded", field(1, field(1, one)))))
    with gzip.open(tmp_path / "r", "wb", 1) if packed else (tmp_path / "r").open("wb") as file:
        for _ in range(40):
            file.write(framed)
    ended = run_bounded(["python", "-c", READ_ALL, f"tfrecord:{tmp_path}/r"], folder=tmp_path, timeout_s=240)
    assert ended.code == 0, ended.stderr
    assert int(ended.stdout) == 40 * len(one)
    # The images have 320 MiB.
    assert ended.peak_mib < 200


@pytest.mark.slow
def test_a_folder_of_a_hundred_thousand_files_takes_little_memory(tmp_path):
    folder = tmp_path / "folder"
    for number in range(100):
        part = folder / f"class {number}"
        part.mkdir(parents=True)
        for name in range(1000):
            (part / f"{name}.gif").touch()
    ended = opened(tmp_path, str(folder))
    assert "opened 100000" in ended.stdout
    assert ended.peak_mib < 200
