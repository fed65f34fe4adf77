"""Every promise of an `Encoder`, asked of each kind of encoder."""

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest
from both_clients import KINDS
from encoder_models import DIM, GREY_SHAPE, SHAPE
from PIL import Image

from ae_search.errors import ConfigurationError, ImageError, ModelNotServedError, ServerAnswerError

# What the kernels of TensorFlow differ by for batches of other sizes.
CLOSE = {"rtol": 1e-3, "atol": 3e-4}
# More than one request takes, and one more.
MANY = 2 * 256 + 1


def pictures(count, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def cut_short(pixels):
    """A file whose head is right, so that only the decode finds out."""
    return png(pixels)[:60]


def check(latents, expected):
    assert latents.dtype == np.float32 and latents.shape == expected.shape
    np.testing.assert_allclose(latents, expected, **CLOSE)


@pytest.mark.parametrize("count", [0, 1, 3, 256, MANY])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_pixels(encoder, oracle, count, dtype):
    pixels = pictures(count)
    images = pixels if dtype is np.uint8 else (pixels / 255).astype(dtype)
    expected = oracle(pixels) if dtype is not np.float16 else oracle(images.astype(np.float32) * 255)
    check(encoder.encode(images), expected.reshape(count, DIM))


def test_one_image_is_a_batch_of_one(encoder, oracle):
    pixels = pictures(1)
    check(encoder.encode(pixels[0]), oracle(pixels))
    check(encoder.encode(pixels[0] / 255), oracle(pixels))


def test_nothing(encoder):
    for nothing in ([], np.zeros((0, *SHAPE), np.uint8), np.zeros((0, *SHAPE))):
        check(encoder.encode(nothing), np.zeros((0, DIM), np.float32))
    check(encoder.encode_files([]), np.zeros((0, DIM), np.float32))


def test_lists_and_arrays_of_any_layout(encoder, oracle):
    pixels = pictures(4)
    check(encoder.encode(list(pixels)), oracle(pixels))
    check(encoder.encode(pixels[::-1, :, ::-1]), oracle(pixels[::-1, :, ::-1]))
    check(encoder.encode((pixels / 255).astype(">f4")), oracle(pixels))


def test_grey_images_with_and_without_a_channel(make, grey_model):
    encoder, pixels = make("grey"), pictures(5, shape=GREY_SHAPE)
    expected = grey_model(pixels / np.float32(255), training=False).numpy()
    check(encoder.encode(pixels), expected)
    check(encoder.encode(pixels[..., 0]), expected)
    check(encoder.encode(pixels[0, ..., 0]), expected[:1])
    check(encoder.encode_files([png(one) for one in pixels]), expected)


REFUSED = {
    "height": np.zeros((2, 15, 16, 3), np.uint8),
    "channels": np.zeros((2, 16, 16, 1), np.uint8),
    "rank": np.zeros((2, 5), np.uint8),
    "scalar": np.uint8(3),
    "whole numbers": np.zeros((2, *SHAPE), np.int64),
    "text": np.full((2, *SHAPE), "a"),
    "complex": np.zeros((2, *SHAPE), np.complex64),
    "above 1": np.full((2, *SHAPE), 1.5),
    "below 0": np.full((2, *SHAPE), -0.1),
    "NaN": np.full((2, *SHAPE), np.nan),
    "infinity": np.full((2, *SHAPE), np.inf, np.float32),
    "ragged": [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 3, 3), np.uint8)],
}


@pytest.mark.parametrize("what", REFUSED)
def test_images_that_do_not_fit_are_refused(encoder, what):
    with pytest.raises(ImageError, match="Received"):
        encoder.encode(REFUSED[what])


def test_files_of_every_kind_in_order(encoder, oracle, tmp_path):
    pixels = pictures(150)
    data = [png(one) for one in pixels]
    paths = [tmp_path / f"{at}.png" for at in range(150)]
    for path, file in zip(paths, data, strict=True):
        path.write_bytes(file)
    expected = oracle(pixels)
    check(encoder.encode_files(data), expected)
    check(encoder.encode_files(paths), expected)
    mixed = [data[0], paths[1], str(paths[2]), bytearray(data[3]), memoryview(data[4]), *data[5:]]
    check(encoder.encode_files(mixed), expected)
    check(encoder.encode_files(iter(data)), expected)


def test_equal_pixels_give_equal_latents_by_whichever_way(encoder):
    pixels = pictures(3)
    by_pixels = encoder.encode(pixels)
    np.testing.assert_allclose(encoder.encode(pixels / 255), by_pixels, **CLOSE)
    np.testing.assert_allclose(encoder.encode_files([png(one) for one in pixels]), by_pixels, **CLOSE)
    np.testing.assert_array_equal(encoder.encode(pixels), by_pixels)


@pytest.mark.parametrize("kind", [list, iter])
def test_bad_files_are_told_by_position_and_left_out(encoder, oracle, tmp_path, kind):
    pixels = pictures(140)
    files = [png(one) for one in pixels]
    bad = {0: b"text", 5: cut_short(pixels[5]), 6: cut_short(pixels[6]), 63: tmp_path / "missing.jpg"}
    bad |= {64: cut_short(pixels[64]), 65: str(tmp_path), 139: b""}
    for position, file in bad.items():
        files[position] = file
    told = []
    latents = encoder.encode_files(kind(files), on_bad=lambda position, error: told.append((position, error)))
    assert [position for position, _ in told] == sorted(bad)
    assert all(type(error) is ImageError for _, error in told)
    assert str(told[1][1]).startswith("image 5: ") and "missing.jpg" in str(told[3][1])
    check(latents, oracle(np.delete(pixels, list(bad), axis=0)))


def test_nothing_but_bad_files(encoder):
    told = {}
    latents = encoder.encode_files([b"text", cut_short(pictures(1)[0])], on_bad=told.__setitem__)
    assert latents.shape == (0, DIM) and list(told) == [0, 1]


def test_without_on_bad_the_first_bad_file_is_named(encoder, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(cut_short(pictures(1)[0]))
    good = png(pictures(1)[0])
    with pytest.raises(ImageError, match=r"broken\.png"):
        encoder.encode_files([good, path, b"text"])
    with pytest.raises(ImageError, match="^image 1: "):
        encoder.encode_files([good, b"text", path])


@pytest.mark.parametrize("files", ["one.png", b"one", bytearray(b"one"), memoryview(b"one"), [None], [3]], ids=range(6))
def test_what_is_no_list_of_files(encoder, files):
    with pytest.raises(TypeError, match="paths or bytes"):
        encoder.encode_files(files)


def test_a_path_alone_is_no_list_of_files(encoder, tmp_path):
    with pytest.raises(TypeError, match="paths or bytes"):
        encoder.encode_files(tmp_path)


def test_the_newest_version_answers_and_says_so(encoder, oracle):
    card = encoder.describe()
    assert (card.name, card.version, card.image_shape, card.latent_dim) == ("tiny", 2, SHAPE, DIM)
    pixels = pictures(2)
    assert not np.allclose(oracle(pixels, 1), oracle(pixels, 2), **CLOSE)
    check(encoder.encode(pixels), oracle(pixels, 2))


@pytest.mark.parametrize("version", [1, 2])
def test_at_version_pins(encoder, oracle, version):
    pinned = encoder.at_version(version)
    card = pinned.describe()
    assert card.version == version
    assert (card.fingerprint == encoder.describe().fingerprint) == (version == 2)
    pixels = pictures(3)
    check(pinned.encode(pixels), oracle(pixels, version))
    check(pinned.encode_files([png(one) for one in pixels]), oracle(pixels, version))
    check(encoder.encode(pixels), oracle(pixels, 2))


@pytest.mark.parametrize("version", [3, 0, -1, 2**63, 2**70])
def test_a_version_that_is_not_there(encoder, version):
    with pytest.raises(ModelNotServedError, match=f"version {version}"):
        encoder.at_version(version).describe()
    with pytest.raises(ModelNotServedError):
        encoder.at_version(version).encode(pictures(1))


@pytest.mark.parametrize("version", ["1", 1.0, None, True])
def test_what_is_no_version(encoder, version):
    with pytest.raises(TypeError, match="whole number"):
        encoder.at_version(version)


def test_latents_that_are_not_finite_are_refused(make):
    encoder = make("sick")
    pixels = pictures(3)
    assert np.isfinite(encoder.encode(pixels)).all()
    pixels[1] = 0
    with pytest.raises(ServerAnswerError, match="finite latents"):
        encoder.encode(pixels)


@pytest.mark.parametrize("count", [0, 1, 3, MANY])
def test_latents_become_images_again(encoder, decoder, count):
    latents = np.random.default_rng(4).normal(0, 3, (count, DIM)).astype(np.float32)
    images = encoder.decode(latents)
    assert images.dtype == np.float32 and images.shape == (count, *SHAPE)
    logits = decoder(latents, training=False).numpy() if count else np.zeros((0, *SHAPE))
    np.testing.assert_allclose(images, 1 / (1 + np.exp(-logits)), atol=1e-4)
    if count == 1:
        np.testing.assert_array_equal(encoder.decode(latents[0].tolist()), images)


def test_no_latents_are_no_images(encoder):
    assert encoder.decode([]).shape == (0, *SHAPE)


def test_an_encoder_without_a_decoder_says_so(encoder, make):
    latents = np.zeros((1, DIM), np.float32)
    for one, name in ((encoder.at_version(1), "tiny version 1"), (make("grey"), "grey version 1")):
        assert not one.describe().decodes
        with pytest.raises(ConfigurationError, match=f"^{name} was exported without a decoder, .*export RUN"):
            one.decode(latents)
    assert encoder.describe().decodes


@pytest.mark.parametrize("shape", [(2, DIM + 1), (2, 1, DIM), (DIM - 1,), ()])
def test_latents_that_do_not_fit_are_refused(encoder, shape):
    with pytest.raises(ValueError, match="Received: shape"):
        encoder.decode(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="finite"):
        encoder.decode(np.full((2, DIM), np.nan))


@pytest.mark.parametrize("make", KINDS, indirect=True)  # the local one has nothing to close
def test_a_closed_client_says_so(make):
    encoder = make()
    pinned = encoder.at_version(1)
    encoder.close()
    for use in (encoder.describe, pinned.describe, lambda: encoder.encode(pictures(1)), encoder.status):
        with pytest.raises(ValueError, match="closed"):
            use()


COPIES = {"pickle": lambda one: pickle.loads(pickle.dumps(one)), "copy": copy.copy, "deepcopy": copy.deepcopy}


# A copied model is loaded anew.
@pytest.mark.parametrize(
    "way", [way if way == "pickle" else pytest.param(way, marks=pytest.mark.slow) for way in COPIES]
)
def test_copies_ask_the_same_model(encoder, oracle, way):
    pixels = pictures(2)
    for one, version in ((encoder, 2), (encoder.at_version(1), 1)):
        made = COPIES[way](one)
        try:
            assert made is not one
            check(made.encode(pixels), oracle(pixels, version))
            assert made.describe().version == version
        finally:
            made.end()
    check(encoder.encode(pixels), oracle(pixels, 2))  # its own channel is open still


def _described(encoder, pixels):
    try:
        return encoder.describe().version, encoder.encode(pixels)
    finally:
        encoder.end()


@pytest.mark.slow
def test_a_spawned_process_takes_it(encoder, oracle):
    pixels = pictures(2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for one, version in ((encoder, 2), (encoder.at_version(1), 1)):
            told, latents = pool.apply(_described, (one, pixels))
            assert told == version
            check(latents, oracle(pixels, version))
        # As in tests/client/test_client_pickle.py.
        pool.close()
        pool.join()
