"""What TensorFlow cannot decode, turned into PNG: what a person sees, in one function for clients and training."""

import io
import sys

import numpy as np
import pytest
from odd_images import SIZE, heic, kinds, upright, with_alpha
from pictures import coloured_picture, encoded
from PIL import Image
from tiffs import shape, tiff

from ae_search.errors import ImageError
from ae_search.image_file import for_graph, graph_decodes, image_pixels, read_head, thumbnail
from ae_search.image_file.kinds import KIND_BYTES, kind_of

KINDS = kinds()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_becomes_what_a_person_sees(name):
    data, seen, allowed = KINDS[name]
    assert not graph_decodes(data)
    made = for_graph(data, name)
    assert graph_decodes(made) and read_head(made).form == "PNG"
    assert Image.open(io.BytesIO(made)).info.keys() <= {
        "srgb"
    }  # neither EXIF nor a profile is left to be applied again
    assert pixels(made).shape == (*seen.size[::-1], 3)
    assert np.abs(pixels(made) - np.asarray(seen.convert("RGB"), np.float32)).mean() <= allowed


@pytest.mark.parametrize("name", KINDS)
def test_thumbnails_and_pixels_are_those_of_the_png(name):
    data, _, _ = KINDS[name]
    made = for_graph(data, name)
    assert thumbnail(data, name) == thumbnail(made, name)
    assert np.array_equal(image_pixels(data, name, (24, 32, 3)), image_pixels(made, name, (24, 32, 3)))


def mpo():
    return encoded(upright(), "MPO", save_all=True, append_images=[coloured_picture(1, SIZE)])


@pytest.mark.parametrize(
    "data",
    [
        encoded(upright(), "JPEG"),
        encoded(upright().convert("CMYK"), "JPEG"),
        mpo(),
        encoded(with_alpha(upright()), "PNG"),
        encoded(with_alpha(upright()).convert("LA"), "PNG"),
        encoded(upright(), "PNG", save_all=True, append_images=[coloured_picture(1, SIZE)]),
        encoded(upright(), "GIF"),
        encoded(upright(), "BMP"),
        encoded(upright(), "WEBP"),
    ],
    ids=["JPEG", "CMYK JPEG", "MPO", "PNG", "LA PNG", "APNG", "GIF", "BMP", "WebP"],
)
def test_what_the_graph_decodes_stays_as_it_is(data):
    assert for_graph(data, "a file") is data


def grey_samples(dtype):
    return np.asarray(upright().convert("L")).astype(dtype)


def whole(bits, sample_format, samples):
    return tiff([samples.astype(samples.dtype.newbyteorder("<")).tobytes()], shape(SIZE, bits=bits, **sample_format))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_of_either_byte_order_depth_and_layout(order, planar, bits):
    colours = np.asarray(upright()).astype(f"{order}u{bits // 8}") * (257 if bits == 16 else 1)
    strips = [colours.tobytes()] if planar == 1 else [colours[..., at].tobytes() for at in range(3)]
    data = tiff(strips, shape(SIZE, bits=bits, samples=3, photometric=2, planar=planar), order=order)
    if (bits, planar) == (16, 2):
        with pytest.raises(ImageError, match="^scan: a TIFF that keeps its colours apart"):
            for_graph(data, "scan")
    else:
        assert np.array_equal(pixels(for_graph(data, "scan")), np.asarray(upright()))


def test_grey_of_many_bits_is_as_bright_as_it_was():
    grey = grey_samples(np.uint16)
    dark_is_high = tiff([(65535 - grey * 257).astype("<u2").tobytes()], shape(SIZE, bits=16, photometric=0))
    assert np.abs(pixels(for_graph(dark_is_high, "scan"))[..., 0] - grey).max() <= 1
    twelve = np.repeat(grey * 16, 1, axis=0).reshape(-1, 2)
    packed = np.stack([twelve[:, 0] >> 4, (twelve[:, 0] & 15) << 4 | twelve[:, 1] >> 8, twelve[:, 1] & 255], axis=-1)
    data = tiff([packed.astype(np.uint8).tobytes()], shape(SIZE, bits=12))
    assert np.abs(pixels(for_graph(data, "scan"))[..., 0] - grey).max() <= 1


NO_PICTURES = {
    "floats up to 255": (whole(32, {"sample_format": 3}, grey_samples(np.float32)), "not from 0 to 1; save it with 8"),
    "no numbers": (whole(32, {"sample_format": 3}, grey_samples(np.float32) * np.nan), "not from 0 to 1"),
    "signed": (whole(16, {"sample_format": 2}, grey_samples(np.int16)), "whole numbers of 32 bits"),
    "32 bits": (whole(32, {}, grey_samples(np.uint32)), "whole numbers of 32 bits"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), "JPEG XL, for which there is no decoder; save it as JPEG or PNG"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL, for which there is no decoder"),
    "JPEG 2000": (encoded(upright(), "JPEG2000"), "JPEG 2000, for which there is no decoder"),
    "text": (b"some text that is no image", "not a JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC image"),
    "nothing": (b"", "not a JPEG, PNG"),
    "half a TIFF": (encoded(upright(), "TIFF", compression="tiff_lzw")[:3000], "damaged"),
    "half an AVIF": (encoded(upright(), "AVIF")[:-200], "damaged image"),
    "half a HEIC": (heic(upright())[:-200], "damaged image"),
    "half an animated WebP": (encoded(upright(), "WEBP", save_all=True, append_images=[upright()])[:200], "damaged"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused_with_a_sentence(name):
    data, reason = NO_PICTURES[name]
    with pytest.raises(ImageError) as refused:
        for_graph(data, "image 3")
    text = str(refused.value)
    assert text.startswith("image 3: ") and reason in text and "\n" not in text
    with pytest.raises(ImageError, match="^image 3: "):
        thumbnail(data, "image 3")


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"^photo: HEIC needs pillow-heif: pip install 'ae-search\[heif\]'\.$"):
        for_graph(KINDS["HEIC"][0], "photo")


def test_no_file_makes_pillow_know_heic_elsewhere():
    """A plugin that is registered is one for the whole process, and other code of it may open anything."""
    import subprocess

    code = (
        "import sys; from PIL import Image; from ae_search.image_file import for_graph\n"
        "for_graph(sys.stdin.buffer.read(), 'photo'); assert 'HEIF' not in Image.ID"
    )
    subprocess.run([sys.executable, "-c", code], input=KINDS["HEIC"][0], check=True)


def test_orientation_is_that_of_exif_alone():
    """A model's graph does not read XMP either; damaged EXIF means upright."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    animated = {"save_all": True, "append_images": [coloured_picture(1, SIZE)]}
    files = [encoded(upright(), "AVIF", xmp=xmp), encoded(upright(), "WEBP", **animated, xmp=xmp)]
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM", b"Exif\0\0MM\0*\0\0\0\x08\0\xff"):
        files.append(encoded(upright(), "WEBP", **animated, exif=exif))
    for data in files:
        made = for_graph(data, "photo")
        assert (read_head(made).width, read_head(made).height) == SIZE


def test_large_pictures_are_made_smaller_by_a_whole_number():
    large = coloured_picture(5, (4100, 3100))
    made = for_graph(encoded(large, "TIFF", compression="tiff_lzw"), "scan")
    assert (read_head(made).width, read_head(made).height) == (1367, 1034)
    shown = np.asarray(large.resize((1367, 1034), Image.Resampling.BOX), np.float32)
    assert np.abs(pixels(made) - shown).mean() < 1
    long = for_graph(encoded(Image.new("L", (60_000, 900)), "TIFF", compression="tiff_lzw"), "scan")
    assert read_head(long).pixels <= 16_000_000


def test_a_picture_may_have_fewer_pixels_where_that_is_asked():
    for name in ("TIFF", "AVIF", "HEIC", "animated WebP", "BMP of OS 2"):
        with pytest.raises(ImageError, match="is more than 0.005 megapixels"):
            for_graph(KINDS[name][0], name, max_megapixels=0.005)
        assert for_graph(KINDS[name][0], name, max_megapixels=0.01)


def test_kinds_are_told_by_their_bytes():
    found = {kind_of(data[:KIND_BYTES]) for data, _, _ in KINDS.values()}
    assert found == {"TIFF", "AVIF", "HEIC", "WEBP", "BMP"}
