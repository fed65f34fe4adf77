"""One training on several devices: two logical CPUs in a child, since a process has one until TensorFlow begins."""

import json
import os
import subprocess
import sys

import pytest
from small_backbones import convolutions, saved

from ae_search.errors import ConfigurationError
from ae_search.training import TrainingOptions, configure, load_autoencoder, read_config, train

# The same images, weights and batches: only the order of sums differs.
TOLERANCE = 2e-4

IN_CHILD = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from ae_search.data import open_source
from ae_search.training import TrainingOptions, configure, train

source = open_source("digits/test")
for name, report_precision, options in json.loads(sys.argv[2]):
    run = Path(sys.argv[1], name)
    train(source, configure(source, TrainingOptions(**options)), run, verbose=False, report_precision=report_precision)
"""
TUTORIAL = {"architecture": "tutorial", "batch_size": 120, "validation": 0.25}
# 91 images are held out: the last batch of them has one, and none for the second device.
DEFAULT = {"latent_dim": 4, "batch_size": 30, "validation": 91 / 360, "epochs": 6}


def trained(folder, *trainings):
    command = [sys.executable, "-c", IN_CHILD, str(folder), json.dumps(trainings)]
    subprocess.run(command, check=True, timeout=500, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})


def columns(run, *names):
    head, *rows = (line.split(",") for line in (run / "history.csv").read_text().splitlines())
    return [float(row[head.index(name)]) for row in rows for name in names]


def test_more_devices_than_there_are_are_named_and_leave_no_run(digits, tmp_path):
    config = configure(digits, TrainingOptions(devices=2, epochs=1))
    with pytest.raises(
        ConfigurationError, match=r"^--devices must be at most 1, as TensorFlow sees CPU:0 here\. Received: 2\.$"
    ):
        train(digits, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [0, -1, 401])
def test_devices_are_at_least_one_and_have_an_image_of_each_batch(digits, count):
    with pytest.raises(ConfigurationError, match="devices must be at least 1 and at most batch_size"):
        configure(digits, TrainingOptions(architecture="tutorial", devices=count))


@pytest.mark.slow
def test_two_devices_learn_what_one_does(digits, tmp_path):
    trained(
        tmp_path,
        ("one", False, TUTORIAL | {"epochs": 4}),
        ("two", False, TUTORIAL | {"epochs": 4, "devices": 2}),
        ("halted", False, TUTORIAL | {"epochs": 2, "devices": 2}),
        ("halted", False, TUTORIAL | {"epochs": 4, "devices": 2}),
    )
    one, two, halted = (columns(tmp_path / name, "loss", "val_loss") for name in ("one", "two", "halted"))
    assert one[-2] < 0.99 * one[0]
    assert two == pytest.approx(one, rel=TOLERANCE)
    assert len(halted) == len(one)
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["devices"] == 2
    assert read_config(tmp_path / "two").devices == 2


@pytest.mark.slow
def test_the_default_recipe_and_its_figures_on_two_devices_go_on_with_one(digits, tmp_path):
    trained(tmp_path, ("one", True, DEFAULT), ("two", True, DEFAULT | {"devices": 2}))
    losses = columns(tmp_path / "two", "partners_loss", "val_partners_loss")
    # Chance among 30 partners or 15 would be a loss of log 15 at least; the order of the shares must not matter.
    assert losses[-2] < 2.0
    assert losses[-1] < 2.5
    # Images are altered by chance, contrast and batch normalisation are a device's own: alike, not equal.
    for name, tolerance in (("pixels_loss", 0.1), ("val_pixels_loss", 0.25), ("val_precision_at_10", 0.2)):
        alone, both = (columns(tmp_path / run, name)[-1] for run in ("one", "two"))
        assert both == pytest.approx(alone, rel=tolerance)
    more = configure(digits, TrainingOptions(**DEFAULT | {"epochs": 7}))
    assert train(digits, more, tmp_path / "two", verbose=False)["epochs"] == 7


@pytest.mark.slow
def test_behind_a_backbone_two_devices_learn_as_well(tmp_path):
    told = {"backbone": str(saved(convolutions(), tmp_path / "b.keras")), "latent_dim": 16, "batch_size": 32}
    told |= {"epochs": 2, "validation": 0.1}
    for name, more in (("frozen", {}), ("finetuned", {"finetune": 1})):
        trained(tmp_path, (f"{name} one", True, told | more), (f"{name} two", True, told | more | {"devices": 2}))
        alone, both = (columns(tmp_path / f"{name} {count}", "features_loss") for count in ("one", "two"))
        assert both == pytest.approx(alone, rel=0.15)
        assert load_autoencoder(tmp_path / f"{name} two").get_layer("encoder").output_shape == (None, 16)
