"""The run folder: what a training leaves, and what a killed training resumes from.

RUN/
  config.json       TrainingConfig
  history.csv       one row an epoch
  tensorboard/      logs for `tensorboard --logdir`
  backup/           weights and epoch of the last finished epoch (Keras BackupAndRestore)
  observed/         what a frozen backbone sees in the images; may be deleted, and is made again where it is needed
  epochs/           the autoencoder with the lowest (validation) loss so far, and that of the last epoch
  best.keras        when the training has ended: the best of them, its latents scaled where the recipe says so
  last.keras        the last of them, likewise
  summary.json      figures of the finished training
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import keras

from ae_search.checked_json import (
    MAX_WHOLE,
    number_of,
    object_of,
    one_of,
    parsed_object,
    text_of,
    value_of,
    whole_of,
    wholes_of,
)
from ae_search.contract import FITS
from ae_search.data.pipeline import CACHES
from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.files import (
    check_one_name,
    is_folder,
    is_full_disk,
    make_folder,
    regular_stat,
    trouble_in_words,
    write_atomically,
)
from ae_search.model.backbone.feeding import FEEDINGS
from ae_search.training.backbone_config import BackboneConfig
from ae_search.training.config import KINDS, TrainingConfig, check
from ae_search.training.patience import Best
from ae_search.training.recipe import PARTNERS, SCHEDULES, Recipe

MAX_CONFIG_BYTES = 2**20
# It names each image that could not be read.
MAX_SUMMARY_BYTES = 2**26
# What may change while a run goes on; the backbone is compared by itself.
CHANGEABLE = ("epochs", "cache", "patience", "time_limit_s", "devices", "backbone")


def prepare_run(run: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """Make or check the run folder.

    Returns:
        The summary when this very training is finished already.

    Raises:
        ConfigurationError: The folder holds a run with other options, or something that is no run.
    """
    make_folder(run, "run")
    _check_plain(run)
    if not (run / "config.json").exists():
        if any(run.iterdir()):
            raise ConfigurationError(f"{run} is not empty and holds no training run; choose another --run folder.")
        write_atomically(run / "config.json", json.dumps(asdict(config), indent=2))
        return None
    begun = read_config(run)
    changed = {
        name: (was, asdict(config)[name])
        for name, was in asdict(begun).items()
        if name not in CHANGEABLE and was != asdict(config)[name]
    }
    _check_backbone(run, begun, config)
    if changed:
        told = ", ".join(f"{name}={was!r} (now {now!r})" for name, (was, now) in changed.items())
        raise ConfigurationError(f"{run} was begun with {told}; use the same options or another --run folder.")
    if (run / "summary.json").exists():
        finished = read_summary(run)
        # A training that ended at its time limit, or of its patience, is as finished as one that ran all its epochs.
        waited = Best(epoch=finished["best_epoch"], epochs=finished["epochs"])
        at_limit = config.time_limit_s == finished["time_limit_s"] is not None
        if waited.epochs >= config.epochs or at_limit or (waited.epoch and waited.exhausts(config.patience)):
            return finished
    write_atomically(run / "config.json", json.dumps(asdict(config), indent=2))
    return None


def _check_backbone(run: Path, begun: TrainingConfig, now: TrainingConfig) -> None:
    """Refuse another backbone, and a changed one; where its file lies does not matter."""
    was, found = begun.backbone, now.backbone
    if was is None or found is None or replace(was, name=found.name) == found:
        return  # where one of both has none, they differ in their architecture
    told = [
        f"{one.name} (sha256 {one.digest[:12]}, fed {one.feeding}, finetune={one.finetune})" for one in (was, found)
    ]
    raise ConfigurationError(
        f"{run} was begun with the backbone {told[0]}, now {told[1]}; use the same or another --run folder."
    )


def _check_plain(run: Path) -> None:
    """Refuse links and pipes in a run folder: Keras writes to its files by their names, wherever those lead."""
    for folder, folders, names in os.walk(run):
        for path in (Path(folder, name) for name in (*folders, *names)):
            try:
                if not is_folder(path):
                    check_one_name(path, regular_stat(path))
            except OSError as error:
                raise ConfigurationError(
                    f"{path} cannot be written: {error.strerror}; remove it, or choose another --run folder."
                ) from error


@contextmanager
def write_errors(run: Path) -> Iterator[None]:
    """Tell a full or broken disk as an error of ours, whoever writes: Keras, HDF5, TensorFlow or we.

    Raises:
        ConfigurationError: A file of the run cannot be written. What was finished before is whole.
    """
    try:
        yield
    except AeSearchError:
        raise
    except Exception as error:  # HDF5 tells a full disk by RuntimeError and ValueError as well
        if not isinstance(error, OSError) and not is_full_disk(error):
            raise
        raise ConfigurationError(
            f"Cannot write the run {run}: {trouble_in_words(error)}. The training goes on from its last whole epoch."
        ) from error


def read_config(run: Path) -> TrainingConfig:
    """Return the configuration of a run.

    Raises:
        ConfigurationError: `run` is no run folder, or its config.json is damaged.
    """
    path = run / "config.json"
    if not path.is_file():
        raise ConfigurationError(f"{run} is no training run (it has no config.json); make one with `ae-search train`.")
    try:
        raw = parsed_object(path.read_bytes(), max_bytes=MAX_CONFIG_BYTES)
        # What runs of earlier releases did not say.
        raw = {"patience": 0, "backbone": None, "devices": 1, **raw}
        recipe = {"features": 0.0, "kept": 0.0, "copies": 0.0, "patches": 0, **object_of(raw, "recipe")}
        for found, kind in ((raw, TrainingConfig), (recipe, Recipe)):
            # Runs that were begun before there was a choice cropped.
            if {"fit": "crop", **found}.keys() != {"fit", *(one.name for one in fields(kind))}:
                raise ConfigurationError(f"{run} is of another version of ae-search; train into another --run folder.")
        config = _config(raw, _recipe(recipe))
        check(config)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}).") from error
    return config


def _config(raw: dict[str, Any], recipe: Recipe) -> TrainingConfig:
    height, width, channels = wholes_of(raw, "image_shape", 3)
    return TrainingConfig(
        source=value_of(raw, "source", str),
        image_shape=(height, width, channels),
        architecture=one_of(raw, "architecture", KINDS),
        latent_dim=whole_of(raw, "latent_dim", 1),
        epochs=whole_of(raw, "epochs", 1),
        batch_size=whole_of(raw, "batch_size", 1),
        learning_rate=number_of(raw, "learning_rate"),
        validation=number_of(raw, "validation"),
        seed=whole_of(raw, "seed", 0, MAX_WHOLE),
        cache=one_of(raw, "cache", CACHES),
        fit=one_of({"fit": "crop", **raw}, "fit", FITS),
        patience=whole_of(raw, "patience", 0),
        time_limit_s=None if raw["time_limit_s"] is None else number_of(raw, "time_limit_s"),
        devices=whole_of(raw, "devices", 1),
        recipe=recipe,
        backbone=None if raw["backbone"] is None else _backbone(object_of(raw, "backbone")),
    )


def _backbone(raw: dict[str, Any]) -> BackboneConfig:
    return BackboneConfig(
        name=text_of(raw, "name"),
        digest=text_of(raw, "digest"),
        feeding=one_of(raw, "feeding", FEEDINGS),
        finetune=whole_of(raw, "finetune", 0),
    )


def _recipe(raw: dict[str, Any]) -> Recipe:
    return Recipe(
        pixels=number_of(raw, "pixels"),
        gradients=number_of(raw, "gradients"),
        colours=number_of(raw, "colours"),
        features=number_of(raw, "features"),
        contrast=number_of(raw, "contrast"),
        partner=one_of(raw, "partner", PARTNERS),
        kept=number_of(raw, "kept"),
        copies=number_of(raw, "copies"),
        labels=number_of(raw, "labels"),
        moved=number_of(raw, "moved"),
        spoiled=number_of(raw, "spoiled"),
        from_components=value_of(raw, "from_components", bool),
        copies_part=value_of(raw, "copies_part", bool),
        patches=whole_of(raw, "patches", 0),
        schedule=one_of(raw, "schedule", SCHEDULES),
        scaled=value_of(raw, "scaled", bool),
    )


def read_summary(run: Path) -> dict[str, Any]:
    """Return the figures of a finished training, as `train` returned them.

    Raises:
        ConfigurationError: The training has not ended, or its summary.json is damaged.
    """
    path = run / "summary.json"
    if not path.is_file():
        raise ConfigurationError(f"The training in {run} has not ended; run its `ae-search train` command again.")
    try:
        # A loss that grew beyond all bounds is a figure as well.
        raw = parsed_object(path.read_bytes(), max_bytes=MAX_SUMMARY_BYTES, finite=False)
        raw = {"best_epoch": 0, "devices": 1, **raw}  # not told by earlier releases
        for name in ("epochs", "best_epoch", "devices", "images", "held_out"):
            whole_of(raw, name, 0)
        for name in ("seconds", "loss", "best_loss"):
            value_of(raw, name, float)
        for name in ("damaged", "data"):
            object_of(raw, name)
        one_of(raw, "monitor", ("loss", "val_loss"))
        if raw["time_limit_s"] is not None:
            number_of(raw, "time_limit_s")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} is damaged ({error!r}); train the run again.") from error
    return raw


def load_autoencoder(run: Path, which: str = "best") -> Any:
    """Return the trained autoencoder of a run, its submodels being the layers "encoder" and "decoder".

    Raises:
        ConfigurationError: The run has not ended, or the file is damaged.
    """
    read_config(run)
    path = run / f"{which}.keras"
    if not path.is_file():
        raise ConfigurationError(f"{run} has no {path.name} yet; finish its training with `ae-search train`.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each raise their own
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__}); train the run again.") from error
