import json

import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import sign

from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import LatentIndex, Manifest


@pytest.fixture
def path(ready):
    return ready()


@pytest.fixture
def generation(path):
    return path / "generation-000001"


def refuses(path, match):
    with pytest.raises(IndexDamagedError, match=match):
        LatentIndex.open(path)


def test_manifest_cut_short_anywhere(generation):
    text = (generation / "manifest.json").read_text().rstrip()
    for length in range(0, len(text), 17):
        (generation / "manifest.json").write_text(text[:length])
        with pytest.raises(IndexDamagedError, match="manifest.json"):
            Manifest.read(generation)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "tiny"),
        ("model", {"name": "tiny", "version": "1", "fingerprint": "ab"}),
        ("model", {"name": "", "version": 1, "fingerprint": "ab"}),
        ("image_shape", [28, 28]),
        ("image_shape", [28, 28, 2]),
        ("image_shape", [28.0, 28, 1]),
        ("latent_dim", 0),
        ("latent_dim", "8"),
        ("latent_dim", True),
        ("latent_dim", 2**40),
        ("metric", "dot"),
        ("metric", ["angular"]),
        ("engine", "annoy"),
        ("engine", {"n_trees": 4}),
        ("engine", {"name": "annoy", "n_trees": -1}),
        ("latents", 599),
        ("latents", 601),
        ("most_latents", 0),
        ("most_latents", 65),
        ("seed", 1.5),
        ("effort", 0),
        ("effort", None),
        ("recall", 1.5),
        ("recall", float("nan")),
        pytest.param("recall", 10**400, id="recall-huge"),
        ("recall_curve", {}),
        ("recall_curve", [1]),
        ("recall_curve", [{"effort": 1, "recall": 1.0}]),
        ("items", -1),
        ("created", "yesterday"),
        ("files", {"forest.ann": {"size": 1}}),
        ("files", {"forest.ann": {"size": 1, "sha256": "../x"}}),
        ("files", {"forest.ann": {"size": -1, "sha256": "ab" * 32}}),
        ("files", []),
        ("sources", [1]),
        ("target_recall", 2),
        ("format", 0),
        ("format", "1"),
    ],
)
def test_manifest_with_a_wrong_value_that_vouches_for_itself(path, generation, name, value):
    sign(generation, **{name: value})
    refuses(path, r"manifest\.json is no valid manifest \((?!its sha256)")


@pytest.mark.parametrize("name", ["effort", "seed", "recall", "created", "target_recall"])
def test_manifest_with_another_valid_value(path, generation, name):
    """Nothing else in the index would tell, so the manifest has a digest of itself."""
    text = (generation / "manifest.json").read_text()
    value = json.loads(text)[name]
    other = value.replace("20", "30", 1) if isinstance(value, str) else 0.5 if isinstance(value, float) else value + 1
    changed = text.replace(f'"{name}": {json.dumps(value)}', f'"{name}": {json.dumps(other)}', 1)
    assert changed != text
    (generation / "manifest.json").write_text(changed)
    refuses(path, "manifest.json.*sha256")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"[" * 200_000, b"\xff\xfe\x00", b" " * (2 << 20)])
def test_manifest_that_is_something_else(path, generation, content):
    (generation / "manifest.json").write_bytes(content)
    refuses(path, "manifest.json")


def test_manifest_round_trip(generation, tmp_path):
    manifest = Manifest.read(generation)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_manifest_of_a_newer_format(path, generation):
    sign(generation, format=4, all="different")
    with pytest.raises(ConfigurationError, match="format 4.*upgrade"):
        LatentIndex.open(path)


def test_manifest_of_an_older_format(path, generation):
    sign(generation, format=2, all="different")
    with pytest.raises(ConfigurationError, match="format 2.*--replace"):
        LatentIndex.open(path)


def test_manifest_that_names_another_engine(path, generation):
    sign(generation, engine={"name": "hnsw", "m": 16})
    known = "engine 'hnsw', this ae-search has annoy, faiss, faiss-8bit; upgrade it"
    with pytest.raises(ConfigurationError, match=known):
        LatentIndex.open(path)


@pytest.mark.parametrize("name", ["forest.ann", "catalogue.sqlite", "names.bin"])
def test_manifest_that_does_not_describe_a_file(path, generation, name):
    files = json.loads((generation / "manifest.json").read_text())["files"]
    sign(generation, files={other: files[other] for other in files if other != name})
    refuses(path, f"manifest does not describe {name}")
