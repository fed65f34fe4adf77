"""The same SavedModel in this process."""

import numpy as np
import pytest

from ae_search.errors import ConfigurationError, ModelNotServedError
from ae_search.model_server import LocalEncoder


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
