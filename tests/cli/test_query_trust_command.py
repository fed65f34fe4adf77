"""`ae-search query` says what is unlike the model's images, why neighbours are similar, and notes its queries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from ae_search.client import LatentClient
from ae_search.data import open_source
from ae_search.drift import read_log
from ae_search.export import export_encoder
from ae_search.image_file import pixels_to_png
from ae_search.index import BuildOptions, LatentIndex
from ae_search.indexing import index_source
from ae_search.model_server import ModelServer
from ae_search.trust import UNLIKE, stored

ROOT, SHAPE, DIM, ITEMS = Path(__file__).parents[2], (12, 12, 1), 6, 130


def soft(seed):
    """A gradient, which six numbers describe well: uint8 `[12, 12]`."""
    a, b = np.random.default_rng(seed).uniform(-0.4, 0.4, 2)
    y, x = np.mgrid[:12, :12] / 11 - 0.5
    return np.rint(255 * np.clip(0.5 + a * x + b * y, 0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("trust")
    (place / "photos").mkdir()
    for seed in range(ITEMS):
        Image.fromarray(soft(seed)).save(place / "photos" / f"{seed:03}.png")
    Image.fromarray(soft(999)).save(place / "like.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)).save(place / "unlike.png")
    return place


@pytest.fixture(scope="module")
def model(place):
    """A linear encoder onto a few waves, and a decoder that inverts it but for the logits."""
    at = (np.arange(12) + 0.5) / 12
    lines = [np.cos(np.pi * wave * at) for wave in range(3)]
    waves = [np.outer(one, other).ravel() for one, other in [(lines[a], lines[b]) for a in range(3) for b in range(3)]]
    basis = np.stack([wave / np.linalg.norm(wave) for wave in waves[:DIM]]).astype(np.float32)
    image, latents = keras.Input(SHAPE), keras.Input((DIM,))
    dense, back = keras.layers.Dense(DIM, use_bias=False), keras.layers.Dense(144)
    encoder = keras.Model(image, dense(keras.layers.Flatten()(image)))
    decoder = keras.Model(latents, keras.layers.Reshape(SHAPE)(back(latents)))
    dense.set_weights([basis.T])
    back.set_weights([4 * basis, np.full(144, -2, np.float32)])  # sigmoid(4 (p - 1/2)) is nearly p
    return export_encoder(encoder, place / "export" / "waves", decoder=decoder, metric="euclidean").parent


@pytest.fixture(scope="module")
def address(place, model):
    with ModelServer(model) as server:
        with LatentClient(server.address, "waves", timeout_s=60) as client:
            index_source(open_source(str(place / "photos")), client, place / "index", BuildOptions())
        yield server.address


def query(place, address, *words, code=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ae_search", "query", *map(str, words), "--index", "index", "--server", address]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == code and "Traceback" not in result.stderr, result.stderr
    return result


def test_a_build_keeps_what_is_usual(place, address):
    with LatentIndex.open(place / "index") as index:
        usual = stored(index)
    assert len(usual.distances) == len(usual.similarities) == len(usual.errors) == ITEMS
    assert usual.errors.max() < 0.5


def test_a_stranger_is_marked_and_noted(place, address, tmp_path):
    words = ["like.png", "unlike.png", "-k", 2, "--check-reconstruction", "--json", "--query-log", tmp_path / "log"]
    result = query(place, address, *words)
    like, unlike = json.loads(result.stdout)
    assert len(like["neighbours"]) == 2
    assert like["trust"]["familiar"] is True and 0 < like["trust"]["error"] < 0.5
    assert unlike["trust"]["familiar"] is False and unlike["trust"]["error_share"] == 1
    assert f"unlike.png is {UNLIKE}" in result.stderr and f" like.png is {UNLIKE}" not in f" {result.stderr}"
    with LatentIndex.open(place / "index") as index:
        logged = read_log(tmp_path / "log", index.model.fingerprint)
    assert sorted(logged.familiar) == [0, 1]


def test_why_is_drawn_and_told(place, address, tmp_path):
    words = ["like.png", "--key", "003.png", "-k", 1, "--json", "--why", tmp_path / "why.png"]
    like, item = json.loads(query(place, address, *words).stdout)
    for found in (like, item):
        assert found["why"]["key"] == found["neighbours"][0]["key"]
        total = sum(part["contribution"] for part in found["why"]["parts"]) + found["why"]["rest"]
        assert total == pytest.approx(found["why"]["similarity"], abs=1e-6)
        assert found["why"]["mean_agreement"] > 0.5
    assert "trust" in like and "trust" not in item
    with Image.open(tmp_path / "why.png") as picture:
        assert min(picture.size) > 300


def test_what_does_not_go_together_is_told(place, address):
    told = query(place, address, "like.png", "--originals", "--check-reconstruction", code=1).stderr
    assert "--originals has a verdict of its own" in told
    told = query(place, address, "--key", "003.png", "--query-log", "log", code=1).stderr
    assert "--query-log notes a PHOTO" in told and not (place / "log").exists()
    told = query(place, address, "--key", "003.png", "--check-reconstruction", code=1).stderr
    assert "--check-reconstruction looks at a PHOTO" in told


def test_pixels_of_another_size_are_measured_as_the_model_sees_them(place, address):
    from ae_search import ImageSearch

    with LatentClient(address, "waves", timeout_s=60) as client, LatentIndex.open(place / "index") as index:
        search = ImageSearch(client, index)
        large = np.repeat(np.repeat(soft(999), 3, axis=0), 3, axis=1)
        found = search.search_with_trust_batch([large, pixels_to_png(large[..., None])], check_reconstruction=True)
        assert found[0].trust == found[1].trust and found[0].trust.familiar
