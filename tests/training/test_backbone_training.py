"""Training behind a backbone: from a folder to an export, resumed, from what was kept on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from small_backbones import convolutions, saved

from ae_search.cli.export import export_run
from ae_search.data import ArraySource, open_source
from ae_search.data.pipeline import readable_images
from ae_search.errors import ConfigurationError
from ae_search.model.backbone import load_backbone
from ae_search.model.histograms import GRADIENT_FLOATS
from ae_search.model.parts import floats_of_kinds
from ae_search.model_server import LocalEncoder
from ae_search.principal import fit_components
from ae_search.training import TrainingOptions, configure, load_autoencoder, read_config, train
from ae_search.training.neighbour_components import weighed_components
from ae_search.training.observations import observe
from ae_search.training.observed_batches import Measured
from ae_search.training.preparation import prepare

COUNT = 40
# The centre of such images is what a backbone of 32 x 32 px takes.
SIZE = (46, 46)


@pytest.fixture(scope="module")
def source():
    """Images whose colour tells their class."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 120, (COUNT, *SIZE, 3), np.uint8)
    labels = [str(at % 3) for at in range(COUNT)]
    for at in range(COUNT):
        pixels[at, ..., at % 3] += 120
    return ArraySource("coloured", pixels, labels)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return saved(convolutions(), tmp_path_factory.mktemp("backbone") / "b.keras")


def options(backbone, **more):
    return TrainingOptions(backbone=backbone, **({"epochs": 2, "latent_dim": 24, "validation": 0.1} | more))


@pytest.fixture(scope="module")
def run(source, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(source, configure(source, options(backbone)), folder, verbose=False)
    return folder


def test_the_defaults_are_the_backbones(source, backbone):
    config = configure(source, options(backbone))
    assert (config.architecture, config.image_shape) == ("backbone", (*SIZE, 3))
    assert (config.backbone.name, config.backbone.feeding, config.backbone.finetune) == (backbone, "0-255", 0)
    assert configure(source).backbone is None
    assert configure(source).architecture == "gradients"


def test_a_run_is_read_as_it_was_written(run, source, backbone):
    assert read_config(run) == configure(source, options(backbone))


def test_what_was_trained_gives_latents_and_images(run, source):
    autoencoder = load_autoencoder(run)
    images = source.images / np.float32(255)
    assert autoencoder(images).shape == images.shape
    latents = np.asarray(autoencoder.get_layer("encoder")(images))
    assert latents.shape == (COUNT, 24)
    np.testing.assert_allclose(autoencoder.get_layer("decoder")(latents), autoencoder(images), atol=1e-4)


def test_the_part_that_was_trained_gives_the_same_latents(run, source, backbone):
    """What was kept on disk is what the whole encoder measures."""
    whole = load_autoencoder(run, "last").get_layer("encoder")
    part = keras.models.load_model(run / "epochs" / "last.keras", compile=False).get_layer("encoder")
    images = readable_images(source, (*SIZE, 3))
    seen = Measured(observe(images, load_backbone(backbone), run / "observed"))
    kept = seen.encoded(part, images.positions)
    np.testing.assert_allclose(whole(source.images / np.float32(255)), kept, atol=1e-4 * np.abs(kept).max())


def test_an_export_answers_as_keras_and_says_what_its_backbone_is(run, source, backbone, tmp_path):
    export_run(run, tmp_path / "model")
    encoder, autoencoder = LocalEncoder(tmp_path / "model"), load_autoencoder(run)
    expected = np.asarray(autoencoder.get_layer("encoder")(source.images / np.float32(255)))
    np.testing.assert_allclose(encoder.encode(source.images), expected, atol=1e-4 * np.abs(expected).max())
    images = keras.ops.sigmoid(autoencoder.get_layer("decoder")(expected))
    np.testing.assert_allclose(encoder.decode(expected), images, atol=1e-4)
    assert encoder.describe().copies_from == floats_of_kinds(24)
    told = encoder.describe().training["backbone"]
    assert (told["name"], told["fed"], told["finetune"]) == ("b.keras", "RGB in 0-255", 0)
    assert told["digest"] == read_config(run).backbone.digest
    assert json.loads((run / "summary.json").read_text())["backbone"] == told


def test_the_latents_begin_as_components(source, backbone, tmp_path):
    config = configure(source, options(backbone, latent_dim=8, validation=0.0))
    prepared = prepare(source, config, observed=tmp_path / "observed")
    rows = prepared.seen.rows(prepared.kept)
    latents = prepared.seen.encoded(prepared.autoencoder.get_layer("encoder"), prepared.kept)
    measured = rows[:, :-GRADIENT_FLOATS]
    expected = weighed_components(measured, 16, 8).of(measured)
    np.testing.assert_allclose(latents, expected, atol=1e-3 * np.abs(expected).max())


class Counted:
    """A progress bar that remembers what it showed."""

    def __init__(self):
        self.shown = []

    def __call__(self, what, total):
        @contextmanager
        def bar():
            yield lambda done: self.shown.append(done)

        return bar()


@pytest.mark.slow
def test_what_was_seen_is_not_looked_at_again(source, backbone, tmp_path):
    bar = Counted()
    train(source, configure(source, options(backbone)), tmp_path / "run", verbose=False, progress=bar)
    assert sum(bar.shown) == COUNT
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "observed").iterdir()}
    again = Counted()
    train(source, configure(source, options(backbone, epochs=3)), tmp_path / "run", verbose=False, progress=again)
    assert again.shown == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "observed").iterdir()} == before


def observed(source, backbone, folder):
    bar = Counted()
    images = readable_images(source, (*SIZE, 3))
    observations = observe(images, load_backbone(backbone), folder, progress=bar)
    return observations, bar.shown


def test_looking_goes_on_where_it_was_interrupted(source, backbone, tmp_path, monkeypatch):
    whole, _ = observed(source, backbone, tmp_path / "whole")
    monkeypatch.setattr("ae_search.training.observations.images_at_once", lambda shape: 16)
    observed(source, backbone, tmp_path / "part")
    # As a kill after the second block leaves it, with a third block that was half written.
    told = json.loads((tmp_path / "part" / "progress.json").read_text())
    (tmp_path / "part" / "progress.json").write_text(json.dumps(told | {"finished": 32}))
    features = np.load(tmp_path / "part" / "features.npy", mmap_mode="r+")
    features[32:] = np.nan
    features.flush()
    again, shown = observed(source, backbone, tmp_path / "part")
    assert shown == [32, 8]
    for name, rows in whole.files.items():
        np.testing.assert_allclose(again.files[name], rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("damage", ["cut", "other", "text"])
def test_what_was_kept_is_made_anew_where_it_is_damaged(source, backbone, tmp_path, damage):
    first, _ = observed(source, backbone, tmp_path / "observed")
    features = np.array(first.files["features"])
    path = tmp_path / "observed" / "features.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    elif damage == "other":
        np.save(path, features[:, :1])
    else:
        (tmp_path / "observed" / "progress.json").write_text("{")
    again, shown = observed(source, backbone, tmp_path / "observed")
    assert sum(shown) == COUNT
    np.testing.assert_allclose(again.files["features"], features, rtol=1e-4, atol=1e-5)


def test_other_images_are_looked_at_anew(source, backbone, tmp_path):
    observed(source, backbone, tmp_path / "observed")
    pixels = source.images.copy()
    pixels[7, 3, 3, 0] ^= 1
    _, shown = observed(ArraySource(source.name, pixels, source.labels), backbone, tmp_path / "observed")
    assert shown[:2] == [0, COUNT]


KILLED = """
import sys
from pathlib import Path
import numpy as np
from ae_search.data import ArraySource
from ae_search.training import TrainingOptions, configure, train
import ae_search.training.observations as observations
held = np.load(sys.argv[1])
source = ArraySource("coloured", held, [str(at % 3) for at in range(len(held))])
options = TrainingOptions(backbone=sys.argv[2], epochs=400, latent_dim=24, validation=0.1, patience=0)
train(source, configure(source, options), Path(sys.argv[3]), verbose=False)
"""


@pytest.mark.slow
def test_a_killed_training_resumes_with_what_was_seen(source, backbone, tmp_path):
    np.save(tmp_path / "pixels.npy", source.images)
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "pixels.npy"), backbone, str(run)])
    deadline = time.monotonic() + 300
    while not (run / "backup" / "training_metadata.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len((run / "history.csv").read_text().splitlines()) - 1
    bar = Counted()
    config = configure(source, options(backbone, epochs=done + 2, patience=0))
    summary = train(source, config, run, verbose=False, progress=bar)
    assert bar.shown == []
    assert summary["epochs"] == done + 2


def test_a_changed_backbone_is_refused(source, tmp_path):
    path = saved(convolutions(), tmp_path / "b.keras")
    train(source, configure(source, options(path, epochs=1)), tmp_path / "run", verbose=False)
    # Elsewhere it is the same.
    os.rename(path, tmp_path / "moved.keras")
    moved = configure(source, options(str(tmp_path / "moved.keras"), epochs=1))
    assert train(source, moved, tmp_path / "run", verbose=False)["epochs"] == 1
    other = convolutions()
    other.get_layer("conv_1").bias.assign(np.ones(16))
    saved(other, path)
    for epochs in (1, 2):
        with pytest.raises(ConfigurationError, match="was begun with the backbone"):
            train(source, configure(source, options(path, epochs=epochs)), tmp_path / "run", verbose=False)


def test_a_backbone_that_changes_after_it_was_chosen_is_refused(source, tmp_path):
    path = saved(convolutions(), tmp_path / "b.keras")
    config = configure(source, options(path))
    other = convolutions()
    other.get_layer("conv_1").bias.assign(np.ones(16))
    saved(other, path)
    with pytest.raises(ConfigurationError, match="is not the backbone that the run began with"):
        train(source, config, tmp_path / "run", verbose=False)


def test_latents_of_two_parts_begin_as_components_of_what_was_measured_and_of_gradients(source, backbone, tmp_path):
    config = configure(source, options(backbone, validation=0.0, latent_dim=16))
    assert config.recipe.copies_part
    prepared = prepare(source, config, observed=tmp_path / "observed")
    rows, first = prepared.seen.rows(prepared.kept), floats_of_kinds(16)
    latents = prepared.seen.encoded(prepared.autoencoder.get_layer("encoder"), prepared.kept)
    measured, gradients = rows[:, :-GRADIENT_FLOATS], rows[:, -GRADIENT_FLOATS:]
    kinds = weighed_components(measured, 16, first).of(measured)
    copies = fit_components(lambda: iter([gradients]), 16 - first, seed=config.seed).of(gradients)
    for part, expected in ((latents[:, :first], kinds), (latents[:, first:], copies)):
        cosines = np.einsum("nd,nd->n", part, expected)
        cosines /= np.linalg.norm(part, axis=1) * np.linalg.norm(expected, axis=1)
        np.testing.assert_allclose(cosines, 1.0, atol=1e-3)


def test_numbers_that_are_not_finite_are_said(source, tmp_path):
    network = convolutions()
    # Weights that are finite, and sums that are not.
    for layer in network.layers:
        layer.set_weights([np.full_like(weights, 1e38) for weights in layer.get_weights()])
    config = configure(source, options(saved(network, tmp_path / "b.keras")))
    with pytest.raises(ConfigurationError, match="not finite"):
        train(source, config, tmp_path / "run", verbose=False)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"architecture": "conv"}, "one of them"),
        ({"channels": 1}, "of 3 channels"),
        ({"input_range": "0-2"}, "must be one of 0-1"),
        ({"finetune": -1}, "at least 0"),
        ({"image_size": (4, 4)}, "must be 8 to 1024 px"),
        ({"gradients": 1.0}, "no decoder of gradients"),
        ({"moved": 0.3}, "moved and spoiled need --finetune"),
        ({"backbone": None, "finetune": 1}, "--finetune goes with --backbone"),
        ({"backbone": None, "input_range": "0-1"}, "--input-range goes with --backbone"),
        ({"backbone": None, "features": 1.0}, "need a backbone"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_do_not_go_together_are_refused(source, backbone, more, text):
    with pytest.raises(ConfigurationError, match=text):
        configure(source, options(**({"backbone": backbone} | more)))


@pytest.mark.slow
def test_the_last_blocks_are_trained_and_the_others_stay(source, backbone, tmp_path):
    config = configure(source, options(backbone, finetune=1, learning_rate=0.01))
    assert config.backbone.finetune == 1
    assert (config.recipe.moved, config.recipe.spoiled) > (0, 0)
    train(source, config, tmp_path / "run", verbose=False)
    encoder = load_autoencoder(tmp_path / "run", "last").get_layer("encoder")
    before = {weight.path: weight.numpy() for weight in keras.models.load_model(backbone, compile=False).weights}
    after = {"/".join(weight.path.split("/")[-2:]): weight.numpy() for weight in encoder.weights}
    same = {path: np.array_equal(value, after[path]) for path, value in before.items()}
    assert {path for path, equal in same.items() if not equal} == {"conv_1/kernel", "conv_1/bias"}
    export_run(tmp_path / "run", tmp_path / "model", decoder=False)
    exported = LocalEncoder(tmp_path / "model")
    latents = exported.encode(source.images)
    assert not exported.describe().decodes
    expected = np.asarray(load_autoencoder(tmp_path / "run").get_layer("encoder")(source.images / np.float32(255)))
    np.testing.assert_allclose(latents, expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(ConfigurationError, match=r"--finetune must be 1 to 2"):
        train(source, configure(source, options(backbone, finetune=9)), tmp_path / "other", verbose=False)


def test_a_folder_with_damaged_photographs_trains_in_grey_and_colour(photos, backbone, tmp_path):
    folder = open_source(str(photos))
    config = configure(folder, options(backbone, epochs=1, cache="none", labels=1.0))
    summary = train(folder, config, tmp_path / "run", verbose=False, report_precision=True)
    assert set(summary["damaged"]) == {"cats/text.jpg", "cats/truncated.jpg"}
    assert "val_precision_at_10" in (tmp_path / "run" / "history.csv").read_text()


def test_grey_images_become_coloured_ones(digits, backbone, tmp_path):
    summary = train(digits, configure(digits, options(backbone, epochs=1)), tmp_path / "run", verbose=False)
    assert np.isfinite(summary["loss"])
