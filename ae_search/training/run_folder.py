"""The run folder: what a training leaves, and what a killed training resumes from.

RUN/
  config.json       TrainingConfig
  history.csv       one row an epoch
  tensorboard/      logs for `tensorboard --logdir`
  backup/           weights and epoch of the last finished epoch (Keras BackupAndRestore)
  epochs/           the autoencoder with the lowest (validation) loss so far, and that of the last epoch
  best.keras        when the training has ended: the best of them, its latents scaled where the recipe says so
  last.keras        the last of them, likewise
  summary.json      figures of the finished training
"""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras

from ae_search.errors import ConfigurationError
from ae_search.files import check_one_name, is_folder, make_folder, regular_stat, write_atomically
from ae_search.training.config import TrainingConfig, check
from ae_search.training.recipe import Recipe


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
        if name not in ("epochs", "cache", "time_limit_s") and was != asdict(config)[name]
    }
    if changed:
        told = ", ".join(f"{name}={was!r} (now {now!r})" for name, (was, now) in changed.items())
        raise ConfigurationError(f"{run} was begun with {told}; use the same options or another --run folder.")
    if (run / "summary.json").exists():
        finished: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        # A training that ended at its time limit is as finished as one that ran all its epochs.
        if finished["epochs"] >= config.epochs or config.time_limit_s == finished["time_limit_s"] is not None:
            return finished
    write_atomically(run / "config.json", json.dumps(asdict(config), indent=2))
    return None


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


def read_config(run: Path) -> TrainingConfig:
    """Return the configuration of a run.

    Raises:
        ConfigurationError: `run` is no run folder, or its config.json is damaged.
    """
    path = run / "config.json"
    if not path.is_file():
        raise ConfigurationError(f"{run} is no training run (it has no config.json); make one with `ae-search train`.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if set(raw["recipe"]) != {one.name for one in fields(Recipe)}:
            raise ConfigurationError(f"{run} is of another version of ae-search; train into another --run folder.")
        height, width, channels = raw["image_shape"]
        raw |= {"image_shape": (height, width, channels), "recipe": Recipe(**raw["recipe"])}
        config = TrainingConfig(**raw)
        check(config)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}).") from error
    return config


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
