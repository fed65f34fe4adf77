"""The same SavedModel in this process."""

import io

import numpy as np
import pytest
from PIL import Image

from ae_search.errors import ConfigurationError, ImageError, ModelNotServedError, ServerAnswerError
from ae_search.model_server import LocalEncoder


def png(seed):
    """A 2 x 2 picture, which the decode leaves as it is, and its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


def cut_short(seed):
    """A file whose header is right, so that only the decode finds out."""
    return png(seed)[0][:45]


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "tiny"
    path.mkdir()
    (path / "1").symlink_to(exports / "1")
    (path / "2").symlink_to(exports / "2")
    return path


@pytest.fixture(scope="module")
def encoder(base):
    return LocalEncoder(base / "1")


def test_encode_equals_numpy(encoder, oracle):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 2, 2, 3), np.uint8)
    latents = encoder.encode(pixels)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, oracle(pixels / 255), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(pixels / 255), latents, rtol=1e-4, atol=1e-5)
    assert encoder.encode(pixels[0]).shape == (1, 4)


def test_zero_rows(encoder):
    assert encoder.encode(np.zeros((0, 2, 2, 3), np.uint8)).shape == (0, 4)
    assert encoder.encode_files([]).shape == (0, 4)


def test_wrong_shape(encoder):
    with pytest.raises(ImageError, match=r"shape=\(2, 5\)"):
        encoder.encode(np.zeros((2, 5), np.uint8))


def test_versions_and_cards(base, encoder, oracle):
    newest = LocalEncoder(base)
    assert newest.describe().version == newest.version == 2
    assert newest.describe().fingerprint == "f2"
    older = newest.at_version(1)
    assert (older.describe().version, older.describe().fingerprint) == (1, "f1")
    assert older.at_version(1) is older
    with pytest.raises(ModelNotServedError, match="no version 9; there: 1, 2"):
        encoder.at_version(9)
    with pytest.raises(ConfigurationError):
        LocalEncoder(base / "missing")


def test_files_as_paths_and_bytes(encoder, oracle, tmp_path):
    files = [png(seed) for seed in range(70)]
    expected = oracle(np.stack([pixels for _, pixels in files]) / 255)
    paths = []
    for position, (data, _) in enumerate(files):
        paths.append(tmp_path / f"{position}.png")
        paths[-1].write_bytes(data)
    mixed = [str(paths[0]), *(data for data, _ in files[1:3]), *paths[3:]]
    np.testing.assert_allclose(encoder.encode_files(mixed), expected, rtol=1e-4, atol=1e-5)


def test_bad_files_are_found_and_left_out(encoder, oracle, tmp_path):
    good = {position: png(position) for position in range(140)}
    files = [data for data, _ in good.values()]
    bad = {0: b"text", 5: cut_short(5), 6: cut_short(6), 63: tmp_path / "missing.jpg", 64: cut_short(64), 139: b""}
    for position, file in bad.items():
        files[position] = file
        del good[position]
    noted = []
    latents = encoder.encode_files(files, on_bad=lambda position, error: noted.append((position, str(error))))
    assert [position for position, _ in noted] == sorted(bad)
    assert noted[1][1].startswith("image 5: ")
    assert "missing.jpg" in noted[3][1]
    expected = oracle(np.stack([pixels for _, pixels in good.values()]) / 255)
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-5)


def test_the_first_bad_file_is_named(encoder, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(cut_short(1))
    with pytest.raises(ImageError, match=r"broken\.png"):
        encoder.encode_files([png(0)[0], path, b"text"])
    with pytest.raises(ImageError, match="^image 1: "):
        encoder.encode_files([png(0)[0], b"text"])


def test_latents_that_are_not_finite_are_refused(base):
    encoder = LocalEncoder(base / "1")
    encoder._servable._saved_model.weights.assign(np.full((12, 4), np.nan, np.float32))
    with pytest.raises(ServerAnswerError, match="finite latents"):
        encoder.encode(np.zeros((1, 2, 2, 3), np.uint8))
