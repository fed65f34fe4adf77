"""Train an autoencoder on a source with `model.fit`."""

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ae_search.data import Source
from ae_search.data.pipeline import Images, evaluation_dataset, readable_images, training_dataset
from ae_search.data.sources import summary
from ae_search.files import write_atomically
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.training.callbacks import callbacks_for
from ae_search.training.config import TrainingConfig
from ae_search.training.run_folder import prepare_run

log = logging.getLogger(__name__)

# Batches that one call into TensorFlow runs: worth up to 2x for small batches on a loaded machine.
STEPS_PER_EXECUTION = 32


def train(source: Source, config: TrainingConfig, run: Path, *, verbose: bool = True) -> dict[str, Any]:
    """Train, or go on where a training in `run` was killed.

    Args:
        source: The images.
        config: What to do; a run that was begun can only be continued with the same, or with more epochs.
        run: The run folder.
        verbose: Show Keras's progress bar.

    Returns:
        The summary, as in summary.json: epochs, seconds, loss (mean sigmoid cross-entropy a pixel value in the last
        epoch), best_loss, monitor, images, held_out, damaged.

    Raises:
        ConfigurationError: `run` belongs to something else, or no image can be read.
    """
    finished = prepare_run(run, config)
    if finished is not None:
        log.info("%s is trained already: %d epochs", run, finished["epochs"])
        return finished
    keras.utils.set_random_seed(config.seed)
    images = readable_images(source, config.image_shape)
    kept, held_out = _split(images, config)
    steps, held_out_steps = (math.ceil(len(part) / config.batch_size) for part in (kept, held_out))
    model = _compiled(config, steps)
    model.fit(
        # Repeated, with the steps given: a photograph that vanishes during the training must not end it.
        training_dataset(images, kept, config.batch_size, seed=config.seed, cache=config.cache).repeat(),
        steps_per_epoch=steps,
        validation_data=evaluation_dataset(images, held_out, config.batch_size).repeat() if len(held_out) else None,
        validation_steps=held_out_steps or None,
        epochs=config.epochs,
        shuffle=False,  # the dataset shuffles
        verbose=1 if verbose else 0,
        callbacks=callbacks_for(run, config, monitor="val_loss" if len(held_out) else "loss"),
    )
    return _summarise(run, images, len(held_out), "val_loss" if len(held_out) else "loss")


def _split(images: Images, config: TrainingConfig) -> tuple[Any, Any]:
    """Return the positions to train on and those held out."""
    shuffled = np.random.default_rng(config.seed).permutation(images.positions)
    count = int(len(shuffled) * config.validation)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _compiled(config: TrainingConfig, steps: int) -> Any:
    shape, architecture, dim = config.image_shape, config.architecture, config.latent_dim
    encoder = build_encoder(shape, architecture=architecture, latent_dim=dim)
    decoder = build_decoder(shape, architecture=architecture, latent_dim=dim)
    model = build_autoencoder(encoder, decoder)
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=max(1, min(STEPS_PER_EXECUTION, steps)),
    )
    return model


def _summarise(run: Path, images: Images, held_out: int, monitor: str) -> dict[str, Any]:
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    result = {
        "epochs": len(rows),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
        "loss": float(rows[-1]["loss"]),
        "best_loss": min(float(row[monitor]) for row in rows),
        "monitor": monitor,
        "images": len(images) - held_out,
        "held_out": held_out,
        "damaged": images.damaged,
        "data": summary(images.source),
    }
    write_atomically(run / "summary.json", json.dumps(result, indent=2))
    return result
