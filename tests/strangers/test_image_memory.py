"""The memory that legal files take in the graph: at most 12 bytes a pixel beyond the file, and one frame of a GIF."""

import json
from pathlib import Path

import numpy as np
import pytest
from bombs import encoded, frame, gif, picture, png
from bounded import run_bounded
from PIL import Image

from ae_search.image_file import decoded_bytes, read_head

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("memory_child.py")
# What the first use of a decoder takes beside the pixels: its code, threads, buffers of the allocator.
SLACK_MIB = 32


def coloured(size, mode):
    return picture((60, 50)).resize(size).convert(mode)


def noise(size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), np.uint8))


def clear(size):
    image = coloured(size, "RGBA")
    image.putalpha(coloured(size, "L"))
    return image


FILES = {
    "rgba png": lambda: png((8000, 7900), colour=6, row=b"\0" + b"\x40" * 32_000),
    "rgba png of noise": lambda: encoded(noise((4000, 3000)), "PNG", compress_level=1),
    "grey png with alpha": lambda: png((8000, 7900), colour=4, row=b"\0" + b"\x40" * 16_000),
    "png of 16 bits": lambda: png((4000, 4000), bits=16, colour=6, row=b"\0" + b"\x40" * 32_000),
    "narrow rgba png": lambda: png((50, 100_000), colour=6, row=b"\0" + b"\x40" * 200),
    "jpeg": lambda: encoded(coloured((5000, 4000), "RGB"), "JPEG"),
    "progressive jpeg": lambda: encoded(coloured((5000, 4000), "RGB"), "JPEG", progressive=True, subsampling=0),
    "progressive jpeg of four inks": lambda: encoded(coloured((4000, 4000), "CMYK"), "JPEG", progressive=True),
    "webp with alpha": lambda: encoded(clear((3000, 3000)), "WEBP", method=0),
    "lossless webp with alpha": lambda: encoded(clear((3000, 3000)), "WEBP", lossless=True, method=0, quality=0),
    "gif": lambda: gif((7000, 7000), [encoded_frame((7000, 7000))]),
    "gif, a small frame on a large screen": lambda: gif((7000, 7000), [frame((9, 9))]),
    "gif of 150 frames": lambda: gif((1000, 1000), 150 * [frame((1000, 1000))]),
    "palette bmp": lambda: encoded(coloured((4000, 4000), "RGB").quantize(64), "BMP"),
    "bmp of 32 bits": lambda: encoded(clear((3500, 3500)), "BMP"),
}


def encoded_frame(size):
    data = encoded(Image.fromarray(np.zeros(size[::-1], np.uint8)), "GIF")
    return data[data.index(b",", 13 + (3 << (data[10] % 8 + 1) if data[10] & 0x80 else 0)) : -1]


# One file of each way to decode is also padded: what comes after the decoder is the same for all.
@pytest.mark.parametrize(("kind", "fit"), [*((kind, "crop") for kind in FILES), ("rgba png", "pad"), ("jpeg", "pad")])
def test_a_legal_file_takes_twelve_bytes_a_pixel(kind, fit, tmp_path):
    data = FILES[kind]()
    path = tmp_path / "file"
    path.write_bytes(data)
    (tmp_path / "small.png").write_bytes(encoded(picture(), "PNG"))
    ended = run_bounded(["python", CHILD, path, 64, fit], folder=tmp_path, timeout_s=300)
    assert ended.code == 0, ended.stderr[-3000:]
    rise_mib = json.loads(ended.stdout.splitlines()[-1])["rise_mib"]
    assert decoded_bytes(data) == 12 * read_head(data).pixels
    assert rise_mib < decoded_bytes(data) / 2**20 + SLACK_MIB
