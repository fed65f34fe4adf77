"""Training in a run folder: what it leaves, what it refuses, how it resumes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from ae_search.data import open_source
from ae_search.errors import ConfigurationError
from ae_search.training import TrainingOptions, configure, load_autoencoder, read_config, train
from ae_search.training.callbacks import _mend_backup, _TimeLimit
from ae_search.training.recipe import Recipe, default_batch_size, default_epochs


def rows_of(run):
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_leaves_what_it_promises_and_goes_on_when_more_is_asked(digits, tmp_path):
    run = tmp_path / "run"
    config = configure(digits, TrainingOptions(epochs=2, latent_dim=4, validation=0.25))
    summary = train(digits, config, run, verbose=False)
    assert summary["epochs"] == 2
    assert (summary["images"], summary["held_out"]) == (270, 90)
    assert json.loads((run / "summary.json").read_text()) == summary
    assert read_config(run) == config
    assert list((run / "tensorboard").rglob("*tfevents*"))
    before = load_autoencoder(run, "last").get_weights()

    assert train(digits, config, run, verbose=False) == summary
    more = train(
        digits, configure(digits, TrainingOptions(epochs=3, latent_dim=4, validation=0.25)), run, verbose=False
    )
    assert more["epochs"] == 3
    assert [row["epoch"] for row in rows_of(run)] == ["0", "1", "2"]
    assert more["loss"] < summary["loss"]
    assert any((a != b).any() for a, b in zip(before, load_autoencoder(run, "last").get_weights(), strict=True))
    assert load_autoencoder(run).get_layer("encoder").output_shape == (None, 4)

    with pytest.raises(ConfigurationError, match="latent_dim=4"):
        train(digits, configure(digits, TrainingOptions(epochs=3, latent_dim=5, validation=0.25)), run)


@pytest.mark.slow
def test_the_best_weights_are_those_of_the_best_epoch(digits, tmp_path):
    config = configure(digits, TrainingOptions(epochs=3, latent_dim=4, validation=0.25))
    summary = train(digits, config, tmp_path / "run", verbose=False)
    losses = [float(row["val_loss"]) for row in rows_of(tmp_path / "run")]
    assert summary["best_loss"] == min(losses)
    assert summary["monitor"] == "val_loss"


KILLED = """
import sys
from pathlib import Path
from ae_search.data import open_source
from ae_search.training import TrainingOptions, configure, train
source = open_source("digits/test")
train(source, configure(source, TrainingOptions(epochs=400, latent_dim=4)), Path(sys.argv[1]), verbose=False)
"""


def test_a_killed_training_resumes_at_its_last_epoch(digits, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(run)], env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    deadline = time.monotonic() + 120
    while _mend_free_epoch(run) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _mend_backup(run / "backup")
    assert done >= 2
    for name in ("best.keras", "last.keras"):
        keras.models.load_model(run / "epochs" / name, compile=False)
    summary = train(digits, configure(digits, TrainingOptions(epochs=done + 2, latent_dim=4)), run, verbose=False)
    assert summary["epochs"] == done + 2
    assert [int(row["epoch"]) for row in rows_of(run)] == list(range(done + 2))
    losses = [float(row["loss"]) for row in rows_of(run)]
    assert losses[done] < losses[0]


def _mend_free_epoch(run):
    try:
        return json.loads((run / "backup" / "training_metadata.json").read_text())["epoch"]
    except (OSError, ValueError):
        return 0


def test_metadata_cut_short_falls_back_to_the_epoch_before(tmp_path):
    (tmp_path / "training_metadata.json").write_text('{"epo')
    (tmp_path / "training_metadata.json.bkp").write_text('{"epoch": 4, "batch": 0}')
    assert _mend_backup(tmp_path) == 4
    assert json.loads((tmp_path / "training_metadata.json").read_text())["epoch"] == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0), ("batch_size", 0), ("latent_dim", 5000), ("validation", 0.9), ("learning_rate", 0.0),
        ("image_size", (4, 4)), ("channels", 2), ("cache", "disk"), ("architecture", "vgg"), ("seed", -1),
        ("time_limit_s", 0.0),
    ],
)  # fmt: skip
def test_wrong_options_fail_before_any_work(digits, option, value):
    with pytest.raises(ConfigurationError):
        configure(digits, TrainingOptions(**{option: value}))


def test_defaults_follow_the_architecture(digits, photos):
    tutorial = configure(digits, TrainingOptions(architecture="tutorial"))
    assert (tutorial.batch_size, tutorial.validation, tutorial.latent_dim) == (400, 0.0, 8)
    assert (tutorial.epochs, tutorial.learning_rate, tutorial.recipe) == (20, 1e-3, Recipe())
    default = configure(digits)
    assert (default.epochs, default.learning_rate, default.recipe.pixels) == (60, 3e-3, 10.0)
    assert [default_epochs(count) for count in (1, 30_000, 60_000, 1_000_000)] == [60, 48, 24, 24]
    sizes = [default_batch_size(count, 256) for count in (1, 170, 600, 4_095, 4_096, 60_000)]
    assert sizes == [16, 16, 37, 255, 256, 256]
    assert default_batch_size(40, 8) == 8
    folder = configure(open_source(str(photos)))
    assert (folder.image_shape, folder.batch_size, folder.validation) == ((64, 64, 3), 16, 0.05)
    assert (folder.learning_rate, folder.recipe.scaled, folder.recipe.kept > 0) == (5e-4, False, True)
    with pytest.raises(ConfigurationError, match="8 floats"):
        configure(digits, TrainingOptions(architecture="tutorial", latent_dim=128))


def test_a_folder_that_is_no_run_is_refused(digits, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match="not empty"):
        train(digits, configure(digits), tmp_path)
    with pytest.raises(ConfigurationError, match="no training run"):
        load_autoencoder(tmp_path)


def test_photographs_train_with_damaged_ones_left_out(photos, tmp_path):
    source = open_source(str(photos))
    config = configure(
        source, TrainingOptions(epochs=1, image_size=(16, 16), latent_dim=4, batch_size=8, validation=0.1)
    )
    summary = train(source, config, tmp_path / "run", verbose=False)
    assert set(summary["damaged"]) == {"cats/text.jpg", "cats/truncated.jpg"}
    assert np.isfinite(summary["loss"])


def test_the_time_limit_ends_near_the_limit():
    limit = _TimeLimit(10.0)
    limit.set_model(keras.Sequential())
    limit.model.stop_training = False
    for expected in (False, False, True):
        limit.on_epoch_end(0, {"seconds": 3.5})
        assert limit.model.stop_training is expected
